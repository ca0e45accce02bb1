//! [`RevokeText`]: how a grant is revoked at the service. `revocations.tsv` has the requests that are not those of RFC 7009.

use std::sync::LazyLock;

use http::Method;
use serde::de::{Deserialize, Deserializer, Error};

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
#[derive(Debug, Eq, PartialEq)]
pub struct RevocationRequest {
    name: &'static str,
    pub method: Method,
    pub client_auth: Option<ClientAuthText>,
    /// Scheme of `Authorization`, and `access_token` or `client_secret`.
    pub authorization: Option<(&'static str, &'static str)>,
    /// Where `access_token` is; `None`: in no other place.
    pub place: Option<RevokedTokenPlace>,
    /// The status by which the service says that it does not know the token.
    pub unknown: Option<u16>,
}

/// Where the access token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RevokedTokenPlace {
    Query,
    /// The body, as a member.
    Json,
}

static REQUESTS: LazyLock<Vec<RevocationRequest>> = LazyLock::new(|| {
    let rows = include_str!("revocations.tsv").lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| RevocationRequest::read(row).expect("the table is sound: a test reads it"))
        .collect()
});

/// The words of provider files.
static WORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let requests = REQUESTS.iter().map(|request| request.name);
    ["rfc7009", "basic", "token"].into_iter().chain(requests).chain(["none"]).collect()
});

impl RevocationRequest {
    fn read(row: &'static str) -> Option<Self> {
        let columns: Vec<&'static str> = row.split('\t').collect();
        let [name, method, client, authorization, place, unknown] = columns[..] else {
            return None;
        };
        Some(Self {
            name,
            method: method.parse().ok()?,
            client_auth: match client {
                "-" => None,
                "none" => Some(ClientAuthText::None),
                "body" => Some(ClientAuthText::Body),
                "basic" => Some(ClientAuthText::Basic),
                _ => return None,
            },
            authorization: authorization.split_once(' '),
            place: match place {
                "-" => None,
                "query" => Some(RevokedTokenPlace::Query),
                "json" => Some(RevokedTokenPlace::Json),
                _ => return None,
            },
            unknown: unknown.parse().ok(),
        })
    }
}

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
    fn a_row_that_cannot_be_read_is_refused_and_each_request_has_the_access_token() {
        for row in [
            "bearer\tPOST\t-\tBearer access_token\t-",
            "bearer\t\t-\tBearer access_token\t-\t-",
            "bearer\tPOST\tmtls\t-\tjson\t-",
            "bearer\tPOST\t-\t-\tform\t-",
        ] {
            assert_eq!(RevocationRequest::read(row), None, "{row}");
        }
        for request in REQUESTS.iter() {
            let in_field = request.authorization.is_some_and(|(_, value)| value == "access_token");
            assert!(in_field != request.place.is_some(), "{request:?}");
        }
    }
}
