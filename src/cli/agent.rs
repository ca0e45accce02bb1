//! `keyward agent`: programs that use the proxy, their tokens, and what they may use.

mod set;
mod token;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use self::token::Paste;
use super::allow::{self, Allow};
use super::client::{Client, segment};
use super::derive::{Adding, MemberArgs};
use super::environment::placeholders;
use super::failure::{Exit, Failure};
use super::output;
use super::ownership::{NewOwner, VisibilityArgs, owner_of};
use super::resource::{Column, Columns, Named, ResourceContext, path};
use super::settings::{Global, quoted};
use super::terminal::confirm::Removal;
use super::terminal::table::{TableLayout, fields, moment, pairs};
use keyward_api::wire::{List, TokenIssued};
use keyward_model::{
    Agent, BindingLimits, BindingPatch, BindingShown, BindingSpec, Connection, Reference, Shown,
    TokenShown,
};
use keyward_rules::policy::OwnAuthorization;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// add one, and show its first token once
    #[command(
        after_help = "examples:\n  keyward agent add claude --allow packages --allow github-read\n  \
                            keyward agent add ci --label team=build --env production"
    )]
    Add(Add),
    /// list them
    List {
        /// part of a name or id
        #[arg(long, value_name = "TEXT")]
        q: Option<String>,
    },
    /// show one, with its tokens and bindings
    Show(Named),
    /// change its labels, environment, other hosts, and end users' connections
    #[command(after_help = set::EXAMPLES)]
    Set(set::Set),
    /// its tokens
    #[command(subcommand)]
    Token(token::Command),
    /// let it use connections
    #[command(after_help = "examples:\n  keyward agent bind claude work-github openai\n  \
                            keyward agent bind claude personal-github --default")]
    Bind(Bind),
    /// no longer let it use connections; open streams end
    Unbind(Unbind),
    /// change its owner: a user, or the organisation
    #[command(after_help = "examples:\n  keyward agent assign ci --to ann")]
    Assign {
        #[command(flatten)]
        to: NewOwner,
    },
    /// its tokens are not valid until it is resumed; open streams end
    Pause(Named),
    /// end the pause of a person or an alarm
    Resume(Named),
    /// remove it with its tokens and bindings; open streams end
    Remove(Removal),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// letters, digits, - . _ ~
    name: String,
    #[command(flatten)]
    allow: Allow,
    #[command(flatten)]
    members: MemberArgs<Agent, Adding>,
}

#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// the agent's name or id
    name: String,
    /// names or ids of connections
    #[arg(required = true, value_name = "CONNECTION")]
    connections: Vec<String>,
    /// make them the default of requests that match several connections
    #[arg(long)]
    default: bool,
    /// only these named actions of the provider, such as read-code (repeatable)
    #[arg(long, value_name = "ACTION", value_delimiter = ',')]
    allow: Vec<String>,
    /// not these named actions, also not for plugins (repeatable)
    #[arg(long, value_name = "ACTION", value_delimiter = ',')]
    deny: Vec<String>,
    /// requests with an authorization of their own: pass them as they are, or refuse
    #[arg(long, value_name = "refuse|pass", value_parser = own_authorization)]
    own_authorization: Option<OwnAuthorization>,
    /// remove the limits of a binding: allow all requests of the connection
    #[arg(long, conflicts_with_all = ["allow", "deny"])]
    all_actions: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Unbind {
    /// the agent's name or id
    name: String,
    /// names or ids of connections
    #[arg(required = true, value_name = "CONNECTION")]
    connections: Vec<String>,
}

/// What `agent add` prints as JSON.
#[derive(Debug, Serialize)]
struct Added {
    agent: Shown<Agent>,
    token: TokenIssued,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let asked = ResourceContext { global, client: Client::open(global).await? };
        match self {
            Self::Add(add) => add.run(global, &asked.client).await,
            Self::List { q } => asked.list::<Agent>(q.as_deref()).await,
            Self::Show(Named { name }) => {
                let agent: Shown<Agent> = asked.client.get(&path::<Agent>(&name)).await?;
                let owner = owner_of(&asked.client, agent.facts.owner.as_ref()).await;
                output::show(global.json, &agent, |agent| {
                    show(agent, &owner, &output::layout(global))
                })
            }
            Self::Set(set) => {
                let now = set.run(&asked.client).await?;
                let owner = owner_of(&asked.client, now.facts.owner.as_ref()).await;
                output::show(global.json, &now, |now| show(now, &owner, &output::layout(global)))
            }
            Self::Token(command) => command.run(global, &asked.client).await,
            Self::Bind(bind) => bind.run(global, &asked.client).await,
            Self::Unbind(unbind) => unbind.run(global, &asked.client).await,
            Self::Assign { to } => {
                let seen = VisibilityArgs::default();
                let now: Shown<Agent> = to.run(global, &asked.client, "agent", &seen).await?;
                kept_tokens(&now, Timestamp::now()).iter().for_each(|note| output::note(note));
                Ok(())
            }
            Self::Pause(Named { name }) => set_held(global, &asked.client, &name, "pause").await,
            Self::Resume(Named { name }) => set_held(global, &asked.client, &name, "resume").await,
            Self::Remove(removal) => asked.remove::<Agent>(removal).await,
        }
    }
}

impl Add {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let mut new = set::with_providers(self.members.body()?);
        new.insert("name".to_owned(), self.name.into());
        new.extend(self.allow.given()?.map(|sets| ("allow".to_owned(), sets.into())));
        let agent: Shown<Agent> = client.post("/api/v1/agents", &new).await?;
        let first = serde_json::json!({});
        let at = format!("{}/tokens", path::<Agent>(agent.id.as_str()));
        let token: TokenIssued = client.post(&at, &first).await?;
        let (proxy, keyward) = (global.proxy_at(client).await, global.keyward());
        output::show(global.json, &Added { agent, token }, |Added { agent, token }| {
            let paste =
                Paste { agent: agent.name(), token: &token.token, proxy, keyward: &keyward };
            format!("agent {} added ({})\n\n{paste}", agent.name(), agent.id)
        })
    }
}

impl Bind {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let at = format!("{}/bindings", path::<Agent>(&self.name));
        let mut items: Vec<BindingShown> = Vec::new();
        for connection in &self.connections {
            let connection = Reference::new(connection);
            let (allow, deny) = (given(&self.allow), given(&self.deny));
            let (default, own_authorization) = (self.default, self.own_authorization);
            let spec = BindingSpec { connection, default, allow, deny, own_authorization };
            let bound = client.post(&at, &spec).await;
            let mut bound: BindingShown = match bound {
                Ok(bound) => bound,
                Err(failure) => return Err(self.of_swapped(failure, client).await),
            };
            if self.all_actions && !bound.limits.is_empty() {
                let all =
                    BindingPatch { allow: Some(None), deny: Some(None), ..BindingPatch::default() };
                bound = client.patch(&format!("{at}/{}", bound.connection), &all).await?;
            }
            if !global.json {
                // Printed at once, because the next request may fail.
                output::print(&told(&self.name, &bound))?;
            }
            items.push(bound);
        }
        if global.json {
            output::print_json(&List { items, next: None })?;
        }
        let agent: Shown<Agent> = client.get(&path::<Agent>(&self.name)).await?;
        let placeholders = placeholders::of(agent.name(), &agent.facts.bindings);
        placeholders.notes.iter().for_each(|note| output::note(note));
        Ok(())
    }

    /// A failure for an agent that does not exist. A hint names the order of the arguments if a connection has its name.
    async fn of_swapped(&self, failure: Failure, client: &Client) -> Failure {
        let [agent] = &*self.connections else { return failure };
        let connection: Result<Shown<Connection>, _> =
            client.get(&path::<Connection>(&self.name)).await;
        match failure.exit() == Exit::NotFound && connection.is_ok() {
            true => {
                let name = &self.name;
                failure.hint(format!("the agent comes first: keyward agent bind {agent} {name}"))
            }
            false => failure,
        }
    }
}

impl Unbind {
    async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        for connection in &self.connections {
            client
                .delete(&format!("{}/bindings/{}", path::<Agent>(&self.name), segment(connection)))
                .await?;
            if !global.json {
                // Printed at once, because the next request may fail.
                output::print(&format!("{connection} unbound from {}\n", self.name))?;
            }
        }
        output::removed(global.json, &self.connections, "")
    }
}

/// The items of a repeated option, if there are any.
fn given(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// A binding just made.
fn told(agent: &str, binding: &BindingShown) -> String {
    let BindingShown { name, provider, .. } = binding;
    format!("{name} ({provider}) bound to {agent}\n{}{}", limits(binding), lines(binding))
}

/// `refuse` or `pass`, as an argument.
fn own_authorization(text: &str) -> Result<OwnAuthorization, String> {
    serde_json::from_value(text.into()).map_err(|_| "write refuse or pass".to_owned())
}

/// A line for each list of actions.
fn limits(binding: &BindingShown) -> String {
    let BindingLimits { allow, deny, own_authorization } = &binding.limits;
    let lists = [("allowed", allow), ("denied", deny)].into_iter();
    let lists = lists.filter(|(_, names)| !names.is_empty());
    let lists = lists.map(|(what, names)| format!("  actions {what}: {}\n", names.join(", ")));
    let own = Some(own_authorization.text()).filter(|text| !text.is_empty());
    lists.chain(own.map(|text| format!("  own authorization: {text}\n"))).collect()
}

/// Lines that set the variables that SDKs read.
fn lines(binding: &BindingShown) -> String {
    let mut text = String::new();
    for (variable, value) in &binding.env {
        text.push_str(&format!("  export {variable}={}\n", quoted(value)));
    }
    if binding.env.is_empty() {
        for (field, placeholder) in &binding.placeholders {
            text.push_str(&format!("  instead of {field}: {placeholder}\n"));
        }
    }
    text
}

impl Columns for Agent {
    const COLUMNS: &[Column<Self>] = &[
        Column::listed("NAME", |it| {
            let paused = if it.facts.paused { " (paused)" } else { "" };
            format!("{}{paused}", it.name())
        }),
        Column::in_full("ID", |it| it.id.to_string()),
        Column::listed("ENV", |it| it.spec.environment.clone().unwrap_or_default()),
        Column::listed("TOKENS", |it| live_tokens(it, Timestamp::now()).len().to_string()),
        Column::list("CONNECTIONS", |it| {
            it.facts.bindings.iter().map(|bound| bound.name.clone()).collect()
        }),
        Column::listed("LABELS", |it| pairs(&it.spec.labels)),
    ];

    const HINT: &str = ": add one with `keyward agent add NAME`";

    fn losses(agent: &Shown<Self>) -> Vec<String> {
        let tokens = match live_tokens(agent, Timestamp::now()).len() {
            0 => None,
            1 => Some("its token and its open streams end".to_owned()),
            count => Some(format!("its {count} tokens and its open streams end")),
        };
        let bound: Vec<_> = agent.facts.bindings.iter().map(|it| it.name.as_str()).collect();
        let bound = match bound.is_empty() {
            true => None,
            false => Some(format!("it is bound to {}: the connections stay", bound.join(", "))),
        };
        tokens.into_iter().chain(bound).collect()
    }
}

async fn set_held(global: &Global, client: &Client, name: &str, verb: &str) -> Result<(), Failure> {
    let at = format!("{}/{verb}", path::<Agent>(name));
    let now: Shown<Agent> = client.post(&at, &serde_json::json!({})).await?;
    output::show(global.json, &now, |now| match state(now) {
        "" => format!("agent {} is active\n", now.name),
        paused => format!("agent {} is {paused}\n", now.name),
    })
}

/// Without those that expired, which are kept for a day: a run may renew its own.
fn live_tokens(agent: &Shown<Agent>, now: Timestamp) -> Vec<&TokenShown> {
    let is_live = |token: &&TokenShown| token.expires.is_none_or(|expires| now < expires);
    agent.facts.tokens.iter().filter(is_live).collect()
}

/// What a new owner has to know: the owner before may have the tokens.
fn kept_tokens(agent: &Shown<Agent>, now: Timestamp) -> Option<String> {
    let name = &agent.name;
    match live_tokens(agent, now).as_slice() {
        [] => None,
        [one] => Some(format!(
            "note: its token stays valid: `keyward agent token revoke {name} {}` revokes it",
            one.id
        )),
        all => Some(format!(
            "note: its {} tokens stay valid: `keyward agent token list {name}` shows them, \
             `keyward agent token revoke {name} ID` revokes one",
            all.len()
        )),
    }
}

fn state(agent: &Shown<Agent>) -> &'static str {
    match (agent.facts.paused, agent.facts.held) {
        (_, true) => "paused, until `keyward agent resume`",
        (true, false) => "paused: it is no longer in the configuration",
        (false, false) => "",
    }
}

fn show(agent: &Shown<Agent>, owner: &str, layout: &TableLayout) -> String {
    let state = state(agent);
    let mut text = fields(&[
        ("name", agent.name.clone()),
        ("id", agent.id.to_string()),
        ("state", state.to_owned()),
        ("environment", agent.environment.clone().unwrap_or_default()),
        ("owner", owner.to_owned()),
        ("other hosts", allow::text(agent.allow.as_deref())),
        ("end users at", agent.user_providers.join(", ")),
        ("labels", pairs(&agent.labels)),
        ("listeners", agent.facts.listeners.join(", ")),
        ("selection", selection(agent).to_owned()),
        ("created", moment(agent.created)),
    ]);
    text.push_str("\ntokens\n");
    text.push_str(&token::table(&agent.facts.tokens, layout));
    text.push_str("\nconnections\n");
    for binding in &agent.facts.bindings {
        let BindingShown { name, provider, slots, .. } = binding;
        let slots = slots.iter().map(|it| format!(", slot {} of {}", it.slot, it.plugin));
        let slots: String = slots.collect();
        let default = if is_default_of_several(agent, binding) { ", default" } else { "" };
        text.push_str(&format!("{name} ({provider}{default}{slots})\n"));
        text.push_str(&limits(binding));
        text.push_str(&lines(binding));
    }
    if agent.facts.bindings.is_empty() {
        let none = "none: bind one with";
        text.push_str(&format!("{none} `keyward agent bind {} CONNECTION`\n", agent.name));
    }
    text
}

fn selection(agent: &Shown<Agent>) -> &'static str {
    match agent.require_selection {
        true => "required: a request that matches several connections must select one",
        false => "",
    }
}

/// Whether it is the default among several connections of its provider.
fn is_default_of_several(agent: &Shown<Agent>, binding: &BindingShown) -> bool {
    let is_other = |it: &&BindingShown| it.connection != binding.connection;
    let mut others = agent.facts.bindings.iter().filter(is_other);
    binding.default && others.any(|other| other.provider == binding.provider)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::resource::table;
    use crate::cli::terminal::table::TableLayout;

    fn agent() -> Shown<Agent> {
        serde_json::from_value(serde_json::json!({
            "id": "agt_1", "name": "claude", "environment": "dev", "labels": {"team": "a"},
            "managed_by": "store", "paused": false, "created": "2025-01-02T03:04:05Z",
            "tokens": [{"id": "tok_1", "label": "laptop", "created": "2025-01-02T03:04:05Z",
                        "expires": null}],
            "bindings": [{"connection": "con_1", "name": "work", "provider": "github",
                          "managed_by": "store", "created": "2025-01-02T03:04:05Z",
                          "placeholders": {"token": "ghp_kwph"},
                          "env": {"GH_TOKEN": "ghp_kwph", "GITHUB_TOKEN": "ghp_kwph"}}],
        }))
        .unwrap()
    }

    #[test]
    fn the_note_about_tokens_that_stay_valid_omits_expired_tokens() {
        let (mut agent, now) = (agent(), Timestamp::UNIX_EPOCH);
        agent.facts.tokens[0].expires = Some(now);
        assert_eq!(kept_tokens(&agent, now), None);
        let mut live = agent.facts.tokens[0].clone();
        live.expires = None;
        agent.facts.tokens.push(live);
        let said = kept_tokens(&agent, now).unwrap();
        assert!(said.starts_with("note: its token stays valid"), "{said}");
    }

    #[test]
    fn an_agent_is_shown_with_its_tokens_and_connections() {
        insta::assert_snapshot!(show(&agent(), "", &TableLayout::FULL));
    }

    #[test]
    fn agents_are_listed_in_a_table() {
        insta::assert_snapshot!(table(&[agent()], &TableLayout::FULL));
    }

    #[test]
    fn a_new_binding_is_shown_with_export_lines_for_its_placeholders() {
        insta::assert_snapshot!(told("claude", &agent().facts.bindings[0]));
    }
}
