//! Bodies of both directions, passed on frame by frame as they come: counted, never collected.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::arriving::{Arriving, Cut};
use super::gate::{Gate, Held, Passed};
use super::h2::websocket::Joins;
use super::pool::Lease;
use super::record::Record;
use super::replay::Keeper;
use super::scrub::Passing;
use super::trailers::Sieve;
use crate::inject::scrub::Fault;
use crate::inject::strip;
use crate::observe::event::Outcome;

/// The request's body on its way to the upstream.
#[derive(Debug)]
pub struct RequestBody {
    content: Content,
    count: Arc<AtomicU64>,
    gate: Option<Held>,
    tells: Option<Arc<Passed>>,
    trailers: Trailers,
    /// What has gone out already, and goes out again.
    again: VecDeque<Bytes>,
    /// Where copies are kept of what goes out: the last is asked first to send it again.
    keeps: Vec<Keeper>,
}

/// What becomes of a request's trailers.
#[derive(Debug)]
enum Trailers {
    /// Not decided yet: they end here, unless they are sifted.
    Undecided,
    Sifted(Sieve),
    /// They end here.
    Kept,
}

#[derive(Debug)]
enum Content {
    /// The agent's, or none.
    Agents(Arriving),
    /// Ours: of a test request.
    Own(Bytes),
    /// None: what follows is a WebSocket.
    Handshake(Joins),
}

/// The answer's body on its way to the agent. Its end is the end of the exchange.
#[derive(Debug)]
pub struct AnswerBody {
    kind: Kind,
    record: Option<Record>,
}

#[derive(Debug)]
enum Kind {
    /// Ours.
    Own(Option<Bytes>),
    /// The upstream's, and its stream, which is free again when the body ends.
    Upstream { incoming: Passing, lease: Option<Lease> },
}

/// Why a body ends early. hyper turns it into an abort of the message.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side's stream broke.
    #[error("the body was cut")]
    Cut(#[from] Cut),
    /// The answer came before the body was wanted.
    #[error("the body was not wanted")]
    NotWanted,
    /// It repeats the credential, or cannot be searched for it.
    #[error(transparent)]
    Scrubbed(#[from] Fault),
}

impl RequestBody {
    /// Passes `arriving` on and counts its bytes.
    pub fn new(arriving: Arriving) -> Self {
        Self::of(Content::Agents(arriving))
    }

    /// A body of ours.
    pub fn own(bytes: Bytes) -> Self {
        Self::of(Content::Own(bytes))
    }

    fn of(content: Content) -> Self {
        Self {
            content,
            count: Arc::default(),
            gate: None,
            tells: None,
            trailers: Trailers::Undecided,
            again: VecDeque::new(),
            keeps: Vec::new(),
        }
    }

    /// No body.
    pub fn empty() -> Self {
        Self::new(Arriving::Empty)
    }

    /// How many bytes have passed.
    pub fn count(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    /// Holds the body back until its gate opens, at most for `patience`.
    pub fn wait_for_continue(&mut self, patience: Duration) {
        self.gate = Some(Held::new(patience));
    }

    /// Goes without waiting for anybody's word.
    pub fn goes_now(&mut self) {
        self.gate = None;
    }

    /// Waits once more where the upstream of before did not want it.
    pub fn waits_again(&mut self) {
        self.gate = self.gate.as_ref().map(Held::again);
    }

    /// Lets trailers go on that pass through `sieve`.
    pub fn sifts(&mut self, sieve: Sieve) {
        if !matches!(self.trailers, Trailers::Kept) {
            self.trailers = Trailers::Sifted(sieve);
        }
    }

    /// Lets no trailers go on.
    pub fn keeps_trailers(&mut self) {
        self.trailers = Trailers::Kept;
    }

    /// Tells when the body is asked for. hyper does so by itself (RFC 9110 §10.1.1), h2 does not.
    pub fn tells(&mut self) -> Arc<Passed> {
        self.tells.get_or_insert_default().clone()
    }

    /// No body: the handshake of a WebSocket.
    pub fn handshake(joins: Joins) -> Self {
        Self::of(Content::Handshake(joins))
    }

    /// The agent's side of a WebSocket over HTTP/2, once.
    pub fn take_joins(&mut self) -> Option<Joins> {
        match std::mem::replace(&mut self.content, Content::Agents(Arriving::Empty)) {
            Content::Handshake(joins) => Some(joins),
            content => {
                self.content = content;
                None
            }
        }
    }

    /// Keeps a copy of what goes out, and leaves the rest there when it is dropped.
    pub fn kept_by(&mut self, keeper: Keeper) {
        self.keeps.push(keeper);
    }

    /// The same, after what has gone out of it once.
    pub fn after(mut self, mut gone: VecDeque<Bytes>) -> Self {
        gone.append(&mut self.again);
        self.again = gone;
        // It goes out from its beginning again.
        self.keeps.iter().for_each(Keeper::begins_again);
        self
    }

    /// The gate that holds it back.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.as_ref().map(Held::gate)
    }

    /// Waits at the gate. `Ready(Ok)` once and for all when it is open.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(held) = &mut self.gate else { return Poll::Ready(Ok(())) };
        match std::task::ready!(held.poll(cx)) {
            false => Poll::Ready(Err(BodyError::NotWanted)),
            true => {
                self.gate = None;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Err(error) = std::task::ready!(this.poll_gate(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(passed) = this.tells.take() {
            passed.tell();
        }
        let frame = match this.again.pop_front() {
            Some(data) => Some(Ok(Frame::data(data))),
            None => std::task::ready!(this.poll_content(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.keeps.iter().for_each(|keeper| keeper.sends(data));
                }
            }
            Some(Err(_)) => this.keeps.iter().for_each(Keeper::forgets),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let gone: usize = self.again.iter().map(Bytes::len).sum();
        match self.content.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + gone as u64),
            None => SizeHint::new(),
        }
    }
}

impl RequestBody {
    /// What has not gone out before.
    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self;
        let arriving = match &mut this.content {
            Content::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Content::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                this.count.fetch_add(bytes.len() as u64, Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Content::Agents(arriving) => arriving,
            Content::Handshake(_) => return Poll::Ready(None),
        };
        match std::task::ready!(Pin::new(arriving).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    this.count.fetch_add(data.len() as u64, Relaxed);
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => {
                    Poll::Ready(frame.into_trailers().ok().and_then(|it| this.sifted(it)))
                }
            },
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }
}

impl RequestBody {
    /// What of the trailers goes on, if anything. They are not kept: a body that has them goes out once.
    fn sifted(&self, mut fields: HeaderMap) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Trailers::Sifted(sieve) = &self.trailers else { return None };
        sieve.sift(&mut fields);
        if fields.is_empty() {
            return None;
        }
        self.keeps.iter().for_each(Keeper::forgets);
        Some(Ok(Frame::trailers(fields)))
    }
}

impl Content {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Agents(arriving) => arriving.is_end_stream(),
            Self::Own(bytes) => bytes.is_empty(),
            Self::Handshake(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Agents(arriving) => arriving.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Handshake(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(keeper) = self.keeps.pop() else { return };
        let mut rest = Self::empty();
        rest.count = self.count.clone();
        std::mem::swap(&mut rest.content, &mut self.content);
        (rest.gate, rest.tells) = (self.gate.take(), self.tells.take());
        rest.trailers = std::mem::replace(&mut self.trailers, Trailers::Undecided);
        std::mem::swap(&mut rest.again, &mut self.again);
        // Where nobody sends that, it is left to the one before.
        std::mem::swap(&mut rest.keeps, &mut self.keeps);
        keeper.leaves(rest);
    }
}

impl AnswerBody {
    /// A body of ours.
    pub fn own(bytes: Bytes, record: Record) -> Self {
        Self { kind: Kind::Own(Some(bytes)), record: Some(record) }
    }

    /// A body of ours where no record could be begun.
    pub fn unrecorded(bytes: Bytes) -> Self {
        Self { kind: Kind::Own(Some(bytes)), record: None }
    }

    /// No body, and an exchange that goes on elsewhere: its record has moved there.
    pub fn elsewhere() -> Self {
        Self { kind: Kind::Own(None), record: None }
    }

    /// The upstream's body.
    pub fn upstream(incoming: Passing, lease: Lease, record: Record) -> Self {
        let mut body =
            Self { kind: Kind::Upstream { incoming, lease: Some(lease) }, record: Some(record) };
        body.settle();
        body
    }

    /// Frees the stream as soon as the last byte was read: hyper does not ask again after it.
    fn settle(&mut self) {
        if let Kind::Upstream { incoming, lease } = &mut self.kind
            && incoming.is_end_stream()
        {
            if let Some(lease) = lease.take() {
                lease.finish();
            }
            self.ended(Outcome::Completed);
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        if let Some(record) = &mut self.record {
            record.ended(outcome);
        }
    }

    fn finish(&mut self) {
        if let Kind::Upstream { lease, .. } = &mut self.kind
            && let Some(lease) = lease.take()
        {
            lease.finish();
        }
        self.ended(Outcome::Completed);
    }

    /// The body does not go on.
    fn failed(&mut self, error: &BodyError) {
        match (error, &mut self.record) {
            (BodyError::Scrubbed(fault), Some(record)) => record.cut(*fault),
            _ => self.ended(Outcome::UpstreamAborted),
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let (Kind::Upstream { incoming, .. }, Some(record)) = (&mut self.kind, &mut self.record)
        {
            record.masked(incoming.take_masked());
        }
        if let (Some(data), Some(record)) = (frame.data_ref(), &mut self.record) {
            record.sent(data.len() as u64);
        }
        match frame.into_trailers() {
            Ok(mut trailers) => {
                strip::trailers(&mut trailers);
                self.finish();
                Frame::trailers(trailers)
            }
            Err(frame) => {
                self.settle();
                frame
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let incoming = match &mut this.kind {
            Kind::Own(bytes) => {
                let bytes = bytes.take();
                if let (Some(bytes), Some(record)) = (&bytes, &mut this.record) {
                    record.sent(bytes.len() as u64);
                }
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Upstream { incoming, .. } => incoming,
        };
        match std::task::ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(this.pass(frame)))),
            Some(Err(error)) => {
                this.failed(&error);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}
