//! Streams whose bytes are inspected while they are read: [`FilteredStream`] replaces messages that a side may not
//! send, [`WatchedStream`] only observes. Writes are not inspected.

use std::fmt;
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// From this length in bytes, the check of a statement takes long. The parser of the rules reads a few MiB per second, so
/// that a shorter one takes up to some milliseconds. Statements of drivers and frameworks are shorter.
pub const LONG_STATEMENT_BYTES: usize = 16 * 1024;

/// Checks the messages of a stream, which come in pieces of any size.
pub trait StreamFilter {
    /// Takes the next bytes, and appends the bytes for the other side to `checked`.
    ///
    /// # Errors
    /// When the session must end.
    fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()>;

    /// Whether [`Self::feed`] of these bytes takes too long for a thread that serves streams.
    fn takes_long(&self, _bytes: &[u8]) -> bool {
        false
    }

    /// Waits until what was fed may be sent on.
    ///
    /// # Errors
    /// When the session must end.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Appends what the other side gets without new bytes. Where more may come so, the task is to be woken.
    fn poll_own(&mut self, _cx: &mut Context<'_>, _checked: &mut BytesMut) {}
}

/// A stream whose messages are checked. While a check that takes long runs on another thread, nothing more is read, so
/// that the messages stay in their order.
#[derive(Debug)]
pub struct FilteredStream<S, F> {
    stream: S,
    filter: FilterPlace<F>,
    /// What the other side gets next.
    checked: BytesMut,
    /// Places for checks that take long.
    long_checks: Arc<Semaphore>,
}

/// Where the filter of a stream is.
enum FilterPlace<F> {
    Here(F),
    /// On a thread for blocking work, or waiting for a place there.
    Away(Pin<Box<dyn Future<Output = io::Result<Checked<F>>> + Send>>),
    /// Nowhere: its check has failed, and the session ends.
    Lost,
}

/// The result of a check on another thread.
struct Checked<F> {
    filter: F,
    bytes: BytesMut,
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
    /// The other side gets `first` before all. `long_checks`: places for checks that take long.
    pub fn new(stream: S, filter: F, first: BytesMut, long_checks: Arc<Semaphore>) -> Self {
        Self { stream, filter: FilterPlace::Here(filter), checked: first, long_checks }
    }
}

impl<F: StreamFilter + Send + 'static> FilterPlace<F> {
    /// The filter, once it is here. What it has checked meanwhile is put into `checked`.
    fn poll_here(
        &mut self,
        cx: &mut Context<'_>,
        checked: &mut BytesMut,
    ) -> Poll<io::Result<&mut F>> {
        if let Self::Away(check) = self {
            let done = ready!(check.as_mut().poll(cx));
            *self = Self::Lost;
            let Checked { filter, bytes } = done?;
            checked.unsplit(bytes);
            *self = Self::Here(filter);
        }
        match self {
            Self::Here(filter) => Poll::Ready(Ok(filter)),
            Self::Away(_) | Self::Lost => Poll::Ready(Err(io::ErrorKind::PermissionDenied.into())),
        }
    }

    /// Has the filter check the bytes on another thread. A check that has begun there runs to its end, also when the
    /// stream is dropped, and keeps its place until then.
    fn send_away(&mut self, bytes: Vec<u8>, long_checks: Arc<Semaphore>) {
        let Self::Here(mut filter) = mem::replace(self, Self::Lost) else { return };
        *self = Self::Away(Box::pin(async move {
            let place = long_checks.acquire_owned().await.map_err(io::Error::other)?;
            let check = move || {
                let mut checked = BytesMut::new();
                let fed = filter.feed(&bytes, &mut checked);
                drop(place);
                fed.map(|()| Checked { filter, bytes: checked })
            };
            spawn_blocking(check).await.map_err(io::Error::other)?
        }));
    }
}

impl<F: fmt::Debug> fmt::Debug for FilterPlace<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(filter) => f.debug_tuple("Here").field(filter).finish(),
            Self::Away(_) => f.write_str("Away"),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

impl<S, W> WatchedStream<S, W> {
    pub fn new(stream: S, watch: W) -> Self {
        Self { stream, watch, is_cut: false }
    }
}

impl<S: AsyncRead + Unpin, F: StreamFilter + Unpin + Send + 'static> AsyncRead
    for FilteredStream<S, F>
{
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let filter = ready!(this.filter.poll_here(cx, &mut this.checked))?;
            ready!(filter.poll_ready(cx))?;
            filter.poll_own(cx, &mut this.checked);
            if !this.checked.is_empty() {
                break;
            }
            let mut space = [const { MaybeUninit::uninit() }; CHUNK_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            match filter.takes_long(read.filled()) {
                true => this.filter.send_away(read.filled().to_vec(), this.long_checks.clone()),
                false => filter.feed(read.filled(), &mut this.checked)?,
            }
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

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::mpsc;

    use super::*;

    /// Passes everything, tells on which thread, and takes long for bytes with an `L`.
    #[derive(Debug)]
    struct Threaded(mpsc::UnboundedSender<ThreadId>);

    impl StreamFilter for Threaded {
        fn feed(&mut self, bytes: &[u8], checked: &mut BytesMut) -> io::Result<()> {
            self.0.send(thread::current().id()).unwrap();
            checked.extend_from_slice(bytes);
            match bytes.contains(&b'!') {
                true => Err(io::ErrorKind::InvalidData.into()),
                false => Ok(()),
            }
        }

        fn takes_long(&self, bytes: &[u8]) -> bool {
            bytes.contains(&b'L')
        }
    }

    #[tokio::test]
    async fn a_check_that_takes_long_runs_on_another_thread_and_what_follows_waits_for_it() {
        let (mut agent, gateway) = duplex(64);
        let (tell, mut threads) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(0));
        let mut stream =
            FilteredStream::new(gateway, Threaded(tell), BytesMut::new(), places.clone());
        let mut piece = [0; 16];
        agent.write_all(b"short").await.unwrap();
        assert_eq!(stream.read(&mut piece).await.unwrap(), 5);
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());

        agent.write_all(b"Long").await.unwrap();
        assert!(poll!(Box::pin(stream.read(&mut piece))).is_pending(), "no place is free");
        agent.write_all(b"behind").await.unwrap();
        assert!(poll!(Box::pin(stream.read(&mut piece))).is_pending(), "it is not overtaken");
        assert!(threads.try_recv().is_err(), "nothing is checked");
        places.add_permits(1);
        let mut both = [0; 10];
        stream.read_exact(&mut both).await.unwrap();
        assert_eq!(&both, b"Longbehind");
        assert_ne!(threads.try_recv().unwrap(), thread::current().id());
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
        assert_eq!(places.available_permits(), 1, "the place is free again");
    }

    #[tokio::test]
    async fn a_session_that_ends_while_it_waits_for_a_place_is_not_checked() {
        let (mut agent, gateway) = duplex(64);
        let (tell, mut threads) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(0));
        let mut stream =
            FilteredStream::new(gateway, Threaded(tell), BytesMut::new(), places.clone());
        agent.write_all(b"Long").await.unwrap();
        assert!(poll!(Box::pin(stream.read(&mut [0; 16]))).is_pending());
        drop(stream);
        places.add_permits(1);
        assert!(threads.recv().await.is_none(), "the filter is gone");
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn nothing_is_read_after_a_check_on_another_thread_has_failed() {
        let (mut agent, gateway) = duplex(64);
        let (tell, _threads) = mpsc::unbounded_channel();
        let places = Arc::new(Semaphore::new(1));
        let mut stream = FilteredStream::new(gateway, Threaded(tell), BytesMut::new(), places);
        agent.write_all(b"Long!").await.unwrap();
        let failed = stream.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
        agent.write_all(b"more").await.unwrap();
        let failed = stream.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::PermissionDenied);
    }
}
