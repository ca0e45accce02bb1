//! [`ByteRange`]: the part that a request asks for, and [`ContentRange`], the part that an answer has. Ranges are widened
//! at both sides, so that no secret is cut at the edges of what the agent gets: the edges would show it in pieces, or show
//! which text begins or ends a secret.

use std::fmt;
use std::ops::Range;

use http::header::{self, HeaderMap, HeaderValue};

/// The answer to a shorter range is read whole before it is cut.
const LONG_BYTES: u64 = 1024;

/// Maximum number of bytes that a short range is widened by, at each side.
const MARGIN_MAX: u64 = 64 * 1024;

/// Maximum length of the answer to a widened short range.
pub const WIDENED_BYTES_MAX: u64 = LONG_BYTES + 2 * MARGIN_MAX;

/// The largest number that all servers read: of 63 bits. No object is so long.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// A single range of bytes (RFC 9110 §14.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteRange {
    /// `first-last`, both included.
    Bounded { first: u64, last: u64 },
    /// `first-`.
    From(u64),
    /// `-length`: the last bytes.
    Suffix(u64),
}

/// What a request asks for, after it was restricted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AskedPart {
    /// No range of bytes.
    Whole,
    /// The range `asked`, for which up to `margin` more bytes are asked for at each side.
    Widened { asked: ByteRange, margin: u64 },
}

/// What is passed on of a part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PassedPart {
    /// These bytes.
    Bytes(ContentRange),
    /// Nothing: the whole ends before the range.
    Beyond,
}

/// `Content-Range` of a single part (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentRange {
    first: u64,
    /// The last byte of the part, included.
    last: u64,
    /// The length of the whole, if it is known.
    total: Option<u64>,
}

impl ByteRange {
    /// Parses the value of `Range`; `None` if it is none, or several.
    pub fn parse(value: &HeaderValue) -> Option<Self> {
        let range = value.to_str().ok()?.trim().strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        match (first.trim(), last.trim()) {
            ("", length) => Some(Self::Suffix(number(length)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Bounded { first, last })
            }
        }
    }

    /// The range to ask for, with `margin` more bytes at each side. `None` if the answer to a short range would be too long.
    pub fn widened(self, margin: u64) -> Option<Self> {
        if margin > MARGIN_MAX && !self.is_long() {
            return None;
        }
        Some(match self {
            Self::Bounded { first, last } => {
                Self::Bounded { first: first.saturating_sub(margin), last: larger(last, margin) }
            }
            Self::From(first) => Self::From(first.saturating_sub(margin)),
            Self::Suffix(length) => Self::Suffix(larger(length, margin)),
        })
    }

    /// What is passed on of the part `came`: only bytes at whose sides `margin` more came, or where the whole begins or ends.
    /// It may end before this range does, as servers may answer, if the length of the whole is known. `None` if it does not
    /// begin as this range.
    pub fn passed(self, came: ContentRange, margin: u64) -> Option<PassedPart> {
        let is_last = came.total == Some(came.end());
        let known_first = if came.first == 0 { 0 } else { came.first.checked_add(margin)? };
        let known_last = if is_last { came.last } else { came.last.checked_sub(margin)? };
        let (first, last) = match self {
            Self::Bounded { first, last } => (first, last),
            Self::From(first) => (first, u64::MAX),
            Self::Suffix(_) if !is_last => return None,
            Self::Suffix(length) => (came.end().saturating_sub(length), came.last),
        };
        if is_last && first > came.last {
            return Some(PassedPart::Beyond);
        }
        // Whether the whole goes on after the part is not known.
        if came.total.is_none() && known_last < last {
            return None;
        }
        let passed = ContentRange { first, last: last.min(known_last), total: came.total };
        (known_first <= first && first <= passed.last).then_some(PassedPart::Bytes(passed))
    }

    /// Whether the answer streams, because it is not short.
    pub fn is_long(self) -> bool {
        match self {
            Self::Bounded { first, last } => last - first >= LONG_BYTES - 1,
            Self::From(_) => true,
            Self::Suffix(length) => length >= LONG_BYTES,
        }
    }

    /// The value of `Range`.
    pub fn to_value(self) -> HeaderValue {
        let text = match self {
            Self::Bounded { first, last } => format!("bytes={first}-{last}"),
            Self::From(first) => format!("bytes={first}-"),
            Self::Suffix(length) => format!("bytes=-{length}"),
        };
        HeaderValue::try_from(text).expect("ASCII")
    }
}

impl ContentRange {
    /// The part of an answer, if it has exactly one.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let mut values = fields.get_all(header::CONTENT_RANGE).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let range = value.to_str().ok()?.trim().strip_prefix("bytes ")?;
        let (range, total) = range.split_once('/')?;
        let (first, last) = range.trim().split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total).filter(|total| last < *total)?),
        };
        (first <= last && last < u64::MAX).then_some(Self { first, last, total })
    }

    /// Whether an answer with 206 has a part of bytes, as opposed to a part of a list.
    pub fn is_of_bytes(fields: &HeaderMap) -> bool {
        let mut ranges = fields.get_all(header::CONTENT_RANGE).iter();
        ranges.any(|range| range.as_bytes().to_ascii_lowercase().starts_with(b"bytes"))
            || has_several_parts(fields)
    }

    /// Whether an answer may have this part although no range was asked for: it is the whole.
    pub fn may_come_unasked(fields: &HeaderMap) -> bool {
        Self::of(fields).is_some_and(|part| part.first == 0 && part.total == Some(part.end()))
    }

    /// The number of bytes.
    pub fn length(self) -> u64 {
        self.end() - self.first
    }

    /// The positions of `inner` within this part.
    ///
    /// # Panics
    /// If `inner` begins before this part.
    pub fn positions_of(self, inner: Self) -> Range<u64> {
        let from = inner.first - self.first;
        from..from + inner.length()
    }

    /// `Content-Range` of an answer that says that the range is outside the whole, which ends with this part
    /// (RFC 9110 §15.5.17).
    pub fn unsatisfied(self) -> HeaderValue {
        HeaderValue::try_from(format!("bytes */{}", self.end())).expect("ASCII")
    }

    /// The value of `Content-Range`.
    pub fn to_value(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("ASCII")
    }

    fn end(self) -> u64 {
        self.last + 1
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, total } = self;
        match total {
            Some(total) => write!(f, "bytes {first}-{last}/{total}"),
            None => write!(f, "bytes {first}-{last}/*"),
        }
    }
}

/// Whether an answer has several parts, each of which cuts a secret (RFC 9110 §14.6).
pub fn has_several_parts(fields: &HeaderMap) -> bool {
    let mut types = fields.get_all(header::CONTENT_TYPE).iter();
    types.any(|it| it.as_bytes().to_ascii_lowercase().starts_with(b"multipart/byteranges"))
}

/// A number of a range, made larger, but not so large that servers refuse it.
fn larger(number: u64, by: u64) -> u64 {
    number.saturating_add(by).min(NUMBER_MAX).max(number)
}

/// A number without a sign, which `parse` would take.
fn number(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn range(text: &str) -> Option<ByteRange> {
        ByteRange::parse(&HeaderValue::from_str(text).unwrap())
    }

    fn part(text: &str) -> Option<ContentRange> {
        let mut fields = HeaderMap::new();
        fields.append(header::CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
        ContentRange::of(&fields)
    }

    #[test]
    fn multiple_and_invalid_ranges_are_not_parsed() {
        for text in [
            "bytes=0-2000,5000-9000",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=",
            "bytes=-",
            "bytes",
            "lines=0-4000",
            "bytes=0-+5000",
            "bytes=1-2-5000",
            "bytes=0-99999999999999999999999",
        ] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn an_invalid_or_repeated_content_range_is_not_parsed() {
        for text in [
            "bytes 5-4/10",
            "bytes 0-9/9",
            "bytes 0-9",
            "bytes */10",
            "items 0-9/10",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(part(text), None, "{text}");
        }
        let mut two = HeaderMap::new();
        two.append(header::CONTENT_RANGE, HeaderValue::from_static("bytes 0-9/10"));
        two.append(header::CONTENT_RANGE, HeaderValue::from_static("bytes 0-9/10"));
        assert_eq!(ContentRange::of(&two), None);
    }

    #[test]
    fn every_range_is_widened_at_both_sides_and_not_beyond_its_bounds() {
        for (asked, margin, sent) in [
            ("bytes=5000-5007", 100, Some("bytes=4900-5107")),
            ("bytes=50-57", 100, Some("bytes=0-157")),
            ("bytes=-8", 100, Some("bytes=-108")),
            ("bytes=5000-5007", MARGIN_MAX + 1, None),
            ("bytes=-8", MARGIN_MAX + 1, None),
            ("bytes=0-1023", 100, Some("bytes=0-1123")),
            ("bytes=0-1023", MARGIN_MAX + 1, Some("bytes=0-66560")),
            ("bytes=4096-8191", 100, Some("bytes=3996-8291")),
            ("bytes=-1024", 100, Some("bytes=-1124")),
            ("bytes=7-", 100, Some("bytes=0-")),
            ("bytes=700-", 100, Some("bytes=600-")),
            // Servers read 63 bits.
            ("bytes=500-9223372036854775807", 100, Some("bytes=400-9223372036854775807")),
            ("bytes=-9223372036854775800", 100, Some("bytes=-9223372036854775807")),
            ("bytes=5-18446744073709551615", 1, Some("bytes=4-18446744073709551615")),
        ] {
            let widened = range(asked).unwrap().widened(margin).map(ByteRange::to_value);
            assert_eq!(widened.as_ref().map(|value| value.to_str().unwrap()), sent, "{asked}");
        }
    }

    #[test]
    fn the_requested_range_is_cut_from_the_received_part() {
        for (asked, came, cut) in [
            ("bytes=5000-5007", "bytes 4900-5107/9000", ("bytes 5000-5007/9000", 100..108)),
            ("bytes=5000-5007", "bytes 4900-5003/5004", ("bytes 5000-5003/5004", 100..104)),
            ("bytes=5000-5007", "bytes 4900-5107/*", ("bytes 5000-5007/*", 100..108)),
            ("bytes=5000-5007", "bytes 0-8999/9000", ("bytes 5000-5007/9000", 5000..5008)),
            ("bytes=50-57", "bytes 0-157/9000", ("bytes 50-57/9000", 50..58)),
            ("bytes=-8", "bytes 892-999/1000", ("bytes 992-999/1000", 100..108)),
            ("bytes=-8", "bytes 0-3/4", ("bytes 0-3/4", 0..4)),
            ("bytes=500-", "bytes 400-999/1000", ("bytes 500-999/1000", 100..600)),
            ("bytes=5-", "bytes 0-9/10", ("bytes 5-9/10", 5..10)),
            // The server gives less than was asked for: its end is not known.
            ("bytes=500-", "bytes 400-799/1000", ("bytes 500-699/1000", 100..300)),
            ("bytes=500-5000", "bytes 400-799/10000", ("bytes 500-699/10000", 100..300)),
        ] {
            let came = part(came).unwrap();
            let Some(PassedPart::Bytes(passed)) = range(asked).unwrap().passed(came, 100) else {
                panic!("{asked}: nothing of {came}");
            };
            let (text, positions) = cut;
            assert_eq!((&*passed.to_string(), came.positions_of(passed)), (text, positions));
        }
    }

    #[test]
    fn nothing_is_passed_on_for_a_range_beyond_the_end() {
        for (asked, came) in [
            ("bytes=5000-5007", "bytes 4900-4999/5000"),
            ("bytes=5000-", "bytes 4900-4999/5000"),
            ("bytes=-0", "bytes 900-999/1000"),
        ] {
            let passed = range(asked).unwrap().passed(part(came).unwrap(), 100);
            assert_eq!(passed, Some(PassedPart::Beyond), "{asked}");
        }
        assert_eq!(part("bytes 4900-4999/5000").unwrap().unsatisfied(), "bytes */5000");
    }

    /// The edges of what is passed on would show what they cut.
    #[test]
    fn a_part_without_the_margin_around_the_requested_range_is_not_passed_on() {
        for (asked, came) in [
            ("bytes=1000-1007", "bytes 1000-1007/5000"),
            ("bytes=1000-1007", "bytes 900-1007/1200"),
            ("bytes=1000-1007", "bytes 900-1099/5000"),
            ("bytes=1000-1007", "bytes 901-1107/5000"),
            ("bytes=1000-1007", "bytes 0-7/5000"),
            ("bytes=1000-5000", "bytes 1000-5000/6000"),
            ("bytes=1000-", "bytes 1000-5999/6000"),
            ("bytes=50-", "bytes 1-5999/6000"),
            ("bytes=-8", "bytes 992-999/1000"),
            ("bytes=-8", "bytes 800-907/1000"),
            ("bytes=0-1023", "bytes 0-99/5000"),
            // Where the whole ends is not known.
            ("bytes=1000-1007", "bytes 900-1007/*"),
            ("bytes=5000-5007", "bytes 4900-5003/*"),
            ("bytes=500-507", "bytes 400-450/*"),
            ("bytes=500-", "bytes 400-999/*"),
            ("bytes=-8", "bytes 892-999/*"),
        ] {
            let passed = range(asked).unwrap().passed(part(came).unwrap(), 100);
            assert_eq!(passed, None, "{asked}: {came}");
        }
    }

    #[test]
    fn byte_ranges_are_distinguished_from_ranges_of_other_units() {
        let fields =
            |name: HeaderName, text| HeaderMap::from_iter([(name, HeaderValue::from_static(text))]);
        for (text, is_of_bytes, may_come) in [
            ("0-24/3573", false, false),
            ("id 5f..6a; max=200", false, false),
            ("BYTES 0-7/9000", true, false),
            ("bytes 0-7/9000", true, false),
            ("bytes 8976-8999/9000", true, false),
            ("bytes 0-7/8", true, true),
            ("bytes 100-1123/9000", true, false),
            ("bytes 0-1123/*", true, false),
        ] {
            let fields = fields(header::CONTENT_RANGE, text);
            assert_eq!(ContentRange::is_of_bytes(&fields), is_of_bytes, "{text}");
            assert_eq!(ContentRange::may_come_unasked(&fields), may_come, "{text}");
        }
        let several = fields(header::CONTENT_TYPE, "Multipart/ByteRanges; boundary=b");
        assert!(ContentRange::is_of_bytes(&several) && has_several_parts(&several));
        assert!(!ContentRange::is_of_bytes(&fields(header::CONTENT_TYPE, "application/json")));
    }
}
