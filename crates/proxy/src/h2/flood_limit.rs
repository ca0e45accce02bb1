//! [`FloodLimited`] closes a connection whose peer floods it with cheap frames. h2 limits the sizes of frames; this
//! limits their number, by two budgets for each connection. The budgets refill with time, and with traffic that a
//! peer has a reason to answer or to acknowledge.
//!
//! Limits of other servers: nghttp2 1,000 resets and then 33/s, the same for other faults, 8 CONTINUATION frames
//! per block (`lib/nghttp2_session.h`); Envoy 2 + 20 WINDOW_UPDATE per stream and per DATA frame that it sent, 100
//! PRIORITY per stream, one empty DATA frame after another, and at most half of 500 streams reset early
//! (`config.core.v3.Http2ProtocolOptions`, `overload.premature_reset…`); Go 10,000 queued control frames
//! (`golang.org/x/net/http2/server.go`); nginx eight times the payload in bytes (`src/http/v2/ngx_http_v2.c`). h2
//! itself: 20 resets of streams that were not accepted yet, 100 empty DATA frames, a budget for DATA frames under
//! 256 bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The burst of resets, and of frames without content. As nghttp2.
const BURST: u32 = 1_000;

/// The refill of both budgets per second. Three times nghttp2's: agents are authenticated, and a client whose
/// deadlines expire because an upstream hangs is not an attacker.
const PER_SECOND: u32 = 100;

/// The number of frames without content that each sent DATA frame adds. As Envoy.
const PER_DATA_FRAME: u32 = 10;

/// Another one for each of this many bytes: Go acknowledges every 4 KiB, twice.
const BYTES_PER_FRAME: u32 = 1_024;

/// The number of frames without content that each request of an agent adds. As Envoy.
const PER_REQUEST: u32 = 2;

/// The number of such frames, and of HEADERS, that each request to an upstream adds: the default of
/// `interim_answers_max`, the head and the trailers of the answer, and two as for agents.
const PER_ANSWER: u32 = 20;

/// CONTINUATION frames in one header block: 1 MiB in frames of the usual size. h2 closes earlier
/// where the head's bound is lower.
const CONTINUATIONS_MAX: u32 = 64;

/// `PRI * HTTP/2.0 …`, RFC 9113 §3.4.
const PREFACE_BYTES: u32 = 24;

/// Frame types, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;

/// The peer whose frames are limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FloodPeer {
    Agent,
    /// Its HEADERS are limited too: only requests give it a reason to send some.
    Upstream,
}

/// The kind of frames that a peer sent too many of.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Flood {
    /// CVE-2023-44487.
    #[error("http/2 flood: too many RST_STREAM frames (rapid reset)")]
    Resets,
    /// CVE-2024-27316.
    #[error("http/2 flood: more than {CONTINUATIONS_MAX} CONTINUATION frames in one header block")]
    Continuations,
    /// Frames without content; the name is that of the last one.
    #[error("http/2 flood: too many frames without content, of which the last was {0}")]
    Idle(&'static str),
}

impl From<Flood> for io::Error {
    fn from(flood: Flood) -> Self {
        Self::new(io::ErrorKind::InvalidData, flood)
    }
}

/// Counts the frames of one connection, in both directions, in pieces of any size.
#[derive(Debug)]
pub struct FrameMeter {
    peer: FloodPeer,
    read: FrameParser,
    wrote: FrameParser,
    resets: FrameBudget,
    idle: FrameBudget,
    continuations: u32,
}

impl FrameMeter {
    /// A meter for a connection, before its preface.
    pub fn new(peer: FloodPeer) -> Self {
        let now = Instant::now();
        let (read, wrote) = match peer {
            FloodPeer::Agent => (PREFACE_BYTES, 0),
            FloodPeer::Upstream => (0, PREFACE_BYTES),
        };
        Self {
            peer,
            read: FrameParser::after(read),
            wrote: FrameParser::after(wrote),
            resets: FrameBudget::full(now),
            idle: FrameBudget::full(now),
            continuations: 0,
        }
    }

    /// Counts bytes that the peer sent.
    ///
    /// # Errors
    /// A flood, at the frame that exceeds a budget. The connection must be closed.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while let Some(frame) = self.read.next(&mut bytes) {
            self.charge(frame)?;
        }
        Ok(())
    }

    /// Counts bytes that were sent to the peer.
    pub fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.wrote.next(&mut bytes) {
            let refund = match (frame.kind, self.peer) {
                (DATA, _) if frame.length > 0 => PER_DATA_FRAME + frame.length / BYTES_PER_FRAME,
                (HEADERS, FloodPeer::Upstream) => PER_ANSWER,
                _ => continue,
            };
            self.idle.refund(refund);
            // A client that resets answered streams has paid for the answers; an upstream may reset each request.
            self.resets.refund(1);
        }
    }

    fn charge(&mut self, frame: Http2Frame) -> Result<(), Flood> {
        let name = match frame.kind {
            HEADERS => {
                self.continuations = 0;
                match self.peer {
                    FloodPeer::Upstream => "HEADERS",
                    FloodPeer::Agent => {
                        self.idle.refund(PER_REQUEST);
                        return Ok(());
                    }
                }
            }
            RST_STREAM if self.resets.spend() => return Ok(()),
            RST_STREAM => return Err(Flood::Resets),
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => return Ok(()),
            DATA => "an empty DATA",
            CONTINUATION => {
                self.continuations += 1;
                if self.continuations > CONTINUATIONS_MAX {
                    return Err(Flood::Continuations);
                }
                "CONTINUATION"
            }
            PRIORITY => "PRIORITY",
            SETTINGS => "SETTINGS",
            PING => "PING",
            WINDOW_UPDATE => "WINDOW_UPDATE",
            _ => "of another type",
        };
        if self.idle.spend() { Ok(()) } else { Err(Flood::Idle(name)) }
    }
}

/// The number of frames that are still allowed.
#[derive(Debug)]
struct FrameBudget {
    left: u32,
    /// The time of the last refill. A refill happens only when the budget is used up, so most frames do not read
    /// the clock; after a long pause two bursts are possible.
    refilled: Instant,
}

impl FrameBudget {
    fn full(now: Instant) -> Self {
        Self { left: BURST, refilled: now }
    }

    fn refund(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(BURST);
    }

    fn spend(&mut self) -> bool {
        if self.left == 0 {
            let now = Instant::now();
            let earned = now.duration_since(self.refilled).as_millis() * u128::from(PER_SECOND);
            self.left = u32::try_from(earned / 1_000).unwrap_or(BURST).min(BURST);
            if self.left > 0 {
                self.refilled = now;
            }
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Finds frame heads (RFC 9113 §4.1) in a stream of bytes.
#[derive(Debug)]
struct FrameParser {
    /// The bytes before the next frame head, of a payload or the preface.
    skip: u32,
    head: [u8; 9],
    have: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Http2Frame {
    length: u32,
    kind: u8,
    flags: u8,
}

impl FrameParser {
    fn after(skip: u32) -> Self {
        Self { skip, head: [0; 9], have: 0 }
    }

    /// The next complete frame head; advances `bytes` behind it. `None` when more bytes are needed.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Http2Frame> {
        let skipped = bytes.len().min(self.skip as usize);
        *bytes = &bytes[skipped..];
        self.skip -= u32::try_from(skipped).expect("at most `skip`");
        let taken = bytes.len().min(self.head.len() - self.have);
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
        self.have += taken;
        if self.have < self.head.len() {
            return None;
        }
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        (self.have, self.skip) = (0, length);
        Some(Http2Frame { length, kind, flags })
    }
}

/// A peer's stream with a limit on its frames: a flood is a read error of kind `InvalidData`.
#[derive(Debug)]
pub struct FloodLimited<IO> {
    io: IO,
    meter: FrameMeter,
}

impl<IO> FloodLimited<IO> {
    /// Meters `io` from the preface on.
    pub fn new(peer: FloodPeer, io: IO) -> Self {
        Self { io, meter: FrameMeter::new(peer) }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for FloodLimited<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
        let counted = this.meter.read(&out.filled()[before..]);
        if counted.is_err() {
            // A read that fails has read nothing.
            out.set_filled(before);
        }
        Poll::Ready(Ok(counted?))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for FloodLimited<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        this.meter.wrote(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            this.meter.wrote(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "flood_limit_tests.rs"]
mod tests;
