//! [`IncomingBody`]: a body that is received from an agent or an upstream, over HTTP/1.1 or HTTP/2.
//!
//! [`Http1Upload`]: the body of an agent's HTTP/1.1 request. When it is dropped before its end, the rest is read and discarded for a
//! while: closing the stream at once can cost the agent the answer (RFC 9112 §9.6).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;

use super::ReceiveError;
use super::http2_body::{Http2Body, Http2Upload};
use crate::sockets::h1_idle::H1Idle;

/// A body that is received.
#[derive(Debug)]
pub enum IncomingBody {
    Empty,
    /// Over HTTP/1.1, an answer.
    Http1(Incoming),
    /// Over HTTP/1.1, a request.
    Http1Upload(Http1Upload),
    /// Over HTTP/2, an answer.
    Http2(Http2Body),
    /// Over HTTP/2, a request.
    Http2Upload(Http2Upload),
    /// A body whose beginning was read already.
    PeekedBody(Box<PeekedBody>),
}

/// The frames that were read already, and the rest.
#[derive(Debug)]
pub struct PeekedBody {
    read: VecDeque<Result<Frame<Bytes>, ReceiveError>>,
    rest: IncomingBody,
}

impl IncomingBody {
    /// The body with `read` in front of it.
    pub fn after(self, read: VecDeque<Result<Frame<Bytes>, ReceiveError>>) -> Self {
        match read.is_empty() {
            true => self,
            false => Self::PeekedBody(Box::new(PeekedBody { read, rest: self })),
        }
    }
}

impl PeekedBody {
    fn size_hint(&self) -> SizeHint {
        let frames = self.read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let read: usize = frames.map(Bytes::len).sum();
        let rest = self.rest.size_hint().exact();
        rest.map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + read as u64))
    }
}

impl Body for IncomingBody {
    type Data = Bytes;
    type Error = ReceiveError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReceiveError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(ReceiveError::from),
            Self::Http1Upload(upload) => {
                Pin::new(upload).poll_frame(cx).map_err(ReceiveError::from)
            }
            Self::Http2(streamed) => streamed.poll_frame(cx),
            Self::Http2Upload(upload) => Pin::new(upload).poll_frame(cx),
            Self::PeekedBody(begun) => match begun.read.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => Pin::new(&mut begun.rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Http1Upload(upload) => upload.is_end_stream(),
            Self::Http2(streamed) => streamed.is_end_stream(),
            Self::Http2Upload(upload) => upload.is_end_stream(),
            Self::PeekedBody(begun) => begun.read.is_empty() && begun.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Http1Upload(upload) => upload.size_hint(),
            Self::PeekedBody(begun) => begun.size_hint(),
            Self::Http2(streamed) => streamed.size_hint(),
            Self::Http2Upload(upload) => upload.size_hint(),
        }
    }
}

/// How long an unfinished upload is drained after its answer. Most clients stop when they see the answer.
const UPLOAD_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request as the agent sends it.
#[derive(Debug)]
pub struct Http1Upload {
    /// `None` once it has ended.
    incoming: Option<Incoming>,
    /// The agent waits for `100 Continue` before it sends the body.
    waits: bool,
    /// Notified when the body was received completely.
    idle: Option<Arc<H1Idle>>,
}

impl Http1Upload {
    /// The body of a request with these fields. `idle` is notified of its begin and its end.
    pub fn new(incoming: Incoming, fields: &HeaderMap, idle: &Arc<H1Idle>) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        idle.request_begun(incoming.is_some());
        let idle = incoming.is_some().then(|| idle.clone());
        Self { incoming, waits: fields.contains_key(header::EXPECT), idle }
    }

    fn has_come(&self) {
        if let Some(idle) = &self.idle {
            idle.body_received();
        }
    }
}

impl Body for Http1Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        this.waits = false;
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        let whole = incoming.is_end_stream() || frame.is_none();
        if whole {
            this.has_come();
        }
        if whole || matches!(frame, Some(Err(_))) {
            this.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        self.incoming.as_ref().map_or_else(nothing, Body::size_hint)
    }
}

impl Drop for Http1Upload {
    fn drop(&mut self) {
        // A gateway that stops does not drain.
        if let (Some(mut incoming), false, Ok(runtime)) =
            (self.incoming.take(), self.waits, Handle::try_current())
        {
            let idle = self.idle.take();
            runtime.spawn(tokio::time::timeout(UPLOAD_DRAIN_TIMEOUT, async move {
                let end = loop {
                    match incoming.frame().await {
                        Some(Ok(_)) => {}
                        end => break end,
                    }
                };
                if let (None, Some(idle)) = (end, idle) {
                    idle.body_received();
                }
            }));
        }
    }
}
