//! `POST /runs`: a token that lives as long as the answer is read. The answer's first line is the
//! token; nothing follows until either side ends it. However the reader ends, the kernel closes its
//! stream, and the token goes at once.
//!
//! The token has a short expiry as well, renewed meanwhile: a gateway that is killed leaves nothing
//! in its store that opens anything for long.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::agents::why_paused;
use super::auth::Caller;
use super::body::Body;
use super::error::ApiError;
use super::ledger::Run;
use super::state::Admin;
use super::tokens::shown_once;
use super::wire::{NewRun, SecretText};
use keyward_base::id::{AgentId, OrgId, TokenId};
use keyward_base::secret::Secret;
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::AgentRecord;
use keyward_state::observe::change::{Actor, Change};
use keyward_state::observe::event::Outcome;

/// How long a token outlives the gateway that was killed.
const LIFE: SignedDuration = SignedDuration::from_secs(120);
/// Often enough that a machine which slept has its tokens back soon.
const RENEW_EVERY: Duration = Duration::from_secs(15);

/// How many runs are open, and whether the gateway is there for them alone.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    open: watch::Sender<usize>,
    /// Whether anyone ever asked for one, also in vain.
    begun: watch::Sender<bool>,
    private: Arc<AtomicBool>,
    /// The tokens of those that are open, and whether a request has said that it ends the run.
    tokens: Arc<Mutex<HashMap<TokenId, bool>>>,
}

/// One open run; uncounted when dropped.
pub(super) struct Counted(Runs);

/// A run's token, and whose it is.
struct Held {
    admin: Admin,
    org: OrgId,
    agent: AgentId,
    token: TokenId,
    /// Who started it.
    by: Actor,
    /// As the log tells of it.
    run: Run,
    counted: Counted,
}

impl Runs {
    /// The gateway will end with the last of them.
    pub fn make_private(&self) {
        self.private.store(true, Ordering::Relaxed);
    }

    /// Whether it will.
    pub fn is_private(&self) -> bool {
        self.private.load(Ordering::Relaxed)
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Resolves once a run was opened or refused.
    pub async fn begun(&self) {
        // The sender is ours: it cannot end.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }

    /// Resolves when none is.
    pub async fn ended(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Notes that a request ends the run of this token, and leaves the record of it; whether there is one.
    pub(super) fn is_ended_by_request(&self, token: &TokenId) -> bool {
        let mut tokens = self.tokens.lock();
        tokens.get_mut(token).map(|told| *told = true).is_some()
    }

    /// The request came to nothing.
    pub(super) fn goes_on(&self, token: &TokenId) {
        if let Some(told) = self.tokens.lock().get_mut(token) {
            *told = false;
        }
    }

    pub(super) fn count(&self) -> Counted {
        self.open.send_modify(|open| *open += 1);
        self.begun.send_replace(true);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/runs", post(open))
}

async fn open(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewRun>,
) -> Result<Response, ApiError> {
    // Only a gateway has runs, and one that stops must not be kept from it.
    if admin.places().is_none() {
        return Err(ApiError::NoSuchPath);
    }
    let counted = admin.runs().count();
    if !admin.is_ready() {
        return Err(ApiError::Draining);
    }
    let agent = admin.agent(&caller, &new.agent)?;
    let action = if new.token.is_some() { "resumed" } else { "started" };
    let label = Some(new.label.clone());
    let run = Run { action, agent: agent.name().to_owned(), token: None, label };
    caller.names_run(run.clone());
    if admin.deps().directory.view().is_asleep(&agent) {
        // Its program would get nothing but refusals.
        let (why, hint) = why_paused(&agent);
        let message = format!("agent `{}` is paused: {why}", agent.name());
        return Err(ApiError::Field { field: "agent".into(), message, hint: Some(hint.into()) });
    }
    let expires = admin.deps().clock.now() + LIFE;
    let (token, line) = take_token(&admin, &agent, new, expires).await?;
    let run = Run { token: Some(token.clone()), ..run };
    caller.names_run(run.clone());
    admin.runs().tokens.lock().insert(token.clone(), false);
    let (lines, body) = mpsc::channel(1);
    let (org, agent, by) = (agent.org.clone(), agent.id.clone(), caller.actor());
    let held = Held { admin, org, agent, token, by, run, counted };
    // In a task of its own: giving the token back must finish when the reader is gone.
    tokio::spawn(held.until_closed(lines));
    let first = futures_util::stream::iter([Ok::<_, Infallible>(line)]);
    let rest = futures_util::stream::unfold(body, |mut body| async move {
        body.recv().await.map(|line| (Ok(line), body))
    });
    let body = Answer::from_stream(futures_util::StreamExt::chain(first, rest));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::CREATED, kind, body).into_response())
}

/// A new token, or the one that a run held before the gateway was restarted; with the line that
/// shows it.
async fn take_token(
    admin: &Admin,
    agent: &AgentRecord,
    new: NewRun,
    expires: Timestamp,
) -> Result<(TokenId, Bytes), ApiError> {
    let (directory, org) = (&admin.deps().directory, agent.org.clone());
    if let Some(SecretText(token)) = new.token {
        // One that was revoked does not come back.
        let known = known(agent, &token).ok_or_else(|| ApiError::not_found("token", &new.label))?;
        directory.renew_token(&org, &agent.id, &known, expires).await?;
        return Ok((known, Bytes::from_static(b"{}\n")));
    }
    let label = Some(new.label);
    let issued = directory.add_token(&org, &agent.id, label.clone(), Some(expires), None).await?;
    let mut line = serde_json::to_vec(&shown_once(&issued, label)?).map_err(ApiError::internal)?;
    line.push(b'\n');
    Ok((issued.id, line.into()))
}

fn known(agent: &AgentRecord, token: &Secret) -> Option<TokenId> {
    let hash = TokenHash::of_secret(token).to_hex();
    let found = agent.facts.tokens.iter().find(|known| known.hash == hash);
    found.map(|token| token.id.clone())
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counted.0.tokens.lock().remove(&self.token);
    }
}

impl Held {
    /// Renews the token until its reader is gone, and gives it back then; ends the answer when the
    /// token was revoked. A gateway that stops ends the answer and leaves the token to its expiry:
    /// the run may go on with the next gateway.
    async fn until_closed(self, lines: mpsc::Sender<Bytes>) {
        let mut tick = tokio::time::interval(RENEW_EVERY);
        tick.tick().await;
        let mut changes = self.admin.deps().directory.changes();
        let ended = loop {
            if !self.exists() {
                break Some("its token was revoked");
            }
            tokio::select! {
                () = lines.closed() => {
                    self.give_back().await;
                    break Some("its program ended");
                }
                () = self.admin.drained() => break None,
                changed = changes.changed() => if changed.is_err() { break None },
                _ = tick.tick() => if !self.renew().await { break Some("its token ended") },
            }
        };
        if let Some(why) = ended {
            self.tell(why).await;
        }
        // Uncounted before the answer ends: whoever read it to its end finds the run gone.
        drop(self);
        drop(lines);
    }

    /// Writes down that the run has ended, unless a request does that ended it.
    async fn tell(&self, why: &str) {
        let is_told = self.admin.runs().tokens.lock().remove(&self.token);
        if is_told == Some(true) {
            return;
        }
        let deps = self.admin.deps();
        let change = Change::new(&self.by, "run", "ended").because(why);
        let mut event = change.event(deps.clock.now(), &self.org, Outcome::Completed);
        Run { action: "ended", ..self.run.clone() }.write(&mut event);
        deps.changes.tell(event).await;
    }

    fn exists(&self) -> bool {
        let view = self.admin.deps().directory.view();
        let agent = view.agent(&self.org, &self.agent);
        agent.is_some_and(|agent| agent.facts.tokens.iter().any(|token| token.id == self.token))
    }

    async fn renew(&self) -> bool {
        let (deps, org) = (self.admin.deps(), &self.org);
        let expires = deps.clock.now() + LIFE;
        let renewed = deps.directory.renew_token(org, &self.agent, &self.token, expires).await;
        if let Err(error) = &renewed {
            // Revoked, or its agent removed, or forgotten while the machine slept: the run asks.
            tracing::info!(token = %self.token, %error, "a run's token was not renewed");
        }
        renewed.is_ok()
    }

    async fn give_back(&self) {
        let (directory, org) = (&self.admin.deps().directory, &self.org);
        let revoked = directory.revoke_token(org, &self.agent, &self.token).await;
        if let Err(error) = revoked {
            tracing::debug!(token = %self.token, %error, "a run's token was gone already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_run_that_ends_is_noticed_and_not_one_before() {
        let runs = Runs::default();
        let (first, second) = (runs.count(), runs.count());
        runs.begun().await;
        drop(first);
        assert!(futures_util::FutureExt::now_or_never(runs.ended()).is_none());
        drop(second);
        runs.ended().await;
    }
}
