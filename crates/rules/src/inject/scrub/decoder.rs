//! [`Decoder`]: one content coding, fed as its bytes come. Decoded bytes are only looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, SliceWrapper, StandardAlloc,
};
use flate2::{Decompress, FlushDecompress, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Windows up to 8 MiB, as RFC 9659 says for zstd on the web.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a decoder wants before it knows a frame's header (RFC 8878 §3.1.1).
const ZSTD_BEGINNING: usize = 5;

/// RFC 8878 §3.1.1.2.
const ZSTD_BLOCK_HEADER: usize = 3;

/// The largest window of zlib.
const WINDOW_BITS: u8 = 15;

/// Its window and state, zlib-rs's own.
const DEFLATE_BYTES: usize = 64 * 1024;

/// A content coding that can be looked into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; some servers send RFC 1951.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// Its decoder. Memory is bounded by the coding's window: 32 KiB, 16 MiB, 8 MiB.
pub(super) enum Decoder {
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
}

/// What a step did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Step {
    /// Bytes taken from the input.
    pub(super) consumed: usize,
    /// Bytes written.
    pub(super) produced: usize,
    /// Whether all that the consumed bytes say has been written, a begun symbol apart.
    pub(super) settled: bool,
}

/// The input is not what its coding says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Broken;

pub(super) struct Deflate {
    gzip: bool,
    /// `None` until `deflate` has shown which of the two it is.
    inner: Option<Decompress>,
    first: Option<u8>,
    done: bool,
}

pub(super) struct Brotli {
    state: BrotliState<Counting, Counting, Counting>,
    bytes: Arc<AtomicUsize>,
    done: bool,
}

/// An allocator that counts what is in use.
#[derive(Clone, Default)]
struct Counting {
    inner: StandardAlloc,
    bytes: Arc<AtomicUsize>,
}

impl<T> Allocator<T> for Counting
where
    StandardAlloc: Allocator<T>,
{
    type AllocatedMemory = <StandardAlloc as Allocator<T>>::AllocatedMemory;

    fn alloc_cell(&mut self, len: usize) -> Self::AllocatedMemory {
        self.bytes.fetch_add(len * size_of::<T>(), Relaxed);
        self.inner.alloc_cell(len)
    }

    fn free_cell(&mut self, data: Self::AllocatedMemory) {
        self.bytes.fetch_sub(size_of_val(data.slice()), Relaxed);
        self.inner.free_cell(data);
    }
}

pub(super) struct Zstd {
    context: DCtx<'static>,
    /// What the stage that has begun still wants: blocks are decoded whole.
    wants: usize,
    /// Nothing of a stage has been given that is not whole.
    between: bool,
    /// The output was filled: there may be more without input.
    full: bool,
    done: bool,
}

impl Coding {
    /// By its token (RFC 9110 §8.4.1), in lower case.
    pub(super) fn named(token: &str) -> Option<Self> {
        match token {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Coding {
    /// The memory that looking into an answer in this coding takes at most, in bytes: the decoder, its
    /// output and a block that is held back.
    pub(super) fn memory_max(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => 256 * 1024,
            Self::Zstd => (1 << ZSTD_WINDOW_LOG_MAX) + 1024 * 1024,
            Self::Brotli => super::DECODER_BYTES_MAX,
        }
    }
}

impl Decoder {
    /// A decoder at its beginning; `None` when there is no memory for it.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        Some(match coding {
            Coding::Gzip => Self::Deflate(Deflate::gzip()),
            Coding::Deflate => Self::Deflate(Deflate::unknown()),
            Coding::Brotli => Self::Brotli(Box::new(Brotli::new())),
            Coding::Zstd => Self::Zstd(Zstd::new()?),
        })
    }

    /// Decodes some of `input` into `out`. When it fills `out`, there may be more to come without any
    /// further input.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
        if self.is_done() && input.is_empty() {
            return Ok(Step { consumed: 0, produced: 0, settled: true });
        }
        match self {
            Self::Deflate(decoder) => decoder.step(input, out),
            Self::Brotli(decoder) => decoder.step(input, out),
            Self::Zstd(decoder) => decoder.step(input, out),
        }
    }

    /// The memory that it takes, in bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Deflate(_) => DEFLATE_BYTES,
            Self::Brotli(decoder) => decoder.bytes.load(Relaxed) + size_of::<Brotli>(),
            Self::Zstd(decoder) => decoder.context.sizeof(),
        }
    }

    /// Whether what came is whole.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Deflate(decoder) => decoder.done,
            Self::Brotli(decoder) => decoder.done,
            Self::Zstd(decoder) => decoder.done,
        }
    }
}

impl Deflate {
    fn gzip() -> Self {
        let inner = Some(Decompress::new_gzip(WINDOW_BITS));
        Self { gzip: true, inner, first: None, done: false }
    }

    fn unknown() -> Self {
        Self { gzip: false, inner: None, first: None, done: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
        if self.done {
            // Only gzip goes on after its end: RFC 1952 §2.2, members. Anything else would reach the
            // agent without having been looked into.
            *self = if self.gzip { Self::gzip() } else { return Err(Broken) };
        }
        let inner = match &mut self.inner {
            Some(inner) => inner,
            None => match (self.first, input) {
                (Some(first), [second, ..]) => self.inner.insert(zlib_or_bare(first, *second)?),
                (_, input) => {
                    self.first = self.first.or(input.first().copied());
                    let consumed = input.len().min(1);
                    return Ok(Step { consumed, produced: 0, settled: false });
                }
            },
        };
        let before = (inner.total_in(), inner.total_out());
        let status = inner.decompress(input, out, FlushDecompress::Sync).map_err(|_| Broken)?;
        self.done = status == Status::StreamEnd;
        let consumed = usize::try_from(inner.total_in() - before.0).map_err(|_| Broken)?;
        let produced = usize::try_from(inner.total_out() - before.1).map_err(|_| Broken)?;
        Ok(Step { consumed, produced, settled: produced < out.len() })
    }
}

/// RFC 1950 §2.2: the first two bytes of zlib are a multiple of 31, and say 8 in their low bits. What
/// begins otherwise is bare deflate.
fn zlib_or_bare(first: u8, second: u8) -> Result<Decompress, Broken> {
    let zlib = first & 15 == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
    let mut inner = Decompress::new(zlib);
    // One byte is less than any symbol: nothing comes out yet.
    let mut nothing = [0; 8];
    inner.decompress(&[first], &mut nothing, FlushDecompress::Sync).map_err(|_| Broken)?;
    Ok(inner)
}

impl Brotli {
    fn new() -> Self {
        let alloc = Counting::default();
        let bytes = alloc.bytes.clone();
        let state = BrotliState::new_strict(alloc.clone(), alloc.clone(), alloc);
        Self { state, bytes, done: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
        if self.done {
            return Err(Broken);
        }
        let (mut left, mut consumed) = (input.len(), 0);
        let (mut room, mut produced, mut total) = (out.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut consumed,
            input,
            &mut room,
            &mut produced,
            out,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(Broken),
            BrotliResult::ResultSuccess => self.done = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Step { consumed, produced, settled: room > 0 })
    }
}

impl Zstd {
    fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
        Some(Self { context, wants: ZSTD_BEGINNING, between: true, full: false, done: false })
    }

    /// Gives a stage at most what it wants, so that it is known when nothing is left inside: what is
    /// given beyond would be kept until its own stage is whole.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
        let given = if self.full { &[] } else { &input[..input.len().min(self.wants)] };
        let mut source = InBuffer::around(given);
        let mut sink = OutBuffer::around(out);
        let hint = self.context.decompress_stream(&mut sink, &mut source).map_err(|_| Broken)?;
        let (consumed, produced) = (source.pos(), sink.pos());
        if consumed > 0 {
            // A stream of events ends each with a block; the next one's header comes with the next.
            self.between = consumed == self.wants || hint == ZSTD_BLOCK_HEADER || hint == 0;
        }
        self.done = hint == 0;
        self.full = produced == sink.capacity() && !self.done;
        self.wants = if self.done { ZSTD_BEGINNING } else { hint };
        Ok(Step { consumed, produced, settled: self.between && !self.full })
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deflate(_) => "Deflate(…)",
            Self::Brotli(_) => "Brotli(…)",
            Self::Zstd(_) => "Zstd(…)",
        })
    }
}
