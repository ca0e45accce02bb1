//! [`PathPattern`], and the [`DecodedPath`] that it matches. Decisions use the decoded path; the bytes on the
//! wire are sent unchanged. Paths that servers read differently but real clients send (`@scope%2fname` of npm)
//! are marked as ambiguous; `policy` refuses them where a decision depends on the path.
//!
//! [`LetterCase`]: whether upper and lower case differ in a comparison of texts. Comparing allocates nothing.

use std::fmt;

use percent_encoding::percent_decode_str;

use super::PatternError;

/// `/repos/**`, `/v1/*/items`, `/bot*/sendMessage`, `/**/info/refs`. `*` matches one segment or part of one; `**`
/// matches any number of segments, including none. A trailing slash makes no difference.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathPattern {
    /// What stands before the first `**`.
    begin: Vec<Segment>,
    /// What stands behind each.
    runs: Vec<Vec<Segment>>,
}

#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Segment {
    Literal(Box<str>),
    /// The texts between the stars: two or more, the first and last anchored.
    Stars(Vec<Box<str>>),
}

/// A request path in the form that decisions use: percent-decoded once, without dot segments.
///
/// Only one layer is decoded: `%252f` becomes the text `%2f`, not a slash. An encoded slash is kept as `%2F`
/// and makes the path [`ambiguous`](Self::ambiguous).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecodedPath {
    text: Box<str>,
    /// The path as written, if it differs from `text`.
    raw: Option<Box<str>>,
    ambiguous: bool,
    /// The same, unambiguous, if only encoded slashes make it ambiguous.
    with_slashes: Option<Box<Self>>,
}

/// Characters that represent an unknown value in a path that a credential will be written into. They are
/// control characters, which no request path and no pattern contains.
pub mod mask {
    /// Stands for a secret.
    pub const SECRET: char = '\u{1a}';

    /// Stands for a value that is not secret, such as an account name.
    pub const OPEN: char = '\u{1b}';

    /// Whether `text` contains a mask.
    pub fn is_in(text: &str) -> bool {
        text.contains([SECRET, OPEN])
    }
}

/// A path that cannot be decided on. The message is shown to the agent and quotes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// `\`, `%5c`, a control byte, or invalid UTF-8 after decoding.
    #[error(
        "the path has a backslash, a control byte or invalid UTF-8, which servers read differently"
    )]
    Ambiguous,
    /// `..` in any spelling, `.` in any but the plain one, or a path that does not begin with a
    /// slash.
    #[error("the path has dot segments, or does not begin with a slash")]
    DotSegments,
}

impl PathPattern {
    /// Parses a pattern written in decoded form.
    ///
    /// # Errors
    /// When the text is not a pattern, or no decoded path can match it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let error = || PatternError::Path(text.to_owned());
        let parts: Vec<&str> = segments(text).ok_or_else(error)?.collect();
        if parts.iter().any(|part| *part != ANY && part.contains(ANY)) {
            return Err(error());
        }
        let fit = parts.iter().copied().all(is_matchable);
        if !fit || text.starts_with("//") || text.contains(UNMATCHABLE) {
            return Err(PatternError::Unmatchable(text.to_owned()));
        }
        let run = |parts: &[&str]| parts.iter().copied().map(Segment::of).collect::<Vec<_>>();
        let mut runs = parts.split(|part| *part == ANY).map(run);
        Ok(Self { begin: runs.next().unwrap_or_default(), runs: runs.collect() })
    }

    /// Whether the pattern matches the path, with its letters in the same case. An ambiguous path is split at its literal
    /// slashes only. A masked path matches only if it does so for every value of the masks: only a star matches a mask.
    pub fn matches(&self, path: &DecodedPath) -> bool {
        self.matches_in(path, LetterCase::Distinct)
    }

    /// As [`matches`](Self::matches), with letters compared in this way.
    pub fn matches_in(&self, path: &DecodedPath, case: LetterCase) -> bool {
        self.meets(path, |segment, text| segment.matches(text, case))
    }

    /// Whether the pattern could match some reading of the path, or some value of its masks. If the only ambiguities
    /// are encoded slashes and ends of segments, all readings have the same segments before the first of them; clients
    /// of real services send such paths (`/api/v4/projects/group%2Fname`). A `**` may match all that follows.
    pub fn may_match(&self, path: &DecodedPath, case: LetterCase) -> bool {
        if !path.ambiguous {
            return self.meets(path, |segment, text| segment.may_match(text, case));
        }
        let Some(body) = path.text.strip_prefix('/').filter(|body| !has_other_doubts(body)) else {
            return true;
        };
        let is_sure = |segment: &&str| !segment.contains('%') && !has_trimmed_end(segment);
        let sure = body.split('/').take_while(is_sure);
        self.begin.iter().zip(sure).all(|(segment, text)| segment.may_match(text, case))
    }

    /// Each run but the last is matched where it first fits, which is sufficient because `**` matches anything. At most
    /// as many segments are compared as the product of the two lengths.
    fn meets(&self, path: &DecodedPath, is_met: impl Fn(&Segment, &str) -> bool) -> bool {
        let Some(mut given) = segments(&path.text) else { return false };
        if !begins(&mut given, &self.begin, &is_met) {
            return false;
        }
        let [runs @ .., last] = &self.runs[..] else { return given.next().is_none() };
        for run in runs {
            while !begins(&mut given.clone(), run, &is_met) {
                if given.next().is_none() {
                    return false;
                }
            }
            given.by_ref().take(run.len()).for_each(drop);
        }
        let more = given.clone().count().checked_sub(last.len());
        more.is_some_and(|more| begins(&mut given.skip(more), last, &is_met))
    }

    /// Length of the literal beginning in bytes, plus one if the whole pattern is literal. A higher value is
    /// more specific.
    pub fn specificity(&self) -> usize {
        let mut bytes = 0;
        for segment in &self.begin {
            match segment {
                Segment::Literal(text) => bytes += 1 + text.len(),
                Segment::Stars(texts) => return bytes + 1 + texts.first().map_or(0, |t| t.len()),
            }
        }
        bytes + usize::from(self.runs.is_empty())
    }
}

/// `**`, which is a segment of its own.
const ANY: &str = "**";

/// The segments of a path or pattern, without that after a trailing slash; `None` if it does not begin with a slash.
fn segments(path: &str) -> Option<impl Iterator<Item = &str> + Clone> {
    let body = path.strip_prefix('/')?;
    let body = body.strip_suffix('/').unwrap_or(body);
    Some(body.split('/').skip(usize::from(body.is_empty())))
}

/// Takes the segments of the run, as far as they are met. Whether all are.
fn begins<'t>(
    given: &mut impl Iterator<Item = &'t str>,
    run: &[Segment],
    is_met: impl Fn(&Segment, &str) -> bool,
) -> bool {
    run.iter().all(|segment| given.next().is_some_and(|text| is_met(segment, text)))
}

/// Characters that an unambiguous decoded path never contains, and those that only occur in a query.
const UNMATCHABLE: [char; 5] = ['\\', '%', ';', '?', '#'];

fn is_matchable(segment: &str) -> bool {
    !segment.is_empty() && !is_dots(segment) && !segment.contains(char::is_control)
}

impl Segment {
    fn of(text: &str) -> Self {
        match text.contains('*') {
            true => Self::Stars(text.split('*').map(Into::into).collect()),
            false => Self::Literal(text.into()),
        }
    }

    fn matches(&self, text: &str, case: LetterCase) -> bool {
        match self {
            Self::Literal(literal) => case.is_same(literal, text),
            Self::Stars(texts) => !text.is_empty() && matches_stars(texts, text, case),
        }
    }

    /// Matches with some non-empty values for the masks in `text`. A secret that is a whole segment equals no
    /// literal, because rules do not contain secrets.
    fn may_match(&self, text: &str, case: LetterCase) -> bool {
        let (Some(first), Some(last)) = (text.find(MASKS), text.rfind(MASKS)) else {
            return self.matches(text, case);
        };
        let (before, after) = (&text[..first], &text[last + 1..]);
        let begins = |text: &str, beginning: &str| case.strip_prefix(text, beginning).is_some();
        let ends = |text: &str, end: &str| case.strip_suffix(text, end).is_some();
        match self {
            Self::Literal(_) if text.chars().eq([mask::SECRET]) => false,
            Self::Literal(literal) => {
                literal.len() > before.len() + after.len()
                    && begins(literal, before)
                    && ends(literal, after)
            }
            // The middle texts may be anywhere between the outer ones.
            Self::Stars(texts) => {
                let [begin, .., end] = &**texts else { return false };
                (begins(begin, before) || begins(before, begin))
                    && (ends(end, after) || ends(after, end))
            }
        }
    }
}

const MASKS: [char; 2] = [mask::SECRET, mask::OPEN];

/// Matches the middle texts from the left. This is sufficient because a star matches anything, and it is
/// linear.
fn matches_stars(texts: &[Box<str>], text: &str, case: LetterCase) -> bool {
    let [first, middle @ .., last] = texts else { return false };
    let Some(rest) = case.strip_prefix(text, first) else { return false };
    let Some(mut rest) = case.strip_suffix(rest, last) else { return false };
    for wanted in middle {
        match case.after(rest, wanted) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    true
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |segment: &Segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Stars(texts) => format!("/{}", texts.join("*")),
        };
        let run = |run: &Vec<Segment>| run.iter().map(part).collect::<String>();
        let runs: Vec<String> = std::iter::once(&self.begin).chain(&self.runs).map(run).collect();
        let text = runs.join("/**");
        f.write_str(if text.is_empty() { "/" } else { &text })
    }
}

impl DecodedPath {
    /// Decodes the path part of an origin-form target (no query); empty means `/`.
    ///
    /// # Errors
    /// On dot segments, backslashes, control bytes and invalid UTF-8, in any encoding. A plain `.` is accepted,
    /// because apt sends it (`/debian/./Packages`).
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if matches!(raw, "" | "*") {
            return Ok(Self::plain(if raw.is_empty() { "/" } else { raw }));
        }
        let Some(body) = raw.strip_prefix('/') else { return Err(PathError::DotSegments) };
        match is_plain(raw) {
            true => Ok(Self::plain(raw)),
            false => Self::decode(raw, body),
        }
    }

    fn plain(text: &str) -> Self {
        Self { text: text.into(), raw: None, ambiguous: false, with_slashes: None }
    }

    fn decode(raw: &str, body: &str) -> Result<Self, PathError> {
        let kept = keep_encoded_slashes(raw);
        let text = percent_decode_str(&kept).decode_utf8().map_err(|_| PathError::Ambiguous)?;
        if text.contains(|c: char| c == '\\' || c.is_control()) {
            return Err(PathError::Ambiguous);
        }
        let both = text.to_ascii_lowercase().replace("%2f", "/");
        let plain = raw.split('/').filter(|segment| *segment == ".").count();
        if both.split('/').filter(|segment| is_dots(segment)).count() != plain {
            return Err(PathError::DotSegments);
        }
        // Servers that merge slashes (nginx), treat `.` differently, cut `;parameters` (Java) or interpret an
        // invalid percent sign differently read another path than we do.
        let has_slashes = kept.len() != raw.len();
        let ambiguous = plain > 0
            || body.contains("//")
            || body.starts_with('/')
            || body.contains(';')
            || text.split('/').any(has_trimmed_end)
            || has_stray_percent(raw);
        let raw = (text != raw).then(|| raw.into());
        let path = Self { text: text.into(), raw, ambiguous, with_slashes: None };
        let with_slashes = (has_slashes && !ambiguous).then(|| Box::new(path.clone()));
        Ok(Self { ambiguous: ambiguous || has_slashes, with_slashes, ..path })
    }

    /// The path `prefix/rest`. `prefix` is decoded and may contain masks; `rest` is as written in the request.
    ///
    /// # Errors
    /// As [`DecodedPath::parse`], of `rest`.
    pub fn join(prefix: &str, rest: &str) -> Result<Self, PathError> {
        let rest = Self::parse(&format!("/{rest}"))?;
        let text = format!("{prefix}{}", rest.text).into();
        Ok(Self { text, raw: None, ambiguous: rest.ambiguous, with_slashes: None })
    }

    /// The path as written; for a masked path, the decoded text.
    pub fn raw(&self) -> &str {
        self.raw.as_deref().unwrap_or(&self.text)
    }

    /// Whether the path contains a mask.
    pub fn is_masked(&self) -> bool {
        mask::is_in(&self.text)
    }

    /// The decoded text. It begins with `/`, or is `*` (OPTIONS).
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as a service reads it for which an encoded slash is a part of its segment; `None` if that is no other
    /// reading.
    pub fn with_slashes_in_segments(&self) -> Option<&Self> {
        self.with_slashes.as_deref()
    }

    /// The path without what follows the first dot of its last segment, where some servers read a format: `merge.json` is
    /// `merge` there. `None` if that is no other path.
    pub fn without_format(&self) -> Option<Self> {
        let (before, last) = self.text.trim_end_matches('/').rsplit_once('/')?;
        let (name, _) = last.split_once('.').filter(|(name, _)| !name.is_empty())?;
        let text = format!("{before}/{name}").into();
        Some(Self { text, raw: None, ambiguous: self.ambiguous, with_slashes: None })
    }

    /// Whether servers may read the path differently: it has an encoded slash, an empty segment, `.`, `;`, a segment
    /// that ends in a dot or a space, or an invalid percent escape. No decision may then depend on the path.
    pub fn ambiguous(&self) -> bool {
        self.ambiguous
    }
}

/// Whether the path needs no decoding and is unambiguous, as most are. No segment is empty, or begins or ends with a
/// dot.
fn is_plain(raw: &str) -> bool {
    let mut before = b' ';
    let all_fit = raw.bytes().all(|byte| {
        let fits = match byte {
            b'/' => !matches!(before, b'/' | b'.'),
            b'.' => before != b'/',
            b'%' | b';' | b'\\' => false,
            byte => byte.is_ascii_graphic(),
        };
        before = byte;
        fits
    });
    all_fit && before != b'.'
}

/// Whether the segment ends in dots or spaces, which Windows, and the matchers of Caddy on every system, remove.
/// <https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions>
fn has_trimmed_end(segment: &str) -> bool {
    segment.ends_with(['.', ' '])
}

/// Whether the path has empty segments, `.`, parameters, or a percent sign that is not part of `%2F`.
fn has_other_doubts(body: &str) -> bool {
    let body = body.strip_suffix('/').unwrap_or(body);
    body.split('/').any(|segment| matches!(segment, "" | "."))
        || body.contains(';')
        || body.split('%').skip(1).any(|rest| !rest.starts_with("2F"))
}

/// Encodes the percent sign of encoded slashes again, so that decoding once yields `%2F`.
fn keep_encoded_slashes(raw: &str) -> String {
    raw.replace("%2f", "%252F").replace("%2F", "%252F")
}

/// Whether the segment is `.` or `..`, also if it is encoded twice or followed by `;parameters`.
fn is_dots(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or(segment);
    matches!(name, "." | "..")
        || name.contains('%')
            && matches!(&*name.to_ascii_lowercase().replace("%2e", "."), "." | "..")
}

fn has_stray_percent(raw: &str) -> bool {
    raw.split('%').skip(1).any(|rest| {
        !rest.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

/// How the letters of a pattern are compared with those of a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LetterCase {
    /// `a` and `A` differ: for what is allowed.
    Distinct,
    /// ASCII letters of both cases are the same: for what is refused, because many servers ignore case.
    Ignored,
}

impl LetterCase {
    pub(super) fn is_same(self, one: &str, other: &str) -> bool {
        match self {
            Self::Distinct => one == other,
            Self::Ignored => one.eq_ignore_ascii_case(other),
        }
    }

    /// The rest of a text that begins with `beginning`.
    pub(super) fn strip_prefix<'a>(self, text: &'a str, beginning: &str) -> Option<&'a str> {
        let (first, rest) = text.split_at_checked(beginning.len())?;
        self.is_same(first, beginning).then_some(rest)
    }

    /// The rest of a text that ends with `end`.
    pub(super) fn strip_suffix<'a>(self, text: &'a str, end: &str) -> Option<&'a str> {
        let (rest, last) = text.split_at_checked(text.len().checked_sub(end.len())?)?;
        self.is_same(last, end).then_some(rest)
    }

    /// The text after the first place of `wanted`, which is not empty.
    pub(super) fn after<'a>(self, text: &'a str, wanted: &str) -> Option<&'a str> {
        match self {
            Self::Distinct => text.split_once(wanted).map(|(_, rest)| rest),
            Self::Ignored => {
                let mut ends = text.char_indices().map(|(at, _)| &text[at..]);
                ends.find_map(|end| self.strip_prefix(end, wanted))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::LetterCase::{Distinct, Ignored};
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).expect(text)
    }

    fn path(raw: &str) -> DecodedPath {
        DecodedPath::parse(raw).expect(raw)
    }

    #[test]
    fn invalid_path_patterns_are_refused() {
        for bad in
            ["", "*", "**", "repos", "repos/**", "/a**", "/**b/c", "/a/**b", "/***", "/a/***"]
        {
            assert_eq!(PathPattern::parse(bad), Err(PatternError::Path(bad.to_owned())), "{bad}");
        }
        for bad in [
            "//", "//a", "/a//b", "/a/../b", "/.", "/..", "/a/./b", "/a%20b", "/a\\b", "/a?b=c",
            "/a#b", "/a;b", "/a\u{0}b", "/a/..;x", "/a//**", "/a\nb",
        ] {
            let unmatchable = Err(PatternError::Unmatchable(bad.to_owned()));
            assert_eq!(PathPattern::parse(bad), unmatchable, "{bad}");
        }
    }

    #[test]
    fn paths_that_servers_read_differently_are_refused() {
        for bad in [
            "/a\\b",
            "/a%5cb",
            "/a%5Cb",
            "/%00",
            "/a%0ab",
            "/a%7f",
            "/%ff",
            "/%c0%af",
            "/%ed%a0%80",
            "/a\u{7f}",
            "/a%1fb",
            "/%c2%85",
        ] {
            assert_eq!(DecodedPath::parse(bad), Err(PathError::Ambiguous), "{bad}");
        }
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for bad in [
            "/..",
            "/a/../b",
            "/a/./../b",
            "/a/..",
            "/./%2e",
            "/a/.%2fb",
            "/a/.;x/b",
            "/%2e%2e/b",
            "/%2E./b",
            "/.%2e",
            "/a/%2e/b",
            "/a%2f..%2fb",
            "/a%2F%2e%2e%2Fb",
            "/..%2fb",
            "/..;/b",
            "/a/..;x=y/b",
            "/%252e%252e/b",
            "/a/%252E./b",
            "/a%2f..;x",
            "..",
            "a",
            "a/b",
            "http://x/",
        ] {
            assert_eq!(DecodedPath::parse(bad), Err(PathError::DotSegments), "{bad}");
        }
    }

    #[test]
    fn a_pattern_may_match_an_ambiguous_path_unless_its_certain_prefix_differs() {
        let token = pattern("/oauth/token");
        for raw in [
            "/oauth/token",
            "/oauth%2ftoken",
            "/oauth%2Ftoken/x",
            "/oauth/token%2f",
            "/%2foauth/token",
            "//oauth/token",
            "/./oauth/token",
            "/x/./oauth",
            "/x//oauth/token",
            "/oauth;x/token",
            "/x;y/oauth",
            "/x%/oauth",
            "/oauth/x%2fy",
            "/x%252f%zz",
            "/oauth/token.",
            "/oauth/token%20",
            "/oauth./token",
        ] {
            assert!(token.may_match(&path(raw), Distinct), "{raw}");
        }
        for raw in [
            "/api/a%2Fb",
            "/api/oauth%2ftoken",
            "/oauth/tokens/a%2fb",
            "/x/y",
            "/api/%2f",
            "/api/x.",
        ] {
            assert!(!token.may_match(&path(raw), Distinct), "{raw}");
        }
        assert!(pattern("/api/*/token").may_match(&path("/api/a%2fb"), Distinct));
        assert!(pattern("/api/**/token").may_match(&path("/api/x/a%2fb"), Distinct));
        assert!(!pattern("/api/**/token").may_match(&path("/v1/a%2fb"), Distinct));
        assert!(!token.may_match(&path("/OAuth/a%2fb"), Distinct));
        assert!(token.may_match(&path("/OAuth/a%2fb"), Ignored));
    }

    #[test]
    fn paths_with_two_readings_are_marked_as_ambiguous() {
        for (raw, text) in [
            ("/@scope%2fname", "/@scope%2Fname"),
            ("/a%2Fb", "/a%2Fb"),
            ("//a", "//a"),
            ("/a//b", "/a//b"),
            ("/a//", "/a//"),
            ("/a/./b", "/a/./b"),
            ("/.", "/."),
            ("/a;b=c/d", "/a;b=c/d"),
            ("/100%", "/100%"),
            ("/%zz", "/%zz"),
            ("/%u002f", "/%u002f"),
            ("/a.", "/a."),
            ("/a..", "/a.."),
            ("/a%2e", "/a."),
            ("/a./b", "/a./b"),
            ("/a%20", "/a "),
            ("/a%20/b", "/a /b"),
            ("/...", "/..."),
        ] {
            assert!(path(raw).ambiguous(), "{raw}");
            assert_eq!(path(raw).as_str(), text);
        }
    }

    #[test]
    fn plain_paths_decode_once() {
        for (raw, text) in [
            ("", "/"),
            ("/", "/"),
            ("*", "*"),
            ("/a%20b/%C3%BC%2B1", "/a b/ü+1"),
            ("/%252f", "/%2f"),
            ("/a%3bb", "/a;b"),
            ("/a.b", "/a.b"),
            ("/.well-known/x", "/.well-known/x"),
            ("/v1/a..b", "/v1/a..b"),
            ("/%41dmin/", "/Admin/"),
        ] {
            assert_eq!((path(raw).as_str(), path(raw).ambiguous()), (text, false), "{raw}");
        }
    }

    #[test]
    fn patterns_do_not_match_beyond_their_segments() {
        for (text, raw) in [
            ("/repos/*", "/repos"),
            ("/repos/*", "/repos/a/b"),
            ("/repos/**", "/repository"),
            ("/repos/**", "/xrepos/a"),
            ("/repos/**", "/Repos/a"),
            ("/v1/*/items", "/v1/items"),
            ("/v1/*/items", "/v1/a/b/items"),
            ("/bot*/sendMessage", "/bot1/2/sendMessage"),
            ("/bot*/sendMessage", "/xbot1/sendMessage"),
            ("/a*a", "/a"),
            ("/a*b*c", "/acb"),
            ("/", "/a"),
            ("/**", "*"),
            ("/*", "/"),
            ("/a/b", "/a%2fb"),
            ("/**/b", "/"),
            ("/**/b", "/a"),
            ("/**/b", "/b/a"),
            ("/**/b", "/xb"),
            ("/**/b/c", "/b/x/c"),
            ("/a/**/b", "/b"),
            ("/a/**/b", "/x/a/b"),
            ("/a/**/b", "/a%2fb"),
            ("/a/**/b", "/a/x%2fb"),
            ("/*/*/**/refs", "/a/refs"),
            ("/**/a/**/a", "/x/a"),
            ("/**/*", "/"),
            ("/**/b", "*"),
        ] {
            assert!(!pattern(text).matches(&path(raw)), "{text} {raw}");
        }
    }

    #[test]
    fn patterns_match_decoded_segments() {
        for (text, raw) in [
            ("/", "/"),
            ("/**", "/"),
            ("/**", "/a/b"),
            ("/repos/**", "/repos"),
            ("/repos/**", "/repos/"),
            ("/repos/**", "/repos/a/b"),
            ("/repos", "/repos/"),
            ("/repos/", "/repos"),
            ("/v1/*/items", "/v1/a/items"),
            ("/bot*/sendMessage", "/bot123:abc/sendMessage"),
            ("/bot*/sendMessage", "/bot/sendMessage"),
            ("/a*b*c", "/a-b-b-c"),
            ("/a b", "/a%20b"),
            ("/admin", "/%61dmin"),
            ("/@*", "/@scope%2fname"),
            ("/**/b", "/b"),
            ("/**/b", "/b/b/a/b/"),
            ("/a/**/b", "/a/b"),
            ("/a/**/b", "/a/x/y/b"),
            ("/a/**/b/**", "/a/x/b"),
            ("/a/**/b/**", "/a/b/b/c"),
            ("/**/b/c/**/d", "/b/x/b/c/c/d"),
            ("/*/*/**/refs", "/a/b/c/refs"),
            ("/**/*.git/**", "/a/b.git/c"),
            ("/**/**/b", "/a/b"),
        ] {
            assert!(pattern(text).matches(&path(raw)), "{text} {raw}");
        }
    }

    #[test]
    fn the_longer_literal_beginning_is_more_specific() {
        let order = ["/**/x", "/*", "/v1/**", "/v1/*", "/v1/a*", "/v1/ab/**", "/v1/ab"];
        for pair in order.windows(2) {
            let (less, more) = (pattern(pair[0]), pattern(pair[1]));
            assert!(less.specificity() < more.specificity(), "{pair:?}");
        }
    }

    #[test]
    fn case_is_ignored_in_every_part_of_a_pattern_only_where_that_is_asked() {
        for (text, raw) in [
            ("/repos/acme/**", "/REPOS/Acme/x"),
            ("/bot*/sendMessage", "/Bot1/sendmessage"),
            ("/a*bc*D", "/A-x-BC-d"),
            ("/*.json", "/x.JSON"),
            ("/**/Info/refs", "/x/y/info/REFS"),
            ("/admin", "/%41dmin"),
        ] {
            let (pattern, path) = (pattern(text), path(raw));
            assert!(pattern.matches_in(&path, Ignored), "{text} {raw}");
            assert!(!pattern.matches_in(&path, Distinct), "{text} {raw}");
        }
        for (text, raw) in [
            ("/acme", "/acmes"),
            ("/a*b*c", "/ACB"),
            ("/ü", "/%C3%9C"),
            ("/[", "/{"),
            ("/a*b", "/ü"),
        ] {
            assert!(!pattern(text).matches_in(&path(raw), Ignored), "{text} {raw}");
        }
    }

    /// Every number of segments is tried for each `**`.
    fn naive(wanted: &str, given: &str) -> bool {
        fn split(text: &str) -> Vec<&str> {
            text.split('/').skip(1).collect()
        }
        fn fits(wanted: &[&str], given: &[&str]) -> bool {
            match (wanted.split_first(), given.split_first()) {
                (None, rest) => rest.is_none(),
                (Some((&ANY, after)), _) => (0..=given.len()).any(|at| fits(after, &given[at..])),
                (Some(_), None) => false,
                (Some((one, after)), Some((text, rest))) => {
                    Segment::of(one).matches(text, Distinct) && fits(after, rest)
                }
            }
        }
        fits(&split(wanted), &split(given))
    }

    #[test]
    fn a_path_of_many_segments_is_matched_in_time_of_the_product_of_the_lengths() {
        let many = pattern(&format!("{}/c", "/**/a/b".repeat(50)));
        assert!(!many.matches(&path(&"/a/b".repeat(2_000))));
        assert!(!many.matches(&path(&"/a/a".repeat(2_000))));
    }

    fn masked(prefix: &str, rest: &str) -> DecodedPath {
        DecodedPath::join(prefix, rest).expect(rest)
    }

    #[test]
    fn only_a_star_matches_a_mask_and_a_literal_that_fits_around_it_may_match() {
        let bot = masked("/bot\u{1a}", "sendMessage");
        for (text, matches, may_match) in [
            ("/bot*/sendMessage", true, true),
            ("/*/sendMessage", true, true),
            ("/b*t*/send*", true, true),
            ("/**", true, true),
            ("/bot1*/sendMessage", false, true),
            ("/*x/sendMessage", false, true),
            ("/bot1:k/sendMessage", false, true),
            ("/**/sendMessage", true, true),
            ("/**/bot1/**/sendMessage", false, true),
            ("/**/bat1/**", false, false),
            ("/bot/sendMessage", false, false),
            ("/bat*/sendMessage", false, false),
            ("/bot*/getMe", false, false),
            ("/sendMessage", false, false),
        ] {
            let pattern = pattern(text);
            let met = (pattern.matches(&bot), pattern.may_match(&bot, Distinct));
            assert_eq!(met, (matches, may_match), "{text}");
        }
    }

    #[test]
    fn a_literal_may_match_a_segment_that_is_a_masked_value_but_not_a_masked_secret() {
        let literal = pattern("/acme/x");
        assert!(!literal.may_match(&masked("/\u{1a}", "x"), Distinct));
        assert!(literal.may_match(&masked("/\u{1b}", "x"), Distinct));
        assert!(!literal.matches(&masked("/\u{1b}", "x")));
    }

    #[test]
    fn a_mask_may_stand_for_text_in_any_case_where_case_is_ignored() {
        let bot = masked("/Bot\u{1a}x", "sendMessage");
        for (text, distinct, ignored) in [
            ("/bot1X/sendmessage", false, true),
            ("/bot1*X/SENDMESSAGE", false, true),
            ("/Bot1x/sendMessage", true, true),
            ("/bat1x/sendMessage", false, false),
        ] {
            let found = [Distinct, Ignored].map(|case| pattern(text).may_match(&bot, case));
            assert_eq!(found, [distinct, ignored], "{text}");
        }
    }

    #[test]
    fn joining_a_prefix_keeps_the_ambiguity_and_the_refusal_of_a_path() {
        let plain = masked("/bot\u{1a}", "a%20b/");
        assert_eq!((plain.as_str(), plain.ambiguous()), ("/bot\u{1a}/a b/", false));
        assert!(plain.is_masked() && !path("/bot/a").is_masked());
        assert!(masked("/bot\u{1a}", "a%2fb").ambiguous() && masked("/x", "/a").ambiguous());
        assert_eq!(DecodedPath::join("/x", "../a"), Err(PathError::DotSegments));
        assert!(DecodedPath::parse("/bot\u{1a}/x").is_err() && DecodedPath::parse("/%1a").is_err());
    }

    #[test]
    fn a_format_is_what_follows_the_first_dot_of_the_last_segment() {
        for (raw, plain) in [
            ("/a/merge.json", Some("/a/merge")),
            ("/a/merge%2ea.b/", Some("/a/merge")),
            ("/a.b/merge", None),
            ("/a/.well-known", None),
            ("/", None),
            ("*", None),
        ] {
            let found = path(raw).without_format();
            assert_eq!(found.as_ref().map(DecodedPath::as_str), plain, "{raw}");
        }
    }

    #[test]
    fn a_decoded_path_keeps_its_raw_text() {
        for raw in ["/", "/a", "/%61/b%20c", "/a%2fb", "*"] {
            assert_eq!(path(raw).raw(), raw);
        }
    }

    proptest! {
        #[test]
        fn matches_of_a_mask_holds_for_every_value_and_may_match_misses_no_value(
            before in "[a-c]{0,2}",
            after in "[a-c]{0,2}",
            value in "[a-c]{1,3}",
            text in "(/\\*\\*)?/([a-c*]{1,5})(/x|/\\*\\*|/\\*\\*/x)?",
        ) {
            let Ok(pattern) = PathPattern::parse(&text) else { return Ok(()) };
            let known = path(&format!("/{before}{value}{after}/x"));
            let masked = masked(&format!("/{before}\u{1b}{after}"), "x");
            prop_assert!(!pattern.matches(&masked) || pattern.matches(&known));
            prop_assert!(pattern.may_match(&masked, Distinct) || !pattern.matches(&known));
        }

        #[test]
        fn a_pattern_matches_what_all_ways_of_sharing_out_its_segments_find(
            text in "(/(a|b|[ab]?\\*|\\*\\*)){0,5}",
            raw in "(/[ab]{1,2}){0,6}",
        ) {
            prop_assert_eq!(pattern(&format!("{text}/")).matches(&path(&raw)), naive(&text, &raw));
        }

        #[test]
        fn a_plain_path_is_parsed_to_the_same_result_without_decoding(raw in "/[a-c/.%2eE;~\\\\ \u{7f}é]{0,9}") {
            if is_plain(&raw) {
                let decoded = DecodedPath::decode(&raw, &raw[1..]);
                prop_assert_eq!(decoded, Ok(path(&raw)));
            }
        }

        #[test]
        fn decoding_is_idempotent_for_paths_without_encoding(
            raw in "(/[a-zA-Z0-9 ~_-]{1,8}){1,4}/?",
        ) {
            let once = path(&raw);
            prop_assert_eq!(once.as_str(), &raw);
            prop_assert_eq!(path(once.as_str()), once);
        }

        #[test]
        fn an_encoded_path_matches_the_same_patterns_as_the_plain_path(
            plain in "(/[a-z~:@]{1,6}){1,3}",
            text in "(/([a-z]{1,3}|\\*\\*?|[a-z]\\*)){1,3}(/\\*\\*)?",
        ) {
            let encoded: String = plain
                .chars()
                .map(|c| if c == '/' { "/".into() } else { format!("%{:02x}", u32::from(c)) })
                .collect();
            let (encoded, plain, pattern) = (path(&encoded), path(&plain), pattern(&text));
            prop_assert_eq!(encoded.as_str(), plain.as_str());
            prop_assert_eq!(pattern.matches(&encoded), pattern.matches(&plain));
            let louder = path(&plain.raw().to_ascii_uppercase());
            prop_assert_eq!(pattern.matches_in(&louder, Ignored), pattern.matches(&plain));
        }

        #[test]
        fn a_literal_pattern_matches_its_own_text(
            text in "(/[a-z.]{1,3}x){1,4}",
            tail in "/[a-z]{1,5}",
        ) {
            prop_assert_eq!(pattern(&text).to_string(), &*text);
            prop_assert!(pattern(&text).matches(&path(&text)));
            let longer = format!("{text}{tail}");
            prop_assert!(!pattern(&text).matches(&path(&longer)));
            let open = pattern(&format!("{text}/**"));
            prop_assert!(open.matches(&path(&longer)));
        }

        #[test]
        fn a_parsed_path_has_no_dot_dot_segment_and_no_control_character(
            raw in "/(\\.|%2e|%2f|/|;|a|%5c|%00|%25|2e){0,8}",
        ) {
            if let Ok(path) = DecodedPath::parse(&raw) {
                let text = path.as_str().replace("%2F", "/");
                prop_assert!(!text.split('/').any(|s| s == ".."), "{}", text);
                prop_assert!(path.ambiguous() || !text.split('/').any(|s| s == "."), "{}", text);
                prop_assert!(!text.contains('\\') && !text.contains(char::is_control));
            }
        }

        #[test]
        fn no_text_makes_parsing_panic(text in "\\PC{0,30}") {
            let _ = (DecodedPath::parse(&text), PathPattern::parse(&text));
        }
    }

    #[test]
    fn case_counts_only_where_it_is_distinct_and_only_ascii_letters_have_one() {
        for (one, other, distinct, ignored) in [
            ("acme", "acme", true, true),
            ("acme", "Acme", false, true),
            ("acme", "acmes", false, false),
            ("a[", "a{", false, false),
            ("ü", "Ü", false, false),
        ] {
            let found = [Distinct, Ignored].map(|case| case.is_same(one, other));
            assert_eq!(found, [distinct, ignored], "{one} {other}");
        }
    }

    #[test]
    fn a_part_of_a_text_is_found_in_any_case_and_never_within_a_character() {
        assert_eq!(Ignored.strip_prefix("ABc", "ab"), Some("c"));
        assert_eq!(Ignored.strip_suffix("aBC", "bc"), Some("a"));
        assert_eq!(Ignored.after("xABABc", "ab"), Some("ABc"));
        assert_eq!(Distinct.after("xABabc", "ab"), Some("c"));
        for (text, part) in [("ü", "a"), ("a", "ab"), ("üa", "ab"), ("", "a")] {
            for case in [Distinct, Ignored] {
                assert_eq!(case.strip_prefix(text, part), None, "{text} {part}");
                assert_eq!(case.strip_suffix(text, part), None, "{text} {part}");
                assert_eq!(case.after(text, part), None, "{text} {part}");
            }
        }
    }
}
