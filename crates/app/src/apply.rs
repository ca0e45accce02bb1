//! Executes a [`Plan`], step by step, without rules of its own. Failures that only the store can find, such
//! as conflicts with another writer, are errors with the step's place. A plan of the same file and secrets
//! writes nothing the second time.

use anyhow::Context;

use super::plan::planning::TOKEN_LABEL;
use super::plan::step::{Plan, PlannedAction, Step, Work};
use super::plan::{
    AgentChange, AgentWork, ConnectionInput, ConnectionWork, Fields, FreedSlots, PlannedConnection,
    PluginWork, ResourceWork,
};
use crate::config::UseItem;
use keyward_base::id::{AgentId, AppId, ConnectionId, OrgId, PluginId, SourceId};
use keyward_inbox::{Inbox, NewKeys};
use keyward_model::{
    Agent, AgentFacts, App, BindTerms, Connection, ConnectionSpec, Honeytoken, HoneytokenFacts,
    Hook, HookSpec, Plugin, PluginSpec, Record, Reference, Source, Webhook, WebhookState,
};
use keyward_state::directory::{AppRecord, ConnectionRecord, Directory, ManagedBy};
use keyward_state::observe::change::Actor;
use keyward_vault::events::{Events, WebhookSigningKey};
use keyward_vault::{NewApp, Vault, VaultError};

/// The services that a plan changes.
#[derive(Clone, Copy)]
pub(super) struct ApplyTarget<'a> {
    pub(super) vault: &'a Vault,
    pub(super) events: &'a Events,
    pub(super) inbox: &'a Inbox,
}

impl ApplyTarget<'_> {
    /// Executes the steps in order.
    ///
    /// # Errors
    /// With the place of the first step that fails; the steps before it are done.
    pub(super) async fn apply(self, plan: Plan) -> anyhow::Result<()> {
        Actor::File.acting(Box::pin(self.steps(plan.steps))).await
    }

    async fn steps(self, steps: Vec<Step>) -> anyhow::Result<()> {
        for Step { subject, action, work, .. } in steps {
            self.step(&subject.org, work).await.with_context(|| subject.to_string())?;
            let (kind, name) = (subject.kind, &subject.name);
            match action {
                PlannedAction::Pause => {
                    tracing::info!(kind, name, "paused: the configuration no longer names it");
                }
                PlannedAction::Remove => {
                    tracing::info!(kind, name, "removed: the configuration no longer names it");
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn step(self, org: &OrgId, work: Work) -> anyhow::Result<()> {
        match work {
            Work::Nothing => Ok(()),
            Work::Org => Ok(self.directory().add_org(org, ManagedBy::File).await.map(drop)?),
            Work::Webhook(work) => self.webhook(org, *work).await,
            Work::Honeytoken(work) => self.honeytoken(org, *work).await,
            Work::App(work) => self.app(org, *work).await,
            Work::Hook(work) => self.hook(org, *work).await,
            Work::Source(work) => self.source(org, *work).await,
            Work::Connection(work) => self.connection(org, *work).await,
            Work::Agent(work) => self.agent(org, *work).await,
            Work::Plugin(work) => self.plugin(org, *work).await,
        }
    }

    fn directory(&self) -> &Directory {
        self.vault.directory()
    }

    async fn webhook(
        self,
        org: &OrgId,
        work: ResourceWork<Webhook, WebhookSigningKey>,
    ) -> anyhow::Result<()> {
        let directory = self.directory();
        let (hook, key) = match work {
            ResourceWork::Make(spec, key) => {
                self.events.add(org, ManagedBy::File, spec, key).await?;
                return Ok(());
            }
            ResourceWork::Change { id, spec, activates, given: key, .. } => {
                let change = move |hook: &mut Record<Webhook>| {
                    if activates {
                        hook.facts.state = WebhookState::Active;
                    }
                    hook.spec.clone_from(&spec);
                };
                (directory.change(org, &id, change).await?, key)
            }
            ResourceWork::End(id) => {
                let pause = |hook: &mut Record<Webhook>| hook.facts.state = WebhookState::Paused;
                directory.change(org, &id, pause).await?;
                return Ok(());
            }
        };
        Ok(self.events.sign_with(org, &hook.id, key).await?)
    }

    async fn hook(self, org: &OrgId, work: ResourceWork<Hook, NewKeys>) -> anyhow::Result<()> {
        let directory = self.directory();
        let (hook, keys) = match work {
            ResourceWork::Make(spec, keys) => {
                let spec = self.of_connection(org, spec)?;
                let hook = self.inbox.new_hook(org, ManagedBy::File, spec);
                self.inbox.add(hook, keys).await?;
                return Ok(());
            }
            ResourceWork::Change { id, spec, given: keys, .. } => {
                let spec = self.of_connection(org, spec)?;
                let change = move |hook: &mut Record<Hook>| {
                    hook.facts.paused = false;
                    hook.spec.clone_from(&spec);
                };
                (directory.change(org, &id, change).await?, keys)
            }
            ResourceWork::End(id) => {
                let pause = |hook: &mut Record<Hook>| hook.facts.paused = true;
                directory.change(org, &id, pause).await?;
                return Ok(());
            }
        };
        Ok(self.inbox.set_keys(&hook, keys).await?)
    }

    async fn source(self, org: &OrgId, work: ResourceWork<Source, Fields>) -> anyhow::Result<()> {
        let (view, lifecycle) = (self.directory().view(), self.vault.lifecycle());
        let found = |id: &SourceId| {
            view.one::<Source>(org, id).cloned().with_context(|| gone("source", id.as_str()))
        };
        match work {
            ResourceWork::Make(spec, credentials) => {
                lifecycle.add_source(org, spec, &credentials, ManagedBy::File).await?;
            }
            ResourceWork::Change { id, spec, given: credentials, .. } => {
                let edit = |record: &mut Record<Source>| -> Result<(), VaultError> {
                    record.spec.clone_from(&spec);
                    Ok(())
                };
                lifecycle.change_source(&*found(&id)?, &edit, Some(credentials)).await?;
            }
            ResourceWork::End(id) => {
                lifecycle.remove_source(&*found(&id)?, ManagedBy::File).await?;
            }
        }
        Ok(())
    }

    /// The spec with the id of its connection.
    fn of_connection(&self, org: &OrgId, mut spec: HookSpec) -> anyhow::Result<HookSpec> {
        if let Some(connection) = &mut spec.connection {
            *connection = Reference::Id(self.connection_named(org, connection.as_str())?);
        }
        Ok(spec)
    }

    async fn honeytoken(
        self,
        org: &OrgId,
        work: ResourceWork<Honeytoken, ()>,
    ) -> anyhow::Result<()> {
        let (directory, by) = (self.directory(), ManagedBy::File);
        let new = match work {
            ResourceWork::Make(spec, ()) => spec,
            ResourceWork::Change { id, spec, replaces: true, .. } => {
                directory.remove::<Honeytoken>(org, &id, by).await?;
                spec
            }
            ResourceWork::Change { id, spec, .. } => {
                let change = move |record: &mut Record<Honeytoken>| record.spec.clone_from(&spec);
                directory.change::<Honeytoken>(org, &id, change).await?;
                return Ok(());
            }
            ResourceWork::End(id) => {
                return Ok(directory.remove::<Honeytoken>(org, &id, by).await?);
            }
        };
        let catalogue = self.vault.shared_catalogue();
        let provider = new.provider.as_deref().and_then(|id| catalogue.get(id));
        let facts = HoneytokenFacts::issue(provider.map(|provider| &**provider));
        directory.add::<Honeytoken>(org, by, new, facts).await?;
        Ok(())
    }

    async fn app(self, org: &OrgId, work: ResourceWork<App, Fields>) -> anyhow::Result<()> {
        match work {
            ResourceWork::Make(spec, secrets) => {
                let (org, managed_by) = (org.clone(), ManagedBy::File);
                let new = NewApp { id: None, org, spec, registered: None, managed_by };
                drop(self.vault.lifecycle().add_app_of(new, secrets).await?);
            }
            ResourceWork::Change { id, spec, given: secrets, .. } => {
                let change = |record: &mut AppRecord| -> Result<(), VaultError> {
                    record.spec.clone_from(&spec);
                    record.facts.paused = false;
                    Ok(())
                };
                drop(self.vault.lifecycle().change_app_of(org, &id, &change, secrets).await?);
            }
            ResourceWork::End(id) => {
                let pause = |record: &mut AppRecord| record.facts.paused = true;
                drop(self.directory().change::<App>(org, &id, pause).await?);
            }
        }
        Ok(())
    }

    async fn connection(self, org: &OrgId, work: ConnectionWork) -> anyhow::Result<()> {
        let directory = self.directory();
        let (id, change) = match work {
            ConnectionWork::Make(new) => return self.connect(new).await,
            ConnectionWork::Replace(id, new) => {
                self.vault.lifecycle().remove_by(org, &id, ManagedBy::File).await?;
                return self.connect(new).await;
            }
            ConnectionWork::Pause(id) => {
                directory.set_connection_paused(org, &id, true, ManagedBy::File).await?;
                return Ok(());
            }
            ConnectionWork::Change(id, change) => (id, change),
        };
        let before = directory.view().connection(org, &id).map(|it| it.references.clone());
        let describe = |record: &mut ConnectionRecord| {
            // Its app may have been registered again meanwhile.
            let app = record.app.take();
            record.spec = ConnectionSpec { app, ..change.spec.clone() };
        };
        let described = directory.change::<Connection>(org, &id, describe).await?;
        // The grant is made for the references of the record.
        if let Some(fields) = change.fields {
            self.vault.lifecycle().replace(org, &id, fields).await?;
        }
        if before.as_ref() != Some(&described.references) {
            self.vault.refresh().forget(&id);
        }
        if change.resumes {
            directory.set_connection_paused(org, &id, false, ManagedBy::File).await?;
        }
        Ok(())
    }

    async fn connect(self, new: PlannedConnection) -> anyhow::Result<()> {
        let PlannedConnection { mut new, app, given } = new;
        let app = app.map(|name| self.app_named(&new.org, &name)).transpose()?;
        new.spec.app = app.map(Reference::Id);
        match given {
            ConnectionInput::Fields(fields) => drop(self.vault.lifecycle().add(new, fields).await?),
            ConnectionInput::Consent => drop(self.vault.lifecycle().add_draft(new).await?),
            ConnectionInput::Unread(record) => drop(self.directory().add_record(*record).await?),
        }
        Ok(())
    }

    async fn agent(self, org: &OrgId, work: AgentWork) -> anyhow::Result<()> {
        let directory = self.directory();
        match work {
            AgentWork::Make(spec, change) => {
                let (by, facts) = (ManagedBy::File, AgentFacts::default());
                let made = directory.add::<Agent>(org, by, spec, facts).await?;
                self.change_agent(org, &made.id, change).await
            }
            AgentWork::Change(id, change) => self.change_agent(org, &id, change).await,
            AgentWork::Pause(id) => {
                directory.change::<Agent>(org, &id, |agent| agent.facts.paused = true).await?;
                Ok(())
            }
        }
    }

    async fn change_agent(
        self,
        org: &OrgId,
        id: &AgentId,
        change: AgentChange,
    ) -> anyhow::Result<()> {
        let directory = self.directory();
        for FreedSlots { plugin, spec, is_paused } in change.frees {
            self.change_plugin(org, &plugin, &spec).await?;
            if is_paused {
                directory.pause_plugin(org, &plugin).await?;
            }
        }
        for connection in &change.unbinds {
            directory.unbind_by(org, id, connection, ManagedBy::File).await?;
        }
        for token in &change.revokes {
            directory.revoke_token_by(org, id, token, ManagedBy::File).await?;
        }
        if let Some(spec) = change.describes {
            let describe = |agent: &mut Record<Agent>| agent.spec.clone_from(&spec);
            directory.change::<Agent>(org, id, describe).await?;
        }
        if change.resumes {
            directory.change::<Agent>(org, id, |agent| agent.facts.paused = false).await?;
        }
        if let Some(hash) = change.token {
            directory.set_chosen_token(org, id, Some(TOKEN_LABEL.to_owned()), hash).await?;
        }
        for UseItem { connection, limits } in change.binds {
            let connection = self.connection_named(org, &connection)?;
            let terms = BindTerms { managed_by: ManagedBy::File, limits: limits.into() };
            self.vault.lifecycle().bind(org, id, &connection, terms).await?;
        }
        if let Some(names) = change.defaults {
            let named = names.iter().map(|name| self.connection_named(org, name));
            let named: anyhow::Result<Vec<_>> = named.collect();
            directory.set_declared_defaults(org, id, &named?).await?;
        }
        Ok(())
    }

    async fn plugin(self, org: &OrgId, work: PluginWork) -> anyhow::Result<()> {
        match work {
            PluginWork::Make(spec) => {
                let spec = self.resolved(org, spec)?;
                self.vault.lifecycle().add_plugin(org, spec, ManagedBy::File).await?;
            }
            PluginWork::Change(id, spec) => {
                let spec = self.resolved(org, spec)?;
                self.change_plugin(org, &id, &spec).await?;
            }
            PluginWork::Pause(id) => self.directory().pause_plugin(org, &id).await?,
        }
        Ok(())
    }

    /// Gives a plugin the spec that follows from the file.
    async fn change_plugin(
        self,
        org: &OrgId,
        id: &PluginId,
        spec: &PluginSpec,
    ) -> Result<(), VaultError> {
        let change = |_: &Record<Plugin>| -> Result<PluginSpec, VaultError> { Ok(spec.clone()) };
        self.vault.lifecycle().change_plugin(org, id, ManagedBy::File, &change).await.map(drop)
    }

    /// The spec with ids instead of names.
    fn resolved(&self, org: &OrgId, mut spec: PluginSpec) -> anyhow::Result<PluginSpec> {
        let (view, agent) = (self.directory().view(), spec.agent.as_str());
        let agent = view.find_agent(org, agent).with_context(|| gone("agent", agent))?;
        spec.agent = Reference::Id(agent.id.clone());
        for connection in spec.slots.values_mut() {
            *connection = Reference::Id(self.connection_named(org, connection.as_str())?);
        }
        Ok(spec)
    }

    fn app_named(&self, org: &OrgId, name: &str) -> anyhow::Result<AppId> {
        let view = self.directory().view();
        let found = view.find_app(org, name).with_context(|| gone("app", name))?;
        Ok(found.id.clone())
    }

    fn connection_named(&self, org: &OrgId, name: &str) -> anyhow::Result<ConnectionId> {
        let view = self.directory().view();
        let found = view.find_connection(org, name).with_context(|| gone("connection", name))?;
        Ok(found.id.clone())
    }
}

/// The error for a resource that was removed since the plan was made.
fn gone(kind: &str, name: &str) -> String {
    format!("{kind} `{name}` was removed meanwhile")
}
