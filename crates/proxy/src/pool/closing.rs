//! How long a dropped stream to an upstream may still write.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a dropped stream may write what is left. A peer that does not read would keep its descriptor, which no agent's
/// share contains.
pub(super) const CLOSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until a stream is overdue: dropped, and its time has passed.
pub(super) async fn overdue(dropped: oneshot::Receiver<Infallible>) {
    // An error means that it was dropped.
    let _ = dropped.await;
    tokio::time::sleep(CLOSING_TIMEOUT).await;
}
