//! [`CopyDirection`] copies bytes from one stream to another. An idle direction holds no buffer: bytes are read
//! onto the stack, and only what could not be written is kept. [`stalled`] resolves when byte counts stop changing.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::websocket_frames::FrameTracker;

/// Bytes read at a time: a TLS record's most.
const BUFFER_BYTES: usize = 16 * 1024;

/// One direction between two streams.
#[derive(Debug)]
pub struct CopyDirection {
    moved: Arc<AtomicU64>,
    /// Tracks frame boundaries, for a WebSocket.
    frames: Option<FrameTracker>,
    /// Bytes that were read and not yet written; empty without an allocation.
    rest: Bytes,
    unflushed: bool,
    stage: CopyStage,
}

#[derive(Clone, Copy, Debug)]
enum CopyStage {
    Open,
    /// The source has ended; the sink is being shut down.
    Ending,
    Ended,
}

/// The stream of a direction that broke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// The one that is read.
    Source,
    /// The one that is written.
    Sink,
}

impl CopyDirection {
    /// A direction that counts written bytes in `moved`.
    pub fn new(moved: Arc<AtomicU64>, frames: Option<FrameTracker>) -> Self {
        Self { moved, frames, rest: Bytes::new(), unflushed: false, stage: CopyStage::Open }
    }

    /// Whether it tracks the frames of a WebSocket.
    pub fn has_frames(&self) -> bool {
        self.frames.is_some()
    }

    /// How many bytes were written.
    pub fn moved(&self) -> &Arc<AtomicU64> {
        &self.moved
    }

    /// Copies until the source has ended and the sink is shut down.
    ///
    /// # Errors
    /// The stream that broke.
    pub fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_rest(cx, sink)).map_err(|_| Broken::Sink)?;
            match self.stage {
                CopyStage::Open => {
                    let mut space = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
                    let mut read = ReadBuf::uninit(&mut space);
                    match Pin::new(&mut *source).poll_read(cx, &mut read) {
                        Poll::Pending => {
                            ready!(self.poll_flush(cx, sink)).map_err(|_| Broken::Sink)?;
                            return Poll::Pending;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
                        Poll::Ready(Ok(())) if read.filled().is_empty() => {
                            self.stage = CopyStage::Ending;
                        }
                        Poll::Ready(Ok(())) => {
                            self.write(cx, sink, read.filled()).map_err(|_| Broken::Sink)?;
                        }
                    }
                }
                CopyStage::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(|_| Broken::Sink)?;
                    self.stage = CopyStage::Ended;
                }
                CopyStage::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes what the sink accepts now and keeps the rest.
    fn write<W>(&mut self, cx: &mut Context<'_>, sink: &mut W, bytes: &[u8]) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
    {
        let mut written = 0;
        while written < bytes.len() {
            match Pin::new(&mut *sink).poll_write(cx, &bytes[written..])? {
                Poll::Ready(count) => {
                    self.wrote(&bytes[written..written + count])?;
                    written += count;
                }
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(&bytes[written..]);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes what was kept.
    fn poll_rest<W>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.rest.is_empty() {
            let count = ready!(Pin::new(&mut *sink).poll_write(cx, &self.rest))?;
            let bytes = self.rest.split_to(count);
            self.wrote(&bytes)?;
        }
        // Gives the allocation back.
        self.rest = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.unflushed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Counts bytes that the sink has accepted.
    fn wrote(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.moved.fetch_add(bytes.len() as u64, Relaxed);
        if let Some(frames) = &mut self.frames {
            frames.pass(bytes);
        }
        Ok(())
    }

    /// Whether the source has ended and its end was passed on.
    pub fn has_ended(&self) -> bool {
        matches!(self.stage, CopyStage::Ended)
    }

    /// Whether a close frame may be inserted after the written bytes.
    pub fn may_close(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.is_at_boundary() && !frames.is_closed())
    }

    /// Whether a close frame was written.
    pub fn is_closed(&self) -> bool {
        self.frames.as_ref().is_some_and(FrameTracker::is_closed)
    }

    /// Copies the rest of the current frame and no byte of the next one, so that [`CopyDirection::may_close`]
    /// holds. Stops if more than `bytes_max` bytes are missing or a stream breaks.
    pub async fn finish_frame<R, W>(&mut self, source: &mut R, sink: &mut W, bytes_max: u64)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while let Some(frames) = &self.frames
            && !frames.is_at_boundary()
            && frames.left() <= bytes_max
        {
            if self.rest.is_empty() {
                let mut space = Vec::with_capacity(BUFFER_BYTES);
                let Ok(1..) = source.read_buf(&mut space).await else { return };
                self.rest = space.into();
            }
            let own = frames.clone().pass_one(&self.rest);
            let Ok(count) = sink.write(&self.rest[..own]).await else { return };
            let bytes = self.rest.split_to(count);
            if self.wrote(&bytes).is_err() {
                return;
            }
        }
    }
}

/// How often the counts are compared within `idle`.
const CHECKS: u32 = 8;

/// Resolves when no count has changed for `idle`, late by at most an eighth of it.
pub async fn stalled(counts: &[&AtomicU64], idle: Duration) {
    let sum = || counts.iter().map(|count| count.load(Relaxed)).fold(0, u64::wrapping_add);
    let (mut before, mut unchanged) = (sum(), 0);
    while unchanged < CHECKS {
        tokio::time::sleep(idle / CHECKS).await;
        let now = sum();
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, MissedTickBehavior, interval};

    use super::*;
    use keyward_base::limits::Limits;

    async fn finished(first: &[u8], mut then: &[u8]) -> (Vec<u8>, bool) {
        let mut direction = CopyDirection::new(Arc::default(), Some(FrameTracker::new()));
        direction.wrote(first).unwrap();
        let mut sink = Vec::new();
        direction.finish_frame(&mut then, &mut sink, 64).await;
        (sink, direction.may_close())
    }

    #[tokio::test]
    async fn finishing_a_frame_copies_no_byte_of_the_next_one() {
        /// Bytes written before, bytes to come, how many of those are copied, and whether a close frame may follow.
        type Case = (&'static [u8], &'static [u8], &'static [u8], bool);
        let cases: [Case; 5] = [
            (b"\x81\x05he", b"llo\x81\x04late", b"llo", true),
            (b"\x81\x05hello", b"\x81\x04late", b"", true),
            (b"\x81", b"\x00\x81\x04late", b"\x00", true),
            (b"\x81\x05he", b"l", b"l", false),
            // More is missing than may follow.
            (b"\x82\x7e\x00\x80", b"more", b"", false),
        ];
        for (first, then, rest, whole) in cases {
            assert_eq!(finished(first, then).await, (rest.to_vec(), whole), "{first:?}");
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn bytes_that_move_at_the_beginning_do_not_double_the_idle_timeout() {
        let (moved, begun) = (AtomicU64::new(0), Instant::now());
        let counts = [&moved];
        tokio::join!(stalled(&counts, HOUR), async {
            moved.fetch_add(4, Relaxed);
        });
        assert!(begun.elapsed() > HOUR && begun.elapsed() < HOUR * 5 / 4, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_now_and_then_keeps_a_tunnel_for_days() {
        let (moved, idle) = (AtomicU64::new(0), Limits::default().tunnel_idle_timeout);
        let (begun, counts) = (Instant::now(), [&moved]);
        let pings = async {
            let mut ping = interval(3 * HOUR);
            ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..20 {
                ping.tick().await;
                moved.fetch_add(2, Relaxed);
            }
        };
        tokio::select! {
            () = stalled(&counts, idle) => panic!("idle after {:?}", begun.elapsed()),
            () = pings => assert!(begun.elapsed() >= 57 * HOUR),
        }
        stalled(&counts, idle).await;
        assert!(begun.elapsed() <= 57 * HOUR + 2 * idle);
    }
}
