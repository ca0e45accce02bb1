//! [`FieldReference`]: a field whose value is in a secret source.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of a reference.
const REF_BYTES_MAX: usize = 1_024;

/// A field whose value is kept in a source.
#[derive(
    Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(deny_unknown_fields)]
pub struct FieldReference {
    /// The name of the source.
    pub from: String,
    /// Which of its values: the form depends on the kind.
    #[serde(rename = "ref")]
    pub reference: String,
}

pub type References = BTreeMap<String, FieldReference>;

impl FieldReference {
    /// Whether the text can be a reference: the source judges the rest.
    pub fn is_plain(&self) -> bool {
        let reference = self.reference.as_str();
        (1..=REF_BYTES_MAX).contains(&reference.len()) && !reference.contains(char::is_control)
    }
}
