//! [`Inspector`]: checks compressed bodies for needles. It decodes a copy and passes the original bytes on once
//! their content is known to be clean. A needle is an error, because compressed bytes cannot be masked.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::decoder::{Coding, DecodeStep, Decoder, Settled};
use super::flush_points::FlushPoints;
use super::masker::NeedleSearch;
use super::needles::Needles;

/// Maximum number of nested codings. Servers use one, or two when a cache adds its own.
const LAYERS_MAX: usize = 3;

/// Names that some servers send as a coding, although they code nothing: charsets, `identity` in other words, and the
/// framing of uploads to S3, which stores that are compatible with it repeat for an object that was uploaded so
/// (<https://github.com/versity/versitygw/issues/2398>). The body is plain, and clients read it as such.
const NO_CODINGS: [&str; 8] =
    ["identity", "none", "binary", "8bit", "utf-8", "utf8", "iso-8859-1", "aws-chunked"];

/// Whether a member of `Content-Encoding`, in lower case, codes nothing.
pub(super) fn is_no_coding(token: &str) -> bool {
    token.is_empty() || NO_CODINGS.contains(&token)
}

/// Output size of one decoder step.
const STEP_BYTES: usize = 32 * 1024;

/// Decoded bytes per turn, before other tasks run: well under a millisecond of work.
const TURN_BYTES: usize = 256 * 1024;

/// Maximum of coded bytes held back until they are decoded: a block of zstd has up to 128 KiB.
const HELD_BYTES_MAX: u64 = 1024 * 1024;

/// The rest of a longer block is passed on before the block ends, so that an encoder that writes no other blocks is not refused.
/// The blocks of usual encoders are shorter.
const BLOCK_BYTES_MAX: u64 = 256 * 1024;

/// The shortest end of coded bytes that is held back as text. Coded bytes end in text by chance, and what they end with must
/// not wait for the next event; up to three bytes of a secret that they contain uncoded may be sent before it is found.
const CODED_TAIL_MIN: usize = 4;

/// Chunks up to this size are joined while they are held.
const SMALL_BYTES: usize = 4 * 1024;

/// Maximum ratio of decoded to coded bytes. Deflate reaches 1,032 at most; a higher ratio over more than a few
/// megabytes is a decompression bomb.
const RATIO_MAX: u64 = 1_100;

/// Decoded bytes that the ratio does not count.
const RATIO_FREE_BYTES: u64 = 16 * 1024 * 1024;

/// Why a response cannot be passed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InspectError {
    /// It contains a needle.
    #[error("the answer repeats the credential, in a coding that cannot be masked")]
    Echoed,
    /// It cannot be decoded.
    #[error("the answer's content coding cannot be searched: {0}")]
    Unscannable(&'static str),
    /// Too many responses are being decoded.
    #[error("no memory is left to search the answer's content coding")]
    NoMemory,
}

/// Inspects a coded body in chunks. [`Inspector::push`] takes a chunk, [`Inspector::work`] does a bounded
/// amount of work, [`Inspector::cleared`] returns the bytes that may be sent.
#[derive(Debug)]
pub struct Inspector {
    /// Decoders, the outermost coding first.
    layers: Vec<Layer>,
    /// Searches the coded bytes too: a coding can contain uncompressed text, such as a file name.
    coded: NeedleSearch,
    decoded: NeedleSearch,
    /// Coded bytes that have not been sent, in order.
    held: VecDeque<Bytes>,
    /// The tail of `held` that has not been decoded.
    unread: Bytes,
    /// Number of bytes received, and sent.
    came: u64,
    went: u64,
    ended: bool,
    /// Whether everything was received, and decoded as far as it can be.
    finished: bool,
}

/// A decoder and its output.
#[derive(Debug)]
struct Layer {
    decoder: Decoder,
    out: Box<[u8]>,
    /// The part of `out` that the next layer has not consumed.
    left: std::ops::Range<usize>,
    /// Whether there may be more output without input.
    full: bool,
    consumed: u64,
    produced: u64,
    /// Whether all that was consumed is decoded, except for a partial symbol.
    is_settled: bool,
    /// Where the current block begins in the input.
    block: u64,
    /// Input positions and the output written there, at which the decoder was empty.
    marks: VecDeque<(u64, u64)>,
    /// The last such position whose output is cleared.
    cleared: u64,
}

impl Inspector {
    /// An inspector for these codings, in the order of the `Content-Encoding` fields; `None` when there are
    /// none. The decoded body has the `flush_points`.
    ///
    /// # Errors
    /// When a coding is unknown, or there are too many.
    pub fn new<'a>(
        needles: &Arc<Needles>,
        codings: impl Iterator<Item = &'a str>,
        flush_points: impl FnOnce() -> FlushPoints,
    ) -> Result<Option<Self>, InspectError> {
        let mut layers = VecDeque::new();
        for token in codings.map(str::trim).filter(|token| !token.is_empty()) {
            let token = token.to_ascii_lowercase();
            if is_no_coding(&token) {
                continue;
            }
            let coding =
                Coding::named(&token).ok_or(InspectError::Unscannable("it is not known"))?;
            if layers.len() == LAYERS_MAX {
                return Err(InspectError::Unscannable("too many are nested"));
            }
            let decoder = Decoder::new(coding).ok_or(InspectError::Unscannable("no memory"))?;
            layers.push_front(Layer::new(decoder));
        }
        if layers.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            layers: layers.into(),
            coded: NeedleSearch::new(needles.clone(), FlushPoints::Lines),
            decoded: NeedleSearch::new(needles.clone(), flush_points()),
            held: VecDeque::new(),
            unread: Bytes::new(),
            came: 0,
            went: 0,
            ended: false,
            finished: false,
        }))
    }

    /// Takes a chunk of the body. Earlier chunks must have been processed.
    ///
    /// # Errors
    /// When the coded bytes contain a needle.
    pub fn push(&mut self, piece: Bytes) -> Result<(), InspectError> {
        self.came += piece.len() as u64;
        if self.coded.sees(&piece) {
            return Err(InspectError::Echoed);
        }
        self.unread = piece.clone();
        match self.held.back_mut() {
            // Very small chunks are joined.
            Some(last) if last.len() + piece.len() <= SMALL_BYTES => {
                let mut joined = BytesMut::from(std::mem::take(last));
                joined.extend_from_slice(&piece);
                *last = joined.freeze();
            }
            _ if piece.is_empty() => {}
            _ => self.held.push_back(piece),
        }
        Ok(())
    }

    /// Current memory in bytes: decoders, their output, and held bytes.
    pub fn memory(&self) -> usize {
        let held = usize::try_from(self.came - self.went).unwrap_or(usize::MAX);
        let layer = |layer: &Layer| layer.decoder.memory() + layer.out.len();
        self.layers.iter().map(layer).sum::<usize>().saturating_add(held)
    }

    /// Marks the end of the body.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Decodes for one turn. Returns whether there is more work.
    ///
    /// # Errors
    /// When a needle was found, or the coding is broken or a decompression bomb.
    pub fn work(&mut self) -> Result<bool, InspectError> {
        let mut turn = 0;
        while turn < TURN_BYTES {
            match self.step()? {
                // Consuming one byte without output is progress too.
                Some(produced) => turn += produced.max(64),
                None => {
                    self.settle()?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The next bytes that may be sent.
    pub fn cleared(&mut self) -> Option<Bytes> {
        let going = self.cleared_to() - self.went;
        let first = self.held.front_mut().filter(|_| going > 0)?;
        let length = first.len().min(usize::try_from(going).unwrap_or(usize::MAX));
        let piece = first.split_to(length);
        if first.is_empty() {
            self.held.pop_front();
        }
        self.went += length as u64;
        Some(piece)
    }

    /// One step of the innermost layer with work; returns how much it wrote.
    fn step(&mut self) -> Result<Option<usize>, InspectError> {
        for index in (0..self.layers.len()).rev() {
            let (outer, inner) = self.layers.split_at_mut(index);
            let layer = &mut inner[0];
            let input = match outer.last() {
                Some(outer) => &outer.out[outer.left.clone()],
                None => &self.unread,
            };
            if input.is_empty() && !layer.full {
                continue;
            }
            let step = layer.step(input)?;
            match outer.last_mut() {
                Some(outer) => outer.left.start += step.consumed,
                None => self.unread.advance(step.consumed),
            }
            self.look(index, step.produced)?;
            return Ok(Some(step.produced));
        }
        Ok(None)
    }

    fn look(&mut self, index: usize, produced: usize) -> Result<(), InspectError> {
        let written: u64 = self.layers.iter().map(|layer| layer.produced).sum();
        if written > RATIO_FREE_BYTES + self.came.saturating_mul(RATIO_MAX) {
            return Err(InspectError::Unscannable("it expands too much"));
        }
        if index + 1 == self.layers.len() {
            let layer = &mut self.layers[index];
            layer.left = 0..0;
            if self.decoded.sees(&layer.out[..produced]) {
                return Err(InspectError::Echoed);
            }
        }
        Ok(())
    }

    /// Called when there is no work: takes what was decoded for all at the end of the body, and else checks that so much
    /// may be held. Servers leave out the end of a coding, or end it by a flush, and clients accept that.
    fn settle(&mut self) -> Result<(), InspectError> {
        if self.ended {
            self.layers.iter_mut().for_each(Layer::end);
            self.finished = true;
            return Ok(());
        }
        match self.came - self.cleared_to() > HELD_BYTES_MAX {
            true => Err(InspectError::Unscannable("too much of it would have to be held")),
            false => Ok(()),
        }
    }

    /// Whether the body ends in bytes that cannot be decoded, such as a part of a block. They are not passed on. To be asked
    /// when all that is cleared was taken.
    pub fn is_cut_short(&self) -> bool {
        self.finished && self.went < self.came
    }

    /// The position up to which the body may be sent.
    fn cleared_to(&mut self) -> u64 {
        // At the end of the body, a partial match is not a needle.
        let (mut cleared, coded) = match self.finished {
            true => (u64::MAX, self.came),
            false => (self.decoded.cleared(1), self.coded.cleared(CODED_TAIL_MIN)),
        };
        for layer in self.layers.iter_mut().rev() {
            cleared = layer.clear(cleared);
        }
        cleared.min(coded).max(self.went)
    }
}

impl Layer {
    fn new(decoder: Decoder) -> Self {
        Self {
            decoder,
            out: vec![0; STEP_BYTES].into(),
            left: 0..0,
            full: false,
            consumed: 0,
            produced: 0,
            is_settled: true,
            block: 0,
            marks: VecDeque::new(),
            cleared: 0,
        }
    }

    fn step(&mut self, input: &[u8]) -> Result<DecodeStep, InspectError> {
        let broken = |_| InspectError::Unscannable("it is broken");
        let step = self.decoder.step(input, &mut self.out).map_err(broken)?;
        let DecodeStep { consumed, produced, settled } = step;
        let was_full = std::mem::replace(&mut self.full, produced == self.out.len());
        if consumed == 0 && produced == 0 && !was_full && !input.is_empty() {
            return Err(InspectError::Unscannable("it is broken"));
        }
        self.left = 0..produced;
        self.consumed += consumed as u64;
        self.produced += produced as u64;
        self.is_settled = settled != Settled::None;
        match settled {
            Settled::AfterBlock { shared } => {
                self.block = self.consumed.saturating_sub(shared);
                self.mark(self.block);
            }
            Settled::WithinBlock if self.consumed - self.block > BLOCK_BYTES_MAX => {
                self.mark(self.consumed);
            }
            Settled::WithinBlock | Settled::None => {}
        }
        Ok(step)
    }

    /// Marks the input position whose output is written.
    fn mark(&mut self, input: u64) {
        match self.marks.back_mut() {
            Some(mark) if mark.1 == self.produced => mark.0 = mark.0.max(input),
            _ => self.marks.push_back((input.max(self.cleared), self.produced)),
        }
    }

    /// The input position up to which bytes may be sent when the output is cleared up to `output`.
    fn clear(&mut self, output: u64) -> u64 {
        while let Some((input, _)) = self.marks.front().filter(|mark| mark.1 <= output) {
            self.cleared = *input;
            self.marks.pop_front();
        }
        self.cleared
    }

    /// There is no more input: all that was consumed is decoded, unless it is a part of a block.
    fn end(&mut self) {
        if self.is_settled {
            self.mark(self.consumed);
        }
    }
}
