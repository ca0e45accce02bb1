//! The hash chain of the audit log: each record holds the SHA-256 of the line before it, so that a
//! removed or altered record shows.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use super::event::Event;

/// Where the log stands: what the next record needs to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Head {
    /// Sequence number of the last record, 0 when there is none.
    pub seq: u64,
    /// Hash of the last record's line, hex.
    pub hash: String,
}

/// Why a log is not a chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Cannot be read.
    #[error("cannot read the audit log")]
    Io(#[from] io::Error),
    /// A line that is not a record.
    #[error("line {line} of the audit log is not a record")]
    NotARecord {
        /// Line, from 1.
        line: u64,
    },
    /// A record that does not follow the one before it.
    #[error(
        "record {seq} of the audit log does not follow the one before it: something was changed or removed"
    )]
    Broken {
        /// The record's own number.
        seq: u64,
    },
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

impl Head {
    /// Gives `event` its place and returns its line, newline included.
    ///
    /// # Panics
    /// Never: an [`Event`] has no map with other keys than strings.
    pub fn append(&mut self, event: &mut Event) -> String {
        self.seq += 1;
        event.seq = self.seq;
        event.prev.clone_from(&self.hash);
        let mut line = serde_json::to_string(event).expect("an event serialises");
        self.hash = hash(line.as_bytes());
        line.push('\n');
        line
    }
}

/// SHA-256 of a line without its newline, in lower-case hex.
fn hash(line: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(line).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Reads a whole log and checks that every record follows the one before.
///
/// # Errors
/// At the first record that does not, or when the log cannot be read.
pub fn verify(log: impl BufRead) -> Result<Head, ChainError> {
    let mut head = Head::default();
    for (index, line) in log.lines().enumerate() {
        let line = line?;
        let event: Event = serde_json::from_str(&line)
            .map_err(|_| ChainError::NotARecord { line: index as u64 + 1 })?;
        if event.seq != head.seq + 1 || event.prev != head.hash {
            return Err(ChainError::Broken { seq: event.seq });
        }
        head = Head { seq: event.seq, hash: hash(line.as_bytes()) };
    }
    Ok(head)
}

/// Finds the end of the chain in an existing log and cuts off a last line that a crash left
/// unfinished. Reads backwards, so that a long log opens as fast as a short one.
///
/// # Errors
/// When the file cannot be read, or its last whole line is not a record.
pub fn resume(file: &mut File) -> Result<Head, ChainError> {
    let whole = end_of_last_line(file)?;
    if file.metadata()?.len() != whole {
        file.set_len(whole)?;
    }
    if whole == 0 {
        return Ok(Head::default());
    }
    let start = newline_before(file, whole - 1)?;
    file.seek(SeekFrom::Start(start))?;
    let mut line = String::new();
    BufReader::new(&mut *file).read_line(&mut line)?;
    file.seek(SeekFrom::End(0))?;
    let line = line.trim_end_matches('\n');
    let event: Event =
        serde_json::from_str(line).map_err(|_| ChainError::NotARecord { line: 0 })?;
    Ok(Head { seq: event.seq, hash: hash(line.as_bytes()) })
}

/// The offset after the last newline.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    newline_before(file, length)
}

/// The offset after the last newline among the first `end` bytes, 0 when there is none.
fn newline_before(file: &mut File, end: u64) -> io::Result<u64> {
    use std::io::Read;
    const BLOCK: u64 = 4096;
    let mut end = end;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).expect("a block fits")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use jiff::Timestamp;

    use super::*;

    fn log(records: usize) -> String {
        let mut head = Head::default();
        (0..records)
            .map(|n| head.append(&mut Event::begun(Timestamp::UNIX_EPOCH, format!("exc_{n}"))))
            .collect()
    }

    #[test]
    fn a_removed_altered_or_swapped_record_breaks_the_chain() {
        let text = log(4);
        let lines: Vec<&str> = text.lines().collect();
        let broken = [
            [lines[0], lines[2], lines[3]].join("\n"),
            [lines[0], lines[2], lines[1], lines[3]].join("\n"),
            text.replace("exc_1", "exc_9"),
            lines[1..].join("\n"),
        ];
        for log in broken {
            assert!(matches!(verify(log.as_bytes()), Err(ChainError::Broken { .. })), "{log}");
        }
        assert_eq!(verify(text.as_bytes()).unwrap().seq, 4);
    }

    #[test]
    fn a_log_goes_on_after_a_torn_last_line() {
        let mut file = tempfile::tempfile().unwrap();
        let whole = log(3);
        file.write_all(whole.as_bytes()).unwrap();
        file.write_all(br#"{"v":1,"seq":4,"pre"#).unwrap();
        let mut head = resume(&mut file).unwrap();
        assert_eq!(head, verify(whole.as_bytes()).unwrap());
        let next = head.append(&mut Event::begun(Timestamp::UNIX_EPOCH, "exc_3".into()));
        file.write_all(next.as_bytes()).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(verify(BufReader::new(file)).unwrap().seq, 4);
    }

    #[test]
    fn a_long_last_line_is_found_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let mut event = Event::begun(Timestamp::UNIX_EPOCH, "exc_0".into());
        event.path = Some("/".repeat(20_000));
        let mut head = Head::default();
        for _ in 0..2 {
            file.write_all(head.append(&mut event).as_bytes()).unwrap();
        }
        assert_eq!(resume(&mut file).unwrap(), head);
    }

    #[test]
    fn an_empty_log_begins_the_chain() {
        assert_eq!(resume(&mut tempfile::tempfile().unwrap()).unwrap(), Head::default());
    }
}
