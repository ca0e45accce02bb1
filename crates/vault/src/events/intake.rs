//! Receives every event: writes its audit record, counts it, and queues its deliveries.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Events;
use keyward_state::directory::DirectoryEvent;
use keyward_state::observe::change_log::ChangeRecorder;
use keyward_state::observe::event::Outcome;

impl Events {
    /// Runs until `close` is true and all earlier events are handled.
    pub async fn handle_events(
        self: Arc<Self>,
        mut events: mpsc::Receiver<DirectoryEvent>,
        changes: ChangeRecorder,
        mut close: watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                Some(one) = events.recv() => self.take_note(one, &changes).await,
                () = closed(&mut close) => break,
            }
        }
        while let Ok(one) = events.try_recv() {
            self.take_note(one, &changes).await;
        }
    }

    async fn take_note(&self, event: DirectoryEvent, changes: &ChangeRecorder) {
        if let Some(change) = event.change {
            changes.record(change.event(event.at, &event.org, Outcome::Completed)).await;
        }
        if let Some(notice) = &event.notice {
            tracing::debug!(event = notice.kind.code(), notice = %notice.id, "an event");
            self.metrics.count_event(notice.kind.code());
        }
        self.enqueue(event.deliveries);
    }
}

async fn closed(close: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = close.wait_for(|close| *close).await;
}
