//! [`Inspector`]: coded bodies, decoded only to look. Their own bytes go on once what they say is known
//! to hold no needle; a needle is a fault, since coded bytes cannot be masked.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::decoder::{Coding, Decoder, Step};
use super::needles::Needles;
use super::watch::Watch;

/// Codings on top of each other. Servers use one; two where a cache adds its own.
const LAYERS_MAX: usize = 3;

/// What a decoder writes at a time.
const STEP_BYTES: usize = 32 * 1024;

/// What is decoded before others get their turn: well under a millisecond of work.
const TURN_BYTES: usize = 256 * 1024;

/// Coded bytes held back because what they say is not known yet: a block of zstd has up to 128 KiB.
const HELD_BYTES_MAX: u64 = 1024 * 1024;

/// Pieces up to this size together are held as one.
const SMALL_BYTES: usize = 4 * 1024;

/// Decoded bytes for each coded one. Deflate reaches 1,032 at most; more, in more than a few
/// megabytes, is a bomb.
const RATIO_MAX: u64 = 1_100;

/// What the ratio does not count.
const RATIO_FREE_BYTES: u64 = 16 * 1024 * 1024;

/// Why an answer cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A needle stands in it.
    #[error("the answer repeats the credential, in a coding that cannot be masked")]
    Echoed,
    /// It cannot be looked into.
    #[error("the answer's content coding cannot be looked into: {0}")]
    Unscannable(&'static str),
    /// Too many answers are looked into at once.
    #[error("there is no memory left to look into the answer's content coding")]
    NoMemory,
}

/// Looks into a coded body that comes in pieces. [`Inspector::push`] takes one, [`Inspector::work`] does
/// a bounded turn of work, [`Inspector::cleared`] gives the bytes that may go on.
#[derive(Debug)]
pub struct Inspector {
    /// The outermost coding first.
    layers: Vec<Layer>,
    /// Looks at the body as it came: a coding can carry text that is not decoded, such as a file's name.
    coded: Watch,
    decoded: Watch,
    /// What has not gone on, in order.
    held: VecDeque<Bytes>,
    /// The end of it that has not been decoded.
    unread: Bytes,
    /// Bytes that came, and went on.
    came: u64,
    went: u64,
    ended: bool,
    /// All of it came, was decoded and is whole.
    finished: bool,
}

/// A decoder and what it has written.
#[derive(Debug)]
struct Layer {
    decoder: Decoder,
    out: Box<[u8]>,
    /// What of `out` the next layer has not taken.
    left: std::ops::Range<usize>,
    /// There may be more to come without input.
    full: bool,
    consumed: u64,
    produced: u64,
    /// Points of the input and what had been written there, with nothing left inside.
    marks: VecDeque<(u64, u64)>,
    /// The last such point whose output is cleared.
    cleared: u64,
}

impl Inspector {
    /// For a body with these codings, in the order of its `Content-Encoding` fields; `None` when there
    /// are none.
    ///
    /// # Errors
    /// When one of them is not known, or they are too many.
    pub fn new<'a>(
        needles: &Arc<Needles>,
        codings: impl Iterator<Item = &'a str>,
    ) -> Result<Option<Self>, Fault> {
        let mut layers = VecDeque::new();
        for token in codings.map(str::trim).filter(|token| !token.is_empty()) {
            let token = token.to_ascii_lowercase();
            if token == "identity" {
                continue;
            }
            let coding = Coding::named(&token).ok_or(Fault::Unscannable("it is not known"))?;
            if layers.len() == LAYERS_MAX {
                return Err(Fault::Unscannable("there are too many on top of each other"));
            }
            let decoder = Decoder::new(coding).ok_or(Fault::Unscannable("no memory"))?;
            layers.push_front(Layer::new(decoder));
        }
        if layers.is_empty() {
            return Ok(None);
        }
        let watch = || Watch::new(needles.clone());
        Ok(Some(Self {
            layers: layers.into(),
            coded: watch(),
            decoded: watch(),
            held: VecDeque::new(),
            unread: Bytes::new(),
            came: 0,
            went: 0,
            ended: false,
            finished: false,
        }))
    }

    /// Takes a piece of the body. What came before must have been worked off.
    ///
    /// # Errors
    /// When a needle stands in it as it is.
    pub fn push(&mut self, piece: Bytes) -> Result<(), Fault> {
        self.came += piece.len() as u64;
        if self.coded.sees(&piece) {
            return Err(Fault::Echoed);
        }
        self.unread = piece.clone();
        match self.held.back_mut() {
            // A body of very small pieces is not held in as many.
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

    /// The memory that this takes, in bytes: of the decoders, of what they write, and of what is held.
    pub fn memory(&self) -> usize {
        let held = usize::try_from(self.came - self.went).unwrap_or(usize::MAX);
        let layer = |layer: &Layer| layer.decoder.memory() + layer.out.len();
        self.layers.iter().map(layer).sum::<usize>().saturating_add(held)
    }

    /// The body has ended.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Decodes, for a turn. Answers whether there is more to do.
    ///
    /// # Errors
    /// When a needle was found, or the coding is broken, unfinished or a bomb.
    pub fn work(&mut self) -> Result<bool, Fault> {
        let mut turn = 0;
        while turn < TURN_BYTES {
            match self.step()? {
                // An input of one byte that gives nothing is work too.
                Some(produced) => turn += produced.max(64),
                None => {
                    self.check_rest()?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The next bytes that may go on.
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

    /// One step of the innermost layer that has something to do; what it wrote.
    fn step(&mut self) -> Result<Option<usize>, Fault> {
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

    fn look(&mut self, index: usize, produced: usize) -> Result<(), Fault> {
        let written: u64 = self.layers.iter().map(|layer| layer.produced).sum();
        if written > RATIO_FREE_BYTES + self.came.saturating_mul(RATIO_MAX) {
            return Err(Fault::Unscannable("it grows beyond all measure"));
        }
        if index + 1 == self.layers.len() {
            let layer = &mut self.layers[index];
            layer.left = 0..0;
            if self.decoded.sees(&layer.out[..produced]) {
                return Err(Fault::Echoed);
            }
        }
        Ok(())
    }

    /// When there is nothing to do: whether the body may have ended, or so much be held.
    fn check_rest(&mut self) -> Result<(), Fault> {
        if self.ended {
            self.finished = self.layers.iter().all(Layer::is_whole);
            let cut = Fault::Unscannable("it is cut short");
            return if self.finished { Ok(()) } else { Err(cut) };
        }
        match self.came - self.cleared_to() > HELD_BYTES_MAX {
            true => Err(Fault::Unscannable("too much of it is undecided")),
            false => Ok(()),
        }
    }

    /// Up to where the body may go on.
    fn cleared_to(&mut self) -> u64 {
        if self.finished {
            // What began a needle has not become one.
            return self.came;
        }
        let mut cleared = self.decoded.cleared();
        for layer in self.layers.iter_mut().rev() {
            cleared = layer.clear(cleared);
        }
        cleared.min(self.coded.cleared()).max(self.went)
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
            marks: VecDeque::new(),
            cleared: 0,
        }
    }

    fn step(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let broken = |_| Fault::Unscannable("it is broken");
        let step = self.decoder.step(input, &mut self.out).map_err(broken)?;
        let Step { consumed, produced, settled } = step;
        let was_full = std::mem::replace(&mut self.full, produced == self.out.len());
        if consumed == 0 && produced == 0 && !was_full && !input.is_empty() {
            return Err(Fault::Unscannable("it is broken"));
        }
        self.left = 0..produced;
        self.consumed += consumed as u64;
        self.produced += produced as u64;
        if settled {
            match self.marks.back_mut() {
                Some(mark) if mark.1 == self.produced => mark.0 = self.consumed,
                _ => self.marks.push_back((self.consumed, self.produced)),
            }
        }
        Ok(step)
    }

    /// Up to where the input may go on when the output is cleared to `output`.
    fn clear(&mut self, output: u64) -> u64 {
        while let Some((input, _)) = self.marks.front().filter(|mark| mark.1 <= output) {
            self.cleared = *input;
            self.marks.pop_front();
        }
        self.cleared
    }

    /// Whether what came, if anything did, is whole.
    fn is_whole(&self) -> bool {
        self.consumed == 0 || self.decoder.is_done()
    }
}
