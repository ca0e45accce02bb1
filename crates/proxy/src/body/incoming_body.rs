//! [`IncomingBody`]: a body that is received from an agent or an upstream, over HTTP/1.1 or HTTP/2.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::body_error::ReceiveError;
use super::http1_upload::Http1Upload;
use super::http2_body::Http2Body;
use super::http2_upload::Http2Upload;

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
