//! Charts: bars of requests and failures, as SVG with a text for screen readers.

use maud::{Markup, html};

use keyward_api::wire::{UsageSeries, UsageTotals};

/// Width and height of the drawing; it scales with the page.
const WIDTH: u64 = 600;
const HEIGHT: u64 = 96;
/// Below the bars.
const FOOT: u64 = 1;

/// Requests without a good answer.
pub(crate) fn failures(of: &UsageTotals) -> u64 {
    [of.refused, of.client_errors, of.rate_limited, of.server_errors, of.upstream_failures]
        .iter()
        .sum()
}

/// `1 request, 0 failed or blocked`.
pub(crate) fn in_short(of: &UsageTotals) -> String {
    let plural = if of.requests == 1 { "" } else { "s" };
    format!("{} request{plural}, {} failed or blocked", of.requests, failures(of))
}

/// Requests over time.
pub(crate) fn series(what: &str, of: &UsageSeries) -> Markup {
    let values: Vec<_> =
        of.points.iter().map(|point| (point.sums.requests, failures(&point.sums))).collect();
    bars(what, &values)
}

/// Bars of `(all, failed)`, the oldest first; `what` describes them, as `Requests of the last hour`.
fn bars(what: &str, values: &[(u64, u64)]) -> Markup {
    let highest = values.iter().map(|(all, _)| *all).max().unwrap_or_default().max(1);
    let total: u64 = values.iter().map(|(all, _)| all).sum();
    let failed: u64 = values.iter().map(|(_, failed)| failed).sum();
    let count = u64::try_from(values.len()).unwrap_or(1).max(1);
    let step = WIDTH / count;
    let height = |value: u64| value.saturating_mul(HEIGHT - FOOT) / highest;
    let width = step.saturating_sub(2).max(1);
    html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img"
            aria-label=(format!("{what}: {total}, of which {failed} failed; at most {highest} at once")) {
            @for (index, (all, failed)) in (0..).zip(values) {
                @let x = index * step;
                @if *all > 0 {
                    rect.bar-ok x=(x) y=(HEIGHT - FOOT - height(*all)) width=(width) height=(height(*all).max(1)) {}
                }
                @if *failed > 0 {
                    rect.bar-bad x=(x) y=(HEIGHT - FOOT - height(*failed)) width=(width) height=(height(*failed).max(1)) {}
                }
            }
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT - FOOT) y2=(HEIGHT - FOOT) {}
        }
    }
}
