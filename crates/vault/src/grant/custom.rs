//! `custom`: declared fields in declared placements. A placement is omitted if all its fields are optional
//! and absent.

use std::collections::BTreeMap;

use keyward_base::secret::Secret;
use keyward_rules::inject::template::ValueTemplate;

/// Declared fields.
#[derive(Debug)]
pub struct Custom(BTreeMap<String, Secret>);

impl Custom {
    pub(super) fn new(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }

    /// Whether the template has fields and all of them are absent. Required fields are always present.
    pub(super) fn leaves_out(&self, template: &ValueTemplate) -> bool {
        let mut fields = template.fields().peekable();
        fields.peek().is_some() && !fields.any(|name| self.0.contains_key(name))
    }
}
