//! The audit log's writer: a thread behind a bounded queue. An exchange reserves its slot before
//! it begins, so that its event can always be sent, also from `Drop`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit, Receiver, Sender};

use super::chain::{self, ChainError, Head};
use super::event::Event;

/// Events taken from the queue for one write.
const BATCH_MAX: usize = 512;

/// How long the writer waits before it tries a failed write again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Where events go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: Sender<Event>,
    failing: Arc<AtomicBool>,
}

/// A place in the queue. Not sending is a bug of the holder: every exchange leaves one event.
#[derive(Debug)]
pub struct Slot(OwnedPermit<Event>);

/// The log cannot take events now: the disk is full or gone, or the gateway is stopping.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the audit log cannot be written; no request is served without its record")]
pub struct AuditUnavailable;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file itself.
    #[error("cannot open the audit log {path}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// What stands in it.
    #[error("the audit log {path} cannot be continued; move it away and start again")]
    Chain {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        source: ChainError,
    },
    /// No thread.
    #[error("cannot start the audit writer")]
    Thread(#[source] io::Error),
}

/// The running writer. Ends when every [`Audit`] and [`Slot`] is gone.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

struct Sink {
    file: File,
    path: PathBuf,
    stdout: bool,
    head: Head,
    failing: Arc<AtomicBool>,
}

impl Audit {
    /// Opens the log at `path` (made with mode 0600), continues its chain, and starts the writer.
    /// `queue` events may wait; `stdout` repeats each record there.
    ///
    /// # Errors
    /// When the file cannot be opened or does not end in a record.
    pub fn open(path: &Path, queue: usize, stdout: bool) -> Result<(Self, Writer), AuditError> {
        let open = |source| AuditError::Open { path: path.into(), source };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(path).map_err(open)?;
        let head = chain::resume(&mut file)
            .map_err(|source| AuditError::Chain { path: path.into(), source })?;
        let (sender, receiver) = mpsc::channel(queue);
        let failing = Arc::new(AtomicBool::new(false));
        let sink = Sink { file, path: path.into(), stdout, head, failing: failing.clone() };
        let thread = std::thread::Builder::new()
            .name("keyward-audit".into())
            .spawn(move || sink.run(receiver))
            .map_err(AuditError::Thread)?;
        Ok((Self { queue: sender, failing }, Writer { thread }))
    }

    /// Takes a place in the queue; waits while it is full.
    ///
    /// # Errors
    /// While the log cannot be written.
    pub async fn reserve(&self) -> Result<Slot, AuditUnavailable> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(AuditUnavailable);
        }
        match self.queue.clone().try_reserve_owned() {
            Ok(permit) => Ok(Slot(permit)),
            Err(_) => {
                self.queue.clone().reserve_owned().await.map(Slot).map_err(|_| AuditUnavailable)
            }
        }
    }
}

impl Slot {
    /// Hands the event to the writer. Never waits.
    pub fn send(self, event: Event) {
        self.0.send(event);
    }
}

impl Writer {
    /// Waits until every event sent has been written. Call after the last [`Audit`] is dropped.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the audit writer panicked");
        }
    }
}

impl Sink {
    fn run(mut self, mut queue: Receiver<Event>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let lines: String = batch.iter_mut().map(|event| self.head.append(event)).collect();
            batch.clear();
            self.write(lines.as_bytes());
        }
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "the audit log could not be flushed to disk");
        }
    }

    /// Writes the lines whole, however long the disk is full. Meanwhile no exchange begins.
    fn write(&mut self, mut lines: &[u8]) {
        if self.stdout {
            // Standard output is a convenience: the file is the log.
            let _ = io::stdout().lock().write_all(lines);
        }
        while !lines.is_empty() {
            match self.file.write(lines) {
                Ok(written) => lines = &lines[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.wait_after(&error),
            }
        }
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::warn!(path = %self.path.display(), "the audit log can be written again");
        }
    }

    fn wait_after(&self, error: &io::Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, path = %self.path.display(),
                "the audit log cannot be written: requests are refused until it can");
        }
        std::thread::sleep(RETRY_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn every_sent_event_is_in_the_file_when_the_writer_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        for round in 1..=2u64 {
            let (audit, writer) = Audit::open(&path, 8, false).unwrap();
            for n in 0..100 {
                let slot = audit.reserve().await.unwrap();
                slot.send(Event::begun(Timestamp::UNIX_EPOCH, format!("exc_{n}")));
            }
            drop(audit);
            writer.finish();
            let head = chain::verify(BufReader::new(File::open(&path).unwrap())).unwrap();
            assert_eq!(head.seq, 100 * round);
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_new_exchanges() {
        // `/dev/full` fails every write with ENOSPC and reads as an endless file of zeros, so the
        // sink is built by hand.
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (queue, receiver) = mpsc::channel(8);
        let failing = Arc::new(AtomicBool::new(false));
        let audit = Audit { queue, failing: failing.clone() };
        let sink =
            Sink { file, path: "full".into(), stdout: false, head: Head::default(), failing };
        // Its thread is left behind: it holds its event for as long as the disk stays full.
        std::thread::spawn(move || sink.run(receiver));
        let slot = audit.reserve().await.unwrap();
        slot.send(Event::begun(Timestamp::UNIX_EPOCH, "exc_0".into()));
        while audit.reserve().await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(audit.reserve().await.unwrap_err(), AuditUnavailable);
    }
}
