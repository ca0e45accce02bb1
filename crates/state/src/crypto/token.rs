//! Tokens of agents and people: issuing, hashing, comparing. The text exists only when it is shown; SHA-256 is
//! stored, which is sufficient for values of at least 128 random bits.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use keyward_base::agent::{TOKEN_PREFIX, is_unreserved};
use keyward_base::base62;
use keyward_base::secret::Secret;

/// Prefix of agents' tokens, for people and secret scanners.
const AGENT_PREFIX: &str = TOKEN_PREFIX;
/// Prefix of personal access tokens.
const PERSON_PREFIX: &str = "kwp_";
/// Prefix of the tokens in cookies of logins.
const LOGIN_PREFIX: &str = "kwl_";
/// Prefix of the tokens in links that sign a user in.
const LINK_PREFIX: &str = "kwo_";
/// Prefix of the tokens of connect links, and of the cookies of the browsers that opened them.
const CONNECT_PREFIX: &str = "kwn_";
/// Random part: 32 base-62 characters, 190 bits.
const BODY_LEN: usize = 32;
/// Random part of tokens of logins and links: 43 base-62 characters, 256 bits.
const SIGN_IN_BODY_LEN: usize = 43;
/// Length of the checksum: 62^6 > 2^32, so it holds any CRC-32.
const CHECKSUM_LEN: usize = 6;
/// Minimum length of a chosen token.
const CHOSEN_LEN_MIN: usize = 20;
/// Maximum length of a chosen token: it must fit into a proxy URL.
const CHOSEN_LEN_MAX: usize = 512;

/// SHA-256 of a token's text, the only stored form.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Hashes a token's text.
    pub fn of(token: &str) -> Self {
        Self::of_bytes(token.as_bytes())
    }

    /// Hashes a token that is held as a secret.
    pub fn of_secret(token: &Secret) -> Self {
        Self::of_bytes(token.expose())
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// Formats as 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Parses [`TokenHash::to_hex`]; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        super::source::hex32(text.as_bytes()).map(|bytes| Self(*bytes))
    }

    fn of_bytes(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl fmt::Debug for TokenHash {
    /// Prints a prefix, which is enough to distinguish hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// Issues an agent token: `kwa_` + 32 base-62 characters (190 bits) + 6 base-62 characters of CRC-32.
pub(crate) fn issue_agent_token() -> Secret {
    issue(AGENT_PREFIX, BODY_LEN)
}

/// Issues a personal access token: like an agent's, with the prefix `kwp_`.
pub(crate) fn issue_personal_token() -> Secret {
    issue(PERSON_PREFIX, BODY_LEN)
}

/// Issues the token of a connect link, or the cookie of its browser: like an agent's, with the prefix `kwn_`.
pub fn issue_connect_token() -> Secret {
    issue(CONNECT_PREFIX, BODY_LEN)
}

/// Issues the token of a login's cookie: 256 random bits and a checksum, with the prefix `kwl_`.
pub fn issue_login_token() -> Secret {
    issue(LOGIN_PREFIX, SIGN_IN_BODY_LEN)
}

/// Issues the token of a link that signs a user in, with the prefix `kwo_`.
pub(crate) fn issue_link_token() -> Secret {
    issue(LINK_PREFIX, SIGN_IN_BODY_LEN)
}

fn issue(prefix: &str, body_len: usize) -> Secret {
    // With its full length, so that no reallocation leaves a copy.
    let mut text = Zeroizing::new(vec![0_u8; prefix.len() + body_len + CHECKSUM_LEN]);
    let (signed, checksum) = text.split_at_mut(prefix.len() + body_len);
    let (head, body) = signed.split_at_mut(prefix.len());
    head.copy_from_slice(prefix.as_bytes());
    base62::fill(body);
    checksum.copy_from_slice(&base62::checksum::<CHECKSUM_LEN>(signed));
    Secret::new(text.as_slice())
}

/// Whether the text has the form and checksum of a personal access token. This distinguishes a mistyped or cut token
/// from an unknown one without a look-up.
pub fn is_personal_form(token: &str) -> bool {
    is_issued_as(PERSON_PREFIX, BODY_LEN, token)
}

/// Like [`is_personal_form`], for tokens of logins.
pub fn is_login_form(token: &str) -> bool {
    is_issued_as(LOGIN_PREFIX, SIGN_IN_BODY_LEN, token)
}

/// Hashes the token of a link that signs a user in; `None` if the text does not have the form of such a token.
pub(crate) fn hash_of_link(token: &Secret) -> Option<TokenHash> {
    let is_issued = |text: &&str| is_issued_as(LINK_PREFIX, SIGN_IN_BODY_LEN, text);
    token.expose_text().filter(is_issued).map(TokenHash::of)
}

fn is_issued_as(prefix: &str, body_len: usize, token: &str) -> bool {
    let Some(body) = token.strip_prefix(prefix) else { return false };
    if body.len() != body_len + CHECKSUM_LEN || !body.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return false;
    }
    let (signed, given) = token.as_bytes().split_at(prefix.len() + body_len);
    given == base62::checksum::<CHECKSUM_LEN>(signed)
}

/// Whether a token chosen in the configuration is valid: 20 to 512 unreserved characters.
pub fn is_acceptable(token: &str) -> bool {
    (CHOSEN_LEN_MIN..=CHOSEN_LEN_MAX).contains(&token.len()) && is_unreserved(token)
}

/// Like [`is_acceptable`], for a token held as a secret.
pub fn is_acceptable_secret(token: &Secret) -> bool {
    token.expose_text().is_some_and(is_acceptable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_agent_form(token: &str) -> bool {
        is_issued_as(AGENT_PREFIX, BODY_LEN, token)
    }

    #[test]
    fn each_kind_of_token_is_recognised_and_other_texts_are_not() {
        let token = issue_agent_token();
        let token = token.expose_text().unwrap();
        assert!(is_agent_form(token));
        let mut typo = token.to_owned().into_bytes();
        typo[10] = if typo[10] == b'a' { b'b' } else { b'a' };
        let typo = String::from_utf8(typo).unwrap();
        for bad in ["", "kwa_", &token[..token.len() - 1], &format!("{token}0"), &typo] {
            assert!(!is_agent_form(bad), "{bad}");
        }
        assert!(!is_agent_form(&token.replace("kwa_", "kwp_")));
        assert!(!is_personal_form(token) && !is_personal_form(&token.replace("kwa_", "kwp_")));
        let personal = issue_personal_token();
        let personal = personal.expose_text().unwrap();
        assert!(is_personal_form(personal) && !is_agent_form(personal));
        let (login, link) = (issue_login_token(), issue_link_token());
        assert!(hash_of_link(&link).is_some() && hash_of_link(&login).is_none());
        let (login, link) = (login.expose_text().unwrap(), link.expose_text().unwrap());
        assert!(is_login_form(login) && !is_personal_form(login));
        assert!(!is_login_form(link) && !is_agent_form(link));
        assert_eq!(login.len(), 53);
        assert!(!is_agent_form(&"\u{e9}".repeat(21)));
    }

    #[test]
    fn weak_or_unsendable_tokens_are_refused() {
        for bad in [
            "",
            "short",
            "nineteen-characters",
            "has a blank in the middle",
            "a:b@c/d%e-f-g-h-i-j-k",
        ] {
            assert!(!is_acceptable(bad), "{bad}");
        }
        assert!(!is_acceptable(&"x".repeat(513)));
        assert!(!is_acceptable_secret(&Secret::new(vec![0xff; 30])));
        assert!(is_acceptable("twenty-characters-ok"));
    }

    #[test]
    fn issued_agent_tokens_have_42_characters_and_differ() {
        let (a, b) = (issue_agent_token(), issue_agent_token());
        assert_eq!(a.len(), 42);
        assert!(is_acceptable_secret(&a));
        assert!(!TokenHash::of_secret(&a).matches(&TokenHash::of_secret(&b)));
    }

    #[test]
    fn hashes_round_trip_as_hex_and_match_sha_256() {
        // FIPS 180-4's "abc".
        let hash = TokenHash::of("abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_hex(), hex);
        assert!(TokenHash::from_hex(hex).unwrap().matches(&hash));
        for bad in ["", "zz", &hex[1..], &format!("{hex}0"), &hex.replace('b', "g")] {
            assert_eq!(TokenHash::from_hex(bad), None, "{bad}");
        }
        assert_eq!(format!("{hash:?}"), "TokenHash(ba78…)");
    }
}
