//! `POST /runs`: a token that is valid while the response is read. The first line of the response is the token. When
//! the reader exits, the kernel closes its stream and the token is revoked at once.
//!
//! The program of a run may only be examined; further lines are then what the data path sees of it.
//!
//! The token also has a short expiry, which is renewed meanwhile, so that a killed gateway leaves no token that
//! is valid for long.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::Body as Answer;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::why_paused;
use crate::agents::run_counter::OpenRun;
use crate::audit_log::Run;
use crate::auth::Caller;
use crate::body::Body;
use crate::connections::file;
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi::{JsonLinesAnswer, Routes};
use crate::resource;
use crate::state::Admin;
use crate::tokens::shown_once;
use crate::wire::{NewRun, SecretText, TokenIssued};
use keyward_base::id::{AgentId, OrgId, TokenId};
use keyward_base::secret::Secret;
use keyward_model::Agent;
use keyward_net::processes;
use keyward_proxy::{ProbeEvent, ProbeRegistration, ProbeScope};
use keyward_state::crypto::token::TokenHash;
use keyward_state::directory::AgentRecord;
use keyward_state::observe::change::Change;
use keyward_state::observe::event::Outcome;

/// How long a token stays valid after the gateway was killed.
const LIFE: SignedDuration = SignedDuration::from_secs(120);
/// Short, so that a machine wakes from sleep with valid tokens soon.
const RENEW_EVERY: Duration = Duration::from_secs(15);

/// The process at the other end of the admin socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) Option<u32>);

/// A run's token and its owner.
struct RunToken {
    admin: Admin,
    org: OrgId,
    agent: AgentId,
    token: TokenId,
    /// Who started the run.
    caller: Caller,
    /// The run as logged.
    run: Run,
    open: OpenRun,
    /// If the program is only examined.
    probe: Option<ProbeRegistration>,
}

pub(crate) fn routes() -> Routes {
    Routes::new().post(
        "/runs",
        ["openRun", "Open a run: a token that is valid while the answer is read"],
        open,
    )
}

async fn open(
    context: Context,
    peer: Option<Extension<Peer>>,
    Body(new): Body<NewRun>,
) -> Result<JsonLinesAnswer<TokenIssued, 201>, ApiError> {
    let Context { admin, caller } = &context;
    // Only a gateway has runs, and a run must not prevent it from stopping.
    if admin.locations().is_none() {
        return Err(ApiError::NoSuchPath);
    }
    let open = admin.runs().count();
    // A gateway that serves one examined program ends with it.
    let gateway = admin.deps().data_path.upgrade();
    if !admin.accepts_work() || gateway.is_some_and(|it| it.probes().have_gateway()) {
        return Err(ApiError::Draining);
    }
    let agent = resource::found::<Agent>(&context, &new.agent)?;
    let action = if new.token.is_some() { "resumed" } else { "started" };
    let label = Some(new.label.clone());
    let run = Run { action, agent: agent.name.clone(), token: None, label };
    caller.record_run(run.clone());
    if admin.deps().directory.view().is_inactive(&agent) {
        // The program of a paused agent would only get refusals.
        let (why, hint) = why_paused(&agent);
        let message = format!("agent `{}` is paused: {why}", agent.name);
        return Err(ApiError::field("agent", message).hint(hint));
    }
    let scope = new.examine.then(|| scope(admin, peer)).transpose()?;
    file::record_those_of(&context, &agent).await;
    let expires = admin.deps().clock.now() + LIFE;
    let (token, line) = take_token(admin, &agent, new, expires).await?;
    let run = Run { token: Some(token.clone()), ..run };
    caller.record_run(run.clone());
    admin.runs().tokens.lock().insert(token.clone(), false);
    admin.deps().metrics.run_refusals.watch(&token);
    let (org, agent) = (agent.org.clone(), agent.id.clone());
    let (admin, caller) = (admin.clone(), caller.clone());
    let mut held = RunToken { admin, org, agent, token, caller, run, open, probe: None };
    let mut events = None;
    if let Some(scope) = scope {
        let registered = probe(&held.admin, &held.token, scope);
        if registered.is_err() {
            // Its client never gets the token.
            held.release().await;
        }
        let (probe, receiver) = registered?;
        (held.probe, events) = (Some(probe), Some(receiver));
    }
    let (lines, closed) = mpsc::channel(1);
    // In a separate task: revoking the token must complete when the reader is gone.
    tokio::spawn(held.until_closed(lines));
    let seen = stream::unfold(events, |mut events| async move {
        let event: ProbeEvent = events.as_mut()?.recv().await?;
        let mut line = serde_json::to_vec(&event).expect("texts serialise");
        line.push(b'\n');
        Some((Bytes::from(line), events))
    });
    // Nothing is sent: it ends with the run.
    let end =
        stream::unfold(closed, |mut closed| async move { Some((closed.recv().await?, closed)) });
    let all = stream::iter([line]).chain(seen).chain(end).map(Ok::<Bytes, Infallible>);
    Ok(JsonLinesAnswer::new(Answer::from_stream(all)))
}

/// Whose streams are examined.
fn scope(admin: &Admin, peer: Option<Extension<Peer>>) -> Result<ProbeScope, ApiError> {
    let has_gateway = admin.runs().is_private() && admin.runs().open() == 1;
    let root = peer.and_then(|Extension(Peer(pid))| pid);
    let root = root.filter(|pid| processes::can_tell(*pid));
    if root.is_none() && !has_gateway {
        return Err(ApiError::refused("the gateway cannot determine the program of a stream").hint(
            "stop it, and the command starts one; or run it on Linux with /proc, as the same user, in no container",
        ));
    }
    Ok(ProbeScope { root, has_gateway })
}

fn probe(
    admin: &Admin,
    token: &TokenId,
    scope: ProbeScope,
) -> Result<(ProbeRegistration, mpsc::Receiver<ProbeEvent>), ApiError> {
    let gateway = admin.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let registered = gateway.probes().add(token.clone(), scope).ok_or_else(|| {
        ApiError::refused("too many programs are examined at once")
            .hint("wait until another `keyward doctor` has ended")
    })?;
    // A run that began meanwhile may not know of the probe, which would take its streams. It is counted before it asks.
    let is_alone = !scope.has_gateway || admin.runs().open() == 1;
    is_alone.then_some(registered).ok_or(ApiError::Draining)
}

/// Issues a new token, or resumes the one that the run had before a restart of the gateway; also returns the
/// line that shows it.
async fn take_token(
    admin: &Admin,
    agent: &AgentRecord,
    new: NewRun,
    expires: Timestamp,
) -> Result<(TokenId, Bytes), ApiError> {
    let (directory, org) = (&admin.deps().directory, agent.org.clone());
    if let Some(SecretText(token)) = new.token {
        // A revoked token is not resumed.
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

impl Drop for RunToken {
    fn drop(&mut self) {
        self.open.forget(&self.token);
        self.admin.deps().metrics.run_refusals.forget(&self.token);
    }
}

impl RunToken {
    /// Renews the token until its reader is gone or the caller has no access any more, then revokes it; ends the
    /// response when the token was revoked. A gateway that stops ends the response and leaves the token to its expiry,
    /// because the run may continue with the next gateway.
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
                    self.release().await;
                    break Some("its program ended");
                }
                () = self.caller.authentication_end(self.admin.deps()) => {
                    // With another role it may be opened again, with the same token.
                    if !self.caller.has_live_credential(self.admin.deps()) {
                        self.release().await;
                    }
                    break Some("its caller has no access any more");
                }
                () = self.admin.drain_started() => break None,
                changed = changes.changed() => if changed.is_err() { break None },
                _ = tick.tick() => if !self.renew().await { break Some("its token ended") },
            }
        };
        if let Some(why) = ended {
            if let Some(probe) = &self.probe {
                probe.settle().await;
            }
            self.tell(why).await;
        }
        // Uncounted before the response ends, so that a reader who sees the end finds the run gone.
        drop(self);
        drop(lines);
    }

    /// Records the end of the run, unless a request that ended it does.
    async fn tell(&self, why: &str) {
        let is_told = self.admin.runs().tokens.lock().remove(&self.token);
        if is_told == Some(true) {
            return;
        }
        let deps = self.admin.deps();
        let change = Change::new(&self.caller.actor(), "run", "ended").because(why);
        let mut event = change.event(deps.clock.now(), &self.org, Outcome::Completed);
        Run { action: "ended", ..self.run.clone() }.write(&mut event);
        deps.changes.record(event).await;
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
            // The token was revoked, its agent removed, or it expired while the machine slept: the program asks
            // again.
            tracing::info!(token = %self.token, %error, "a run's token was not renewed");
        }
        renewed.is_ok()
    }

    async fn release(&self) {
        let (directory, org) = (&self.admin.deps().directory, &self.org);
        let revoked = directory.revoke_token(org, &self.agent, &self.token).await;
        if let Err(error) = revoked {
            tracing::debug!(token = %self.token, %error, "a run's token was gone already");
        }
    }
}
