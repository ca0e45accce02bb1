//! Bodies that can be sent again: what has gone out of a small body is kept until its answer begins,
//! for an upstream that did not process the request or refused its credential.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::body::RequestBody;
use super::budget::{Budget, Share};

/// What is kept of one body, in bytes. More has gone out for good.
const BYTES_MAX: usize = 64 * 1024;

/// A body's own copy, for whoever may have to send it again.
#[derive(Debug)]
pub enum Kept {
    /// There is none.
    Nothing,
    /// Its beginning, and when it is dropped the rest.
    Body(Arc<Copied>),
}

/// The side of the body that is sent.
#[derive(Debug)]
pub struct Keeper(Arc<Copied>);

/// What has gone out.
#[derive(Debug)]
pub struct Copied {
    bytes_max: usize,
    state: Mutex<State>,
    /// Told when the body is dropped.
    left: Notify,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<Bytes>,
    share: Share,
    /// More went out than is kept.
    lost: bool,
    rest: Option<Box<RequestBody>>,
}

impl Kept {
    /// Keeps a copy of what goes out of `body` from now on.
    pub fn of(body: &mut RequestBody, budget: &Arc<Budget>) -> Self {
        Self::up_to(BYTES_MAX, body, budget)
    }

    /// The same, of as many bytes as the caller says.
    pub fn up_to(bytes_max: usize, body: &mut RequestBody, budget: &Arc<Budget>) -> Self {
        if body.is_end_stream() {
            return Self::Nothing;
        }
        let (frames, share) = (VecDeque::new(), budget.share());
        let state = Mutex::new(State { frames, share, lost: false, rest: None });
        let copied = Arc::new(Copied { bytes_max, state, left: Notify::new() });
        body.kept_by(Keeper(copied.clone()));
        Self::Body(copied)
    }

    /// The whole body once more, when the one that was sent is dropped and nothing of it is lost.
    pub fn again(self) -> Option<RequestBody> {
        let copied = match self {
            Self::Nothing => return Some(RequestBody::empty()),
            Self::Body(copied) => copied,
        };
        let mut state = copied.state.lock();
        let mut rest = state.rest.take().filter(|_| !state.lost)?;
        rest.waits_again();
        Some(rest.after(std::mem::take(&mut state.frames)))
    }
}

impl Kept {
    /// Waits until the body that was sent is dropped, so long at most.
    pub async fn is_left(&self, within: Duration) {
        let Self::Body(copied) = self else { return };
        let left = async {
            while copied.state.lock().rest.is_none() {
                copied.left.notified().await;
            }
        };
        // Whoever asks for it again sees whether it came.
        let _ = tokio::time::timeout(within, left).await;
    }

    /// It will not be sent again.
    pub fn forget(self) {
        if let Self::Body(copied) = self {
            copied.state.lock().forget();
        }
    }
}

impl State {
    fn forget(&mut self) {
        self.lost = true;
        self.frames.clear();
        self.share.give_back();
    }
}

impl Keeper {
    /// Such a piece goes out.
    pub fn sends(&self, data: &Bytes) {
        let mut state = self.0.state.lock();
        if state.lost {
            return;
        }
        if state.share.bytes() + data.len() > self.0.bytes_max || !state.share.take(data.len()) {
            return state.forget();
        }
        state.frames.push_back(data.clone());
    }

    /// What goes out cannot go out again.
    pub fn forgets(&self) {
        self.0.state.lock().forget();
    }

    /// What has gone out goes out once more.
    pub fn begins_again(&self) {
        let mut state = self.0.state.lock();
        state.frames.clear();
        state.share.give_back();
    }

    /// The body is dropped; this is left of it.
    pub fn leaves(self, rest: RequestBody) {
        self.0.state.lock().rest = Some(Box::new(rest));
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn whole(body: RequestBody) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_or_over_the_budget_is_not_sent_again() {
        for (bytes, budget) in [(BYTES_MAX + 1, usize::MAX), (10, 9)] {
            let budget = Budget::new(budget);
            let mut body = RequestBody::own(Bytes::from(vec![b'x'; bytes]));
            let kept = Kept::of(&mut body, &budget);
            assert_eq!(whole(body).await.len(), bytes);
            assert!(kept.again().is_none(), "{bytes}");
            assert_eq!(budget.taken(), 0, "the budget is given back");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_still_sent_is_not_sent_twice() {
        let budget = Budget::new(100);
        let mut body = RequestBody::own(Bytes::from_static(b"once"));
        let kept = Kept::of(&mut body, &budget);
        assert!(kept.again().is_none());
        drop(body);
    }

    #[tokio::test]
    async fn a_body_is_sent_again_whole_wherever_it_was_dropped() {
        for frames in [0, 1] {
            let budget = Budget::new(100);
            let mut body = RequestBody::own(Bytes::from_static(b"once more"));
            let kept = Kept::of(&mut body, &budget);
            for _ in 0..frames {
                body.frame().await.unwrap().unwrap();
            }
            drop(body);
            let mut again = kept.again().unwrap();
            assert!(!again.is_end_stream());
            let more = Kept::of(&mut again, &budget);
            assert_eq!(whole(again).await, "once more");
            assert_eq!(whole(more.again().unwrap()).await, "once more");
            assert_eq!(budget.taken(), 0);
        }
    }

    #[tokio::test]
    async fn a_body_that_two_keep_is_sent_again_by_either_or_one_after_the_other() {
        let budget = Budget::new(100);
        let whole_after = async |inner_again: bool| {
            let mut body = RequestBody::own(Bytes::from_static(b"once more"));
            let outer = Kept::of(&mut body, &budget);
            let inner = Kept::of(&mut body, &budget);
            body.frame().await.unwrap().unwrap();
            drop(body);
            match inner_again {
                false => drop(inner),
                true => assert_eq!(whole(inner.again().unwrap()).await, "once more"),
            }
            whole(outer.again().unwrap()).await
        };
        assert_eq!(whole_after(false).await, "once more");
        assert_eq!(whole_after(true).await, "once more");
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_budget_that_changes_counts_what_is_kept_already() {
        let budget = Budget::new(10);
        let body = |text: &'static str| RequestBody::own(Bytes::from_static(text.as_bytes()));
        let (mut first, mut second, mut third) = (body("8 bytes."), body("more"), body("more"));
        let kept = Kept::of(&mut first, &budget);
        assert_eq!(whole(first).await, "8 bytes.");
        budget.resize(11);
        let refused = Kept::of(&mut second, &budget);
        assert_eq!(whole(second).await, "more");
        assert!(refused.again().is_none(), "12 bytes of 11");
        budget.resize(12);
        let taken = Kept::of(&mut third, &budget);
        assert_eq!(whole(third).await, "more");
        assert!(taken.again().is_some());
        budget.resize(1);
        assert!(kept.again().is_some(), "what is kept stays");
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn nothing_is_kept_of_no_body() {
        let kept = Kept::of(&mut RequestBody::empty(), &Budget::new(0));
        assert!(kept.again().unwrap().is_end_stream());
    }
}
