//! What error codes of services mean (`error_notes.tsv`), for people. Errors are classified by the codes of the standards.

const NOTES: &str = include_str!("error_notes.tsv");

/// The meaning of a code, in a phrase without a full stop.
pub fn meaning(code: &str) -> Option<&'static str> {
    notes().find(|(known, _)| *known == code).map(|(_, meaning)| meaning)
}

/// The code that a description begins with, if its meaning is known. Services without such codes have fixed sentences
/// instead.
pub fn code_of(description: &str) -> Option<&'static str> {
    let first = description.split([':', ',', '.']).next()?;
    notes().find(|(known, _)| *known == first).map(|(code, _)| code)
}

fn notes() -> impl Iterator<Item = (&'static str, &'static str)> {
    NOTES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_has_a_code_of_its_own_and_a_phrase() {
        let lines = NOTES.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), notes().count());
        let codes: BTreeSet<_> = notes().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), notes().count());
        for (code, meaning) in notes() {
            let fits = |b: u8| b" _".contains(&b) || b.is_ascii_alphanumeric();
            assert!(!code.is_empty() && code.bytes().all(fits), "{code}");
            assert!(!meaning.is_empty() && !meaning.ends_with('.'), "{code}: {meaning}");
            assert!(!meaning.contains(['\t', ';']), "{code}: {meaning}");
        }
    }

    #[test]
    fn a_description_has_a_code_only_at_its_beginning() {
        assert_eq!(code_of("AADSTS90002: Tenant 'x' not found."), Some("AADSTS90002"));
        let sentence = "User is not assigned to the client application";
        for ends in ["", ".", ". Ask", ", which"] {
            assert_eq!(code_of(&format!("{sentence}{ends}")), Some(sentence), "{ends}");
        }
        assert_eq!(code_of(&format!("{sentence} x")), None);
        for other in
            ["", ":", "AADSTS9000: x", "AADSTS900023: x", "see AADSTS90002: x", "AADSTS90002 x"]
        {
            assert_eq!(code_of(other), None, "{other}");
        }
        assert!(meaning("AADSTS90002").is_some() && meaning("invalid_grant").is_none());
    }
}
