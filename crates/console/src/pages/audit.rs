//! `/audit`: the audit log: what agents did and what people changed, with counts and the check of its hash chain.

use axum::Router;
use axum::extract::{Path, Query};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;

use crate::frame::{Page, Section};
use crate::listing::Listing;
use crate::pages::traffic::sender;
use crate::parts::{Tone, ago, count, empty, facts, head, state};
use crate::visit::{Console, PageError, Visit, said, segment, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{AuditCounts, AuditVerified, Change, ErrorView, Event, List, Outcome};

/// Records of a page.
const ROWS: usize = 40;
/// Groups of a count.
const GROUPS: usize = 10;
/// What records are counted by, as in the API, and their headings.
const GROUPINGS: [(&str, &str); 4] =
    [("host", "Host"), ("agent", "Agent"), ("connection", "Connection"), ("code", "Code")];
/// What the log is narrowed to.
const KINDS: [(&str, &str); 4] =
    [("", "All"), ("changes", "Changes"), ("requests", "Requests"), ("refused", "Blocked")];
/// Periods until now.
const PERIODS: [(&str, &str); 4] =
    [("1h", "Last hour"), ("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days")];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    show: Option<String>,
    agent: Option<String>,
    connection: Option<String>,
    host: Option<String>,
    code: Option<String>,
    user: Option<String>,
    event: Option<String>,
    since: Option<String>,
    until: Option<String>,
    by: Option<String>,
    after: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/audit", get(show))
        .route("/audit/verify", get(verify))
        .route("/audit/{seq}", get(record))
}

impl PageQuery {
    /// What narrows the log, with the names that page and API have in common.
    fn filters(&self) -> Vec<(&'static str, &str)> {
        let given = [
            ("agent", &self.agent),
            ("connection", &self.connection),
            ("host", &self.host),
            ("code", &self.code),
            ("user", &self.user),
            ("event", &self.event),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        given.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The entry of [`KINDS`].
    fn kind(&self) -> &str {
        self.show.as_deref().unwrap_or_default()
    }

    /// The entry of [`GROUPINGS`].
    fn grouping(&self) -> &'static str {
        let by = self.by.as_deref().unwrap_or_default();
        GROUPINGS.iter().find(|(code, _)| *code == by).map_or("host", |entry| entry.0)
    }

    /// As a query of the API.
    fn query(&self) -> String {
        let mut query: Vec<_> = self.filters();
        if KINDS.iter().any(|(code, _)| !code.is_empty() && *code == self.kind()) {
            query.push((self.kind_flag(), "true"));
        }
        encoded(&query)
    }

    fn kind_flag(&self) -> &'static str {
        match self.kind() {
            "changes" => "changes",
            "requests" => "requests",
            _ => "refused",
        }
    }

    /// The address of the page with other values.
    fn with(&self, others: &[(&'static str, &str)]) -> String {
        let own = [("show", self.kind()), ("by", self.by.as_deref().unwrap_or_default())];
        let mut query: Vec<_> = self.filters().into_iter().chain(own).collect();
        query.retain(|(name, _)| !others.iter().any(|(other, _)| other == name));
        query.extend(others);
        query.retain(|(_, value)| !value.is_empty());
        format!("/audit?{}", encoded(&query))
    }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    pairs.join("&")
}

/// What the log has for a query.
struct Found {
    list: List<Event>,
    counts: Option<AuditCounts>,
}

async fn found(visit: &Visit, asked: &PageQuery) -> Result<Found, PageError> {
    let query = asked.query();
    let mut path = format!("/audit?limit={ROWS}&{query}");
    if let Some(after) = asked.after.as_deref() {
        path += &format!("&after={}", segment(after));
    }
    let list: List<Event> = visit.get(&path).await?;
    let counts = match asked.kind() {
        "changes" => None,
        _ => {
            let by = asked.grouping();
            Some(visit.get::<AuditCounts>(&format!("/audit/counts?by={by}&{query}")).await?)
        }
    };
    Ok(Found { list, counts })
}

/// The page, also if the API refuses a filter: what was typed stays, with the refusal beside it.
async fn show(
    visit: Visit,
    Query(asked): Query<PageQuery>,
) -> Result<(StatusCode, Page), PageError> {
    let found = match found(&visit, &asked).await {
        Err(PageError::Refused(StatusCode::UNPROCESSABLE_ENTITY, error))
            if error.field.is_some() =>
        {
            Err(error)
        }
        found => Ok(found?),
    };
    let wrong = found.as_ref().err().map(|error| &**error);
    let status = wrong.map_or(StatusCode::OK, |_| StatusCode::UNPROCESSABLE_ENTITY);
    let content = html! {
        (head(
            html! { "Audit" },
            Some(html! { "What agents did and who changed what. Bodies and secrets are not recorded." }),
            html! { a.button href="/audit/verify" { "Verify log" } },
        ))
        (kinds(&asked))
        (filters(&asked, wrong))
        @if let Ok(Found { list, counts }) = &found {
            div.columns[counts.is_some()] {
                section.panel { (records(&asked, list)) }
                @if let Some(counts) = counts { aside { section.panel { (counted(&asked, counts)) } } }
            }
        }
    };
    Ok((status, Page::new(&visit, Section::Audit, "Audit", content)))
}

fn kinds(asked: &PageQuery) -> Markup {
    html! {
        nav.tabs.below aria-label="Records" {
            @for (code, label) in KINDS {
                a href=(asked.with(&[("show", code)])) aria-current=[(asked.kind() == code).then_some("true")] { (label) }
            }
        }
    }
}

/// `wrong`: the refusal of one of them.
fn filters(asked: &PageQuery, wrong: Option<&ErrorView>) -> Markup {
    let is_wrong = |name: &str| wrong.is_some_and(|error| error.field.as_deref() == Some(name));
    let invalid = |name: &str| is_wrong(name).then_some("true");
    let described = |name: &str| is_wrong(name).then_some("wrong-filter");
    let fields = [
        ("agent", "Agent", &asked.agent),
        ("connection", "Connection", &asked.connection),
        ("host", "Host", &asked.host),
        ("code", "Code", &asked.code),
        ("user", "User", &asked.user),
    ];
    let since = asked.since.as_deref().unwrap_or_default();
    let is_own = !since.is_empty() && !PERIODS.iter().any(|(code, _)| *code == since);
    html! {
        form.bar action="/audit" method="get" role="search" {
            @for (name, label, value) in fields {
                input.narrow name=(name) value=[value.as_deref()] placeholder=(label) aria-label=(label)
                    aria-invalid=[invalid(name)] aria-describedby=[described(name)] autocomplete="off";
            }
            select name="since" aria-label="Since" aria-invalid=[invalid("since")] aria-describedby=[described("since")] {
                option value="" { "Any time" }
                @for (code, label) in PERIODS { option value=(code) selected[code == since] { (label) } }
                @if is_own { option value=(since) selected { "Since " (since) } }
            }
            input.narrow name="until" value=[asked.until.as_deref()] placeholder="Until 2026-01-31" aria-label="Until, a day or time"
                aria-invalid=[invalid("until")] aria-describedby=[described("until")] autocomplete="off";
            @for (name, value) in [("show", &asked.show), ("event", &asked.event), ("by", &asked.by)] {
                @if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) { input type="hidden" name=(name) value=(value); }
            }
            button { "Filter" }
            @if !asked.filters().is_empty() { a.button.plain href="/audit" { "Clear" } }
            @if let Some(wrong) = wrong { p #wrong-filter.wrong role="alert" { (said(wrong)) } }
        }
    }
}

fn records(asked: &PageQuery, list: &List<Event>) -> Markup {
    let is_filtered = !asked.filters().is_empty() || !asked.kind().is_empty();
    let all = html! { a.button href="/audit" { "Show all records" } };
    html! {
        @if list.items.is_empty() && list.next.is_some() {
            (empty("No such record in this part of the log", "Older parts may hold some.", None))
        } @else if list.items.is_empty() && (is_filtered || asked.after.is_some()) {
            (empty("No record fits", "Change the filters or the period.", Some(all)))
        } @else if list.items.is_empty() {
            (empty("No record yet", "Requests of agents and changes by people appear here.", None))
        } @else {
            div.wide { table.stack {
                thead { tr { th { "When" } th { "What" } th { "By" } th { "Result" } } }
                tbody { @for event in &list.items { (row(event)) } }
            } }
        }
        @if list.next.is_some() || asked.after.is_some() {
            div.foot.actions {
                @if asked.after.is_some() { a href=(asked.with(&[])) { "Newest" } }
                @if let Some(next) = &list.next { a href=(asked.with(&[("after", next)])) { "Older records" } }
            }
        }
    }
}

fn row(event: &Event) -> Markup {
    let path = match event.change {
        Some(_) => format!("/audit/{}", event.seq),
        None => format!("/traffic/{}", segment(&event.exchange)),
    };
    html! {
        tr.go {
            td.nowrap { (ago(event.time)) }
            td { a.quiet href=(path) { (what(event)) } @if let Some(why) = event.change.as_ref().and_then(|it| it.why.as_deref()) { p.why { (why) } } }
            td.who data-label="By" { (author(event)) }
            td.nowrap { (result(event)) }
        }
    }
}

/// `connection work paused`, or `GET api.github.com/user`.
fn what(event: &Event) -> Markup {
    let target = event.target.as_deref().unwrap_or_default();
    let host = target.strip_prefix("https://").unwrap_or(target);
    let host = host.strip_suffix(":443").unwrap_or(host);
    html! {
        @match &event.change {
            Some(change) => { (change.what) " " @if let Some(name) = &change.name { b { (name) } " " } (change.past_tense()) }
            None if event.count.is_some() => { (event.counted().unwrap_or_default()) }
            None if event.statement.is_some() => { code { (event.statement.as_deref().unwrap_or_default()) } " " (host) }
            None => { span.method { (event.method.as_deref().unwrap_or("–")) } " " (host) (event.path.as_deref().unwrap_or_default()) }
        }
    }
}

fn author(event: &Event) -> Markup {
    html! {
        @match &event.change {
            Some(change) => (changed_by(change)),
            None if event.agent.is_none() => { span.muted[event.by.is_none()] { (sender(event)) } }
            None => {
                (sender(event))
                @if let Some(user) = &event.user { " " span.muted { "for " (user) } }
            }
        }
    }
}

/// The author of a change in words.
fn changed_by(change: &Change) -> &str {
    match (change.user.as_deref(), change.by.as_str()) {
        (Some(user), _) => user,
        (None, "file") => "configuration file",
        (None, by) => by,
    }
}

fn result(event: &Event) -> Markup {
    let text = match (&event.code, event.status) {
        (Some(code), _) => code.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => event.outcome.as_str().replace('_', " "),
    };
    let is_bad = event.outcome == Outcome::Refused || event.status >= Some(500);
    let class = match (event.outcome, event.status) {
        _ if is_bad => "status-bad",
        _ if event.change.is_some() => "muted",
        (Outcome::Completed, Some(..400)) => "status-ok",
        (Outcome::Completed, None) => "muted",
        _ => "status-warn",
    };
    html! { span class=(class) { @if event.change.is_some() && !is_bad { "done" } @else { (text) } } }
}

fn counted(asked: &PageQuery, counts: &AuditCounts) -> Markup {
    let by = asked.grouping();
    let named: Vec<_> = counts.groups.iter().filter(|group| group.name.is_some()).collect();
    let most = named.iter().map(|group| group.count).max().unwrap_or(1);
    let rest = named.iter().skip(GROUPS).map(|group| group.count).sum::<u64>() + counts.other;
    html! {
        header { h2 { "Records by" } nav.tabs aria-label="Records by" {
            @for (code, label) in GROUPINGS {
                a href=(asked.with(&[("by", code)])) aria-current=[(by == code).then_some("true")] { (label) }
            }
        } }
        @if named.is_empty() { div.body { p.muted { "None of these records has one." } } }
        ul.bars {
            @for group in named.iter().take(GROUPS) {
                @let name = group.name.as_deref().unwrap_or_default();
                li {
                    a href=(asked.with(&[(by, name)])) { (name) }
                    span.num { (group.count) }
                    progress max=(most) value=(group.count) aria-label=(format!("{name}: {}", group.count)) {}
                }
            }
        }
        @if rest > 0 { div.foot { (rest) " in other groups" } }
        @if counts.next.is_some() { div.foot { "Counted in the newest part of the log. Narrow the period to count all of it." } }
    }
}

async fn record(visit: Visit, Path(seq): Path<String>) -> Result<Page, PageError> {
    let missing =
        || PageError::missing(Listing::AUDIT, format!("the audit log has no record `{seq:.64}`"));
    let seq = seq.parse::<u64>().map_err(|_| missing())?;
    let before = seq.saturating_add(1);
    let list: List<Event> = visit.get(&format!("/audit?limit=1&after={before}")).await?;
    let event = list.items.first().filter(|event| event.seq == seq).ok_or_else(missing)?;
    let content = html! {
        p.crumb { a href="/audit" { "Audit" } }
        (head(html! { span { (what(event)) } }, Some(html! { (ago(event.time)) " · by " (author(event)) }), html! {}))
        @if event.change.is_none() {
            p { a.button href=(format!("/traffic/{}", segment(&event.exchange))) { "Show request" } }
        }
        section.panel { header { h2 { "Record " (seq) } } div.body { (record_details(event)) } }
    };
    Ok(Page::new(&visit, Section::Audit, "Audit record", content))
}

fn record_details(event: &Event) -> Markup {
    let text = |text: Option<&str>| text.map(|text| html! { (text) });
    let code = |text: Option<&str>| text.map(|text| html! { code { (text) } });
    let change = event.change.as_deref();
    let thing = change.and_then(|change| {
        let name = change.name.as_deref()?;
        Some(match place(change) {
            Some(path) => html! { (change.what) " " a href=(path) { (name) } },
            None => html! { (change.what) " " (name) },
        })
    });
    facts(&[
        ("Resource", thing),
        ("Change", text(change.map(|change| change.past_tense()))),
        ("Result", Some(result(event))),
        ("Explanation", text(change.and_then(|change| change.why.as_deref()))),
        ("Author", text(change.map(changed_by))),
        ("Author id", code(change.map(|change| change.by.as_str()))),
        ("From address", code(change.and_then(|change| change.from.as_deref()))),
        ("Label", text(change.and_then(|change| change.label.as_deref()))),
        ("Event", code(change.and_then(|change| change.event.as_deref()))),
        ("Resource id", code(change.and_then(|change| change.id.as_deref()))),
        ("Request", event.method.as_ref().map(|method| html! { code { (method) " " (event.path.as_deref().unwrap_or_default()) } })),
        ("Statement", code(event.statement.as_deref())),
        ("Time", Some(html! { (event.time) })),
        ("Request id", code(Some(&event.exchange).filter(|id| !id.is_empty()).map(|id| id.as_str()))),
        ("Hash of the record before", code(Some(&event.prev))),
    ])
}

/// The page of the resource that was changed, unless it is gone.
fn place(change: &Change) -> Option<String> {
    let name = change.name.as_deref().filter(|_| change.action != "removed")?;
    let list = match change.what.as_str() {
        "connection" => "connections",
        "agent" => "agents",
        "webhook" => "webhooks",
        "hook" => "incoming",
        "user" => "people",
        "app" => "apps",
        "honeytoken" => return Some("/honeytokens".to_owned()),
        "rule" => return Some("/rules".to_owned()),
        _ => return None,
    };
    Some(format!("/{list}/{}", segment(name)))
}

/// The check of the whole chain.
async fn verify(visit: Visit) -> Result<Page, PageError> {
    let told: AuditVerified = visit.get("/audit/verify").await?;
    let records = usize::try_from(told.records).unwrap_or(usize::MAX);
    let files = usize::try_from(told.files).unwrap_or(usize::MAX);
    let content = html! {
        p.crumb { a href="/audit" { "Audit" } }
        (head(html! { "Audit log" }, None, html! { a.button href="/audit/verify" { "Verify again" } }))
        @match &told.broken {
            None if !told.whole => div.notice.bad role="alert" { div.grow {
                p { (state(Tone::Bad, "changed")) " " b { "The log of a replica was shortened or altered after its end was published." } }
                p { "The list of the replicas' logs says which. Compare it with a copy, and find out who can write to the data directory." }
            } },
            None => div.notice { div.grow {
                p { (state(Tone::Ok, "whole")) " Each of " (count(records, "record")) " in " (count(files, "file")) " follows the one before it." }
                @if told.first > 1 { p.small.muted { "It begins with record " (told.first) ": older files were removed by the limit of the configuration." } }
            } },
            Some(broken) => div.notice.bad role="alert" { div.grow {
                p { (state(Tone::Bad, "broken")) " " b { "A record was changed, removed or added after it was written." } }
                p { "Line " (broken.line) " of " code { (broken.file) } ": " (sentence(&broken.reason)) }
                p.small.muted { (count(records, "record")) " before it are whole. Compare the file with a copy, and find out who can write to the data directory." }
            } },
        }
        section.panel { header { h2 { "Chain" } } div.body {
            (facts(&[
                ("Records", Some(html! { (told.records) })),
                ("Files", Some(html! { (told.files) })),
                ("First record", Some(html! { (told.first) })),
                ("Last record", Some(html! { (told.last) })),
                ("Hash of the last", Some(html! { code { (told.hash) } })),
            ]))
            p.small.muted { "Keep number and hash of the last record elsewhere: they show later that nothing was cut off the end." }
        } }
        @if !told.chains.is_empty() { (super::replicas::show_chains(&told.chains)) }
    };
    Ok(Page::new(&visit, Section::Audit, "Verify audit log", content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn parameters_that_only_the_page_uses_are_not_sent_to_the_api() {
        let asked = PageQuery {
            show: some("nonsense"),
            by: some("x"),
            agent: some(""),
            ..PageQuery::default()
        };
        assert_eq!((asked.query(), asked.grouping()), (String::new(), "host"));
        let asked = PageQuery { show: some("changes"), user: some("a&b"), ..asked };
        assert_eq!(asked.query(), "user=a%26b&changes=true");
    }

    #[test]
    fn a_filter_link_replaces_one_parameter_and_drops_the_page_position() {
        let asked = PageQuery {
            show: some("refused"),
            host: some("a.test"),
            after: some("9"),
            ..PageQuery::default()
        };
        assert_eq!(asked.with(&[("host", "b.test")]), "/audit?show=refused&host=b.test");
        assert_eq!(asked.with(&[("show", "")]), "/audit?host=a.test");
    }

    #[test]
    fn a_removed_resource_has_no_link() {
        let change = |what: &str, action: &str| Change {
            what: what.to_owned(),
            action: action.to_owned(),
            name: some("a/b"),
            ..Change::default()
        };
        assert_eq!(place(&change("connection", "paused")), some("/connections/a%2Fb"));
        assert_eq!(place(&change("connection", "removed")), None);
        assert_eq!(place(&change("run", "started")), None);
    }
}
