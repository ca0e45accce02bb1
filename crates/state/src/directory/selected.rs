//! [`Selected`]: the connections that background jobs read after each change or each second. These are connections
//! whose secret is due or is being rotated, and connections with fields in secret sources.

use super::records::ConnectionRecord;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::shared_map::SharedMap;

/// Both selections.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    /// Connections whose secret is due at some time, or is being rotated.
    pub(super) dated: Selection,
    /// Connections with fields in secret sources.
    pub(super) referring: Selection,
}

pub(super) type Selection = SharedMap<(OrgId, ConnectionId), ()>;

impl Selected {
    pub(super) fn add(&mut self, record: &ConnectionRecord) {
        for selection in self.of(record) {
            selection.insert((record.org.clone(), record.id.clone()), ());
        }
    }

    pub(super) fn remove(&mut self, record: &ConnectionRecord) {
        for selection in self.of(record) {
            selection.remove(&(record.org.clone(), record.id.clone()));
        }
    }

    /// The selections that a connection is in.
    fn of(&mut self, record: &ConnectionRecord) -> impl Iterator<Item = &mut Selection> {
        let is_dated = record.due().is_some() || record.facts.rotation.is_some();
        let dated = is_dated.then_some(&mut self.dated);
        let referring = (!record.references.is_empty()).then_some(&mut self.referring);
        dated.into_iter().chain(referring)
    }
}
