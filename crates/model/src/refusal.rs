//! [`Refusal`]: why input is refused. The same type serves YAML, the API and the command line.

use std::borrow::Cow;

/// Why a spec is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{field}` {rule}")]
pub struct Refusal {
    /// The member of the spec, `settings.timeout`.
    pub field: Cow<'static, str>,
    /// What holds for it, such as `must be 1 to 64 letters`, without a full stop.
    pub rule: String,
    /// What to do about it, where the rule does not say so itself.
    pub hint: Option<String>,
}

pub(crate) fn failed<const N: usize>(checks: [Result<(), Refusal>; N]) -> Vec<Refusal> {
    checks.into_iter().filter_map(Result::err).collect()
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(field: impl Into<Cow<'static, str>>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into(), hint: None }
    }

    /// `Err` with the refusal, unless `holds`.
    pub(crate) fn unless(
        holds: bool,
        field: &'static str,
        rule: impl Into<String>,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(field, rule)) }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
