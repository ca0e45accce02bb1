//! [`Catalogue::built_in`]: the catalogue of the built-in providers. The file of each is checked when it is first used.

use std::sync::LazyLock;

use super::built_in::BuiltIn;
use super::document::Problem;
use super::{Catalogue, Provider, check};

impl Catalogue {
    /// The built-in providers.
    pub fn built_in() -> Self {
        static ALL: LazyLock<Vec<BuiltIn>> = LazyLock::new(|| BuiltIn::all(checked));
        Self::of(&ALL)
    }
}

/// The provider of a built-in file.
fn checked(name: &str, text: &str) -> Result<Vec<Provider>, Vec<Problem>> {
    check::file(name, text, &Catalogue::default())
}
