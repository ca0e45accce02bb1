//! The hash chain of the audit log: each record contains the SHA-256 of the previous line, so that removed or altered
//! records are detected. Lines of a file of any size are read with bounded memory: at an offset, backwards from the
//! end, and the offset of a record by its number.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::event::{AuditEntry, Event};

/// Maximum length of a line; far above any record, whose path is bounded by `limits.target_bytes_max`.
pub(super) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes read at once: some hundred records.
const BLOCK_BYTES: usize = 64 * 1024;

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

/// The number of a record.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// Iterates backwards over the complete lines before an offset. A line that is too long is split into pieces,
/// none of which is a record.
#[derive(Debug)]
pub(super) struct Backwards<'f> {
    file: &'f File,
    /// File offset of the buffer.
    start: u64,
    buffer: Vec<u8>,
}

impl<'f> Backwards<'f> {
    /// Lines that end at or before `end`.
    pub(super) fn before(file: &'f File, end: u64) -> io::Result<Self> {
        Ok(Self { file, start: line_start(file, end)?, buffer: Vec::new() })
    }

    /// Reads the preceding block into the front of the buffer.
    fn fill(&mut self) -> io::Result<()> {
        let bytes = usize::try_from(self.start).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let mut block = vec![0; bytes];
        self.start -= bytes as u64;
        self.file.read_exact_at(&mut block, self.start)?;
        block.append(&mut self.buffer);
        self.buffer = block;
        Ok(())
    }

    /// Offset of the last line in the buffer, if its start is there.
    fn last_line(&self) -> Option<usize> {
        let before = self.buffer.len().checked_sub(1)?;
        match self.buffer[..before].iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => Some(newline + 1),
            None if self.start == 0 || self.buffer.len() > LINE_BYTES_MAX => Some(0),
            None => None,
        }
    }
}

impl Iterator for Backwards<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(at) = self.last_line() {
                let mut line = self.buffer.split_off(at);
                line.pop_if(|byte| *byte == b'\n');
                return Some(Ok(line));
            }
            if self.start == 0 {
                return None;
            }
            if let Err(error) = self.fill() {
                return Some(Err(error));
            }
        }
    }
}

/// The complete line at `offset`, and the offset of the next line; `None` if it is incomplete. A line that is
/// too long is cut.
pub(super) fn line_at(file: &File, offset: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut line = Vec::new();
    let mut at = offset;
    loop {
        let mut block = vec![0; if line.is_empty() { 4096 } else { BLOCK_BYTES }];
        let read = file.read_at(&mut block, at)?;
        if read == 0 {
            return Ok(None);
        }
        let newline = block[..read].iter().position(|byte| *byte == b'\n');
        let part = &block[..newline.unwrap_or(read)];
        if line.len() <= LINE_BYTES_MAX {
            line.extend_from_slice(part);
        }
        at += part.len() as u64;
        if newline.is_some() {
            return Ok(Some((line, at + 1)));
        }
    }
}

/// The offset after the last newline in the first `end` bytes; 0 if there is none.
pub(super) fn line_start(file: &File, end: u64) -> io::Result<u64> {
    let mut end = end;
    let mut block = vec![0; 4096];
    while end > 0 {
        let start = end.saturating_sub(4096);
        block.truncate(usize::try_from(end - start).unwrap_or(4096));
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The number of the first record in the file; `None` if there is no record.
pub(super) fn first_number(file: &File) -> io::Result<Option<u64>> {
    let mut offset = 0;
    while let Some((line, next)) = line_at(file, offset)? {
        if let Some(number) = number(&line) {
            return Ok(Some(number));
        }
        offset = next;
    }
    Ok(None)
}

/// The offset of the first record whose number is at least `seq`, or the end of the last line. Uses binary
/// search, because numbers increase.
pub(super) fn offset_of(file: &File, seq: u64) -> io::Result<u64> {
    let mut low = 0;
    let mut high = line_start(file, file.metadata()?.len())?;
    while low < high {
        let begin = line_start(file, low + (high - low) / 2)?;
        match record_between(file, begin, high)? {
            Some((number, next)) if number < seq => low = next,
            // None: only damaged lines up to `high`.
            Some(_) | None => high = begin,
        }
    }
    Ok(low)
}

/// The number of the first record at or after `from`, and the offset of the next line.
fn record_between(file: &File, from: u64, to: u64) -> io::Result<Option<(u64, u64)>> {
    let mut offset = from;
    while offset < to {
        let Some((line, next)) = line_at(file, offset)? else { return Ok(None) };
        if let Some(number) = number(&line) {
            return Ok(Some((number, next)));
        }
        offset = next;
    }
    Ok(None)
}

fn number(line: &[u8]) -> Option<u64> {
    serde_json::from_slice(line).ok().map(|Numbered { seq }| seq)
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

    fn file(text: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file
    }

    fn backwards(text: &[u8]) -> Vec<String> {
        let file = file(text);
        let lines = Backwards::before(&file, text.len() as u64).unwrap();
        lines.map(|line| String::from_utf8(line.unwrap()).unwrap()).collect()
    }

    #[test]
    fn lines_come_backwards_and_an_unfinished_one_not_at_all() {
        assert_eq!(backwards(b""), [""; 0]);
        assert_eq!(backwards(b"unfinished"), [""; 0]);
        assert_eq!(backwards(b"a\nbb\n\nccc\nunfinished"), ["ccc", "", "bb", "a"]);
    }

    #[test]
    fn lines_longer_than_a_block_come_whole() {
        let long = "x".repeat(BLOCK_BYTES * 3 + 17);
        let text = format!("a\n{long}\nb\n");
        assert_eq!(backwards(text.as_bytes()), ["b", &long, "a"]);
    }

    #[test]
    fn a_line_over_the_limit_is_never_held_in_memory_as_a_whole() {
        let mut text = vec![b'x'; LINE_BYTES_MAX * 2];
        text.extend_from_slice(b"\n{\"seq\":1}\n");
        let lines = backwards(&text);
        assert_eq!(lines[0], "{\"seq\":1}");
        assert!(lines.iter().all(|line| line.len() <= LINE_BYTES_MAX + BLOCK_BYTES));
        let (line, next) = line_at(&file(&text), 0).unwrap().unwrap();
        assert!(line.len() <= LINE_BYTES_MAX + BLOCK_BYTES);
        assert_eq!(next, LINE_BYTES_MAX as u64 * 2 + 1);
    }

    #[test]
    fn a_record_is_found_by_its_number_among_damaged_lines() {
        let mut text = String::new();
        let mut at = Vec::new();
        for seq in 10..200u64 {
            if seq % 7 == 0 {
                text.push_str("damaged\n\n");
            }
            at.push((seq, text.len() as u64));
            text.push_str(&format!("{{\"seq\":{seq},\"pad\":\"{}\"}}\n", "p".repeat(seq as usize)));
        }
        let end = text.len() as u64;
        text.push_str("{\"seq\":200");
        let file = file(text.as_bytes());
        let seq_at = |offset| match line_at(&file, offset).unwrap() {
            Some((line, _)) => number(&line),
            None => None,
        };
        for (seq, offset) in at {
            let found = offset_of(&file, seq).unwrap();
            // A damaged line before it may be included.
            assert!(found <= offset, "{seq}");
            assert!(seq_at(found).is_none_or(|there| there == seq), "{seq}");
        }
        assert_eq!(offset_of(&file, 1).unwrap(), 0);
        assert_eq!(offset_of(&file, 200).unwrap(), end);
        assert_eq!(first_number(&file).unwrap(), Some(10));
    }
}
