//! A relay in front of a third-party authorization server: it forwards requests unchanged, except for the faults
//! that a test adds at the token endpoint. It has the server's name, and records the traffic.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use test_support::authorization::fault::deliver;
use test_support::authorization::{AUTH_HOST, Fault, ask_at, form};
use test_support::pki::pki;
use test_support::*;

/// Running.
pub(crate) struct Relay {
    origin: Origin,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: VecDeque<Fault>,
    calls: Vec<Call>,
}

/// One call of the token endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What was asked.
    pub(crate) form: BTreeMap<String, String>,
    /// What the server answered; nothing where it was not asked.
    pub(crate) reply: Option<Value>,
    /// When it arrived, and when the server had answered.
    pub(crate) time: (Instant, Instant),
}

impl Relay {
    /// Before the server at this address.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let tls = Some(pki().server(&[AUTH_HOST]));
        let script = move |stream| serve(stream, server, Arc::clone(&shared));
        Self { origin: Origin::with_tls(tls, script), state }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.origin.addr
    }

    /// The next call of the token endpoint goes wrong like this; several queue up.
    pub(crate) fn fail_next(&self, fault: &Fault) {
        self.state.lock().expect("not poisoned").faults.push_back(fault.clone());
    }

    /// Calls of the token endpoint after so many.
    pub(crate) fn calls_after(&self, count: usize) -> Vec<Call> {
        self.state.lock().expect("not poisoned").calls[count..].to_vec()
    }

    /// Calls of the token endpoint so far, in order of their answers.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.lock().expect("not poisoned").calls.clone()
    }
}

async fn serve(mut stream: Stream, server: SocketAddr, state: Arc<Mutex<State>>) {
    while let Some(request) = stream.request().await {
        let is_token = request.head.method() == "POST" && request.head.target() == "/token";
        let kept = match is_token {
            true => token(stream, server, &request, &state).await,
            false => {
                let answer = forwarded(server, &request).await;
                let sent = stream.try_send(written(&answer)).await;
                sent.is_ok().then_some(stream)
            }
        };
        let Some(kept) = kept else { return };
        stream = kept;
    }
}

async fn token(
    stream: Stream,
    server: SocketAddr,
    request: &Message,
    state: &Mutex<State>,
) -> Option<Stream> {
    let arrived = Instant::now();
    let fault = state.lock().expect("not poisoned").faults.pop_front();
    let (status, reply) = match fault.as_ref().is_some_and(Fault::prevents) {
        true => (0, None),
        false => {
            let answer = forwarded(server, request).await;
            (answer.head.status(), Some(answer.json()))
        }
    };
    let time = (arrived, Instant::now());
    let call = Call { form: form(&request.text()), reply: reply.clone(), time };
    state.lock().expect("not poisoned").calls.push(call);
    deliver(stream, fault, (status, &reply.unwrap_or_default())).await
}

async fn forwarded(server: SocketAddr, request: &Message) -> Message {
    ask_at(server, [&*request.head.raw, &*request.body].concat()).await
}

/// The same answer with a length.
fn written(answer: &Message) -> Vec<u8> {
    let mut text = format!("{}\r\n", answer.head.start);
    for (name, value) in &answer.head.fields {
        let framing = ["transfer-encoding", "content-length", "connection", "keep-alive"];
        if !framing.contains(&&*name.to_ascii_lowercase()) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += &format!("Content-Length: {}\r\n\r\n", answer.body.len());
    [text.as_bytes(), &answer.body].concat()
}
