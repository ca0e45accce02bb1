//! `keyward stream`: requests, WebSockets and tunnels of agents that are open now.

use clap::{Args, Subcommand};

use super::client::{Client, segment};
use super::failure::Failure;
use super::output;
use super::settings::Global;
use super::terminal::table::{Table, TableLayout};
use keyward_api::wire::{List, StreamView};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// list those that are open
    #[command(after_help = "examples:\n  keyward stream list --agent ci\n  \
        keyward stream list --host api.openai.com")]
    List(StreamSearch),
    /// cut one: it ends at once, and its agent keeps its access
    #[command(
        after_help = "The program sees that its stream ends early; a WebSocket is closed with 1008. It\n\
        may send the request again: `keyward agent pause` and `keyward connection pause`\n\
        prevent that."
    )]
    Cut {
        /// the id, as `keyward stream list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct StreamSearch {
    /// only those of this agent: name or id
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// only those that use this connection: name or id
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// only those to this host: HOST or HOST:PORT
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// part of an id, a host, a path or a name
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open(global).await?;
        match self {
            Self::List(search) => search.run(global, &client).await,
            Self::Cut { id } => {
                client.delete(&format!("/api/v1/streams/{}", segment(&id))).await?;
                let text = format!("stream {id} cut\n");
                output::removed(global.json, &[id], &text)
            }
        }
    }
}

impl StreamSearch {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let filters = [
            ("agent", self.agent.as_deref()),
            ("connection", self.connection.as_deref()),
            ("host", self.host.as_deref()),
            ("q", self.q.as_deref()),
        ];
        let all: List<StreamView> = client.list("/api/v1/streams", &filters).await?;
        output::show(global.json, &all, |all| table(&all.items, &output::layout(global)))
    }
}

fn table(all: &[StreamView], layout: &TableLayout) -> String {
    let headings =
        ["ID", "AGENT", "USER", "CONNECTION", "REQUEST", "KIND", "SENT", "RECEIVED", "SINCE"];
    let mut table =
        Table::new(headings).only_in_full(&["KIND", "SENT", "RECEIVED"]).never_cut(&["ID"]);
    for stream in all {
        table.row([
            stream.id.as_str().into(),
            stream.agent.as_str().into(),
            stream.user.clone().unwrap_or_default().into(),
            stream.connection.clone().unwrap_or_default().into(),
            // As lines of `keyward logs` have it.
            stream.request().replacen("https://", "", 1).into(),
            output::word(&stream.kind).into(),
            stream.bytes_in.to_string().into(),
            stream.bytes_out.to_string().into(),
            stream.since.into(),
        ]);
    }
    table.render("no open streams", layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_fit_a_terminal_and_their_ids_are_whole() {
        let stream = |path: &str, kind: &str| {
            serde_json::json!({
                "id": "exc_0123456789abcdefghjk", "kind": kind, "agent": "support", "agent_id": "agt_1",
                "connection": "openai-of-42", "target": "https://api.openai.com", "method": "POST",
                "path": path, "since": "2025-01-02T11:58:00Z", "bytes_in": 12, "bytes_out": 3_000_000,
            })
        };
        let mut tunnel = stream("", "tunnel");
        for absent in ["method", "path", "connection"] {
            tunnel.as_object_mut().unwrap().remove(absent);
        }
        let all = [
            stream("/v1/chat/completions", "request"),
            stream("/v1/realtime", "websocket"),
            tunnel,
        ];
        let all = all.map(|it| serde_json::from_value::<StreamView>(it).unwrap());
        insta::assert_snapshot!(table(&all, &TableLayout::narrow()));
        insta::assert_snapshot!(table(&all, &TableLayout::FULL));
        assert_eq!(table(&[], &TableLayout::FULL), "no open streams\n");
    }
}
