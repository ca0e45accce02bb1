//! Writes a backup, and reads one, entry by entry. Rows are opened one by one; what is written is encrypted before it
//! leaves this module. A truncated backup is detected only at its end, so callers that change something [`verify`] the
//! file first.

use std::collections::BTreeMap;
use std::io::{self, BufReader, BufWriter, Read, Write};

use age::stream::StreamReader;
use jiff::Timestamp;
use serde::Deserialize;

use super::encryption::{self, BackupKey, Encryption};
use super::error::{BackupError, WriteError};
use super::frame::{
    BackupHeader, BackupPart, FORMAT, FrameKind, Hashed, Trailer, parse_part, parse_row, part_head,
    row_head,
};
use keyward_state::directory::{OpenedRow, StateSnapshot};
use keyward_state::store::Table;

/// An entry of a backup after the header.
pub enum BackupEntry {
    Part(BackupPart),
    Row(OpenedRow),
}

/// A backup whose header was read.
pub struct BackupReader<R: Read> {
    frames: Hashed<StreamReader<BufReader<R>>>,
    header: BackupHeader,
    rows: BTreeMap<String, u64>,
}

/// The part of a header that every format has.
#[derive(Deserialize)]
struct AnyHeader {
    format: u32,
    keyward: String,
}

impl<R: Read> BackupReader<R> {
    /// Whether the passphrase opens the file, by its beginning; otherwise an identity does.
    ///
    /// # Errors
    /// When it is not an age file, or cannot be read.
    pub fn is_by_passphrase(file: R) -> Result<bool, BackupError> {
        encryption::is_by_passphrase(BufReader::new(file))
    }

    /// Opens a backup. A passphrase is hashed with scrypt, which is slow.
    ///
    /// # Errors
    /// When it is not a backup, `opening` does not open it, or this version does not know its format.
    pub fn open(file: R, opening: &BackupKey) -> Result<Self, BackupError> {
        let mut frames = Hashed::new(opening.unwrap(BufReader::new(file))?);
        if !frames.has_magic().map_err(BackupError::of_read)? {
            return Err(BackupError::NotOurs);
        }
        let header = match frames.next().map_err(BackupError::of_read)? {
            Some((FrameKind::Header, payload)) => header(&payload)?,
            _ => return Err(BackupError::NotOurs),
        };
        Ok(Self { frames, header, rows: BTreeMap::new() })
    }

    /// The metadata of the backup.
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// The next entry; `None` at the end of a complete backup.
    ///
    /// # Errors
    /// When it is damaged or truncated, or has a row of a table that this version does not know.
    pub fn next_entry(&mut self) -> Result<Option<BackupEntry>, BackupError> {
        let frame = self.frames.next().map_err(BackupError::of_read)?;
        let entry = match frame.ok_or(BackupError::Damaged)? {
            (FrameKind::Part, payload) => {
                BackupEntry::Part(parse_part(&payload).ok_or(BackupError::Damaged)?)
            }
            (FrameKind::Row, payload) => {
                let row = parse_row(&payload).ok_or(BackupError::Damaged)?;
                let keyward = &self.header.keyward;
                let unknown = |table| BackupError::UnknownTable { table, keyward: keyward.clone() };
                let row = row.map_err(unknown)?;
                *self.rows.entry(row.table.name().to_owned()).or_default() += 1;
                BackupEntry::Row(row)
            }
            (FrameKind::Trailer, payload) => return self.end(&payload).map(|()| None),
            (FrameKind::Header, _) => return Err(BackupError::Damaged),
        };
        Ok(Some(entry))
    }

    /// Checks that the counts and the hash match the frames that were read, and that no bytes follow.
    fn end(&mut self, payload: &[u8]) -> Result<(), BackupError> {
        let is_whole = Trailer::parse(payload) == Some(self.frames.trailer());
        let follows = match self.frames.inner.read(&mut [0]) {
            Ok(length) => length > 0,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => return Err(BackupError::of_read(error)),
        };
        match is_whole && !follows && self.rows == self.header.rows {
            true => Ok(()),
            false => Err(BackupError::Damaged),
        }
    }
}

/// Reads a whole backup, checks that it is complete and unchanged, and returns its header.
///
/// # Errors
/// As [`BackupReader::open`] and [`BackupReader::next_entry`].
pub fn verify<R: Read>(file: R, opening: &BackupKey) -> Result<BackupHeader, BackupError> {
    let mut reader = BackupReader::open(file, opening)?;
    while reader.next_entry()?.is_some() {}
    Ok(reader.header)
}

fn header(payload: &[u8]) -> Result<BackupHeader, BackupError> {
    let AnyHeader { format, keyward } =
        serde_json::from_slice(payload).map_err(|_| BackupError::NotOurs)?;
    match format == FORMAT {
        true => serde_json::from_slice(payload).map_err(|_| BackupError::NotOurs),
        false => Err(BackupError::OtherFormat { format, keyward }),
    }
}

/// The content of a backup.
#[derive(Debug)]
pub struct BackupContent {
    /// All rows of the store.
    pub state: StateSnapshot,
    /// The CA.
    pub parts: Vec<BackupPart>,
    /// When the rows were read.
    pub created: Timestamp,
}

impl BackupContent {
    /// Opens every row, so that a row that does not open is found before anything is written.
    ///
    /// # Errors
    /// With the first such row.
    pub fn check(&self) -> Result<(), WriteError> {
        self.state.opened().try_for_each(|row| row.map(drop)).map_err(WriteError::Row)
    }

    fn header(&self) -> BackupHeader {
        let counts = Table::ALL.into_iter().map(|table| (table, self.state.rows().count(table)));
        let counts = counts.filter(|(_, count)| *count > 0);
        BackupHeader {
            format: FORMAT,
            keyward: env!("CARGO_PKG_VERSION").to_owned(),
            created: self.created,
            rows: counts.map(|(table, count)| (table.name().to_owned(), count as u64)).collect(),
        }
    }
}

/// Writes a backup to `out`. Blocks. After a failure, what was written is not a valid backup: its trailer
/// is missing.
///
/// # Errors
/// When a row does not open, or `out` cannot be written.
pub fn write<W: Write>(
    content: &BackupContent,
    encryption: &Encryption,
    out: W,
) -> Result<W, WriteError> {
    let encrypted = encryption.wrap(BufWriter::new(out))?;
    let mut frames = Hashed::new(encrypted);
    frames.magic()?;
    let header = serde_json::to_vec(&content.header()).map_err(io::Error::other)?;
    frames.frame(FrameKind::Header, &[&header])?;
    for part in &content.parts {
        frames.frame(FrameKind::Part, &[&part_head(&part.name), &part.content])?;
    }
    for row in content.state.opened() {
        let row = row?;
        frames.frame(FrameKind::Row, &[&row_head(&row), &row.content])?;
    }
    let trailer = frames.trailer().payload();
    frames.frame(FrameKind::Trailer, &[&trailer])?;
    let out = frames.inner.finish()?;
    out.into_inner().map_err(|error| WriteError::Io(error.into_error()))
}
