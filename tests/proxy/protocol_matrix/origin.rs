//! The origin of the table: what it answers, and how it ends, stands in the path.

use std::collections::HashSet;

use h2::Reason;
use tokio::sync::watch;

use super::table::*;
use test_support::http2::{Ask, Offer};
use test_support::*;

/// Paths for which something has happened.
#[derive(Clone)]
pub(super) struct Marks(watch::Sender<HashSet<String>>);

impl Marks {
    pub(super) fn new() -> Self {
        Self(watch::Sender::default())
    }

    pub(super) fn set(&self, path: &str) {
        self.0.send_modify(|paths| paths.extend([path.to_owned()]));
    }

    pub(super) async fn wait(&self, path: &str) {
        let mut paths = self.0.subscribe();
        let set = paths.wait_for(|paths| paths.contains(path));
        drop(patiently(path, set).await.expect("the sender is ours"));
    }
}

/// What an agent and the origin tell each other beside Keyward.
#[derive(Clone)]
pub(super) struct Beside {
    pub(super) fate: Fate,
    /// The agent has read the first half.
    pub(super) read: Marks,
    /// The origin saw that the agent has gone.
    pub(super) left: Marks,
}

/// Answers as the fate says, in the protocol that comes.
pub(super) fn origin(beside: Beside) -> Origin {
    let also = beside.clone();
    let http1 = move |stream: Stream| http1(stream, also.clone());
    let http2 = move |ask: Ask| http2(ask, beside.clone());
    Origin::either(Offer::Both, http1, http2)
}

async fn http1(mut stream: Stream, beside: Beside) {
    let Some(request) = stream.request().await else { return };
    let path = request.head.target().to_owned();
    let kind = Cell::of(&path).0;
    let chunk = |bytes: &[u8]| match kind.is_websocket() {
        true => bytes.to_vec(),
        false => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
    };
    let head = match kind.is_websocket() {
        true => switching(&request),
        false => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            kind.content_type()
        ),
    };
    stream.send(head).await;
    stream.send(chunk(kind.piece())).await;
    if beside.fate == Fate::AgentAborts {
        stream.rest().await;
        return beside.left.set(&path);
    }
    beside.read.wait(&path).await;
    if beside.fate == Fate::UpstreamAborts {
        return stream.into_wire().abort();
    }
    stream.send(chunk(&kind.rest())).await;
    if !kind.is_websocket() {
        stream.send("0\r\n\r\n").await;
    }
    stream.finish().await;
    stream.rest().await;
}

async fn http2(mut ask: Ask, beside: Beside) {
    let path = ask.head.target().to_owned();
    let kind = Cell::of(&path).0;
    let mut asked = 0;
    // A stream of messages goes on while it is answered.
    while asked < ASKED.len() {
        asked += ask.chunk().await.expect("a message").expect("a message").len();
    }
    let fields = [("content-type", kind.content_type())];
    let mut sending = ask.begin(200, &fields, false).expect("asked");
    assert!(sending.send(kind.piece()).await);
    if beside.fate == Fate::AgentAborts {
        assert_eq!(sending.given_up().await, Reason::CANCEL);
        ask.whole().await;
        return beside.left.set(&path);
    }
    beside.read.wait(&path).await;
    let more = ask.whole().await;
    assert_eq!(more.body, if kind == Kind::GrpcStream { ASKED } else { b"" });
    if beside.fate == Fate::UpstreamAborts {
        return sending.reset(Reason::INTERNAL_ERROR);
    }
    assert!(sending.send(&kind.rest()).await);
    match kind.is_grpc() {
        true => sending.trailers(&[("grpc-status", "0")]),
        false => sending.end(),
    }
}
