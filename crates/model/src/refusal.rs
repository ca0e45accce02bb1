//! [`Refusal`]: why something that a person gave is refused. The same for YAML, API and command line.

/// Why a spec is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{field}` {rule}")]
pub struct Refusal {
    /// The member of the spec.
    pub field: &'static str,
    /// What holds for it, such as `must be 1 to 64 letters`, without a full stop.
    pub rule: String,
}
