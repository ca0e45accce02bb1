//! `/usage`, `/agents/{agent}/usage` and `/connections/{connection}/usage`: usage over time. Of a connection also who
//! used it since the gateway began, and the state of its tokens.

use std::collections::HashMap;
use std::hash::BuildHasher;

use axum::Json;

use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::resource;
use super::usage_series::{latency_percentiles, limit_view};
use super::wire::{AgentUsageView, AgentUse, OrgUsageView, Share, UsageRequest, UsageView};
use keyward_base::id::AgentId;
use keyward_model::Agent;
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::usage::{TokenUse, UsageKey, UsageOf};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get(
            "/connections/{connection}/usage",
            ["getUsage", "Show the use of a connection"],
            of_connection,
        )
        .get("/agents/{agent}/usage", ["getAgentUsage", "Show the use of an agent"], of_agent)
        .get("/usage", ["getOrgUsage", "Show the use of all agents together"], of_org)
}

/// Only for callers who see all agents: the sums are of all.
async fn of_org(
    context: Context,
    Params(ask): Params<UsageRequest>,
) -> Result<Json<OrgUsageView>, ApiError> {
    let Context { admin, caller } = &context;
    if let Some(user) = caller.user().filter(|_| !caller.sees_all()) {
        return Err(ApiError::RoleRefused(user.role.as_str()));
    }
    let key = UsageKey { org: caller.org().clone(), of: UsageOf::Org };
    Ok(Json(OrgUsageView { history: admin.usage_series(&key, &ask).await? }))
}

async fn of_agent(
    context: Context,
    Segments(name): Segments<String>,
    Params(ask): Params<UsageRequest>,
) -> Result<Json<AgentUsageView>, ApiError> {
    let agent = resource::found::<Agent>(&context, &name)?;
    let key = UsageKey { org: agent.org.clone(), of: UsageOf::Agent(agent.id.clone()) };
    let history = context.admin.usage_series(&key, &ask).await?;
    Ok(Json(AgentUsageView { id: agent.id.clone(), name: agent.name.clone(), history }))
}

async fn of_connection(
    context: Context,
    Segments(name): Segments<String>,
    Params(ask): Params<UsageRequest>,
) -> Result<Json<UsageView>, ApiError> {
    let connection = context.connection(&name)?;
    let (deps, usage) = (context.deps(), &context.deps().metrics.usage);
    let of = usage.connection(&connection.id);
    let kept = UsageOf::Connection(connection.id.clone());
    let kept = UsageKey { org: connection.org.clone(), of: kept };
    let history = context.admin.usage_series(&kept, &ask).await?;
    let token = deps.vault.status(&connection).await;
    Ok(Json(UsageView {
        id: connection.id.clone(),
        name: connection.name.clone(),
        since: usage.since().unwrap_or_else(|| deps.clock.now()),
        requests: of.requests,
        failed: of.failed,
        statuses: of.statuses.iter().map(|(status, n)| (status.to_string(), *n)).collect(),
        refusals: of.refusals.iter().map(|(code, n)| ((*code).to_owned(), *n)).collect(),
        bytes_in: of.bytes_in,
        bytes_out: of.bytes_out,
        latency_ms: latency_percentiles(&of.latency),
        last_used: of.last,
        provider_limit: of.remaining.map(limit_view).or(history.total.provider_limit),
        last_refresh: token.as_ref().and_then(|token| token.refreshed),
        next_expiry: token.as_ref().and_then(|it| it.expires).or(connection.expires_at()),
        failing: token.and_then(|token| token.failing),
        agents: agents(&context, &connection, &of.agents),
        history,
    }))
}

/// Who may use it, and who did: of the agents that the caller may see.
fn agents(
    context: &Context,
    connection: &ConnectionRecord,
    uses: &HashMap<AgentId, TokenUse, impl BuildHasher>,
) -> Vec<AgentUse> {
    let (directory, caller) = (context.view(), &context.caller);
    let seen = directory.all::<Agent>(caller.org()).filter(|agent| caller.sees_agent(agent));
    let each = seen.filter_map(|agent| {
        let slots =
            directory.plugins_of(&agent.org, &agent.id).filter(|plugin| !plugin.facts.paused);
        let in_slot = slots.map(|plugin| plugin.slots_with(&connection.id).count()).sum::<usize>();
        let direct = agent.facts.binding(&connection.id).is_some_and(|binding| binding.direct);
        let used = uses.get(&agent.id).copied().unwrap_or_default();
        let by = match (direct, in_slot, used.requests) {
            (true, ..) => Share::Bound,
            (false, 1.., _) => Share::Plugin,
            (false, 0, _) if directory.serves_owner(agent, connection) => Share::Session,
            (false, 0, 1..) => Share::Rule,
            (false, 0, 0) => return None,
        };
        Some(AgentUse {
            id: agent.id.clone(),
            name: agent.name.clone(),
            by,
            requests: used.requests,
            last_used: used.last,
        })
    });
    let mut agents: Vec<_> = each.collect();
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents
}
