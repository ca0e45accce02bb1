//! Verifies the hash chain of the audit log over all files, and reports the first line that does not follow its
//! predecessor.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::{ChainHead, LINE_BYTES_MAX, hash, line_at};
use super::event::Event;
use super::trail::Trail;

/// The number of lines between two calls of `go_on`.
const ASK_EVERY: u64 = 1_000;

/// The result of a verification.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChainReport {
    /// Number of files read.
    pub files: u64,
    /// Number of records in the chain.
    pub records: u64,
    /// Number of the first record; 0 if there is none. Above 1, older files were removed.
    pub first: u64,
    /// The end of the chain.
    pub last: ChainHead,
    /// The first line that breaks the chain, if any.
    pub broken: Option<Break>,
}

/// A line that breaks the chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Break {
    pub file: PathBuf,
    /// The line number, from 1.
    pub line: u64,
    pub reason: String,
}

/// A running verification.
struct Verification<'a, G> {
    verified: ChainReport,
    /// Lines of the file that was read last.
    lines: u64,
    go_on: &'a G,
}

impl Trail {
    /// Verifies the chain from the oldest record. Blocks. `go_on` is called regularly; false ends the
    /// verification.
    ///
    /// # Errors
    /// When a file cannot be read, or was removed meanwhile.
    pub fn verify(&self, go_on: impl Fn() -> bool) -> io::Result<ChainReport> {
        self.verify_until(0, go_on)
    }

    /// As [`Trail::verify`]; also reports a log that ends before record `written`, which its writer has written.
    ///
    /// # Errors
    /// As [`Trail::verify`].
    pub fn verify_until(&self, written: u64, go_on: impl Fn() -> bool) -> io::Result<ChainReport> {
        let verified = ChainReport::default();
        let mut walk = Verification { verified, lines: 0, go_on: &go_on };
        let mut read = 0;
        loop {
            // Opened before the listing, so that a file that is rotated in between is found there under its number.
            let active = self.open_active()?;
            let full = self.full()?;
            let new = full.partition_point(|full| full.first <= read);
            for full in &full[new..] {
                read = full.first;
                let file = File::open(&full.path)?;
                if !walk.file(&file, &full.path)? {
                    return Ok(walk.verified);
                }
            }
            // A file was started while the others were read, so the list is incomplete.
            match active {
                Some(active) if self.is_active(&active)? => {
                    walk.file(&active, self.active())?;
                    return Ok(walk.ended(self.active(), written));
                }
                None if self.open_active()?.is_none() => {
                    walk.lines = 0;
                    return Ok(walk.ended(self.active(), written));
                }
                _ => {}
            }
        }
    }
}

impl<G: Fn() -> bool> Verification<'_, G> {
    /// Verifies one file. Returns whether to continue with the next.
    fn file(&mut self, file: &File, path: &Path) -> io::Result<bool> {
        self.verified.files += 1;
        self.lines = 0;
        let mut offset = 0;
        while let Some((line, next)) = line_at(file, offset)? {
            self.lines += 1;
            offset = next;
            if let Err(reason) = self.line(&line) {
                self.break_at(path, self.lines, reason);
                return Ok(false);
            }
            if self.lines.is_multiple_of(ASK_EVERY) && !(self.go_on)() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn break_at(&mut self, path: &Path, line: u64, reason: String) {
        self.verified.broken = Some(Break { file: path.to_owned(), line, reason });
    }

    /// The result, after the active file was read.
    fn ended(mut self, active: &Path, written: u64) -> ChainReport {
        let last = self.verified.last.seq;
        if self.verified.broken.is_none() && last < written {
            let reason = format!(
                "the log ends after record {last}, but the gateway has written record {written}"
            );
            self.break_at(active, self.lines + 1, reason);
        }
        self.verified
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let is_first = self.verified.records == 0;
        let event = serde_json::from_slice::<Event>(line);
        let event = match event {
            Ok(event) if line.len() <= LINE_BYTES_MAX => event,
            _ => return Err("is not a record".to_owned()),
        };
        let ChainHead { seq, hash: before } = &self.verified.last;
        if is_first && event.change.is_some_and(|change| change.is_of_log()) {
            return Err(format!(
                "holds record {}, from which the gateway continued: the records before it were \
                 removed",
                event.seq
            ));
        } else if is_first && event.seq > 1 {
            // The first record has no predecessor to compare with.
            self.verified.first = event.seq;
        } else if event.seq != seq + 1 || event.prev != *before {
            return Err(match is_first {
                true => format!("holds record {}, which does not begin a log", event.seq),
                false => format!(
                    "holds record {}, which does not follow record {seq}: one of them was \
                     changed, or records between them were removed",
                    event.seq
                ),
            });
        } else if is_first {
            self.verified.first = 1;
        }
        self.verified.records += 1;
        self.verified.last = ChainHead { seq: event.seq, hash: hash(line) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::observe::tests::samples::log;

    fn broken(trail: &Trail) -> (String, u64) {
        let found = trail.verify(|| true).unwrap().broken.expect("it is broken");
        (found.file.file_name().unwrap().to_string_lossy().into_owned(), found.line)
    }

    /// Changes the lines of the file whose first record is 4.
    async fn spoilt(change: impl Fn(&mut Vec<String>)) -> (String, u64) {
        let (_folder, trail) = log(11).await;
        let path = trail.full_path(4);
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        broken(&trail)
    }

    #[tokio::test]
    async fn a_removed_altered_swapped_or_foreign_line_is_named_with_its_file() {
        let own = "audit.jsonl.000000000004".to_owned();
        let after = "audit.jsonl.000000000007".to_owned();
        assert_eq!(spoilt(|lines| drop(lines.remove(1))).await, (own.clone(), 2));
        assert_eq!(spoilt(|lines| lines.swap(0, 1)).await, (own.clone(), 1));
        assert_eq!(
            spoilt(|lines| lines[0] = lines[0].replace("exc_4", "exc_9")).await,
            (own.clone(), 2),
            "the next one tells"
        );
        assert_eq!(spoilt(|lines| lines.insert(1, "x".to_owned())).await, (own.clone(), 2));
        assert_eq!(spoilt(|lines| lines.insert(0, String::new())).await, (own, 1));
        assert_eq!(spoilt(|lines| drop(lines.pop())).await, (after, 1));
    }

    #[tokio::test]
    async fn a_removed_file_in_between_is_noticed() {
        let (_folder, trail) = log(11).await;
        fs::remove_file(trail.full_path(4)).unwrap();
        assert_eq!(broken(&trail), ("audit.jsonl.000000000007".to_owned(), 1));
    }

    #[tokio::test]
    async fn a_first_record_with_a_wrong_previous_hash_is_noticed() {
        let (_folder, trail) = log(2).await;
        let text = fs::read_to_string(trail.active()).unwrap();
        let zeros = "0".repeat(64);
        fs::write(trail.active(), text.replacen(&zeros, &"1".repeat(64), 1)).unwrap();
        assert_eq!(broken(&trail), ("audit.jsonl".to_owned(), 1));
    }

    #[tokio::test]
    async fn a_log_without_its_oldest_files_is_whole_from_its_first_remaining_record() {
        let (_folder, trail) = log(11).await;
        fs::remove_file(trail.full_path(1)).unwrap();
        let verified = trail.verify(|| true).unwrap();
        assert_eq!((verified.first, verified.records, verified.broken), (4, 8, None));
    }

    #[tokio::test]
    async fn an_incomplete_last_line_does_not_change_the_report_of_a_whole_log() {
        let (_folder, trail) = log(11).await;
        let whole = trail.verify(|| true).unwrap();
        assert_eq!((whole.first, whole.records, whole.files), (1, 11, 4));
        assert_eq!((whole.last.seq, &whole.broken), (11, &None));
        let mut file = File::options().append(true).open(trail.active()).unwrap();
        file.write_all(br#"{"v":1,"seq":12"#).unwrap();
        assert_eq!(trail.verify(|| true).unwrap(), whole);
    }

    #[tokio::test]
    async fn a_log_that_ends_before_the_last_written_record_is_broken_at_its_end() {
        let (_folder, trail) = log(11).await;
        assert_eq!(trail.verify_until(11, || true).unwrap().broken, None);
        let until = |written: u64| {
            let broken =
                trail.verify_until(written, || true).unwrap().broken.expect("it is broken");
            assert_eq!(broken.file, trail.active());
            (broken.line, broken.reason)
        };
        let says = |last: u64, written: u64| {
            format!(
                "the log ends after record {last}, but the gateway has written record {written}"
            )
        };
        assert_eq!(until(12), (3, says(11, 12)));
        fs::remove_file(trail.active()).unwrap();
        assert_eq!(until(11), (1, says(9, 11)));
    }

    #[test]
    fn a_log_that_was_never_written_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::at(&folder.path().join("none/audit.jsonl"));
        assert_eq!(trail.verify(|| true).unwrap(), ChainReport::default());
    }
}
