//! [`Alphabet`] and [`TailRuns`]: how many bytes at the end of a text may begin a needle. The agent can see what is held back,
//! so this depends on kinds of bytes and on the length of the longest needle, never on whether the text matches a needle.

/// Bytes of usual tokens and of their encoded forms, beside letters and digits.
const OF_TOKENS: &[u8] = b"-._~+/=%\\&#;:|";

/// The bytes that may stand in a needle: those of tokens, and all of each further kind of which a needle has one.
pub(super) struct Alphabet {
    stands: [bool; 256],
}

/// The longest ends of a text that may be of needles. They are extended by each piece of it, so that what is held back is not
/// read again for each piece.
#[derive(Debug, Default)]
pub(super) struct TailRuns {
    /// Bytes of the alphabet.
    plain: usize,
    /// Characters of the alphabet and zeros by turns, as in UTF-16, from a character on: so an odd number ends with a character.
    wide: usize,
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

    /// How many bytes at the end of a text may begin a needle of at most `longest` bytes. The text had these `runs` and goes on
    /// with `piece`. `by_lines`: no needle goes beyond a line feed. Up to twice as many as a needle has, so that a long tail is
    /// not searched for each byte.
    pub(super) fn tail(
        &self,
        runs: &mut TailRuns,
        piece: &[u8],
        longest: usize,
        by_lines: bool,
    ) -> usize {
        let most = longest.saturating_sub(1);
        let piece = &piece[piece.len().saturating_sub(2 * most + 2)..];
        runs.extend(piece, |byte| self.stands[usize::from(byte)] && !(by_lines && byte == b'\n'));
        let tail = runs.plain.max(runs.wide);
        if tail > 2 * most { most } else { tail }
    }
}

impl TailRuns {
    /// Takes the next bytes of the text; `stands`: whether a byte may stand in a needle.
    fn extend(&mut self, piece: &[u8], stands: impl Fn(u8) -> bool) {
        let Some(last) = piece.last() else { return };
        let plain = piece.iter().rev().take_while(|byte| stands(**byte)).count();
        self.plain = if plain == piece.len() { self.plain + plain } else { plain };
        let mut is_zero_next = *last == 0;
        let fits = |byte: &&u8| {
            let fits = if is_zero_next { **byte == 0 } else { stands(**byte) };
            is_zero_next = !is_zero_next;
            fits
        };
        let wide = piece.iter().rev().take_while(fits).count();
        // What stands before the first of them: a zero before a character, and a character before a zero.
        let begins_with_zero = (*last == 0) == (wide % 2 == 1);
        let joins = wide == piece.len() && begins_with_zero == (self.wide % 2 == 1);
        self.wide = match (joins, begins_with_zero) {
            (true, _) => self.wide + wide,
            (false, true) => wide.saturating_sub(1),
            (false, false) => wide,
        };
    }

    /// Keeps only the last `length` bytes of the text.
    pub(super) fn cut(&mut self, length: usize) {
        self.plain = self.plain.min(length);
        if self.wide > length {
            // It ends as before.
            self.wide = length.saturating_sub((self.wide - length) % 2);
        }
    }
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
        let mut runs = TailRuns::default();
        Alphabet::of([needle.as_bytes()]).tail(&mut runs, text.as_bytes(), LONGEST, by_lines)
    }

    fn stands(byte: u8) -> bool {
        byte.is_ascii_lowercase()
    }

    #[test]
    fn runs_are_the_same_in_any_pieces_and_after_a_cut() {
        for text in [
            "", "a", "ab", "a b", "\0", "a\0", "\0a", "\0\0", "a\0b\0c", "ab\0c\0", " \0a\0b",
            "a\0\0b\0", "abc\0", "\0\0a", "a\0b\0cd", "a\0 \0b", "\0a\0b\0",
        ] {
            let all = |text: &[u8]| {
                let mut runs = TailRuns::default();
                runs.extend(text, stands);
                (runs.plain, runs.wide)
            };
            for (size, most) in (1..=9).flat_map(|size| (0..=9).map(move |most| (size, most))) {
                let (mut runs, mut kept) = (TailRuns::default(), Vec::new());
                for piece in text.as_bytes().chunks(size) {
                    runs.extend(piece, stands);
                    runs.cut(most);
                    kept.extend_from_slice(piece);
                    kept.drain(..kept.len().saturating_sub(most));
                    assert_eq!((runs.plain, runs.wide), all(&kept), "{text:?} {size} {most}");
                }
            }
        }
    }

    #[test]
    fn a_piece_costs_the_same_after_a_tail_of_any_length() {
        for (before, piece) in [("a", "b"), ("a\0", "b"), ("a\0", "b\0")] {
            let mut runs = TailRuns::default();
            runs.extend(before.repeat(50_000).as_bytes(), stands);
            let read = std::cell::Cell::new(0);
            runs.extend(piece.as_bytes(), |byte| {
                read.set(read.get() + 1);
                stands(byte)
            });
            assert!(read.get() <= 2 * piece.len(), "{before:?} {piece:?}: {read:?}");
        }
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
