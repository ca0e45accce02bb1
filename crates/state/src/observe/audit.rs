//! The way into the audit log: a bounded queue before the writer's thread (`sink.rs`). An exchange
//! reserves its slot before it begins, so that its event can always be sent, also from `Drop`.

use std::io;
use std::path::PathBuf;
use std::thread::{JoinHandle, Thread};

use tokio::sync::mpsc::{self, OwnedPermit, Sender};
use tokio::sync::watch;

use super::chain::ChainError;
use super::event::Entry;
use super::sink::{Health, Sink};
use super::trail::{Rotation, Trail};

/// Where events go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: Sender<Entry>,
    /// Writes what has come by now when it is woken, and else a little later.
    writer: Thread,
    health: Health,
    written: watch::Receiver<u64>,
}

/// A place in the queue. Not sending is a bug of the holder: every exchange leaves one event.
#[derive(Debug)]
pub struct Slot(OwnedPermit<Entry>);

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
    /// Its folder.
    #[error("cannot make the audit log's folder: {0}")]
    Folder(String),
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

impl Audit {
    /// Opens the log (its files are made with mode 0600), continues its chain, and starts the
    /// writer. `queue` events may wait; `stdout` repeats each record there.
    ///
    /// # Errors
    /// When a file cannot be opened or does not end in a record.
    pub fn open(
        trail: Trail,
        rotation: Rotation,
        queue: usize,
        stdout: bool,
    ) -> Result<(Self, Writer), AuditError> {
        let health = Health::default();
        let sink = Sink::open(trail, rotation, stdout, health.clone())?;
        let written = sink.written();
        let (sender, receiver) = mpsc::channel(queue);
        let thread = std::thread::Builder::new()
            .name("keyward-audit".into())
            .spawn(move || sink.run(receiver))
            .map_err(AuditError::Thread)?;
        let writer = thread.thread().clone();
        Ok((Self { queue: sender, writer, health, written }, Writer { thread }))
    }

    /// Tells the number of the last record that can be read, each time there are more.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Takes a place in the queue; waits while it is full.
    ///
    /// # Errors
    /// While the log cannot be written.
    pub async fn reserve(&self) -> Result<Slot, AuditUnavailable> {
        if self.health.is_failing() {
            return Err(AuditUnavailable);
        }
        match self.queue.clone().try_reserve_owned() {
            Ok(permit) => Ok(Slot(permit)),
            Err(_) => {
                self.writer.unpark();
                self.queue.clone().reserve_owned().await.map(Slot).map_err(|_| AuditUnavailable)
            }
        }
    }
}

impl Slot {
    /// Hands the event to the writer. Never waits.
    pub fn send(self, entry: Entry) {
        self.0.send(entry);
    }
}

impl Writer {
    /// Waits until every event sent has been written. Call after the last [`Audit`] is dropped.
    pub fn finish(self) {
        self.thread.thread().unpark();
        if self.thread.join().is_err() {
            tracing::error!("the audit writer panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::observe::samples;

    #[tokio::test]
    async fn every_sent_event_is_in_the_file_when_the_writer_ends() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Trail::at(&folder.path().join("audit.jsonl"));
        for round in 1..=2u64 {
            samples::write(&trail, Rotation::default(), 100).await;
            let verified = trail.verify(|| true).unwrap();
            assert_eq!((verified.records, verified.broken), (100 * round, None));
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_new_exchanges() {
        // It fails every write with ENOSPC.
        let trail = Trail::at(Path::new("/dev/full"));
        let (audit, writer) = Audit::open(trail, Rotation::default(), 8, false).unwrap();
        // Its thread is left behind: it holds its event for as long as the disk stays full.
        drop(writer);
        audit.reserve().await.unwrap().send(samples::event(0).entry());
        while audit.reserve().await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(audit.reserve().await.unwrap_err(), AuditUnavailable);
    }

    #[tokio::test]
    async fn a_disk_that_keeps_nothing_refuses_new_exchanges() {
        let health = Health::default();
        let (queue, _receiver) = mpsc::channel(8);
        let (_sender, written) = watch::channel(0);
        let writer = std::thread::current();
        let audit = Audit { queue, writer, health: health.clone(), written };
        assert!(audit.reserve().await.is_ok());
        health.unsynced.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(audit.reserve().await.unwrap_err(), AuditUnavailable);
    }

    #[tokio::test]
    async fn what_is_no_file_is_written_all_the_same() {
        let trail = Trail::at(Path::new("/dev/null"));
        samples::write(&trail, Rotation { file_bytes_max: 1, files_max: 2 }, 10).await;
    }
}
