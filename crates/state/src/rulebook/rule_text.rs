//! A rule as it is written, from the configuration or from the store.

use super::placed_rule::PlacedRule;
use keyward_base::id::{OrgId, RuleId};
use keyward_model::{Record, Rule as Stored, RuleSpec};

/// A rule as it is written, with its label and its place for errors.
#[derive(Clone, Debug)]
pub(super) struct RuleText<'a> {
    pub(super) id: RuleId,
    pub(super) org: &'a OrgId,
    pub(super) spec: &'a RuleSpec,
    /// Conditions of a newer version, by name.
    pub(super) unknown: &'a [String],
    pub(super) place: String,
}

impl<'a> RuleText<'a> {
    /// The text of a stored rule.
    pub(super) fn stored(record: &'a Record<Stored>) -> Self {
        let (id, place) = (RuleId::new(record.label()), format!("rule `{}`", record.name()));
        let unknown = &record.facts.unknown;
        Self { id, org: &record.org, spec: &record.spec, unknown, place }
    }
}

impl<'a> From<&'a PlacedRule> for RuleText<'a> {
    fn from(rule: &'a PlacedRule) -> Self {
        let (id, place) = (RuleId::new(rule.label()), rule.place.clone());
        Self { id, org: &rule.org, spec: &rule.spec, unknown: &[], place }
    }
}
