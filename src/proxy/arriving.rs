//! [`Arriving`]: a body as it comes off a stream of either leg, whatever protocol that speaks.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::h2::without_outer_blanks;
use super::lingering::Upload;
use super::pulse::Pulse;

/// A body under way to us.
#[derive(Debug)]
pub enum Arriving {
    /// Nothing, also not later.
    Empty,
    /// Over HTTP/1.1, an answer.
    Http1(Incoming),
    /// Over HTTP/1.1, a request.
    Upload(Upload),
    /// Over HTTP/2.
    Http2(Streamed),
    /// An answer whose beginning was read.
    Begun(Box<Begun>),
}

/// What was read of a body, and the rest.
#[derive(Debug)]
pub struct Begun {
    read: VecDeque<Result<Frame<Bytes>, Cut>>,
    rest: Arriving,
}

/// The DATA and trailers of an HTTP/2 stream. What is taken is given back to the peer's window at
/// once: whoever takes it has room for it.
#[derive(Debug)]
pub struct Streamed {
    stream: RecvStream,
    /// What of a declared length is to come; h2 holds the peer to it.
    left: Option<u64>,
    /// Only trailers can still come.
    data_ended: bool,
    /// The exchange that lives as long as its bytes move; none on an upstream's stream.
    pulse: Option<Arc<Pulse>>,
}

/// The other side's stream broke, or it was reset.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Cut {
    /// With which code the peer reset its HTTP/2 stream.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(error) => error.reason(),
        }
    }
}

impl Streamed {
    /// The body of a message with such fields.
    pub fn new(stream: RecvStream, fields: &HeaderMap, pulse: Option<Arc<Pulse>>) -> Self {
        let length = fields.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let left = length.and_then(|length| length.parse().ok());
        Self { stream, left, data_ended: false, pulse }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
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

    fn took(&mut self, data: Bytes) -> Result<Frame<Bytes>, Cut> {
        self.stream.flow_control().release_capacity(data.len())?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
        }
        if let Some(pulse) = &self.pulse {
            pulse.wrote();
        }
        Ok(Frame::data(data))
    }
}

impl Arriving {
    /// The same, after what was read of it.
    pub fn after(self, read: VecDeque<Result<Frame<Bytes>, Cut>>) -> Self {
        match read.is_empty() {
            true => self,
            false => Self::Begun(Box::new(Begun { read, rest: self })),
        }
    }
}

impl Begun {
    fn size_hint(&self) -> SizeHint {
        let frames = self.read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let read: usize = frames.map(Bytes::len).sum();
        let rest = self.rest.size_hint().exact();
        rest.map_or_else(SizeHint::new, |rest| SizeHint::with_exact(rest + read as u64))
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Http1(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Cut::from),
            Self::Upload(upload) => Pin::new(upload).poll_frame(cx).map_err(Cut::from),
            Self::Http2(streamed) => streamed.poll_frame(cx),
            Self::Begun(begun) => match begun.read.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => Pin::new(&mut begun.rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(incoming) => incoming.is_end_stream(),
            Self::Upload(upload) => upload.is_end_stream(),
            Self::Http2(streamed) => streamed.stream.is_end_stream(),
            Self::Begun(begun) => begun.read.is_empty() && begun.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(incoming) => incoming.size_hint(),
            Self::Upload(upload) => upload.size_hint(),
            Self::Begun(begun) => begun.size_hint(),
            Self::Http2(streamed) if streamed.stream.is_end_stream() => SizeHint::with_exact(0),
            Self::Http2(streamed) => streamed.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
