//! Writes a backup. Rows are opened one by one; what is written is encrypted before it leaves this module.

use std::io::{self, BufWriter, Write};

use jiff::Timestamp;
use keyward_state::directory::StateSnapshot;
use keyward_state::store::Table;

use super::encryption::Encryption;
use super::error::WriteError;
use super::frame::{BackupHeader, BackupPart, FORMAT, FrameKind, Hashed, part_head, row_head};

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
