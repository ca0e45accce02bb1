//! `keyward connection list`: its filters and its table. `keyward connection usage`: requests and failures of a
//! connection, its agents, and the state of its tokens.

use clap::Args;

use super::state::{path, state_of};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::table::{Table, TableLayout, fields, moment};
use keyward_api::wire::UsageView;
use keyward_model::{Connection, Shown};

/// Which connections are listed; all, where nothing is given.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ConnectionSearch {
    /// part of a name, id, provider, account, description or tag
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
    /// those of a provider
    #[arg(long, value_name = "ID")]
    provider: Option<String>,
    /// those in a state
    #[arg(long, value_parser = ["draft", "testing", "active", "paused", "broken"])]
    state: Option<String>,
    /// those with a tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// those of an environment
    #[arg(long = "env", visible_alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// those of this owner
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// those whose secret must be replaced within two weeks
    #[arg(long)]
    due: bool,
}

impl ConnectionSearch {
    /// As the API takes it.
    pub(super) fn filters(&self) -> [(&'static str, Option<&str>); 7] {
        [
            ("q", self.q.as_deref()),
            ("provider", self.provider.as_deref()),
            ("state", self.state.as_deref()),
            ("tag", self.tag.as_deref()),
            ("environment", self.environment.as_deref()),
            ("owner", self.owner.as_deref()),
            ("due", self.due.then_some("true")),
        ]
    }

    /// Whether nothing is omitted.
    pub(super) fn is_all(&self) -> bool {
        self.filters().iter().all(|(_, value)| value.is_none())
    }
}

/// The table, and below it what is to be done about some.
pub(super) fn shown(global: &Global, connections: &[Shown<Connection>], is_all: bool) -> String {
    let remedies =
        connections.iter().filter_map(|it| Some((&it.name, it.facts.remedy.as_deref()?)));
    let lines = remedies.map(|(name, text)| format!("hint: {name}: {}\n", global.remedy(text)));
    table(connections, is_all, &output::layout(global)) + &lines.collect::<String>()
}

/// `is_all`: nothing was searched for.
pub(super) fn table(
    connections: &[Shown<Connection>],
    is_all: bool,
    layout: &TableLayout,
) -> String {
    let mut table =
        Table::new(["NAME", "ID", "PROVIDER", "AUTH", "ENV", "STATE", "ACCOUNT", "SECRET DUE"])
            .only_in_full(&["ID", "AUTH"]);
    for connection in connections {
        table.row([
            connection.name.clone().into(),
            connection.id.to_string().into(),
            connection.provider.clone().into(),
            connection.method().into(),
            connection.environment.clone().unwrap_or_default().into(),
            state_of(connection).into(),
            connection.facts.account.clone().unwrap_or_default().into(),
            connection.facts.due.map(|due| due.at).into(),
        ]);
    }
    let empty = match is_all {
        true => "no connections: make one with `keyward connect`",
        false => "no connection matches: `keyward connection list` shows all",
    };
    table.render(empty, layout)
}

pub(super) const USAGE_HELP: &str = "\
Counted in memory since the gateway began; `keyward usage --connection NAME` has
the last 30 days. Latencies are times until an answer begins, rounded up to a
power of two of milliseconds.";

pub(super) async fn show_usage(
    global: &Global,
    client: &Client,
    name: &str,
) -> Result<(), Failure> {
    let usage: UsageView = client.get(&format!("{}/usage", path(name))).await?;
    output::show(global.json, &usage, |usage| shown_usage(usage, &output::layout(global)))
}

fn shown_usage(usage: &UsageView, layout: &TableLayout) -> String {
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
