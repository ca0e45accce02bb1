//! The hash chain of the audit log: each record contains the SHA-256 of the previous line, so that removed or
//! altered records are detected.

use std::fs::File;
use std::io;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::event::{AuditEntry, Event};
use super::lines::{line_at, line_start};

/// The end of the log, from which the next record continues.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChainHead {
    /// Sequence number of the last record; 0 if there is none.
    pub seq: u64,
    /// Hash of the last record's line, in hex.
    pub hash: String,
}

/// The end of a file of the log.
#[derive(Debug)]
pub(super) struct FileEnd {
    /// The last record.
    pub(super) head: ChainHead,
    /// Size of the complete lines.
    pub(super) bytes: u64,
}

/// Why a chain cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The file cannot be read.
    #[error("cannot read the audit log")]
    Io(#[from] io::Error),
    /// The last line is not a record.
    #[error("its last line is not a record")]
    NotARecord,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

impl ChainHead {
    /// Numbers `entry` and appends its line, with newline, to `lines`.
    pub fn append(&mut self, entry: &AuditEntry, lines: &mut String) {
        self.seq += 1;
        let start = lines.len();
        entry.at(self.seq, &self.hash, lines);
        self.hash = hash(lines[start..].trim_end().as_bytes());
    }
}

/// SHA-256 of a line without its newline, in lower-case hex.
pub(super) fn hash(line: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(line))
}

/// Finds the end of the chain in an existing log, before an incomplete last line. It reads backwards, so that a
/// long log opens as fast as a short one. It changes nothing: another process may be writing the incomplete line.
///
/// # Errors
/// When the file cannot be read, or its last complete line is not a record.
pub(super) fn end_of(file: &File) -> Result<FileEnd, ChainError> {
    let bytes = line_start(file, file.metadata()?.len())?;
    if bytes == 0 {
        return Ok(FileEnd { head: ChainHead::default(), bytes });
    }
    let start = line_start(file, bytes - 1)?;
    let (line, _) = line_at(file, start)?.ok_or(ChainError::NotARecord)?;
    let event: Event = serde_json::from_slice(&line).map_err(|_| ChainError::NotARecord)?;
    Ok(FileEnd { head: ChainHead { seq: event.seq, hash: hash(&line) }, bytes })
}

/// Finds the end of the chain and removes an incomplete last line. The caller must have locked the file.
///
/// # Errors
/// As [`end_of`], or when the file cannot be shortened.
pub(super) fn resume(file: &File) -> Result<FileEnd, ChainError> {
    let end = end_of(file)?;
    if file.metadata()?.len() != end.bytes {
        file.set_len(end.bytes)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use jiff::Timestamp;

    use super::*;

    fn event(n: usize) -> Event {
        Event::begun(Timestamp::UNIX_EPOCH, format!("exc_{n}"))
    }

    fn append(file: &mut File, head: &mut ChainHead, event: &Event) {
        let mut line = String::new();
        head.append(&event.entry(), &mut line);
        file.write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn a_last_line_that_is_no_record_is_not_continued() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"not a record\n").unwrap();
        assert!(matches!(resume(&file), Err(ChainError::NotARecord)));
    }

    #[test]
    fn a_log_goes_on_after_a_torn_last_line() {
        let mut file = tempfile::tempfile().unwrap();
        let mut head = ChainHead::default();
        (0..3).for_each(|n| append(&mut file, &mut head, &event(n)));
        let whole = file.metadata().unwrap().len();
        file.write_all(br#"{"v":1,"seq":4,"pre"#).unwrap();
        assert_eq!(end_of(&file).unwrap().bytes, whole);
        assert!(file.metadata().unwrap().len() > whole, "reading changes nothing");
        assert_eq!(resume(&file).unwrap().head, head);
        assert_eq!(file.metadata().unwrap().len(), whole);
    }

    #[test]
    fn a_long_last_line_is_found_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let mut long = event(0);
        long.path = Some("/".repeat(200_000));
        let mut head = ChainHead::default();
        (0..2).for_each(|_| append(&mut file, &mut head, &long));
        assert_eq!(resume(&file).unwrap().head, head);
    }

    #[test]
    fn an_empty_log_begins_the_chain() {
        assert_eq!(resume(&tempfile::tempfile().unwrap()).unwrap().head, ChainHead::default());
    }
}
