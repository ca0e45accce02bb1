//! [`Audit`]: a bounded queue of events for the audit log's writer thread (`sink.rs`). An exchange reserves its
//! slot before it begins, so that its event can always be sent, also from `Drop`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::mpsc::{self, OwnedPermit, Sender};
use tokio::sync::{oneshot, watch};

use super::event::{AuditEntry, Event};
use super::printer::RecordPrinter;
use super::refusals::RefusalRecords;
pub use super::sink::AuditError;
use super::sink::{AuditSink, LogHealth, Queued};
use super::trail::{Rotation, Trail};

/// A handle to the audit log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: Sender<Queued>,
    /// The thread of the writer, which is woken for a batch; otherwise it writes queued events after a short delay.
    writer: Thread,
    health: LogHealth,
    written: watch::Receiver<u64>,
    pub(super) refusals: Arc<RefusalRecords>,
}

/// A reserved place in the queue. The holder must send: every exchange leaves one event, or is counted in one.
#[derive(Debug)]
pub struct AuditSlot(OwnedPermit<Queued>);

/// How long a reader waits for entries that are not written yet.
const READER_WAITS: Duration = Duration::from_secs(1);

/// The log cannot accept events: the disk is full or missing, or the gateway is stopping.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the audit log cannot be written; no request is served without its record")]
pub struct AuditUnavailable;

/// The running writer. It ends when every [`Audit`] and [`AuditSlot`] is dropped.
#[derive(Debug)]
pub struct AuditWriter {
    thread: JoinHandle<()>,
}

impl Audit {
    /// Opens the log (creating files with mode 0600), continues its chain, and starts the writer. `queue`: how
    /// many events may wait; `stdout`: also print the records, as far as they are read.
    ///
    /// # Errors
    /// When a file cannot be opened or does not end with a record.
    pub fn open(
        trail: Trail,
        rotation: Rotation,
        queue: usize,
        stdout: bool,
    ) -> Result<(Self, AuditWriter), AuditError> {
        let printer = stdout.then(|| RecordPrinter::start(io::stdout())).transpose();
        Self::printing(trail, rotation, queue, printer.map_err(AuditError::Thread)?)
    }

    /// [`Audit::open`], with the printer of the records.
    pub(super) fn printing(
        trail: Trail,
        rotation: Rotation,
        queue: usize,
        printer: Option<RecordPrinter>,
    ) -> Result<(Self, AuditWriter), AuditError> {
        let health = LogHealth::default();
        let sink = AuditSink::open(trail, rotation, printer, health.clone())?;
        let refusals = sink.refusals.clone();
        let written = sink.written();
        let (sender, receiver) = mpsc::channel(queue);
        let thread = std::thread::Builder::new()
            .name("keyward-audit".into())
            .spawn(move || sink.run(receiver))
            .map_err(AuditError::Thread)?;
        let writer = thread.thread().clone();
        let audit = Self { queue: sender, writer, health, written, refusals };
        Ok((audit, AuditWriter { thread }))
    }

    /// Watches the number of the last readable record; 0 for something that is not a regular file.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.clone()
    }

    /// Waits until the records that were sent before can be read, so that a reader finds what it has just changed: at
    /// most a second, and not while the log cannot be written.
    pub async fn wait_until_readable(&self) {
        if self.is_failing() {
            return;
        }
        let written = async {
            let slot = self.queue.clone().reserve_owned().await.ok()?;
            let (reader, written) = oneshot::channel();
            slot.send(Queued::Reader(reader));
            self.writer.unpark();
            written.await.ok()
        };
        let _ = tokio::time::timeout(READER_WAITS, written).await;
    }

    /// Whether the log cannot be written.
    pub fn is_failing(&self) -> bool {
        self.health.is_failing()
    }

    /// How often the log was found moved, replaced, deleted or altered since it was opened.
    pub fn changes(&self) -> u64 {
        self.health.changes.load(Ordering::Relaxed)
    }

    /// Reserves a place in the queue; waits while it is full.
    ///
    /// # Errors
    /// While the log cannot be written.
    pub async fn reserve(&self) -> Result<AuditSlot, AuditUnavailable> {
        if self.is_failing() {
            return Err(AuditUnavailable);
        }
        match self.queue.clone().try_reserve_owned() {
            Ok(permit) => Ok(AuditSlot(permit)),
            Err(_) => {
                self.writer.unpark();
                self.queue
                    .clone()
                    .reserve_owned()
                    .await
                    .map(AuditSlot)
                    .map_err(|_| AuditUnavailable)
            }
        }
    }

    /// Passes a refusal to the writer without waiting. Beyond `max` a minute, the refusals of one agent or hook are counted in
    /// one record for each code, which is written when the minute ends.
    pub fn send_refusal<S: AsRef<str>>(&self, slot: AuditSlot, event: &Event<S>, max: u32) {
        if self.refusals.may_record(event, max) {
            slot.send(event.entry());
        }
    }

    /// Wakes the writer if refusals are counted: it writes them when their minute has ended. A full queue needs no waking.
    pub fn write_counted_refusals(&self) {
        if !self.refusals.are_none() {
            let _ = self.queue.try_send(Queued::Reader(oneshot::channel().0));
        }
    }

    /// Reserves a place for a record of a change that has already happened. Succeeds also while the log cannot be
    /// written, as long as the queue has room.
    ///
    /// # Errors
    /// While the log cannot be written and the queue is full.
    pub async fn reserve_for_past(&self) -> Result<AuditSlot, AuditUnavailable> {
        match self.queue.clone().try_reserve_owned() {
            Ok(permit) => Ok(AuditSlot(permit)),
            Err(_) => self.reserve().await,
        }
    }
}

impl AuditSlot {
    /// Passes the event to the writer without waiting.
    pub fn send(self, entry: AuditEntry) {
        self.0.send(Queued::Entry(entry));
    }
}

impl AuditWriter {
    /// Waits until all sent events are written, or for some seconds while the log cannot be written. Call it after the
    /// last [`Audit`] is dropped.
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
    use crate::observe::change_log::ChangeRecorder;
    use crate::observe::tests::samples;

    /// An audit log whose queue has no writer.
    fn unserved(room: usize) -> (Audit, mpsc::Receiver<Queued>) {
        let (queue, receiver) = mpsc::channel(room);
        let (_, written) = watch::channel(0);
        let audit = Audit {
            queue,
            writer: std::thread::current(),
            health: LogHealth::default(),
            written,
            refusals: Arc::default(),
        };
        (audit, receiver)
    }

    #[tokio::test]
    async fn every_sent_event_is_in_the_file_when_the_writer_ends() {
        let (_folder, trail) = samples::empty();
        for round in 1..=2u64 {
            samples::write(&trail, Rotation::default(), 100).await;
            let verified = trail.verify(|| true).unwrap();
            assert_eq!((verified.records, verified.broken), (100 * round, None));
        }
    }

    #[tokio::test]
    async fn a_reader_finds_every_event_that_was_sent_before_its_wait() {
        let (_folder, trail) = samples::empty();
        let (audit, writer) = Audit::open(trail.clone(), Rotation::default(), 64, false).unwrap();
        for n in 0..200 {
            audit.reserve().await.unwrap().send(samples::event(n).entry());
            audit.wait_until_readable().await;
            assert_eq!(trail.verify(|| true).unwrap().records, n + 1);
        }
        drop(audit);
        writer.finish();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_does_not_wait_for_a_log_that_cannot_be_written() {
        let (audit, _queue) = unserved(1);
        let began = tokio::time::Instant::now();
        audit.wait_until_readable().await;
        assert_eq!(began.elapsed(), READER_WAITS);
        audit.health.unwritten.store(true, Ordering::Relaxed);
        audit.wait_until_readable().await;
        assert_eq!(began.elapsed(), READER_WAITS, "a failing log is read at once");
    }

    #[tokio::test]
    async fn a_full_disk_refuses_new_exchanges() {
        // It fails every write with ENOSPC.
        let trail = Trail::at(Path::new("/dev/full"));
        let (audit, writer) = Audit::open(trail, Rotation::default(), 8, false).unwrap();
        // The thread is leaked, because it keeps its event as long as the disk is full.
        drop(writer);
        audit.reserve().await.unwrap().send(samples::event(0).entry());
        while audit.reserve().await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(audit.reserve().await.unwrap_err(), AuditUnavailable);
    }

    #[tokio::test]
    async fn a_writer_that_stops_on_a_full_disk_ends() {
        let trail = Trail::at(Path::new("/dev/full"));
        let (audit, writer) = Audit::open(trail, Rotation::default(), 1_024, false).unwrap();
        // More than one batch.
        for n in 0..1_000 {
            audit.reserve_for_past().await.unwrap().send(samples::event(n).entry());
        }
        drop(audit);
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            writer.finish();
            ended.send(())
        });
        end.recv_timeout(Duration::from_secs(60)).expect("the writer ends");
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_synced_refuses_new_exchanges() {
        let (audit, _queue) = unserved(8);
        assert!(audit.reserve().await.is_ok());
        audit.health.unsynced.store(true, Ordering::Relaxed);
        assert_eq!(audit.reserve().await.unwrap_err(), AuditUnavailable);
    }

    #[tokio::test]
    async fn records_of_past_changes_are_queued_while_the_log_cannot_be_written() {
        let (audit, mut queue) = unserved(2);
        audit.health.unsynced.store(true, Ordering::Relaxed);
        let changes = ChangeRecorder::to(audit);
        for n in 0..3 {
            changes.record(samples::event(n)).await;
        }
        assert!(changes.reserve().await.is_err(), "nothing new begins");
        assert_eq!([queue.try_recv().is_ok(), queue.try_recv().is_ok()], [true, true]);
        assert!(queue.try_recv().is_err(), "the queue had room for two");
    }

    #[tokio::test]
    async fn a_log_that_is_no_regular_file_is_written() {
        let trail = Trail::at(Path::new("/dev/null"));
        samples::write(&trail, Rotation { file_bytes_max: 1, files_max: 2 }, 10).await;
    }
}
