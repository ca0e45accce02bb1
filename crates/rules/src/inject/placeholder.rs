//! Placeholders: what an agent holds instead of a secret.
//!
//! The format is `PREFIX kwph RANDOM CHECKSUM FILLER SUFFIX`: the prefix of the key, the mark, 18 random base-62
//! characters (107 bits), 4 of checksum, filler up to the provider's key length, then the suffix of the key. Mark, random and checksum
//! form the *core*, which is found by scanning and looked up by hash. `policy` maps cores to bindings.
//! For programs that accept only hexadecimal digits, the core is `0b17 RANDOM CHECKSUM` of the same length: 14 random
//! digits (56 bits) and 8 of checksum.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::names::decoded;
use keyward_base::base62;
use keyward_base::secret::Secret;

/// The fixed text that a core begins with.
const MARK: &str = "kwph";

/// The same in hexadecimal digits: the places of the mark's letters in the alphabet. All four differ, as [`next_mark`] needs.
const HEX_MARK: &str = "0b17";

/// Random characters in a core.
const RANDOM_CHARS: usize = 18;

/// Checksum characters in a core: 62⁴ values, so one of 14.8 million texts that look like a core passes.
const CHECKSUM_CHARS: usize = 4;

/// Characters of the checksum in hexadecimal digits: 2³² values.
const HEX_CHECKSUM_CHARS: usize = 8;

/// A placeholder of no connection, in files that serve several: policy chooses the connection by the host.
pub const OF_ANY_CONNECTION: &str = "keyward-placeholder";

/// Length of mark, random and checksum.
const CORE_BYTES: usize = MARK.len() + RANDOM_CHARS + CHECKSUM_CHARS;

/// Maximum length: longer than any opaque key, and short enough for a field.
const LENGTH_MAX: usize = 4096;

/// Fills up to the length of the provider's keys. It cannot end a mark.
const FILLER: char = '0';

/// Hosts and paths where libraries exchange the placeholder of a credentials file for a token: the gateway answers.
pub fn token_endpoints() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = include_str!("token_endpoints.tsv").lines();
    rows.filter(|row| !row.starts_with('#')).filter_map(|row| row.split_once('\t'))
}

/// The letters that programs accept in a key, after its prefix.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Letters {
    /// Letters and digits.
    #[default]
    Any,
    /// Lower-case hexadecimal digits alone.
    Hex,
}

/// The shape of placeholders, as that of the provider's keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaceholderShape<'a> {
    /// How placeholders begin.
    pub prefix: &'a str,
    /// How they end.
    pub suffix: &'a str,
    /// The length in characters, prefix included and suffix not, whose length varies.
    pub length: Option<usize>,
    pub letters: Letters,
}

/// A complete placeholder. It is not a secret: it is useless without its agent's token.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Placeholder {
    text: Box<str>,
    /// Where the core begins.
    #[serde(skip)]
    core_at: u32,
}

/// Mark, random and checksum: 26 ASCII bytes.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PlaceholderCore(pub [u8; CORE_BYTES]);

/// Text that contains no placeholder, or several.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not a placeholder: it needs exactly one `{MARK}` (or `{HEX_MARK}`, of hexadecimal digits) with 22 characters and a right checksum"
)]
pub struct PlaceholderError;

impl Placeholder {
    /// Makes a placeholder of letters and digits: prefix and core, filled up to `length` bytes (at most 4096).
    pub fn issue(prefix: &str, length: Option<usize>) -> Self {
        Self::in_shape(PlaceholderShape { prefix, length, ..PlaceholderShape::default() })
    }

    /// The same in the shape of the provider's keys.
    pub fn in_shape(shape: PlaceholderShape<'_>) -> Self {
        let PlaceholderShape { prefix, suffix, length, letters } = shape;
        let core = PlaceholderCore::random(letters);
        let mut text = format!("{prefix}{core}");
        let wanted = length.unwrap_or(0).min(LENGTH_MAX);
        text.extend(std::iter::repeat_n(FILLER, wanted.saturating_sub(text.len())));
        text += suffix;
        let core_at = u32::try_from(prefix.len()).expect("prefixes are short");
        Self { text: text.into(), core_at }
    }

    /// Parses a stored placeholder.
    ///
    /// # Errors
    /// When the text contains no core, or several.
    pub fn parse(text: &str) -> Result<Self, PlaceholderError> {
        match scan(text.as_bytes())[..] {
            [(at, _)] => {
                let core_at = u32::try_from(at).map_err(|_| PlaceholderError)?;
                Ok(Self { text: text.into(), core_at })
            }
            _ => Err(PlaceholderError),
        }
    }

    /// The complete text, as agents hold it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The core that identifies the placeholder.
    pub fn core(&self) -> PlaceholderCore {
        let text = &self.text.as_bytes()[self.core_at as usize..];
        PlaceholderCore(*text.first_chunk().expect("both constructors found a core there"))
    }
}

impl fmt::Debug for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Placeholder {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

impl PlaceholderCore {
    /// Makes a core from the operating system's randomness.
    fn random(letters: Letters) -> Self {
        loop {
            let mut bytes = [0; CORE_BYTES];
            let (mark, rest) = bytes.split_at_mut(MARK.len());
            match letters {
                Letters::Any => {
                    mark.copy_from_slice(MARK.as_bytes());
                    base62::fill(&mut rest[..RANDOM_CHARS]);
                    let (summed, sum) = bytes.split_at_mut(CORE_BYTES - CHECKSUM_CHARS);
                    sum.copy_from_slice(&base62::checksum::<CHECKSUM_CHARS>(summed));
                }
                Letters::Hex => {
                    mark.copy_from_slice(HEX_MARK.as_bytes());
                    base62::fill_hex(rest);
                    let (summed, sum) = bytes.split_at_mut(CORE_BYTES - HEX_CHECKSUM_CHARS);
                    sum.copy_from_slice(&base62::checksum_hex::<HEX_CHECKSUM_CHARS>(summed));
                }
            }
            // A second mark inside would make the scan ambiguous. This is rare: once in 800,000, and in 3,000 of digits.
            if next_mark(&bytes, 1).is_none() {
                return Self(bytes);
            }
        }
    }

    /// Parses a core at the start of `text` and checks its checksum.
    fn at_start(text: &[u8]) -> Option<Self> {
        let bytes: [u8; CORE_BYTES] = *text.first_chunk()?;
        let is_core = if bytes.starts_with(MARK.as_bytes()) {
            let (summed, sum) = bytes.split_at(CORE_BYTES - CHECKSUM_CHARS);
            bytes.iter().all(u8::is_ascii_alphanumeric)
                && base62::checksum::<CHECKSUM_CHARS>(summed) == *sum
        } else {
            let (summed, sum) = bytes.split_at(CORE_BYTES - HEX_CHECKSUM_CHARS);
            bytes.starts_with(HEX_MARK.as_bytes())
                && bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
                && base62::checksum_hex::<HEX_CHECKSUM_CHARS>(summed) == *sum
        };
        is_core.then_some(Self(bytes))
    }

    /// The core as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or(MARK)
    }
}

impl fmt::Display for PlaceholderCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PlaceholderCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The longest of the declared texts that the key has where `is_there` looks; nothing else of the key is shown.
pub fn longest<'a>(
    key: Option<&Secret>,
    declared: &'a [String],
    is_there: fn(&str, &str) -> bool,
) -> Option<&'a str> {
    let key = key?.expose_text()?;
    let found = declared.iter().map(String::as_str).filter(|it| is_there(key, it));
    found.max_by_key(|it| it.len())
}

/// All cores in `text` with a valid checksum, with their byte offsets, in order and without overlap. Linear in
/// the length of `text`.
pub fn scan(text: &[u8]) -> Vec<(usize, PlaceholderCore)> {
    let mut found = Vec::new();
    let mut from = 0;
    // A mark with fewer bytes after it begins no core. Most fields are too short for one.
    let marks = &text[..text.len().saturating_sub(CORE_BYTES - MARK.len())];
    while let Some(at) = next_mark(marks, from) {
        from = match PlaceholderCore::at_start(&text[at..]) {
            Some(core) => {
                found.push((at, core));
                at + CORE_BYTES
            }
            None => at + 1,
        };
    }
    found
}

/// Finds the next mark at or after `from`. Of four adjacent bytes one is examined: it is one of a mark's letters, if
/// a mark is there.
fn next_mark(text: &[u8], from: usize) -> Option<usize> {
    let probes = (from + MARK.len() - 1..text.len()).step_by(MARK.len());
    let mut starts = probes.filter_map(|probe| match text[probe] {
        b'k' | b'0' => Some(probe),
        b'w' | b'b' => Some(probe - 1),
        b'p' | b'1' => Some(probe - 2),
        b'h' | b'7' => Some(probe - 3),
        _ => None,
    });
    let is_mark = |start: &usize| {
        [MARK, HEX_MARK].iter().any(|mark| text[*start..].starts_with(mark.as_bytes()))
    };
    starts.find(is_mark)
}

/// Whether a mark is in a text.
pub fn has_mark(text: &str) -> bool {
    next_mark(text.as_bytes(), 0).is_some()
}

/// Whether a part of a URL contains a placeholder, plain or percent-encoded.
pub fn holds_mark(piece: &str) -> bool {
    !scan(piece.as_bytes()).is_empty()
        || (piece.contains('%') && !scan(decoded(piece).as_bytes()).is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_that_only_resembles_a_core_is_not_found() {
        let core = PlaceholderCore::random(Letters::Any);
        let mut wrong = core.0;
        wrong[10] = if wrong[10] == b'a' { b'b' } else { b'a' };
        for text in [
            b"".to_vec(),
            b"kwph".to_vec(),
            b"kwphkwphkwphkwphkwphkwphkwph".to_vec(),
            core.0[..CORE_BYTES - 1].to_vec(),
            core.0[1..].to_vec(),
            wrong.to_vec(),
            core.to_string().to_uppercase().into_bytes(),
        ] {
            assert_eq!(scan(&text), [], "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn a_placeholder_has_the_provider_s_prefix_and_a_length_within_bounds() {
        for (prefix, length, bytes) in [
            ("sk-proj-", Some(164), 164),
            ("AKIA", Some(20), 30),
            ("ghp_", Some(40), 40),
            ("", None, CORE_BYTES),
            ("sk_live_", None, 8 + CORE_BYTES),
            ("x", Some(usize::MAX), LENGTH_MAX),
        ] {
            let placeholder = Placeholder::issue(prefix, length);
            assert_eq!(placeholder.as_str().len(), bytes);
            assert!(placeholder.as_str().starts_with(prefix));
            let found = scan(placeholder.as_str().as_bytes());
            assert_eq!(found, [(prefix.len(), placeholder.core())]);
        }
    }

    #[test]
    fn a_placeholder_ends_with_the_suffix_behind_its_length() {
        for (length, bytes) in [(None, 2 + CORE_BYTES + 4), (Some(36), 40), (Some(20), 32)] {
            let shape =
                PlaceholderShape { prefix: "k-", suffix: "-us6", length, ..Default::default() };
            let placeholder = Placeholder::in_shape(shape);
            let text = placeholder.as_str();
            assert!(text.len() == bytes && text.ends_with("-us6"), "{text}");
            assert_eq!(scan(text.as_bytes()), [(2, placeholder.core())]);
            assert_eq!(Placeholder::parse(text), Ok(placeholder.clone()));
        }
    }

    #[test]
    fn a_mark_before_the_mark_does_not_hide_a_core() {
        let core = PlaceholderCore::random(Letters::Any);
        for before in ["kwph", "kwp", "kwphkw", "kkwph0123456789012345678", "kw", "k", "kwphk"] {
            let text = format!("{before}{core}");
            assert_eq!(scan(text.as_bytes()), [(before.len(), core)], "{text}");
        }
    }

    #[test]
    fn stored_placeholders_are_read_back_and_invalid_ones_are_refused() {
        let placeholder = Placeholder::issue("sk-", Some(64));
        let json = serde_json::to_string(&placeholder).expect("a string");
        assert_eq!(json, format!("{:?}", placeholder.as_str()));
        let back: Placeholder = serde_json::from_str(&json).expect("a placeholder");
        assert_eq!((&back, back.core()), (&placeholder, placeholder.core()));
        for bad in ["\"\"", "\"sk-kwph\"", "7", "\"kwph000000000000000000zzzz\""] {
            assert!(serde_json::from_str::<Placeholder>(bad).is_err(), "{bad}");
        }
        let twice = format!(
            "{}{}",
            PlaceholderCore::random(Letters::Any),
            PlaceholderCore::random(Letters::Any)
        );
        assert_eq!(Placeholder::parse(&twice), Err(PlaceholderError));
    }

    #[test]
    fn a_placeholder_of_hexadecimal_digits_has_the_shape_and_is_found_like_the_others() {
        let letters = Letters::Hex;
        for (prefix, length, bytes) in
            [("sbp_", Some(44), 44), ("", None, CORE_BYTES), ("x0b17", Some(40), 40)]
        {
            let shape = PlaceholderShape { prefix, length, letters, suffix: "" };
            let placeholder = Placeholder::in_shape(shape);
            let text = placeholder.as_str();
            assert_eq!(text.len(), bytes);
            let digits = text.strip_prefix(prefix).expect("the prefix");
            assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{text}");
            assert_eq!(scan(text.as_bytes()), [(prefix.len(), placeholder.core())]);
            assert_eq!(Placeholder::parse(text), Ok(placeholder.clone()));
            assert!(holds_mark(&format!("/a/{text}")));
            assert_ne!(placeholder, Placeholder::in_shape(shape));
        }
        let core = PlaceholderCore::random(letters);
        let mut wrong = core.0;
        wrong[10] = if wrong[10] == b'a' { b'b' } else { b'a' };
        for text in [&wrong[..], &core.0[1..], core.to_string().to_uppercase().as_bytes()] {
            assert_eq!(scan(text), [], "{}", String::from_utf8_lossy(text));
        }
        let both = format!("0b1{core}0{}", PlaceholderCore::random(Letters::Any));
        let found: Vec<_> = scan(both.as_bytes()).into_iter().map(|(at, _)| at).collect();
        assert_eq!(found, [3, 4 + CORE_BYTES]);
    }

    #[test]
    fn two_placeholders_differ() {
        assert_ne!(Placeholder::issue("", None), Placeholder::issue("", None));
    }

    proptest! {
        #[test]
        fn every_core_is_found_where_it_stands(
            pieces in proptest::collection::vec("[kwph0-9b :;/%-]{0,12}", 1..6),
            letters in prop_oneof![Just(Letters::Any), Just(Letters::Hex)],
        ) {
            let mut text = String::new();
            let mut wanted = Vec::new();
            for piece in &pieces {
                text.push_str(piece);
                let core = PlaceholderCore::random(letters);
                wanted.push((text.len(), core));
                text.push_str(core.as_str());
            }
            prop_assert_eq!(scan(text.as_bytes()), wanted);
        }

        #[test]
        fn marks_are_found_as_a_plain_search_finds_them(
            text in prop_oneof!["[kwph]{0,64}", "[0b17]{0,64}"],
            from in 0usize..8,
        ) {
            let from = from.min(text.len());
            let plain = [MARK, HEX_MARK].iter().filter_map(|mark| text[from..].find(mark)).min();
            prop_assert_eq!(next_mark(text.as_bytes(), from), plain.map(|at| at + from));
        }
    }
}
