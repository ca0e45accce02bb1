//! `custom`: declared fields in declared placements. A placement is omitted if all its fields are optional
//! and absent.

use std::collections::BTreeMap;

use keyward_base::secret::Secret;
use keyward_rules::inject::template::ValueTemplate;

/// Whether the template has fields and all of them are absent. Required fields are always present.
pub(super) fn leaves_out(fields: &BTreeMap<String, Secret>, template: &ValueTemplate) -> bool {
    let mut names = template.fields().peekable();
    names.peek().is_some() && !names.any(|name| fields.contains_key(name))
}
