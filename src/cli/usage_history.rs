//! `keyward usage`: requests, errors and latencies over time, as the API's series has them.

use jiff::Timestamp;

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::terminal::table::{Table, TableCell, TableLayout, fields, moment};
use keyward_api::wire::{
    AgentUsageView, LatencyPercentiles, OrgUsageView, UsageSeries, UsageTotals, UsageView,
};

pub(super) const EXAMPLES: &str = "\
A line is an hour; for more than 48h, a day; for at most 1h of all agents, a
minute. Those without requests are omitted. Usage is kept for 30 days.

examples:
  keyward usage
  keyward usage --agent claude --since 7d
  keyward usage --connection work --since 30d";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// of this connection: name or id
    #[arg(long, value_name = "NAME", conflicts_with = "agent")]
    connection: Option<String>,
    /// of this agent: name or id
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
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

fn text(series: &UsageSeries, layout: &TableLayout) -> String {
    let total = &series.total;
    let latency = total.latency_ms.map(|LatencyPercentiles { p50, p95, p99 }| {
        format!("half within {p50} ms, 95 % within {p95} ms, 99 % within {p99} ms")
    });
    let mut text = fields(&[
        ("since", moment(series.since)),
        ("requests", total.requests.to_string()),
        ("refused", total.refused.to_string()),
        ("errors", errors(total)),
        ("latency", latency.unwrap_or_default()),
        ("bytes", format!("{} sent, {} received", total.bytes_in, total.bytes_out)),
    ]);
    text.push('\n');
    text + &table(series).render("no requests in this time", layout)
}

/// The errors by class, without those that did not occur.
fn errors(total: &UsageTotals) -> String {
    let classes = [
        (total.client_errors, "4xx"),
        (total.rate_limited, "429"),
        (total.server_errors, "5xx"),
        (total.upstream_failures, "no whole answer"),
    ];
    let some = classes.into_iter().filter(|(count, _)| *count > 0);
    let some: Vec<_> = some.map(|(count, class)| format!("{class}: {count}")).collect();
    if some.is_empty() { "0".to_owned() } else { some.join(", ") }
}

fn table(series: &UsageSeries) -> Table {
    let headings = [
        "TIME (UTC)",
        "REQUESTS",
        "REFUSED",
        "4XX",
        "429",
        "5XX",
        "NO ANSWER",
        "P50",
        "P95",
        "SENT",
        "RECEIVED",
    ];
    let mut table = Table::new(headings).only_in_full(&["SENT", "RECEIVED"]);
    for point in series.points.iter().filter(|point| point.sums.requests > 0) {
        let sums = &point.sums;
        let ms = |of: fn(LatencyPercentiles) -> u64| {
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
        let cells = texts.chain(bytes).map(TableCell::from);
        table.row(
            std::iter::once(TableCell::Text(time(point.at, series.step_seconds))).chain(cells),
        );
    }
    table
}

/// As precise as the length of a point, in seconds, needs.
fn time(at: Timestamp, step_seconds: u32) -> String {
    let format = match step_seconds {
        ..3_600 => "%H:%M",
        3_600..86_400 => "%m-%d %H:%M",
        86_400.. => "%Y-%m-%d",
    };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_api::wire::{LatencyPercentiles, UsagePoint};

    fn sums(requests: u64) -> UsageTotals {
        UsageTotals {
            requests,
            refused: requests / 10,
            client_errors: requests.min(1),
            rate_limited: requests / 100,
            server_errors: 0,
            upstream_failures: 0,
            bytes_in: 1_048_576,
            bytes_out: 16_777_216,
            latency_ms: Some(LatencyPercentiles { p50: 128, p95: 2_048, p99: 16_384 }),
            provider_limit: None,
        }
    }

    fn series(requests: &[u64]) -> UsageSeries {
        let since: Timestamp = "2025-01-01T22:00:00Z".parse().unwrap();
        let hours = (0..).map(|hour| since + jiff::SignedDuration::from_hours(hour));
        let points = hours.zip(requests).map(|(at, n)| UsagePoint { at, sums: sums(*n) });
        let total = UsageTotals { latency_ms: None, ..sums(requests.iter().sum()) };
        UsageSeries { since, step_seconds: 3_600, total, points: points.collect() }
    }

    #[test]
    fn a_day_fits_a_terminal_and_hours_without_requests_are_omitted() {
        insta::assert_snapshot!(text(&series(&[12_345, 0, 40]), &TableLayout::narrow()), @r"
        since      2025-01-01T22:00:00Z
        requests   12385
        refused    1238
        errors     4xx: 1, 429: 123
        bytes      1048576 sent, 16777216 received

        TIME (UTC)   REQUESTS  REFUSED  4XX  429  5XX  NO ANSWER  P50     P95
        01-01 22:00  12345     1234     1    123  0    0          128 ms  2048 ms
        01-02 00:00  40        4        1    0    0    0          128 ms  2048 ms
        ");
        let heading = "TIME (UTC)    REQUESTS   REFUSED   4XX   429   5XX   NO ANSWER   P50      P95       SENT      RECEIVED";
        let full = text(&series(&[40]), &TableLayout::FULL);
        assert!(full.contains(heading), "{full}");
    }

    #[test]
    fn a_history_without_requests_says_so() {
        insta::assert_snapshot!(text(&series(&[0]), &TableLayout::narrow()), @r"
        since      2025-01-01T22:00:00Z
        requests   0
        refused    0
        errors     0
        bytes      1048576 sent, 16777216 received

        no requests in this time
        ");
    }

    #[test]
    fn the_precision_of_times_follows_the_step_of_the_points() {
        let at: Timestamp = "2025-01-01T22:05:00Z".parse().unwrap();
        let times = [60, 3_600, 86_400].map(|step| time(at, step));
        assert_eq!(times, ["22:05", "01-01 22:05", "2025-01-01"]);
    }
}
