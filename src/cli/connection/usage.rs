//! `keyward connection usage`: requests and failures of a connection, its agents, and the state of its tokens.

use super::state::path;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::table::{Table, TableLayout, fields, moment};
use keyward_api::wire::UsageView;

pub(super) const HELP: &str = "\
Counted in memory since the gateway began; `keyward usage --connection NAME` has
the last 30 days. Latencies are times until an answer begins, rounded up to a
power of two of milliseconds.";

pub(super) async fn run(global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
    let usage: UsageView = client.get(&format!("{}/usage", path(name))).await?;
    output::show(global.json, &usage, |usage| shown(usage, &output::layout(global)))
}

fn shown(usage: &UsageView, layout: &TableLayout) -> String {
    let counts = |map: &std::collections::BTreeMap<String, u64>| {
        map.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
    };
    let limit = usage.provider_limit.map(|it| {
        let of = it.limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let reset = it.resets_at.map(|at| format!(", reset at {}", moment(at)));
        format!("{}{of} left at {}{}", it.remaining, moment(it.at), reset.unwrap_or_default())
    });
    let latency = usage.latency_ms.map(|it| {
        format!("half within {} ms, 95 % within {} ms, 99 % within {} ms", it.p50, it.p95, it.p99)
    });
    let failing = usage.failing.as_ref().map(|it| format!("since {}", moment(it.since)));
    let mut text = fields(&[
        ("name", usage.name.clone()),
        ("since", moment(usage.since)),
        ("requests", usage.requests.to_string()),
        ("failed", usage.failed.to_string()),
        ("by the provider", counts(&usage.statuses)),
        ("by Keyward", counts(&usage.refusals)),
        ("latency", latency.unwrap_or_default()),
        ("bytes", format!("{} sent, {} received", usage.bytes_in, usage.bytes_out)),
        ("provider's limit", limit.unwrap_or_default()),
        ("last used", usage.last_used.map(moment).unwrap_or_default()),
        ("last refresh", usage.last_refresh.map(moment).unwrap_or_default()),
        ("next expiry", usage.next_expiry.map(moment).unwrap_or_default()),
        ("refreshes fail", failing.unwrap_or_default()),
    ]);
    let mut table = Table::new(["AGENT", "BY", "REQUESTS", "LAST USED"]);
    for agent in &usage.agents {
        table.row([
            agent.name.clone().into(),
            agent.by.as_str().into(),
            agent.requests.to_string().into(),
            agent.last_used.into(),
        ]);
    }
    text.push('\n');
    text + &table.render("no agent may use it", layout)
}
