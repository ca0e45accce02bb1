//! Requests that may spend a refresh token, and whose answer may get lost with the process: the store knows of them.

use std::sync::atomic::Ordering::Relaxed;

use super::Flight;
use crate::grant::oauth::OAuthGrant;
use crate::grants::StoredGrant;
use crate::record::GrantVerdict;
use keyward_state::directory::BrokenReason;

impl Flight<'_> {
    /// Stores that a request is sent which may spend the token: after a crash, the refusal of the token is the loss of its
    /// answer.
    pub(super) async fn note_sent(&self) {
        let Some(about) = self.about.lock().clone() else { return };
        let (org, id) = (&self.connection.org, &self.connection.id);
        let failures =
            self.vault.cache.cell(org, id).backoff().while_sent(self.vault.clock.moment());
        self.vault.store_failures(org, id, about, failures).await;
        self.sent.is_noted.store(true, Relaxed);
    }

    /// The verdict on a token that an earlier request, whose answer was lost, may have spent: no one has revoked it.
    pub(super) fn of_lost_answer(
        &self,
        stored: &StoredGrant,
        verdict: GrantVerdict,
    ) -> GrantVerdict {
        let grant = stored.grant(self.vault, self.connection).ok();
        let may_be_spent =
            grant.is_some_and(|it| it.tokens().is_some_and(OAuthGrant::may_be_spent));
        let is_lost = self.sent.is_unanswered.load(Relaxed) && may_be_spent;
        match verdict.reason {
            BrokenReason::Revoked if is_lost => {
                GrantVerdict { reason: BrokenReason::AnswerLost, ..verdict }
            }
            _ => verdict,
        }
    }
}
