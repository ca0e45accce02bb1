//! Leases within one process: sufficient for backends whose data belong to one process. Leases across replicas are rows
//! of their shared database.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A named lease; ends when dropped (best effort) or when its ttl expires.
#[must_use = "a lease ends when it is dropped"]
pub struct Lease {
    name: String,
    number: u64,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// How long an expired claim is remembered, unless another holder takes the name: its holder may still renew it.
const RENEWABLE_FOR: Duration = Duration::from_secs(3_600);

/// The claims of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Leases(Arc<Mutex<LeaseClaims>>);

#[derive(Debug, Default)]
struct LeaseClaims {
    held: HashMap<String, LeaseClaim>,
    count: u64,
}

#[derive(Debug)]
struct LeaseClaim {
    /// Distinguishes successive holders of the same name.
    number: u64,
    until: Instant,
}

impl Lease {
    /// A lease that calls `release` when dropped. `release` must do nothing if the lease has expired and
    /// another holder has the name; `number` distinguishes them.
    pub(super) fn new(
        name: &str,
        number: u64,
        release: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.to_owned(), number, release: Some(Box::new(release)) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops the handle without releasing the lease, which then ends at its expiry.
    pub(super) fn keep_until_expiry(mut self) {
        self.release = None;
    }

    /// Distinguishes successive holders of the name.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({})", self.name)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl Leases {
    /// Acquires the name, unless it is held.
    pub(super) fn claim(&self, name: &str, ttl: Duration) -> Option<Lease> {
        let now = Instant::now();
        let mut claims = self.0.lock();
        // Removes old claims, so that they do not accumulate.
        claims.held.retain(|_, claim| claim.until + RENEWABLE_FOR > now);
        if claims.held.get(name).is_some_and(|claim| claim.until > now) {
            return None;
        }
        claims.count += 1;
        let number = claims.count;
        claims.held.insert(name.to_owned(), LeaseClaim { number, until: now + ttl });
        let (leases, held) = (self.clone(), name.to_owned());
        Some(Lease::new(name, number, move || leases.release(&held, number)))
    }

    /// Extends a lease to `ttl` from now, also after its expiry; false if another holder had the name since.
    pub(super) fn renew(&self, lease: &Lease, ttl: Duration) -> bool {
        let now = Instant::now();
        let mut claims = self.0.lock();
        let held = claims.held.get_mut(&lease.name);
        match held.filter(|claim| claim.number == lease.number) {
            Some(claim) => {
                claim.until = now + ttl;
                true
            }
            None => false,
        }
    }

    fn release(&self, name: &str, number: u64) {
        let mut claims = self.0.lock();
        if claims.held.get(name).is_some_and(|claim| claim.number == number) {
            claims.held.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_release_does_not_end_the_next_holders_claim() {
        let leases = Leases::default();
        let expired = leases.claim("con_1", Duration::ZERO).unwrap();
        let _next = leases.claim("con_1", Duration::from_secs(3600)).unwrap();
        drop(expired);
        assert!(leases.claim("con_1", Duration::from_secs(3600)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewed_claim_outlives_its_first_time() {
        let (leases, second) = (Leases::default(), Duration::from_secs(1));
        let held = leases.claim("con_1", second).unwrap();
        for _ in 0..10 {
            tokio::time::advance(second / 2).await;
            assert!(leases.renew(&held, second));
        }
        assert!(leases.claim("con_1", second).is_none());
        tokio::time::advance(second).await;
        assert!(leases.renew(&held, second), "its time is over, and no other holder had the name");
        assert!(leases.claim("con_1", second).is_none());
        tokio::time::advance(second).await;
        let other = leases.claim("con_1", second).unwrap();
        assert!(!leases.renew(&held, second), "another has it");
        drop(other);
        assert!(!leases.renew(&held, second), "another had it");
    }

    #[tokio::test(start_paused = true)]
    async fn expired_claims_are_forgotten() {
        let leases = Leases::default();
        let expired: Vec<_> =
            (0..100).filter_map(|n| leases.claim(&n.to_string(), Duration::ZERO)).collect();
        tokio::time::advance(RENEWABLE_FOR).await;
        let _one = leases.claim("one", Duration::from_secs(3600));
        assert_eq!((expired.len(), leases.0.lock().held.len()), (100, 1));
    }
}
