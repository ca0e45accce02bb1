//! Bodies of both directions, passed on frame by frame as they come: counted, never collected.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::pool::Lease;
use super::record::Record;
use crate::inject::strip;
use crate::observe::event::Outcome;

/// Holds a body back until the upstream says `100 Continue`, or for a while (RFC 9110 §10.1.1).
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicBool,
    abandoned: AtomicBool,
    waker: AtomicWaker,
}

/// The request's body on its way to the upstream.
#[derive(Debug)]
pub struct RequestBody {
    content: Content,
    count: Arc<AtomicU64>,
    gate: Option<(Arc<Gate>, Pin<Box<Sleep>>)>,
}

#[derive(Debug)]
enum Content {
    /// Nothing, also not later.
    Empty,
    /// The agent's.
    Agents(Incoming),
    /// Ours: of a test request.
    Own(Bytes),
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
    Upstream { incoming: Incoming, lease: Option<Lease> },
}

/// Why a body ends early. hyper turns it into an abort of the message.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The other side's stream broke.
    #[error("the body was cut")]
    Cut(#[from] hyper::Error),
    /// The answer came before the body was wanted.
    #[error("the body was not wanted")]
    NotWanted,
}

impl Gate {
    /// The upstream wants the body.
    pub fn open(&self) {
        self.state.store(true, SeqCst);
        self.waker.wake();
    }

    /// The upstream answered without the body: it is never asked for.
    pub fn abandon(&self) {
        if !self.state.load(SeqCst) {
            self.abandoned.store(true, SeqCst);
            self.waker.wake();
        }
    }
}

impl RequestBody {
    /// Passes `incoming` on and counts its bytes.
    pub fn new(incoming: Incoming) -> Self {
        Self { content: Content::Agents(incoming), count: Arc::default(), gate: None }
    }

    /// A body of ours.
    pub fn own(bytes: Bytes) -> Self {
        let content = if bytes.is_empty() { Content::Empty } else { Content::Own(bytes) };
        Self { content, count: Arc::default(), gate: None }
    }

    /// No body.
    pub fn empty() -> Self {
        Self { content: Content::Empty, count: Arc::default(), gate: None }
    }

    /// How many bytes have passed.
    pub fn count(&self) -> Arc<AtomicU64> {
        self.count.clone()
    }

    /// Holds the body back until its gate opens, at most for `patience`.
    pub fn wait_for_continue(&mut self, patience: Duration) {
        self.gate = Some((Arc::default(), Box::pin(tokio::time::sleep(patience))));
    }

    /// The gate that holds it back.
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.as_ref().map(|(gate, _)| gate.clone())
    }

    /// Waits at the gate. `Ready(Ok)` once and for all when it is open.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some((gate, patience)) = &mut self.gate else { return Poll::Ready(Ok(())) };
        gate.waker.register(cx.waker());
        if gate.abandoned.load(SeqCst) {
            return Poll::Ready(Err(BodyError::NotWanted));
        }
        if gate.state.load(SeqCst) || patience.as_mut().poll(cx).is_ready() {
            gate.state.store(true, SeqCst);
            self.gate = None;
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
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
        let incoming = match &mut this.content {
            Content::Empty => return Poll::Ready(None),
            Content::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                this.count.fetch_add(bytes.len() as u64, Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Content::Agents(incoming) => incoming,
        };
        match std::task::ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    this.count.fetch_add(data.len() as u64, Relaxed);
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                // Trailers of requests end here: a server may merge them into the checked head.
                Err(_trailers) => Poll::Ready(None),
            },
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Agents(incoming) => incoming.is_end_stream(),
            Content::Own(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Agents(incoming) => incoming.size_hint(),
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
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
    pub fn upstream(incoming: Incoming, lease: Lease, record: Record) -> Self {
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

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
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
                this.ended(Outcome::UpstreamAborted);
                Poll::Ready(Some(Err(error.into())))
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
