//! [`CachedCredential`]: a credential with its age. The age decides whether the credential is used, renewed, or
//! waited for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyward_base::time::{Clock, Moment};
use keyward_rules::inject::credential::Credential;

/// A credential with its lifetime.
#[derive(Debug)]
pub struct CachedCredential {
    pub(super) credential: Arc<Credential>,
    /// Begin of `life`.
    at: Moment,
    /// `None`: valid until the upstream rejects it.
    life: Option<Lifetime>,
    /// When its token was requested; `None`: the owner gave it.
    sent: Option<Timestamp>,
}

/// The ages at which a credential is renewed, waited for, and dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// From this age it is renewed while it is used.
    pub(super) ages: Duration,
    /// From this age requests wait for a newer one.
    pub(super) late: Duration,
    /// From this age it is not sent.
    pub(super) ends: Duration,
}

/// How old a credential is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Young,
    Ageing,
    Late,
    Dead,
}

impl CachedCredential {
    /// A credential whose lifetime begins at `at`.
    pub fn new(credential: Arc<Credential>, at: Moment, life: Option<Lifetime>) -> Self {
        Self { credential, at, life, sent: None }
    }

    /// The same, with the time at which its token was requested.
    #[must_use]
    pub fn requested_at(self, sent: Option<Timestamp>) -> Self {
        Self { sent, ..self }
    }

    /// Whether its token was issued within this time.
    pub(super) fn is_new(&self, now: Timestamp, within: Duration) -> bool {
        let age = self.sent.and_then(|sent| Duration::try_from(now.duration_since(sent)).ok());
        age.is_some_and(|age| age < within)
    }

    pub fn credential(&self) -> &Arc<Credential> {
        &self.credential
    }

    /// Whether it has expired.
    pub fn is_dead(&self, now: Moment) -> bool {
        self.phase(now) == Phase::Dead
    }

    /// Whether it must be renewed.
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
            _ => Phase::Late,
        }
    }
}

impl Lifetime {
    /// The lifetime of a credential that is fetched again from `ages` on, waited for from `late` on, and used until `ends`
    /// if there is no newer one.
    pub fn kept(ages: Duration, late: Duration, ends: Duration) -> Self {
        Self { ages, late, ends }
    }

    /// The same lifetime, but requests do not wait: they use the credential until it expires.
    #[must_use]
    pub fn without_waiting(self) -> Self {
        Self { late: self.ends, ..self }
    }

    /// The same lifetime, but it is renewed from half of the `whole` life on. Requests wait no earlier.
    #[must_use]
    pub fn renewed_at_half(self, whole: Duration) -> Self {
        let half = self.ends.saturating_sub(whole / 2);
        Self { ages: self.ages.min(half), ..self }
    }

    /// The lifetime of a credential that expires after `left` of `whole`. It is renewed `buffer` before its
    /// end, or at half its life if that is later. A credential that cannot be renewed is used to its end.
    pub fn new(left: Duration, whole: Duration, buffer: Option<Duration>) -> Self {
        let buffer = buffer.map_or(Duration::ZERO, |buffer| buffer.min(whole / 2));
        let (ages, late) = (left.saturating_sub(buffer), left.saturating_sub(buffer / 2));
        Self { ages, late, ends: left }
    }
}
