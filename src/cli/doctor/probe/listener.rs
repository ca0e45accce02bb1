//! The probe's listeners: one for the proxy variables, one in place of the agent's own listener, and one to
//! which the gateway hands the program's streams. `answers.rs` serves the streams. The probe opens no
//! outbound connection.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::answers;
use super::seen::{By, Event};
use crate::cli::failure::Failure;
use keyward_base::time::Clock;
use keyward_proxy::Preface;
use keyward_proxy::ca::authority::Authority;
use keyward_proxy::ca::cache::Leaves;

/// Streams at once; more wait.
const STREAMS_MAX: u32 = 512;
/// Attempts and user agents that are kept.
const EVENTS_MAX: usize = 10_000;
const AGENTS_MAX: usize = 64;
/// What streams of an ended program still take.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// Of the line that the gateway puts before a stream that it hands over.
const PREFACE_BYTES_MAX: usize = 4096;

const ACCEPT_AGAIN: Duration = Duration::from_millis(10);

/// The listening probe. Dropping it stops it.
pub(super) struct Listener {
    at: SocketAddr,
    own: SocketAddr,
    handed: SocketAddr,
    shared: Arc<Shared>,
    end: watch::Sender<bool>,
    /// They accept until told to end.
    tasks: JoinSet<()>,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    /// What the clients call themselves.
    pub(super) agents: BTreeSet<String>,
}

/// Which of the probe's listeners a stream came to.
#[derive(Clone, Debug)]
pub(super) enum Door {
    /// That of the proxy variables: whoever has the probe's token.
    Variables,
    /// That which stands for the agent's own listener: no token.
    Own,
    /// One of the gateway's, which handed the stream over.
    Gateway(Preface),
}

/// What all streams share.
pub(super) struct Shared {
    pub(super) leaves: Leaves,
    token: String,
    seen: Mutex<Seen>,
    streams: Arc<Semaphore>,
}

impl Listener {
    /// Listens on free ports of loopback. The first takes `token`.
    pub(super) async fn open(authority: Arc<Authority>, token: &str) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            leaves: Leaves::new(authority, EVENTS_MAX, Clock::System),
            token: token.to_owned(),
            seen: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS_MAX as usize)),
        });
        let (end, ends) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut bound = Vec::new();
        for door in [Some(Door::Variables), Some(Door::Own), None] {
            let cannot = |error: io::Error| Failure::failed("cannot listen on loopback", &error);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
            bound.push(listener.local_addr().map_err(cannot)?);
            tasks.spawn(accept(listener, door, shared.clone(), ends.clone()));
        }
        Ok(Self { at: bound[0], own: bound[1], handed: bound[2], shared, end, tasks })
    }

    /// For the proxy variables.
    pub(super) fn at(&self) -> SocketAddr {
        self.at
    }

    /// Stands for the agent's own listener.
    pub(super) fn own(&self) -> SocketAddr {
        self.own
    }

    /// For the gateway.
    pub(super) fn handed(&self) -> SocketAddr {
        self.handed
    }

    /// What was seen, once the streams of the program, which has ended, are read to their ends.
    pub(super) async fn settled(mut self) -> Seen {
        let all = async {
            let _ = self.end.send(true);
            while self.tasks.join_next().await.is_some() {}
            drop(self.shared.streams.acquire_many(STREAMS_MAX).await);
        };
        drop(tokio::time::timeout(SETTLED_WITHIN, all).await);
        std::mem::take(&mut *self.shared.seen.lock())
    }
}

/// Accepts until told to end, and then what has connected by then. Without a door the streams are the
/// gateway's, which says first where they came from.
async fn accept(
    listener: TcpListener,
    door: Option<Door>,
    shared: Arc<Shared>,
    mut end: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => begin(stream, door.clone(), &shared).await,
                // Out of descriptors: streams that end give theirs back.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
            () = told(&mut end) => break,
        }
    }
    // Asked of the system itself: the runtime may not have heard of the last one yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            begin(stream, door.clone(), &shared).await;
        }
    }
}

/// The guard that `wait_for` answers with must not live on in a `select!`.
async fn told(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn begin(mut stream: TcpStream, door: Option<Door>, shared: &Arc<Shared>) {
    let Ok(permit) = shared.streams.clone().acquire_owned().await else { return };
    let shared = shared.clone();
    tokio::spawn(async move {
        let door = match door {
            Some(door) => Some(door),
            None => preface(&mut stream).await.map(Door::Gateway),
        };
        if let Some(door) = door {
            answers::serve(stream, &Arc::new(door), &shared).await;
        }
        drop(permit);
    });
}

/// What the gateway says of a stream.
async fn preface(stream: &mut TcpStream) -> Option<Preface> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await.ok()? {
            b'\n' => return serde_json::from_slice(&line).ok(),
            byte if line.len() < PREFACE_BYTES_MAX => line.push(byte),
            _ => return None,
        }
    }
}

impl Shared {
    pub(super) fn saw(&self, event: Event) {
        let mut seen = self.seen.lock();
        if seen.events.len() < EVENTS_MAX {
            seen.events.push(event);
        }
    }

    pub(super) fn saw_agent(&self, fields: &HeaderMap) {
        let mut seen = self.seen.lock();
        if let Some(Ok(agent)) = fields.get(USER_AGENT).map(HeaderValue::to_str)
            && seen.agents.len() < AGENTS_MAX
        {
            seen.agents.insert(agent.to_owned());
        }
    }

    /// Whether a request may use the proxy. The gateway's tokens are not known here: one that is sent
    /// is believed.
    pub(super) fn admits(&self, door: &Door, fields: &HeaderMap) -> bool {
        match door {
            Door::Own | Door::Gateway(Preface { agent: Some(_), .. }) => true,
            Door::Variables => self.has_token(fields.get(PROXY_AUTHORIZATION)),
            Door::Gateway(_) => fields.contains_key(PROXY_AUTHORIZATION),
        }
    }

    /// The same for a base URL, where the token stands in any field.
    pub(super) fn admits_by_base_url(&self, door: &Door, fields: &HeaderMap) -> bool {
        match door {
            Door::Own | Door::Gateway(Preface { agent: Some(_), .. }) => false,
            Door::Variables => fields.values().any(|value| self.has_token(Some(value))),
            Door::Gateway(_) => {
                fields.contains_key(AUTHORIZATION)
                    || fields.contains_key(PROXY_AUTHORIZATION)
                    || fields.values().any(|value| is_token(value.as_bytes()))
            }
        }
    }

    /// Plain, after a scheme, or in either place of Basic's pair.
    fn has_token(&self, value: Option<&HeaderValue>) -> bool {
        let Some(text) = value.and_then(|value| value.to_str().ok()) else { return false };
        let (scheme, rest) = text.split_once(' ').unwrap_or(("", text));
        if !scheme.eq_ignore_ascii_case("basic") {
            return rest.trim() == self.token;
        }
        let pair = STANDARD.decode(rest.trim());
        let pair = pair.ok().and_then(|pair| String::from_utf8(pair).ok());
        pair.is_some_and(|pair| pair.split(':').any(|part| part == self.token))
    }
}

fn is_token(value: &[u8]) -> bool {
    value.starts_with(keyward_base::agent::TOKEN_PREFIX.as_bytes())
}

impl Door {
    /// How requests came that came to it.
    pub(super) fn by(&self) -> By {
        match self {
            Self::Variables => By::Variables,
            Self::Own => By::OwnListener { agent: None },
            Self::Gateway(Preface { listener, agent: None }) => By::Listener(listener.clone()),
            Self::Gateway(Preface { agent, .. }) => By::OwnListener { agent: agent.clone() },
        }
    }
}
