//! `/traffic`: requests of agents as they end, and one of them in detail: who, by which rule, with which connection, and
//! what would happen to it now.

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use crate::frame::{Page, Section};
use crate::listing::Listing;
use crate::parts::{ago, chips, facts, head, remedy};
use crate::visit::{Console, PageError, Visit, segment, sentence, with_query};
use keyward_api::handler::get;
use keyward_api::wire::{Event, ExplainRequest, Explanation, List, Outcome};

/// Requests that the page begins with.
const ROWS: usize = 60;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    agent: Option<String>,
    connection: Option<String>,
    host: Option<String>,
    refused: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/traffic", get(show)).route("/traffic/{exchange}", get(exchange))
}

impl PageQuery {
    /// As a query of the audit log.
    fn query(&self) -> String {
        let given =
            [("agent", &self.agent), ("connection", &self.connection), ("host", &self.host)];
        let mut query = "requests=true".to_owned();
        for (name, value) in given {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                query += &format!("&{name}={}", segment(value));
            }
        }
        if self.only_refused() {
            query += "&refused=true";
        }
        query
    }

    fn only_refused(&self) -> bool {
        self.refused.as_deref().is_some_and(|value| !value.is_empty())
    }
}

async fn show(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    let query = asked.query();
    let list: List<Event> = visit.get(&format!("/audit?{query}&limit={ROWS}")).await?;
    // The live list goes on after the newest record, which may be one that the filter leaves out.
    let newest: List<Event> = visit.get("/audit?limit=1").await?;
    let after = newest.items.first().map_or(0, |event| event.seq);
    let content = html! {
        (head(
            html! { "Traffic" },
            Some(html! { "Requests of agents, as they end. Bodies and queries are not recorded." }),
            html! {
                span #live.live role="status" { span aria-hidden="true" { "●" } span { "Live" } }
                button #hold { "Pause" }
            },
        ))
        form.bar action="/traffic" method="get" data-filter role="search" {
            input.narrow name="agent" value=[asked.agent.as_deref()] placeholder="Agent" aria-label="Agent" autocomplete="off";
            input.narrow name="connection" value=[asked.connection.as_deref()] placeholder="Connection" aria-label="Connection" autocomplete="off";
            input.narrow name="host" value=[asked.host.as_deref()] placeholder="Host, or *.example.com" aria-label="Host" autocomplete="off";
            span.check { input #refused type="checkbox" name="refused" value="1" checked[asked.only_refused()]; label for="refused" { "Only blocked" } }
            button { "Filter" }
        }
        section.panel { div.wide { table.traffic {
            thead { tr {
                th { "When" } th { "Agent" } th.path { "Request" } th { "Answer" } th.r.wide-only { "Time" } th.wide-only { "Connection" }
            } }
            tbody data-traffic=(format!("follow=true&{query}&after={after}")) {
                @for event in &list.items { (row(event)) }
            }
        } }
            @if list.items.is_empty() { div #quiet.empty {
                b { "No request yet" }
                p { "Run a program through the proxy: " code { "keyward run --agent NAME -- curl https://api.github.com/user" } }
            } }
        }
        template #exchange { (blank()) }
    };
    Ok(Page::new(&visit, Section::Traffic, "Traffic", content))
}

/// The agent, or who tested a connection or sent a request with it.
pub(super) fn sender(event: &Event) -> String {
    let name = event.sender().unwrap_or("unknown");
    match event.rule.as_deref().is_some_and(|rule| rule.starts_with("test:")) {
        true => format!("{name} (test)"),
        false => name.to_owned(),
    }
}

/// Host and path, without what every request has.
fn place(event: &Event) -> String {
    let target = event.target.as_deref().unwrap_or_default();
    let target = target.strip_prefix("https://").unwrap_or(target);
    let target = target.strip_suffix(":443").unwrap_or(target);
    format!("{target}{}", event.path.as_deref().unwrap_or_default())
}

/// The answer that the agent got, and how it looks.
fn answer(event: &Event) -> (String, &'static str) {
    let text = match (&event.code, event.status) {
        (Some(code), _) => code.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => event.outcome.as_str().to_owned(),
    };
    let class = match (event.outcome, event.status) {
        (Outcome::Refused, _) | (_, Some(500..)) => "status-bad",
        (_, Some(400..)) => "status-warn",
        _ => "status-ok",
    };
    (text, class)
}

fn row(event: &Event) -> Markup {
    let (answer, class) = answer(event);
    html! {
        tr.go.refused[event.outcome == Outcome::Refused] {
            td { (ago(event.time)) }
            td data-cell="agent" { (sender(event)) }
            td.path { a href=(format!("/traffic/{}", event.exchange)) {
                span.method data-cell="method" { (event.method.as_deref().unwrap_or_default()) } " "
                span data-cell="path" { (place(event)) }
            } }
            td { span class=(class) data-cell="status" { (answer) } }
            td.r.wide-only data-cell="ms" { (event.duration_ms) " ms" }
            td.wide-only data-cell="connection" { (event.connection.as_deref().unwrap_or_default()) }
        }
    }
}

/// The row that the script fills.
fn blank() -> Markup {
    html! {
        tr.go {
            td { time data-ago datetime="" {} }
            td data-cell="agent" {}
            td.path { a href="/traffic" { span.method data-cell="method" {} " " span data-cell="path" {} } }
            td { span data-cell="status" {} }
            td.r.wide-only data-cell="ms" {}
            td.wide-only data-cell="connection" {}
        }
    }
}

async fn exchange(visit: Visit, Path(id): Path<String>) -> Result<Page, PageError> {
    let list: List<Event> =
        visit.get(&format!("/audit?exchange={}&requests=true&limit=1", segment(&id))).await?;
    let event = list.items.first().ok_or_else(|| {
        PageError::missing(Listing::TRAFFIC, format!("the audit log has no request `{id:.64}`"))
    })?;
    let now = explained(&visit, event).await;
    let content = html! {
        p.crumb { a href="/traffic" { "Traffic" } }
        (head(
            html! { span.method { (event.method.as_deref().unwrap_or_default()) } " " (place(event)) },
            Some(html! { (ago(event.time)) " by " (sender(event)) }),
            html! {
                @if let (Outcome::Refused, Some(target), true) = (event.outcome, &event.target, visit.is_admin()) {
                    a.button.first href=(allow(event, target)) { "Allow…" }
                }
            },
        ))
        div.pair {
            section.panel { header { h2 { "What happened" } } div.body { (happened(event)) } }
            section.panel { header { h2 { "What would happen now" } } div.body {
                @match &now {
                    Some(Ok(now)) => (decided(now)),
                    Some(Err(why)) => p.muted { (sentence(why)) },
                    None => p.muted { "No agent sent it, or it has no host: it cannot be explained." },
                }
            } }
        }
    };
    Ok(Page::new(&visit, Section::Traffic, "Request", content))
}

/// The form of a new rule for requests like this one.
fn allow(event: &Event, target: &str) -> String {
    let host = target.split_once("://").map_or(target, |(_, rest)| rest);
    let host = host.strip_suffix(":443").unwrap_or(host);
    let given = [
        ("host", Some(host)),
        ("agent", event.agent.as_deref()),
        ("method", event.method.as_deref()),
        ("path", event.path.as_deref()),
    ];
    with_query("/rules?new=1", &given)
}

async fn explained(visit: &Visit, event: &Event) -> Option<Result<Explanation, String>> {
    let target = event.target.as_ref()?;
    let ask = ExplainRequest {
        agent: event.agent.clone()?,
        method: event.method.clone().filter(|method| method != "CONNECT"),
        url: format!("{target}{}", event.path.as_deref().unwrap_or("/")),
        ..ExplainRequest::default()
    };
    Some(match visit.explain(&ask).await {
        Ok(explanation) => Ok(explanation),
        Err(PageError::Refused(_, error) | PageError::Missing(_, error)) => Err(error.message),
        Err(PageError::SignIn(..)) => Err("the session has ended".to_owned()),
    })
}

fn happened(event: &Event) -> Markup {
    let text = |text: &Option<String>| text.as_ref().map(|text| html! { (text) });
    let (shown, class) = answer(event);
    let link = |kind: &str, name: &Option<String>| {
        name.as_ref().map(|name| html! { a href=(format!("/{kind}/{}", segment(name))) { (name) } })
    };
    facts(&[
        ("Agent", link("agents", &event.agent)),
        ("Sent by", event.by.is_some().then(|| html! { (sender(event)) })),
        ("End user", text(&event.user).filter(|_| event.by.is_none())),
        ("Session", text(&event.session_label)),
        ("Host", text(&event.target)),
        ("Path", text(&event.path)),
        ("Rule", text(&event.rule)),
        ("Connection", link("connections", &event.connection)),
        (
            "Answer",
            Some(
                html! { span class=(class) { (shown) } @if let (Some(_), Some(status)) = (&event.code, event.status) { " (" (status) ")" } },
            ),
        ),
        ("Outcome", Some(html! { (event.outcome.as_str().replace('_', " ")) })),
        ("Own authorization", text(&event.own_authorization)),
        ("Cut by", event.cut_by.as_ref().map(|by| html! { code { (by) } })),
        ("Attempts", (event.attempts > 1).then(|| html! { (event.attempts) })),
        ("Masked secrets", (event.scrubbed > 0).then(|| html! { (event.scrubbed) })),
        ("Sent", Some(html! { (bytes(event.bytes_in)) })),
        ("Received", Some(html! { (bytes(event.bytes_out)) })),
        ("Time", Some(html! { (event.duration_ms) " ms" })),
        ("Exchange", Some(html! { code { (event.exchange) } })),
    ])
}

/// A decision of policy in words.
pub(super) fn decided(now: &Explanation) -> Markup {
    let action = now.action.as_str();
    html! {
        p {
            @if now.allowed { span.chip.ok { "sent" } } @else { span.chip.bad { "refused" } } " "
            @if now.allowed { b { (match action { "inject" => "with a credential", "pass" => "without a credential", "tunnel" => "in a tunnel that is not inspected", _ => "" }) } }
        }
        (facts(&[
            ("Decided by", super::rules::decider(now)),
            ("Host pattern", now.host.as_ref().map(|host| html! { code { (host) } })),
            ("Connection", now.connection.as_ref().map(|it| html! { a href=(format!("/connections/{}", segment(&it.name))) { (it.name) } " (" (it.provider) ")" })),
            ("Placement", (!now.placements.is_empty()).then(|| html! { @for it in &now.placements { p { code { (it.at) ": " (it.value) } } } })),
            ("Addresses", (!now.addresses.is_empty()).then(|| chips(now.addresses.iter().map(|it| it.address.as_str())))),
        ]))
        @for error in &now.stopped_by {
            div.wrong-box {
                p { code { (error.code) } " " (sentence(&error.message)) }
                @if let Some(hint) = remedy(error.hint.as_deref()) { p { (sentence(hint)) } }
            }
        }
    }
}

/// `1.4 KiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut tenths = count.saturating_mul(10) / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_decimal_and_the_next_unit_from_1024_on() {
        let shown = [0, 1_023, 1_024, 1_535, 1_048_575, 1_048_576].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.4 KiB", "1023.9 KiB", "1.0 MiB"]);
    }
}
