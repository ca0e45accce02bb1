//! What the configuration file declares, brought into the store: apps, connections, agents, plugins,
//! webhooks and honeytokens that are `managed_by: file`. Idempotent: a restart with the same file and secrets
//! writes nothing. What was taken out of the file is paused, not deleted; honeytokens alone are removed.

pub(super) mod apps;
pub(super) mod kept;
pub(super) mod plugins;
mod webhooks;

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, bail};

use super::AppError;
use crate::config::{Config, Declared, DeclaredConnection};
use keyward_base::secret::Secret;
use keyward_model::{Agent, AgentFacts};
use keyward_state::crypto::token::{self, TokenHash};
use keyward_state::directory::{
    AgentRecord, BindingRecord, ConnectionRecord, ConnectionState, Directory, ManagedBy, Manifest,
    Visibility,
};
use keyward_state::observe::change::Actor;
use keyward_vault::events::{Events, SigningKey};
use keyward_vault::{NewConnection, Vault};

/// The label of the token that the file gives an agent.
const TOKEN_LABEL: &str = "configuration";

/// What the declared things hold, in the configuration's order.
pub(super) struct Held {
    pub(super) apps: Vec<BTreeMap<String, Secret>>,
    pub(super) connections: Vec<BTreeMap<String, Secret>>,
    pub(super) tokens: Vec<Option<Secret>>,
    pub(super) webhooks: Vec<Option<SigningKey>>,
    pub(super) manifests: Vec<Manifest>,
}

/// Brings the store in line with the configuration. All secrets and manifests are read before anything
/// is written, so that a missing one leaves the store as it was.
///
/// # Errors
/// [`AppError::Declared`] with every secret and manifest that cannot be read; when a name belongs to a stored
/// thing, or the store fails. Names the place in the file.
pub async fn reconcile(config: &Config, vault: &Vault, events: &Events) -> anyhow::Result<()> {
    apply(config, Held::load(config)?, (vault, events)).await
}

/// [`reconcile`] with what was read before.
///
/// # Errors
/// As there, but for secrets and manifests.
pub(super) async fn apply(
    config: &Config,
    held: Held,
    (vault, events): (&Vault, &Events),
) -> anyhow::Result<()> {
    Actor::File.acting(Box::pin(brought_in(config, held, (vault, events)))).await
}

async fn brought_in(
    config: &Config,
    held: Held,
    (vault, events): (&Vault, &Events),
) -> anyhow::Result<()> {
    let Held { apps, connections, tokens, webhooks: keys, manifests } = held;
    orgs(config, vault.directory()).await?;
    // First: they are told of what follows.
    for (declared, key) in config.webhooks.iter().zip(keys) {
        let result = webhooks::webhook(vault.directory(), events, (declared, key)).await;
        result.with_context(|| format!("{}: webhook `{}`", declared.place, declared.name))?;
    }
    webhooks::pause_what_is_gone(config, vault.directory()).await?;
    // What is gone goes first: the number of honeytokens is bounded.
    kept::remove_what_is_gone(&config.honeytokens, vault.directory()).await?;
    for declared in &config.honeytokens {
        let result = kept::bring(vault.directory(), &vault.catalogue(), declared).await;
        result.with_context(|| format!("{}: honeytoken `{}`", declared.place, declared.name()))?;
    }
    for (declared, secrets) in config.apps.iter().zip(apps) {
        let result = apps::app(vault, declared, secrets).await;
        result.with_context(|| format!("{}: app `{}`", declared.place, declared.name))?;
    }
    for (declared, fields) in config.connections.iter().zip(connections) {
        let result = connection(vault, declared, fields).await;
        result.with_context(|| format!("{}: connection `{}`", declared.place, declared.name))?;
    }
    plugins::make_way(config, &manifests, vault).await?;
    for (declared, token) in config.agents.iter().zip(tokens) {
        let result = agent(vault, declared, token).await;
        result.with_context(|| format!("{}: agent `{}`", declared.place, declared.name()))?;
    }
    plugins::plugins(config, &manifests, vault).await?;
    pause_what_is_gone(config, vault.directory()).await
}

/// Makes the organisations that are named. One that is named no more stays, with what it has.
pub(super) async fn orgs(config: &Config, directory: &Directory) -> anyhow::Result<()> {
    for org in config.orgs() {
        if directory.view().org(org).is_none() {
            directory.add_org(org, ManagedBy::File).await?;
        }
    }
    Ok(())
}

impl Held {
    pub(super) fn load(config: &Config) -> Result<Self, AppError> {
        let mut problems = Vec::new();
        let apps = apps::secrets(config, &mut problems);
        let connections = config.connections.iter().map(|declared| {
            let mut fields = BTreeMap::new();
            for (name, source) in &declared.fields {
                match source.load(&config.environment, &config.secret_variables()) {
                    Ok(secret) => drop(fields.insert(name.clone(), secret)),
                    Err(error) => problems.push(format!(
                        "{}: connection `{}`: field `{name}`: {error}",
                        declared.place, declared.name
                    )),
                }
            }
            fields
        });
        let connections = connections.collect();
        let tokens = config.agents.iter().map(|declared| {
            chosen_token(config, declared).unwrap_or_else(|problem| {
                let (place, name) = (&declared.place, declared.name());
                problems.push(format!("{place}: agent `{name}`: {problem}"));
                None
            })
        });
        let tokens = tokens.collect();
        let webhooks = webhooks::keys(config, &mut problems);
        let manifests = plugins::manifests(config, &mut problems);
        match problems.is_empty() {
            true => Ok(Self { apps, connections, tokens, webhooks, manifests }),
            false => Err(AppError::Declared(problems)),
        }
    }
}

fn chosen_token(config: &Config, declared: &Declared<Agent>) -> Result<Option<Secret>, String> {
    let Some(source) = &declared.with.token else { return Ok(None) };
    let token = source
        .load(&config.environment, &config.secret_variables())
        .map_err(|error| format!("its token: {error}"))?;
    match token::is_acceptable_secret(&token) {
        true => Ok(Some(token)),
        false => Err("its token needs 20 to 512 letters, digits or `-._~`".to_owned()),
    }
}

async fn connection(
    vault: &Vault,
    declared: &DeclaredConnection,
    fields: BTreeMap<String, Secret>,
) -> anyhow::Result<()> {
    let directory = vault.directory();
    let view = directory.view();
    let app = apps::named(&view, declared)?;
    let new = || NewConnection { app: app.clone(), ..new_connection(declared) };
    let found = view.find_connection(&declared.org, &declared.name).cloned();
    let Some(found) = found else { return add(vault, new(), fields).await };
    if found.managed_by == ManagedBy::Store {
        bail!("a stored connection has this name: rename one of them");
    }
    if !same_account(&found, declared) || app.is_some() && found.app != app {
        // Another provider, method, host or environment is another connection: the old secret must
        // not follow it.
        vault.remove_by(&found.org, &found.id, ManagedBy::File).await?;
        return add(vault, new(), fields).await;
    }
    apps::replace(vault, &found, fields).await?;
    // Writes nothing where it changes nothing.
    let change = |record: &mut ConnectionRecord| {
        record.settings = declared.settings.clone();
        record.scopes.clone_from(&declared.scopes);
        record.about.clone_from(&declared.about);
        record.secret.expires = declared.secret.expires;
        record.secret.rotate_every = declared.secret.rotate_every;
    };
    directory.update_connection(&found.org, &found.id, &change).await?;
    if found.state == ConnectionState::Paused {
        let (org, id) = (&found.org, &found.id);
        directory.set_connection_paused(org, id, false, ManagedBy::File).await?;
    }
    Ok(())
}

/// What its owner still has to consent to is a draft.
async fn add(
    vault: &Vault,
    new: NewConnection,
    fields: BTreeMap<String, Secret>,
) -> anyhow::Result<()> {
    match apps::consents(&vault.catalogue(), &new) && fields.is_empty() {
        true => vault.add_draft(new).await?,
        false => vault.add(new, fields).await?,
    };
    Ok(())
}

pub(super) fn new_connection(declared: &DeclaredConnection) -> NewConnection {
    NewConnection {
        org: declared.org.clone(),
        name: declared.name.clone(),
        provider: declared.provider.clone(),
        auth: declared.auth.clone(),
        variables: declared.variables.clone(),
        app: None,
        scopes: declared.scopes.clone(),
        environment: declared.environment.clone(),
        settings: declared.settings.clone(),
        about: declared.about.clone(),
        secret: declared.secret.clone(),
        owner: None,
        visibility: Visibility::Shared,
        managed_by: ManagedBy::File,
    }
}

pub(super) fn same_account(found: &ConnectionRecord, declared: &DeclaredConnection) -> bool {
    found.provider == declared.provider
        && declared.auth.as_ref().is_none_or(|auth| *auth == found.auth)
        && found.variables == declared.variables
        && found.environment == declared.environment
}

pub(super) async fn agent(
    vault: &Vault,
    declared: &Declared<Agent>,
    token: Option<Secret>,
) -> anyhow::Result<()> {
    let directory = vault.directory();
    let found = directory.view().find_agent(&declared.org, declared.name()).cloned();
    let record = match found {
        Some(found) if found.managed_by == ManagedBy::Store => {
            bail!("a stored agent has this name: rename one of them")
        }
        Some(found) => found,
        None => {
            let (by, facts) = (ManagedBy::File, AgentFacts::default());
            directory.add::<Agent>(&declared.org, by, declared.spec.clone(), facts).await?
        }
    };
    unbind(vault, &record, declared).await?;
    describe(directory, &record, declared).await?;
    if let Some(token) = token {
        let label = Some(TOKEN_LABEL.to_owned());
        let hash = TokenHash::of_secret(&token);
        directory.set_chosen_token(&record.org, &record.id, label, hash).await?;
    }
    bindings(vault, &record, declared).await
}

async fn describe(
    directory: &Directory,
    record: &AgentRecord,
    declared: &Declared<Agent>,
) -> anyhow::Result<()> {
    let describe = |record: &mut AgentRecord| {
        record.spec.clone_from(&declared.spec);
        record.facts.paused = false;
    };
    directory.change::<Agent>(&record.org, &record.id, describe).await?;
    Ok(())
}

async fn bindings(
    vault: &Vault,
    record: &AgentRecord,
    declared: &Declared<Agent>,
) -> anyhow::Result<()> {
    let view = vault.directory().view();
    for name in &declared.with.uses {
        let connection = view.find_connection(&record.org, name);
        let connection = connection.with_context(|| {
            format!("`use` names connection `{name}`, which does not exist: declare or add it")
        })?;
        let is_it = |bound: &BindingRecord| bound.direct && bound.connection == connection.id;
        if !record.facts.bindings.iter().any(is_it) {
            vault.bind(&record.org, &record.id, &connection.id, ManagedBy::File).await?;
        }
    }
    Ok(())
}

/// Takes away what the file names no more. Before the agent's environment changes, which what it is
/// bound to must fit.
async fn unbind(
    vault: &Vault,
    record: &AgentRecord,
    declared: &Declared<Agent>,
) -> anyhow::Result<()> {
    let directory = vault.directory();
    let view = directory.view();
    let named =
        declared.with.uses.iter().filter_map(|name| view.find_connection(&record.org, name));
    let wanted: HashSet<_> = named.map(|connection| &connection.id).collect();
    for bound in record.facts.bindings.iter().filter(|bound| bound.direct) {
        if bound.managed_by == ManagedBy::File && !wanted.contains(&bound.connection) {
            let (org, id) = (&record.org, &record.id);
            directory.unbind_by(org, id, &bound.connection, ManagedBy::File).await?;
        }
    }
    Ok(())
}

async fn pause_what_is_gone(config: &Config, directory: &Directory) -> anyhow::Result<()> {
    let view = directory.view();
    let declared: HashSet<_> = config.connections.iter().map(|c| (&c.org, &c.name)).collect();
    for connection in view.connections() {
        let gone = connection.managed_by == ManagedBy::File
            && connection.state != ConnectionState::Paused
            && !declared.contains(&(&connection.org, &connection.name));
        if gone {
            let (org, id) = (&connection.org, &connection.id);
            directory.set_connection_paused(org, id, true, ManagedBy::File).await?;
            tracing::info!(name = connection.name, "paused: the configuration names it no more");
        }
    }
    apps::pause_what_is_gone(config, directory).await?;
    let declared: HashSet<_> = config.agents.iter().map(|a| (&a.org, a.name())).collect();
    for agent in view.agents() {
        let gone = agent.managed_by == ManagedBy::File
            && !agent.facts.paused
            && !declared.contains(&(&agent.org, agent.name()));
        if gone {
            let pause = |agent: &mut AgentRecord| agent.facts.paused = true;
            directory.change::<Agent>(&agent.org, &agent.id, pause).await?;
            tracing::info!(name = agent.name(), "paused: the configuration names it no more");
        }
    }
    Ok(())
}
