//! [`TraceContext`]: `traceparent` and `tracestate` of W3C Trace Context (<https://www.w3.org/TR/trace-context/>),
//! parsed strictly: invalid values are ignored, never repaired.

use std::fmt;

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The field with the ids of the trace and of the caller's span.
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The field with data of tracing systems, which is passed on unread.
pub(super) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The flag of a caller that records its span.
const SAMPLED: u8 = 1;

/// The flags that are passed on: sampled, and since level 2 that the trace's id is random.
const KNOWN_FLAGS: u8 = 0b11;

/// Length of `traceparent` in version 00; later versions may append fields.
const PARENT_BYTES: usize = 55;

/// Maximum number of members in `tracestate` (§3.3.1.1).
const MEMBERS_MAX: usize = 32;

/// The id of a trace; not zero.
pub(super) type TraceId = [u8; 16];

/// The id of a span; not zero.
pub(super) type SpanId = [u8; 8];

/// A span and its trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TraceContext {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) flags: u8,
}

impl TraceContext {
    /// A new trace. `sample`: the share of traces that are recorded.
    pub(super) fn root(sample: f64) -> Self {
        let mut context = Self { trace: random(), span: random(), flags: 0 };
        let [.., a, b, c, d, e, f, g, h] = context.trace;
        // The algorithm of TraceIdRatioBased in the SDKs: systems with the same share record the same traces.
        let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
        let below = (sample * (1_u64 << 63) as f64) as u64;
        context.flags = u8::from(sample >= 1.0 || place < below);
        context
    }

    /// A new span of the same trace.
    pub(super) fn child(self) -> Self {
        Self { span: random(), ..self }
    }

    /// Reads `traceparent`; `None` if it is absent, repeated or invalid.
    pub(super) fn of(fields: &HeaderMap) -> Option<Self> {
        let mut values = fields.get_all(&TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.as_bytes()),
            _ => None,
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, later) = text.split_at_checked(PARENT_BYTES)?;
        let [a, b, b'-', rest @ ..] = known else { return None };
        let [version] = hex([*a, *b])?;
        let is_long = match version {
            0 => !later.is_empty(),
            0xff => return None,
            _ => !later.is_empty() && later[0] != b'-',
        };
        let (trace, rest) = rest.split_first_chunk::<32>()?;
        let [b'-', rest @ ..] = rest else { return None };
        let (span, rest) = rest.split_first_chunk::<16>()?;
        let [b'-', c, d] = rest else { return None };
        let (trace, span, [flags]) = (hex(*trace)?, hex(*span)?, hex([*c, *d])?);
        let is_valid = !is_long && trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self { trace, span, flags: flags & KNOWN_FLAGS })
    }

    /// Whether the trace is recorded.
    pub(super) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent`.
    pub(super) fn value(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).expect("hexadecimal digits and hyphens")
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, flags } = self;
        let (trace, span) = (u128::from_be_bytes(*trace), u64::from_be_bytes(*span));
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

/// Whether all `tracestate` fields together are valid (§3.3.1).
pub(super) fn is_valid_state(fields: &HeaderMap) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    for value in fields.get_all(&TRACESTATE) {
        for member in value.as_bytes().split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
            let (key, value) = (&member[..at], &member[at + 1..]);
            if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MEMBERS_MAX
            {
                return false;
            }
            keys.push(key);
        }
    }
    true
}

/// `key`, or `tenant@system`.
fn is_key(key: &[u8]) -> bool {
    let is_part = |part: &[u8], bytes_max: usize, may_begin: fn(&u8) -> bool| {
        (1..=bytes_max).contains(&part.len())
            && part.first().is_some_and(may_begin)
            && part.iter().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte)
            })
    };
    match key.iter().position(|byte| *byte == b'@') {
        None => is_part(key, 256, u8::is_ascii_lowercase),
        Some(at) => {
            let is_begin = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            is_part(&key[..at], 241, is_begin)
                && is_part(&key[at + 1..], 14, u8::is_ascii_lowercase)
        }
    }
}

fn is_value(value: &[u8]) -> bool {
    let is_char = |byte: &u8| matches!(byte, 0x20..=0x7e) && *byte != b'=';
    (1..=256).contains(&value.len()) && value.iter().all(is_char)
}

/// `N` bytes of lower-case hexadecimal digits. `D` is twice `N`, or this panics.
fn hex<const D: usize, const N: usize>(digits: [u8; D]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    HEXLOWER.decode_mut(&digits, &mut bytes).ok()?;
    Some(bytes)
}

/// Random bytes, not all zero.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn fields(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    fn read(values: &[&str]) -> Option<String> {
        TraceContext::of(&fields(&TRACEPARENT, values)).map(|context| context.to_string())
    }

    /// Includes the cases of the W3C's test suite.
    #[test]
    fn an_invalid_traceparent_is_ignored() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01";
        let longer = format!("{PARENT}-what");
        let (dot, dash) = (format!("{PARENT}."), format!("{PARENT}-"));
        let upper = PARENT.to_uppercase();
        let unknown = PARENT.replacen("00", "ff", 1);
        let fused = format!("cc{}what", &PARENT[2..]);
        for bad in [
            "",
            "00",
            zero_trace,
            zero_span,
            &longer,
            &dot,
            &dash,
            &upper,
            &unknown,
            &fused,
            &PARENT[..54],
            &PARENT.replacen("-01", "-1", 1),
            &PARENT.replacen("-01", "-0x", 1),
            &PARENT.replacen("00-", ".0-", 1),
            &PARENT.replacen("00-", "0-", 1),
            &PARENT.replacen("00-", "000-", 1),
            &PARENT.replace('-', "_"),
            &PARENT.replacen("0af7", "0ag7", 1),
            &PARENT.replacen("0af7", "0af", 1),
            &PARENT.replacen("b7ad", "b7a.", 1),
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[PARENT, PARENT]), None, "repeated");
    }

    #[test]
    fn ids_and_known_flags_are_kept_and_later_versions_are_read_as_far_as_they_are_known() {
        assert_eq!(read(&[PARENT]).as_deref(), Some(PARENT));
        let with = |version: &str, flags: &str| format!("{version}{}{flags}", &PARENT[2..53]);
        for (sent, flags) in [("00", "00"), ("01", "01"), ("02", "02"), ("ff", "03"), ("08", "00")]
        {
            assert_eq!(read(&[&with("00", sent)]), Some(with("00", flags)), "{sent}");
        }
        for later in [with("cc", "01"), with("cc", "01-what-comes"), with("01", "01-")] {
            assert_eq!(read(&[&later]).as_deref(), Some(PARENT), "{later}");
        }
    }

    #[test]
    fn only_a_valid_tracestate_is_accepted() {
        let long_key = "k".repeat(257);
        let many: Vec<_> = (0..33).map(|n| format!("k{n}=1")).collect();
        for bad in [
            "foo",
            "=1",
            "foo=",
            "Foo=1",
            "foo =1",
            "1foo=1",
            "foo=1=2",
            "foo=1,foo=2",
            "foo@=1",
            "@bar=1",
            "foo@bar@baz=1",
            "foo@1bar=1",
            "foo@fifteenletters1=1",
            "foo=1;bar=2",
            "f.o=1",
            &format!("{long_key}=1"),
            &format!("k={}", "v".repeat(257)),
            &many.join(","),
        ] {
            assert!(!is_valid_state(&fields(&TRACESTATE, &[bad])), "{bad}");
        }
        assert!(!is_valid_state(&fields(&TRACESTATE, &["foo=1", "foo=2"])));
        for good in ["foo=1", "foo=1,bar=2", "foo=1 , ,bar=2\t", "0a@b=1", "a_-*/0=x y", ""] {
            assert!(is_valid_state(&fields(&TRACESTATE, &[good])), "{good}");
        }
        assert!(is_valid_state(&fields(&TRACESTATE, &[&many[..32].join(",")])));
    }

    #[test]
    fn the_configured_share_of_root_traces_is_sampled() {
        let sampled = |sample| (0..400).filter(|_| TraceContext::root(sample).is_sampled()).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 400));
        assert!((100..300).contains(&sampled(0.5)), "far from 200");
    }
}
