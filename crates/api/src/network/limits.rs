//! Limits of clients on the network. [`ApiLimits`]: how often they may fail to authenticate, and how many requests
//! a token or a login may send. [`RunningRequests`]: how many requests of a user, and of an organisation, the admin
//! listener answers at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::request_refusal::RequestRefusal;
use keyward_base::id::{OrgId, UserId};
use keyward_base::limits::Limits;
use keyward_base::settings::Rate;
use keyward_base::time::whole_seconds;
use keyward_proxy::{AuthFailures, LimitSpace, SharedLimits};
use keyward_state::directory::UserCredential;

/// Failures are counted by address and never refuse a valid token: tokens have 256 random bits, so the limit only has
/// to keep guesses cheap, and clients behind one proxy must not lock each other out.
#[derive(Debug)]
pub(super) struct ApiLimits {
    failures: AuthFailures,
    rate: Rate,
    shared: Arc<SharedLimits>,
}

impl ApiLimits {
    pub(super) fn new(limits: &Limits, shared: &Arc<SharedLimits>) -> Self {
        let max = limits.auth_failures_per_minute_max;
        Self {
            failures: AuthFailures::new(shared.clone(), LimitSpace::ApiTokens, max),
            rate: Rate::per_minute(limits.api_requests_per_minute_max),
            shared: shared.clone(),
        }
    }

    /// Counts a failed authentication.
    ///
    /// # Errors
    /// When there were too many from this address.
    pub(super) fn failed(&self, client: IpAddr) -> Result<(), RequestRefusal> {
        match self.failures.failed(Some(client)) {
            None => Ok(()),
            Some(wait) => Err(RequestRefusal::AuthFailures { retry_after: whole_seconds(wait) }),
        }
    }

    /// Counts a request of a token or login.
    ///
    /// # Errors
    /// When there were too many.
    pub(super) fn take(&self, credential: &UserCredential) -> Result<(), RequestRefusal> {
        let id = match credential {
            UserCredential::Token(id) => id.as_str(),
            UserCredential::Login(id) => id.as_str(),
        };
        let taken = self.shared.take(LimitSpace::ApiRequests, id.as_bytes(), self.rate);
        taken.map_err(|wait| RequestRefusal::TokenRate { retry_after: whole_seconds(wait) })
    }
}

/// Maximum number of streams per listener. On TCP, a further stream evicts an idle one; on the socket, whose peers are
/// our own user, it waits in the kernel's queue.
pub(crate) const STREAMS_MAX: usize = 256;

/// Requests of one user.
const OF_USER_MAX: usize = 96;

/// The requests of users over the network that are being answered; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningRequests(Arc<Mutex<RunningCounts>>);

#[derive(Debug, Default)]
struct RunningCounts {
    all: usize,
    of_orgs: HashMap<OrgId, usize>,
    of_users: HashMap<UserId, usize>,
}

/// A request that is being answered; uncounted when dropped.
#[derive(Debug)]
pub(crate) struct RunningRequest {
    requests: RunningRequests,
    org: OrgId,
    user: UserId,
}

impl RunningRequests {
    /// Counts a request. `None` if its user has too many, or if its organisation would have more than it leaves to
    /// others.
    pub(super) fn begin(&self, org: &OrgId, user: &UserId) -> Option<RunningRequest> {
        let mut counts = self.0.lock();
        let of = |count: Option<&usize>| count.copied().unwrap_or_default() + 1;
        let (of_org, of_user) = (of(counts.of_orgs.get(org)), of(counts.of_users.get(user)));
        let left = STREAMS_MAX.saturating_sub(counts.all + 1);
        if of_user > OF_USER_MAX || of_org > left.max(1) {
            return None;
        }
        counts.all += 1;
        counts.of_orgs.insert(org.clone(), of_org);
        counts.of_users.insert(user.clone(), of_user);
        Some(RunningRequest { requests: self.clone(), org: org.clone(), user: user.clone() })
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let mut counts = self.requests.0.lock();
        counts.all -= 1;
        decrement(&mut counts.of_orgs, &self.org);
        decrement(&mut counts.of_users, &self.user);
    }
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use keyward_base::id::TokenId;

    fn token() -> UserCredential {
        UserCredential::Token(TokenId::random())
    }

    #[tokio::test(start_paused = true)]
    async fn the_requests_of_a_token_do_not_count_toward_another_token() {
        let limits = Limits { api_requests_per_minute_max: 2, ..Limits::default() };
        let limits = ApiLimits::new(&limits, &SharedLimits::new(None).unwrap());
        let (one, other) = (token(), token());
        assert_eq!([limits.take(&one), limits.take(&one)], [Ok(()), Ok(())]);
        let refusal = RequestRefusal::TokenRate { retry_after: 30 };
        assert_eq!(limits.take(&one), Err(refusal));
        assert_eq!(limits.take(&other), Ok(()));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(limits.take(&one), Ok(()));
    }

    /// As many requests of the user as are accepted.
    fn all(requests: &RunningRequests, org: &str, user: &UserId) -> Vec<RunningRequest> {
        let org = OrgId::named(org).unwrap();
        std::iter::from_fn(|| requests.begin(&org, user)).collect()
    }

    #[test]
    fn an_organisation_leaves_as_many_streams_as_its_requests_have() {
        let requests = RunningRequests::default();
        let [ann, bob, eve, other] = std::array::from_fn(|_| UserId::random());
        let of_ann = all(&requests, "acme", &ann);
        let of_bob = all(&requests, "acme", &bob);
        assert_eq!((of_ann.len(), of_bob.len()), (96, 32));
        assert_eq!(all(&requests, "acme", &eve).len(), 0);
        assert_eq!(all(&requests, "other", &other).len(), 64);
        drop((of_ann, of_bob));
        let counts = requests.0.lock();
        assert_eq!((counts.all, counts.of_orgs.len(), counts.of_users.len()), (0, 0, 0));
    }
}
