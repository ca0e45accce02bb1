//! Authorizations that a request has of its own: a URL signed with another key than a placeholder, or an `Authorization`
//! without a placeholder.

use http::header::{AUTHORIZATION, HeaderMap};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::Clears;
use super::names::parameters;
use super::placeholder::PlaceholderCore;
use keyward_base::names::named_enum;

/// Parameters that make a URL a signed one, if all of a row are there.
const SIGNED_URLS: &str = include_str!("signed_urls.tsv");

/// An authorization that a request has of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentAuthorization {
    /// Its URL is signed.
    SignedUrl,
    /// It has an `Authorization`.
    Field,
}

/// How requests of a connection are signed. What an agent signs with a placeholder names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signs {
    /// By AWS Signature Version 4.
    Aws,
    /// By a scheme of the provider's file.
    Scheme,
}

named_enum! {
    /// What is done with requests that have an authorization of their own, which the connection would replace.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
    pub enum OwnAuthorization by as_str {
        /// GET and HEAD are decided as if the connection were not bound; the others are refused, because they can carry
        /// data to an account of somebody else.
        #[default]
        Refuse = "refuse",
        /// They are sent as they are, without the connection's credential.
        Pass = "pass",
    }
}

impl OwnAuthorization {
    /// Whether it is what is done where nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::Refuse
    }

    /// For people; empty if it is the default.
    pub fn text(self) -> &'static str {
        if self.is_default() { "" } else { self.as_str() }
    }
}

named_enum! {
    /// What became of an authorization that a request had of its own.
    #[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    pub enum OwnAuthorizationUse by as_str {
        /// It was sent.
        Passed = "passed",
        /// The request was refused because of it.
        Refused = "refused",
        /// The connection's credential was sent instead.
        Replaced = "replaced",
    }
}

impl SentAuthorization {
    /// The authorization of a request with these placeholders; one that has any is the agent's.
    pub fn of(
        fields: &HeaderMap,
        query: Option<&str>,
        placeholders: &[PlaceholderCore],
    ) -> Option<Self> {
        match placeholders.is_empty() {
            true if query.is_some_and(is_signed) => Some(Self::SignedUrl),
            true if fields.contains_key(AUTHORIZATION) => Some(Self::Field),
            _ => None,
        }
    }
}

impl OwnAuthorizationUse {
    /// What becomes of the authorization of a request that is sent, with a credential that clears these places.
    pub fn of_sent(own: Option<SentAuthorization>, clears: Option<&Clears>) -> Option<Self> {
        own.map(|_| match clears.is_some_and(|clears| clears.covers(&AUTHORIZATION)) {
            true => Self::Replaced,
            false => Self::Passed,
        })
    }
}

/// Whether the query is that of a signed URL.
fn is_signed(query: &str) -> bool {
    let has = |name: &str| parameters(query).any(|(given, _)| given == name);
    let mut rows = SIGNED_URLS.lines().filter(|row| !row.starts_with('#'));
    rows.any(|row| row.split('\t').all(has))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str, authorization: &str) -> Option<SentAuthorization> {
        let mut fields = HeaderMap::new();
        if !authorization.is_empty() {
            fields.insert(AUTHORIZATION, authorization.parse().expect("a value"));
        }
        SentAuthorization::of(&fields, Some(query).filter(|query| !query.is_empty()), &[])
    }

    #[test]
    fn parameters_alone_or_with_other_names_make_no_signed_url() {
        for query in [
            "",
            "a=1",
            "sig=x",
            "sv=1",
            "Signature=x&Expires=1",
            "AWSAccessKeyId=x",
            "X-Amz-Date=1",
            "design=1&sv=2",
        ] {
            assert_eq!(of(query, ""), None, "{query}");
        }
    }

    #[test]
    fn signed_urls_of_each_scheme_are_found_in_every_order_and_encoding() {
        for query in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F1&X-Amz-Signature=ab",
            "AWSAccessKeyId=A&Expires=1&Signature=a%3D",
            "X-Goog-Signature=ab&X-Goog-Credential=a%40b",
            "GoogleAccessId=a&Expires=1&Signature=b",
            "sv=2022-11-02&sr=b&sp=r&sig=a%2Bb%3D",
            "X%2DAmz-Credential=A&X-Amz-Signature=b",
        ] {
            assert_eq!(of(query, "Bearer x"), Some(SentAuthorization::SignedUrl), "{query}");
        }
        assert_eq!(of("a=1", "Bearer x"), Some(SentAuthorization::Field));
    }
}
