//! Receives every event: writes its audit record, counts it, and queues its deliveries.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Events;
use keyward_state::directory::News;
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::event::Outcome;

impl Events {
    /// Runs until `close` is true and all earlier events are handled.
    pub async fn take_in(
        self: Arc<Self>,
        mut news: mpsc::Receiver<News>,
        changes: ChangeRecorder,
        mut close: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                Some(one) = news.recv() => self.take_note(one, &changes).await,
                () = closed(&mut close) => break,
            }
        }
        while let Ok(one) = news.try_recv() {
            self.take_note(one, &changes).await;
        }
    }

    async fn take_note(&self, news: News, changes: &ChangeRecorder) {
        if let Some(change) = news.change {
            changes.tell(change.event(news.at, &news.org, Outcome::Completed)).await;
        }
        if let Some(notice) = &news.notice {
            tracing::debug!(event = notice.kind.code(), notice = %notice.id, "an event");
            self.metrics.happened(notice.kind.code());
        }
        self.take_up(news.owed);
    }
}

async fn closed(close: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = close.wait_for(|close| *close).await;
}
