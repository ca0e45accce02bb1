//! Changes of stored rules: each is checked together with all other rules before it is written, and is in force
//! when the request is answered. A stored rule has ids of agents and connections; requests and answers have their
//! names.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;

use super::effective_rules::{effective, judge};
use crate::body::{Body, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::etag::{Etag, IfMatch};
use crate::input::{Input, InputChange};
use crate::resource::{self, Changeable, Exposed};
use crate::wire::{List, RuleOrderRequest};
use keyward_base::id::StoredRuleId;
use keyward_model::{
    Agent, Connection, ManagedBy, Record, Resource, Rule, RuleFacts, RulePlace, RuleShown,
    RuleSpec, RuleStatus,
};
use keyward_rules::policy::CompileError;
use keyward_rules::policy::explain::ActionKind;
use keyward_rules::provider::decode::did_you_mean;
use keyward_state::rulebook::{RuleChange, RulebookError};

/// Maximum length of the host in a generated name. It leaves room for an action and a number.
const NAMED_HOST_BYTES_MAX: usize = 48;

/// What stands before the name in the label of a stored rule.
const LABEL_PREFIX: &str = "store:";

impl Exposed for Rule {
    type Added = RuleShown;

    /// Names become ids.
    fn resolve(context: &Context, spec: &mut RuleSpec) -> Result<(), ApiError> {
        let (view, org) = (context.view(), context.caller.org());
        for (index, agent) in spec.agents.iter_mut().flatten().enumerate() {
            let names = || view.all::<Agent>(org).map(|it| it.name());
            let found = view.find_agent(org, agent);
            let unknown = || unknown("agent", format!("agents[{index}]"), agent, names());
            let id = found.ok_or_else(unknown)?.id.to_string();
            *agent = id;
        }
        if let Some(name) = &mut spec.use_connection {
            let names = || view.all::<Connection>(org).map(|it| it.name());
            let found = view.find_connection(org, name);
            let unknown = || unknown("connection", "use".to_owned(), name, names());
            let id = found.ok_or_else(unknown)?.id.to_string();
            *name = id;
        }
        Ok(())
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> RuleStatus {
        shown(context, record).map(|rule| rule.status).unwrap_or_default()
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<RuleShown, ApiError> {
        let Input { mut spec, options: place } = input;
        let (deps, org) = (context.deps(), context.caller.org());
        let turn = deps.rulebook.change_rules(org).await?;
        let mut stored = context.view().rules_in_order(org);
        if spec.name.is_none() {
            spec.name = Some(made_name(context, &spec));
        }
        Self::check(&spec)?;
        is_free(context, &spec)?;
        let others = stored.clone();
        let index = index_of(context, &place, &stored)?.unwrap_or(stored.len());
        let (by, facts) = (ManagedBy::Store, RuleFacts::at(0));
        let new = Arc::new(Record::new(org, by, spec.clone(), facts, deps.clock.now()));
        stored.insert(index, Arc::clone(&new));
        agrees(context, &turn, &stored, Some(&*new))?;
        let position = deps.directory.room_for_rule(org, &others, index).await?;
        let made = resource::store_new::<Self>(context, spec, RuleFacts::at(position)).await?;
        drop(turn);
        context.admin.enforce().await?;
        shown(context, &made)
    }

    async fn removed(context: &Context, _: &Record<Self>) -> Result<(), ApiError> {
        context.admin.enforce().await
    }
}

impl Changeable for Rule {
    type Changed = RuleShown;

    async fn change(
        context: &Context,
        found: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<RuleShown, ApiError> {
        let (deps, org) = (context.deps(), context.caller.org());
        let turn = deps.rulebook.change_rules(org).await?;
        let mut stored = context.view().rules_in_order(org);
        // It may have been changed or removed while this waited for its turn.
        let at = stored.iter().position(|rule| rule.id == found.id);
        let at = at.ok_or_else(|| ApiError::not_found("rule", found.name()))?;
        let record = stored.remove(at);
        change.if_match.check(&record)?;
        let mut spec = change.of(&record.spec)?;
        Self::resolve(context, &mut spec)?;
        if spec.name.is_none() {
            spec.name = Some(made_name(context, &spec));
        }
        Self::check(&spec)?;
        if spec.name != record.spec.name {
            is_free(context, &spec)?;
        }
        let wanted = index_of(context, &change.options, &stored)?;
        let others = stored.clone();
        let name = spec.name.clone();
        let after = Arc::new(Record { spec, ..Record::clone(&record) });
        stored.insert(wanted.unwrap_or(at), Arc::clone(&after));
        agrees(context, &turn, &stored, Some(&*after))?;
        let position = match wanted.filter(|wanted| *wanted != at) {
            Some(index) => deps.directory.room_for_rule(org, &others, index).await?,
            None => record.facts.position,
        };
        let alter = |rule: &mut Record<Self>| {
            rule.spec.name.clone_from(&name);
            rule.facts.position = position;
        };
        let changed = resource::store_change(context, &record, &change, alter).await?;
        drop(turn);
        context.admin.enforce().await?;
        shown(context, &changed)
    }
}

pub(crate) async fn change(
    context: Context,
    Segments(name): Segments<String>,
    change: InputChange<Rule>,
) -> Result<Json<RuleShown>, ApiError> {
    let name = stored_name(&context, name)?;
    resource::change::<Rule>(context, Segments(name), change).await
}

pub(crate) async fn remove(
    context: Context,
    Segments(name): Segments<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let name = stored_name(&context, name)?;
    resource::remove::<Rule>(context, Segments(name), if_match).await
}

/// Puts the stored rules into an order. A list that lacks one was made from an older list, so it is refused.
pub(crate) async fn order(
    context: Context,
    if_match: IfMatch,
    Body(ask): Body<RuleOrderRequest>,
) -> Result<Json<List<RuleShown>>, ApiError> {
    let (deps, org) = (context.deps(), context.caller.org());
    let turn = deps.rulebook.change_rules(org).await?;
    let before = context.view().rules_in_order(org);
    if_match.check_tag(|| etag(&before), || "the list of rules".to_owned())?;
    let mut left = before.clone();
    let mut wanted = Vec::with_capacity(before.len());
    for (index, name) in ask.rules.iter().enumerate() {
        let field = || format!("rules[{index}]");
        let at = position(name, &left).ok_or_else(|| match position(name, &before) {
            Some(_) => ApiError::field(field(), "is named twice"),
            None => unknown("stored rule", field(), name, before.iter().map(|it| it.name())),
        })?;
        wanted.push(left.remove(at));
    }
    if let Some(missing) = left.first() {
        return Err(ApiError::field("rules", format!("lacks rule `{}`", missing.name()))
            .hint("name every stored rule once: read the list again"));
    }
    agrees(&context, &turn, &wanted, None)?;
    let ids: Vec<StoredRuleId> = wanted.iter().map(|rule| rule.id.clone()).collect();
    deps.directory.order_rules(org, &before, &ids).await?;
    drop(turn);
    context.admin.enforce().await?;
    let all = effective(&context).into_iter();
    let items = all.filter(|rule| rule.managed_by == Some(ManagedBy::Store)).collect();
    Ok(Json(List { items, next: None }))
}

/// The tag of the list of rules: of the stored ones in their order.
pub(crate) fn etag(stored: &[Arc<Record<Rule>>]) -> Etag {
    Etag::of_all(stored.iter().map(AsRef::as_ref))
}

fn shown(context: &Context, record: &Record<Rule>) -> Result<RuleShown, ApiError> {
    let mut all = effective(context).into_iter();
    let found = all.find(|rule| rule.id == record.id.as_str());
    let mut found = found.ok_or_else(|| ApiError::not_found("rule", record.name()))?;
    judge(context, std::slice::from_mut(&mut found));
    Ok(found)
}

/// The name or id of a stored rule, without the prefix of its label. Refuses what is not stored.
fn stored_name(context: &Context, name: String) -> Result<String, ApiError> {
    let plain = name.strip_prefix(LABEL_PREFIX).unwrap_or(&name);
    if context.view().find::<Rule>(context.caller.org(), plain).is_some() {
        return Ok(plain.to_owned());
    }
    if let Some(name) = of_file(context, &name) {
        context.caller.record_changed(Rule::KIND.one, format!("file:{name}"), &name);
        return Err(ApiError::ManagedByFile { what: Rule::KIND.one, name });
    }
    let hint = match &*name {
        "default" => "set `default:` in the configuration file",
        binding if binding.starts_with("binding:") => "`keyward agent unbind` ends a binding",
        _ => return Ok(plain.to_owned()),
    };
    Err(ApiError::refused(format!("`{name}` is not a rule that can be changed")).hint(hint))
}

/// The name of a rule of the configuration that has this name or label; its place if it has no name.
fn of_file(context: &Context, name: &str) -> Option<String> {
    let rules = context.deps().rulebook.rules();
    let own = rules.iter().filter(|rule| rule.org == *context.caller.org());
    let mut called = own.filter(|rule| rule.name.as_deref() == Some(name) || rule.label() == name);
    let found = called.next()?;
    Some(found.name.clone().unwrap_or_else(|| found.place.clone()))
}

/// Refuses the name of another rule, also of one of the configuration: names in messages and tests mean one rule.
fn is_free(context: &Context, spec: &RuleSpec) -> Result<(), ApiError> {
    let name = Rule::name(spec).to_owned();
    let stored = context.view().find::<Rule>(context.caller.org(), &name).is_some();
    match stored || of_file(context, &name).is_some() {
        false => Ok(()),
        true => Err(ApiError::Taken { what: Rule::KIND.one, name }),
    }
}

/// A free name made of action and host: `deny-api.github.com`, `deny-api.github.com-2`. For all hosts, it has the named
/// action or branch instead, if the rule is only for one.
fn made_name(context: &Context, spec: &RuleSpec) -> String {
    let action = spec.action.unwrap_or(ActionKind::Inject).as_str();
    let mut named = spec.hosts.iter().chain(&spec.actions).chain(&spec.branches);
    let host = named.next().map_or("all-hosts", String::as_str);
    let host = host
        .trim_start_matches("*.")
        .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
    let host: String = host.chars().take(NAMED_HOST_BYTES_MAX).collect();
    let host = host.trim_end_matches(['.', '-']);
    let (view, org, base) = (context.view(), context.caller.org(), format!("{action}-{host}"));
    let is_free =
        |name: &String| view.find::<Rule>(org, name).is_none() && of_file(context, name).is_none();
    let numbered = (2_usize..).map(|number| format!("{base}-{number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    names.find(is_free).unwrap_or(base)
}

/// The index of a place among stored rules; `None` if no place is named.
fn index_of(
    context: &Context,
    place: &RulePlace,
    stored: &[Arc<Record<Rule>>],
) -> Result<Option<usize>, ApiError> {
    place.check()?;
    let (field, name, behind) = match (&place.before, &place.after) {
        (Some(name), _) => ("before", name, 0),
        (_, Some(name)) => ("after", name, 1),
        _ if place.first => return Ok(Some(0)),
        _ => return Ok(place.last.then_some(stored.len())),
    };
    if let Some(at) = position(name, stored) {
        return Ok(Some(at + behind));
    }
    if of_file(context, name).is_some() {
        let message = format!(
            "rule `{name}` is in the configuration file, whose rules all come before stored rules"
        );
        let hint = "give it the first place of the stored rules";
        return Err(ApiError::field(field, message).hint(hint));
    }
    let names = stored.iter().map(|rule| rule.name());
    Err(unknown("other stored rule", field.to_owned(), name, names))
}

fn position(name: &str, stored: &[Arc<Record<Rule>>]) -> Option<usize> {
    let name = name.strip_prefix(LABEL_PREFIX).unwrap_or(name);
    stored.iter().position(|rule| rule.name() == name || rule.id.as_str() == name)
}

fn unknown<'a>(
    what: &str,
    field: String,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> ApiError {
    let kind = if what.ends_with("rule") { "rule" } else { what };
    let see = || format!("`keyward {kind} list` shows them");
    let hint = did_you_mean(name, known).unwrap_or_else(see);
    let message = format!("there is no {what} `{}`", crate::error::shown(name));
    ApiError::NotFoundIn { field: field.into(), message, hint: Some(hint) }
}

/// Checks the stored rules, in this order, with those of the configuration.
fn agrees(
    context: &Context,
    turn: &RuleChange<'_>,
    stored: &[Arc<Record<Rule>>],
    changed: Option<&Record<Rule>>,
) -> Result<(), ApiError> {
    turn.check(context.caller.org(), stored, changed).map_err(|errors| {
        let field = errors.first().and_then(field_of);
        let message = errors.iter().map(text).collect::<Vec<_>>().join("; ");
        match field {
            Some(field) => ApiError::field(field, message),
            None => ApiError::refused(message),
        }
    })
}

/// The field of an error in the changed rule itself.
fn field_of(error: &RulebookError) -> Option<&'static str> {
    match error {
        RulebookError::Environments { .. }
        | RulebookError::Private { .. }
        | RulebookError::UnknownAgent { .. } => Some("agents"),
        RulebookError::UnknownConnection { .. } => Some("use"),
        RulebookError::Compile { source, .. } => match source {
            CompileError::HostNotOwned { .. } | CompileError::TooManyHostless { .. } => {
                Some("hosts")
            }
            CompileError::WithoutInjection { key, .. } => Some(*key),
            _ => None,
        },
        _ => None,
    }
}

/// The error, with the line of a rule of the configuration that it is about.
fn text(error: &RulebookError) -> String {
    match error {
        RulebookError::Compile { place, source } => match place.split_once(": ") {
            Some((line, _)) => format!("{source} ({line})"),
            None => source.to_string(),
        },
        other => other.to_string(),
    }
}
