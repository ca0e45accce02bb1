//! The simulated authorization server: its answers, when they arrive, and whether they rotate the refresh token.

use std::collections::HashSet;
use std::fmt;

use super::fleet::AskingReplica;
use super::*;
use crate::grant::oauth::{ErrorCode, OAuthGrant, Temporary, Tokens};
use crate::grant::{Dead, MintError};

/// The server's next answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// When it arrives, in milliseconds after the request.
    pub(super) after: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A token that is valid for this number of seconds, or for an unknown time.
    Token(Option<u32>),
    /// A temporary failure, with a `Retry-After` in seconds if there is one. The token is not rotated.
    Later(Option<u32>),
    /// The token is rotated, and the answer is lost.
    Lost,
    /// The grant has ended.
    Dead,
    /// The client is rejected. The token is not rotated.
    Rejected,
    /// An unknown error code. The token is not rotated.
    Odd,
    /// The token is rotated, and the answer arrives after the client has stopped waiting for it.
    GivenUp,
}

impl What {
    /// The effect of an answer that arrives `after` milliseconds, when the client has stopped waiting. A token may be
    /// lost only if the answer is later than [`AWAITED`].
    fn too_late(self, after: u64, world: &World) -> Self {
        match self {
            Self::Token(_) => {
                if after > AWAITED {
                    world.may_break.store(true, SeqCst);
                }
                Self::GivenUp
            }
            Self::Lost | Self::GivenUp => Self::Lost,
            Self::Later(_) | Self::Dead | Self::Rejected | Self::Odd => Self::Later(None),
        }
    }
}

/// The answers that a vault gets.
#[derive(Clone)]
pub(crate) struct Script {
    pub(super) world: Arc<World>,
    pub(super) clock: Clock,
    /// The tokens for which it got a newer one.
    pub(super) answered: Arc<Mutex<HashSet<(u64, u64)>>>,
    /// In simulations of several replicas, the replica that sends the request.
    pub(super) replica: Option<AskingReplica>,
}

struct Asking<'a>(&'a World, &'a ConnectionId);

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.lock().remove(self.1);
    }
}

pub(super) fn grant(clock: &Clock, family: u64, number: u64, life: Option<u32>) -> Grant {
    let sent = clock.now();
    let expires = life.map(|life| sent + Duration::from_secs(life.into()));
    let access = Secret::from(format!("access-{family}-{number}"));
    let refresh = Some(Secret::from(format!("{family}-{number}")));
    Grant::OAuth(OAuthGrant::of(Tokens { refresh, expires, ..Tokens::of(access, sent) }))
}

/// The numbers of a grant's refresh token, as [`grant`] writes them.
pub(super) fn numbers(grant: &Grant) -> (u64, u64) {
    let refresh = grant.revocable().and_then(|it| it.refresh).expect("a refresh token");
    let refresh = refresh.expose_text().expect("text").to_owned();
    let (family, number) = refresh.split_once('-').expect("two numbers");
    (family.parse().unwrap(), number.parse().unwrap())
}

impl World {
    /// Drops the scripted answers, so that all further requests succeed.
    pub(super) fn all_succeed(&self) {
        self.answers.lock().clear();
    }

    /// The next answer, for a client that waits for `limit`.
    pub(super) fn next_answer(&self, limit: Duration) -> Answer {
        let usual = Answer { after: 5, what: What::Token(Some(3_600)) };
        let Answer { after, what } = self.answers.lock().pop_front().unwrap_or(usual);
        match Duration::from_millis(after) > limit {
            true => Answer { what: what.too_late(after, self), after: limit.as_millis() as u64 },
            false => Answer { what, after },
        }
    }
}

impl Script {
    pub(crate) async fn asked(
        &self,
        connection: &ConnectionRecord,
        grant: &Grant,
        limit: Duration,
    ) -> Result<Grant, MintError> {
        let Self { world, clock, answered, replica } = self;
        if let Some(replica) = replica {
            return replica.asked(clock, grant, limit).await;
        }
        if !world.asking.lock().insert(connection.id.clone()) {
            world.is_wrong("two mints at once");
        }
        let _asking = Asking(world, &connection.id);
        world.asked.fetch_add(1, SeqCst);
        let (family, number) = numbers(grant);
        if answered.lock().contains(&(family, number)) {
            world.is_wrong("a spent token was sent by the replica that has the newer one");
        }
        let Answer { after, what } = world.next_answer(limit);
        if matches!(what, What::Rejected) {
            passes(after).await;
            let (reason, code) = (Dead::ClientRejected, ErrorCode::of("invalid_client"));
            return Err(MintError::Dead { reason, code, said: None });
        }
        let spent = world.rotated.lock()[&family] != number;
        if spent || matches!(what, What::Dead) {
            if !spent {
                world.rotated.lock().insert(family, u64::MAX);
                world.may_break.store(true, SeqCst);
            }
            passes(after).await;
            let (reason, code) = (Dead::Revoked, ErrorCode::of("invalid_grant"));
            return Err(MintError::Dead { reason, code, said: None });
        }
        if matches!(what, What::Token(_) | What::Lost | What::GivenUp) {
            world.rotated.lock().insert(family, number + 1);
        }
        let sent = Clock::clone(clock);
        let newer = match what {
            What::Token(life) => Some(self::grant(&sent, family, number + 1, life)),
            _ => None,
        };
        passes(after).await;
        let mut temporary = Temporary::of("later");
        match (newer, what) {
            (Some(newer), _) => {
                answered.lock().insert((family, number));
                return Ok(newer);
            }
            (None, What::Odd) => {
                temporary.code = Some(ErrorCode::of("odd"));
                temporary.unknown_code = true;
            }
            (None, What::Lost) => world.may_break.store(true, SeqCst),
            (None, What::Later(seconds)) => {
                temporary.retry_after = seconds.map(|it| Duration::from_secs(it.into()));
            }
            (None, _) => {}
        }
        Err(MintError::Unavailable(Box::new(temporary)))
    }
}
