//! Detects honeytokens and tokens that were revoked or have expired. The request is refused like any with an
//! unknown token; an event reports it, at most once in a period for each token.

use std::time::Duration;

use http::Request;
use http::uri::PathAndQuery;

use crate::gateway::Gateway;
use crate::request::inbound::Inbound;
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_model::{HeldBy, Honeytoken, ManagedBy, Record, Session};
use keyward_rules::inject::placeholder::PlaceholderCore;
use keyward_rules::inject::strip;
use keyward_state::directory::{Directory, DirectoryError, Former};
use keyward_state::observe::notice::{NamedResource, NoticeDetails, NoticeKind};

/// The period for one agent and one honeytoken.
const HONEYTOKEN_EVERY: Duration = Duration::from_secs(60);

/// The period for one token: programs repeat the tokens that they have.
const TOKEN_EVERY: Duration = Duration::from_secs(3_600);

/// Reports honeytokens among the placeholders of a request. Policy decides about the request: a honeytoken is
/// refused like an unknown placeholder, so that the sender cannot distinguish them.
pub fn honeytokens(gateway: &Gateway, agent: &Agent, inbound: &Inbound) {
    let asked = inbound.asked();
    look(gateway, agent, Some(asked.target), asked.placeholders);
}

/// Reports honeytokens in a request that is refused before policy decides. `target`: the target, if known.
pub fn refused_early<B>(
    gateway: &Gateway,
    agent: &Agent,
    target: Option<&Target>,
    request: &Request<B>,
) {
    let url = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    look(gateway, agent, target, &strip::placeholders(request.headers(), url));
}

fn look(
    gateway: &Gateway,
    agent: &Agent,
    target: Option<&Target>,
    placeholders: &[PlaceholderCore],
) {
    if placeholders.is_empty() {
        return;
    }
    let view = gateway.directory.glance();
    for found in placeholders.iter().filter_map(|core| view.honeytoken(&agent.org, core)) {
        let is_new =
            gateway.alert_limit.is_new(format!("{}{}", found.id, agent.id), HONEYTOKEN_EVERY);
        if is_new || found.spec.revokes {
            let (directory, found, agent) =
                (gateway.directory.clone(), found.clone(), agent.clone());
            let host = target.map(Target::authority);
            let told = async move {
                let done = disarmed(&directory, &found, &agent).await;
                if is_new {
                    caught(&directory, &found, &agent, host, done).await;
                }
            };
            // A gateway that stops now tells it first.
            gateway.vault.in_flight(told);
        }
    }
}

/// Reports an unknown token if it was valid once.
pub fn token(gateway: &Gateway, text: &str) {
    let view = gateway.directory.glance();
    let Some(former) = view.former(text, gateway.clock.now()) else { return };
    if gateway.alert_limit.is_new(former.token.to_string(), TOKEN_EVERY) {
        let directory = gateway.directory.clone();
        gateway.vault.in_flight(async move { refused(&directory, former).await });
    }
}

/// Revokes the agent's access if the honeytoken has `revokes`, and returns what was done. Only the event is limited:
/// each token that was sent with the honeytoken is revoked.
async fn disarmed(
    directory: &Directory,
    found: &Record<Honeytoken>,
    agent: &Agent,
) -> Option<&'static str> {
    if !found.spec.revokes {
        return None;
    }
    Some(match disarm(directory, agent).await {
        Ok(done) => done,
        // Another request with the honeytoken did it.
        Err(DirectoryError::NotFound { .. }) => "revoked already",
        Err(error) => {
            tracing::error!(%error, agent = &*agent.name, "its token cannot be revoked");
            "not revoked"
        }
    })
}

async fn caught(
    directory: &Directory,
    found: &Record<Honeytoken>,
    agent: &Agent,
    host: Option<String>,
    done: Option<&'static str>,
) {
    tracing::warn!(
        id = "honeytoken_used",
        agent = &*agent.name,
        honeytoken = found.name(),
        host,
        done,
        "a honeytoken was sent"
    );
    let about = NoticeDetails {
        honeytoken: Some(found.name().to_owned()),
        agent: Some(NamedResource::new(agent.id.clone(), &agent.name)),
        token: agent.token.clone(),
        host,
        detail: done.map(str::to_owned),
        ..NoticeDetails::default()
    };
    tell(directory, agent, NoticeKind::HoneytokenUsed, about).await;
}

/// Ends the session or revokes the token that the agent used; if that is not possible, pauses the agent.
async fn disarm(directory: &Directory, agent: &Agent) -> Result<&'static str, DirectoryError> {
    if let Some(session) = &agent.session {
        let ended = directory.remove::<Session>(&agent.org, &session.id, ManagedBy::Store).await;
        return ended.map(|()| "session ended");
    }
    if let Some(token) = &agent.token {
        match directory.revoke_token(&agent.org, &agent.id, token).await {
            Err(DirectoryError::ManagedByFile { .. }) => {}
            other => return other.map(|()| "token revoked"),
        }
    }
    let hold = |agent: &mut Record<keyward_model::Agent>| agent.facts.hold(HeldBy::Alarm);
    let paused = directory.change::<keyward_model::Agent>(&agent.org, &agent.id, hold).await;
    paused.map(|_| "agent paused")
}

async fn refused(directory: &Directory, former: Former) {
    let Former { agent, token, reason } = former;
    tracing::warn!(
        id = "old_token_used", agent = &*agent.name, %token, reason,
        "a token that is no longer valid was sent"
    );
    let about = NoticeDetails {
        agent: Some(NamedResource::new(agent.id.clone(), &agent.name)),
        token: Some(token),
        reason: Some(reason.to_owned()),
        ..NoticeDetails::default()
    };
    tell(directory, &agent, NoticeKind::TokenRefused, about).await;
}

async fn tell(directory: &Directory, agent: &Agent, kind: NoticeKind, about: NoticeDetails) {
    if let Err(error) = directory.announce(&agent.org, kind, about).await {
        tracing::error!(%error, event = kind.code(), "an event is not delivered");
    }
}
