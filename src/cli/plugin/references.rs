//! Slots of a plugin, as the API takes them.

use std::collections::BTreeMap;

use keyward_base::id::ConnectionId;
use keyward_model::Reference;

/// Names or ids of connections by slot; `None` empties one.
pub(super) fn references(
    slots: BTreeMap<String, Option<String>>,
) -> BTreeMap<String, Option<Reference<ConnectionId>>> {
    let reference = |name: String| Reference::new(&name);
    slots.into_iter().map(|(slot, name)| (slot, name.map(reference))).collect()
}
