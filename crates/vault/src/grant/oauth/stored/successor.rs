//! The refresh token after an answer that has no usable access token: the one of the answer, or the one before it.

use jiff::Timestamp;

use super::OAuthGrant;
use crate::grant::oauth::failure::{ActingParty, Temporary, TokenFailure};
use crate::grant::oauth::reply::NextRefreshToken;
use crate::grant::oauth::{ACCESS, REFRESH, TokenFacts};
use keyward_base::secret::Secret;

/// Why a refused refresh token does not end the grant.
const EARLIER_IS_NEXT: &str =
    "the refresh token of an answer with an error is refused, and the one before it is tried next";

impl OAuthGrant {
    /// Whether the server replaced the refresh token of `before`, which may have ended, by the one of this grant.
    pub fn replaces_refresh_token_of(&self, before: &Self) -> bool {
        let now = self.fields.get(REFRESH).and_then(Secret::expose_text);
        before.fields.get(REFRESH).zip(now).is_some_and(|(before, now)| !before.is_text(now))
    }

    pub(super) fn with_next(
        &self,
        next: NextRefreshToken,
        sent: Timestamp,
        unusable: TokenFailure,
    ) -> Self {
        let earlier = self.fields.get(REFRESH).filter(|_| !next.is_sure).cloned();
        // A verdict on the client says nothing about the access token, which is used to its end.
        let is_of_client =
            matches!(&unusable, TokenFailure::Permanent { who, .. } if *who != ActingParty::Person);
        let access = self.fields.get(ACCESS).filter(|_| is_of_client).cloned();
        let mut newer = Self { earlier, ..self.with_refresh_token(next.token, sent, unusable) };
        if let Some(access) = access {
            newer.fields.insert(ACCESS.to_owned(), access);
            newer.facts = self.facts.clone();
        }
        newer
    }

    /// The grant with the earlier refresh token, if the newer one is refused.
    ///
    /// # Errors
    /// The failure, if there is no earlier token, or it is not of the token.
    pub(super) fn with_earlier(
        &self,
        sent: Timestamp,
        failure: TokenFailure,
    ) -> Result<Self, TokenFailure> {
        match &self.earlier {
            Some(earlier) if failure.may_be_of_token() => {
                let code = failure.code().cloned();
                let unusable = Temporary { code, ..Temporary::of(EARLIER_IS_NEXT) };
                Ok(self.with_refresh_token(
                    earlier.clone(),
                    sent,
                    TokenFailure::Temporary(unusable),
                ))
            }
            _ => Err(failure),
        }
    }

    /// The grant with another refresh token alone. The access token may have ended with the refresh token before.
    fn with_refresh_token(&self, next: Secret, sent: Timestamp, unusable: TokenFailure) -> Self {
        let mut fields = self.fields.clone();
        fields.remove(ACCESS);
        fields.insert(REFRESH.to_owned(), next);
        let (sent, expires, refresh_expires) = (Some(sent), None, None);
        let facts = TokenFacts { sent, expires, refresh_expires, ..self.facts.clone() };
        let (unknown, unusable) = (self.unknown.clone(), Some(Box::new(unusable)));
        Self { unknown, unusable, ..Self::stored_as(self.by, fields, facts) }
    }
}
