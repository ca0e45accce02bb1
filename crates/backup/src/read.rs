//! Reads a backup, entry by entry. A truncated backup is detected only at its end, so callers that change something
//! [`verify`] the file first.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use age::stream::StreamReader;
use keyward_state::directory::OpenedRow;
use serde::Deserialize;

use super::encryption::{self, BackupKey};
use super::error::BackupError;
use super::frame::{
    BackupHeader, BackupPart, FORMAT, FrameKind, Hashed, Trailer, parse_part, parse_row,
};

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
