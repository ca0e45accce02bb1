//! Connections that background jobs look at after each change or each second, so that they need not look at all: those whose
//! secrets have a date, due for rotation or beside a second one for a while, and those with fields in secret sources.

use std::sync::Arc;

use super::records::ConnectionRecord;
use super::view::View;
use keyward_base::id::{ConnectionId, OrgId};
use keyward_base::shared_map::SharedMap;

/// Both selections.
#[derive(Clone, Debug, Default)]
pub(super) struct Selected {
    dated: Selection,
    referring: Selection,
}

type Selection = SharedMap<(OrgId, ConnectionId), ()>;

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

impl View {
    /// Connections whose secret is due at some time, or is being rotated.
    pub fn dated_connections(&self) -> impl Iterator<Item = &Arc<ConnectionRecord>> {
        self.found(&self.selected.dated)
    }

    /// Connections with fields in secret sources.
    pub fn referring_connections(&self) -> impl Iterator<Item = &Arc<ConnectionRecord>> {
        self.found(&self.selected.referring)
    }

    fn found<'a>(
        &'a self,
        selection: &'a Selection,
    ) -> impl Iterator<Item = &'a Arc<ConnectionRecord>> {
        selection.keys().filter_map(|(org, id)| self.connection(org, id))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use keyward_model::{ConnectionFacts, ConnectionSpec, FieldReference, ManagedBy, Record};

    #[test]
    fn only_connections_with_a_date_or_a_reference_are_selected_as_long_as_they_have_one() {
        let named = |name: &str| -> ConnectionRecord {
            let spec = ConnectionSpec { name: name.to_owned(), ..ConnectionSpec::default() };
            let (org, by) = (OrgId::default_org(), ManagedBy::Store);
            Record::new(&org, by, spec, ConnectionFacts::default(), Timestamp::UNIX_EPOCH)
        };
        let (plain, mut dated, mut refers) = (named("plain"), named("dated"), named("refers"));
        dated.rotate_every = Some(Duration::from_secs(90 * 86_400));
        let (from, reference) = ("files".to_owned(), "key".to_owned());
        refers.references.insert("api_key".to_owned(), FieldReference { from, reference });
        let view = View::of([], [plain, dated.clone(), refers.clone()].map(Arc::new));
        let dates =
            |view: &View| view.dated_connections().map(|it| it.name.clone()).collect::<Vec<_>>();
        let references = |view: &View| {
            view.referring_connections().map(|it| it.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (dates(&view), references(&view)),
            (vec!["dated".to_owned()], vec!["refers".to_owned()])
        );
        dated.rotate_every = None;
        refers.references.clear();
        let view = view.with(Arc::new(dated)).with(Arc::new(refers));
        assert!(dates(&view).is_empty() && references(&view).is_empty());
    }
}
