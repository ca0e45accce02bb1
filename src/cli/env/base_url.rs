//! The environment of a program that uses a base URL and an API key instead of a proxy.

use crate::cli::client::Client;
use crate::cli::connection::state::path;
use crate::cli::connection::{base_url, default_host};
use crate::cli::environment::AgentEnvironment;
use crate::cli::environment::files::EnvironmentFiles;
use crate::cli::failure::Failure;
use keyward_base::host::{Scheme, Target};
use keyward_model::{Agent, Connection, Shown};
use keyward_rules::provider::environment;

const URL: &str = "KEYWARD_BASE_URL";

/// The agent's token, used as the API key. `KEYWARD_TOKEN` is a user's.
const TOKEN: &str = "KEYWARD_AGENT_TOKEN";

/// A connection of an agent, used through its base URL.
#[derive(Debug)]
pub(super) struct Based {
    name: String,
    host: Option<String>,
    /// The upstream of the URL.
    stands_for: String,
    /// The variables from which the provider's SDKs read their keys.
    keys: Vec<String>,
    notes: Vec<String>,
}

impl Based {
    /// `named` is `CONNECTION` or `CONNECTION@HOST`.
    ///
    /// # Errors
    /// When there is no such connection, or its host is ambiguous.
    pub(super) async fn of(
        client: &Client,
        agent: &Shown<Agent>,
        named: &str,
    ) -> Result<Self, Failure> {
        let (name, host) = match named.split_once('@') {
            Some((name, host)) => (name, Some(host.to_owned())),
            None => (named, None),
        };
        if host.as_deref().is_some_and(|host| Target::parse(Scheme::Https, host).is_err()) {
            return Err(Failure::usage("the text after `@` is not a host")
                .hint("use one of the connection's hosts, without wildcards"));
        }
        let connection: Shown<Connection> = client.get(&path(name)).await?;
        let Some(stands_for) = host.as_deref().or_else(|| default_host(&connection)) else {
            let hosts = connection.facts.hosts.join(", ");
            return Err(Failure::usage(format!("`{name}` has several hosts: {hosts}"))
                .hint(format!("choose one: --base-url {name}@HOST")));
        };
        let stands_for = format!("https://{stands_for}");
        let binding =
            agent.facts.bindings.iter().find(|binding| binding.connection == connection.id);
        let mut notes = Vec::new();
        if binding.is_none() {
            notes.push(format!(
                "note: agent {} is not bound to {name}: only a rule with `agents` and `use` lets it \
                 in (`keyward agent bind {} {name}`)",
                agent.name(),
                agent.name()
            ));
        }
        // Their values are the token, which is plain text.
        let keys = binding.into_iter().flat_map(|binding| binding.env.keys());
        let keys = keys.filter(|name| environment::may_set(name)).cloned().collect();
        Ok(Self { name: connection.spec.name, host, stands_for, keys, notes })
    }

    /// Its variables.
    pub(super) fn environment(self, proxy: &str, token: &str) -> AgentEnvironment {
        let Self { name, host, stands_for, keys, mut notes } = self;
        let url = base_url(proxy, &name, host.as_deref());
        notes.push(format!(
            "hint: in the program, replace {stands_for} by {url}, and use ${TOKEN} as its API key"
        ));
        let keys = keys.into_iter().map(|key| (key, token.to_owned()));
        let ours = [(URL.to_owned(), url), (TOKEN.to_owned(), token.to_owned())];
        AgentEnvironment {
            variables: ours.into_iter().chain(keys).collect(),
            removed: Vec::new(),
            files: EnvironmentFiles { all: Vec::new() },
            notes,
        }
    }
}
