//! Closes an agent's stream without losing data that the agent has not read yet. Closing while the agent still
//! sends can cost it the answer or the GOAWAY (RFC 9112 §9.6), so its data is read and discarded for a while.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::gateway::Gateway;

/// How long an agent may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many bytes it may send meanwhile: the rest of a head, or data in flight.
const CLOSE_BYTES_MAX: usize = 1024 * 1024;

/// Shuts our direction down, and then drains as [`drain`] does.
pub async fn shut_down_and_drain<IO>(mut io: IO, gateway: &Gateway)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let left = async {
        if io.shutdown().await.is_ok() {
            read_and_discard(&mut io).await;
        }
    };
    within_close_timeout(left, gateway).await;
}

/// Shuts our direction down when nothing is in flight.
pub async fn shut_down<IO>(mut io: IO, gateway: &Gateway)
where
    IO: AsyncWrite + Unpin,
{
    let closed = async {
        // It may have broken already.
        let _ = io.shutdown().await;
    };
    within_close_timeout(closed, gateway).await;
}

/// Reads and discards until the agent has closed its side, after ours was shut down.
pub async fn drain<IO>(mut io: IO, gateway: &Gateway)
where
    IO: AsyncRead + Unpin,
{
    within_close_timeout(read_and_discard(&mut io), gateway).await;
}

async fn within_close_timeout(ended: impl Future<Output = ()>, gateway: &Gateway) {
    tokio::select! {
        biased;
        _ = tokio::time::timeout(CLOSE_TIMEOUT, ended) => {}
        () = gateway.cut() => {}
    }
}

/// Reads until the end or the byte limit.
async fn read_and_discard<IO: AsyncRead + Unpin>(io: &mut IO) {
    let (mut ignored, mut left) = ([0; 2048], CLOSE_BYTES_MAX);
    while let Ok(count @ 1..) = io.read(&mut ignored).await
        && let Some(rest) = left.checked_sub(count)
    {
        left = rest;
    }
}
