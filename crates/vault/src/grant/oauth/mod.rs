//! OAuth 2.0 on the wire: client authentication, the requests of every grant, responses as servers write them, and
//! the meaning of a failure. [`OAuth`] is the stored grant.
//!
//! Nothing is stored, repeated, or waited for here.

mod account;
mod assertion;
mod client;
mod device;
mod failure;
mod imported;
mod metadata;
mod params;
mod reply;
mod request_context;
mod requests;
mod revoke;
mod service_account;
mod stored;
mod transport;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use account::{Claims, Expected, IdTokenError, id_token_claims, userinfo};
pub use assertion::KeyError;
pub use client::Client;
pub use device::{Device, PollResult, SLOW_DOWN, device_poll, device_start};
pub use failure::{ActingParty, ErrorCode, Failure, Temporary};
pub use metadata::{Metadata, MetadataError, document, host, is_secure, read_metadata};
pub use request_context::RequestContext;
pub use requests::{
    Assertion, Subject, client_credentials, exchange_code, installation, jwt_bearer, refresh,
    renew_access, token_exchange,
};
pub use revoke::{Revocable, RevokeResult, revoke};
pub use stored::{OAuth, TokenFacts};

use keyward_base::secret::Secret;

/// Our own code for a grant that cannot be renewed.
pub const NO_REFRESH_TOKEN: &str = "no_refresh_token";

/// What a token endpoint gave. Wiped when dropped.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The access token: visible ASCII, within `oauth.token_bytes_max`.
    pub access: Secret,
    /// The refresh token, if there is a new one.
    pub refresh: Option<Secret>,
    /// When it was asked for.
    pub sent: Timestamp,
    /// When the access token expires; absent: unknown.
    pub expires: Option<Timestamp>,
    /// When the refresh token ends, as far as the server says.
    pub refresh_expires: Option<Timestamp>,
    /// The scopes granted, when the server says.
    pub scope: Option<Vec<String>>,
    /// Variables that the provider's file takes from the answer.
    pub captured: BTreeMap<String, String>,
    /// Whose account it is, when the answer says.
    pub account: Option<String>,
    /// The ID token beside them, unread. Never stored.
    pub id_token: Option<Secret>,
}
