//! Copies a WebSocket between an agent and an upstream, frame by frame. When Keyward ends it, it ends at a frame
//! boundary with a close frame that gives the reason (RFC 6455 §7.4.1).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{StreamPair, TunnelEnd};
use crate::gateway::Gateway;
use crate::record::Record;
use crate::session::ProxySession;
use crate::sockets::websocket_frames::CloseFrame;
use keyward_state::observe::event::Outcome;

/// The time for ending a WebSocket: the rest of its frame, the close frame and the answer to it. It must be less
/// than the second within which a revocation takes effect.
const CLOSING_WITHIN: Duration = Duration::from_millis(750);

/// A frame that needs more bytes is cut, because a revoked stream must not get many more.
const FRAME_REST_MAX: u64 = 64 * 1024;

/// The close frame for an agent whose access was revoked: "policy violation".
const REVOKED: CloseFrame = CloseFrame { code: 1008, reason: "access was revoked" };
/// The close frame for an agent whose WebSocket a person has cut.
const CUT: CloseFrame = CloseFrame { code: 1008, reason: "cut by a person" };
/// The close frame for an idle WebSocket: "going away".
const IDLE: CloseFrame = CloseFrame { code: 1001, reason: "idle for too long" };
/// The close frame when the gateway stops.
const GATEWAY_STOPPED: CloseFrame = CloseFrame { code: 1001, reason: "the gateway stops" };
/// The close frame for the upstream when the agent did not end the WebSocket.
const AGENT_LEFT: CloseFrame = CloseFrame { code: 1001, reason: "" };

/// Copies frames like [`super::splice`], and sends close frames at the end.
pub async fn splice<A, U>(
    agents: A,
    upstream: U,
    record: &mut Record,
    session: &ProxySession,
    gateway: &Gateway,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut pair = StreamPair::of_frames(agents, upstream, record);
    let end = pair.run(session, gateway).await;
    let close_was_sent = pair.up.is_closed() || pair.down.is_closed();
    let outcome = match end {
        // After a close frame, many peers close the socket without a TLS or TCP shutdown.
        TunnelEnd::AgentBroke | TunnelEnd::UpstreamBroke if close_was_sent => Outcome::Completed,
        end => end.outcome(),
    };
    end_pair(&mut pair, end, session.revocation().current().is_cut()).await;
    pair.write_to(record, outcome);
}

/// Closes both sides in order, within [`CLOSING_WITHIN`]; then cuts them.
async fn end_pair<A, U>(pair: &mut StreamPair<A, U>, end: TunnelEnd, is_cut: bool)
where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        match end {
            TunnelEnd::Revoked if is_cut => close(pair, CUT).await,
            TunnelEnd::Revoked => close(pair, REVOKED).await,
            TunnelEnd::Idle => close(pair, IDLE).await,
            TunnelEnd::GatewayStopped => close(pair, GATEWAY_STOPPED).await,
            // The server ends the streams below (RFC 6455 §7.1.1), and some agents leave theirs open: the undici of
            // Node 26 does over HTTP/2, and reports the end only when the stream is gone.
            TunnelEnd::Closed => leave(&mut pair.agents).await,
            TunnelEnd::UpstreamBroke if pair.down.is_closed() => leave(&mut pair.agents).await,
            // No close frame: the peer must see that the stream broke.
            TunnelEnd::Finished | TunnelEnd::AgentBroke | TunnelEnd::UpstreamBroke => {}
        }
    };
    let _ = tokio::time::timeout(CLOSING_WITHIN, closing).await;
}

/// Completes the agent's frame and sends it `why`; sends the upstream a close frame. Further data from either is
/// discarded.
async fn close<A, U>(pair: &mut StreamPair<A, U>, why: CloseFrame)
where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let StreamPair { agents, upstream, up, down } = pair;
    down.finish_frame(upstream, agents, FRAME_REST_MAX).await;
    let close_was_sent = match () {
        () if down.may_close() => agents.write_all(&why.to_client()).await.is_ok(),
        () => down.is_closed(),
    };
    let to_agent = async {
        // Within a frame, no close frame can be sent: the stream is cut, and the agent sees that.
        if close_was_sent {
            leave(agents).await;
        }
    };
    let to_upstream = async {
        let mut key = [0; 4];
        if up.may_close() && getrandom::fill(&mut key).is_ok() {
            // The upstream may have closed already.
            let _ = upstream.write_all(&AGENT_LEFT.to_server(key)).await;
        }
        leave(upstream).await;
    };
    tokio::join!(to_agent, to_upstream);
}

/// Shuts our direction down and waits for the peer's end, because closing on a peer that still sends can cost it
/// what it has not read yet.
async fn leave<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut IO) {
    if io.shutdown().await.is_ok() {
        let mut ignored = [0; 512];
        while let Ok(1..) = io.read(&mut ignored).await {}
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use tokio::time::Instant;

    use super::*;
    use crate::sockets::copy::CopyDirection;
    use crate::sockets::websocket_frames::FrameTracker;

    fn direction() -> CopyDirection {
        CopyDirection::new(Arc::default(), Some(FrameTracker::new()))
    }

    /// Polls once, so that what has arrived is copied.
    async fn copy<A, U>(pair: &mut StreamPair<A, U>)
    where
        A: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        poll_fn(|cx| Poll::Ready(pair.poll(cx).is_pending())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_with_an_incomplete_frame_is_cut_after_the_closing_timeout() {
        let (agents, mut agent) = tokio::io::duplex(1024);
        let (upstream, mut server) = tokio::io::duplex(1024);
        let mut pair = StreamPair { agents, upstream, up: direction(), down: direction() };
        // A text frame of five bytes, of which two are there.
        server.write_all(b"\x81\x05he").await.unwrap();
        copy(&mut pair).await;
        let begun = Instant::now();
        end_pair(&mut pair, TunnelEnd::Revoked, false).await;
        assert_eq!(begun.elapsed(), CLOSING_WITHIN);
        drop(pair);
        let mut got = Vec::new();
        agent.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x81\x05he", "nothing is said in the middle of a frame");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_close_is_cut_after_the_closing_timeout() {
        let (agents, mut agent) = tokio::io::duplex(1024);
        let (upstream, _server) = tokio::io::duplex(1024);
        let mut pair = StreamPair { agents, upstream, up: direction(), down: direction() };
        let begun = Instant::now();
        end_pair(&mut pair, TunnelEnd::Revoked, true).await;
        assert_eq!(begun.elapsed(), CLOSING_WITHIN);
        drop(pair);
        let mut got = Vec::new();
        agent.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, CUT.to_client());
    }
}
