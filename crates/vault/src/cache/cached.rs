//! [`CachedCredential`]: a credential with its age. The age decides whether the credential is used, renewed, or
//! waited for.

use std::sync::Arc;
use std::time::Duration;

use keyward_base::time::{Clock, Moment};
use keyward_rules::inject::credential::Credential;

/// A credential and how long it lives.
#[derive(Debug)]
pub struct CachedCredential {
    pub(super) credential: Arc<Credential>,
    /// When `life` began to count.
    at: Moment,
    /// `None`: until the upstream refuses it.
    life: Option<Lifetime>,
}

/// Ages of a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// From here on a newer one is fetched, while this one is used.
    pub(super) ages: Duration,
    /// From here on requests wait for it.
    pub(super) late: Duration,
    /// It is never sent from here on.
    pub(super) ends: Duration,
}

/// How old a credential is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Young,
    Ageing,
    LateAnswers,
    Dead,
}

impl CachedCredential {
    /// A credential that lives as `life` says from `at` on.
    pub fn new(credential: Arc<Credential>, at: Moment, life: Option<Lifetime>) -> Self {
        Self { credential, at, life }
    }

    /// The credential.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// Whether it is already beyond its end.
    pub fn is_dead(&self, now: Moment) -> bool {
        self.phase(now) == Phase::Dead
    }

    /// Whether it is old enough for a newer one.
    pub fn ages(&self, now: Moment) -> bool {
        self.phase(now) != Phase::Young
    }

    pub(super) fn is_young(&self, clock: &Clock) -> bool {
        self.life.is_none_or(|life| clock.moment().since(&self.at) < life.ages)
    }

    pub(super) fn phase(&self, now: Moment) -> Phase {
        let Some(life) = self.life else { return Phase::Young };
        match now.since(&self.at) {
            age if age < life.ages => Phase::Young,
            age if age >= life.ends => Phase::Dead,
            age if age < life.late => Phase::Ageing,
            _ => Phase::LateAnswers,
        }
    }
}

impl Lifetime {
    /// Of a credential that ends in `left` of a life of `whole`, and is renewed `buffer` before its end,
    /// or half its life when that is less. What cannot be renewed is used to its end.
    pub fn new(left: Duration, whole: Duration, buffer: Option<Duration>) -> Self {
        let buffer = buffer.map_or(Duration::ZERO, |buffer| buffer.min(whole / 2));
        let (ages, late) = (left.saturating_sub(buffer), left.saturating_sub(buffer / 2));
        Self { ages, late, ends: left }
    }
}
