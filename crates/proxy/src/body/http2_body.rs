//! [`Http2Body`]: the DATA and trailers of an HTTP/2 stream of either leg.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

use super::body_error::ReceiveError;
use crate::h2::without_outer_blanks;
use crate::sockets::watchdog::Watchdog;

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
