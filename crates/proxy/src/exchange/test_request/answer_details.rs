//! [`AnswerDetails`]: what the answer to a test request says about the account and the rights of the credential. It
//! reads only the members that the provider's file names and some well-known fields, and drops text that contains a
//! part of the credential.

use http::{HeaderMap, header};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use keyward_rules::inject::scrub::Needles;
use keyward_rules::provider::ExpectedResponse;

/// The maximum length of an account's name or a scope, in characters.
const TEXT_CHARS_MAX: usize = 128;

/// The maximum number of scopes.
const SCOPES_MAX: usize = 64;

/// Smaller clock differences do not cause refusals.
const CLOCK_OFF_S: i64 = 120;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AnswerDetails {
    /// The name of the account.
    pub account: Option<String>,
    /// Scopes that the credential has.
    pub scopes: Vec<String>,
    /// Scopes that the request requires.
    pub needs: Vec<String>,
    /// The number of seconds that this machine's clock is ahead of the provider's, if that is much.
    pub clock_ahead_s: Option<i64>,
}

impl AnswerDetails {
    /// Reads the details. `body`: as far as it was read.
    pub fn of(
        fields: &HeaderMap,
        body: Option<&[u8]>,
        expected: &ExpectedResponse,
        needles: Option<&Needles>,
        now: Timestamp,
    ) -> Self {
        let clean = |text: String| clean(&text, needles);
        let list = |name: &str| words(fields, name).into_iter().filter_map(clean);
        let asked = fields.get_all(header::WWW_AUTHENTICATE).iter();
        let asked = asked.filter_map(|value| scope_of(value.to_str().ok()?));
        let needed = body.and_then(|body| expected.needed(body)).unwrap_or_default();
        let needs = asked.chain(needed).filter_map(clean);
        Self {
            account: body.and_then(|body| expected.account(body)).and_then(clean),
            scopes: list("x-oauth-scopes").take(SCOPES_MAX).collect(),
            needs: needs.chain(list("x-accepted-oauth-scopes")).take(SCOPES_MAX).collect(),
            clock_ahead_s: ahead(fields, now),
        }
    }
}

/// Trims the text. `None` if it is not printable or contains a part of the credential.
fn clean(text: &str, needles: Option<&Needles>) -> Option<String> {
    let text = text.trim();
    let has_credential = needles.is_some_and(|needles| needles.are_in(text.as_bytes()));
    let shown = !text.is_empty() && !text.contains(char::is_control);
    (shown && !has_credential).then(|| text.chars().take(TEXT_CHARS_MAX).collect())
}

/// The words of a list in a field.
fn words(fields: &HeaderMap, name: &str) -> Vec<String> {
    let values = fields.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split([',', ' ']));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `scope` of a challenge, RFC 6750 §3.
fn scope_of(challenge: &str) -> Option<String> {
    let (_, rest) = challenge.split_once("scope=\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// The clock difference by the answer's `Date`, RFC 9110 §6.6.1.
fn ahead(fields: &HeaderMap, now: Timestamp) -> Option<i64> {
    let date = fields.get(header::DATE)?.to_str().ok()?;
    let theirs = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let ahead = now.duration_since(theirs).as_secs();
    (ahead.abs() >= CLOCK_OFF_S).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::secret::Secret;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            ((*name).parse().unwrap(), http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn text_with_a_part_of_the_credential_is_dropped() {
        let secret = Secret::new("canary-0123456789");
        let needles = Needles::new([&secret], []);
        let fields = fields(&[
            ("x-oauth-scopes", "repo, canary-0123456789"),
            ("www-authenticate", "Bearer scope=\"xcanary-0123456789\""),
        ]);
        let now = Timestamp::UNIX_EPOCH;
        let details =
            AnswerDetails::of(&fields, None, &ExpectedResponse::default(), Some(&needles), now);
        assert_eq!(
            details,
            AnswerDetails { scopes: vec!["repo".to_owned()], ..AnswerDetails::default() }
        );
        assert_eq!(clean("a\u{1b}b", None), None);
    }

    #[test]
    fn scopes_are_read_where_providers_state_them() {
        let fields = fields(&[
            ("x-oauth-scopes", "repo, read:org"),
            ("x-accepted-oauth-scopes", "user"),
            ("www-authenticate", "Bearer error=\"insufficient_scope\", scope=\"a b\""),
        ]);
        let now = Timestamp::UNIX_EPOCH;
        let details = AnswerDetails::of(&fields, None, &ExpectedResponse::default(), None, now);
        assert_eq!(details.scopes, ["repo", "read:org"]);
        assert_eq!(details.needs, ["a b", "user"]);
    }

    #[test]
    fn a_large_clock_difference_is_reported_and_a_small_one_is_not() {
        let fields = fields(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        for (now, off) in [
            ("1994-11-06T08:51:00Z", None),
            ("1994-11-06T09:49:37Z", Some(3_600)),
            ("1994-11-06T07:49:37Z", Some(-3_600)),
        ] {
            assert_eq!(ahead(&fields, now.parse().unwrap()), off, "{now}");
        }
    }
}
