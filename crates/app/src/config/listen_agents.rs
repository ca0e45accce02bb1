//! `listen.agents:`: listeners of one agent, for clients that cannot authenticate to a proxy. Every client
//! is the agent, so only this machine can connect, and TCP needs `unsafe_no_auth`.

use serde::Deserialize;
use serde_yaml::Value;

use super::listen_at::{self, ListenAt};
use super::names;
use super::reading::ConfigReading;
use keyward_base::id::OrgId;
use keyward_base::keys::section;
use keyward_rules::provider::document::{item_of, key_of};

/// A listener whose streams are one agent's without a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenAgent {
    /// The agent's name: of the configuration or of the store.
    pub agent: String,
    pub org: OrgId,
    pub at: ListenAt,
}

section! {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct ListenAgentText {
        /// The agent of all requests at this listener.
        #[key("name of an agent", required)]
        #[serde(default)]
        agent: String,
        /// The agent's organisation, created when it is first named.
        #[key("name of an organisation", "default")]
        org: Option<String>,
        /// Only Keyward's own user and root can use a socket. TCP must be on loopback.
        #[key("`unix:PATH` or `IP:PORT`", required)]
        at: Option<Value>,
        /// Must be `true` over TCP, where every program of the machine can act as the agent.
        #[key(one of ["true", "false"], "false")]
        #[serde(default)]
        unsafe_no_auth: bool,
    }
}

pub(super) fn agents(value: Option<&Value>, reading: &mut ConfigReading<'_>) -> Vec<ListenAgent> {
    let mut found = Vec::new();
    for (index, item) in reading.items(value, "listen.agents").iter().enumerate() {
        let path = item_of("listen.agents", index);
        let Some(text) = reading.section::<ListenAgentText>(Some(item), &path) else { continue };
        found.extend(agent(&text, &path, reading));
    }
    found
}

fn agent(
    text: &ListenAgentText,
    path: &str,
    reading: &mut ConfigReading<'_>,
) -> Option<ListenAgent> {
    names::agent(&text.agent, &key_of(path, "agent"), reading);
    let org = reading.org(text.org.as_deref(), &key_of(path, "org"));
    let place = key_of(path, "at");
    let Some(at) = &text.at else {
        let remedy = "add `at: \"unix:ci.sock\"`, or a loopback address";
        reading.problems.add(path, "`at` is missing", remedy);
        return None;
    };
    let at = listen_at::at(at, &place, reading)?;
    if let ListenAt::Tcp(addr) = at {
        if !addr.ip().is_loopback() {
            let message = format!("{addr} is not loopback: others could act as the agent");
            reading.problems.add(&place, message, "write `127.0.0.1:PORT`, or a `unix:` socket");
        } else if !text.unsafe_no_auth {
            let message = "every program of this machine can act as the agent over TCP";
            let remedy = "use a `unix:` socket, or add `unsafe_no_auth: true` when that is meant";
            reading.problems.add(path, message, remedy);
        }
    }
    Some(ListenAgent { agent: text.agent.clone(), org, at })
}
