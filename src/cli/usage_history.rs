//! `keyward usage`: requests, errors and latencies over time, as the API's series has them.

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::table::{Cell, Layout, Table, fields, moment};
use keyward_api::wire::{AgentUsageView, OrgUsageView, UsageSeries, UsageTotals, UsageView, Waits};

pub(super) const EXAMPLES: &str = "Up to 48h has a line for each hour, more one for each day, and up to 1h of all \
    agents one for each minute.\nLines without requests are omitted. Usage is kept for 30 days.\n\nexamples:\n  \
    keyward usage\n  keyward usage --agent claude --since 7d\n  keyward usage --connection work --since 30d";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// of this connection: name or id
    #[arg(long, value_name = "NAME", conflicts_with = "agent")]
    connection: Option<String>,
    /// of this agent: name or id
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// how long ago, at most 30d, or a time; default: 24h
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        let layout = output::layout(global);
        let query = self.since.iter().map(|since| format!("?since={}", segment(since)));
        let query: String = query.collect();
        let path = |of: &str, name| format!("/api/v1/{of}/{}/usage{query}", segment(name));
        if let Some(name) = &self.connection {
            let usage: UsageView = client.get(&path("connections", name)).await?;
            return output::show(global.json, &usage, |usage| text(&usage.history, &layout));
        }
        if let Some(name) = &self.agent {
            let usage: AgentUsageView = client.get(&path("agents", name)).await?;
            return output::show(global.json, &usage, |usage| text(&usage.history, &layout));
        }
        let usage: OrgUsageView = client.get(&format!("/api/v1/usage{query}")).await?;
        output::show(global.json, &usage, |usage| text(&usage.history, &layout))
    }
}

fn text(series: &UsageSeries, layout: &Layout) -> String {
    let total = &series.total;
    let latency = total.latency_ms.map(|Waits { p50, p95, p99 }| {
        format!("half within {p50} ms, 95 % within {p95} ms, 99 % within {p99} ms")
    });
    let mut text = fields(&[
        ("since", moment(series.since)),
        ("requests", total.requests.to_string()),
        ("refused", total.refused.to_string()),
        ("failed", failures(total)),
        ("latency", latency.unwrap_or_default()),
        ("bytes", format!("{} sent, {} received", total.bytes_in, total.bytes_out)),
    ]);
    text.push('\n');
    text + &table(series).render("no requests in this time", layout)
}

/// The failures by class, without those that did not occur.
fn failures(total: &UsageTotals) -> String {
    let classes = [
        (total.client_errors, "4xx"),
        (total.rate_limited, "429"),
        (total.server_errors, "5xx"),
        (total.upstream_failures, "no whole answer"),
    ];
    let some = classes.into_iter().filter(|(count, _)| *count > 0);
    let some: Vec<_> = some.map(|(count, class)| format!("{class}: {count}")).collect();
    match some.is_empty() {
        true => "0".to_owned(),
        false => some.join(", "),
    }
}

fn table(series: &UsageSeries) -> Table {
    let headings = [
        "TIME", "REQUESTS", "REFUSED", "4XX", "429", "5XX", "FAILED", "P50", "P95", "SENT",
        "RECEIVED",
    ];
    let mut table = Table::new(headings).only_in_full(&["SENT", "RECEIVED"]);
    for point in series.points.iter().filter(|point| point.sums.requests > 0) {
        let sums = &point.sums;
        let ms = |of: fn(Waits) -> u64| {
            sums.latency_ms.map(|waits| format!("{} ms", of(waits))).unwrap_or_default()
        };
        let counts = [
            sums.requests,
            sums.refused,
            sums.client_errors,
            sums.rate_limited,
            sums.server_errors,
            sums.upstream_failures,
        ];
        let texts = counts.iter().map(u64::to_string);
        let texts = texts.chain([ms(|it| it.p50), ms(|it| it.p95)]);
        let bytes = [sums.bytes_in, sums.bytes_out].map(|it| it.to_string());
        let cells = texts.chain(bytes).map(Cell::from);
        table.row(std::iter::once(Cell::Text(moment(point.at))).chain(cells));
    }
    table
}
