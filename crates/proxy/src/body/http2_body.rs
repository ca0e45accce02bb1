//! Bodies on an HTTP/2 stream. [`Http2Body`]: the DATA and trailers of a stream of either leg.
//!
//! [`Http2Upload`]: the body of an agent's request. When the answer comes before the end of the body, [`UnreadBody`] reads and
//! discards the rest within limits (RFC 9113 §8.1). Dropping the rest instead makes h2 send RST_STREAM(NO_ERROR) after the
//! answer, which some clients take for a failure: curl 7.88 reports error 92 and loses the answer. `incoming_body.rs` does the
//! same for HTTP/1.1.
//!
//! [`CountedBody`]: an answer whose exchange is counted among those of its agent until h2 has written it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ReceiveError;
use crate::h2::{bytes_with_guard, without_outer_blanks};
use crate::limits::agent_streams::ExchangeDescriptor;
use crate::sockets::watchdog::Watchdog;
use keyward_base::limits::Limits;

/// The DATA and trailers of an HTTP/2 stream. Received bytes are returned to the peer's window at once; the reader
/// must have room for them.
#[derive(Debug)]
pub struct Http2Body {
    stream: RecvStream,
    /// The rest of a declared length; h2 enforces it.
    left: Option<u64>,
    /// Only trailers can follow.
    data_ended: bool,
    /// Notified of received bytes; `None` on an upstream's stream.
    watchdog: Option<Arc<Watchdog>>,
}

impl Http2Body {
    /// The body of a message with these fields.
    pub fn new(stream: RecvStream, fields: &HeaderMap, watchdog: Option<Arc<Watchdog>>) -> Self {
        let length = fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let left = length.and_then(|length| length.parse().ok());
        Self { stream, left, data_ended: false, watchdog }
    }

    /// The next frame; `None` at the end.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(self.took(data))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|mut fields| {
                without_outer_blanks(&mut fields);
                Ok(Frame::trailers(fields))
            })),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The number of bytes to come, if known.
    pub fn size_hint(&self) -> SizeHint {
        match self.is_end_stream() {
            true => SizeHint::with_exact(0),
            false => self.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }

    fn took(&mut self, data: Bytes) -> Result<Frame<Bytes>, ReceiveError> {
        self.stream.flow_control().release_capacity(data.len())?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
        if let Some(watchdog) = &self.watchdog {
            watchdog.on_write();
        }
        Ok(Frame::data(data))
    }
}

/// One connection may have this many bodies of `discarded_body_bytes_max` discarded at once.
const BODIES_AT_ONCE: usize = 8;

/// The body of a request on an agent's HTTP/2 stream. When it is dropped before its end, [`UnreadBody`] gets the
/// rest.
#[derive(Debug)]
pub struct Http2Upload {
    /// `None` once it has ended.
    body: Option<Http2Body>,
    /// The agent waits for `100 Continue` and has not got it yet.
    waits: bool,
    rest: Option<oneshot::Sender<Http2Body>>,
}

/// What is left of a request's body after its answer.
#[derive(Debug)]
pub enum UnreadBody {
    Nothing,
    /// The part that the exchange had not read when it dropped the body.
    Rest(oneshot::Receiver<Http2Body>),
    /// A stream that was not read at all: of a refused WebSocket handshake.
    Whole(Http2Body),
}

/// The number of bytes of unread bodies that one connection may have discarded, refilled with time.
#[derive(Debug)]
pub struct DiscardAllowance {
    bytes_max: usize,
    bytes_per_second: usize,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    bytes: usize,
    refilled: Instant,
}

impl Http2Upload {
    /// The body of a request with these fields, and its possible rest.
    pub fn new(body: Http2Body, fields: &HeaderMap) -> (Self, UnreadBody) {
        let (rest, unread) = oneshot::channel();
        let waits = fields.contains_key(header::EXPECT);
        (Self { body: Some(body), waits, rest: Some(rest) }, UnreadBody::Rest(unread))
    }
}

impl Body for Http2Upload {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        this.waits = false;
        let frame = ready!(body.poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            (this.body, this.rest) = (None, None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Http2Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(nothing, Http2Body::size_hint)
    }
}

impl Drop for Http2Upload {
    fn drop(&mut self) {
        if let (Some(body), Some(rest), false) = (self.body.take(), self.rest.take(), self.waits) {
            // Without a receiver the exchange has ended, or the time for discarding has: h2 resets the stream.
            drop(rest.send(body));
        }
    }
}

impl UnreadBody {
    /// The stream of a refused handshake.
    pub fn handshake(frames: RecvStream) -> Self {
        Self::Whole(Http2Body::new(frames, &HeaderMap::new(), None))
    }

    /// Reads and discards the rest, within the limits of the body and of its connection. Returns whether the end
    /// was reached; otherwise the stream is reset.
    pub async fn discard(self, limits: &Limits, allowance: &DiscardAllowance) -> bool {
        let bytes_max = limits.discarded_body_bytes_max;
        let discarded = async {
            let body = match self {
                Self::Nothing => None,
                Self::Rest(rest) => rest.await.ok(),
                Self::Whole(body) => Some(body),
            };
            match body {
                None => false,
                Some(body) => discard(body, bytes_max, allowance).await,
            }
        };
        tokio::time::timeout(limits.discarded_body_timeout, discarded).await.unwrap_or(false)
    }
}

/// Ends at the end of the body, when the body breaks, or when it exceeds `left`.
async fn discard(mut body: Http2Body, mut left: usize, allowance: &DiscardAllowance) -> bool {
    loop {
        let frame = match poll_fn(|cx| body.poll_frame(cx)).await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else { return false };
        left = rest;
        if !allowance.take(bytes) {
            return false;
        }
    }
}

impl DiscardAllowance {
    pub fn new(limits: &Limits) -> Self {
        let bytes_per_second = limits.discarded_body_bytes_max;
        let bytes_max = bytes_per_second.saturating_mul(BODIES_AT_ONCE);
        let bucket = Mutex::new(Bucket { bytes: bytes_max, refilled: Instant::now() });
        Self { bytes_max, bytes_per_second, bucket }
    }

    /// Takes `bytes` from the allowance. Returns whether they may be discarded.
    fn take(&self, bytes: usize) -> bool {
        let mut bucket = self.bucket.lock();
        if bytes > bucket.bytes {
            // The clock is read only when the bucket is empty.
            let now = Instant::now();
            let ms = now.duration_since(bucket.refilled).as_millis();
            let earned = usize::try_from(ms).unwrap_or(usize::MAX);
            let earned = earned.saturating_mul(self.bytes_per_second) / 1_000;
            bucket.bytes = bucket.bytes.saturating_add(earned).min(self.bytes_max);
            bucket.refilled = now;
        }
        let left = bucket.bytes.checked_sub(bytes);
        bucket.bytes = left.unwrap_or(bucket.bytes);
        left.is_some()
    }
}

/// A body whose pieces keep the descriptor of its exchange. The exchange may end before h2 has written them.
#[derive(Debug)]
pub struct CountedBody<'a, B> {
    body: &'a mut B,
    /// `None` for an exchange that is not counted by itself.
    descriptor: Option<Arc<ExchangeDescriptor>>,
}

impl<'a, B> CountedBody<'a, B> {
    pub fn new(body: &'a mut B, descriptor: Option<&Arc<ExchangeDescriptor>>) -> Self {
        Self { body, descriptor: descriptor.cloned() }
    }

    fn counted(&self, bytes: Bytes) -> Bytes {
        match &self.descriptor {
            Some(descriptor) if !bytes.is_empty() => bytes_with_guard(bytes, descriptor.clone()),
            _ => bytes,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<'_, B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut *this.body).poll_frame(cx));
        let counted = |frame: Frame<Bytes>| frame.map_data(|bytes| this.counted(bytes));
        Poll::Ready(frame.map(|frame| frame.map(counted)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::Full;

    use super::*;
    use crate::h2::send_body::send_body;
    use crate::h2::unread_answer::UnreadAnswer;
    use crate::limits::agent_streams::AgentStreams;
    use keyward_base::id::AgentId;
    use keyward_base::limits::Limits;

    #[tokio::test(start_paused = true)]
    async fn eight_bodies_are_discarded_at_once_and_then_one_per_second() {
        let limits = Limits { discarded_body_bytes_max: 1_000, ..Limits::default() };
        let allowance = DiscardAllowance::new(&limits);
        for _ in 0..8 {
            assert!(allowance.take(1_000));
        }
        assert!(!allowance.take(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(allowance.take(400));
        assert!(!allowance.take(700));
        assert!(allowance.take(600));
        assert!(!allowance.take(1));
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(!allowance.take(8_001), "it is never more than at first");
        assert!(allowance.take(8_000));
    }

    const BODY: usize = 32 * 1024;

    #[tokio::test]
    async fn an_exchange_that_has_ended_is_counted_until_its_answer_was_written() {
        let (mut unread, _, mut stream) = UnreadAnswer::begin().await;
        let (agent_streams, id) = (AgentStreams::new(&Limits::default(), 1), AgentId::random());
        let descriptor = Arc::new(agent_streams.upstream(&id).unwrap());
        let mut body = Full::new(Bytes::from(vec![b'.'; BODY]));
        let mut counted = CountedBody::new(&mut body, Some(&descriptor));
        assert!(send_body(&mut counted, &mut stream).await.is_ok());
        drop((counted, descriptor, stream));
        unread.write().await;
        assert!(agent_streams.upstream(&id).is_none(), "it is not written");
        assert_eq!(unread.read().await, BODY);
        assert!(agent_streams.upstream(&id).is_some(), "it is written");
    }
}
