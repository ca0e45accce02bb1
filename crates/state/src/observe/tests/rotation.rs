//! Tests of log rotation: files as the next start and readers find them.

use std::fs::{self, Permissions};
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::samples::{self, SMALL};
use crate::observe::audit::{Audit, AuditWriter};
use crate::observe::chain;
use crate::observe::trail::{Rotation, Trail};
use crate::observe::verify::Break;

struct Fixture {
    folder: tempfile::TempDir,
    trail: Trail,
}

impl Fixture {
    async fn with(records: u64) -> Self {
        let (folder, trail) = samples::empty();
        samples::write(&trail, SMALL, records).await;
        Self { folder, trail }
    }

    fn file(&self, first: u64) -> PathBuf {
        self.trail.full_path(first)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Verifies the chain and returns the number of records.
    fn records(&self) -> u64 {
        let verified = self.trail.verify(|| true).unwrap();
        assert_eq!(verified.broken, None);
        verified.records
    }

    fn broken(&self) -> Break {
        self.trail.verify(|| true).unwrap().broken.expect("it is broken")
    }
}

/// A log that is open for writing.
struct OpenLog {
    audit: Audit,
    writer: AuditWriter,
}

impl OpenLog {
    fn of(fixture: &Fixture, rotation: Rotation) -> Self {
        let (audit, writer) = Audit::open(fixture.trail.clone(), rotation, 8, false).unwrap();
        Self { audit, writer }
    }

    /// Sends the events with these numbers.
    async fn send(&self, numbers: RangeInclusive<u64>) {
        for n in numbers {
            self.audit.reserve().await.unwrap().send(samples::event(n).entry());
        }
    }

    async fn until_written(&self, number: u64) {
        self.audit.written().wait_for(|seq| *seq == number).await.unwrap();
    }

    fn finish(self) {
        drop(self.audit);
        self.writer.finish();
    }
}

/// Cuts a file off after some lines.
fn cut(path: &Path, lines: usize) {
    let text = fs::read_to_string(path).unwrap();
    let bytes: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    fs::File::options().write(true).open(path).unwrap().set_len(bytes as u64).unwrap();
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[tokio::test]
async fn a_full_file_is_rotated_under_the_number_of_its_first_record() {
    let fixture = Fixture::with(8).await;
    let names = ["audit.jsonl", "audit.jsonl.000000000001", "audit.jsonl.000000000004"];
    assert_eq!(fixture.names(), names);
    assert_eq!(
        [lines(&fixture.file(1)), lines(&fixture.file(4)), lines(fixture.trail.active())],
        [3, 3, 2]
    );
    for name in names {
        let path = fixture.folder.path().join(name);
        assert!(fs::metadata(&path).unwrap().len() <= SMALL.file_bytes_max);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(fixture.records(), 8);
}

#[tokio::test]
async fn a_record_larger_than_the_file_limit_gets_a_separate_file() {
    let (folder, trail) = samples::empty();
    samples::write(&trail, Rotation { file_bytes_max: 1, files_max: 100 }, 3).await;
    let fixture = Fixture { folder, trail };
    assert_eq!(
        [lines(&fixture.file(1)), lines(&fixture.file(2)), lines(fixture.trail.active())],
        [1, 1, 1]
    );
}

#[tokio::test]
async fn no_more_files_are_kept_than_configured_also_after_a_change_of_the_number() {
    let fixture = Fixture::with(20).await;
    samples::write(&fixture.trail, Rotation { files_max: 3, ..SMALL }, 1).await;
    assert_eq!(
        fixture.names(),
        ["audit.jsonl", "audit.jsonl.000000000013", "audit.jsonl.000000000016"],
        "at the start"
    );
    samples::write(&fixture.trail, Rotation { files_max: 3, ..SMALL }, 20).await;
    assert_eq!(fixture.names().len(), 3);
    assert_eq!(fixture.trail.verify(|| true).unwrap().last.seq, 41);
}

#[tokio::test]
async fn a_start_continues_the_file_that_was_written_last() {
    let fixture = Fixture::with(4).await;
    samples::write(&fixture.trail, SMALL, 1).await;
    assert_eq!(lines(fixture.trail.active()), 2);
    samples::write(&fixture.trail, SMALL, 2).await;
    assert_eq!((lines(&fixture.file(4)), lines(fixture.trail.active())), (3, 1));
    assert_eq!(fixture.records(), 7);
}

#[tokio::test]
async fn a_crash_between_two_files_leaves_a_chain_that_goes_on() {
    let fixture = Fixture::with(6).await;
    // The file was rotated, and the next one was not created.
    fs::rename(fixture.trail.active(), fixture.file(4)).unwrap();
    samples::write(&fixture.trail, SMALL, 1).await;
    assert_eq!(fixture.records(), 7);
    // The next file was started, and its first record is incomplete.
    fs::rename(fixture.trail.active(), fixture.file(7)).unwrap();
    fs::write(fixture.trail.active(), br#"{"v":1,"seq":8,"#).unwrap();
    samples::write(&fixture.trail, SMALL, 1).await;
    assert_eq!(fixture.records(), 8);
    assert_eq!(lines(fixture.trail.active()), 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_rotated_stays_in_use() {
    let fixture = Fixture::with(1).await;
    // A directory blocks the name, and nothing may be lost or overwritten.
    fs::create_dir(fixture.file(1)).unwrap();
    samples::write(&fixture.trail, SMALL, 9).await;
    assert_eq!(lines(fixture.trail.active()), 10);
    fs::remove_dir(fixture.file(1)).unwrap();
    samples::write(&fixture.trail, SMALL, 1).await;
    assert_eq!((lines(&fixture.file(1)), fixture.records()), (10, 11));
}

#[tokio::test]
async fn a_new_file_has_the_permissions_of_the_old_one() {
    let fixture = Fixture::with(3).await;
    fs::set_permissions(fixture.trail.active(), Permissions::from_mode(0o640)).unwrap();
    samples::write(&fixture.trail, SMALL, 1).await;
    let mode = fs::metadata(fixture.trail.active()).unwrap().permissions().mode() & 0o777;
    assert_eq!((lines(fixture.trail.active()), mode), (1, 0o640));
}

#[tokio::test]
async fn a_file_that_ends_in_no_record_is_not_continued() {
    let fixture = Fixture::with(2).await;
    let mut file = fs::File::options().append(true).open(fixture.trail.active()).unwrap();
    file.write_all(b"something else\n").unwrap();
    let refused =
        crate::observe::audit::Audit::open(fixture.trail.clone(), SMALL, 8, false).unwrap_err();
    assert!(refused.to_string().contains("move it away"), "{refused}");
}

#[tokio::test]
async fn a_start_does_not_cut_off_a_line_that_another_process_is_writing() {
    let fixture = Fixture::with(2).await;
    let mut other =
        fs::File::options().read(true).append(true).open(fixture.trail.active()).unwrap();
    other.lock().unwrap();
    let mut line = String::new();
    let mut head = chain::end_of(&other).unwrap().head;
    head.append(&samples::event(3).entry(), &mut line);
    other.write_all(&line.as_bytes()[..20]).unwrap();
    let log = OpenLog::of(&fixture, Rotation::default());
    other.write_all(&line.as_bytes()[20..]).unwrap();
    other.unlock().unwrap();
    log.send(4..=4).await;
    log.finish();
    assert_eq!(fixture.records(), 4);
}

#[tokio::test]
async fn numbers_of_records_that_were_cut_off_are_not_given_again() {
    let fixture = Fixture::with(0).await;
    let log = OpenLog::of(&fixture, Rotation::default());
    log.send(1..=10).await;
    log.until_written(10).await;
    cut(fixture.trail.active(), 5);
    log.send(11..=11).await;
    log.finish();
    let broken = fixture.trail.verify(|| true).unwrap().broken.expect("it is broken");
    assert_eq!(broken.line, 6);
    assert!(broken.reason.contains("record 11, which does not follow record 5"), "{broken:?}");
}

#[tokio::test]
async fn a_file_that_was_emptied_is_continued_and_rotated_under_later_numbers() {
    let fixture = Fixture::with(0).await;
    let log = OpenLog::of(&fixture, SMALL);
    log.send(1..=10).await;
    log.until_written(10).await;
    cut(fixture.trail.active(), 0);
    log.send(11..=14).await;
    log.finish();
    let full = [1, 4, 7, 11].map(|first| format!("audit.jsonl.{first:012}"));
    assert_eq!(fixture.names()[1..], full);
    // The first record is that of the change.
    assert_eq!([lines(&fixture.file(11)), lines(fixture.trail.active())], [2, 3]);
    let broken = fixture.trail.verify(|| true).unwrap().broken.expect("it is broken");
    assert_eq!((broken.file, broken.line), (fixture.file(11), 1));
}

#[tokio::test]
async fn two_writers_continue_one_chain_over_several_files() {
    let fixture = Fixture::with(2).await;
    let open = || Audit::open(fixture.trail.clone(), SMALL, 8, false).unwrap();
    let ((one, of_one), (other, of_other)) = (open(), open());
    let mut written = [one.written(), other.written()];
    for n in 3..=40 {
        let turn = n % 2;
        let audit = [&one, &other][turn];
        audit.reserve().await.unwrap().send(samples::event(n as u64).entry());
        // The two writers alternate, so most records go into a file that the other one has created.
        written[turn].wait_for(|seq| *seq == n as u64).await.unwrap();
    }
    assert_eq!([one.changes(), other.changes()], [0, 0], "a file of the other one is no change");
    drop((one, other));
    of_one.finish();
    of_other.finish();
    assert_eq!(fixture.records(), 40);
}

/// A log with three records that is open for writing.
async fn three_written(fixture: &Fixture) -> OpenLog {
    let log = OpenLog::of(fixture, Rotation::default());
    log.send(1..=3).await;
    log.until_written(3).await;
    log
}

/// Writes an event, and waits for it. The record of the change is the fourth.
async fn noticed(log: OpenLog) {
    log.send(4..=4).await;
    log.until_written(5).await;
    assert_eq!(log.audit.changes(), 1);
    log.finish();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_deleted_file_is_made_again_and_no_number_is_given_twice() {
    let fixture = Fixture::with(0).await;
    let log = three_written(&fixture).await;
    fs::remove_file(fixture.trail.active()).unwrap();
    noticed(log).await;
    assert_eq!((lines(fixture.trail.active()), mode(fixture.trail.active())), (2, 0o600));
    let broken = fixture.broken();
    assert_eq!((&*broken.file, broken.line), (fixture.trail.active(), 1));
    assert!(broken.reason.contains("record 4, from which the gateway continued"), "{broken:?}");
    samples::write(&fixture.trail, Rotation::default(), 1).await;
    assert_eq!(lines(fixture.trail.active()), 3, "a start goes on there");
}

#[tokio::test]
async fn a_moved_file_gets_no_more_records_and_can_be_put_back_under_its_number() {
    let fixture = Fixture::with(0).await;
    let log = three_written(&fixture).await;
    let moved = fixture.folder.path().join("audit.jsonl.1");
    fs::rename(fixture.trail.active(), &moved).unwrap();
    noticed(log).await;
    assert_eq!([lines(&moved), lines(fixture.trail.active())], [3, 2]);
    assert_eq!(fixture.broken().line, 1);
    fs::rename(&moved, fixture.file(1)).unwrap();
    assert_eq!(fixture.records(), 5);
}

#[tokio::test]
async fn a_file_that_an_editor_replaced_is_continued_and_its_gap_is_named() {
    let fixture = Fixture::with(0).await;
    let log = three_written(&fixture).await;
    let text = fs::read_to_string(fixture.trail.active()).unwrap();
    let edited = text.split_inclusive('\n').enumerate().filter(|(n, _)| *n != 1);
    let edited: String = edited.map(|(_, line)| line).collect();
    let other = fixture.folder.path().join("sedXyz");
    fs::write(&other, edited).unwrap();
    fs::rename(&other, fixture.trail.active()).unwrap();
    noticed(log).await;
    assert_eq!(lines(fixture.trail.active()), 4);
    let broken = fixture.broken();
    assert_eq!(broken.line, 2);
    assert!(broken.reason.contains("record 3, which does not follow record 1"), "{broken:?}");
}

#[tokio::test]
async fn a_file_that_another_program_created_at_the_log_path_is_continued() {
    let fixture = Fixture::with(0).await;
    let log = three_written(&fixture).await;
    fs::rename(fixture.trail.active(), fixture.folder.path().join("audit.jsonl.1")).unwrap();
    fs::write(fixture.trail.active(), "").unwrap();
    fs::set_permissions(fixture.trail.active(), Permissions::from_mode(0o640)).unwrap();
    noticed(log).await;
    assert_eq!((lines(fixture.trail.active()), mode(fixture.trail.active())), (2, 0o640));
}

#[tokio::test]
async fn a_deleted_folder_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("audit");
    fs::create_dir(&inner).unwrap();
    let trail = Trail::at(&inner.join("audit.jsonl"));
    let fixture = Fixture { folder, trail };
    let log = three_written(&fixture).await;
    fs::remove_dir_all(&inner).unwrap();
    noticed(log).await;
    assert_eq!((lines(fixture.trail.active()), mode(&inner)), (2, 0o700));
}

#[tokio::test]
async fn exchanges_are_refused_until_a_deleted_file_can_be_created_again() {
    let fixture = Fixture::with(0).await;
    let log = three_written(&fixture).await;
    fs::remove_file(fixture.trail.active()).unwrap();
    fs::create_dir(fixture.trail.active()).unwrap();
    log.send(4..=4).await;
    while !log.audit.is_failing() {
        tokio::task::yield_now().await;
    }
    assert!(log.audit.reserve().await.is_err());
    fs::remove_dir(fixture.trail.active()).unwrap();
    log.until_written(5).await;
    assert!(!log.audit.is_failing());
    log.finish();
    assert_eq!(lines(fixture.trail.active()), 2);
}

#[tokio::test]
async fn a_file_moved_away_and_back_before_the_next_record_is_not_a_change() {
    let fixture = Fixture::with(0).await;
    let log = three_written(&fixture).await;
    let moved = fixture.folder.path().join("audit.jsonl.1");
    fs::rename(fixture.trail.active(), &moved).unwrap();
    fs::rename(&moved, fixture.trail.active()).unwrap();
    log.send(4..=4).await;
    log.until_written(4).await;
    assert_eq!(log.audit.changes(), 0);
    log.finish();
    assert_eq!(fixture.records(), 4);
}

#[tokio::test]
async fn a_deleted_file_without_a_record_is_made_again_without_a_gap() {
    let fixture = Fixture::with(0).await;
    let log = OpenLog::of(&fixture, Rotation::default());
    fs::remove_file(fixture.trail.active()).unwrap();
    log.send(1..=1).await;
    log.until_written(1).await;
    log.finish();
    assert_eq!(fixture.records(), 1);
}

#[tokio::test]
async fn two_writers_continue_one_new_file_after_a_deletion() {
    let fixture = Fixture::with(2).await;
    let open = || Audit::open(fixture.trail.clone(), Rotation::default(), 8, false).unwrap();
    let ((one, of_one), (other, of_other)) = (open(), open());
    let mut written = [one.written(), other.written()];
    for n in 3..=12 {
        let is_after = n >= 7;
        if n == 7 {
            fs::remove_file(fixture.trail.active()).unwrap();
        }
        let turn = n % 2;
        let audit = [&one, &other][turn];
        audit.reserve().await.unwrap().send(samples::event(n as u64).entry());
        // Record 7 is that of the change.
        let number = n as u64 + u64::from(is_after);
        written[turn].wait_for(|seq| *seq == number).await.unwrap();
    }
    assert_eq!(one.changes() + other.changes(), 1);
    drop((one, other));
    of_one.finish();
    of_other.finish();
    let verified = fixture.trail.verify(|| true).unwrap();
    assert_eq!(verified.broken.expect("it is broken").line, 1);
    assert_eq!(lines(fixture.trail.active()), 7);
}
