//! `/agents`: programs that may use the proxy.

pub(super) mod bindings;
pub(super) mod run_counter;
pub(super) mod runs;
pub(super) mod sessions;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;

use super::body::Segments;
use super::context::Context;
use super::error::{ApiError, shown};
use super::input::{Input, InputChange};
use super::openapi::Routes;
use super::resource::{self, Changeable, Exposed};
use super::tokens;
use keyward_model::{Agent, AgentFacts, AgentShown, ManagedBy, PauseCause, Record, Shown};
use keyward_rules::provider::decode::did_you_mean;

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/agents", ["listAgents", "List agents"], resource::list::<Agent>)
        .post("/agents", ["addAgent", "Add an agent"], resource::add::<Agent>)
        .get("/agents/{agent}", ["getAgent", "Show an agent"], resource::show::<Agent>)
        .patch("/agents/{agent}", ["changeAgent", "Change an agent"], resource::change::<Agent>)
        .delete(
            "/agents/{agent}",
            ["removeAgent", "Remove an agent, its tokens and its bindings"],
            resource::remove::<Agent>,
        )
        .post(
            "/agents/{agent}/pause",
            ["pauseAgent", "Pause an agent: its requests are refused"],
            pause,
        )
        .post("/agents/{agent}/resume", ["resumeAgent", "Resume an agent"], resume)
}

impl Exposed for Agent {
    type Added = Shown<Self>;

    /// The id of its owner, so that a search finds the agents of one person, and its labels, `name=value`.
    fn texts<'a>(_: &'a Context, record: &'a Record<Self>) -> Vec<Cow<'a, str>> {
        let owner = record.facts.owner.iter().map(|owner| owner.as_str().into());
        let labels =
            record.spec.labels.iter().map(|(name, value)| format!("{name}={value}").into());
        owner.chain(labels).collect()
    }

    fn sees(context: &Context, record: &Record<Self>) -> bool {
        context.caller.sees_agent(record)
    }

    async fn shown_facts(context: &Context, record: &Record<Self>) -> AgentShown {
        let facts = &record.facts;
        let tokens = facts.tokens.iter().map(|token| tokens::shown(context, token));
        AgentShown {
            owner: facts.owner.clone(),
            paused: facts.is_paused(),
            held: facts.held,
            held_by: facts.held_by,
            tokens: tokens.collect(),
            bindings: bindings::all_shown(context, record).await,
            listeners: listeners(context, record),
        }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<Shown<Self>, ApiError> {
        let owner = resource::owner_of_new(context, input.options.owner.as_deref())?;
        if !input.spec.user_providers.is_empty() {
            may_serve_users(context, &input.spec.user_providers)?;
        }
        let facts = AgentFacts { owner, ..AgentFacts::default() };
        let made = resource::store_new::<Self>(context, input.spec, facts).await?;
        context.admin.enforce().await?;
        Ok(resource::shown(context, &made).await)
    }

    /// One that the configuration declares is refused as such.
    async fn may_be_removed(context: &Context, record: &Record<Self>) -> Result<(), ApiError> {
        match record.managed_by == ManagedBy::Store || record.facts.paused {
            true => resource::may_be_removed(&context.admin, record).await,
            false => Ok(()),
        }
    }

    async fn removed(context: &Context, _: &Record<Self>) -> Result<(), ApiError> {
        context.admin.enforce().await
    }
}

impl Changeable for Agent {
    type Changed = Shown<Self>;

    /// May change the owner: a private connection of the former owner must not be bound to it.
    async fn change(
        context: &Context,
        record: Arc<Record<Self>>,
        change: InputChange<Self>,
    ) -> Result<Shown<Self>, ApiError> {
        let given = |owner: &Option<String>| resource::resolve_assigned(context, owner.as_deref());
        let owner = change.options.owner.as_ref().map(given).transpose()?;
        if let Some(owner) = &owner {
            context.caller.because(owner.as_ref().map_or("of the organisation", |id| id.as_str()));
        }
        if change.names("user_providers") {
            may_serve_users(context, &change.of(&record.spec)?.user_providers)?;
        }
        let alter = |record: &mut Record<Self>| {
            if let Some(owner) = &owner {
                record.facts.owner.clone_from(owner);
            }
        };
        let changed = resource::store_change(context, &record, &change, alter).await?;
        context.admin.enforce().await?;
        Ok(resource::shown(context, &changed).await)
    }
}

/// Refuses unknown providers in `user_providers`, and callers who may not use every end user's connections.
fn may_serve_users(context: &Context, providers: &[String]) -> Result<(), ApiError> {
    context.caller.must_edit_all()?;
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let is_unknown = |id: &&String| *id != "*" && catalogue.get(id).is_none();
    let Some(id) = providers.iter().find(is_unknown) else { return Ok(()) };
    let see = || "`keyward provider list` shows which exist".to_owned();
    let hint = did_you_mean(id, catalogue.ids()).unwrap_or_else(see);
    let message = format!("has `{}`, which is not a provider", shown(id));
    Err(ApiError::field("user_providers", message).hint(hint))
}

/// Pauses it: its tokens are refused, and its open streams end.
async fn pause(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<Agent>>, ApiError> {
    set_held(&context, &name, true).await
}

/// Ends the pause of a person or an alarm. An agent that is no longer in the configuration stays paused.
async fn resume(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<Shown<Agent>>, ApiError> {
    set_held(&context, &name, false).await
}

async fn set_held(
    context: &Context,
    name: &str,
    held: bool,
) -> Result<Json<Shown<Agent>>, ApiError> {
    let agent = resource::found::<Agent>(context, name)?;
    context.caller.because(if held { "paused" } else { "resumed" });
    let hold = |record: &mut Record<Agent>| match held {
        true => record.facts.hold(PauseCause::Person),
        false => record.facts.resume(),
    };
    let changed = context.deps().directory.change::<Agent>(&agent.org, &agent.id, hold).await?;
    context.admin.enforce().await?;
    Ok(Json(resource::shown(context, &changed).await))
}

/// Why the agent is paused, and how to resume it.
pub(super) fn why_paused(agent: &Record<Agent>) -> (&'static str, String) {
    match (agent.facts.held, agent.facts.paused) {
        (true, _) => {
            let hint = format!("`keyward agent resume {}` ends it", agent.name);
            ("a person or an alarm paused it", hint)
        }
        (_, true) => {
            ("it was removed from the configuration file", "put it back into the file".to_owned())
        }
        _ => (
            "its owner is paused",
            "`keyward user set NAME --resume`, or assign the agent to another user".to_owned(),
        ),
    }
}

/// The addresses of listeners that belong to the agent.
fn listeners(context: &Context, agent: &Record<Agent>) -> Vec<String> {
    let all = context.admin.locations().into_iter().flat_map(|places| &places.agents);
    let own = all.filter(|(owner, _)| owner.org == agent.org && owner.agent == agent.name);
    own.map(|(_, at)| at.clone()).collect()
}
