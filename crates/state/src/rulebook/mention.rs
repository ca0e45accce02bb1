//! [`ConfigMention`]: where the configuration names a record, which may be a stored one.

use keyward_base::id::{Id, OrgId};
use keyward_model::{Record, Resource};

/// A name of a record in the configuration. The gateway does not start without this record.
#[derive(Clone, Debug)]
pub struct ConfigMention {
    pub org: OrgId,
    /// The kind of the record: `agent`, `connection` or `provider`.
    pub kind: &'static str,
    /// The name or id of the record, as it is written.
    pub name: String,
    /// `keyward.yaml:3: rules[0]`
    pub place: String,
}

impl ConfigMention {
    pub fn new<R: Resource>(org: &OrgId, name: &str, place: &str) -> Self {
        let (name, place) = (name.to_owned(), place.to_owned());
        Self { org: org.clone(), kind: R::KIND.one, name, place }
    }

    pub(super) fn is_of<R: Resource>(&self, record: &Record<R>) -> bool {
        let is_named = self.name == record.name() || self.name == record.id.as_str();
        is_named && self.kind == R::KIND.one && self.org == record.org
    }
}
