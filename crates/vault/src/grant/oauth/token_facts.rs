//! [`TokenFacts`]: the data of a token response other than the tokens. Also the names of stored fields that several
//! kinds of grants share.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// The field of the access token, which placements name.
pub(in crate::grant) const ACCESS: &str = "access_token";

/// The field of the refresh token.
pub(super) const REFRESH: &str = "refresh_token";

/// The field of a private key.
pub(super) const PRIVATE_KEY: &str = "private_key";

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
