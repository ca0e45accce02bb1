//! What a refusal of a token server ends: only what a person gave can end for good.

use super::record::GrantVerdict;
use super::token_request::TokenContext;
use crate::grant::Grant;
use keyward_state::directory::BrokenReason;

impl TokenContext {
    /// The verdict on a grant. Without the consent of a person nothing ends for good: the clock, the right or the consent
    /// that is missing may come, so that it is retried like a rejected client. Many services lock an account after a few
    /// logins, so a login is retried after the longest pause.
    pub fn judged(&self, grant: &Grant, verdict: GrantVerdict) -> GrantVerdict {
        let tokens = grant.tokens().zip(self.oauth());
        let tokens = tokens.filter(|(tokens, oauth)| !tokens.is_of_person(oauth));
        match (verdict.reason, tokens) {
            (BrokenReason::Revoked, Some((tokens, _))) => GrantVerdict {
                reason: BrokenReason::ClientRejected,
                tries: if tokens.is_session() { u32::MAX } else { 0 },
                ..verdict
            },
            _ => verdict,
        }
    }
}
