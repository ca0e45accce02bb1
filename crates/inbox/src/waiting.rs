//! Reads the events of a hook: the waiting ones in order, and those whose deliveries all failed. A reader removes an
//! event after its work, so that an event is read at least once.

use tokio::sync::watch;

use super::event::{self, EventRow, EventState, HookEvent};
use super::queue::EventPosition;
use super::{Inbox, InboxError};
use keyward_model::{Hook, Record};
use keyward_state::store::Version;

#[derive(Debug)]
pub struct QueueReader {
    after: Option<EventPosition>,
    changed: watch::Receiver<u64>,
}

impl Inbox {
    /// The first events that wait, or with `dead` those whose deliveries all failed; at most `most`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn events(
        &self,
        hook: &Record<Hook>,
        dead: bool,
        most: usize,
    ) -> Result<Vec<(HookEvent, EventState)>, InboxError> {
        let ids: Vec<String> = match dead {
            true => self.queue.lock().first_dead(&hook.id, most),
            false => self.queue.lock().first(&hook.id, most),
        };
        let mut events = Vec::new();
        for id in ids {
            if let Ok((event, state, _)) = self.event(hook, &id).await {
                events.push((event, state));
            }
        }
        Ok(events)
    }

    /// One event.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn event(
        &self,
        hook: &Record<Hook>,
        id: &str,
    ) -> Result<(HookEvent, EventState, Version), InboxError> {
        match self.events.get(&hook.org, &event::row(&hook.id, id)).await? {
            Some((EventRow::Waiting(event), version)) => Ok((event, EventState::Waiting, version)),
            Some((EventRow::Dead { event, why }, version)) => {
                Ok((event, EventState::Dead { why }, version))
            }
            Some((EventRow::Taken { .. }, _)) | None => Err(InboxError::NoEvent(id.to_owned())),
        }
    }

    /// Removes an event: a reader has done its work, or a person does not want it.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn take(&self, hook: &Record<Hook>, id: &str) -> Result<(), InboxError> {
        loop {
            let version = match self.event(hook, id).await {
                Ok((_, _, version)) => version,
                Err(missing @ InboxError::NoEvent(_)) => {
                    // It is queued if it was taken by a write that was reported as failed.
                    self.follow(&hook.org, &event::row(&hook.id, id)).await?;
                    return Err(missing);
                }
                Err(error) => return Err(error),
            };
            // A failed delivery may have changed it meanwhile.
            if self.replace_by_id(hook, id, version).await? {
                self.signal_change();
                return Ok(());
            }
        }
    }

    /// Delivers an event again: one whose deliveries all failed, or one that waits for its next try.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn send_again(&self, hook: &Record<Hook>, id: &str) -> Result<(), InboxError> {
        let (mut event, _, version) = self.event(hook, id).await?;
        (event.tries, event.next) = (0, self.clock.now());
        let row = event.row();
        self.events.put(&hook.org, &row, &EventRow::Waiting(event), Some(version)).await?;
        self.follow(&hook.org, &row).await
    }

    /// Reads the events of a hook that wait, from the first.
    pub fn read(&self) -> QueueReader {
        QueueReader { after: None, changed: self.changed.subscribe() }
    }

    /// The next event; waits for one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn next(
        &self,
        hook: &Record<Hook>,
        reader: &mut QueueReader,
    ) -> Result<HookEvent, InboxError> {
        loop {
            reader.changed.borrow_and_update();
            let next = self.queue.lock().read_after(&hook.id, reader.after);
            let Some((place, id)) = next else {
                // The sender is in `self`.
                let _ = reader.changed.changed().await;
                continue;
            };
            reader.after = Some(place);
            match self.event(hook, &id).await {
                Ok((event, EventState::Waiting, _)) => return Ok(event),
                // Another reader took it.
                Ok(_) | Err(InboxError::NoEvent(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
