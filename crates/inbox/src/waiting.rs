//! Reads the events of a hook: the waiting ones in order, those whose deliveries all failed, and kept ones. A reader
//! removes an event after its work, so that an event is read at least once.

use tokio::sync::watch;

use super::event::{self, EventList, EventRow, EventState, HookEvent};
use super::queue::EventPosition;
use super::{Inbox, InboxError};
use keyward_model::{Hook, Record};
use keyward_state::store::Version;

/// The bodies of one page: it ends with the event that exceeds this.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub struct QueueReader {
    after: Option<EventPosition>,
    changed: watch::Receiver<u64>,
}

impl Inbox {
    /// The first events of a list, or those after this one; at most `most`, and fewer where their bodies are long. Also
    /// says whether there are more.
    ///
    /// # Errors
    /// When there is no event `after`, or the store fails.
    pub async fn events(
        &self,
        hook: &Record<Hook>,
        list: EventList,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<(HookEvent, EventState)>, bool), InboxError> {
        let ids = self.queue.lock().ids(&hook.id, list, after, most + 1);
        let ids = ids.ok_or_else(|| InboxError::NoEvent(after.unwrap_or_default().to_owned()))?;
        let (mut events, mut bytes) = (Vec::new(), 0);
        for id in ids {
            if events.len() == most || bytes >= PAGE_BYTES {
                return Ok((events, true));
            }
            match self.event(hook, &id).await {
                Ok((event, state, _)) => {
                    bytes += event.bytes();
                    events.push((event, state));
                }
                // It was taken meanwhile.
                Err(InboxError::NoEvent(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((events, false))
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
            Some((EventRow::Taken { event: Some(event), .. }, version)) => {
                Ok((*event, EventState::Delivered, version))
            }
            Some((EventRow::Taken { event: None, .. }, _)) | None => {
                Err(InboxError::NoEvent(id.to_owned()))
            }
        }
    }

    /// Removes an event: a reader has done its work, or a person does not want it. What a reader took counts as delivered.
    ///
    /// # Errors
    /// When it is not there, or the store fails.
    pub async fn take(&self, hook: &Record<Hook>, id: &str) -> Result<(), InboxError> {
        loop {
            let (kept, version) = match self.event(hook, id).await {
                Ok((event, EventState::Waiting, version)) => (Some(event), version),
                Ok((_, EventState::Dead { .. }, version)) => (None, version),
                Ok((_, EventState::Delivered, _)) | Err(InboxError::NoEvent(_)) => {
                    // It is queued if it was taken by a write that was reported as failed.
                    self.follow(&hook.org, &event::row(&hook.id, id)).await?;
                    return Err(InboxError::NoEvent(id.to_owned()));
                }
                Err(error) => return Err(error),
            };
            // A failed delivery may have changed it meanwhile.
            if self.replace_by_id(hook, id, version, kept).await? {
                self.signal_change();
                return Ok(());
            }
        }
    }

    /// Delivers an event again: one that was delivered and is kept, one whose deliveries all failed, or one that waits for
    /// its next try.
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
