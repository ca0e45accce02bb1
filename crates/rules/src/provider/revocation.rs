//! [`RevokeText`]: how a grant is revoked at the service. `revocations.yaml` has the requests that are not those of RFC 7009.

use std::sync::LazyLock;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::keys::ClientAuthText;

/// How a grant is revoked at the service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RevokeText {
    /// RFC 7009: POST of `token`, with client authentication.
    #[default]
    Rfc7009,
    /// The same with Basic of client id and secret, also where other requests have another `client_auth`.
    Basic,
    /// POST of `token` alone.
    Token,
    /// A request of the table, with the access token.
    Request(&'static RevocationRequest),
    /// Not supported; the owner revokes access by hand.
    None,
}

/// A request that revokes access by the access token, which must be valid.
#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    name: String,
    pub method: String,
    pub client_auth: Option<ClientAuthText>,
    /// Scheme of `Authorization`, and `access_token` or `client_secret`.
    pub authorization: Option<(String, String)>,
    /// Where `access_token` is; `None`: in no other place.
    pub place: Option<RevokedTokenPlace>,
    /// The status by which the service says that it does not know the token.
    pub unknown: Option<u16>,
}

/// Where the access token is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum RevokedTokenPlace {
    Query,
    /// The body, as a member.
    Json,
}

static REQUESTS: LazyLock<Vec<RevocationRequest>> = LazyLock::new(|| {
    let requests = serde_yaml::from_str(include_str!("revocations.yaml"));
    requests.expect("the table is sound: a test reads it")
});

/// The words of provider files.
static WORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let requests = REQUESTS.iter().map(|request| request.name.as_str());
    ["rfc7009", "basic", "token"].into_iter().chain(requests).chain(["none"]).collect()
});

impl<'de> Deserialize<'de> for RevokeText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        match &*word {
            "rfc7009" => Ok(Self::Rfc7009),
            "basic" => Ok(Self::Basic),
            "token" => Ok(Self::Token),
            "none" => Ok(Self::None),
            word => {
                let found = REQUESTS.iter().find(|request| request.name == word);
                let unknown = || D::Error::unknown_variant(word, WORDS.as_slice());
                found.map(Self::Request).ok_or_else(unknown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_the_access_token_in_one_place() {
        for request in REQUESTS.iter() {
            let named = request.authorization.as_ref().map(|(_, value)| value.as_str());
            assert!((named == Some("access_token")) != request.place.is_some(), "{request:?}");
            assert!(request.method.parse::<http::Method>().is_ok(), "{request:?}");
        }
    }
}
