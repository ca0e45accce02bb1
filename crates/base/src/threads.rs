//! [`Threads`]: a small thread pool for blocking calls. Tokio's own pool grows to 512 threads per runtime and
//! wakes them in turn, so that after a burst all of them stay while there is some work.

use std::fmt;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// How long an idle thread is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool of at most `max` threads, started on demand. Further work is queued.
pub struct Threads {
    /// Never driven: only its blocking threads are used. `None` while `self` is dropped.
    runtime: Option<Runtime>,
}

/// The work panicked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the work on a blocking thread did not end")]
pub struct WorkPanicked;

impl Threads {
    /// A pool of at most `max` threads with this name, of which Linux shows 15 bytes.
    pub fn new(name: &str, max: usize) -> Self {
        let runtime = Builder::new_current_thread()
            .thread_name(name)
            .max_blocking_threads(max)
            .thread_keep_alive(IDLE_TIMEOUT)
            .build()
            .expect("without IO and time, a runtime asks nothing of the system");
        Self { runtime: Some(runtime) }
    }

    /// Runs `work` on a thread of the pool. The work is completed even if the future is dropped.
    ///
    /// # Errors
    /// When the work panics.
    pub async fn run<T, F>(&self, work: F) -> Result<T, WorkPanicked>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let runtime = self.runtime.as_ref().expect("it is taken on drop only");
        runtime.spawn_blocking(work).await.map_err(|_| WorkPanicked)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for running work would block the dropping thread.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn work_beyond_the_number_of_threads_waits_and_is_done() {
        let threads = Threads::new("test", 3);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = (0..100).map(|number| {
            let (now, most) = (now.clone(), most.clone());
            threads.run(move || {
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, SeqCst);
                number
            })
        });
        let done: Result<Vec<_>, _> = join_all(works).await.into_iter().collect();
        assert_eq!(done.unwrap(), (0..100).collect::<Vec<_>>());
        assert!(most.load(SeqCst) <= 3, "{most:?}");
    }

    #[tokio::test]
    async fn a_panic_fails_only_the_work_that_panicked() {
        let threads = Threads::new("test", 1);
        assert_eq!(threads.run(|| panic!("on purpose")).await, Err::<(), _>(WorkPanicked));
        assert_eq!(threads.run(|| 7).await, Ok(7));
    }
}
