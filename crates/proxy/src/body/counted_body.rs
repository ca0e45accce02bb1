//! [`CountedBody`]: an answer over HTTP/2 whose exchange is counted among those of its agent until h2 has written it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::h2::keeping;
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
            Some(descriptor) if !bytes.is_empty() => keeping(bytes, descriptor.clone()),
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
    use std::future::poll_fn;

    use http::{Request, Response};
    use http_body_util::Full;

    use super::*;
    use crate::h2::send_body::send_body;
    use crate::limits::agent_streams::AgentStreams;
    use keyward_base::id::AgentId;
    use keyward_base::limits::Limits;

    const BODY: usize = 32 * 1024;

    #[tokio::test]
    async fn an_exchange_that_has_ended_is_counted_until_its_answer_was_written() {
        let (agents, ours) = tokio::io::duplex(1024);
        let (server, client) = (h2::server::Builder::new(), h2::client::Builder::new());
        let (server, client) =
            tokio::join!(server.handshake::<_, Bytes>(ours), client.handshake::<_, Bytes>(agents));
        let (mut server, (mut sender, mut agent)) = (server.unwrap(), client.unwrap());
        let request = Request::get("https://api.acme.test/").body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let accepted = tokio::select! {
            accepted = server.accept() => accepted,
            _ = &mut agent => panic!("it ended"),
        };
        let (_, mut respond) = accepted.unwrap().unwrap();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();

        let (agent_streams, id) = (AgentStreams::new(&Limits::default(), 1), AgentId::random());
        let descriptor = Arc::new(agent_streams.upstream(&id).unwrap());
        let mut body = Full::new(Bytes::from(vec![b'.'; BODY]));
        let mut counted = CountedBody::new(&mut body, Some(&descriptor));
        assert!(send_body(&mut counted, &mut stream).await.is_ok());
        drop((counted, descriptor, stream));
        // Only our side is polled: the agent does not read.
        assert!(!poll_fn(|cx| Poll::Ready(server.poll_closed(cx).is_ready())).await);
        assert!(agent_streams.upstream(&id).is_none(), "it is not written");

        let reads = async {
            let (mut read, mut body) = (0, answer.await.unwrap().into_body());
            while let Some(piece) = body.data().await {
                read += piece.unwrap().len();
            }
            read
        };
        let read = tokio::select! {
            read = reads => read,
            _ = &mut agent => panic!("it ended"),
            _ = poll_fn(|cx| server.poll_closed(cx)) => panic!("it ended"),
        };
        assert_eq!(read, BODY);
        assert!(!poll_fn(|cx| Poll::Ready(server.poll_closed(cx).is_ready())).await);
        assert!(agent_streams.upstream(&id).is_some(), "it is written");
    }
}
