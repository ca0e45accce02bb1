//! Sentences from messages of the API, which begin in lower case and have no full stop.

/// With a capital letter and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{stop}", capital(text))
}

/// With a capital letter, unless it begins with a host.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next();
    let word = text.split(' ').next().unwrap_or_default();
    match first {
        Some(first) if !word.trim_end_matches('.').contains('.') => {
            first.to_uppercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_with_a_capital_letter_unless_it_begins_with_a_host() {
        for (text, expected) in [
            ("api.acme.test has no address", "api.acme.test has no address."),
            ("the key ends.", "The key ends."),
            ("declined.", "Declined."),
            ("über", "Über."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }
}
