//! What a cell knows of refusals by the upstream: those that are ignored, those of a new token, and what they ask for.

use std::time::Duration;

use jiff::Timestamp;

use super::CredentialCell;
use crate::refresh::challenge::AskedMore;
use keyward_base::time::Moment;

impl CredentialCell {
    /// Whether the token of this generation was issued within this time.
    pub fn is_new(&self, generation: u64, now: Timestamp, within: Duration) -> bool {
        let held = self.held.load();
        held.as_ref().is_some_and(|held| {
            held.credential.generation == generation && held.is_new(now, within)
        })
    }

    /// What the upstream asks for beyond a valid token.
    pub fn asked(&self) -> Option<AskedMore> {
        self.state.lock().asked.clone()
    }

    /// Notes what the upstream asks for, until the grant changes.
    pub fn ask_more(&self, asked: AskedMore) {
        self.state.lock().asked = Some(asked);
    }

    /// After a new credential was rejected too, further rejections are ignored for this time.
    pub fn ignore_rejections_for(&self, now: Moment, long: Duration) {
        self.state.lock().rejections_ignored = Some((now, long));
    }

    /// Whether a 401 is ignored now.
    pub fn ignores_rejections(&self, now: Moment) -> bool {
        let state = self.state.lock();
        state.rejections_ignored.as_ref().is_some_and(|(since, long)| now.since(since) < *long)
    }
}
