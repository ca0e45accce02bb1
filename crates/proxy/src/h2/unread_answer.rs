//! [`UnreadAnswer`], for tests: an answer over HTTP/2 to an agent that does not read at first.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::DuplexStream;

/// Both ends of a stream that has room for one kilobyte, and an answer on it.
pub struct UnreadAnswer {
    server: h2::server::Connection<DuplexStream, Bytes>,
    agent: h2::client::Connection<DuplexStream, Bytes>,
    answer: ResponseFuture,
    _sender: SendRequest<Bytes>,
}

impl UnreadAnswer {
    /// The answer's head is sent. Returns the body of the request, and the stream for that of the answer.
    pub async fn begin() -> (Self, RecvStream, SendStream<Bytes>) {
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
        let (request, mut respond) = accepted.unwrap().unwrap();
        let stream = respond.send_response(Response::new(()), false).unwrap();
        (Self { server, agent, answer, _sender: sender }, request.into_body(), stream)
    }

    /// Our side writes what it can, and the agent does not read.
    pub async fn write(&mut self) {
        assert!(!poll_fn(|cx| Poll::Ready(self.server.poll_closed(cx).is_ready())).await);
    }

    /// The agent reads the answer to its end. Returns the number of bytes of its body.
    pub async fn read(&mut self) -> usize {
        let Self { server, agent, answer, .. } = self;
        let reads = async {
            let (mut read, mut body) = (0, answer.await.unwrap().into_body());
            while let Some(piece) = body.data().await {
                read += piece.unwrap().len();
            }
            read
        };
        let read = tokio::select! {
            read = reads => read,
            _ = agent => panic!("it ended"),
            _ = poll_fn(|cx| server.poll_closed(cx)) => panic!("it ended"),
        };
        self.write().await;
        read
    }
}
