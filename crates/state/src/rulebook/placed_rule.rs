//! Rules as they are written, in the configuration or in the store, with their place; where the configuration names a
//! record, which may be a stored one ([`ConfigMention`]); and the other inputs of a policy.

use std::ops::Deref;
use std::sync::Arc;

use super::error::RulebookError;
use super::names::Names;
use crate::directory::View;
use keyward_base::id::{Id, OrgId, RuleId};
use keyward_model::{Record, Resource, Rule as Stored, RuleSpec};
use keyward_rules::policy::DefaultAction;
use keyward_rules::provider::Catalogue;

/// A rule as written in the configuration, with names instead of ids.
#[derive(Clone, Debug)]
pub struct PlacedRule {
    /// The org that it applies to.
    pub org: OrgId,
    /// The spec. Its name is shown in audit events and refusals; without a name, its place is.
    pub spec: RuleSpec,
    /// The place in the configuration, for errors: `keyward.yaml:12: rules[3]`.
    pub place: String,
}

impl PlacedRule {
    /// The label in audit events, explanations and refusals.
    pub fn label(&self) -> String {
        format!("file:{}", self.spec.name.as_ref().unwrap_or(&self.place))
    }
}

impl Deref for PlacedRule {
    type Target = RuleSpec;

    fn deref(&self) -> &RuleSpec {
        &self.spec
    }
}

/// The inputs of a policy apart from the directory. Immutable; replaced as a whole.
#[derive(Clone, Debug)]
pub struct PolicyInputs {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) default: DefaultAction,
    pub(super) rules: Arc<[PlacedRule]>,
    pub(super) hostless_rules_max: usize,
    pub(super) mentions: Arc<[ConfigMention]>,
    /// Whether a gateway may still add the records that the rules name when it starts; then a missing name is not
    /// logged.
    pub(super) is_at_rest: bool,
}

impl PolicyInputs {
    /// The inputs of a configuration. `catalogue`: the providers that its connections may use.
    pub fn new(
        catalogue: Arc<Catalogue>,
        default: DefaultAction,
        rules: Vec<PlacedRule>,
        hostless_rules_max: usize,
    ) -> Self {
        let (rules, mentions) = (rules.into(), Arc::default());
        Self { catalogue, default, rules, hostless_rules_max, mentions, is_at_rest: false }
    }

    /// With the records that the configuration names, in rules and elsewhere.
    #[must_use]
    pub fn naming(self, mentions: Vec<ConfigMention>) -> Self {
        Self { mentions: mentions.into(), ..self }
    }

    /// The inputs for a process that is not a gateway.
    pub(super) fn at_rest(self) -> Self {
        Self { is_at_rest: true, ..self }
    }

    /// Checks whether the rules compile with the agents, connections, stored rules and own providers of a view.
    ///
    /// # Errors
    /// All errors.
    pub fn check(&self, view: &View) -> Result<(), Vec<RulebookError>> {
        self.judged(Names { catalogue: &self.catalogue, view }).map(drop)
    }
}

/// A name of a record in the configuration. The gateway does not start without this record.
#[derive(Clone, Debug)]
pub struct ConfigMention {
    pub org: OrgId,
    /// The kind of the record: `agent`, `connection` or `provider`.
    pub kind: &'static str,
    /// The name or id of the record, as it is written.
    pub name: String,
    /// `keyward.yaml:3: rules[0]`
    pub place: String,
}

impl ConfigMention {
    pub fn new<R: Resource>(org: &OrgId, name: &str, place: &str) -> Self {
        let (name, place) = (name.to_owned(), place.to_owned());
        Self { org: org.clone(), kind: R::KIND.one, name, place }
    }

    pub(super) fn is_of<R: Resource>(&self, record: &Record<R>) -> bool {
        let is_named = self.name == record.name() || self.name == record.id.as_str();
        is_named && self.kind == R::KIND.one && self.org == record.org
    }
}

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
