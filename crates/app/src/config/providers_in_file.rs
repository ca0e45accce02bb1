//! The providers that items of the configuration may name.

use keyward_rules::provider::Catalogue;

/// What connections are checked against.
pub(super) struct KnownProviders<'a> {
    /// All that are sound.
    pub(super) catalogue: &'a Catalogue,
    /// Ids that `providers:` defines, sound or not.
    pub(super) declared: Vec<&'a str>,
}
