//! Text for people in which each character is seen: a name with hidden characters, or with ones that turn the direction of
//! text, could look like another name.

use std::borrow::Cow;

/// Characters that control a terminal or are invisible: control and format characters, among them those that turn the
/// direction of text, ends of lines and paragraphs, blanks other than the usual one, private and unassigned ones. They are
/// those that Rust's own `Debug` escapes.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_control();
    }
    // Behind a letter, so that a mark that belongs to one is none of them.
    let mut pair = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut pair[1..]).len();
    let pair = std::str::from_utf8(&pair[..length]).expect("a letter and a character");
    pair.escape_debug().nth(1) == Some('\\')
}

/// The text with each invisible character as `\u{202e}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_invisible)
}

/// The same for a text of several lines: ends of lines and tabs stay.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_invisible(c) && !matches!(c, '\n' | '\r' | '\t'))
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_escaped(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_format_and_private_use_characters_count_as_invisible() {
        for c in [
            '\u{0}',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{600}',
            '\u{6dd}',
            '\u{180e}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{206a}',
            '\u{206f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fffb}',
            '\u{110bd}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{a0}',
            '\u{3000}',
            '\u{e000}',
            '\u{10fffd}',
            '\u{fffe}',
        ] {
            assert!(is_invisible(c), "{c:?}");
        }
        for c in ['a', ' ', 'é', '中', 'ß', 'א', '😀', '…', '/', '\\', '"', '\u{301}', '\u{93f}']
        {
            assert!(!is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn invisible_characters_are_escaped_and_others_stay() {
        assert_eq!(visible("pay\u{202e}lap"), "pay\\u{202e}lap");
        assert_eq!(visible("a\tb\u{a0}c"), "a\\u{9}b\\u{a0}c");
        assert!(matches!(visible("Bären 東京 cafe\u{301}"), Cow::Borrowed(_)));
        assert_eq!(visible_lines("a\n\tb\u{1b}"), "a\n\tb\\u{1b}");
    }
}
