//! Bodies of which each chunk is signed (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, or with ECDSA by Version 4A): the agent's
//! signatures are replaced by ours, which have the same length. A chunk is held until it is complete, since its signature
//! comes before it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>
//!
//! Signatures of Version 4A differ in length. AWS's SDKs fill those of chunks and trailers with `*` to the longest, and
//! leave these out of the text that the next signature covers.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_sigv4::sign::v4::calculate_signature;
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::aws_names::sha256_hex;

/// The largest chunk that is signed again: SDKs send 64 KiB to 1 MiB.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest head of a chunk, and the longest trailer.
const HEAD_BYTES_MAX: usize = 4096;

const SIGNATURE: &str = ";chunk-signature=";
const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// A body that is not in signed chunks, or not as declared.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the body is not in signed chunks: {0}")]
pub struct ChunkError(&'static str);

/// What signs chunks.
pub(super) enum ChunkKey {
    /// The key of a day, a region and a service.
    Hmac(Zeroizing<Vec<u8>>),
    /// The pair of Version 4A.
    Ecdsa(Box<EcdsaKeyPair>),
}

/// Signs the chunks of one body, in order.
pub struct ChunkSigner {
    key: ChunkKey,
    date: String,
    scope: String,
    /// The signature before: of the head, then of each chunk.
    previous: String,
    trailer: bool,
    /// What has arrived of the next chunk.
    held: Vec<u8>,
    state: ChunkState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ChunkState {
    Chunks,
    /// After the last chunk.
    Trailer,
    Done,
}

impl std::fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkSigner").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl ChunkKey {
    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Hmac(_) => "AWS4-HMAC-SHA256",
            Self::Ecdsa(_) => "AWS4-ECDSA-P256-SHA256",
        }
    }

    /// The number of characters of a signature on the wire.
    const fn signature_length(&self) -> usize {
        match self {
            Self::Hmac(_) => 64,
            Self::Ecdsa(_) => 144,
        }
    }

    fn sign(&self, text: &[u8]) -> Result<String, ChunkError> {
        match self {
            Self::Hmac(key) => Ok(calculate_signature(&**key, text)),
            Self::Ecdsa(pair) => {
                let made = pair.sign(&SystemRandom::new(), text);
                let made = made.map_err(|_| ChunkError("the system gives no random numbers"))?;
                Ok(HEXLOWER.encode(made.as_ref()))
            }
        }
    }
}

impl ChunkSigner {
    pub(super) fn new(
        key: ChunkKey,
        date: String,
        scope: String,
        seed: String,
        trailer: bool,
    ) -> Self {
        let (held, state) = (Vec::new(), ChunkState::Chunks);
        Self { key, date, scope, previous: seed, trailer, held, state }
    }

    /// Takes the next bytes of the body. Returns what is complete, signed again; often nothing.
    ///
    /// # Errors
    /// When the bytes are not chunks, or one is longer than [`CHUNK_BYTES_MAX`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ChunkError> {
        self.held.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(used) = self.next(&mut out)? {
            self.held.drain(..used);
        }
        Ok(out)
    }

    /// The number of bytes of the incomplete chunk.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The body has ended.
    ///
    /// # Errors
    /// When its last chunk or its trailer is missing.
    pub fn end(&self) -> Result<(), ChunkError> {
        match self.state == ChunkState::Done && self.held.is_empty() {
            true => Ok(()),
            false => Err(ChunkError("it ends early")),
        }
    }

    /// Signs what is complete at the beginning of `held`, and returns its length.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, ChunkError> {
        match self.state {
            ChunkState::Done if self.held.is_empty() => Ok(None),
            ChunkState::Done => Err(ChunkError("bytes follow its end")),
            ChunkState::Chunks => self.next_chunk(out),
            ChunkState::Trailer => self.next_trailer(out),
        }
    }

    fn next_chunk(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, ChunkError> {
        let Some(head_end) = line_end(&self.held)? else { return Ok(None) };
        let head = text(&self.held[..head_end])?;
        let (size, signature) =
            head.split_once(SIGNATURE).ok_or(ChunkError("a chunk has no signature"))?;
        let bytes = usize::from_str_radix(size, 16).ok().filter(|_| !size.starts_with('+'));
        let bytes = bytes.ok_or(ChunkError("a chunk's length is not hexadecimal"))?;
        if bytes > CHUNK_BYTES_MAX || signature.len() != self.key.signature_length() {
            return Err(ChunkError(
                "a chunk is longer than 4 MiB, or its signature has another length",
            ));
        }
        let (from, is_last) = (head_end + 2, bytes == 0);
        let to = from + bytes;
        // The last chunk has a line end of its own only if no trailer follows.
        let end = if is_last && self.trailer { to } else { to + 2 };
        if self.held.len() < end {
            return Ok(None);
        }
        if &self.held[to..end] != b"\r\n" && end > to {
            return Err(ChunkError("a chunk has no end"));
        }
        let hashes = format!("{}\n{}", sha256_hex(b""), sha256_hex(&self.held[from..to]));
        self.previous = self.signature("PAYLOAD", &hashes)?;
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(SIGNATURE.as_bytes());
        out.extend_from_slice(self.filled(&self.previous).as_bytes());
        out.extend_from_slice(&self.held[head_end..end]);
        self.state = match (is_last, self.trailer) {
            (false, _) => ChunkState::Chunks,
            (true, true) => ChunkState::Trailer,
            (true, false) => ChunkState::Done,
        };
        Ok(Some(end))
    }

    /// Lines `name:value`, then the signature of all, then an empty line.
    fn next_trailer(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, ChunkError> {
        let Some(end) = self.held.windows(4).position(|four| four == b"\r\n\r\n") else {
            return match self.held.len() > HEAD_BYTES_MAX {
                true => Err(ChunkError("its trailer is too long")),
                false => Ok(None),
            };
        };
        let mut canonical = String::new();
        let mut is_signed = false;
        for sent in text(&self.held[..end])?.split("\r\n") {
            // Some SDKs also end these lines with a line feed, which the announced length counts.
            let line = sent.trim_end_matches('\n');
            let (name, value) =
                line.split_once(':').ok_or(ChunkError("its trailer has no name"))?;
            if name.eq_ignore_ascii_case(TRAILER_SIGNATURE) {
                is_signed = value.trim().len() == self.key.signature_length();
                continue;
            }
            canonical += &format!("{}:{}\n", name.to_ascii_lowercase(), value.trim());
            out.extend_from_slice(sent.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !is_signed {
            return Err(ChunkError("its trailer has no signature of the right length"));
        }
        let signature = self.signature("TRAILER", &sha256_hex(canonical.as_bytes()))?;
        let signature = self.filled(&signature);
        out.extend_from_slice(format!("{TRAILER_SIGNATURE}:{signature}\r\n\r\n").as_bytes());
        self.state = ChunkState::Done;
        Ok(Some(end + 4))
    }

    fn signature(&self, of: &str, hashes: &str) -> Result<String, ChunkError> {
        let Self { date, scope, previous, key, .. } = self;
        let algorithm = key.algorithm();
        let text = format!("{algorithm}-{of}\n{date}\n{scope}\n{previous}\n{hashes}");
        key.sign(text.as_bytes())
    }

    /// A signature as it is on the wire.
    fn filled(&self, signature: &str) -> String {
        format!("{signature:*<width$}", width = self.key.signature_length())
    }
}

fn line_end(held: &[u8]) -> Result<Option<usize>, ChunkError> {
    match held.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\r') {
        Some(at) if held.get(at + 1).is_none() => Ok(None),
        Some(at) if held[at + 1] == b'\n' => Ok(Some(at)),
        None if held.len() < HEAD_BYTES_MAX => Ok(None),
        _ => Err(ChunkError("a chunk's first line has no end")),
    }
}

fn text(bytes: &[u8]) -> Result<&str, ChunkError> {
    std::str::from_utf8(bytes).map_err(|_| ChunkError("a line is not text"))
}

#[cfg(test)]
mod tests;
