//! [`CountedBody`]: an answer over HTTP/2 whose exchange is counted among those of its agent until h2 has written it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::h2::bytes_with_guard;
use crate::limits::agent_streams::ExchangeDescriptor;

/// A body whose pieces keep the descriptor of its exchange. The exchange may end before h2 has written them.
#[derive(Debug)]
pub struct CountedBody<'a, B> {
    body: &'a mut B,
    /// `None` for an exchange that is not counted by itself.
    descriptor: Option<Arc<ExchangeDescriptor>>,
}

impl<'a, B> CountedBody<'a, B> {
    pub fn new(body: &'a mut B, descriptor: Option<&Arc<ExchangeDescriptor>>) -> Self {
        Self { body, descriptor: descriptor.cloned() }
    }

    fn counted(&self, bytes: Bytes) -> Bytes {
        match &self.descriptor {
            Some(descriptor) if !bytes.is_empty() => bytes_with_guard(bytes, descriptor.clone()),
            _ => bytes,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<'_, B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut *this.body).poll_frame(cx));
        let counted = |frame: Frame<Bytes>| frame.map_data(|bytes| this.counted(bytes));
        Poll::Ready(frame.map(|frame| frame.map(counted)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::h2::send_body::send_body;
    use crate::h2::unread_answer::UnreadAnswer;
    use crate::limits::agent_streams::AgentStreams;
    use keyward_base::id::AgentId;
    use keyward_base::limits::Limits;

    const BODY: usize = 32 * 1024;

    #[tokio::test]
    async fn an_exchange_that_has_ended_is_counted_until_its_answer_was_written() {
        let (mut unread, _, mut stream) = UnreadAnswer::begin().await;
        let (agent_streams, id) = (AgentStreams::new(&Limits::default(), 1), AgentId::random());
        let descriptor = Arc::new(agent_streams.upstream(&id).unwrap());
        let mut body = Full::new(Bytes::from(vec![b'.'; BODY]));
        let mut counted = CountedBody::new(&mut body, Some(&descriptor));
        assert!(send_body(&mut counted, &mut stream).await.is_ok());
        drop((counted, descriptor, stream));
        unread.write().await;
        assert!(agent_streams.upstream(&id).is_none(), "it is not written");
        assert_eq!(unread.read().await, BODY);
        assert!(agent_streams.upstream(&id).is_some(), "it is written");
    }
}
