//! [`OpenExchanges`]: what runs on the streams of all cores now, so that people can list it and cut one exchange. A stream
//! or an HTTP/2 request is entered once; its exchanges only change its [`CurrentExchange`]. Ending a cut exchange is up
//! to its stream.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use http::Method;
use jiff::Timestamp;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_base::agent::Agent;
use keyward_base::database::DatabaseEndpoint;
use keyward_base::host::Target;
use keyward_base::id::{ConnectionId, ExchangeId};
use keyward_rules::policy::PolicyQuery;
use keyward_state::observe::change::Actor;

/// Parts of the registry, so that cores rarely wait for each other.
const SHARDS: usize = 64;

/// The streams of all cores, with the exchange that each carries.
#[derive(Debug)]
pub struct OpenExchanges {
    shards: [Arc<Shard>; SHARDS],
    next: AtomicU64,
}

/// Some of the streams, by number.
type Shard = Mutex<BTreeMap<u64, Weak<CurrentExchange>>>;

/// The exchange that one stream, or one HTTP/2 request, carries now.
pub struct CurrentExchange {
    open: Mutex<Option<OpenExchange>>,
    /// Whether it was cut. Changed only while `open` is locked.
    cut: AtomicBool,
    /// Wakes the task that ends the exchange. A stream has one such task at a time.
    waker: AtomicWaker,
    /// Body bytes that were sent to the agent.
    sent: AtomicU64,
    shard: Arc<Shard>,
    number: u64,
}

/// A request, a WebSocket, a tunnel or a session with a database that is open.
#[derive(Clone, Debug)]
pub struct OpenExchange {
    /// As in the audit log.
    pub exchange: ExchangeId,
    /// The agent, with its session.
    pub agent: Arc<Agent>,
    pub since: Timestamp,
    /// The connection whose credential it uses.
    pub connection: Option<(ConnectionId, Arc<str>)>,
    pub(crate) subject: ExchangeSubject,
    /// Whether it has become a WebSocket.
    pub(crate) is_websocket: bool,
    pub(crate) received: Arc<AtomicU64>,
    /// The counter of a WebSocket or a tunnel.
    pub(crate) sent: Option<Arc<AtomicU64>>,
    pub(crate) cut_by: Option<Actor>,
}

/// What is open.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "StreamKind")]
pub enum OpenKind {
    /// A request: its answer has not ended, for example a stream of events.
    Request,
    /// A WebSocket.
    Websocket,
    /// A tunnel whose bytes are not inspected.
    Tunnel,
    /// A session with a database.
    Database,
}

/// What an exchange is for.
#[derive(Clone, Debug)]
pub(crate) enum ExchangeSubject {
    Request(Arc<PolicyQuery>),
    Tunnel(Target),
    Database(Arc<DatabaseEndpoint>),
}

/// An open exchange with its byte counts.
#[derive(Clone, Debug)]
pub struct CountedExchange {
    pub open: OpenExchange,
    /// Body bytes from the agent so far.
    pub bytes_in: u64,
    /// Body bytes to the agent so far.
    pub bytes_out: u64,
}

impl OpenExchanges {
    /// Enters a stream, or an HTTP/2 request, until it is dropped.
    pub(crate) fn enter(&self) -> Arc<CurrentExchange> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard(number).clone();
        let current = Arc::new(CurrentExchange {
            open: Mutex::new(None),
            cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            sent: AtomicU64::new(0),
            shard,
            number,
        });
        current.shard.lock().insert(number, Arc::downgrade(&current));
        current
    }

    /// The open exchanges that are wanted and not cut yet.
    pub fn list(&self, wants: impl Fn(&OpenExchange) -> bool) -> Vec<CountedExchange> {
        let mut found = Vec::new();
        for shard in &self.shards {
            // Examined without the lock: dropping the last reference to an exchange takes it.
            let all: Vec<_> = shard.lock().values().filter_map(Weak::upgrade).collect();
            found.extend(all.iter().filter_map(|current| current.counted(&wants)));
        }
        found
    }

    /// Cuts an exchange. `false` when it has ended, or was cut before.
    pub fn cut(&self, exchange: &ExchangeId, by: &Actor) -> bool {
        self.shards.iter().any(|shard| {
            let all: Vec<_> = shard.lock().values().filter_map(Weak::upgrade).collect();
            all.iter().any(|current| current.cut(exchange, by))
        })
    }

    fn shard(&self, number: u64) -> &Arc<Shard> {
        let shards = SHARDS as u64;
        &self.shards[usize::try_from(number % shards).unwrap_or_default()]
    }
}

impl CurrentExchange {
    /// Begins an exchange, or changes what is known about the one that has begun. One that was cut stays cut.
    pub(crate) fn begin(&self, exchange: OpenExchange) {
        let mut open = self.open.lock();
        match &mut *open {
            Some(begun) if begun.exchange == exchange.exchange => {
                let cut_by = begun.cut_by.take();
                *begun = OpenExchange { cut_by, ..exchange };
            }
            other => {
                self.sent.store(0, Ordering::Relaxed);
                self.cut.store(false, Ordering::SeqCst);
                *other = Some(exchange);
            }
        }
    }

    /// The exchange is a WebSocket or a tunnel from now on, and `sent` counts its bytes to the agent.
    pub(crate) fn join(&self, sent: &Arc<AtomicU64>, is_websocket: bool) {
        if let Some(open) = &mut *self.open.lock() {
            open.is_websocket = is_websocket;
            open.sent = Some(sent.clone());
        }
    }

    /// Ends the exchange. Returns who has cut it.
    pub(crate) fn end(&self) -> Option<Actor> {
        let mut open = self.open.lock();
        self.cut.store(false, Ordering::SeqCst);
        open.take()?.cut_by
    }

    /// Adds body bytes that were sent to the agent.
    pub(crate) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Resolves when the exchange is cut. Only the latest task that waits is woken. No `async fn`: it is part of every idle
    /// stream, and takes a third of the room.
    pub(crate) fn cut_by_person(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    fn cut(&self, exchange: &ExchangeId, by: &Actor) -> bool {
        let mut open = self.open.lock();
        let Some(open) = open.as_mut().filter(|it| it.exchange == *exchange && !it.is_cut()) else {
            return false;
        };
        open.cut_by = Some(by.clone());
        self.cut.store(true, Ordering::SeqCst);
        self.waker.wake();
        true
    }

    fn counted(&self, wants: impl Fn(&OpenExchange) -> bool) -> Option<CountedExchange> {
        let open = self.open.lock();
        let open = open.as_ref().filter(|open| !open.is_cut() && wants(open))?;
        let sent = open.sent.as_deref().unwrap_or(&self.sent).load(Ordering::Relaxed);
        let received = open.received.load(Ordering::Relaxed);
        Some(CountedExchange { open: open.clone(), bytes_in: received, bytes_out: sent })
    }
}

impl OpenExchange {
    pub fn target(&self) -> &Target {
        match &self.subject {
            ExchangeSubject::Request(query) => &query.target,
            ExchangeSubject::Tunnel(target) => target,
            ExchangeSubject::Database(endpoint) => &endpoint.target,
        }
    }

    /// The upstream for people, with the scheme of its protocol.
    pub fn target_text(&self) -> String {
        match &self.subject {
            ExchangeSubject::Database(endpoint) => endpoint.url(),
            ExchangeSubject::Request(_) | ExchangeSubject::Tunnel(_) => self.target().to_string(),
        }
    }

    pub fn kind(&self) -> OpenKind {
        match self.subject {
            ExchangeSubject::Tunnel(_) => OpenKind::Tunnel,
            ExchangeSubject::Database(_) => OpenKind::Database,
            ExchangeSubject::Request(_) if self.is_websocket => OpenKind::Websocket,
            // It has switched to another protocol.
            ExchangeSubject::Request(_) if self.sent.is_some() => OpenKind::Tunnel,
            ExchangeSubject::Request(_) => OpenKind::Request,
        }
    }

    /// The method, of a request.
    pub fn method(&self) -> Option<&Method> {
        match &self.subject {
            ExchangeSubject::Request(query) => Some(&query.method),
            ExchangeSubject::Tunnel(_) | ExchangeSubject::Database(_) => None,
        }
    }

    /// The path without query, of a request.
    pub fn path(&self) -> Option<&str> {
        match &self.subject {
            ExchangeSubject::Request(query) => Some(query.path.raw()),
            ExchangeSubject::Tunnel(_) | ExchangeSubject::Database(_) => None,
        }
    }

    fn is_cut(&self) -> bool {
        self.cut_by.is_some()
    }
}

impl Drop for CurrentExchange {
    fn drop(&mut self) {
        self.shard.lock().remove(&self.number);
    }
}

impl Default for OpenExchanges {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Arc::default()), next: AtomicU64::new(0) }
    }
}

impl fmt::Debug for CurrentExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentExchange").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use keyward_base::host::Scheme;
    use keyward_base::id::{AgentId, OrgId};

    fn tunnel() -> OpenExchange {
        OpenExchange {
            exchange: ExchangeId::random(),
            agent: Arc::new(Agent {
                id: AgentId::random(),
                org: OrgId::default_org(),
                name: "ci".into(),
                token: None,
                session: None,
            }),
            since: Timestamp::UNIX_EPOCH,
            subject: ExchangeSubject::Tunnel(Target::parse(Scheme::Https, "a.test").unwrap()),
            is_websocket: false,
            connection: None,
            received: Arc::default(),
            sent: None,
            cut_by: None,
        }
    }

    #[test]
    fn a_cut_ends_one_exchange_once_and_not_the_next_of_its_stream() {
        let all = OpenExchanges::default();
        let (first, other) = (all.enter(), all.enter());
        let (one, two) = (tunnel(), tunnel());
        first.begin(one.clone());
        other.begin(two.clone());
        assert!(!all.cut(&ExchangeId::random(), &Actor::Operator));
        assert!(first.cut_by_person().now_or_never().is_none());
        assert!(all.cut(&one.exchange, &Actor::Operator));
        assert!(!all.cut(&one.exchange, &Actor::Gateway), "it was cut before");
        assert!(first.cut_by_person().now_or_never().is_some() && !other.is_cut());
        first.begin(one);
        assert!(first.is_cut(), "a decision that is repeated does not revive it");
        assert_eq!(first.end(), Some(Actor::Operator));
        first.begin(tunnel());
        assert!(!first.is_cut());
        assert_eq!(first.end(), None);
    }

    #[test]
    fn an_exchange_that_has_ended_or_was_cut_is_not_listed_and_takes_no_memory() {
        let all = OpenExchanges::default();
        let (first, idle) = (all.enter(), all.enter());
        let one = tunnel();
        first.begin(one.clone());
        first.add_sent(3);
        let listed = all.list(|_| true);
        assert_eq!(listed.iter().map(|it| it.bytes_out).collect::<Vec<_>>(), [3]);
        assert!(all.list(|_| false).is_empty());
        all.cut(&one.exchange, &Actor::Operator);
        assert!(all.list(|_| true).is_empty());
        drop((first, idle));
        assert!(all.shards.iter().all(|shard| shard.lock().is_empty()));
    }
}
