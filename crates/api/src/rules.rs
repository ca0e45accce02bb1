//! `/rules`: the rules in the order in which they decide: the configuration's rules, then the stored ones, then
//! bindings, then the sets of hosts that agents may reach, then the default. Stored rules are changed in
//! `stored_rules.rs`.

pub(super) mod effective_rules;
pub(super) mod rule_test;
pub(super) mod stored_rules;

use schemars::JsonSchema;
use serde::Deserialize;

use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::{Etag, TaggedAnswer};
use super::openapi::Routes;
use super::page::Page;
use super::resource;
use super::valid_rules::ValidRules;
use super::wire::List;
use effective_rules::RuleKey;
use effective_rules::{KeyedRule, effective, judge, keyed};
use keyward_model::{Agent, Rule, RuleShown};

/// The query of the list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Search {
    /// The agent's name or id: only rules for this agent, and those for all agents.
    agent: Option<String>,
    /// Part of a name or id, any case.
    q: Option<String>,
    /// Items wanted.
    #[schemars(range(min = 1, max = 1_000))]
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/rules", ["listRules", "List rules in the order in which they decide"], list)
        .post("/rules", ["addRule", "Add a rule"], resource::add::<Rule>)
        .put(
            "/rules/order",
            ["orderRules", "Put the stored rules into an order"],
            stored_rules::order,
        )
        .get("/rules/{rule}", ["getRule", "Show a rule"], show)
        .patch("/rules/{rule}", ["changeRule", "Change a stored rule"], stored_rules::change)
        .delete("/rules/{rule}", ["removeRule", "Remove a stored rule"], stored_rules::remove)
}

async fn list(
    context: Context,
    _: ValidRules,
    Params(search): Params<Search>,
) -> Result<TaggedAnswer<List<RuleShown>>, ApiError> {
    let found = |name| resource::found::<Agent>(&context, name);
    let agent = search.agent.as_deref().map(found).transpose()?;
    // Before the rules themselves: a change in between makes the tag stale, not the list.
    let etag = stored_rules::etag(&context.view().rules_in_order(context.caller.org()));
    let mut all = keyed(&context);
    let after = search.after.filter(|after| !after.is_empty());
    let after = after.map(|after| RuleKey::resumed(after, all.iter().map(|it| &it.key)));
    let page = Page::of(search.q, search.limit, after.transpose()?);
    all.retain(|KeyedRule { rule, .. }| {
        agent.as_ref().is_none_or(|agent| is_for(rule, &agent.name)) && page.wants(&searched(rule))
    });
    let List { items, next } = page.cut(all, |it: &KeyedRule| it.key.as_str())?;
    let mut items: Vec<_> = items.into_iter().map(|KeyedRule { rule, .. }| rule).collect();
    judge(&context, &mut items);
    Ok(TaggedAnswer { etag: Some(etag), body: List { items, next } })
}

/// Whether it decides requests of this agent.
fn is_for(rule: &RuleShown, agent: &str) -> bool {
    rule.spec.agents.as_ref().is_none_or(|names| names.iter().any(|name| name == agent))
}

/// What a search looks into.
fn searched(RuleShown { id, spec, .. }: &RuleShown) -> Vec<&str> {
    let optional = spec.name.iter().chain(&spec.use_connection);
    let listed = spec.hosts.iter().chain(spec.agents.iter().flatten());
    std::iter::once(id).chain(optional).chain(listed).map(String::as_str).collect()
}

async fn show(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<TaggedAnswer<RuleShown>, ApiError> {
    let view = context.view();
    let all = effective(&context);
    let found = all.iter().find(|rule| is_called(rule, &name)).cloned();
    let known = || all.iter().filter_map(|rule| rule.spec.name.as_deref());
    let mut found = found.ok_or_else(|| ApiError::not_found_among("rule", &name, known()))?;
    // Rules of the file, bindings and the default are not stored.
    let record = view.find::<Rule>(context.caller.org(), &found.id);
    let etag = record.map(|record| Etag::of(record));
    judge(&context, std::slice::from_mut(&mut found));
    Ok(TaggedAnswer { etag, body: found })
}

/// Whether it has this name, id or label.
fn is_called(rule: &RuleShown, name: &str) -> bool {
    rule.id == name || rule.spec.name.as_deref() == Some(name) || rule.label() == name
}
