//! Asks at a terminal for the connection of each slot of a plugin: an existing one, a new one by consent or by key, or
//! none.

use std::collections::{BTreeSet, HashSet};

use serde_json::json;

use super::reconnect;
use crate::cli::connect::questions::{self, AnswerSource, Questions};
use crate::cli::connect::{self, ConnectContext};
use crate::cli::connection::options::Options;
use crate::cli::connection::shape::Shapes;
use crate::cli::failure::{Exit, Failure};
use crate::cli::signals::Signals;
use crate::cli::{output, terminal};
use keyward_api::wire::ProviderView;
use keyward_model::{Connection, Shown};
use keyward_rules::provider::scope_words::worded_scopes;
use keyward_state::directory::{ConnectionState, Renewal, Slot};

/// A wizard in progress.
pub(super) struct PluginWizard<'a> {
    context: ConnectContext<'a>,
    /// Connections of another environment than the agent's do not fit.
    environment: Option<String>,
    shapes: Shapes,
    /// Names of connections that it made.
    made: &'a mut BTreeSet<String>,
}

/// What a person chose for a slot.
enum SlotChoice {
    Existing(Box<Shown<Connection>>),
    New,
    Empty,
}

impl<'a> PluginWizard<'a> {
    /// A wizard for an agent of this environment.
    pub(super) fn new(
        context: ConnectContext<'a>,
        environment: Option<String>,
        shapes: Shapes,
        made: &'a mut BTreeSet<String>,
    ) -> Self {
        Self { context, environment, shapes, made }
    }

    /// What is to be in the slot: a connection's id, or nothing. `position`: `2 of 3`.
    ///
    /// # Errors
    /// When the person ends it, or the gateway cannot be asked.
    pub(super) async fn slot(
        &mut self,
        slot: &Slot,
        position: &str,
    ) -> Result<Option<String>, Failure> {
        let provider = self.provider(slot)?;
        output::note(&described(slot, &provider, position));
        loop {
            let fitting = self.fitting(slot).await?;
            match choice(slot, &provider, fitting)? {
                SlotChoice::Empty => return Ok(None),
                SlotChoice::New => return Box::pin(self.connected(slot, provider)).await.map(Some),
                SlotChoice::Existing(connection) => {
                    if self.is_fit(slot, &connection).await? {
                        return Ok(Some(connection.id.to_string()));
                    }
                }
            }
        }
    }

    fn provider(&self, slot: &Slot) -> Result<ProviderView, Failure> {
        let found = self.shapes.providers().iter().find(|it| it.id == slot.provider);
        found.cloned().ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("no provider is named `{}`", slot.provider))
        })
    }

    /// The connections that may be in the slot.
    async fn fitting(&self, slot: &Slot) -> Result<Vec<Shown<Connection>>, Failure> {
        let all = self.context.client.list::<Shown<Connection>>("/api/v1/connections", &[]).await?;
        let is_near = |it: &Shown<Connection>| match (&it.environment, &self.environment) {
            (Some(its), Some(ours)) => its == ours,
            _ => true,
        };
        let all = all.items.into_iter();
        Ok(all.filter(|it| it.provider == slot.provider && is_near(it)).collect())
    }

    /// Whether the person takes the connection as it is, or as it is after a consent.
    async fn is_fit(&self, slot: &Slot, connection: &Shown<Connection>) -> Result<bool, Failure> {
        let granted = &connection.facts.granted;
        let missing = slot.scopes.iter().filter(|it| !granted.is_empty() && !granted.contains(it));
        let missing: Vec<_> = missing.cloned().collect();
        let name = &connection.name;
        let remedy =
            connection.facts.remedy.as_deref().map(|remedy| self.context.global.remedy(remedy));
        let remedy = remedy.map(|remedy| format!(": {remedy}")).unwrap_or_default();
        match &connection.facts.state {
            ConnectionState::Broken { .. } | ConnectionState::Draft { .. } => {
                output::note(&format!("{name} cannot be used as it is{remedy}"));
            }
            _ if !missing.is_empty() => {
                output::note(&format!("{name} was not granted {}", missing.join(", ")));
            }
            ConnectionState::Paused => {
                output::note(&format!(
                    "{name} is paused: the plugin cannot use it until it is resumed{remedy}"
                ));
                return Ok(true);
            }
            _ => return Ok(true),
        }
        let ways = ["use it as it is", "choose another", "consent again"];
        let consents = connection.facts.renewal == Some(Renewal::Consent);
        match questions::choose("now", &ways[..if consents { 3 } else { 2 }])? {
            0 => Ok(true),
            1 => Ok(false),
            _ => {
                let ConnectContext { global, client, how, .. } = self.context;
                let mut signals = Signals::ending()
                    .map_err(|error| Failure::failed("cannot wait for signals", &error))?;
                tokio::select! {
                    biased;
                    Ok(_) = signals.next() => Err(Failure::new(
                        Exit::Interrupted,
                        format!("interrupted: `keyward connection show {name}` shows whether it is connected again"),
                    )),
                    done = reconnect::reconnect(global, client, name, missing, how) => {
                        done.map(|()| true)
                    }
                }
            }
        }
    }

    /// A new connection, by consent or by key, as `connect` makes them.
    async fn connected(&mut self, slot: &Slot, provider: ProviderView) -> Result<String, Failure> {
        let taken =
            self.context.client.list::<Shown<Connection>>("/api/v1/connections", &[]).await?;
        let taken: HashSet<_> = taken.items.into_iter().map(|one| one.spec.name).collect();
        let mut options = Options::default();
        let members = json!({"scopes": slot.scopes, "environment": self.environment});
        options.requested.extend(members.as_object().cloned().unwrap_or_default());
        let shapes = Shapes::load(self.context.client).await?;
        let questions = Questions { options, provider, shapes, taken, way: AnswerSource::Asking };
        let mut wizard = connect::ConnectWizard::new(self.context, None, true)?;
        let connected = Box::pin(wizard.until_connected(&questions, None)).await?;
        let (id, name) = (connected.connection.id, connected.connection.spec.name);
        output::note(&format!("connection {name} added ({id})"));
        self.made.insert(name);
        Ok(id.to_string())
    }
}

fn choice(
    slot: &Slot,
    provider: &ProviderView,
    fitting: Vec<Shown<Connection>>,
) -> Result<SlotChoice, Failure> {
    let mut lines: Vec<_> = fitting.iter().map(line).collect();
    let new = match lines.is_empty() {
        true => format!("connect an account at {}", provider.name),
        false => format!("connect another account at {}", provider.name),
    };
    lines.push(new);
    if !slot.required {
        lines.push("leave it empty".to_owned());
    }
    let at = terminal::choose(slot.title(), &lines)?;
    Ok(match fitting.into_iter().nth(at) {
        Some(connection) => SlotChoice::Existing(Box::new(connection)),
        None if at + 1 == lines.len() && !slot.required => SlotChoice::Empty,
        None => SlotChoice::New,
    })
}

/// `work-hubspot (alice@acme.test)`.
fn line(connection: &Shown<Connection>) -> String {
    let state = match &connection.facts.state {
        ConnectionState::Active | ConnectionState::Testing => "",
        ConnectionState::Draft { .. } => "not connected yet",
        ConnectionState::Paused => "paused",
        ConnectionState::Broken { .. } => "broken",
    };
    let facts = [connection.facts.account.as_deref().unwrap_or_default(), state];
    let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    match facts[..] {
        [] => connection.name.clone(),
        _ => format!("{} ({})", connection.name, facts.join(", ")),
    }
}

fn described(slot: &Slot, provider: &ProviderView, position: &str) -> String {
    let kind = if slot.required { "required" } else { "optional" };
    let mut text = format!("\n{position}: {} ({}, {kind})", slot.title(), provider.name);
    if let Some(help) = &slot.help {
        text += &format!("\n  {help}");
    }
    for (what, items) in [
        ("methods", slot.methods.join(", ")),
        ("paths", slot.paths.join(", ")),
        ("actions", slot.allow.join(", ")),
        ("own authorization", slot.own_authorization.text().to_owned()),
        ("scopes", worded_scopes(&slot.scopes, &provider.scope_words)),
    ] {
        if !items.is_empty() {
            text += &format!("\n  {what}: {items}");
        }
    }
    text
}
