//! [`Decoder`]: an incremental decoder of one content coding. The decoded bytes are only inspected, never sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use brotli_decompressor::{
    Allocator, BrotliDecompressStream, BrotliResult, BrotliState, SliceWrapper, StandardAlloc,
};
use zlib_rs::{Inflate, InflateFlush, Status};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// Windows up to 8 MiB, as RFC 9659 specifies for zstd on the web.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How many bytes a decoder needs to parse a frame header (RFC 8878 §3.1.1).
const ZSTD_BEGINNING: usize = 5;

/// The first byte of a gzip member (RFC 1952 §2.3.1).
const GZIP_ID1: u8 = 0x1f;

/// Length of a block header (RFC 8878 §3.1.1.2).
const ZSTD_BLOCK_HEADER: usize = 3;

/// Maximum window size of zlib.
const WINDOW_BITS: u8 = 15;

/// Added to the size of the window, it selects the format of gzip.
const GZIP: u8 = 16;

/// The end of an empty stored block, which encoders write when they flush (RFC 1951 §3.2.4).
const FLUSH_MARK: u32 = 0x0000_ffff;

/// Memory of zlib-rs for window and state.
const DEFLATE_BYTES: usize = 64 * 1024;

/// A content coding that can be decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; some servers send RFC 1951 instead.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
}

/// The decoder of a coding. Its memory is bounded by the coding's window: 32 KiB, 16 MiB, 8 MiB.
pub(super) enum Decoder {
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd(Zstd),
}

/// The result of one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DecodeStep {
    /// Bytes consumed from the input.
    pub(super) consumed: usize,
    /// Bytes written to the output.
    pub(super) produced: usize,
    pub(super) settled: Settled,
}

/// Which of the consumed bytes describe only decoded output. A block begins with tables that describe all of it, so its beginning
/// shows what its end repeats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    None,
    /// They are decoded, except for a partial symbol, but a block has not ended.
    WithinBlock,
    /// A block has ended. The last `shared` bytes belong to the next one too.
    AfterBlock {
        shared: u64,
    },
}

impl Settled {
    const ALL: Self = Self::AfterBlock { shared: 0 };
}

/// The input is not valid for its coding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BrokenCoding;

pub(super) struct Deflate {
    gzip: bool,
    /// `None` until the first bytes show which of the two formats it is.
    inner: Option<Inflate>,
    first: Option<u8>,
    done: bool,
    /// The last bytes that gave no output.
    quiet: u32,
}

pub(super) struct Brotli {
    state: BrotliState<Counting, Counting, Counting>,
    bytes: Arc<AtomicUsize>,
    done: bool,
}

/// An allocator that counts allocated bytes.
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
    /// How many bytes the current block still needs: blocks are decoded whole.
    wants: usize,
    /// Whether no partial block has been consumed.
    between: bool,
    /// Whether the next bytes are of a block's header.
    in_header: bool,
    /// Whether the block is the last of its frame, as its header says.
    last: bool,
    /// The last bytes that were consumed.
    recent: u32,
    /// The output is full: there may be more without further input.
    full: bool,
    done: bool,
}

impl Coding {
    /// The coding with this token (RFC 9110 §8.4.1), in lower case.
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
    /// Maximum memory for a response in this coding, in bytes: the decoder, its output and a block that is held
    /// back.
    pub(super) fn memory_max(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => 256 * 1024,
            Self::Zstd => (1 << ZSTD_WINDOW_LOG_MAX) + 1024 * 1024,
            Self::Brotli => super::DECODER_BYTES_MAX,
        }
    }
}

impl Decoder {
    /// A new decoder; `None` when there is no memory for it.
    pub(super) fn new(coding: Coding) -> Option<Self> {
        Some(match coding {
            Coding::Gzip => Self::Deflate(Deflate::gzip()),
            Coding::Deflate => Self::Deflate(Deflate::unknown()),
            Coding::Brotli => Self::Brotli(Box::new(Brotli::new())),
            Coding::Zstd => Self::Zstd(Zstd::new()?),
        })
    }

    /// Decodes some of `input` into `out`. When `out` is full, there may be more without further input.
    pub(super) fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
    ) -> Result<DecodeStep, BrokenCoding> {
        if self.is_done() && input.is_empty() {
            return Ok(DecodeStep { consumed: 0, produced: 0, settled: Settled::ALL });
        }
        match self {
            Self::Deflate(decoder) => decoder.step(input, out),
            Self::Brotli(decoder) => decoder.step(input, out),
            Self::Zstd(decoder) => decoder.step(input, out),
        }
    }

    /// Current memory of the decoder, in bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Deflate(_) => DEFLATE_BYTES,
            Self::Brotli(decoder) => decoder.bytes.load(Relaxed) + size_of::<Brotli>(),
            Self::Zstd(decoder) => decoder.context.sizeof(),
        }
    }

    /// Whether the input is complete.
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
        let inner = Some(Inflate::new(true, GZIP + WINDOW_BITS));
        Self { gzip: true, inner, first: None, done: false, quiet: u32::MAX }
    }

    fn unknown() -> Self {
        Self { gzip: false, inner: None, first: None, done: false, quiet: u32::MAX }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<DecodeStep, BrokenCoding> {
        if self.done {
            // Only gzip may continue after its end (members, RFC 1952 §2.2). Other data would reach the agent
            // without inspection, except for zeros, with which some writers fill a block and which readers skip.
            if !self.gzip {
                return Err(BrokenCoding);
            }
            let zeros = input.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                return Ok(DecodeStep { consumed: zeros, produced: 0, settled: Settled::ALL });
            }
            // The library judges two bytes at a time, and the body may end after the first.
            if input.first().is_some_and(|first| *first != GZIP_ID1) {
                return Err(BrokenCoding);
            }
            *self = Self::gzip();
        }
        let inner = match &mut self.inner {
            Some(inner) => inner,
            None => match (self.first, input) {
                (Some(first), [second, ..]) => self.inner.insert(zlib_or_bare(first, *second)?),
                (_, input) => {
                    self.first = self.first.or(input.first().copied());
                    let consumed = input.len().min(1);
                    return Ok(DecodeStep { consumed, produced: 0, settled: Settled::None });
                }
            },
        };
        let before = (inner.total_in(), inner.total_out());
        let status = inner.decompress(input, out, InflateFlush::Block).map_err(|_| BrokenCoding)?;
        self.done = status == Status::StreamEnd;
        let count = |now: u64, before: u64| usize::try_from(now - before).map_err(|_| BrokenCoding);
        let consumed = count(inner.total_in(), before.0)?;
        let produced = count(inner.total_out(), before.1)?;
        if !self.gzip && !self.done && consumed == input.len() && produced < out.len() {
            // It stops after the last block too, and without a trailer there is no input that it would go on with.
            let rest = inner.decompress(&[], &mut out[produced..], InflateFlush::NoFlush);
            self.done = rest.map_err(|_| BrokenCoding)? == Status::StreamEnd;
        }
        let produced = count(inner.total_out(), before.1)?;
        let settled = self.settled(&input[..consumed], input.len(), produced, out.len());
        Ok(DecodeStep { consumed, produced, settled })
    }

    /// Judges a step that consumed these bytes of `given`, and wrote `produced` bytes where `room` was for more.
    fn settled(&mut self, consumed: &[u8], given: usize, produced: usize, room: usize) -> Settled {
        let quiet = if produced == 0 { self.quiet } else { u32::MAX };
        let new = if produced == 0 { consumed } else { &[] };
        self.quiet = new.iter().fold(quiet, |bytes, byte| (bytes << 8) | u32::from(*byte));
        if self.done || self.quiet == FLUSH_MARK {
            return Settled::ALL;
        }
        match (consumed.len() < given, produced < room) {
            (_, false) => Settled::None,
            // It stops with input and room only after a block, which may end within a byte.
            (true, true) => Settled::AfterBlock { shared: 1 },
            (false, true) => Settled::WithinBlock,
        }
    }
}

/// Distinguishes zlib from raw deflate: the first two bytes of zlib are a multiple of 31 and have 8 in their
/// low bits (RFC 1950 §2.2).
fn zlib_or_bare(first: u8, second: u8) -> Result<Inflate, BrokenCoding> {
    let zlib = first & 15 == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
    let mut inner = Inflate::new(zlib, WINDOW_BITS);
    // A single byte is less than any symbol, so there is no output yet.
    let mut nothing = [0; 8];
    inner.decompress(&[first], &mut nothing, InflateFlush::SyncFlush).map_err(|_| BrokenCoding)?;
    Ok(inner)
}

impl Brotli {
    fn new() -> Self {
        let alloc = Counting::default();
        let bytes = alloc.bytes.clone();
        let state = BrotliState::new_strict(alloc.clone(), alloc.clone(), alloc);
        Self { state, bytes, done: false }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<DecodeStep, BrokenCoding> {
        if self.done {
            return Err(BrokenCoding);
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
            BrotliResult::ResultFailure => return Err(BrokenCoding),
            BrotliResult::ResultSuccess => self.done = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        // The length that remains is less by literals that have not been decoded; the tables are there until all are.
        let has_tables = !self.state.literal_hgroup.codes.slice().is_empty();
        let is_between = self.state.meta_block_remaining_len == 0 && !has_tables;
        let settled = match (room > 0, is_between) {
            (false, _) => Settled::None,
            (true, false) => Settled::WithinBlock,
            (true, true) => Settled::ALL,
        };
        Ok(DecodeStep { consumed, produced, settled })
    }
}

impl Zstd {
    fn new() -> Option<Self> {
        let mut context = DCtx::try_create()?;
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
        Some(Self {
            context,
            wants: ZSTD_BEGINNING,
            between: true,
            in_header: false,
            last: false,
            recent: 0,
            full: false,
            done: false,
        })
    }

    /// Passes at most the bytes that the current block needs, so that it is known when the decoder is empty;
    /// further bytes would be buffered until their own block is complete. The header of a block has its coded length, so the
    /// decoder counts as empty only before it.
    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<DecodeStep, BrokenCoding> {
        let given = if self.full { &[] } else { &input[..input.len().min(self.wants)] };
        let mut source = InBuffer::around(given);
        let mut sink = OutBuffer::around(out);
        let hint =
            self.context.decompress_stream(&mut sink, &mut source).map_err(|_| BrokenCoding)?;
        let (consumed, produced) = (source.pos(), sink.pos());
        self.done = hint == 0;
        self.full = produced == sink.capacity() && !self.done;
        if consumed > 0 {
            let add = |recent: u32, byte: &u8| (recent << 8) | u32::from(*byte);
            self.recent = given[..consumed].iter().fold(self.recent, add);
            if self.in_header && hint > ZSTD_BLOCK_HEADER {
                self.last = self.recent >> 16 & 1 == 1;
            }
            self.last &= !self.done;
            let before_header = hint == ZSTD_BLOCK_HEADER && !self.last;
            self.in_header = before_header || self.in_header && hint < ZSTD_BLOCK_HEADER;
            self.between = before_header || self.done;
        }
        self.wants = match hint {
            0 => ZSTD_BEGINNING,
            // The hint includes the header of the next block, if there is one.
            _ if hint > ZSTD_BLOCK_HEADER && !self.last => hint - ZSTD_BLOCK_HEADER,
            _ => hint,
        };
        let is_settled = self.between && !self.full;
        let settled = if is_settled { Settled::ALL } else { Settled::None };
        Ok(DecodeStep { consumed, produced, settled })
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
