//! [`Upload`]: the body of an agent's HTTP/1.1 request. What nobody wants of it is read and forgotten for a
//! while: closing on an agent that still sends can cost it the answer (RFC 9112 §9.6).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;

/// How long an upload that was answered early may go on. Most clients stop when they see the answer.
const LINGERS: Duration = Duration::from_secs(10);

/// A body as it comes from the agent.
#[derive(Debug)]
pub struct Upload {
    /// `None` once it has ended.
    incoming: Option<Incoming>,
    /// The agent sends it when it is asked to, and not before.
    waits: bool,
}

impl Upload {
    /// The body of a request with such fields.
    pub fn new(incoming: Incoming, fields: &HeaderMap) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        Self { incoming, waits: fields.contains_key(header::EXPECT) }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        this.waits = false;
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
        if incoming.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            this.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        self.incoming.as_ref().map_or_else(nothing, Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A gateway that ends lingers for nobody.
        if let (Some(mut incoming), false, Ok(runtime)) =
            (self.incoming.take(), self.waits, Handle::try_current())
        {
            runtime.spawn(tokio::time::timeout(LINGERS, async move {
                while let Some(Ok(_)) = incoming.frame().await {}
            }));
        }
    }
}
