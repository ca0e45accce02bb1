//! [`ByteRange`]: the part that a request asks for, and [`ContentRange`], the part that an answer has. A short range
//! is widened, so that a secret is not fetched in pieces that no search finds.

use std::fmt;
use std::ops::Range;

use http::header::{self, HeaderMap, HeaderValue};

/// Shorter ranges are widened: at the edges of a part, up to three bytes of a secret are not found.
const LONG_BYTES: u64 = 1024;

/// Maximum number of bytes that a range is widened by, at each side.
const MARGIN_MAX: u64 = 64 * 1024;

/// Maximum length of the answer to a widened range.
pub const WIDENED_BYTES_MAX: u64 = LONG_BYTES + 2 * MARGIN_MAX;

/// A single range of bytes (RFC 9110 §14.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteRange {
    /// `first-last`, both included.
    Bounded { first: u64, last: u64 },
    /// `first-`.
    From(u64),
    /// `-length`: the last bytes.
    Last(u64),
}

/// What a request asks for, after it was restricted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AskedPart {
    /// No range of bytes.
    Whole,
    /// The range that the agent asked for.
    AsSent,
    /// More than the agent asked for.
    Widened { asked: ByteRange, sent: ByteRange },
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
            ("", length) => Some(Self::Last(number(length)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Bounded { first, last })
            }
        }
    }

    /// The range to ask for: a long one as it is, a short one with `margin` more bytes at each side. `None` without a
    /// margin, or if it is too large.
    pub fn widened(self, margin: Option<u64>) -> Option<Self> {
        if self.is_long() {
            return Some(self);
        }
        let margin = margin.filter(|margin| *margin <= MARGIN_MAX)?;
        Some(match self {
            Self::Bounded { first, last } => Self::Bounded {
                first: first.saturating_sub(margin),
                last: last.checked_add(margin)?,
            },
            Self::From(_) => self,
            Self::Last(length) => Self::Last(length + margin),
        })
    }

    /// Whether a part has all of this range, or ends with the whole.
    pub fn is_in(self, part: ContentRange) -> bool {
        let is_last = part.total.is_none_or(|total| total == part.end());
        match self {
            Self::Bounded { first, last } => part.first <= first && (part.last >= last || is_last),
            Self::From(first) => part.first <= first && is_last,
            Self::Last(length) => is_last && (part.first == 0 || part.length() >= length),
        }
    }

    fn is_long(self) -> bool {
        match self {
            Self::Bounded { first, last } => last - first >= LONG_BYTES - 1,
            Self::From(_) => true,
            Self::Last(length) => length >= LONG_BYTES,
        }
    }

    /// The intersection of `part` with this range; `None` if it is empty.
    pub fn of_part(self, part: ContentRange) -> Option<ContentRange> {
        let (first, last) = match self {
            Self::Bounded { first, last } => (first, last),
            Self::From(first) => (first, part.last),
            // The part of a range of last bytes ends where the whole ends.
            Self::Last(length) => (part.end().saturating_sub(length), part.last),
        };
        let asked = ContentRange {
            first: first.max(part.first),
            last: last.min(part.last),
            total: part.total,
        };
        (asked.first <= asked.last).then_some(asked)
    }

    /// The value of `Range`.
    pub fn to_value(self) -> HeaderValue {
        let text = match self {
            Self::Bounded { first, last } => format!("bytes={first}-{last}"),
            Self::From(first) => format!("bytes={first}-"),
            Self::Last(length) => format!("bytes=-{length}"),
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

    /// Whether an answer may have this part although no range was asked for: it is the whole, or so long that a secret is
    /// not read in pieces of it.
    pub fn may_come_unasked(fields: &HeaderMap) -> bool {
        let is_whole = |part: Self| part.first == 0 && part.total == Some(part.end());
        Self::of(fields).is_some_and(|part| is_whole(part) || part.length() >= LONG_BYTES)
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

    /// `Content-Range` of an answer that says that the range is outside the whole (RFC 9110 §15.5.17).
    pub fn unsatisfied(self) -> HeaderValue {
        let total = self.total.unwrap_or(self.end());
        HeaderValue::try_from(format!("bytes */{total}")).expect("ASCII")
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
    fn several_and_senseless_ranges_are_none() {
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
    fn a_senseless_part_is_none() {
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
    fn a_range_is_widened_at_both_sides_and_not_beyond_its_bounds() {
        for (asked, margin, sent) in [
            ("bytes=5000-5007", Some(100), Some("bytes=4900-5107")),
            ("bytes=50-57", Some(100), Some("bytes=0-157")),
            ("bytes=-8", Some(100), Some("bytes=-108")),
            ("bytes=5000-5007", Some(MARGIN_MAX + 1), None),
            ("bytes=5000-5007", None, None),
            ("bytes=18446744073709551610-18446744073709551615", Some(1), None),
            ("bytes=0-1023", Some(100), Some("bytes=0-1023")),
            ("bytes=-1024", None, Some("bytes=-1024")),
            ("bytes=7-", None, Some("bytes=7-")),
        ] {
            let widened = range(asked).unwrap().widened(margin).map(ByteRange::to_value);
            assert_eq!(widened.as_ref().map(|value| value.to_str().unwrap()), sent, "{asked}");
        }
    }

    #[test]
    fn what_was_asked_for_is_cut_from_the_part_that_came() {
        for (asked, came, cut) in [
            ("bytes=5000-5007", "bytes 4900-5107/9000", Some(("bytes 5000-5007/9000", 100..108))),
            ("bytes=5000-5007", "bytes 4900-5003/5004", Some(("bytes 5000-5003/5004", 100..104))),
            ("bytes=5000-5007", "bytes 4900-4999/5000", None),
            ("bytes=-8", "bytes 892-999/1000", Some(("bytes 992-999/1000", 100..108))),
            ("bytes=-8", "bytes 0-3/4", Some(("bytes 0-3/4", 0..4))),
            ("bytes=-8", "bytes 892-999/*", Some(("bytes 992-999/*", 100..108))),
            ("bytes=-0", "bytes 900-999/1000", None),
        ] {
            let came = part(came).unwrap();
            let found = range(asked).unwrap().of_part(came);
            let found = found.map(|found| (found.to_string(), came.positions_of(found)));
            let cut = cut.map(|(text, positions)| (text.to_owned(), positions));
            assert_eq!(found, cut, "{asked}");
        }
        assert_eq!(part("bytes 4900-4999/5000").unwrap().unsatisfied(), "bytes */5000");
    }

    #[test]
    fn a_part_that_lacks_some_of_a_range_is_not_taken_for_it() {
        for (sent, came, is_in) in [
            ("bytes=900-1107", "bytes 1000-1007/5000", false),
            ("bytes=900-1107", "bytes 900-1007/5000", false),
            ("bytes=900-1107", "bytes 901-1107/5000", false),
            ("bytes=900-1107", "bytes 900-1107/5000", true),
            ("bytes=900-1107", "bytes 0-4999/5000", true),
            ("bytes=900-1107", "bytes 900-999/1000", true),
            ("bytes=900-1107", "bytes 900-999/*", true),
            ("bytes=-108", "bytes 992-999/1000", false),
            ("bytes=-108", "bytes 800-907/1000", false),
            ("bytes=-108", "bytes 892-999/1000", true),
            ("bytes=-108", "bytes 0-49/50", true),
            ("bytes=5-", "bytes 6-9/10", false),
            ("bytes=5-", "bytes 5-9/10", true),
        ] {
            assert_eq!(range(sent).unwrap().is_in(part(came).unwrap()), is_in, "{sent}: {came}");
        }
    }

    #[test]
    fn parts_of_lists_and_short_parts_are_told_apart() {
        let fields =
            |name: HeaderName, text| HeaderMap::from_iter([(name, HeaderValue::from_static(text))]);
        for (text, is_of_bytes, may_come) in [
            ("0-24/3573", false, false),
            ("id 5f..6a; max=200", false, false),
            ("BYTES 0-7/9000", true, false),
            ("bytes 0-7/9000", true, false),
            ("bytes 8976-8999/9000", true, false),
            ("bytes 0-7/8", true, true),
            ("bytes 100-1123/9000", true, true),
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
