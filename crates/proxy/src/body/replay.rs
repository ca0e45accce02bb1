//! Copies of small request bodies, for sending a request again. [`BodyCopy`] keeps what was sent until the answer
//! begins, for an upstream that did not process the request or refused its credential. The body writes its copy while
//! it is sent, and gives it the unsent rest when it is dropped (`copy_writer.rs`).

use std::sync::Arc;
use std::time::Duration;

use http_body::Body;

use super::copy_writer::CopyState;
use super::request_body::RequestBody;
use crate::limits::budget::Budget;

/// The maximum number of bytes kept of one body. A longer body cannot be sent again.
const BYTES_MAX: usize = 64 * 1024;

/// A copy of a body, for sending it again.
#[derive(Debug)]
pub enum BodyCopy {
    Nothing,
    /// The sent part, and the rest once the body is dropped.
    Body(Arc<CopyState<RequestBody>>),
}

impl BodyCopy {
    /// Keeps a copy of what is sent of `body` from now on.
    pub fn of(body: &mut RequestBody, budget: &Arc<Budget>) -> Self {
        Self::up_to(BYTES_MAX, body, budget)
    }

    /// Keeps a copy of at most `bytes_max` bytes.
    pub fn up_to(bytes_max: usize, body: &mut RequestBody, budget: &Arc<Budget>) -> Self {
        if body.is_end_stream() {
            return Self::Nothing;
        }
        // Of a body that is known to be too long nothing is copied. It can be sent again until its first byte was sent.
        let is_too_long = body.size_hint().lower() > bytes_max as u64;
        let bytes_max = if is_too_long { 0 } else { bytes_max };
        let copied = CopyState::new(bytes_max, budget.clone(), body.owner().cloned());
        body.copy_to(copied.writer());
        Self::Body(copied)
    }

    /// The complete body for sending again, if the sent one is dropped and no byte is missing.
    pub fn into_body(self) -> Option<RequestBody> {
        let copied = match self {
            Self::Nothing => return Some(RequestBody::empty()),
            Self::Body(copied) => copied,
        };
        let (mut rest, sent) = copied.take()?;
        rest.wait_again();
        Some(rest.prepend(sent))
    }

    /// Whether no byte of what was sent is missing.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Body(copied) => copied.is_complete(),
        }
    }

    /// Whether the body is still being sent.
    pub fn is_being_sent(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Body(copied) => !copied.is_body_dropped(),
        }
    }

    /// Waits until the sent body is dropped, for at most `within`.
    pub async fn wait_until_dropped(&self, within: Duration) {
        let Self::Body(copied) = self else { return };
        let left = async {
            while !copied.is_body_dropped() {
                copied.left().notified().await;
            }
        };
        // `into_body` shows whether it was dropped.
        let _ = tokio::time::timeout(within, left).await;
    }

    /// Drops the copy: the body will not be sent again.
    pub fn discard(self) {
        if let Self::Body(copied) = self {
            copied.discard();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::BodyExt;

    use super::*;
    use crate::body::incoming_body::IncomingBody;
    use crate::limits::budget::PerAgent;

    /// What a piece costs beside its bytes.
    const OVERHEAD: usize = 160;

    fn budget(total: usize) -> Arc<Budget> {
        Budget::new(total, PerAgent::at_least(total))
    }

    /// A body that comes from an agent.
    fn agents(bytes: impl AsRef<[u8]>) -> RequestBody {
        let frame = Frame::data(Bytes::copy_from_slice(bytes.as_ref()));
        RequestBody::new(IncomingBody::Empty.after([Ok(frame)].into()))
    }

    async fn whole(body: RequestBody) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_or_over_the_budget_is_not_sent_again() {
        for (bytes, total) in [(BYTES_MAX + 1, usize::MAX), (10, OVERHEAD + 9)] {
            let budget = budget(total);
            let mut body = agents(vec![b'x'; bytes]);
            let kept = BodyCopy::of(&mut body, &budget);
            assert_eq!(whole(body).await.len(), bytes);
            assert!(kept.into_body().is_none(), "{bytes}");
            assert_eq!(budget.taken(), 0, "the budget is given back");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_still_being_sent_cannot_be_sent_again() {
        let budget = budget(1_000);
        let mut body = agents("once");
        let kept = BodyCopy::of(&mut body, &budget);
        assert!(kept.into_body().is_none());
        drop(body);
    }

    #[tokio::test]
    async fn a_body_is_sent_again_whole_wherever_it_was_dropped() {
        for frames in [0, 1] {
            let budget = budget(1_000);
            let mut body = agents("once more");
            let kept = BodyCopy::of(&mut body, &budget);
            for _ in 0..frames {
                body.frame().await.unwrap().unwrap();
            }
            drop(body);
            let mut again = kept.into_body().unwrap();
            assert!(!again.is_end_stream());
            let more = BodyCopy::of(&mut again, &budget);
            assert_eq!(whole(again).await, "once more");
            assert_eq!(whole(more.into_body().unwrap()).await, "once more");
            assert_eq!(budget.taken(), 0);
        }
    }

    #[tokio::test]
    async fn a_body_that_is_known_to_be_too_long_is_sent_again_if_none_of_it_was_sent() {
        let budget = budget(usize::MAX);
        let pieces = [BYTES_MAX, 1].map(|bytes| Ok(Frame::data(Bytes::from(vec![b'x'; bytes]))));
        let mut body = RequestBody::new(IncomingBody::Empty.after(pieces.into()));
        let kept = BodyCopy::of(&mut body, &budget);
        drop(body);
        let mut again = kept.into_body().unwrap();
        let kept = BodyCopy::of(&mut again, &budget);
        again.frame().await.unwrap().unwrap();
        assert_eq!(budget.taken(), 0, "nothing of it is copied");
        assert!(!kept.is_complete());
        assert_eq!(whole(again).await, "x");
        assert!(kept.into_body().is_none());
    }

    #[tokio::test]
    async fn a_body_with_two_copies_is_sent_again_by_either_or_one_after_the_other() {
        let budget = budget(1_000);
        let whole_after = async |inner_again: bool| {
            let mut body = agents("once more");
            let outer = BodyCopy::of(&mut body, &budget);
            let inner = BodyCopy::of(&mut body, &budget);
            body.frame().await.unwrap().unwrap();
            drop(body);
            match inner_again {
                false => drop(inner),
                true => assert_eq!(whole(inner.into_body().unwrap()).await, "once more"),
            }
            whole(outer.into_body().unwrap()).await
        };
        assert_eq!(whole_after(false).await, "once more");
        assert_eq!(whole_after(true).await, "once more");
        assert_eq!(budget.taken(), 0);
    }

    #[tokio::test]
    async fn a_resized_budget_still_counts_the_bodies_that_are_already_kept() {
        let both = 12 + 2 * OVERHEAD;
        let budget = budget(both - 2);
        let resize = |total| budget.resize(total, PerAgent::at_least(total));
        let (mut first, mut second, mut third) =
            (agents("8 bytes."), agents("more"), agents("more"));
        let kept = BodyCopy::of(&mut first, &budget);
        assert_eq!(whole(first).await, "8 bytes.");
        resize(both - 1);
        let refused = BodyCopy::of(&mut second, &budget);
        assert_eq!(whole(second).await, "more");
        assert!(refused.into_body().is_none(), "a byte is missing");
        resize(both);
        let taken = BodyCopy::of(&mut third, &budget);
        assert_eq!(whole(third).await, "more");
        assert!(taken.into_body().is_some());
        resize(1);
        assert!(kept.into_body().is_some(), "what is kept stays");
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn an_empty_body_takes_no_memory() {
        let kept = BodyCopy::of(&mut RequestBody::empty(), &budget(0));
        assert!(kept.into_body().unwrap().is_end_stream());
    }
}
