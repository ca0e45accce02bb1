//! [`ListenerProblem`]: why a stored listener is not open.

use std::io;

use keyward_model::ListenerPlace;

/// Why a stored listener is not open.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ListenerProblem {
    /// Another program, or another listener of Keyward, has the place.
    #[error("`{0}` is in use")]
    InUse(ListenerPlace),
    /// The system refuses the place.
    #[error("`{place}` cannot be opened: {cause}")]
    Refused {
        /// Where.
        place: ListenerPlace,
        /// What the system says.
        cause: String,
    },
    /// Its connection does not exist any more.
    #[error("its connection was removed")]
    ConnectionGone,
    /// Its agent does not exist any more.
    #[error("its agent was removed")]
    AgentGone,
}

impl ListenerProblem {
    pub(super) fn of(place: &ListenerPlace, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists => Self::InUse(place.clone()),
            _ => Self::Refused { place: place.clone(), cause: error.to_string() },
        }
    }

    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::InUse(ListenerPlace::Tcp(_)) => {
                "free the port, or choose another one; 0 is any free port"
            }
            Self::InUse(ListenerPlace::Socket(_)) => "free the socket, or choose another name",
            Self::Refused { .. } => "choose another address or socket",
            Self::ConnectionGone => "name another connection, or remove the listener",
            Self::AgentGone => "name another agent, or remove the listener",
        }
    }
}
