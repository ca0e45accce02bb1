//! The cookie of a login: its name and attributes, how it is read, and the CSRF value that belongs to it. Pure.

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::error::ApiError;
use crate::request_refusal::RequestRefusal;
use crate::tokens::text_of;
use keyward_base::secret::Secret;
use keyward_state::crypto::token::{TokenHash, is_login_form};

/// The field of the CSRF value.
pub(crate) const CSRF_FIELD: &str = "keyward-csrf";

/// Over https. Browsers accept the prefix only with `Secure`, `Path=/` and without `Domain`, so that no other host
/// and no cleartext page can set it (RFC 6265bis §4.1.3).
const SECURE_NAME: &str = "__Host-keyward";

/// Over cleartext HTTP, which is served to this machine only.
const LOCAL_NAME: &str = "keyward";

fn name(is_https: bool) -> &'static str {
    if is_https { SECURE_NAME } else { LOCAL_NAME }
}

/// The token in the cookie of the request; `None` if there is none.
///
/// # Errors
/// When there are several, of which one is not ours, and when it has not the form of a token.
pub(crate) fn token(fields: &HeaderMap, is_https: bool) -> Result<Option<&str>, ApiError> {
    let name = name(is_https);
    let lines = fields.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(token), None) if is_login_form(token) => Ok(Some(token)),
        _ => Err(RequestRefusal::LoginEnded.into()),
    }
}

/// `Set-Cookie` of a new login. `SameSite=Lax` because the callback of an OAuth consent comes from the provider's site.
///
/// # Errors
/// When the token is no text.
pub(super) fn set(
    token: &Secret,
    is_https: bool,
    now: Timestamp,
    expires: Timestamp,
) -> Result<HeaderValue, ApiError> {
    let token = Zeroizing::new(text_of(token)?);
    let life = expires.duration_since(now).as_secs().max(0);
    let text = attributes(&token, is_https, life);
    let mut value = HeaderValue::from_str(&text).map_err(ApiError::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

/// `Set-Cookie` that removes it.
pub(super) fn cleared(is_https: bool) -> HeaderValue {
    HeaderValue::from_str(&attributes("", is_https, 0)).expect("the text is ASCII")
}

fn attributes(token: &str, is_https: bool, life_s: i64) -> Zeroizing<String> {
    let secure = if is_https { "; Secure" } else { "" };
    let name = name(is_https);
    format!("{name}={token}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax{secure}").into()
}

/// The CSRF value of a login: a hash of its token, which pages of other sites do not know.
pub(super) fn csrf(token: &str) -> String {
    csrf_hash(token).to_hex()
}

/// The same of a new login.
///
/// # Errors
/// When the token is no text.
pub(super) fn csrf_of(token: &Secret) -> Result<String, ApiError> {
    Ok(csrf(&Zeroizing::new(text_of(token)?)))
}

/// Whether the request has the CSRF value of its cookie; compared in constant time.
pub(crate) fn has_csrf(fields: &HeaderMap, token: &str) -> bool {
    let mut given = fields.get_all(CSRF_FIELD).iter();
    let first = given.next().and_then(|value| value.to_str().ok()).and_then(TokenHash::from_hex);
    first.is_some_and(|first| first.matches(&csrf_hash(token))) && given.next().is_none()
}

fn csrf_hash(token: &str) -> TokenHash {
    TokenHash::of(&Zeroizing::new(format!("keyward csrf {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_state::crypto::token::issue_login_token;

    fn fields(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn a_cookie_that_is_doubled_malformed_or_of_the_other_scheme_is_not_read() {
        let token_of = issue_login_token();
        let text = token_of.expose_text().unwrap();
        let (local, secure) = (format!("keyward={text}"), format!("__Host-keyward={text}"));
        for bad in ["keyward=", "keyward=kwl_x", "keyward=kwp_x", "keyward= ", &local[..20]] {
            assert!(token(&fields("cookie", &[bad]), false).is_err(), "{bad}");
        }
        let twice = format!("{local}; {local}");
        assert!(token(&fields("cookie", &[&twice]), false).is_err());
        assert!(token(&fields("cookie", &[&local, "a=b; keyward=x"]), false).is_err());
        assert_eq!(token(&fields("cookie", &[&local]), true), Ok(None), "cleartext sets no other");
        assert_eq!(token(&fields("cookie", &[&secure]), false), Ok(None));
        assert_eq!(token(&fields("cookie", &["Keyward=x; xkeyward=y; keyward"]), false), Ok(None));
        let among = format!("a=b;{local} ; c=d");
        assert_eq!(token(&fields("cookie", &[&among]), false), Ok(Some(text)));
        assert_eq!(token(&fields("cookie", &["a=b", &secure]), true), Ok(Some(text)));
    }

    #[test]
    fn cookies_are_bound_to_the_host_and_kept_from_scripts() {
        let token = issue_login_token();
        let now = Timestamp::UNIX_EPOCH;
        let set = set(&token, true, now, now + jiff::SignedDuration::from_secs(60)).unwrap();
        let text = token.expose_text().unwrap();
        let expected =
            format!("__Host-keyward={text}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(set.to_str().unwrap(), expected);
        assert!(set.is_sensitive());
        let cleared = cleared(false);
        assert_eq!(cleared, "keyward=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn only_the_csrf_value_of_the_same_login_is_accepted() {
        let (own, other) = ("kwl_a", "kwl_b");
        let value = csrf(own);
        assert!(has_csrf(&fields(CSRF_FIELD, &[&value]), own));
        let hash_of_the_token = TokenHash::of(own).to_hex();
        for bad in
            [&[][..], &[""], &[own], &[&value, &value], &[&csrf(other)], &[&hash_of_the_token]]
        {
            assert!(!has_csrf(&fields(CSRF_FIELD, bad), own), "{bad:?}");
        }
    }
}
