//! [`WakeFilter`] wraps a future so that it is polled only when its own waker fired. A request wakes the task of
//! its stream several times; the timers and watchers in the same task need not be polled each time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls `F` only after its waker fired.
#[derive(Debug)]
pub struct WakeFilter<F> {
    future: F,
    waker_flag: Arc<FilterWaker>,
    waker: Waker,
}

#[derive(Debug)]
struct FilterWaker {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for FilterWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> WakeFilter<F> {
    /// Polls `future` once, and then only after its waker fired.
    pub fn new(future: F) -> Self {
        let waker_flag =
            Arc::new(FilterWaker { woken: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, waker: waker_flag.clone().into(), waker_flag }
    }
}

impl<F: Future + Unpin> Future for WakeFilter<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Registered before the flag is read, so that a wake-up in between still wakes the task.
        this.waker_flag.task.register(cx.waker());
        match this.waker_flag.woken.swap(false, AcqRel) {
            true => Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker)),
            false => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_future_is_polled_only_after_its_waker_fired() {
        let (polls, waker_flag) = (Cell::new(0), tokio::sync::Notify::new());
        let mut heard = std::pin::pin!(waker_flag.notified());
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            heard.as_mut().poll(cx)
        });
        let mut rarely = WakeFilter::new(counted);
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut rarely).poll(cx))).await.is_pending());
        }
        assert_eq!(polls.get(), 1);
        waker_flag.notify_waiters();
        rarely.await;
        assert_eq!(polls.get(), 2);
    }
}
