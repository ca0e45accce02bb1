//! [`RunningRequests`]: how many requests of a user, and of an organisation, the admin listener answers at once. A run
//! is answered for as long as its program runs, and a request to a slow service takes minutes: without a limit, the
//! holder of one token could take all streams from everybody.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

use keyward_base::id::{OrgId, UserId};

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
    use super::*;

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
