//! OAuth on the wire: client authentication, the requests of every grant, the responses of real
//! servers, and the meaning of failures. [`OAuthGrant`] is the stored grant. Nothing is stored, repeated, or
//! waited for here. [`TokenFacts`]: the data of a token response other than the tokens.

mod account;
pub(in crate::grant) mod aws_role;
mod client;
mod device;
mod failure;
mod imported;
mod metadata;
mod oauth1;
mod params;
mod reply;
mod reported_error;
mod request_context;
mod requests;
mod revoke;
mod service_account;
mod session;
mod signed;
mod stored;
mod transport;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use account::{
    AccountClaims, ExpectedClaims, IdTokenError, id_token_claims, userinfo, userinfo_claims,
};
pub use client::{AssertionError, OAuthClient, check_private_key};
pub use device::{DeviceFlow, PollResult, SLOW_DOWN, device_poll, device_start};
pub use failure::{ActingParty, Correction, ErrorCode, Temporary, TokenFailure};
pub(crate) use metadata::or_default;
pub use metadata::{
    FoundDocument, Metadata, MetadataError, NoDocument, document, first_document, host, is_secure,
    read_metadata,
};
pub use oauth1::{CALLBACK_NOT_CONFIRMED, OAuth1TokenAnswer, SignedRequests, TokenPair};
pub use request_context::RequestContext;
pub(crate) use requests::bearer;
pub use requests::{
    JwtAssertion, RefreshFailure, SubjectToken, client_credentials, exchange_code, installation,
    jwt_bearer, lengthened, push_authorization, refresh, renew_access, token_exchange,
};
pub use revoke::{Revocable, RevokeResult, revoke};
pub use signed::check_key;
pub use stored::OAuthGrant;

use keyward_base::secret::Secret;

/// The code of a grant that cannot be renewed.
pub const NO_REFRESH_TOKEN: &str = "no_refresh_token";

/// The result of a token endpoint. Wiped when dropped.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token: visible ASCII, within `oauth.token_bytes_max`.
    pub access: Secret,
    /// The new refresh token, if there is one.
    pub refresh: Option<Secret>,
    /// When it was requested.
    pub sent: Timestamp,
    /// When the access token expires; `None`: unknown.
    pub expires: Option<Timestamp>,
    /// When the refresh token expires, if the server says so.
    pub refresh_expires: Option<Timestamp>,
    /// The granted scopes, if the server names them.
    pub scope: Option<Vec<String>>,
    /// Variables that the provider's file reads from the response.
    pub captured: BTreeMap<String, String>,
    /// The account, if the response names it.
    pub account: Option<String>,
    /// The ID token, not parsed. Never stored.
    pub id_token: Option<Secret>,
    /// Other secrets of the response, which become fields of the grant.
    pub more: BTreeMap<String, Secret>,
}

impl Tokens {
    /// An access token alone, whose end is unknown.
    pub fn of(access: Secret, sent: Timestamp) -> Self {
        Self {
            access,
            refresh: None,
            sent,
            expires: None,
            refresh_expires: None,
            scope: None,
            captured: BTreeMap::new(),
            account: None,
            id_token: None,
            more: BTreeMap::new(),
        }
    }
}

/// The failure without a request: a field that it needs is not stored.
fn missing(field: &'static str) -> TokenFailure {
    TokenFailure::ours(ActingParty::Person, "field_missing", format!("the grant has no `{field}`"))
}

/// The field of the access token, which placements name.
pub(in crate::grant) const ACCESS: &str = "access_token";

/// The field of the refresh token.
const REFRESH: &str = "refresh_token";

/// The field of a private key.
const PRIVATE_KEY: &str = "private_key";

/// Facts of the last response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TokenFacts {
    /// When the access token was requested.
    pub sent: Option<Timestamp>,
    /// When the access token expires, if known.
    pub expires: Option<Timestamp>,
    /// When the refresh token expires, if known.
    pub refresh_expires: Option<Timestamp>,
    /// The granted scopes, if the server named them.
    pub scope: Option<Vec<String>>,
    /// The account, if the server named it.
    pub account: Option<String>,
    /// The subject of the ID token of the consent, or of the first one after it.
    pub subject: Option<String>,
    /// Whether the last refresh kept its refresh token, so that a lost answer spends nothing.
    pub keeps_refresh: bool,
    /// Variables from the response.
    pub captured: BTreeMap<String, String>,
}
