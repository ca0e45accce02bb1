//! Closing on an agent that still sends can cost it what it has not read yet: the answer, the GOAWAY
//! (RFC 9112 §9.6). What it sends is read and forgotten for a while: the rest of an [`Upload`], and
//! what comes on a stream that we have ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;

use super::Gateway;
use super::between::Between;

/// How long an upload that was answered early may go on. Most clients stop when they see the answer.
const LINGERS: Duration = Duration::from_secs(10);

/// How long an agent whose stream we have ended may take to end it too.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// And how much it may send meanwhile, in bytes: the rest of a head, or what was on its way.
const LEAVES_WITH: usize = 1024 * 1024;

/// A body as it comes from the agent.
#[derive(Debug)]
pub struct Upload {
    /// `None` once it has ended.
    incoming: Option<Incoming>,
    /// The agent sends it when it is asked to, and not before.
    waits: bool,
    /// Is told when it has come whole.
    between: Option<Arc<Between>>,
}

impl Upload {
    /// The body of a request with such fields. `between` is told of both.
    pub fn new(incoming: Incoming, fields: &HeaderMap, between: &Arc<Between>) -> Self {
        let incoming = Some(incoming).filter(|incoming| !incoming.is_end_stream());
        between.asked(incoming.is_some());
        let between = incoming.is_some().then(|| between.clone());
        Self { incoming, waits: fields.contains_key(header::EXPECT), between }
    }

    fn has_come(&self) {
        if let Some(between) = &self.between {
            between.uploaded();
        }
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
        let whole = incoming.is_end_stream() || frame.is_none();
        if whole {
            this.has_come();
        }
        if whole || matches!(frame, Some(Err(_))) {
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
            let between = self.between.take();
            runtime.spawn(tokio::time::timeout(LINGERS, async move {
                let end = loop {
                    match incoming.frame().await {
                        Some(Ok(_)) => {}
                        end => break end,
                    }
                };
                if let (None, Some(between)) = (end, between) {
                    between.uploaded();
                }
            }));
        }
    }
}

/// Ends our direction, and then as [`forget`].
pub async fn leave<IO>(mut io: IO, gateway: &Gateway)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let left = async {
        if io.shutdown().await.is_ok() {
            ignore(&mut io).await;
        }
    };
    within_reason(left, gateway).await;
}

/// Ends our direction where nothing is on its way in either.
pub async fn close<IO>(mut io: IO, gateway: &Gateway)
where
    IO: AsyncWrite + Unpin,
{
    let closed = async {
        // It may have broken already.
        let _ = io.shutdown().await;
    };
    within_reason(closed, gateway).await;
}

/// Waits on a stream whose direction to the agent has ended until the agent's has too.
pub async fn forget<IO>(mut io: IO, gateway: &Gateway)
where
    IO: AsyncRead + Unpin,
{
    within_reason(ignore(&mut io), gateway).await;
}

async fn within_reason(ended: impl Future<Output = ()>, gateway: &Gateway) {
    tokio::select! {
        biased;
        _ = tokio::time::timeout(LEAVES_WITHIN, ended) => {}
        () = gateway.cut() => {}
    }
}

/// Reads until the end, or until it was too much.
async fn ignore<IO: AsyncRead + Unpin>(io: &mut IO) {
    let (mut ignored, mut left) = ([0; 2048], LEAVES_WITH);
    while let Ok(count @ 1..) = io.read(&mut ignored).await
        && let Some(rest) = left.checked_sub(count)
    {
        left = rest;
    }
}
