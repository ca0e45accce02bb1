//! `api_key`: one key, placed where the provider expects it.

use std::collections::BTreeMap;

use keyward_base::secret::Secret;

/// One key, under the name of its field.
#[derive(Debug)]
pub struct ApiKey(BTreeMap<String, Secret>);

impl ApiKey {
    pub(super) fn new(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }
}
