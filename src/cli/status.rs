//! `keyward status`: the gateway, its connections and agents, and the last refusals on one screen.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::settings::{self, Global};
use super::terminal::table::{Table, TableCell, TableLayout, fields, relative};
use super::{connection, output};
use keyward_api::wire::{Event, List, SharedStoreView, Status, TelemetryView};
use keyward_model::{Agent, Connection, ConnectionState, Shown};

/// Refusals on the screen.
const REFUSALS: &str = "5";

/// More agents are counted, not named.
const AGENTS_NAMED_MAX: usize = 20;

#[derive(Debug, Serialize)]
struct StatusOverview {
    /// `null`: none is running, or its status cannot be read.
    gateway: Option<Status>,
    /// Why the status of a running gateway cannot be read.
    #[serde(skip)]
    unread: Option<String>,
    connections: Vec<Shown<Connection>>,
    agents: Vec<Shown<Agent>>,
    /// The newest, newest first; `null`: the audit log cannot be read.
    refusals: Option<Vec<Event>>,
}

pub(crate) async fn run(global: &Global) -> Result<(), Failure> {
    let client = Client::open(global).await?;
    let (gateway, unread) = match client.read_status().await {
        Ok(gateway) => (gateway, None),
        // Nothing else can be asked.
        Err(failure) if failure.exit() == Exit::Unreachable => return Err(failure),
        Err(failure) => (None, Some(failure.message())),
    };
    // Not of the API: those are the reader's own commands.
    let path = format!("/api/v1/audit?requests=true&refused=true&limit={REFUSALS}");
    let refusals = client.get(&path).await.ok();
    let overview = StatusOverview {
        gateway,
        unread,
        connections: client.list("/api/v1/connections", &[]).await?.items,
        agents: client.list("/api/v1/agents", &[]).await?.items,
        refusals: refusals.map(|page: List<Event>| page.items),
    };
    let keyward = match client.is_private() {
        true => with_file_before(global).keyward(),
        false => global.keyward(),
    };
    output::show(global.json, &overview, |overview| {
        overview.text(&keyward, &output::layout(global))
    })
}

/// With the configuration file that the last gateway was given, if this command was given none.
fn with_file_before(global: &Global) -> Global {
    let config = global.load().ok();
    let before = config.and_then(|config| config.file_before().map(Path::to_owned));
    Global { config: before.or_else(|| global.config.clone()), ..global.clone() }
}

impl StatusOverview {
    fn text(&self, keyward: &str, layout: &TableLayout) -> String {
        let mut rows = match (&self.gateway, &self.unread) {
            (Some(gateway), _) => about(gateway, layout.now),
            (None, Some(why)) => {
                vec![("gateway", format!("runs; its status cannot be read: {why}"))]
            }
            (None, None) => {
                vec![("gateway", format!("not running: `{keyward} serve` starts it"))]
            }
        };
        rows.push(("connections", self.connections(keyward)));
        rows.push(("next expiry", self.next_expiry(layout.now)));
        rows.push(("agents", self.agents(keyward)));
        let mut text = fields(&rows);
        let remedies = self.connections.iter().filter_map(|connection| {
            let remedy =
                connection.facts.remedy.as_deref()?.replace("`keyward ", &format!("`{keyward} "));
            let state = connection::state::state(&connection.facts.state);
            Some(format!("{}: {state}\n  {remedy}\n", connection.name()))
        });
        let remedies: String = remedies.collect();
        if !remedies.is_empty() {
            text += &format!("\n{remedies}");
        }
        match self.refusals.as_deref() {
            None | Some([]) => {}
            Some(refusals) => {
                text += "\nlast refusals\n";
                text += &table(refusals).render("", layout);
            }
        }
        text
    }

    /// `3: 2 active, 1 broken`.
    fn connections(&self, keyward: &str) -> String {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for connection in &self.connections {
            *states.entry(word(&connection.facts.state)).or_default() += 1;
        }
        let states: Vec<_> =
            states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        match self.connections.len() {
            0 => format!("none: make one with `{keyward} connect`"),
            count => format!("{count}: {}", states.join(", ")),
        }
    }

    fn next_expiry(&self, now: Timestamp) -> String {
        let dates = self.connections.iter().flat_map(|connection| {
            let due = connection.facts.due.map(|due| due.at);
            let dates = connection.facts.ends.into_iter().chain(due);
            dates.map(|at| (at, connection.name()))
        });
        let next = dates.min();
        next.map(|(at, name)| format!("{name}, {}", relative(at, now))).unwrap_or_default()
    }

    fn agents(&self, keyward: &str) -> String {
        if self.agents.is_empty() {
            return format!("none: add one with `{keyward} agent add NAME`");
        }
        let is_paused = |agent: &Shown<Agent>| agent.facts.paused || agent.facts.held;
        if self.agents.len() > AGENTS_NAMED_MAX {
            let paused = match self.agents.iter().filter(|agent| is_paused(agent)).count() {
                0 => String::new(),
                count => format!(", {count} paused"),
            };
            return format!("{}{paused}: see `{keyward} agent list`", self.agents.len());
        }
        let names = self.agents.iter().map(|agent| match is_paused(agent) {
            true => format!("{} (paused)", agent.name()),
            false => agent.name().to_owned(),
        });
        TableCell::List(names.collect()).in_full()
    }
}

fn about(gateway: &Status, now: Timestamp) -> Vec<(&'static str, String)> {
    let process = gateway.process.map(|id| format!(", process {id}"));
    let started = gateway.started.map(|at| format!(", started {}", relative(at, now)));
    let state = [
        format!("{}, version {}", gateway.status, gateway.version),
        process.unwrap_or_default(),
        started.unwrap_or_default(),
    ];
    let reload = gateway.reload.as_ref().map(|reload| match &reload.errors[..] {
        [] => relative(reload.time, now),
        [first, ..] if reload.incomplete => {
            format!("interrupted {}, may be in force in part: {first}", relative(reload.time, now))
        }
        [first, ..] => format!("refused {}: {first}", relative(reload.time, now)),
    });
    let mut rows = vec![
        ("gateway", state.concat()),
        ("proxy", gateway.proxy.join(", ")),
        ("admin", settings::admin_url(&gateway.admin)),
        ("data", gateway.data.clone()),
    ];
    rows.extend(gateway.faults.iter().map(|it| ("fails", format!("{}: {}", it.message, it.hint))));
    rows.extend(gateway.store.as_ref().map(|it| ("store", shared_store(it))));
    rows.extend(gateway.telemetry.as_ref().map(|it| ("telemetry", telemetry(it, now))));
    let failed = gateway.databases_failed.iter();
    rows.extend(failed.map(|it| ("not open", format!("{}: {}", it.name, it.problem))));
    rows.push(("reload", reload.unwrap_or_default()));
    rows
}

/// `3 replicas; changes until 0.2s ago are in force`.
fn shared_store(store: &SharedStoreView) -> String {
    let seconds = |ms: u64| format!("{:.1}s", Duration::from_millis(ms).as_secs_f64());
    let plural = if store.replicas == 1 { "" } else { "s" };
    let mut text = format!(
        "{} replica{plural}; changes until {} ago are in force",
        store.replicas,
        seconds(store.staleness_ms)
    );
    if store.staleness_ms > store.stale_max_ms {
        text += &format!(", the bound is {}", seconds(store.stale_max_ms));
    }
    if store.outdated {
        text += "; a newer version changed it: update this gateway";
    }
    text
}

fn telemetry(telemetry: &TelemetryView, now: Timestamp) -> String {
    let TelemetryView { endpoint, failure, .. } = telemetry;
    let signals = telemetry.signals();
    match failure {
        None => format!("{signals} to {endpoint}"),
        Some(failure) => {
            let when = relative(failure.time, now);
            format!("{signals} to {endpoint}: failed {when}, {}", failure.why)
        }
    }
}

fn word(state: &ConnectionState) -> &'static str {
    match state {
        ConnectionState::Draft { .. } => "draft",
        ConnectionState::Testing => "testing",
        ConnectionState::Active => "active",
        ConnectionState::Paused => "paused",
        ConnectionState::Broken { .. } => "broken",
    }
}

fn table(refusals: &[Event]) -> Table {
    let mut table = Table::new(["WHEN", "AGENT", "CODE", "REQUEST"]);
    for record in refusals {
        let target = record.target.as_deref().unwrap_or_default();
        let target = target.strip_prefix("https://").unwrap_or(target);
        let target = target.strip_suffix(":443").unwrap_or(target);
        // A session with a database has neither a method nor a path.
        let words: Vec<_> = record.method.as_deref().into_iter().chain([target]).collect();
        let request = format!("{}{}", words.join(" "), record.path.as_deref().unwrap_or_default());
        table.row([
            record.time.into(),
            record.agent.as_deref().unwrap_or("-").into(),
            record.code.as_deref().unwrap_or_default().into(),
            request.into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(name: &str, paused: bool) -> Shown<Agent> {
        serde_json::from_value(json!({
            "id": "agt_1", "name": name, "managed_by": "store", "paused": paused,
            "created": "2025-01-01T03:04:05Z", "tokens": [], "bindings": [],
        }))
        .unwrap()
    }

    fn overview() -> StatusOverview {
        let connection = |name: &str, state: serde_json::Value| {
            let mut connection = json!({
                "id": "con_1", "name": name, "provider": "github", "auth": "token",
                "managed_by": "store", "created": "2025-01-01T03:04:05Z",
                "environment": null, "hosts": ["api.github.com"],
            });
            connection.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
            serde_json::from_value(connection).unwrap()
        };
        let gateway = json!({
            "status": "ready", "version": "0.1.0", "process": 4711, "started": "2025-01-02T09:00:00Z",
            "proxy": ["127.0.0.1:8080"], "admin": "127.0.0.1:8081", "data": "/data", "ca": "/data/ca.pem",
            "reload": { "time": "2025-01-02T11:55:00Z", "errors": ["keyward.yaml:3: rules[0]: no agent `x`"],
                        "warnings": [] },
        });
        let refused = json!({
            "v": 1, "seq": 1, "prev": "", "time": "2025-01-02T11:58:00Z", "exchange": "exc_1",
            "agent": "a-name-of-20-letters", "target": "https://files.pythonhosted.org:443",
            "method": "GET", "path": "/packages/a/very/long/path/to/a/file.whl", "status": 403,
            "code": "denied", "bytes_in": 0, "bytes_out": 0, "duration_ms": 1, "outcome": "refused",
        });
        StatusOverview {
            gateway: Some(serde_json::from_value(gateway).unwrap()),
            unread: None,
            connections: vec![
                connection("work", json!({ "state": "active", "ends": "2025-01-07T12:00:00Z" })),
                connection(
                    "mail",
                    json!({ "state": "broken", "reason": "revoked", "detail": null,
                            "remedy": "connect again: `keyward connection reconnect mail`" }),
                ),
            ],
            agents: vec![agent("claude", false), agent("ci", true)],
            refusals: Some(vec![serde_json::from_value(refused).unwrap()]),
        }
    }

    #[test]
    fn one_screen_has_state_remedies_and_refusals() {
        let text = overview().text("keyward", &TableLayout::narrow());
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn many_agents_are_counted() {
        let mut overview = overview();
        overview.agents = (0..AGENTS_NAMED_MAX).map(|n| agent(&format!("a{n}"), false)).collect();
        assert!(overview.agents("keyward").contains("a19"), "all are named");
        overview.agents.push(agent("last", true));
        assert_eq!(overview.agents("keyward"), "21, 1 paused: see `keyward agent list`");
    }

    #[test]
    fn a_refused_session_with_a_database_begins_with_its_target() {
        let refused = json!({
            "v": 1, "seq": 1, "prev": "", "time": "2025-01-02T11:58:00Z", "exchange": "exc_1",
            "agent": "ci", "target": "postgres://db.test:5432", "code": "denied", "bytes_in": 0,
            "bytes_out": 0, "duration_ms": 1, "outcome": "refused",
        });
        let text =
            table(&[serde_json::from_value(refused).unwrap()]).render("", &TableLayout::narrow());
        assert!(text.contains("denied  postgres://db.test:5432"), "{text}");
    }

    #[test]
    fn the_status_of_a_shared_store_shows_the_age_of_its_view() {
        let store = |staleness_ms, outdated| {
            let view =
                SharedStoreView { staleness_ms, stale_max_ms: 60_000, outdated, replicas: 3 };
            shared_store(&view)
        };
        assert_eq!(store(240, false), "3 replicas; changes until 0.2s ago are in force");
        assert!(store(61_000, false).ends_with("61.0s ago are in force, the bound is 60.0s"));
        assert!(store(240, true).ends_with("update this gateway"));
    }

    #[test]
    fn an_empty_installation_without_a_gateway_says_what_to_do() {
        let overview = StatusOverview {
            gateway: None,
            unread: None,
            connections: Vec::new(),
            agents: Vec::new(),
            refusals: None,
        };
        insta::assert_snapshot!(overview.text("keyward --data d", &TableLayout::narrow()), @r"
        gateway       not running: `keyward --data d serve` starts it
        connections   none: make one with `keyward --data d connect`
        agents        none: add one with `keyward --data d agent add NAME`
        ");
    }

    #[test]
    fn a_gateway_whose_status_cannot_be_read_is_not_said_to_be_absent() {
        let unread = Some("this token may not read it".to_owned());
        let overview = StatusOverview { gateway: None, unread, ..overview() };
        let text = overview.text("keyward", &TableLayout::narrow());
        let says = "runs; its status cannot be read: this token may not read it";
        assert!(text.contains(says) && !text.contains("not running"), "{text}");
    }
}
