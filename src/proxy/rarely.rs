//! [`Rarely`]: a future beside a busy one in the same task. It is polled only when it was woken itself,
//! and not each time that the busy one is: a request wakes its stream's task several times, and the
//! limits, changes and timers of the stream have nothing to say about that.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls `F` only after it was woken.
#[derive(Debug)]
pub struct Rarely<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> Rarely<F> {
    /// Polls `future` once, and then when it was woken.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { future, waker: bell.clone().into(), bell }
    }
}

impl<F: Future + Unpin> Future for Rarely<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Before the look at the bell: what rings between the two wakes the task.
        this.bell.task.register(cx.waker());
        match this.bell.rung.swap(false, AcqRel) {
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
    async fn what_was_not_woken_is_not_polled() {
        let (polls, bell) = (Cell::new(0), tokio::sync::Notify::new());
        let mut heard = std::pin::pin!(bell.notified());
        let counted = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            heard.as_mut().poll(cx)
        });
        let mut rarely = Rarely::new(counted);
        for _ in 0..3 {
            assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut rarely).poll(cx))).await.is_pending());
        }
        assert_eq!(polls.get(), 1);
        bell.notify_waiters();
        rarely.await;
        assert_eq!(polls.get(), 2);
    }
}
