//! [`LetterCase`]: whether upper and lower case differ in a comparison of texts. Comparing allocates nothing.

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
    use super::LetterCase::{Distinct, Ignored};

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
