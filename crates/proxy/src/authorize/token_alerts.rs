//! Detects honeytokens and tokens that were revoked or have expired. The request is refused like any with an
//! unknown token; an event reports it, at most once in a period for each token.

use std::time::Duration;

use http::Request;
use http::uri::PathAndQuery;

use crate::gateway::Gateway;
use crate::request::inbound::Inbound;
use keyward_base::agent::Agent;
use keyward_base::host::Target;
use keyward_model::{Honeytoken, ManagedBy, PauseCause, Record, Session};
use keyward_rules::inject::placeholder::PlaceholderCore;
use keyward_rules::inject::strip;
use keyward_state::directory::{Directory, DirectoryError, FormerToken};
use keyward_state::observe::notice::{NamedResource, NoticeDetails, NoticeKind};

/// The period for one agent and one honeytoken.
const HONEYTOKEN_EVERY: Duration = Duration::from_secs(60);

/// The period for one token: programs repeat the tokens that they have.
const TOKEN_EVERY: Duration = Duration::from_secs(3_600);

/// Reports honeytokens among the placeholders of a request. Policy decides about the request: a honeytoken is
/// refused like an unknown placeholder, so that the sender cannot distinguish them.
pub fn report_honeytokens(gateway: &Gateway, agent: &Agent, inbound: &Inbound) {
    let request = inbound.policy_request();
    report(gateway, agent, Some(request.target), request.placeholders);
}

/// Reports honeytokens in a request that is refused before policy decides. `target`: the target, if known.
pub fn report_of_refused_request<B>(
    gateway: &Gateway,
    agent: &Agent,
    target: Option<&Target>,
    request: &Request<B>,
) {
    let url = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    report(gateway, agent, target, &strip::placeholders(request.headers(), url));
}

fn report(
    gateway: &Gateway,
    agent: &Agent,
    target: Option<&Target>,
    placeholders: &[PlaceholderCore],
) {
    if placeholders.is_empty() {
        return;
    }
    let view = gateway.directory.view_guard();
    for found in placeholders.iter().filter_map(|core| view.honeytoken(&agent.org, core)) {
        let is_new =
            gateway.alert_limit.is_new(format!("{}{}", found.id, agent.id), HONEYTOKEN_EVERY);
        if is_new || found.spec.revokes {
            let (directory, found, agent) =
                (gateway.directory.clone(), found.clone(), agent.clone());
            let host = target.map(Target::authority);
            let report = async move {
                let done = revoke_if_wanted(&directory, &found, &agent).await;
                if is_new {
                    announce_honeytoken(&directory, &found, &agent, host, done).await;
                }
            };
            // A gateway that stops waits for it.
            gateway.vault.refresh().spawn_as_flight(report);
        }
    }
}

/// Reports an unknown token if it was valid once.
pub fn report_former_token(gateway: &Gateway, text: &str) {
    let view = gateway.directory.view_guard();
    let Some(former) = view.former_token(text, gateway.clock.now()) else { return };
    if gateway.alert_limit.is_new(former.token.to_string(), TOKEN_EVERY) {
        let (directory, refresh) = (gateway.directory.clone(), gateway.vault.refresh());
        refresh.spawn_as_flight(async move { announce_former_token(&directory, former).await });
    }
}

/// Revokes the agent's access if the honeytoken has `revokes`, and returns what was done. Only the event is limited:
/// each token that was sent with the honeytoken is revoked.
async fn revoke_if_wanted(
    directory: &Directory,
    found: &Record<Honeytoken>,
    agent: &Agent,
) -> Option<&'static str> {
    if !found.spec.revokes {
        return None;
    }
    Some(match revoke_access(directory, agent).await {
        Ok(done) => done,
        // By another request with the honeytoken.
        Err(DirectoryError::NotFound { .. }) => "revoked already",
        Err(error) => {
            tracing::error!(%error, agent = &*agent.name, "its token cannot be revoked");
            "not revoked"
        }
    })
}

async fn announce_honeytoken(
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
    let details = NoticeDetails {
        honeytoken: Some(found.name().to_owned()),
        agent: Some(NamedResource::new(agent.id.clone(), &agent.name)),
        token: agent.token.clone(),
        host,
        detail: done.map(str::to_owned),
        ..NoticeDetails::default()
    };
    announce(directory, agent, NoticeKind::HoneytokenUsed, details).await;
}

/// Ends the session or revokes the token that the agent used; if that is not possible, pauses the agent.
async fn revoke_access(
    directory: &Directory,
    agent: &Agent,
) -> Result<&'static str, DirectoryError> {
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
    let hold = |agent: &mut Record<keyward_model::Agent>| agent.facts.hold(PauseCause::Alarm);
    let paused = directory.change::<keyward_model::Agent>(&agent.org, &agent.id, hold).await;
    paused.map(|_| "agent paused")
}

async fn announce_former_token(directory: &Directory, former: FormerToken) {
    let FormerToken { agent, token, reason } = former;
    tracing::warn!(
        id = "old_token_used", agent = &*agent.name, %token, reason,
        "a token that is no longer valid was sent"
    );
    let details = NoticeDetails {
        agent: Some(NamedResource::new(agent.id.clone(), &agent.name)),
        token: Some(token),
        reason: Some(reason.to_owned()),
        ..NoticeDetails::default()
    };
    announce(directory, &agent, NoticeKind::TokenRefused, details).await;
}

async fn announce(directory: &Directory, agent: &Agent, kind: NoticeKind, details: NoticeDetails) {
    if let Err(error) = directory.announce(&agent.org, kind, details).await {
        tracing::error!(%error, event = kind.code(), "an event is not delivered");
    }
}
