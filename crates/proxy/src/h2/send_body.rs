//! [`send_body`] sends a body on an HTTP/2 stream, as fast as the peer's window allows.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use http_body::{Body, Frame};

/// Why a body was not sent completely.
#[derive(Debug)]
pub enum SendStop<E> {
    /// The source of the body broke.
    Body(E),
    /// The peer reset the stream, or the stream broke.
    Peer,
}

/// Sends the whole body and ends the stream. It holds one frame while the peer's window is full, and does not read
/// further.
///
/// # Errors
/// When either side breaks; the caller must reset the stream.
pub async fn send_body<B>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
) -> Result<(), SendStop<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    loop {
        let Some(frame) = poll_fn(|cx| next(body, stream, cx)).await? else {
            return end(stream, Bytes::new());
        };
        match frame.into_data() {
            Ok(data) if body.is_end_stream() => return last(stream, data).await,
            Ok(data) => send(stream, data).await?,
            Err(frame) => return trailers(stream, frame.into_trailers().unwrap_or_default()),
        }
    }
}

/// The next frame of a body, or its end.
type Next<E> = Result<Option<Frame<Bytes>>, SendStop<E>>;

/// The body's next frame. A reset by the peer is checked first, because it also breaks the body.
fn next<B>(
    body: &mut B,
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Next<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(Err(SendStop::Peer));
    }
    Pin::new(body).poll_frame(cx).map(|frame| frame.transpose().map_err(SendStop::Body))
}

/// Sends `data` without ending the stream.
async fn send<E>(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), SendStop<E>> {
    while !data.is_empty() {
        let room = room(stream, data.len()).await?;
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, false).map_err(|_| SendStop::Peer)?;
    }
    Ok(())
}

/// Sends `data` and ends the stream with its last frame.
async fn last<E>(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), SendStop<E>> {
    while !data.is_empty() {
        let room = room(stream, data.len()).await?;
        if room >= data.len() {
            break;
        }
        stream.send_data(data.split_to(room), false).map_err(|_| SendStop::Peer)?;
    }
    end(stream, data)
}

fn end<E>(stream: &mut SendStream<Bytes>, data: Bytes) -> Result<(), SendStop<E>> {
    stream.send_data(data, true).map_err(|_| SendStop::Peer)
}

fn trailers<E>(stream: &mut SendStream<Bytes>, fields: HeaderMap) -> Result<(), SendStop<E>> {
    stream.send_trailers(fields).map_err(|_| SendStop::Peer)
}

/// Waits until the peer's window has room for some of `wanted` bytes. Never returns 0.
async fn room<E>(stream: &mut SendStream<Bytes>, wanted: usize) -> Result<usize, SendStop<E>> {
    stream.reserve_capacity(wanted);
    loop {
        match stream.capacity() {
            0 => {}
            room => return Ok(room),
        }
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(SendStop::Peer),
        }
    }
}
