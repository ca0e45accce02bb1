//! The connections whose secrets have a date: due for rotation, or beside a second one for a while. Jobs look at these after
//! each change, and not at all connections.

use std::sync::Arc;

use super::records::ConnectionRecord;
use super::view::View;

impl View {
    /// Connections whose secret is due at some time, or is being rotated.
    pub fn dated_connections(&self) -> impl Iterator<Item = &Arc<ConnectionRecord>> {
        self.dated.keys().filter_map(|(org, id)| self.connection(org, id))
    }

    pub(super) fn add_dated(&mut self, record: &ConnectionRecord) {
        if is_dated(record) {
            self.dated.insert((record.org.clone(), record.id.clone()), ());
        }
    }

    pub(super) fn remove_dated(&mut self, record: &ConnectionRecord) {
        if is_dated(record) {
            self.dated.remove(&(record.org.clone(), record.id.clone()));
        }
    }
}

fn is_dated(record: &ConnectionRecord) -> bool {
    record.due().is_some() || record.facts.rotation.is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use keyward_base::id::OrgId;
    use keyward_model::{ConnectionFacts, ConnectionSpec, ManagedBy, Record};

    #[test]
    fn only_connections_with_a_date_are_looked_at_as_long_as_they_have_one() {
        let named = |name: &str| -> ConnectionRecord {
            let spec = ConnectionSpec { name: name.to_owned(), ..ConnectionSpec::default() };
            let (org, by) = (OrgId::default_org(), ManagedBy::Store);
            Record::new(&org, by, spec, ConnectionFacts::default(), Timestamp::UNIX_EPOCH)
        };
        let (plain, mut dated) = (named("plain"), named("dated"));
        dated.rotate_every = Some(Duration::from_secs(90 * 86_400));
        let view = View::of([], [plain, dated.clone()].map(Arc::new));
        let names =
            |view: &View| view.dated_connections().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&view), ["dated"]);
        dated.rotate_every = None;
        assert!(names(&view.with(Arc::new(dated))).is_empty());
    }
}
