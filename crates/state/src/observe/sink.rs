//! [`AuditSink`]: the writer of the audit log, on its own thread. It chains events, writes complete lines, rotates
//! files, and removes the oldest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use tokio::sync::mpsc::Receiver;
use tokio::sync::{oneshot, watch};

use super::chain::first_number;
use super::chain::{self, ChainError, ChainHead, FileEnd};
use super::change::Change;
use super::event::{AuditEntry, Outcome};
use super::printer::RecordPrinter;
use super::refusals::RefusalRecords;
use super::sync::Syncer;
use super::trail::{Rotation, Trail, create, create_again, found};
use keyward_base::id::OrgId;
use keyward_base::time::Clock;

/// Maximum number of events per write.
const BATCH_MAX: usize = 512;

/// How long events are collected between writes. The first event after a pause is written immediately; in a
/// burst, few events wake the writer's thread.
const GATHER: Duration = Duration::from_millis(5);

/// How long the writer waits before it retries a failed write.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// How long a process that ends retries a failed write. `docker stop` leaves 10 s for everything.
const LAST_RETRIES: Duration = Duration::from_secs(2);

/// How long a full file stays in use if a new one cannot be created.
const ROTATE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What waits for the writer.
#[derive(Debug)]
pub(super) enum Queued {
    Entry(AuditEntry),
    /// A reader that waits for the entries before it.
    Reader(oneshot::Sender<()>),
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("cannot open the audit log {path}")]
    Open { path: PathBuf, source: io::Error },
    /// The end of the existing log is invalid.
    #[error("the audit log {path} cannot be continued; move it away and start again")]
    Chain { path: PathBuf, source: ChainError },
    /// The writer thread cannot be started.
    #[error("cannot start the audit writer")]
    Thread(#[source] io::Error),
}

/// Conditions under which no requests are served, and the number of changes of the log by other programs.
#[derive(Clone, Debug, Default)]
pub(super) struct LogHealth {
    /// The last write failed and is being retried.
    pub(super) unwritten: Arc<AtomicBool>,
    /// The last write could not be synced to disk.
    pub(super) unsynced: Arc<AtomicBool>,
    /// How often the log was found changed by another program.
    pub(super) changes: Arc<AtomicU64>,
}

impl LogHealth {
    pub(super) fn is_failing(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) || self.unsynced.load(Ordering::Relaxed)
    }
}

/// The log file with the writer's state.
#[derive(Debug)]
pub(super) struct AuditSink {
    trail: Trail,
    rotation: Rotation,
    printer: Option<RecordPrinter>,
    file: Arc<File>,
    /// Size of the file's complete lines.
    bytes: u64,
    /// Number of the file's first record.
    first: u64,
    head: ChainHead,
    /// The change of the log by another program, until it is recorded.
    change: Option<String>,
    health: LogHealth,
    written: watch::Sender<u64>,
    pub(super) refusals: Arc<RefusalRecords>,
    /// `None` for something that is not a regular file, such as `/dev/null`, which is neither synced nor
    /// rotated.
    syncer: Option<Syncer>,
    /// Earliest time for the next attempt to rotate.
    rotate_at: Instant,
}

impl AuditSink {
    /// Opens the log and finds the end of its chain, which may be in the newest full file. An incomplete last line
    /// is removed by the first turn, which excludes other writers: it may be a line that another process writes now.
    pub(super) fn open(
        trail: Trail,
        rotation: Rotation,
        printer: Option<RecordPrinter>,
        health: LogHealth,
    ) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Open { path: trail.active().to_owned(), source };
        let file = create(&trail).map_err(failed)?;
        let (FileEnd { head, bytes }, first) = continued(&trail, &file)?;
        let metadata = file.metadata().map_err(failed)?;
        let syncer = match metadata.is_file() {
            true => Some(Syncer::start(health.unsynced.clone()).map_err(AuditError::Thread)?),
            false => None,
        };
        let sink = Self {
            written: watch::Sender::new(head.seq),
            refusals: Arc::default(),
            file: Arc::new(file),
            bytes,
            rotate_at: Instant::now(),
            trail,
            rotation,
            printer,
            first,
            head,
            change: None,
            health,
            syncer,
        };
        sink.remove_oldest_files();
        Ok(sink)
    }

    /// Watches the number of the last readable record; 0 for something that is not a regular file.
    pub(super) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Writes until the queue is closed, then the refusals that are still counted.
    pub(super) fn run(mut self, queue: Receiver<Queued>) {
        if let Err(error) = self.write_queue(queue) {
            tracing::error!(id = "audit_lost", %error, path = %self.trail.active().display(),
                "the process ends, and the audit log cannot be written: the last records are lost");
        }
    }

    /// # Errors
    /// When the process ends while the log cannot be written.
    fn write_queue(&mut self, mut queue: Receiver<Queued>) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut lines = String::new();
        let mut readers = Vec::new();
        loop {
            let is_closed = queue.blocking_recv_many(&mut batch, BATCH_MAX) == 0;
            let are_all = batch.len() < BATCH_MAX;
            let counted = self.refusals.take(is_closed);
            batch.extend(counted.iter().map(|event| Queued::Entry(event.entry())));
            if batch.is_empty() {
                return Ok(());
            }
            lines.clear();
            self.begin_turn(&queue);
            self.record_change(&mut lines);
            for queued in batch.drain(..) {
                let entry = match queued {
                    Queued::Entry(entry) => entry,
                    Queued::Reader(reader) => {
                        readers.push(reader);
                        continue;
                    }
                };
                let before = lines.len();
                self.head.append(&entry, &mut lines);
                if self.is_full_with(lines.len()) {
                    self.write(&lines.as_bytes()[..before], &queue)?;
                    lines.drain(..before);
                    self.begin_another_file();
                }
            }
            self.write(lines.as_bytes(), &queue)?;
            self.end_turn();
            let last = self.head.seq;
            // Readers alone write nothing.
            if let Some(syncer) = &self.syncer
                && self.written.send_if_modified(|written| std::mem::replace(written, last) != last)
            {
                syncer.written(&self.file);
            }
            for reader in readers.drain(..) {
                // One that is gone waits no more.
                let _ = reader.send(());
            }
            if are_all {
                // A full or closed queue ends the wait.
                std::thread::park_timeout(GATHER);
            }
        }
    }

    /// Locks the log until [`AuditSink::end_turn`], and continues at its end. There are two writers while one process
    /// hands the listeners over to another.
    fn begin_turn(&mut self, queue: &Receiver<Queued>) {
        if self.syncer.is_none() {
            return;
        }
        self.lock(&self.file);
        if let Err(error) = self.catch_up(queue) {
            tracing::error!(%error, path = %self.trail.active().display(),
                "the end of the audit log cannot be read: the next record may not continue the hash chain");
        }
    }

    fn lock(&self, file: &File) {
        // A file system without locks is safe only with one writer.
        if let Err(error) = file.lock() {
            tracing::warn!(%error, "the audit log cannot be locked");
        }
    }

    fn end_turn(&self) {
        if self.syncer.is_some()
            && let Err(error) = self.file.unlock()
        {
            tracing::warn!(%error, "the audit log cannot be unlocked");
        }
    }

    /// Continues after the records that another process wrote since the last turn, in the file that is at the log's
    /// path now: another process may have rotated the log, or a person may have moved, replaced or deleted its file.
    fn catch_up(&mut self, queue: &Receiver<Queued>) -> Result<(), ChainError> {
        while !self.trail.is_active(&self.file)? {
            let before = self.follow();
            let written = self.head.seq;
            if !self.go_to_active(queue) {
                return before;
            }
            let after = self.follow();
            if self.head.seq == written && written > 0 {
                self.note_change("its file was moved, replaced or deleted");
            }
            before.and(after)?;
        }
        self.follow()
    }

    /// Switches to the file at the log's path, and creates it if it does not exist. Retries until it can be opened;
    /// meanwhile no exchange begins. Returns false if the queue is closed first: then the last records go into the old
    /// file, so that the process can end.
    fn go_to_active(&mut self, queue: &Receiver<Queued>) -> bool {
        if let Err(error) = self.file.sync_data() {
            tracing::warn!(%error, "the end of a file that was the audit log may be lost");
        }
        self.end_turn();
        let file = loop {
            match self.opened_active() {
                Ok(file) => break file,
                Err(error) if queue.is_closed() => {
                    tracing::error!(%error, "the audit log ends in a file that is not at its path any more");
                    self.lock(&self.file);
                    return false;
                }
                Err(error) => {
                    self.empty_deleted();
                    self.wait_after(&error);
                }
            }
        };
        self.lock(&file);
        (self.file, self.bytes, self.first) = (Arc::new(file), 0, self.head.seq + 1);
        true
    }

    fn opened_active(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // Links are not followed: the path was resolved at the start, so a link at it now may be of another user.
        let options = options.read(true).append(true);
        let no_link = OFlags::NOFOLLOW.bits().cast_signed();
        let file = options.custom_flags(no_link).open(self.trail.active());
        let file = match found(file)? {
            Some(file) => file,
            None => create_again(&self.trail, &self.file)?,
        };
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// Continues after records that were added to the file since the last turn.
    fn follow(&mut self) -> Result<(), ChainError> {
        match self.file.metadata()?.len() == self.bytes {
            true => Ok(()),
            false => self.follow_change(),
        }
    }

    /// Continues in a file that was changed since the last turn. If records at its end were removed or altered, the
    /// chain continues from the last record that was written: no number is used twice, and verification finds the
    /// change.
    fn follow_change(&mut self) -> Result<(), ChainError> {
        let FileEnd { head, bytes } = chain::resume(&self.file)?;
        self.first = first_number(&self.file)?.unwrap_or(self.head.seq + 1);
        if head.seq > self.head.seq {
            self.head = head;
        } else if self.bytes > 0 && head != self.head {
            self.note_change("records at its end were removed or altered");
        }
        self.bytes = bytes;
        Ok(())
    }

    fn note_change(&mut self, what: &str) {
        let written = self.head.seq;
        self.health.changes.fetch_add(1, Ordering::Relaxed);
        self.change = Some(format!("after record {written}: {what}"));
        tracing::error!(id = "audit_log_changed", path = %self.trail.active().display(), written,
            "the audit log was changed, {what}: it continues with the next number; `keyward audit verify` shows which \
             records are missing");
    }

    /// Records a change of the log itself before the next records. In a new file, it shows verification that earlier
    /// records are missing.
    fn record_change(&mut self, lines: &mut String) {
        if let Some(why) = self.change.take() {
            let org = OrgId::default_org();
            let event = Change::of_log(why).event(Clock::System.now(), &org, Outcome::Completed);
            self.head.append(&event.entry(), lines);
        }
    }

    /// Writes all lines, and retries as long as the disk is full. Meanwhile no exchange begins. What is written is
    /// printed. Once the queue is closed, the retries have a limit, so that the process can end.
    ///
    /// # Errors
    /// When the limit is reached. Nothing may be written after that, because it would not continue the hash chain.
    fn write(&mut self, mut lines: &[u8], queue: &Receiver<Queued>) -> io::Result<()> {
        let mut closed = None;
        let all = lines;
        while !lines.is_empty() {
            let result = (&*self.file).write(lines);
            match result {
                Ok(written) => {
                    self.bytes += written as u64;
                    lines = &lines[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let since = queue.is_closed().then(|| *closed.get_or_insert_with(Instant::now));
                    if since.is_some_and(|since| since.elapsed() >= LAST_RETRIES) {
                        return Err(error);
                    }
                    if self.empty_deleted() {
                        lines = all;
                    }
                    self.wait_after(&error);
                }
            }
        }
        if self.health.unwritten.swap(false, Ordering::Relaxed) {
            let path = self.trail.active().display();
            tracing::warn!(id = "audit_restored", %path, "the audit log can be written again");
        }
        if let Some(printer) = self.printer.as_ref().filter(|_| !all.is_empty()) {
            printer.print(all);
        }
        Ok(())
    }

    /// Empties a file that was deleted, such as to free space on a full disk: else its space would be free only after
    /// it is closed. The next turn switches to a new file and records the deletion. Returns false if the file was not
    /// deleted.
    fn empty_deleted(&mut self) -> bool {
        let has_no_name = self.file.metadata().is_ok_and(|it| it.is_file() && it.nlink() == 0);
        // Some file systems do not report the number of links.
        let is_elsewhere = self.trail.is_active(&self.file).is_ok_and(|is_active| !is_active);
        let is_deleted = has_no_name && is_elsewhere;
        if !is_deleted || self.file.set_len(0).is_err() {
            return false;
        }
        self.bytes = 0;
        true
    }

    fn wait_after(&self, error: &io::Error) {
        if !self.health.unwritten.swap(true, Ordering::Relaxed) {
            tracing::error!(id = "audit_unavailable", %error, path = %self.trail.active().display(),
                "the audit log cannot be written: requests are refused until it can");
        }
        std::thread::sleep(RETRY_AFTER);
    }

    fn is_full_with(&self, more: usize) -> bool {
        let is_file = self.syncer.is_some();
        let has_records = self.head.seq > self.first;
        is_file && has_records && self.bytes + more as u64 > self.rotation.file_bytes_max
    }

    /// Rotates the file. If that fails, the file stays in use: an oversized file is better than a lost record. If the
    /// file is no longer at the log's path, the next turn switches to a new one and records that.
    fn begin_another_file(&mut self) {
        if Instant::now() < self.rotate_at || !self.trail.is_active(&self.file).unwrap_or(true) {
            return;
        }
        match self.another_file() {
            Ok(file) => {
                self.lock(&file);
                self.end_turn();
                self.file = Arc::new(file);
                self.bytes = 0;
                self.first = self.head.seq;
                self.remove_oldest_files();
            }
            Err(error) => {
                self.rotate_at = Instant::now() + ROTATE_AGAIN_AFTER;
                tracing::error!(%error, path = %self.trail.active().display(),
                    "the audit log grows beyond `audit.file_bytes_max`: no new file can be begun");
            }
        }
    }

    /// Syncs the old file before renaming it, so that only the last file can have an incomplete line.
    fn another_file(&self) -> io::Result<File> {
        self.file.sync_data()?;
        let (active, full) = (self.trail.active(), self.trail.full_path(self.first));
        if full.exists() {
            let named = format!("{} exists already", full.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, named));
        }
        fs::rename(active, &full)?;
        let file = create(&self.trail).inspect_err(|_| {
            // If this fails, the file can still be written under its new name.
            let _ = fs::rename(&full, active);
        })?;
        let old = self.file.metadata()?;
        if old.uid() != file.metadata()?.uid() {
            // Root gives the new file to the same owner.
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())?;
        self.trail.sync_folder()?;
        Ok(file)
    }

    fn remove_oldest_files(&self) {
        let full = match self.trail.full() {
            Ok(full) => full,
            Err(error) => return tracing::warn!(%error, "the audit log's files cannot be listed"),
        };
        let surplus = (full.len() + 1).saturating_sub(self.rotation.files_max);
        for oldest in &full[..surplus.min(full.len())] {
            let path = oldest.path.display();
            match fs::remove_file(&oldest.path) {
                Ok(()) => tracing::info!(%path, "the oldest audit file is gone: `audit.files_max`"),
                Err(error) => tracing::warn!(%error, %path, "an old audit file cannot be removed"),
            }
        }
    }
}

/// The end of `file` with the head of the chain, and the number of the first record in `file`, or of the next record.
fn continued(trail: &Trail, file: &File) -> Result<(FileEnd, u64), AuditError> {
    let failed = |source| AuditError::Open { path: trail.active().to_owned(), source };
    let broken = |path: &Path, source| AuditError::Chain { path: path.to_owned(), source };
    let end = chain::end_of(file).map_err(|source| broken(trail.active(), source))?;
    if end.head != ChainHead::default() {
        let first = first_number(file).map_err(failed)?.unwrap_or(end.head.seq);
        return Ok((end, first));
    }
    for full in trail.full().map_err(failed)?.iter().rev() {
        let opened = File::open(&full.path);
        let opened = opened.map_err(|source| AuditError::Open { path: full.path.clone(), source });
        let of_full = chain::end_of(&opened?).map_err(|source| broken(&full.path, source))?;
        if of_full.head != ChainHead::default() {
            let next = of_full.head.seq + 1;
            return Ok((FileEnd { head: of_full.head, bytes: end.bytes }, next));
        }
    }
    Ok((end, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::samples;

    /// Else the new file would begin without the record of that change.
    #[test]
    fn rotation_begins_no_new_file_in_place_of_a_deleted_one() {
        let (_folder, trail) = samples::empty();
        let (active, health) = (trail.active().to_owned(), LogHealth::default());
        let mut sink = AuditSink::open(trail, Rotation::default(), None, health).unwrap();
        fs::remove_file(&active).unwrap();
        sink.begin_another_file();
        assert!(!active.exists());
    }

    #[test]
    fn only_a_deleted_file_is_emptied() {
        let (folder, trail) = samples::empty();
        let (active, health) = (trail.active().to_owned(), LogHealth::default());
        let mut sink = AuditSink::open(trail, Rotation::default(), None, health).unwrap();
        let (_sender, queue) = tokio::sync::mpsc::channel(1);
        sink.write(b"line\n", &queue).unwrap();
        assert!(!sink.empty_deleted());
        let moved = folder.path().join("moved");
        fs::rename(&active, &moved).unwrap();
        assert!(!sink.empty_deleted());
        assert_eq!(fs::read(&moved).unwrap(), b"line\n");
        fs::remove_file(&moved).unwrap();
        assert!(sink.empty_deleted());
        assert_eq!(sink.file.metadata().unwrap().len(), 0);
    }
}
