//! [`BufferedWrites`] joins small writes. h2 writes each DATA frame by itself, and TLS makes a record and a system
//! call of each. The buffer is written when it fills a TLS record, or when the connection's task has no more work.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum size of the buffer: one TLS record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;

/// The maximum number of slices for each write. h2 writes two, a frame's head and its payload.
const SLICES: usize = 8;

/// The end of the buffer that h2 writes to. Its `poll_flush` is always ready and does nothing: the task of the
/// connection must call [`Flusher::poll_drain`] after each poll. `IO` must support vectored writes, as TLS and
/// sockets do.
#[derive(Debug)]
pub struct BufferedWrites<IO> {
    shared: Arc<Mutex<BufferShared<IO>>>,
}

/// The end of the buffer for the task of the connection. Keeps the IO open until it is dropped too.
#[derive(Debug)]
pub struct Flusher<IO> {
    shared: Arc<Mutex<BufferShared<IO>>>,
}

#[derive(Debug)]
struct BufferShared<IO> {
    io: IO,
    /// Buffered bytes, less than a record. No allocation while it is empty.
    held: BytesMut,
    /// Whether bytes were written since the last whole flush.
    unflushed: bool,
}

impl<IO> BufferedWrites<IO> {
    /// Buffers writes to `io`.
    pub fn new(io: IO) -> (Self, Flusher<IO>) {
        let shared = BufferShared { io, held: BytesMut::new(), unflushed: false };
        let shared = Arc::new(Mutex::new(shared));
        (Self { shared: Arc::clone(&shared) }, Flusher { shared })
    }
}

impl<IO: AsyncWrite + Unpin> Flusher<IO> {
    /// Writes and flushes the buffer. Ready at once, without a system call, when the buffer is empty. `Pending`
    /// wakes the caller when it can continue; the connection may write meanwhile.
    ///
    /// # Errors
    /// The error of the IO. The connection gets the same error at its next read or write.
    pub fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().drain(cx)
    }
}

impl<IO> Flusher<IO> {
    /// The IO, once the connection is dropped. Buffered bytes are lost.
    pub fn into_inner(self) -> Option<IO> {
        Arc::into_inner(self.shared).map(|shared| shared.into_inner().io)
    }
}

impl<IO: AsyncWrite + Unpin> BufferShared<IO> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.has_remaining() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.held))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.held.advance(count);
        }
        if self.held.capacity() > 0 {
            // An idle stream holds no buffer.
            self.held = BytesMut::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Buffers `slices` if they fit into a record; otherwise writes whole records, of the buffer and of `slices`.
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let slices = &slices[..slices.len().min(SLICES - 1)];
        let given: usize = slices.iter().map(|slice| slice.len()).sum();
        loop {
            let before = self.held.len();
            let whole = (before + given) / RECORD * RECORD;
            if whole == 0 {
                slices.iter().for_each(|slice| self.held.extend_from_slice(slice));
                return Poll::Ready(Ok(given));
            }
            let count = ready!(self.write_through(cx, slices, whole))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.held.advance(count.min(before));
            if count > before {
                return Poll::Ready(Ok(count - before));
            }
        }
    }

    /// Writes the buffer and then `slices`, at most `whole` bytes, without copying.
    fn write_through(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
        whole: usize,
    ) -> Poll<io::Result<usize>> {
        let mut all = [IoSlice::new(&[]); SLICES];
        all[0] = IoSlice::new(&self.held);
        let mut room = whole - self.held.len();
        for (to, from) in all[1..].iter_mut().zip(slices) {
            let length = from.len().min(room);
            *to = IoSlice::new(&from[..length]);
            room -= length;
        }
        // Plain writes take the first slice that is not empty.
        let first = usize::from(self.held.is_empty());
        Pin::new(&mut self.io).poll_write_vectored(cx, &all[first..=slices.len()])
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for BufferedWrites<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.shared.lock().io).poll_read(cx, out)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for BufferedWrites<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready: see [`BufferedWrites`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        ready!(shared.drain(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_util::task::noop_waker;
    use proptest::prelude::*;

    use super::*;

    /// An IO that records each write and answers by a script.
    #[derive(Debug, Default)]
    struct Sink {
        writes: Vec<Vec<u8>>,
        flushes: usize,
        shut: bool,
        /// For each call: how many bytes to take at most, or `None` for `Pending`. Then all.
        script: VecDeque<Option<usize>>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            assert!(!this.shut, "a write after the shutdown");
            let Some(most) = this.script.pop_front().unwrap_or(Some(usize::MAX)) else {
                return Poll::Pending;
            };
            let mut all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            assert!(!all.is_empty(), "an empty write");
            all.truncate(most);
            this.writes.push(all);
            Poll::Ready(Ok(this.writes.last().expect("just put").len()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.get_mut().shut = true;
            Poll::Ready(Ok(()))
        }
    }

    struct Rig {
        gathered: BufferedWrites<Sink>,
        drain: Flusher<Sink>,
        sent: Vec<u8>,
    }

    impl Rig {
        fn new(script: Vec<Option<usize>>) -> Self {
            let sink = Sink { script: script.into(), ..Sink::default() };
            let (gathered, drain) = BufferedWrites::new(sink);
            Self { gathered, drain, sent: vec![] }
        }

        /// Writes `length` bytes in two slices as h2 does, and counts how often it had to wait.
        fn write(&mut self, length: usize) -> usize {
            let bytes: Vec<u8> = (self.sent.len()..).take(length).map(|at| at as u8).collect();
            let (mut waits, mut done) = (0, 0);
            while done < length {
                let waker = noop_waker();
                let cx = &mut Context::from_waker(&waker);
                let rest = &bytes[done..];
                let (head, payload) = rest.split_at(rest.len().min(9));
                let slices = [IoSlice::new(head), IoSlice::new(payload)];
                match Pin::new(&mut self.gathered).poll_write_vectored(cx, &slices) {
                    Poll::Ready(count) => done += count.expect("no error"),
                    Poll::Pending => waits += 1,
                }
            }
            self.sent.extend(bytes);
            waits
        }

        fn drain(&self) {
            let waker = noop_waker();
            while self.drain.poll_drain(&mut Context::from_waker(&waker)).is_pending() {}
        }

        fn shut_down(&mut self) {
            let waker = noop_waker();
            let cx = &mut Context::from_waker(&waker);
            while Pin::new(&mut self.gathered).poll_shutdown(cx).is_pending() {}
        }

        fn writes(&self) -> Vec<Vec<u8>> {
            self.drain.shared.lock().io.writes.clone()
        }

        /// TLS cuts every write into records.
        fn records(&self) -> Vec<usize> {
            let writes = self.writes();
            writes.iter().flat_map(|write| write.chunks(RECORD).map(<[u8]>::len)).collect()
        }
    }

    #[test]
    fn bytes_below_a_full_record_are_not_written_before_a_drain() {
        let mut rig = Rig::new(vec![]);
        rig.write(100);
        let waker = noop_waker();
        let flush = Pin::new(&mut rig.gathered).poll_flush(&mut Context::from_waker(&waker));
        assert!(matches!(flush, Poll::Ready(Ok(()))));
        rig.write(200);
        assert!(rig.writes().is_empty());
        rig.drain();
        assert_eq!(rig.records(), [300]);
    }

    #[test]
    fn an_idle_stream_holds_no_buffer_and_flushes_nothing() {
        let mut rig = Rig::new(vec![]);
        rig.drain();
        assert_eq!(rig.drain.shared.lock().io.flushes, 0);
        rig.write(5_000);
        rig.drain();
        rig.drain();
        let shared = rig.drain.shared.lock();
        assert_eq!((shared.held.capacity(), shared.io.flushes), (0, 1));
    }

    #[test]
    fn a_writer_waits_while_the_socket_accepts_no_bytes() {
        let mut rig = Rig::new(vec![None; 5]);
        assert_eq!(rig.write(RECORD - 1), 0, "this fits");
        assert_eq!(rig.write(2), 5, "each further try finds the socket full");
        rig.drain();
        assert_eq!(rig.records(), [RECORD, 1]);
    }

    #[test]
    fn a_socket_that_accepts_zero_bytes_is_a_write_error() {
        let mut rig = Rig::new(vec![Some(0)]);
        rig.write(1);
        let waker = noop_waker();
        let drained = rig.drain.poll_drain(&mut Context::from_waker(&waker));
        let Poll::Ready(Err(error)) = drained else { panic!("{drained:?}") };
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        let length = prop_oneof![1..40_usize, 1..2_000_usize, 16_000..40_000_usize];
        proptest::collection::vec(length, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn everything_arrives_in_order_and_nothing_is_lost_at_shutdown(
            lengths in lengths(),
            drains in proptest::collection::vec(any::<bool>(), 20),
            script in proptest::collection::vec(proptest::option::of(1..20_000_usize), 0..60),
        ) {
            let mut rig = Rig::new(script);
            for (length, drain) in lengths.iter().zip(drains) {
                rig.write(*length);
                if drain {
                    rig.drain();
                }
            }
            rig.shut_down();
            prop_assert!(rig.writes().concat() == rig.sent);
            prop_assert!(rig.drain.shared.lock().io.shut);
        }

        #[test]
        fn only_a_drain_makes_a_record_that_is_not_full(lengths in lengths()) {
            let mut rig = Rig::new(vec![]);
            for length in lengths {
                rig.write(length);
                prop_assert!(rig.records().iter().all(|record| *record == RECORD));
                prop_assert!(rig.drain.shared.lock().held.len() < RECORD);
            }
            rig.drain();
            let records = rig.records();
            let small = records.iter().filter(|record| **record < RECORD).count();
            prop_assert!(small <= 1, "{records:?}");
        }
    }
}
