//! [`Threads`]: a small thread pool for blocking calls. Tokio's own pool grows to 512 threads per runtime and
//! wakes them in turn, so that after a burst all of them stay while there is some work. [`chunks`] shares work on a long
//! list among the processor's cores.

use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fmt, thread};

use tokio::runtime::{Builder, Runtime};

/// How long an idle thread is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// For fewer items, threads cost more than they save.
const ALONE: usize = 4_096;

const THREADS_MAX: usize = 8;

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

/// The number of cores that this process may use; cached, because Linux reads several files for it.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// The results of `work` for consecutive parts of `items`, in their order. Returns when all are done.
///
/// # Panics
/// When `work` panics.
pub fn chunks<T: Sync, O: Send>(items: &[T], work: impl Fn(&[T]) -> O + Sync) -> Vec<O> {
    chunks_from(ALONE, items, work)
}

/// Like [`chunks`], for work that takes longer per item: from `alone` items on, several threads are used.
///
/// # Panics
/// When `work` panics.
pub fn chunks_from<T: Sync, O: Send>(
    alone: usize,
    items: &[T],
    work: impl Fn(&[T]) -> O + Sync,
) -> Vec<O> {
    let threads = cores().min(THREADS_MAX);
    if items.len() < alone || threads == 1 {
        return vec![work(items)];
    }
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(threads));
        let running: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let joined = running.into_iter().map(|part| part.join());
        joined.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
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

    #[test]
    fn parts_come_in_order_and_have_every_item_once() {
        for count in [0, 1, ALONE - 1, ALONE, 3 * ALONE + 1] {
            let items: Vec<usize> = (0..count).collect();
            let parts = chunks(&items, <[usize]>::to_vec);
            assert_eq!(parts.concat(), items, "{count}");
            assert!((1..=THREADS_MAX).contains(&parts.len()));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let items: Vec<usize> = (0..2 * ALONE).collect();
        let work = |part: &[usize]| assert!(part.last() != items.last(), "the last one");
        let panic = catch_unwind(AssertUnwindSafe(|| chunks(&items, work))).expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the last one"));
    }
}
