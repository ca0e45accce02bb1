//! Whether an auth method needs the consent of a person, and which apps it accepts.

use super::oauth::{GrantText, OAuth};
use super::{AuthKind, AuthMethod};

impl AuthMethod {
    /// Whether the grant results from a person's consent at the provider.
    pub fn is_consented_to(&self) -> bool {
        let grant = self.oauth.as_ref().map(|oauth| oauth.grant);
        let by_hand = [GrantText::AuthorizationCode, GrantText::DeviceCode];
        self.kind.asks_people() && grant.is_some_and(|grant| by_hand.contains(&grant))
    }

    /// Whether its credential is a token from a token endpoint, which may renew it. Not for OAuth 1.0a, whose tokens
    /// sign requests like keys.
    pub fn has_tokens(&self) -> bool {
        self.oauth.is_some() && self.kind != AuthKind::Oauth1
    }

    /// Whether an app may request its tokens.
    pub fn takes_app(&self) -> bool {
        let is_of_owner = |oauth: &OAuth| oauth.session.is_some() || oauth.signed.is_some();
        self.oauth.as_ref().is_some_and(|oauth| !is_of_owner(oauth))
    }

    /// Whether an app of the provider is for this method; `named`: the method that the app names. An app of OAuth 1.0a
    /// names it, because a service with OAuth 2.0 too has another client id for that.
    pub fn is_for_app(&self, named: Option<&str>) -> bool {
        let is_meant = match named {
            Some(named) => named == self.id,
            None => self.kind != AuthKind::Oauth1,
        };
        is_meant && self.takes_app()
    }

    /// Whether connections need an app, unless their owner provides tokens.
    pub fn needs_app(&self) -> bool {
        let grant = self.oauth.as_ref().map(|oauth| oauth.grant);
        let without = [GrantText::JwtBearer];
        self.kind.asks_people() && grant.is_some_and(|grant| !without.contains(&grant))
    }
}
