//! `/usage`, `/agents/{agent}/usage` and `/connections/{connection}/usage`: usage over time. Of a connection also who
//! used it since the gateway began, and the state of its tokens.

use std::collections::HashMap;
use std::hash::BuildHasher;

use axum::Json;
use jiff::Timestamp;

use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::resource;
use super::state::Admin;
use super::wire::{
    AgentUsageView, AgentUse, LatencyPercentiles, LimitView, OrgUsageView, Share, UsagePoint,
    UsageRequest, UsageSeries, UsageTotals, UsageView,
};
use keyward_base::id::AgentId;
use keyward_base::time::parse_moment;
use keyward_model::Agent;
use keyward_rules::rate_limit::StatedLimit;
use keyward_state::directory::ConnectionRecord;
use keyward_state::observe::usage::{
    LatencyCounts, Remaining, TokenUse, UsageKey, UsageOf, UsagePeriod, UsageStep, UsageSum,
};

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
    let token = deps.vault.refresh().status(&connection).await;
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

/// What a request covers if it does not say it.
const DEFAULT: &str = "24h";

/// The periods that a request covers.
struct Window {
    now: Timestamp,
    step: UsageStep,
    count: usize,
}

impl Admin {
    /// The usage of an agent, a connection or an organisation.
    pub(super) async fn usage_series(
        &self,
        key: &UsageKey,
        ask: &UsageRequest,
    ) -> Result<UsageSeries, ApiError> {
        let (deps, usage) = (self.deps(), &self.deps().metrics.usage);
        let window = Window::of(ask, deps.clock.now(), &key.of)?;
        let beginning = deps.directory.view().org(&key.org).map(|org| org.created);
        let series = |mut periods: Vec<UsagePeriod>| {
            // An earlier organisation with the same name has the same id.
            let first = beginning.map(|beginning| window.step.start(beginning));
            periods.retain(|period| first.is_none_or(|first| first <= period.at));
            window.series(&periods)
        };
        if window.step == UsageStep::Minute {
            return Ok(series(usage.minutes(&key.org, window.now)));
        }
        let _reading = usage.reading().await;
        let mut history = deps.directory.usage_history(key).await?;
        history.merge(&usage.unstored(key, window.now), window.now);
        Ok(series(history.periods(window.step)))
    }
}

impl Window {
    fn of(ask: &UsageRequest, now: Timestamp, of: &UsageOf) -> Result<Self, ApiError> {
        let refused = |why: &str| ApiError::field("since", why);
        let since = ask.since.as_deref().unwrap_or(DEFAULT);
        let since = parse_moment(since, now).map_err(|error| refused(&error.to_string()))?;
        let age = now.duration_since(since).as_secs();
        let longest = |step: UsageStep| step.seconds() * i64::try_from(step.kept()).unwrap_or(0);
        let step = match age {
            ..=0 => return Err(refused("the time must be in the past")),
            age if *of == UsageOf::Org && age <= longest(UsageStep::Minute) => UsageStep::Minute,
            age if age <= longest(UsageStep::Hour) => UsageStep::Hour,
            age if age <= longest(UsageStep::Day) => UsageStep::Day,
            _ => return Err(refused("usage is kept for 30 days: choose a later time")),
        };
        let count = (age + step.seconds() - 1) / step.seconds();
        Ok(Self { now, step, count: usize::try_from(count).unwrap_or(1) })
    }

    /// A point for every period, also for those without requests.
    fn series(&self, periods: &[UsagePeriod]) -> UsageSeries {
        let (mut total, mut points) = (UsageSum::default(), Vec::with_capacity(self.count));
        for at in self.step.starts(self.now, self.count) {
            let found = periods.iter().find(|period| period.at == at);
            let sum = found.map(|period| period.sum.clone()).unwrap_or_default();
            total.add(&sum);
            points.push(UsagePoint { at, sums: totals(&sum) });
        }
        UsageSeries {
            since: points.first().map_or(self.now, |point| point.at),
            step_seconds: u32::try_from(self.step.seconds()).unwrap_or(u32::MAX),
            total: totals(&total),
            points,
        }
    }
}

fn totals(sum: &UsageSum) -> UsageTotals {
    UsageTotals {
        requests: sum.requests,
        refused: sum.refused,
        client_errors: sum.client_errors,
        rate_limited: sum.rate_limited,
        server_errors: sum.server_errors,
        upstream_failures: sum.upstream_failures,
        bytes_in: sum.bytes_in,
        bytes_out: sum.bytes_out,
        latency_ms: latency_percentiles(&sum.latency),
        provider_limit: sum.limit.map(limit_view),
    }
}

pub(super) fn latency_percentiles(of: &LatencyCounts) -> Option<LatencyPercentiles> {
    let ms = |percent| {
        let waited = of.within(percent)?;
        u64::try_from(waited.as_millis()).ok()
    };
    Some(LatencyPercentiles { p50: ms(50)?, p95: ms(95)?, p99: ms(99)? })
}

pub(super) fn limit_view(of: Remaining) -> LimitView {
    let StatedLimit { remaining, limit, resets_at } = of.stated;
    LimitView { remaining, limit, resets_at, at: of.at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::id::ConnectionId;

    fn now() -> Timestamp {
        "2026-03-31T12:30:00Z".parse().unwrap()
    }

    fn window(since: &str, of: &UsageOf) -> Result<(UsageStep, usize), String> {
        let ask = UsageRequest { since: Some(since.to_owned()) };
        let window = Window::of(&ask, now(), of).map_err(|error| error.to_string())?;
        Ok((window.step, window.count))
    }

    #[test]
    fn a_period_that_is_not_kept_is_refused() {
        for (since, why) in [
            ("31d", "30 days"),
            ("2026-02-28", "30 days"),
            ("2027-01-01", "in the past"),
            ("0s", "in the past"),
            ("tomorrow", "not a time"),
        ] {
            let refused = window(since, &UsageOf::Org).unwrap_err();
            assert!(refused.contains(why), "{since}: {refused}");
        }
    }

    #[test]
    fn the_length_of_a_point_follows_the_period() {
        let connection = UsageOf::Connection(ConnectionId::random());
        for (since, of, step, count) in [
            ("1h", &UsageOf::Org, UsageStep::Minute, 60),
            ("1h", &connection, UsageStep::Hour, 1),
            ("90m", &UsageOf::Org, UsageStep::Hour, 2),
            ("24h", &connection, UsageStep::Hour, 24),
            ("48h", &connection, UsageStep::Hour, 48),
            ("7d", &connection, UsageStep::Day, 7),
            ("30d", &UsageOf::Org, UsageStep::Day, 30),
            ("2026-03-29", &connection, UsageStep::Day, 3),
        ] {
            assert_eq!(window(since, of), Ok((step, count)), "{since}");
        }
    }

    #[test]
    fn a_series_has_no_gaps_and_its_total_is_that_of_its_points() {
        let period = |at: &str, requests| UsagePeriod {
            at: at.parse().unwrap(),
            sum: UsageSum { requests, ..UsageSum::default() },
        };
        let periods = [
            period("2026-03-31T09:00:00Z", 1),
            period("2026-03-31T10:00:00Z", 2),
            period("2026-03-31T12:00:00Z", 4),
        ];
        let series = Window { now: now(), step: UsageStep::Hour, count: 3 }.series(&periods);
        let points: Vec<_> = series.points.iter().map(|it| it.sums.requests).collect();
        assert_eq!((points, series.total.requests), (vec![2, 0, 4], 6));
        assert_eq!(series.since, periods[1].at);
    }
}
