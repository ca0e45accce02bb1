//! What nobody has a reason to send: a honeytoken, or a token that was revoked or is over. It is refused
//! like every unknown one; here it is told, at most once in a while for each.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Gateway;
use super::inbound::Inbound;
use crate::base::agent::Agent;
use crate::directory::{Directory, DirectoryError, Former, HoneytokenRecord};
use crate::observe::notice::{About, Named, NoticeKind};

/// What was told is remembered for so many; the one that was told longest ago is forgotten first.
const TOLD_MAX: usize = 4_096;

/// Between two alarms by one agent with one honeytoken.
const HONEYTOKEN_EVERY: Duration = Duration::from_secs(60);

/// Between two of one token: programs repeat what they hold.
const TOKEN_EVERY: Duration = Duration::from_secs(3_600);

/// What was told, and when.
#[derive(Debug)]
pub struct Alarms(Mutex<LruCache<String, Instant>>);

impl Default for Alarms {
    fn default() -> Self {
        let most = NonZeroUsize::new(TOLD_MAX).expect("a constant above zero");
        Self(Mutex::new(LruCache::new(most)))
    }
}

impl Alarms {
    /// Whether to tell it now.
    fn is_new(&self, what: String, every: Duration) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock();
        // Only looked at: being tried again puts nothing off, and keeps it no longer.
        if told.peek(&what).is_some_and(|last| now.duration_since(*last) < every) {
            return false;
        }
        told.put(what, now);
        true
    }
}

/// Looks for honeytokens among the placeholders of a request. What becomes of the request, policy says:
/// nobody can tell a honeytoken from a placeholder that is unknown.
pub(super) fn honeytokens(gateway: &Gateway, agent: &Agent, inbound: &Inbound) {
    let asked = inbound.asked();
    if asked.placeholders.is_empty() {
        return;
    }
    let view = gateway.directory.glance();
    for found in asked.placeholders.iter().filter_map(|core| view.honeytoken(&agent.org, core)) {
        if gateway.alarms.is_new(format!("{}{}", found.id, agent.id), HONEYTOKEN_EVERY) {
            let (directory, found, agent) =
                (gateway.directory.clone(), found.clone(), agent.clone());
            let host = asked.target.authority();
            let told = async move { caught(&directory, &found, &agent, host).await };
            // A gateway that stops now tells it first.
            gateway.vault.in_flight(told);
        }
    }
}

/// Looks whether a token that opened nothing once did.
pub(super) fn token(gateway: &Gateway, text: &str) {
    let view = gateway.directory.glance();
    let Some(former) = view.former(text, gateway.clock.now()) else { return };
    if gateway.alarms.is_new(former.token.to_string(), TOKEN_EVERY) {
        let directory = gateway.directory.clone();
        gateway.vault.in_flight(async move { refused(&directory, former).await });
    }
}

async fn caught(directory: &Arc<Directory>, found: &HoneytokenRecord, agent: &Agent, host: String) {
    let done = match found.revokes {
        false => None,
        true => Some(match disarm(directory, agent).await {
            Ok(done) => done.to_owned(),
            Err(error) => {
                tracing::error!(%error, agent = &*agent.name, "its token cannot be revoked");
                "not revoked".to_owned()
            }
        }),
    };
    tracing::warn!(
        agent = &*agent.name,
        honeytoken = found.name,
        host,
        done,
        "a honeytoken was sent"
    );
    let about = About {
        honeytoken: Some(found.name.clone()),
        agent: Some(Named::new(agent.id.clone(), &agent.name)),
        token: agent.token.clone(),
        host: Some(host),
        detail: done,
        ..About::default()
    };
    tell(directory, agent, NoticeKind::HoneytokenUsed, about).await;
}

/// Takes the token away that the agent came with; where that cannot be, the agent is paused.
async fn disarm(directory: &Directory, agent: &Agent) -> Result<&'static str, DirectoryError> {
    if let Some(token) = &agent.token {
        match directory.revoke_token(&agent.org, &agent.id, token).await {
            Err(DirectoryError::ManagedByFile { .. }) => {}
            other => return other.map(|()| "token revoked"),
        }
    }
    directory.set_agent_held(&agent.org, &agent.id, true).await.map(|_| "agent paused")
}

async fn refused(directory: &Arc<Directory>, former: Former) {
    let Former { agent, token, reason } = former;
    tracing::warn!(agent = &*agent.name, %token, reason, "a token that opens nothing any more was sent");
    let about = About {
        agent: Some(Named::new(agent.id.clone(), &agent.name)),
        token: Some(token),
        reason: Some(reason.to_owned()),
        ..About::default()
    };
    tell(directory, &agent, NoticeKind::TokenRefused, about).await;
}

async fn tell(directory: &Arc<Directory>, agent: &Agent, kind: NoticeKind, about: About) {
    if let Err(error) = directory.announce(&agent.org, kind, about).await {
        tracing::error!(%error, event = kind.code(), "an event is told to nobody");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_is_told_once_in_a_while() {
        let alarms = Alarms::default();
        let every = Duration::from_secs(60);
        let new = |what: &str| alarms.is_new(what.to_owned(), every);
        assert!(new("a"));
        assert!(new("b"));
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(!new("a"));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(new("a"), "asking in between delays nothing");
        assert!(!new("a"));
    }
}
