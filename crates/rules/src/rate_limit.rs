//! [`RateLimitFields`]: the response fields in which a service states its rate limit, and what they say.

use std::time::Duration;

use http::header::{AsHeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderName, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use keyward_base::time;

/// From this number on, a time since the epoch is in milliseconds: as seconds it would be the year 5138.
const MILLISECONDS_FROM: f64 = 1e11;

/// Fields of a service's responses. Services that name none use common names.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitFields {
    /// The wait before the next request, in seconds or as a date, as in `Retry-After`, which is read for every service.
    #[serde(deserialize_with = "names")]
    pub after: Vec<HeaderName>,
    /// Seconds, or a duration such as `6m0s`, until the limit is reset.
    #[serde(deserialize_with = "names")]
    pub reset_after: Vec<HeaderName>,
    /// The time at which the limit is reset: seconds or milliseconds since the epoch, RFC 3339, or an HTTP date.
    #[serde(deserialize_with = "names")]
    pub reset_at: Vec<HeaderName>,
    /// The number of remaining requests. The field with `limit` instead of `remaining` in its name has the total.
    #[serde(deserialize_with = "names")]
    pub remaining: Vec<HeaderName>,
}

/// The name of a header field, as a file has it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct FieldName(HeaderName);

impl TryFrom<String> for FieldName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "this is not a header field's name; write letters and hyphens";
        HeaderName::from_bytes(text.as_bytes()).map(Self).map_err(|_| wrong)
    }
}

fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<HeaderName>, D::Error> {
    let names = Vec::<FieldName>::deserialize(from)?;
    Ok(names.into_iter().map(|FieldName(name)| name).collect())
}

/// A service's rate limit, as one response states it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StatedLimit {
    /// The remaining requests, of the limit that has the fewest.
    pub remaining: u64,
    /// The requests of one period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// When the period ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
}

/// The fields of a service whose provider file names none.
pub static COMMON: RateLimitFields = RateLimitFields {
    after: Vec::new(),
    reset_after: Vec::new(),
    reset_at: Vec::new(),
    remaining: Vec::new(),
};

impl RateLimitFields {
    /// The rate limit that a response states, in the service's own fields, in `RateLimit` (draft-ietf-httpapi-ratelimit-headers),
    /// or in fields with common names. Most state none: the time is read only for those that do.
    pub fn stated(
        &self,
        fields: &HeaderMap,
        now: impl FnOnce() -> Timestamp,
    ) -> Option<StatedLimit> {
        let (remaining, limit) = fewest(fields, &self.remaining).or_else(|| common(fields))?;
        let now = now();
        let wait = self.reset(fields, now).or_else(|| structured_reset(fields));
        let resets_at = wait.and_then(|wait| now.checked_add(wait).ok());
        Some(StatedLimit { remaining, limit, resets_at })
    }

    /// The wait that a response asks for before the next request: `Retry-After`, or the service's own fields. The end of the
    /// period counts only when the limit is spent, or unknown and the status is 429.
    pub fn wait(&self, status: StatusCode, fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
        let after = std::iter::once(&RETRY_AFTER).chain(&self.after);
        let asked = after.filter_map(|name| time::retry_after(text(fields, name)?, now));
        let is_spent = || match self.stated(fields, || now) {
            Some(stated) => stated.remaining == 0,
            None => status == StatusCode::TOO_MANY_REQUESTS,
        };
        asked.max().or_else(|| self.reset(fields, now).filter(|_| is_spent()))
    }

    /// The time until the last of the periods ends: which limit is spent cannot be read from every service's fields.
    fn reset(&self, fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
        let after = self.reset_after.iter().filter_map(|name| span(text(fields, name)?));
        let at = self.reset_at.iter().filter_map(|name| {
            let at = moment(text(fields, name)?)?;
            Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
        });
        after.chain(at).max()
    }
}

/// Names that several services use.
static COMMON_REMAINING: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("x-rate-limit-remaining"),
];

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

fn text(fields: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    fields.get(name)?.to_str().ok().map(str::trim)
}

/// The limit with the fewest remaining requests, of those that these fields state.
fn fewest(fields: &HeaderMap, names: &[HeaderName]) -> Option<(u64, Option<u64>)> {
    // Some write `60, 60;w=3600`.
    let number = |text: &str| text.split([',', ';']).next()?.trim().parse().ok();
    let pairs = names.iter().filter_map(|name| {
        let remaining = number(text(fields, name)?)?;
        let limit = text(fields, name.as_str().replace("remaining", "limit")).and_then(number);
        Some((remaining, limit))
    });
    pairs.min_by_key(|(remaining, _)| *remaining)
}

/// The limit in fields that any service may send. Most answers have none of them: one pass over the names costs less than a
/// look-up of each.
fn common(fields: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let is_common = |name: &HeaderName| {
        let name = name.as_str();
        name.ends_with("remaining") || name == "ratelimit"
    };
    if !fields.keys().any(is_common) {
        return None;
    }
    structured(fields).or_else(|| fewest(fields, &COMMON_REMAINING))
}

/// The fewest remaining requests of `RateLimit: "name";r=50;t=30`.
fn structured(fields: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let remaining = parameters(fields, "r").min()?;
    Some((remaining, None))
}

fn structured_reset(fields: &HeaderMap) -> Option<Duration> {
    parameters(fields, "t").max().map(Duration::from_secs)
}

/// The values of a parameter with a whole number, of each limit in `RateLimit`, which may have several lines (RFC 9651, 3.1).
fn parameters<'a>(fields: &'a HeaderMap, key: &'a str) -> impl Iterator<Item = u64> + 'a {
    let lines = fields.get_all(&RATE_LIMIT).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split([',', ';'])).filter_map(move |part| {
        let (name, value) = part.split_once('=')?;
        (name.trim() == key).then(|| value.trim().parse().ok())?
    })
}

/// Seconds, also with a fraction, or a duration with units.
fn span(text: &str) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => time::parse_duration(text).ok(),
    }
}

/// A number since the epoch, RFC 3339, or an HTTP date.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number >= MILLISECONDS_FROM { number } else { number * 1_000.0 };
        let is_time = (0.0..MILLISECONDS_FROM * 1_000.0).contains(&ms);
        return is_time.then(|| Timestamp::from_millisecond(ms as i64).ok())?;
    }
    text.parse().ok().or_else(|| time::http_date(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-25T12:00:00Z";

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn names(names: &[&'static str]) -> Vec<HeaderName> {
        names.iter().copied().map(HeaderName::from_static).collect()
    }

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn seconds(number: u64) -> Option<Duration> {
        Some(Duration::from_secs(number))
    }

    /// As GitHub names them.
    fn github() -> RateLimitFields {
        RateLimitFields {
            reset_at: names(&["x-ratelimit-reset"]),
            remaining: names(&["x-ratelimit-remaining"]),
            ..RateLimitFields::default()
        }
    }

    #[test]
    fn fields_without_a_valid_remaining_number_state_no_limit() {
        for line in [
            ("x-ratelimit-remaining", ""),
            ("x-ratelimit-remaining", "-1"),
            ("x-ratelimit-remaining", "many"),
            ("x-ratelimit-limit", "60"),
            ("ratelimit", "\"default\""),
            ("ratelimit", "\"default\";r;t=3"),
            ("content-type", "r=1"),
        ] {
            let stated = RateLimitFields::default()
                .stated(&fields(&[line]), || panic!("the time is read for {line:?}"));
            assert_eq!(stated, None, "{line:?}");
        }
    }

    /// A remaining limit says nothing about a wait, and neither does another status than 429.
    #[test]
    fn the_end_of_a_period_is_not_waited_for_while_requests_remain() {
        let reset = ("x-ratelimit-reset", "1795608060");
        let wait = |status, lines: &[_]| github().wait(status, &fields(lines), now());
        let (limited, away) = (StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(wait(limited, &[reset, ("x-ratelimit-remaining", "3")]), None);
        assert_eq!(wait(away, &[reset]), None);
        assert_eq!(wait(limited, &[reset]), seconds(60));
        assert_eq!(wait(away, &[reset, ("x-ratelimit-remaining", "0")]), seconds(60));
        assert_eq!(
            wait(limited, &[reset, ("retry-after", "5")]),
            seconds(5),
            "a wait is asked for"
        );
    }

    #[test]
    fn the_limit_with_the_fewest_requests_is_shown_with_its_total() {
        let own = RateLimitFields {
            remaining: names(&["x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"]),
            reset_after: names(&["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"]),
            ..RateLimitFields::default()
        };
        let stated = own.stated(
            &fields(&[
                ("x-ratelimit-remaining-requests", "9"),
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-tokens", "149984"),
                ("x-ratelimit-reset-requests", "20ms"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ]),
            now,
        );
        let resets_at = Some("2026-11-25T12:06:00Z".parse().unwrap());
        assert_eq!(stated, Some(StatedLimit { remaining: 9, limit: Some(60), resets_at }));
    }

    #[test]
    fn the_ratelimit_field_of_the_ietf_draft_is_read_for_every_service() {
        let one_line = [("ratelimit", "\"burst\";r=50;t=30, \"daily\";r=8;t=3600")];
        let two_lines =
            [("ratelimit", "\"burst\";r=50;t=30"), ("ratelimit", "\"daily\";r=8;t=3600")];
        let resets_at = Some("2026-11-25T13:00:00Z".parse().unwrap());
        for lines in [&one_line[..], &two_lines] {
            let stated = RateLimitFields::default().stated(&fields(lines), now);
            assert_eq!(
                stated,
                Some(StatedLimit { remaining: 8, limit: None, resets_at }),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn remaining_fields_with_common_names_are_read_for_every_service() {
        for name in COMMON_REMAINING.iter().map(HeaderName::as_str) {
            let lines = fields(&[("content-type", "text/plain"), (name, "7")]);
            let stated = RateLimitFields::default().stated(&lines, now);
            assert_eq!(stated.map(|it| it.remaining), Some(7), "{name}");
        }
    }

    #[test]
    fn reset_times_are_read_in_each_format_and_invalid_ones_are_ignored() {
        let one = |value: &str| github().reset(&fields(&[("x-ratelimit-reset", value)]), now());
        for (text, wait) in [
            ("1795608060", 60),
            ("1795608060.9", 60),
            ("1795608060000", 60),
            ("2026-11-25T12:01:00Z", 60),
            ("Wed, 25 Nov 2026 12:01:00 GMT", 60),
            ("1795607000", 0),
        ] {
            assert_eq!(one(text).map(|it| it.as_secs()), Some(wait), "{text}");
        }
        for text in ["", "soon", "-5", "NaN", "inf", "1e300", "12:01"] {
            assert_eq!(one(text), None, "{text}");
        }
        for text in ["", "NaN", "-1", "inf", "1e300", "6 parsecs"] {
            assert_eq!(span(text), None, "{text}");
        }
        assert_eq!(span("1.5"), Some(Duration::from_millis(1_500)));
    }
}
