//! `keyward agent token`: an agent may hold several tokens; each is shown once, with the lines to paste into a
//! shell, and can be revoked alone.

use std::fmt;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::client::{Client, segment};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::proxy_at::ProxyAt;
use crate::cli::resource::path;
use crate::cli::settings::Global;
use crate::cli::terminal::secret::Typed;
use crate::cli::terminal::table::{Table, TableCell, TableLayout};
use keyward_api::wire::TokenIssued;
use keyward_model::{Agent, TokenShown};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// make one and show it once
    #[command(after_help = "examples:\n  keyward agent token add ci --label nightly --ttl 8h\n  \
                            keyward agent token add ci --token-stdin < token.txt")]
    Add(Add),
    /// list them, without their text
    List {
        /// the agent's name or id
        name: String,
    },
    /// revoke one; open streams end
    Revoke {
        /// the agent's name or id
        name: String,
        /// the token's id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// the agent's name or id
    name: String,
    /// what it is for
    #[arg(long)]
    label: Option<String>,
    /// how long it lives, such as 8h; default: until it is revoked
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// read a chosen token from standard input: at least 20 letters, digits, - . _ ~
    #[arg(long)]
    token_stdin: bool,
}

#[derive(Debug, Serialize)]
struct New {
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Typed>,
}

impl Command {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(global, client).await,
            Self::List { name } => {
                let all = client.list(&format!("{}/tokens", path::<Agent>(&name)), &[]).await?;
                output::show(global.json, &all, |all| table(&all.items, &output::layout(global)))
            }
            Self::Revoke { name, id } => {
                client.delete(&format!("{}/tokens/{}", path::<Agent>(&name), segment(&id))).await?;
                let text = format!("token {id} of {name} revoked\n");
                output::removed(global.json, &[id], &text)
            }
        }
    }
}

impl Add {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let token = self.token_stdin.then(Typed::from_stdin).transpose()?;
        let chosen = token.is_some();
        let new = New { label: self.label, ttl: self.ttl, token };
        let token: TokenIssued =
            client.post(&format!("{}/tokens", path::<Agent>(&self.name)), &new).await?;
        output::show(global.json, &token, |token| match chosen {
            // Who chose it has it.
            true => format!("token {} of {} added\n", token.id, self.name),
            false => format!("token {}, shown only now:\n  {}\n", token.id, token.token),
        })
    }
}

/// Tokens for people.
pub(super) fn table(tokens: &[TokenShown], layout: &TableLayout) -> String {
    let mut table = Table::new(["ID", "LABEL", "CREATED", "EXPIRES", "LAST USED"]);
    for token in tokens {
        table.row([
            token.id.to_string().into(),
            token.spec.label.clone().unwrap_or_default().into(),
            token.created.into(),
            token.expires.map_or_else(|| "never".into(), TableCell::from),
            token.last_used.into(),
        ]);
    }
    table.render("no tokens", layout)
}

/// A new token and where it is used.
pub(super) struct Paste<'a> {
    /// The agent's name: the user of the proxy URL.
    pub(super) agent: &'a str,
    /// The token's text.
    pub(super) token: &'a str,
    /// Where the proxy listens.
    pub(super) proxy: ProxyAt,
    /// How the command line is called for this install.
    pub(super) keyward: &'a str,
}

impl fmt::Display for Paste<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, token, proxy, keyward } = self;
        writeln!(f, "its token, shown only now:\n  {token}\n")?;
        writeln!(f, "run a program as it:  {keyward} run --agent {agent} -- CMD")?;
        write!(
            f,
            "for a program that runs elsewhere: {keyward} env --agent {agent} prints what to set"
        )?;
        // The gateway chooses the port when it starts.
        match proxy.addr.port() {
            0 => writeln!(f)?,
            _ => writeln!(f, ", such as\n  HTTPS_PROXY={}", proxy.url(agent, token))?,
        }
        writeln!(f, "\nlet it use a connection: {keyward} agent bind {agent} CONNECTION")
    }
}

impl fmt::Debug for Paste<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paste").field("agent", &self.agent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;

    const PASTE: Paste<'_> = Paste {
        agent: "claude",
        token: "kwa_canary",
        proxy: ProxyAt {
            tls: false,
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            host: None,
        },
        keyward: "keyward",
    };

    #[test]
    fn the_lines_set_proxy_and_roots_for_common_clients() {
        insta::assert_snapshot!(PASTE);
    }

    #[test]
    fn a_port_that_is_not_known_yet_is_not_pasted() {
        let mut paste = PASTE;
        paste.proxy.addr.set_port(0);
        let text = paste.to_string();
        assert!(
            !text.contains("HTTPS_PROXY") && text.contains("keyward env --agent claude"),
            "{text}"
        );
    }

    #[test]
    fn debug_hides_the_token() {
        assert!(!format!("{PASTE:?}").contains("canary"));
    }
}
