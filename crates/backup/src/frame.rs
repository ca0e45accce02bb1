//! The frames inside the encryption: `kind (1) ‖ length (4, big endian) ‖ payload`. A header is first, a trailer last.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use jiff::Timestamp;
use keyward_state::directory::OpenedRow;
use keyward_state::store::{KEY_BYTES_MAX, Table, VALUE_BYTES_MAX, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The format of this version.
pub const FORMAT: u32 = 1;

/// The first bytes of every backup, inside the encryption.
pub(super) const MAGIC: &[u8; 15] = b"keyward-backup\n";

/// Longest payload: a row of the longest value, with room for its place.
const PAYLOAD_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + 64;

/// What a frame holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FrameKind {
    Header,
    Part,
    Row,
    Trailer,
}

/// Metadata of a backup: its first frame.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BackupHeader {
    /// See [`FORMAT`].
    pub format: u32,
    /// The version that wrote it.
    pub keyward: String,
    /// When the rows were read.
    pub created: Timestamp,
    /// The number of rows of each table that has some.
    #[serde(default)]
    pub rows: BTreeMap<String, u64>,
}

/// A file that belongs to the state and is not in the store.
#[derive(Debug, Eq, PartialEq)]
pub struct BackupPart {
    /// `ca.pem` or `ca.key`.
    pub name: String,
    /// Its content, wiped when dropped.
    pub content: Zeroizing<Vec<u8>>,
}

/// The last frame: the number of frames before it, and their hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Trailer {
    pub(super) frames: u64,
    /// SHA-256 of all bytes before the trailer's frame.
    pub(super) hash: [u8; 32],
}

/// Counts and hashes what passes.
pub(super) struct Hashed<T> {
    pub(super) inner: T,
    hash: Sha256,
    frames: u64,
}

impl FrameKind {
    fn byte(self) -> u8 {
        match self {
            Self::Header => b'H',
            Self::Part => b'P',
            Self::Row => b'R',
            Self::Trailer => b'E',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Header, Self::Part, Self::Row, Self::Trailer]
            .into_iter()
            .find(|it| it.byte() == byte)
    }
}

impl<T> Hashed<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), frames: 0 }
    }

    /// The trailer of all that has passed.
    pub(super) fn trailer(&self) -> Trailer {
        Trailer { frames: self.frames, hash: self.hash.clone().finalize().into() }
    }
}

impl<W: Write> Hashed<W> {
    pub(super) fn magic(&mut self) -> io::Result<()> {
        self.hash.update(MAGIC);
        self.inner.write_all(MAGIC)
    }

    pub(super) fn frame(&mut self, kind: FrameKind, payload: &[&[u8]]) -> io::Result<()> {
        let length = payload.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length).map_err(io::Error::other)?.to_be_bytes();
        let head = [kind.byte()];
        for part in [head.as_slice(), &length].into_iter().chain(payload.iter().copied()) {
            self.hash.update(part);
            self.inner.write_all(part)?;
        }
        self.frames += 1;
        Ok(())
    }
}

impl<R: Read> Hashed<R> {
    /// Whether the magic bytes are next.
    pub(super) fn has_magic(&mut self) -> io::Result<bool> {
        let mut found = [0; MAGIC.len()];
        match self.inner.read_exact(&mut found) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        self.hash.update(found);
        Ok(&found == MAGIC)
    }

    /// The next frame; `None` if it is malformed. A trailer is not counted.
    pub(super) fn next(&mut self) -> io::Result<Option<(FrameKind, Zeroizing<Vec<u8>>)>> {
        let mut head = [0; 5];
        self.inner.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(kind) = FrameKind::of(head[0]).filter(|_| length <= PAYLOAD_BYTES_MAX) else {
            return Ok(None);
        };
        let mut payload = Zeroizing::new(vec![0; length]);
        self.inner.read_exact(&mut payload)?;
        if kind != FrameKind::Trailer {
            self.hash.update(head);
            self.hash.update(&payload);
            self.frames += 1;
        }
        Ok(Some((kind, payload)))
    }
}

impl Trailer {
    pub(super) fn payload(&self) -> Vec<u8> {
        [self.frames.to_be_bytes().as_slice(), &self.hash].concat()
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let (frames, hash) = payload.split_at_checked(8)?;
        Some(Self {
            frames: u64::from_be_bytes(frames.try_into().ok()?),
            hash: hash.try_into().ok()?,
        })
    }
}

/// `name length (1) ‖ name`, before the content.
pub(super) fn part_head(name: &str) -> Vec<u8> {
    let mut head = vec![u8::try_from(name.len()).unwrap_or(u8::MAX)];
    head.extend(name.as_bytes());
    head
}

pub(super) fn parse_part(payload: &[u8]) -> Option<BackupPart> {
    let (name, content) = named(payload)?;
    Some(BackupPart { name: name.to_owned(), content: Zeroizing::new(content.to_vec()) })
}

/// `table name length (1) ‖ table name ‖ key length (2) ‖ key ‖ row version (8)`, before the content.
pub(super) fn row_head(row: &OpenedRow) -> Vec<u8> {
    let mut head = part_head(row.table.name());
    head.extend(u16::try_from(row.key.len()).unwrap_or(u16::MAX).to_be_bytes());
    head.extend(row.key.as_bytes());
    head.extend(row.version.0.to_be_bytes());
    head
}

/// A row, or the name of its table if this version does not know it.
pub(super) fn parse_row(payload: &[u8]) -> Option<Result<OpenedRow, String>> {
    let (name, rest) = named(payload)?;
    let Some(table) = Table::named(name) else { return Some(Err(name.to_owned())) };
    let (length, rest) = rest.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    let (key, rest) = rest.split_at_checked(length.into())?;
    let (version, content) = rest.split_at_checked(8)?;
    Some(Ok(OpenedRow {
        table,
        key: std::str::from_utf8(key).ok()?.to_owned(),
        version: Version(u64::from_be_bytes(version.try_into().ok()?)),
        content: Zeroizing::new(content.to_vec()),
    }))
}

fn named(payload: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}
