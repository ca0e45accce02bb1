//! [`Probes`]: programs that `keyward doctor -- CMD` examines, each with the token of its run. Streams of the doctor's
//! descendants, and of clients with the token, are served as usual, but each request is answered here and not sent: an
//! examined program never uses a credential. The doctor receives each observation as a [`ProbeEvent`].
//!
//! While a probe is registered, a stream whose process is unknown is closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Uri};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::sockets::listener::{ListenerOwner, NewSocket};
use keyward_base::agent::Agent;
use keyward_base::codes::{Code, RefusalText};
use keyward_base::id::TokenId;
use keyward_base::threads::Threads;
use keyward_net::processes::{self, Membership};
use keyward_rules::inject::placeholder;

/// The maximum number of probes. Each costs a lookup in `/proc` for every accepted stream.
const PROBES_MAX: usize = 16;

/// Concurrent lookups in `/proc`; further streams wait.
const LOOKUPS_MAX: usize = 4;

/// Events that are reported of a program; further ones are dropped. A browser causes hundreds.
const EVENTS_MAX: usize = 10_000;

/// What is kept of a user agent; events wait in memory.
const USER_AGENT_BYTES_MAX: usize = 256;

/// How long a stream that a program has opened may wait until it is accepted.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(200);

/// How long the streams of a program that has ended are waited for.
const ENDED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Fields that APIs take credentials from.
const CREDENTIALS: &[&str] =
    &["authorization", "x-api-key", "api-key", "x-auth-token", "private-token"];

/// What the data path has seen of an examined program.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProbeEvent {
    /// The listener that accepted the stream: `127.0.0.1:8090` or `unix:PATH`.
    pub listener: String,
    /// The owner of that listener, if it belongs to one agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The host that the program asks for, or the connection of its base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    pub seen: Seen,
}

/// How far one attempt of a program came.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// A stream that begins with this byte, which begins no request.
    NoHttp(u8),
    /// A request that is meant for the API itself, and no proxy.
    OriginForm,
    /// A request that is refused before policy is asked.
    Refused(ProbedRefusal),
    /// The same of a request that uses a base URL: its refusals have the codes of others.
    RefusedBaseUrl(ProbedRefusal),
    /// A CONNECT was answered with 200.
    #[default]
    Tunnel,
    /// The TLS handshake in a tunnel failed.
    NoHandshake(HandshakeFailure),
    Request(ProbedRequest),
}

/// Why a handshake failed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeFailure {
    /// The bytes in the tunnel are not TLS.
    NotTls,
    /// The client rejects the certificate, by an alert or by closing the connection.
    Untrusted {
        alert: Option<String>,
    },
    Other(String),
}

/// A request that was decided, and not sent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProbedRequest {
    pub method: String,
    /// Whether it uses the base URL of a connection.
    pub base_url: bool,
    /// Whether it was authenticated by the token of the probe.
    pub own_token: bool,
    pub credential: CarriedCredential,
    /// The refusal of policy, if it does not permit the request.
    pub refused: Option<ProbedRefusal>,
}

/// A refusal, as its client reads it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProbedRefusal {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

/// The credential in a request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CarriedCredential {
    /// A placeholder in this place.
    Placeholder(String),
    /// Another value in this field.
    Own(String),
    Nothing,
}

/// The registered probes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Probes(Arc<ProbesShared>);

#[derive(Debug)]
struct ProbesShared {
    /// The number of probes, read for every stream without the lock.
    count: AtomicUsize,
    all: Mutex<Vec<Arc<Probe>>>,
    lookups: Threads,
}

impl Default for ProbesShared {
    fn default() -> Self {
        let lookups = Threads::new("keyward-probes", LOOKUPS_MAX);
        Self { count: AtomicUsize::default(), all: Mutex::default(), lookups }
    }
}

/// An examined program.
#[derive(Debug)]
pub struct Probe {
    /// The token of its run.
    token: TokenId,
    /// Whose streams are examined.
    scope: ProbeScope,
    /// The number of events so far.
    reported: AtomicUsize,
    /// `None` once the program has ended.
    events: Mutex<Option<Sender<ProbeEvent>>>,
}

/// Whose streams are examined, besides those with the token.
#[derive(Clone, Copy, Debug)]
pub struct ProbeScope {
    /// Those of this process's descendants; `None` where processes are unknown: all.
    pub root: Option<u32>,
    /// All on listeners that belong to no agent: the gateway has no other run.
    pub has_gateway: bool,
}

/// One probe; removed when dropped.
#[derive(Debug)]
pub struct ProbeRegistration {
    probes: Probes,
    probe: Arc<Probe>,
}

/// A stream of an examined program.
#[derive(Debug)]
pub struct ProbedStream {
    probe: Arc<Probe>,
    listener: String,
    owner: Option<Arc<ListenerOwner>>,
}

/// Whose an accepted stream is.
#[derive(Debug)]
pub enum StreamOrigin {
    /// No program that is examined.
    Other,
    Probed(Arc<Probe>),
    /// Its process is unknown, so it is closed.
    Unknown,
}

/// The peer of a stream, as far as its socket identifies it.
#[derive(Clone, Copy, Debug)]
enum SocketPeer {
    /// The peer's address and the local one.
    Tcp(SocketAddr, SocketAddr),
    Unix(u32),
    Hidden,
}

impl Probes {
    /// Registers a probe. `None` when there are too many.
    pub fn add(
        &self,
        token: TokenId,
        scope: ProbeScope,
    ) -> Option<(ProbeRegistration, Receiver<ProbeEvent>)> {
        let mut all = self.0.all.lock();
        if all.len() >= PROBES_MAX {
            return None;
        }
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (reported, events) = (AtomicUsize::default(), Mutex::new(Some(events)));
        let probe = Arc::new(Probe { token, scope, reported, events });
        all.push(probe.clone());
        self.0.count.store(all.len(), Ordering::SeqCst);
        Some((ProbeRegistration { probes: self.clone(), probe }, receiver))
    }

    /// Whether no probe is registered.
    pub fn is_empty(&self) -> bool {
        self.0.count.load(Ordering::SeqCst) == 0
    }

    /// Whether the gateway serves one program, which is examined.
    pub fn have_gateway(&self) -> bool {
        self.0.all.lock().iter().any(|probe| probe.scope.has_gateway)
    }

    /// The probe of this token.
    pub fn of_token(&self, token: &TokenId) -> Option<Arc<Probe>> {
        if self.is_empty() {
            return None;
        }
        self.0.all.lock().iter().find(|probe| probe.token == *token).cloned()
    }

    /// Whose an accepted stream is. Reads `/proc` on another thread. `has_owner`: the listener is that of one agent.
    pub async fn origin(&self, came: &NewSocket, has_owner: bool) -> StreamOrigin {
        let peer = SocketPeer::of(came);
        let probes = self.0.all.lock().clone();
        let looked = self.0.lookups.run(move || origin(&probes, peer, has_owner));
        looked.await.unwrap_or(StreamOrigin::Unknown)
    }
}

fn origin(probes: &[Arc<Probe>], peer: SocketPeer, has_owner: bool) -> StreamOrigin {
    let mut found = StreamOrigin::Other;
    for probe in probes {
        let membership = match probe.scope {
            ProbeScope { has_gateway: true, .. } if !has_owner => Membership::Inside,
            ProbeScope { root: Some(root), .. } => peer.is_of(root),
            ProbeScope { root: None, .. } => Membership::Inside,
        };
        match membership {
            Membership::Inside => return StreamOrigin::Probed(probe.clone()),
            Membership::Unknown => found = StreamOrigin::Unknown,
            Membership::Outside => {}
        }
    }
    found
}

impl ProbeRegistration {
    /// Waits until the streams of a program that has ended were read to their ends.
    pub async fn settle(&self) {
        tokio::time::sleep(ACCEPTED_WITHIN).await;
        let ended = async {
            // The list has one, and so has the registration.
            while Arc::strong_count(&self.probe) > 2 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Streams of programs that are left do not matter.
        let _ = tokio::time::timeout(ENDED_WITHIN, ended).await;
    }
}

impl ProbedStream {
    pub fn new(probe: Arc<Probe>, listener: String, owner: Option<Arc<ListenerOwner>>) -> Self {
        Self { probe, listener, owner }
    }

    /// Whether the agent was authenticated by the token of the probe.
    pub fn has_proved(&self, agent: &Agent) -> bool {
        agent.token.as_ref() == Some(&self.probe.token)
    }

    /// Reports what was seen. `fields`: those of the request.
    pub fn report(&self, host: Option<String>, fields: Option<&HeaderMap>, seen: Seen) {
        let user_agent = fields.and_then(|fields| fields.get(USER_AGENT)?.to_str().ok());
        let event = ProbeEvent {
            listener: self.listener.clone(),
            agent: self.owner.as_ref().map(|owner| owner.agent.clone()),
            host,
            // Visible ASCII.
            user_agent: user_agent
                .map(|text| text.get(..USER_AGENT_BYTES_MAX).unwrap_or(text).to_owned()),
            seen,
        };
        if let Some(events) = &*self.probe.events.lock()
            && self.probe.reported.fetch_add(1, Ordering::Relaxed) < EVENTS_MAX
        {
            // The doctor is gone.
            let _ = events.try_send(event);
        }
    }
}

impl ProbeEvent {
    /// The request, if it came so far.
    pub fn request(&self) -> Option<&ProbedRequest> {
        match &self.seen {
            Seen::Request(request) => Some(request),
            _ => None,
        }
    }
}

impl ProbedRefusal {
    /// Whether it has this code.
    pub fn is(&self, code: Code) -> bool {
        self.code == code.as_str()
    }
}

impl From<RefusalText> for ProbedRefusal {
    fn from(RefusalText { code, message, hint }: RefusalText) -> Self {
        Self { code: code.as_str().to_owned(), message, hint }
    }
}

impl HandshakeFailure {
    /// `has_begun`: the client has sent something. `None` if it has sent nothing.
    pub fn of(error: &io::Error, has_begun: bool) -> Option<Self> {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Some(match tls {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::NoApplicationProtocol) => {
                Self::Other("it offers neither HTTP/1.1 nor HTTP/2".to_owned())
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                Self::Untrusted { alert: Some(format!("{alert:?}")) }
            }
            Some(other) => Self::Other(other.to_string()),
            None if !has_begun => return None,
            // Of the gateway: it took too long.
            None if error.kind() == io::ErrorKind::Other => Self::Other(error.to_string()),
            // The client closed the connection after it got the certificate.
            None => Self::Untrusted { alert: None },
        })
    }
}

impl CarriedCredential {
    pub fn of(uri: &Uri, fields: &HeaderMap) -> Self {
        let whole = uri.to_string();
        if !placeholder::scan(whole.as_bytes()).is_empty() {
            return Self::Placeholder("the URL".to_owned());
        }
        for (name, value) in fields {
            if holds_placeholder(value) {
                return Self::Placeholder(format!("`{name}`"));
            }
        }
        let own = CREDENTIALS.iter().find(|name| fields.contains_key(**name));
        own.map_or(Self::Nothing, |name| Self::Own((*name).to_owned()))
    }
}

/// Also inside a Basic credential.
fn holds_placeholder(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let pair = value.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case(b"basic "));
    let pair = pair.and_then(|_| STANDARD.decode(value[6..].trim_ascii()).ok());
    !placeholder::scan(value).is_empty()
        || pair.is_some_and(|pair| !placeholder::scan(&pair).is_empty())
}

impl SocketPeer {
    fn of(came: &NewSocket) -> Self {
        match came {
            NewSocket::Tcp(tcp) => match (tcp.peer_addr(), tcp.local_addr()) {
                (Ok(peer), Ok(own)) => Self::Tcp(peer, own),
                _ => Self::Hidden,
            },
            NewSocket::Unix(unix) => {
                let pid = unix.peer_cred().ok().and_then(|peer| peer.pid());
                pid.and_then(|pid| u32::try_from(pid).ok()).map_or(Self::Hidden, Self::Unix)
            }
        }
    }

    fn is_of(self, root: u32) -> Membership {
        match self {
            Self::Tcp(peer, own) => processes::stream_membership(root, peer, own),
            Self::Unix(pid) => processes::process_membership(root, pid),
            Self::Hidden => Membership::Unknown,
        }
    }
}

impl Drop for ProbeRegistration {
    /// Ends the events, whatever streams are left.
    fn drop(&mut self) {
        *self.probe.events.lock() = None;
        let mut all = self.probes.0.all.lock();
        all.retain(|probe| !Arc::ptr_eq(probe, &self.probe));
        self.probes.0.count.store(all.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    fn probe(probes: &Probes, root: Option<u32>) -> (ProbeRegistration, Receiver<ProbeEvent>) {
        let scope = ProbeScope { root, has_gateway: false };
        probes.add(TokenId::random(), scope).unwrap()
    }

    #[test]
    fn probes_are_bounded_and_removed_with_their_registrations() {
        let probes = Probes::default();
        let mut held: Vec<_> = (0..PROBES_MAX).map(|_| probe(&probes, Some(1)).0).collect();
        let scope = ProbeScope { root: Some(1), has_gateway: true };
        assert!(probes.add(TokenId::random(), scope).is_none());
        drop(held.remove(3));
        held.push(probe(&probes, Some(1)).0);
        assert!(!probes.is_empty() && !probes.have_gateway());
        drop(held);
        assert!(probes.is_empty());
        let _held = probes.add(TokenId::random(), scope);
        assert!(probes.have_gateway());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_stream_is_that_of_its_process_tree_and_one_of_an_unknown_process_is_of_none() {
        let of = |roots: &[Option<u32>], peer: SocketPeer| {
            let probes = Probes::default();
            let held: Vec<_> = roots.iter().map(|root| probe(&probes, *root).0).collect();
            let found = origin(&probes.0.all.lock().clone(), peer, true);
            match found {
                StreamOrigin::Other => "other".to_owned(),
                StreamOrigin::Unknown => "unknown".to_owned(),
                StreamOrigin::Probed(found) => {
                    let at = held.iter().position(|held| Arc::ptr_eq(&held.probe, &found));
                    at.unwrap().to_string()
                }
            }
        };
        // No process has the other number (proc_sys_kernel(5): 2^22 is the most).
        let (own, other) = (Some(std::process::id()), Some(u32::MAX));
        let peer = SocketPeer::Unix(std::process::id());
        assert_eq!(of(&[other, own], peer), "1");
        assert_eq!(of(&[other], peer), "other");
        assert_eq!(of(&[other, own], SocketPeer::Hidden), "unknown");
        assert_eq!(of(&[own], SocketPeer::Unix(u32::MAX - 1)), "unknown");
        assert_eq!(of(&[], SocketPeer::Hidden), "other");
        assert_eq!(of(&[None], SocketPeer::Hidden), "0");
    }

    #[test]
    fn a_program_with_a_gateway_of_its_own_has_all_streams_but_those_of_other_agents_listeners() {
        let probes = Probes::default();
        let scope = ProbeScope { root: Some(u32::MAX), has_gateway: true };
        let _held = probes.add(TokenId::random(), scope).unwrap();
        let of = |has_owner| origin(&probes.0.all.lock().clone(), SocketPeer::Hidden, has_owner);
        assert!(matches!(of(false), StreamOrigin::Probed(_)));
        assert!(matches!(of(true), StreamOrigin::Unknown));
    }

    #[tokio::test(start_paused = true)]
    async fn the_events_of_streams_that_have_not_ended_are_waited_for() {
        let probes = Probes::default();
        let (registration, mut events) = probe(&probes, None);
        let found = probes.of_token(&registration.probe.token).unwrap();
        let stream = ProbedStream::new(found, "l".to_owned(), None);
        let reports = async {
            tokio::time::advance(ACCEPTED_WITHIN * 2).await;
            stream.report(Some("a.test".to_owned()), None, Seen::NoHttp(5));
            drop(stream);
        };
        tokio::join!(registration.settle(), reports);
        drop(registration);
        assert_eq!(events.recv().await.map(|event| event.seen), Some(Seen::NoHttp(5)));
        assert_eq!(events.recv().await, None);
    }

    #[test]
    fn a_handshake_that_the_gateway_ends_is_not_called_distrust() {
        let of = |error: &io::Error| HandshakeFailure::of(error, true);
        let late = io::Error::other("it took too long");
        assert_eq!(of(&late), Some(HandshakeFailure::Other("it took too long".to_owned())));
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
            let untrusted = Some(HandshakeFailure::Untrusted { alert: None });
            assert_eq!(of(&kind.into()), untrusted, "{kind:?}");
            assert_eq!(HandshakeFailure::of(&kind.into(), false), None, "{kind:?}");
        }
        assert_eq!(HandshakeFailure::of(&late, false), None);
    }

    #[tokio::test]
    async fn the_events_of_a_program_are_bounded_though_they_are_read() {
        let probes = Probes::default();
        let (registration, mut events) = probe(&probes, None);
        let found = probes.of_token(&registration.probe.token).unwrap();
        let stream = ProbedStream::new(found, String::new(), None);
        for _ in 0..EVENTS_MAX {
            stream.report(None, None, Seen::Tunnel);
            assert!(events.recv().await.is_some());
        }
        stream.report(None, None, Seen::Tunnel);
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_long_user_agent_is_cut() {
        let probes = Probes::default();
        let (registration, mut events) = probe(&probes, None);
        let found = probes.of_token(&registration.probe.token).unwrap();
        let mut fields = HeaderMap::new();
        fields.insert(USER_AGENT, "a".repeat(USER_AGENT_BYTES_MAX + 1).parse().unwrap());
        ProbedStream::new(found, String::new(), None).report(None, Some(&fields), Seen::Tunnel);
        let event = events.recv().await.unwrap();
        assert_eq!(event.user_agent.unwrap().len(), USER_AGENT_BYTES_MAX);
    }

    fn carries(uri: &str, field: Option<(&str, String)>) -> CarriedCredential {
        let mut fields = HeaderMap::new();
        if let Some((name, value)) = field {
            let name: http::HeaderName = name.parse().unwrap();
            fields.insert(name, value.parse().unwrap());
        }
        CarriedCredential::of(&uri.parse().unwrap(), &fields)
    }

    #[test]
    fn a_placeholder_is_distinguished_from_the_programs_own_credential() {
        let placeholder = Placeholder::issue("sk-", None);
        let placeholder = placeholder.as_str();
        let at = |name: &str| CarriedCredential::Placeholder(format!("`{name}`"));
        let bearer = |text: &str| Some(("authorization", format!("Bearer {text}")));
        assert_eq!(carries("/", bearer(placeholder)), at("authorization"));
        assert_eq!(
            carries("/", bearer("sk-real")),
            CarriedCredential::Own("authorization".to_owned())
        );
        let basic = STANDARD.encode(format!("x:{placeholder}"));
        assert_eq!(
            carries("/", Some(("authorization", format!("basic {basic}")))),
            at("authorization")
        );
        assert_eq!(carries("/", Some(("x-own", placeholder.to_owned()))), at("x-own"));
        let url = format!("/bot{placeholder}/x");
        assert_eq!(carries(&url, None), CarriedCredential::Placeholder("the URL".to_owned()));
        assert_eq!(carries("/?a=b", None), CarriedCredential::Nothing);
    }
}
