//! [`InheritedListeners`]: the sockets of stored listeners that another process has passed to this one.

use std::os::fd::OwnedFd;

use keyward_base::id::DatabaseListenerId;
use keyward_model::ListenerPlace;
use keyward_proxy::HandedOver;

/// What the names of these sockets begin with.
const PREFIX: &str = "database-listener ";

/// The sockets of the gateway before, each for one stored listener; and whether the next gateway has those of this one.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    sockets: Vec<(String, OwnedFd)>,
    /// Set when a successor has the listeners of this process: their socket files then stay.
    pub(super) handed_over: HandedOver,
}

impl InheritedListeners {
    /// Takes the sockets of stored listeners from all received sockets, by their names.
    pub fn taken_from(received: &mut Vec<(String, OwnedFd)>, handed_over: HandedOver) -> Self {
        let sockets = received.extract_if(.., |(name, _)| name.starts_with(PREFIX)).collect();
        Self { sockets, handed_over }
    }

    /// The socket of a listener, if it was open at this place.
    pub(super) fn take(
        &mut self,
        id: &DatabaseListenerId,
        place: &ListenerPlace,
    ) -> Option<OwnedFd> {
        let wanted = name(id, place);
        let at = self.sockets.iter().position(|(name, _)| *name == wanted)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Closes the sockets that no listener has taken.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
    }
}

/// The name of a listener's socket: another place is another socket.
pub(super) fn name(id: &DatabaseListenerId, place: &ListenerPlace) -> String {
    format!("{PREFIX}{id} {place}")
}
