//! Streams whose bytes are inspected while they are read: [`FilteredStream`] replaces messages that a side may not
//! send, [`WatchedStream`] only observes. Writes are not inspected.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Checks the messages of a stream, which come in pieces of any size.
pub trait StreamFilter {
    /// Takes the next bytes, and appends the bytes for the other side to `checked`.
    ///
    /// # Errors
    /// When the session must end.
    fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()>;

    /// Waits until what was fed may be sent on.
    ///
    /// # Errors
    /// When the session must end.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A stream whose messages are checked.
#[derive(Debug)]
pub struct FilteredStream<S, F> {
    stream: S,
    filter: F,
    /// What the other side gets next.
    checked: BytesMut,
}

/// Observes the bytes of a stream.
pub trait StreamWatch {
    /// Observes the bytes that were read; empty at the end of the stream.
    ///
    /// # Errors
    /// When the session must end.
    fn observe(&mut self, bytes: &[u8]) -> Result<(), Abort>;
}

/// The session must end. The other side gets only a part of the bytes that were read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Abort {
    /// The number of bytes that the other side gets.
    pub forwarded: usize,
}

/// A stream whose bytes are observed.
#[derive(Debug)]
pub struct WatchedStream<S, W> {
    stream: S,
    watch: W,
    is_cut: bool,
}

impl<S, F> FilteredStream<S, F> {
    /// The other side gets `first` before all.
    pub fn new(stream: S, filter: F, first: BytesMut) -> Self {
        Self { stream, filter, checked: first }
    }
}

impl<S, W> WatchedStream<S, W> {
    pub fn new(stream: S, watch: W) -> Self {
        Self { stream, watch, is_cut: false }
    }
}

impl<S: AsyncRead + Unpin, F: StreamFilter + Unpin> AsyncRead for FilteredStream<S, F> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.filter.poll_ready(cx))?;
            if !this.checked.is_empty() {
                break;
            }
            let mut space = [const { MaybeUninit::uninit() }; CHUNK_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.filter.feed(read.filled(), &mut this.checked)?;
        }
        let length = this.checked.len().min(out.remaining());
        out.put_slice(&this.checked.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, W: StreamWatch + Unpin> AsyncRead for WatchedStream<S, W> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_cut {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
        match this.watch.observe(&out.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Abort { forwarded: 0 }) => {
                out.set_filled(before);
                Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()))
            }
            Err(Abort { forwarded }) => {
                out.set_filled(before + forwarded);
                this.is_cut = true;
                Poll::Ready(Ok(()))
            }
        }
    }
}

macro_rules! writes_pass {
    ($type:ident) => {
        impl<S: AsyncWrite + Unpin, T: Unpin> AsyncWrite for $type<S, T> {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.get_mut().stream).poll_flush(cx)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
            }
        }
    };
}
writes_pass!(FilteredStream);
writes_pass!(WatchedStream);
