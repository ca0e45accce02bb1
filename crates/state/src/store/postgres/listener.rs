//! The stream on which a replica notifies the others of its changes, and receives their notifications. It is a stream
//! of the pool.
//!
//! `NOTIFY` is sent as a separate statement after the commit: within the transaction of a change, all writers of the
//! database would wait for one lock. If the database does not support it, and while the stream is lost, replicas only
//! poll.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;

use super::change_notice::{ChangeNotice, PAUSE};
use super::failure::{PostgresError, PostgresFailure};
use super::parameter::typed;
use super::pool::PostgresPool;
use super::sql;

/// The pause before a new stream, after the last one was lost.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The pause before a new attempt, if the database does not know or permit the statements.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// The interval of checks that the stream is open and connected to the server in use.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// A stream that listens. It is closed when dropped: no other operation of the pool gets it.
struct ListeningStream(Option<Object>);

impl Drop for ListeningStream {
    fn drop(&mut self) {
        drop(self.0.take().map(Object::take));
    }
}

/// Runs until dropped.
pub(super) async fn run(pool: PostgresPool, notice: Arc<ChangeNotice>) {
    let mut is_refused = false;
    loop {
        let pause = match serve(&pool, &notice).await {
            Err(PostgresError::Unusable(failure)) if failure.is_refusal() => {
                if !is_refused {
                    tracing::info!(%failure, "the database passes on no notifications: changes of other replicas are polled only");
                }
                is_refused = true;
                REFUSED_AGAIN_AFTER
            }
            ended => {
                is_refused = false;
                let error = ended.err().map(|error| error.to_string());
                tracing::debug!(error, "the stream that listens for changes is opened again");
                AGAIN_AFTER
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Listens and notifies until the stream ends, or leads to a server that is no longer used.
async fn serve(pool: &PostgresPool, notice: &ChangeNotice) -> Result<(), PostgresError> {
    let stream = ListeningStream(Some(pool.connect().await?));
    let open = stream.0.as_ref().expect("taken only when dropped");
    pool.bounded(open.batch_execute(sql::LISTEN)).await?;
    // Notifications that were sent before were missed, so there may be changes.
    notice.may_have_changed();
    while !open.is_closed() && !pool.has_left(open) {
        tokio::select! {
            () = notice.committed.notified() => {
                notify(pool, open, notice).await?;
                tokio::time::sleep(PAUSE).await;
            }
            () = notice.stream_ended.notified() => {}
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
    }
    Ok(())
}

async fn notify(
    pool: &PostgresPool,
    stream: &Object,
    notice: &ChangeNotice,
) -> Result<(), PostgresFailure> {
    let own = typed(&[&notice.own]);
    pool.bounded(stream.query_typed(sql::NOTIFY, &own)).await.map(drop)
}
