//! `keyward connection list`: its filters and its table.

use clap::Args;

use super::state::state_of;
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::table::{Table, TableLayout};
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
