//! [`CallbackQuery`]: the strictly parsed query of an OAuth callback. Nothing of it is trusted yet.

use percent_encoding::percent_decode_str;

use super::error::CallbackRefusal;

/// Most bytes of a callback's query.
pub(super) const QUERY_BYTES_MAX: usize = 8 * 1024;

/// JARM (JWT Secured Authorization Response Mode for OAuth 2.0 §2.3.1).
const SIGNED_RESPONSE: &str = "it is a signed response (JARM), which Keyward does not support: give the app the response \
     mode `query` at the provider";

/// The checked parameters, each given at most once.
#[derive(Default)]
pub(crate) struct CallbackQuery {
    pub(crate) state: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) iss: Option<String>,
    pub(crate) error: Option<String>,
    /// The token of OAuth 1.0a (RFC 5849 §2.2).
    pub(super) oauth_token: Option<String>,
    pub(super) oauth_verifier: Option<String>,
    /// All other parameters, which some providers use for hosts.
    pub(super) others: Vec<(String, String)>,
}

impl CallbackQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// When it is too long, not UTF-8, or repeats a parameter.
    pub(crate) fn read(query: &str) -> Result<Self, CallbackRefusal> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(CallbackRefusal::Malformed("it is too long"));
        }
        let mut callback = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let slot = match name.as_str() {
                "state" => &mut callback.state,
                "code" => &mut callback.code,
                "iss" => &mut callback.iss,
                "error" => &mut callback.error,
                "oauth_token" => &mut callback.oauth_token,
                "oauth_verifier" => &mut callback.oauth_verifier,
                _ => {
                    callback.others.push((name, value));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                return Err(CallbackRefusal::Malformed("it has a parameter twice"));
            }
        }
        Ok(callback)
    }

    /// The state.
    ///
    /// # Errors
    /// When there is none, with the cause if it is known.
    pub(super) fn required_state(&self) -> Result<&str, CallbackRefusal> {
        let missing = || match self.other("response") {
            Some(_) => CallbackRefusal::Malformed(SIGNED_RESPONSE),
            None => CallbackRefusal::NoState,
        };
        self.state.as_deref().ok_or_else(missing)
    }

    /// The value of another parameter; `None` if it is absent or repeated.
    pub(super) fn other(&self, name: &str) -> Option<&str> {
        let mut named = self.others.iter().filter(|(known, _)| known == name);
        let (_, value) = named.next()?;
        named.next().is_none().then_some(value)
    }
}

fn decoded(text: &str) -> Result<String, CallbackRefusal> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8();
    text.map(std::borrow::Cow::into_owned)
        .map_err(|_| CallbackRefusal::Malformed("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// oauth 2.1
    #[test]
    fn a_repeated_parameter_or_a_long_query_is_refused() {
        for twice in [
            "state=a&state=a",
            "code=a&state=s&code=b",
            "iss=a&iss=b",
            "error=a&%65rror=b",
            "oauth_token=a&state=s&oauth_token=a",
            "oauth_verifier=a&oauth%5Fverifier=b",
            "state=s&state",
            "state=%ff",
        ] {
            assert!(CallbackQuery::read(twice).is_err(), "{twice}");
        }
        assert!(CallbackQuery::read(&format!("x={}", "a".repeat(QUERY_BYTES_MAX))).is_err());
    }

    /// oauth 2.1
    #[test]
    fn repeated_other_parameters_are_ignored() {
        let read = CallbackQuery::read("code=a%2Bb&state=s+t&x=1&x=2&location=eu").ok().unwrap();
        assert_eq!((read.code.as_deref(), read.state.as_deref()), (Some("a+b"), Some("s t")));
        assert_eq!((read.other("x"), read.other("location")), (None, Some("eu")));
    }

    /// oauth 2.2
    #[test]
    fn a_callback_without_state_is_refused_with_the_likely_cause() {
        for (query, cause) in [
            ("code=a&installation_id=1", "begin the consent in Keyward"),
            ("error=access_denied", "begin the consent in Keyward"),
            ("response=e30.e30.x", "JARM"),
        ] {
            let read = CallbackQuery::read(query).ok().unwrap();
            let refusal = read.required_state().expect_err(query);
            assert!(refusal.to_string().contains(cause), "{query}: {refusal}");
        }
        assert_eq!(CallbackQuery::read("state=").ok().unwrap().required_state().ok(), Some(""));
    }
}
