//! [`RecordPrinter`]: prints copies of the records, on its own thread, so that a reader of standard output that stalls
//! holds up neither the log nor the end of the process. The file is the log: what cannot be printed is only there.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The records that wait for the reader. Those that exceed this are not printed.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// How long the end waits for the reader.
const END_WAIT: Duration = Duration::from_secs(1);

/// The running thread. It ends after this is dropped, once the reader takes what it prints.
#[derive(Debug)]
pub(super) struct RecordPrinter(Arc<PrinterShared>);

#[derive(Debug, Default)]
struct PrinterShared {
    state: Mutex<PrinterState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PrinterState {
    /// Complete lines.
    waiting: Vec<u8>,
    /// Whether the thread is printing lines that it has taken.
    is_printing: bool,
    /// Records that were not printed since the reader fell behind.
    skipped: usize,
    ended: bool,
}

impl RecordPrinter {
    /// Starts the thread.
    pub(super) fn start(output: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(PrinterShared::default());
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("keyward-print".into());
        // A write to a reader that stalls never ends, so the thread is not joined.
        drop(thread.spawn(move || own.run(output))?);
        Ok(Self(shared))
    }

    /// Prints complete lines, unless too many wait for the reader. Does not block.
    pub(super) fn print(&self, lines: &[u8]) {
        let mut state = self.0.state.lock();
        let bytes = state.waiting.len() + lines.len();
        if bytes > WAITING_BYTES_MAX && !state.waiting.is_empty() {
            let was_behind = state.skipped > 0;
            state.skipped += count(lines);
            drop(state);
            if !was_behind {
                tracing::warn!(
                    id = "audit_not_printed",
                    "standard output is not read fast enough: records are only in the audit log's file"
                );
            }
            return;
        }
        state.waiting.extend_from_slice(lines);
        self.0.changed.notify_all();
    }
}

impl Drop for RecordPrinter {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        self.0.changed.notify_all();
        let is_busy = |state: &mut PrinterState| state.is_printing || !state.waiting.is_empty();
        if self.0.changed.wait_while_for(&mut state, is_busy, END_WAIT).timed_out() {
            tracing::warn!(
                id = "audit_not_printed",
                "standard output is not read: the last records are only in the audit log's file"
            );
        }
    }
}

impl PrinterShared {
    fn run(&self, mut output: impl Write) {
        let mut lines = Vec::new();
        while self.take(&mut lines) {
            // Errors of standard output are ignored, because the file is the log.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            lines.clear();
        }
    }

    /// Waits for lines, and takes them in place of those that were printed; false at the end.
    fn take(&self, printed: &mut Vec<u8>) -> bool {
        let mut state = self.state.lock();
        state.is_printing = false;
        self.changed.notify_all();
        let is_idle = |state: &mut PrinterState| state.waiting.is_empty() && !state.ended;
        self.changed.wait_while(&mut state, is_idle);
        std::mem::swap(printed, &mut state.waiting);
        state.is_printing = !printed.is_empty();
        let skipped = std::mem::take(&mut state.skipped);
        let has_lines = state.is_printing;
        drop(state);
        if skipped > 0 {
            tracing::warn!(
                id = "audit_printed_again",
                skipped,
                "standard output is read again: the skipped records are only in the audit log's file"
            );
        }
        has_lines
    }
}

/// The number of records in complete lines.
fn count(lines: &[u8]) -> usize {
    lines.iter().filter(|byte| **byte == b'\n').count()
}
