//! `bearer`: a token that is sent unchanged, such as a personal access token (RFC 6750 §2.1).

use std::collections::BTreeMap;

use keyward_base::secret::Secret;

/// A token, under the name of its field.
#[derive(Debug)]
pub struct Bearer(BTreeMap<String, Secret>);

impl Bearer {
    pub(super) fn new(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }
}
