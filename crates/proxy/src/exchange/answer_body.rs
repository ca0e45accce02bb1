//! [`AnswerBody`]: the body of an answer on its way to the agent. Its end is the end of the exchange.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::guard::ExchangeGuard;
use super::scrub::ScrubbedBody;
use crate::body::BodyError;
use crate::upstream::lease::StreamLease;
use keyward_rules::inject::strip;
use keyward_state::observe::event::Outcome;

/// The body of an answer on its way to the agent. Its end is the end of the exchange. On the heap, because hyper moves an
/// answer about twenty times.
#[derive(Debug)]
pub struct AnswerBody(Box<AnswerState>);

#[derive(Debug)]
struct AnswerState {
    kind: AnswerKind,
    exchange: Option<ExchangeGuard>,
    /// Why the body breaks off, until the next poll returns it.
    broken: Option<BodyError>,
}

#[derive(Debug)]
enum AnswerKind {
    Own(Option<Bytes>),
    /// The upstream's body and its stream, which is free again when the body ends.
    Upstream {
        incoming: ScrubbedBody,
        lease: Option<StreamLease>,
    },
}

impl AnswerBody {
    /// A body from Keyward itself.
    pub fn own(bytes: Bytes, exchange: ExchangeGuard) -> Self {
        Self::of(AnswerKind::Own(Some(bytes)), Some(exchange))
    }

    /// A body from Keyward itself, without a record.
    pub fn unrecorded(bytes: Bytes) -> Self {
        Self::of(AnswerKind::Own(Some(bytes)), None)
    }

    /// No body: the exchange continues elsewhere.
    pub fn detached() -> Self {
        Self::of(AnswerKind::Own(None), None)
    }

    pub fn upstream(incoming: ScrubbedBody, lease: StreamLease, exchange: ExchangeGuard) -> Self {
        let kind = AnswerKind::Upstream { incoming, lease: Some(lease) };
        let mut body = Self::of(kind, Some(exchange));
        body.0.settle();
        body
    }

    fn of(kind: AnswerKind, exchange: Option<ExchangeGuard>) -> Self {
        Self(Box::new(AnswerState { kind, exchange, broken: None }))
    }
}

impl AnswerState {
    /// Frees the stream as soon as the last byte was read, because hyper does not poll again after it.
    fn settle(&mut self) {
        if let AnswerKind::Upstream { incoming, lease } = &mut self.kind
            && incoming.is_end_stream()
        {
            if let Some(lease) = lease.take() {
                lease.finish();
            }
            self.ended(Outcome::Completed);
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        if let Some(exchange) = &mut self.exchange {
            exchange.record.set_outcome(outcome);
        }
    }

    fn finish(&mut self) {
        if let AnswerKind::Upstream { lease, .. } = &mut self.kind
            && let Some(lease) = lease.take()
        {
            lease.finish();
        }
        self.ended(Outcome::Completed);
    }

    fn failed(&mut self, error: &BodyError) {
        let upload = match &self.kind {
            AnswerKind::Upstream { lease: Some(lease), .. } => lease.form_fault(),
            _ => None,
        };
        match (error, upload, &mut self.exchange) {
            (BodyError::Scrubbed(fault), _, Some(exchange)) => exchange.record.set_cut(*fault),
            (_, Some(fault), Some(exchange)) => exchange.record.set_upload_cut(fault),
            _ => self.ended(Outcome::UpstreamAborted),
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some(exchange) = &mut self.exchange {
            if let AnswerKind::Upstream { incoming, .. } = &mut self.kind {
                exchange.record.add_masked(incoming.take_masked());
            }
            if let Some(data) = frame.data_ref() {
                exchange.add_sent(data.len() as u64);
            }
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
        let this = &mut *self.get_mut().0;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let incoming = match &mut this.kind {
            AnswerKind::Own(bytes) => {
                let bytes = bytes.take();
                if let (Some(bytes), Some(exchange)) = (&bytes, &mut this.exchange) {
                    exchange.add_sent(bytes.len() as u64);
                }
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            AnswerKind::Upstream { incoming, .. } => incoming,
        };
        match std::task::ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(this.pass(frame)))),
            Some(Err(error)) => {
                this.failed(&error);
                // The head and the frames before are written while the body is pending; hyper drops them after an error. A
                // client that gets no byte of an answer may send the request again, also a POST.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                this.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0.kind {
            AnswerKind::Own(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            AnswerKind::Upstream { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0.kind {
            AnswerKind::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            AnswerKind::Upstream { incoming, .. } => incoming.size_hint(),
        }
    }
}
