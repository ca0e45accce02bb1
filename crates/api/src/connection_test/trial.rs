//! A credential that is tested before it is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyward_rules::inject::credential::Credential;

/// A credential of the connection that is tested before it is used.
pub(crate) struct Trial {
    pub(crate) credential: Arc<Credential>,
    /// Its fields that are not secret.
    pub(crate) shown: BTreeMap<String, String>,
}
