//! `/connections/{connection}/usage`: what a connection was used for since the gateway began, by whom, and how
//! its tokens stand.

use std::collections::HashMap;
use std::hash::BuildHasher;

use axum::Json;
use axum::extract::State;

use super::auth::Caller;
use super::body::Segments;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::{AgentUse, LimitView, Share, UsageView, Waits};
use keyward_base::id::AgentId;
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::usage::{ConnectionUse, TokenUse};

pub(super) fn routes() -> Routes {
    Routes::new().get(
        "/connections/{connection}/usage",
        ["getUsage", "Show the use of a connection"],
        show,
    )
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<UsageView>, ApiError> {
    let connection = admin.connection(&caller, &name)?;
    let (deps, usage) = (admin.deps(), &admin.deps().metrics.usage);
    let of = usage.connection(&connection.id);
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
        latency_ms: waits(&of),
        last_used: of.last,
        provider_limit: of.remaining.map(|it| LimitView {
            remaining: it.remaining,
            limit: it.limit,
            at: it.at,
        }),
        last_refresh: token.as_ref().and_then(|token| token.refreshed),
        next_expiry: token.as_ref().and_then(|it| it.expires).or(connection.expires_at()),
        failing: token.and_then(|token| token.failing),
        agents: agents(&admin, &caller, &connection, &of.agents),
    }))
}

fn waits(of: &ConnectionUse) -> Option<Waits> {
    let ms = |percent| {
        let waited = of.waited(percent)?;
        u64::try_from(waited.as_millis()).ok()
    };
    Some(Waits { p50: ms(50)?, p95: ms(95)?, p99: ms(99)? })
}

/// Who may use it, and who did: of the agents that the caller may see.
fn agents(
    admin: &Admin,
    caller: &Caller,
    connection: &ConnectionRecord,
    uses: &HashMap<AgentId, TokenUse, impl BuildHasher>,
) -> Vec<AgentUse> {
    let directory = admin.deps().directory.view();
    let seen = directory.agents().filter(|agent| caller.sees_agent(agent));
    let each = seen.filter_map(|agent| {
        let slots =
            directory.plugins_of(&agent.org, &agent.id).filter(|plugin| !plugin.facts.paused);
        let in_slot = slots.map(|plugin| plugin.slots_with(&connection.id).count()).sum::<usize>();
        let direct = agent.facts.binding(&connection.id).is_some_and(|binding| binding.direct);
        let used = uses.get(&agent.id).copied().unwrap_or_default();
        let by = match (direct, in_slot, used.requests) {
            (true, ..) => Share::Bound,
            (false, 1.., _) => Share::Plugin,
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
