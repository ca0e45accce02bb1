//! The challenge of a bearer token (RFC 6750 §3): its parameters, and what it asks for beyond a valid token.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, header};

/// Longest text that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 300;

/// The parameters that say what is asked for: scopes (RFC 6750 §3), and how the person signs in (RFC 9470 §3).
const ASKED: [&str; 3] = ["scope", "acr_values", "max_age"];

/// What a service asks for beyond a valid token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AskedMore {
    /// For people: `insufficient_user_authentication: acr_values phr`.
    pub shown: String,
    /// The `claims` parameter of the next token request (OpenID Connect Core §5.5): JSON.
    pub claims: Option<String>,
}

impl AskedMore {
    /// `None`: the token alone is the cause, or another one is asked for.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let all = parameters(headers);
        let find = |wanted: &str| all.iter().find(|(name, _)| name == wanted).map(|(_, it)| it);
        let error = find("error").map(String::as_str);
        let claims = find("claims").and_then(|coded| decoded(coded));
        let asks = matches!(error, Some("insufficient_scope" | "insufficient_user_authentication"));
        if claims.is_none() && !asks {
            return None;
        }
        let mut words: Vec<String> = error.iter().map(|error| format!("{error}:")).collect();
        words.extend(ASKED.iter().filter_map(|name| Some(format!("{name} {}", find(name)?))));
        words.extend(claims.iter().map(|claims| format!("claims {claims}")));
        let visible =
            words.join(" ").chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
        Some(Self { shown: visible, claims })
    }
}

/// The claims, which are JSON in base64, or as they are.
fn decoded(coded: &str) -> Option<String> {
    let bytes =
        STANDARD.decode(coded).or_else(|_| URL_SAFE_NO_PAD.decode(coded.trim_end_matches('=')));
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.unwrap_or_else(|| coded.to_owned());
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).ok().map(|_| text)
}

/// The parameters of all `Bearer` challenges, names in lower case.
pub(crate) fn parameters(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for field in headers.get_all(header::WWW_AUTHENTICATE) {
        let Ok(text) = field.to_str() else { continue };
        let Some(at) = text.to_ascii_lowercase().find("bearer") else { continue };
        let mut rest = text[at + "bearer".len()..].trim_start();
        while let Some((name, tail)) = rest.split_once('=') {
            let name = name.trim_matches(|c: char| c == ',' || c.is_whitespace());
            let (value, tail) = match tail.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
                None => tail.split_once(',').unwrap_or((tail, "")),
            };
            all.push((name.to_ascii_lowercase(), value.to_owned()));
            rest = tail;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(challenge: &str) -> Option<AskedMore> {
        let value = challenge.parse().expect("a value");
        AskedMore::of(&HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]))
    }

    /// oauth 11.asked
    #[test]
    fn a_challenge_that_names_no_need_asks_for_nothing_more() {
        for plain in [
            "Bearer",
            "Basic realm=\"scope\"",
            "Bearer error=\"invalid_token\", scope=\"read\"",
            "Bearer error=\"insufficient_claims\", claims=\"no json\"",
        ] {
            assert_eq!(asked(plain), None, "{plain}");
        }
    }

    /// oauth 11.asked
    #[test]
    fn a_challenge_is_shown_with_what_it_asks_for_and_its_claims_are_decoded() {
        let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#;
        let coded = STANDARD.encode(claims);
        let more = asked(&format!("Bearer error=\"insufficient_claims\", claims=\"{coded}\""));
        let more = more.expect("claims");
        assert_eq!(more.claims.as_deref(), Some(claims));
        assert!(more.shown.contains("nbf"), "{}", more.shown);
        let stepped = asked(
            "Bearer error=\"insufficient_user_authentication\", acr_values=\"phr\", max_age=5",
        );
        let shown = "insufficient_user_authentication: acr_values phr max_age 5";
        assert_eq!(stepped, Some(AskedMore { shown: shown.to_owned(), claims: None }));
        let scoped = asked("Bearer error=\"insufficient_scope\", scope=\"files:read files:write\"");
        assert_eq!(
            scoped.expect("scopes").shown,
            "insufficient_scope: scope files:read files:write"
        );
    }
}
