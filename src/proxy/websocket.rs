//! A WebSocket between an agent and an upstream: frames pass as they are. One that ends by our doing
//! ends at a frame's end, with a close frame that says why (RFC 6455 §7.4.1).

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Gateway;
use super::frames::Close;
use super::record::Record;
use super::session::Session;
use super::tunnel::{End, Pair};
use crate::observe::event::Outcome;

/// What a WebSocket that we end has for the rest of its frame, for the close frame, and for the answer to
/// it. Then it is cut: less than the second within which what is revoked has ended.
const CLOSING_WITHIN: Duration = Duration::from_millis(750);

/// A frame that misses more is cut: what rests on something that is gone gets no more of it.
const FRAME_REST_MAX: u64 = 64 * 1024;

/// What an agent reads whose token, binding, connection or permission is gone: "policy violation".
const LOST: Close = Close { code: 1008, reason: "access was revoked" };
/// "Going away".
const IDLE: Close = Close { code: 1001, reason: "idle for too long" };
/// Likewise.
const CUT: Close = Close { code: 1001, reason: "the gateway stops" };
/// What the upstream reads when it was not the agent that left.
const LEFT: Close = Close { code: 1001, reason: "" };

/// Passes frames on until there is a reason to end, as [`super::tunnel::splice`] does, and says it.
pub async fn splice<A, U>(
    agents: A,
    upstream: U,
    record: &mut Record,
    session: &Session,
    gateway: &Gateway,
) where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut pair = Pair::of_frames(agents, upstream, record);
    let end = pair.run(session, gateway).await;
    let said = pair.up.is_closed() || pair.down.is_closed();
    let outcome = match end {
        // Many close their sockets without ado once close frames were exchanged.
        End::AgentBroke | End::UpstreamBroke if said => Outcome::Completed,
        end => end.outcome(),
    };
    let closing = async {
        match end {
            End::Lost => close(&mut pair, LOST).await,
            End::Idle => close(&mut pair, IDLE).await,
            End::Cut => close(&mut pair, CUT).await,
            End::UpstreamBroke if pair.down.is_closed() => leave(&mut pair.agents).await,
            // What broke stays visibly broken.
            End::Said | End::AgentBroke | End::UpstreamBroke => {}
        }
    };
    // What is not done in time is cut.
    let _ = tokio::time::timeout(CLOSING_WITHIN, closing).await;
    pair.tell(record, outcome);
}

/// Ends the agent's frame and says `why`; tells the upstream that the agent has left. What either
/// still sends is forgotten.
async fn close<A, U>(pair: &mut Pair<A, U>, why: Close)
where
    A: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let Pair { agents, upstream, up, down } = pair;
    down.finish_frame(upstream, agents, FRAME_REST_MAX).await;
    let told = match () {
        () if down.may_close() => agents.write_all(&why.to_client()).await.is_ok(),
        () => down.is_closed(),
    };
    let to_agent = async {
        // In the middle of a frame nothing can be said: it is cut, visibly.
        if told {
            leave(agents).await;
        }
    };
    let to_upstream = async {
        let mut key = [0; 4];
        if up.may_close() && getrandom::fill(&mut key).is_ok() {
            // It may have gone already.
            let _ = upstream.write_all(&LEFT.to_server(key)).await;
        }
        leave(upstream).await;
    };
    tokio::join!(to_agent, to_upstream);
}

/// Ends our direction and waits for the other's end: closing on a peer that still sends can cost it
/// what it has not read yet.
async fn leave<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut IO) {
    if io.shutdown().await.is_ok() {
        let mut ignored = [0; 512];
        while let Ok(1..) = io.read(&mut ignored).await {}
    }
}
