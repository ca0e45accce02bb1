//! [`RunRefusals`]: refused requests with the tokens of open runs, for the summary that `keyward run` prints. In memory
//! only, and bounded; requests that are not refused cost nothing.

use std::collections::HashMap;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::codes::Code;
use keyward_base::id::{ConnectionId, TokenId};

/// Most hosts, and most connections, that are counted for one run.
const ENTRIES_MAX: usize = 64;

/// The refusals of all open runs.
#[derive(Debug, Default)]
pub struct RunRefusals(Mutex<HashMap<TokenId, RefusalCounts>>);

/// The refusals of one run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RefusalCounts {
    /// Requests that Keyward refused.
    pub requests: u64,
    /// Their hosts, in the order of their first refusal; at most 64. Some requests have no host.
    pub hosts: Vec<RefusedHost>,
    /// Connections whose credential the provider rejected with 401, in the order of their first rejection; at most 64.
    pub rejected: Vec<RejectedConnection>,
}

/// A host and the refused requests to it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "HostRefusals")]
pub struct RefusedHost {
    /// `HOST`, or `HOST:PORT`.
    pub host: String,
    /// Requests.
    pub requests: u64,
    /// The set of hosts that would allow one of them: `allow` of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
    /// Whether one of them contained a placeholder of another agent or for another host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign_placeholder: bool,
}

/// A connection and the requests with its credential that the provider rejected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RejectedConnection {
    pub connection: ConnectionId,
    pub requests: u64,
}

impl RunRefusals {
    /// Begins counting for a token, if it has not begun.
    pub fn watch(&self, token: &TokenId) {
        self.0.lock().entry(token.clone()).or_default();
    }

    /// Stops counting for a token.
    pub fn forget(&self, token: &TokenId) {
        self.0.lock().remove(token);
    }

    /// The counts of a token; `None` if it is not of an open run.
    pub fn of(&self, token: &TokenId) -> Option<RefusalCounts> {
        self.0.lock().get(token).cloned()
    }

    /// Counts a refusal, unless its cause is the upstream or the gateway's own state. `host` gives the host with the
    /// set that would allow the request; it is called for tokens of open runs only.
    pub fn refused(
        &self,
        token: &TokenId,
        code: Code,
        host: impl FnOnce() -> Option<(String, Option<&'static str>)>,
    ) {
        if !code.status().is_client_error() {
            return;
        }
        let mut all = self.0.lock();
        let Some(counts) = all.get_mut(token) else { return };
        counts.requests += 1;
        let Some((host, set)) = host() else { return };
        let foreign_placeholder = code == Code::PlaceholderForeign;
        let has_room = counts.hosts.len() < ENTRIES_MAX;
        match counts.hosts.iter_mut().find(|known| known.host == host) {
            Some(known) => {
                known.requests += 1;
                known.set = known.set.take().or_else(|| set.map(str::to_owned));
                known.foreign_placeholder |= foreign_placeholder;
            }
            None if has_room => {
                let set = set.map(str::to_owned);
                counts.hosts.push(RefusedHost { host, requests: 1, set, foreign_placeholder });
            }
            None => {}
        }
    }

    /// Counts an answer 401 to a request with the connection's credential.
    pub fn rejected(&self, token: &TokenId, connection: &ConnectionId) {
        let mut all = self.0.lock();
        let Some(counts) = all.get_mut(token) else { return };
        let has_room = counts.rejected.len() < ENTRIES_MAX;
        match counts.rejected.iter_mut().find(|known| known.connection == *connection) {
            Some(known) => known.requests += 1,
            None if has_room => {
                let connection = connection.clone();
                counts.rejected.push(RejectedConnection { connection, requests: 1 });
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> impl FnOnce() -> Option<(String, Option<&'static str>)> {
        let name = name.to_owned();
        || Some((name, None))
    }

    #[test]
    fn refusals_of_a_token_without_an_open_run_are_not_counted() {
        let (counts, token) = (RunRefusals::default(), TokenId::random());
        counts.refused(&token, Code::DefaultDeny, || unreachable!("the host is not wanted"));
        counts.rejected(&token, &ConnectionId::random());
        assert_eq!(counts.of(&token), None);
        counts.watch(&token);
        counts.refused(&token, Code::DefaultDeny, host("a.test"));
        counts.forget(&token);
        assert_eq!(counts.of(&token), None);
    }

    #[test]
    fn failures_of_the_upstream_or_the_gateway_are_no_refusals() {
        let (counts, token) = (RunRefusals::default(), TokenId::random());
        counts.watch(&token);
        for code in [Code::UpstreamUnreachable, Code::UpstreamTimeout, Code::Draining] {
            counts.refused(&token, code, host("a.test"));
        }
        assert_eq!(counts.of(&token), Some(RefusalCounts::default()));
    }

    #[test]
    fn a_foreign_placeholder_is_reported_for_its_host_alone() {
        let (counts, token) = (RunRefusals::default(), TokenId::random());
        counts.watch(&token);
        for code in [Code::DefaultDeny, Code::PlaceholderForeign, Code::DefaultDeny] {
            counts.refused(&token, code, host("a.test"));
        }
        counts.refused(&token, Code::DefaultDeny, host("b.test"));
        counts.refused(&token, Code::PlaceholderForeign, host("c.test"));
        let hosts = counts.of(&token).unwrap().hosts;
        let foreign = hosts.iter().map(|it| (it.host.as_str(), it.foreign_placeholder));
        let wanted = [("a.test", true), ("b.test", false), ("c.test", true)];
        assert_eq!(foreign.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn hosts_and_connections_are_bounded_and_requests_are_all_counted() {
        let (counts, token) = (RunRefusals::default(), TokenId::random());
        counts.watch(&token);
        for number in 0..1_000 {
            counts.refused(&token, Code::DefaultDeny, host(&format!("{number}.test")));
            counts.rejected(&token, &ConnectionId::random());
        }
        counts.refused(&token, Code::DefaultDeny, || Some(("0.test".to_owned(), Some("pip"))));
        counts.watch(&token);
        let counts = counts.of(&token).unwrap();
        assert_eq!((counts.requests, counts.hosts.len()), (1_001, ENTRIES_MAX));
        assert_eq!(counts.rejected.len(), ENTRIES_MAX);
        let first = RefusedHost {
            host: "0.test".to_owned(),
            requests: 2,
            set: Some("pip".to_owned()),
            foreign_placeholder: false,
        };
        assert_eq!(counts.hosts[0], first);
    }
}
