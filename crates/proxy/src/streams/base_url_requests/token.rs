//! Authenticates requests that use a base URL. Such a program can set only an address and an API key, so the
//! agent's token is accepted wherever an API key can stand.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, ORIGIN, PROXY_AUTHORIZATION};

use crate::base_url::BaseUrlError;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::streams::authenticate::{
    Authenticated, PresentedToken, TokenError, authenticate_token, failure,
};
use keyward_base::agent::TOKEN_PREFIX;
use keyward_rules::inject::strip;

/// Fetch Metadata: browsers send it, also to loopback; programs do not.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `TOKEN` or `NAME:TOKEN`, for programs whose API key is a placeholder. Never forwarded, like every `Keyward-…`
/// field.
const KEYWARD_TOKEN: HeaderName = HeaderName::from_static("keyward-token");

/// The agent, and the token that proves it.
///
/// # Errors
/// [`BaseUrlError::Unauthenticated`] without a right token; [`Refusal::SessionEnded`] with that of a session that has
/// ended; [`Refusal::TooManyFailures`] when the address failed too often.
pub fn authenticate(
    gateway: &Gateway,
    peer: Option<IpAddr>,
    fields: &HeaderMap,
) -> Result<Authenticated, Refusal> {
    let candidates = candidates(fields);
    let guessed = !candidates.is_empty();
    let mut session_ended = false;
    for candidate in candidates.into_iter().flatten() {
        match authenticate_token(gateway, candidate) {
            Ok(proof) => return Ok(proof),
            Err(unproved) => session_ended |= unproved == TokenError::SessionEnded,
        }
    }
    if session_ended {
        return Err(Refusal::SessionEnded);
    }
    let fault = BaseUrlError::Unauthenticated {
        placeholder: !strip::placeholders(fields, "/").is_empty(),
        browser: fields.contains_key(SEC_FETCH_SITE) || fields.contains_key(ORIGIN),
    };
    let unauthenticated = Refusal::BaseUrl(fault);
    Err(match guessed.then(|| failure(gateway, peer)) {
        Some(guessing @ Refusal::TooManyFailures { .. }) => guessing,
        _ => unauthenticated,
    })
}

/// Possible tokens in order; `None` for one that cannot be parsed. A field reserved for the token decides alone.
/// Otherwise `Authorization` is tried in any form, and other fields (`x-api-key`, …) if their value has the prefix
/// of issued tokens.
fn candidates(fields: &HeaderMap) -> Vec<Option<PresentedToken>> {
    let proxys = fields.get_all(PROXY_AUTHORIZATION).iter().map(PresentedToken::read);
    let ours =
        fields.get_all(KEYWARD_TOKEN).iter().map(|value| PresentedToken::pair(value.as_bytes()));
    let mut given: Vec<_> = proxys.chain(ours).collect();
    if given.len() > 1 {
        // Refused, because it is unclear which token is meant.
        return vec![None];
    }
    if given.is_empty() {
        given.extend(fields.get_all(AUTHORIZATION).iter().map(any));
        let others =
            fields.iter().filter(|(name, value)| *name != AUTHORIZATION && may_hold(value));
        let keys = others.filter_map(|(_, value)| any(value));
        given.extend(keys.filter(|one| one.token().starts_with(TOKEN_PREFIX)).map(Some));
    }
    given
}

/// Whether the value may contain an issued token. Most fields need no closer check.
fn may_hold(value: &HeaderValue) -> bool {
    let (bytes, mark) = (value.as_bytes(), TOKEN_PREFIX.as_bytes());
    bytes.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"basic "))
        || bytes.windows(mark.len()).any(|piece| piece == mark)
}

/// Reads Basic and Bearer; of other schemes (`token …`) and of values without a scheme, the last word. The user
/// name of a pair belongs to the API and is not checked: the token alone decides.
fn any(value: &HeaderValue) -> Option<PresentedToken> {
    let last = || value.as_bytes().rsplit(|byte| *byte == b' ').next();
    PresentedToken::read(value)
        .or_else(|| last().and_then(PresentedToken::pair))
        .map(PresentedToken::of_program)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(*name, value.parse().unwrap());
        }
        let one =
            |one: Option<PresentedToken>| one.map_or("-".to_owned(), |one| one.token().to_owned());
        candidates(&fields).into_iter().map(one).collect()
    }

    #[test]
    fn keyward_token_and_proxy_authorization_override_other_token_fields() {
        let own = [("keyward-token", "kwa_a"), ("authorization", "Bearer kwa_b")];
        assert_eq!(read(&own), ["kwa_a"]);
        let proxys = [("proxy-authorization", "Bearer kwa_a"), ("x-api-key", "kwa_b")];
        assert_eq!(read(&proxys), ["kwa_a"]);
    }

    #[test]
    fn two_fields_that_override_the_others_yield_no_token() {
        for second in ["proxy-authorization", "keyward-token"] {
            assert_eq!(read(&[("keyward-token", "kwa_a"), (second, "Bearer kwa_a")]), ["-"]);
        }
    }

    #[test]
    fn a_token_is_read_from_the_field_of_the_api_key() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (name, value, token) in [
            ("authorization", "Bearer chosen", "chosen"),
            ("authorization", &*basic("ci:chosen"), "chosen"),
            ("authorization", &*basic("chosen:"), "chosen"),
            ("authorization", &*basic("AC0123:kwa_a"), "kwa_a"),
            ("authorization", &*basic("kwa_a:x-oauth-basic"), "kwa_a"),
            ("authorization", "token chosen", "chosen"),
            ("authorization", "chosen", "chosen"),
            ("x-api-key", "kwa_a", "kwa_a"),
            ("x-auth", "Bearer kwa_a", "kwa_a"),
            ("x-auth", "Token kwa_a", "kwa_a"),
        ] {
            assert_eq!(read(&[(name, value)]), [token], "{name}: {value}");
        }
    }

    #[test]
    fn fields_without_a_token_are_not_counted_as_guesses() {
        let fields = [("x-api-key", "sk-abc"), ("user-agent", "curl/8"), ("accept", "*/*")];
        assert_eq!(read(&fields), [""; 0]);
    }
}
