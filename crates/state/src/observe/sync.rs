//! [`Syncer`]: syncs written data to disk once a second, on its own thread, so that neither requests nor the
//! writer wait for the disk.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The interval of syncs, which is the maximum loss in a power failure.
const EVERY: Duration = Duration::from_secs(1);

/// The running thread. It ends when dropped, after a last sync.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<SyncShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct SyncShared {
    state: Mutex<SyncState>,
    wake: Condvar,
    failing: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct SyncState {
    /// Written since the last sync.
    dirty: Option<Arc<File>>,
    ended: bool,
}

impl Syncer {
    /// Starts the thread. `failing` is true while syncing fails.
    pub(super) fn start(failing: Arc<AtomicBool>) -> std::io::Result<Self> {
        let (state, wake) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(SyncShared { state, wake, failing });
        let own = shared.clone();
        let thread = std::thread::Builder::new().name("keyward-sync".into());
        let thread = thread.spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Schedules a sync of `file` after a write. An earlier file must have been synced.
    pub(super) fn written(&self, file: &Arc<File>) {
        let mut state = self.shared.state.lock();
        if state.dirty.is_none() {
            self.shared.wake.notify_one();
        }
        state.dirty = Some(file.clone());
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.wake.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that syncs the audit log panicked");
        }
    }
}

impl SyncShared {
    fn run(&self) {
        while let Some(file) = self.next() {
            let done = self.sync(&file);
            let mut state = self.state.lock();
            if !done && !state.ended && state.dirty.is_none() {
                state.dirty = Some(file);
            }
            self.wake.wait_while_for(&mut state, |state| !state.ended, EVERY);
        }
    }

    /// Waits for a write; `None` at the end.
    fn next(&self) -> Option<Arc<File>> {
        let mut state = self.state.lock();
        self.wake.wait_while(&mut state, |state| state.dirty.is_none() && !state.ended);
        state.dirty.take()
    }

    fn sync(&self, file: &File) -> bool {
        let result = file.sync_data();
        let failed_before = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !failed_before => tracing::error!(
                id = "audit_unavailable", %error,
                "the audit log cannot be synced to disk, and its last second may be lost: \
                         requests are refused until it can"
            ),
            Ok(()) if failed_before => {
                tracing::warn!(id = "audit_restored", "the audit log is synced to disk again");
            }
            _ => {}
        }
        !self.failing.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file for which `fdatasync` fails with EINVAL.
    fn that_cannot_be_synced() -> Arc<File> {
        Arc::new(File::options().write(true).open("/dev/null").unwrap())
    }

    #[test]
    fn a_failing_sync_is_reported_until_it_succeeds() {
        let failing = Arc::new(AtomicBool::new(false));
        let syncer = Syncer::start(failing.clone()).unwrap();
        syncer.written(&that_cannot_be_synced());
        while !failing.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        syncer.written(&Arc::new(tempfile::tempfile().unwrap()));
        while failing.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn dropping_the_syncer_waits_for_the_sync_of_the_last_write() {
        let failing = Arc::new(AtomicBool::new(false));
        let syncer = Syncer::start(failing.clone()).unwrap();
        syncer.written(&that_cannot_be_synced());
        drop(syncer);
        assert!(failing.load(Ordering::Relaxed), "it was tried");
    }
}
