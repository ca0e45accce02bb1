//! [`Alphabet`]: how many bytes at the end of a text may begin a needle. The agent can see what is held back, so this
//! depends on kinds of bytes and on the length of the longest needle, never on whether the text matches a needle.

/// Bytes of usual tokens and of their encoded forms, beside letters and digits.
const OF_TOKENS: &[u8] = b"-._~+/=%\\&#;:|";

/// The bytes that may stand in a needle: those of tokens, and all of each further kind of which a needle has one.
pub(super) struct Alphabet {
    stands: [bool; 256],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ByteKind {
    Token,
    /// Other punctuation.
    Mark,
    Blank,
    /// Only the forms in UTF-16 have it.
    Zero,
    /// Line ends, other control characters, and non-ASCII bytes.
    Other,
}

impl Alphabet {
    pub(super) fn of<'a>(needles: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut stands = [false; 256];
        needles.into_iter().flatten().for_each(|byte| stands[usize::from(*byte)] = true);
        let has = |kind: ByteKind| {
            (0..=u8::MAX).any(|b| stands[usize::from(b)] && ByteKind::of(b) == kind)
        };
        let kinds = [ByteKind::Mark, ByteKind::Blank, ByteKind::Other];
        let kinds: Vec<ByteKind> = kinds.into_iter().filter(|kind| has(*kind)).collect();
        for byte in 0..=u8::MAX {
            let kind = ByteKind::of(byte);
            stands[usize::from(byte)] = kind == ByteKind::Token || kinds.contains(&kind);
        }
        Self { stands }
    }

    /// How many bytes at the end of `text` may begin a needle of at most `longest` bytes. `by_lines`: no needle
    /// goes beyond a line feed. Up to twice as many as a needle has, so that a long tail is not searched for each byte.
    pub(super) fn tail(&self, text: &[u8], longest: usize, by_lines: bool) -> usize {
        let most = longest.saturating_sub(1);
        let text = &text[text.len().saturating_sub(2 * most + 2)..];
        let stands = |byte: u8| self.stands[usize::from(byte)] && !(by_lines && byte == b'\n');
        let plain = text.iter().rev().take_while(|byte| stands(**byte)).count();
        let tail = plain.max(wide_tail(text, stands));
        if tail > 2 * most { most } else { tail }
    }
}

/// The same for UTF-16: characters and zeros by turns, from a character on.
fn wide_tail(text: &[u8], stands: impl Fn(u8) -> bool) -> usize {
    let mut is_zero_next = text.last() == Some(&0);
    let mut count = 0_usize;
    for byte in text.iter().rev() {
        let fits = if is_zero_next { *byte == 0 } else { stands(*byte) };
        if !fits {
            break;
        }
        count += 1;
        is_zero_next = !is_zero_next;
    }
    // After a character, a zero is next.
    if is_zero_next { count } else { count.saturating_sub(1) }
}

impl ByteKind {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Zero,
            b' ' | b'\t' => Self::Blank,
            _ if byte.is_ascii_alphanumeric() || OF_TOKENS.contains(&byte) => Self::Token,
            _ if byte.is_ascii_graphic() => Self::Mark,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 60;

    fn tail(needle: &str, text: &str, by_lines: bool) -> usize {
        Alphabet::of([needle.as_bytes()]).tail(text.as_bytes(), LONGEST, by_lines)
    }

    #[test]
    fn text_that_ends_with_a_byte_of_no_needle_has_no_tail() {
        for text in ["", "a line\n", "{\"a\":1}", "two words ", "[1,2]", "<p>", "a\0\0", "\0"] {
            assert_eq!(tail("token", text, true), 0, "{text:?}");
        }
        assert_eq!(tail("key\nof two lines", "a line\n", true), 0);
    }

    #[test]
    fn bytes_of_tokens_belong_to_the_tail_whatever_the_needle() {
        for needle in ["token", "another-one", "0123456789"] {
            for (text, expected) in
                [("two words", 5), ("{\"a\": 17", 2), ("x\\u006", 6), ("a\0b\0", 4), ("\0a\0b", 3)]
            {
                assert_eq!(tail(needle, text, true), expected, "{needle} {text:?}");
            }
        }
    }

    #[test]
    fn other_kinds_of_bytes_belong_to_the_tail_if_a_needle_has_them() {
        assert_eq!(tail("pass word", "two words", true), 9);
        assert_eq!(tail("pass\"word", "{\"a\":1}", true), 7);
        assert_eq!(tail("key\nof two lines", "a\nline\n", false), 7);
        assert_eq!(tail("key\nof two lines", "a\nline", true), 4);
    }

    #[test]
    fn a_long_tail_is_limited_by_the_length_of_the_longest_needle() {
        let text = "x".repeat(2 * LONGEST);
        assert_eq!(tail("token", &text[..2 * (LONGEST - 1)], true), 2 * (LONGEST - 1));
        assert_eq!(tail("token", &text, true), LONGEST - 1);
        let wide = "x\0".repeat(2 * LONGEST);
        assert_eq!(tail("token", &wide, true), LONGEST - 1);
    }
}
