//! What error codes of authorization servers, and of Keyward itself, say about who must act, and for what
//! (`error_codes.tsv`). One table for the vault, which classifies failures, and the directory, which names remedies.

const CODES: &str = include_str!("error_codes.tsv");

/// Whether the table says this of a code: its verdict, or what it is about.
pub fn says(code: &str, word: &str) -> bool {
    let is_of_code = |pattern: &str| match pattern.split_once('*') {
        None => pattern.eq_ignore_ascii_case(code),
        Some(("", part)) => code.contains(part.trim_end_matches('*')),
        Some((start, _)) => code.to_ascii_lowercase().starts_with(start),
    };
    let rows = CODES.lines().filter_map(|line| line.split_once('\t'));
    let mut words = rows.filter(|row| is_of_code(row.0)).flat_map(|row| row.1.split(['\t', ' ']));
    words.any(|it| it == word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const VERDICTS: [&str; 6] =
        ["-", "person", "credentials", "credentials_if_401", "request", "passes"];

    const ABOUT: [&str; 8] =
        ["-", "token", "client", "client_auth", "moved", "endpoint", "token_type", "key"];

    #[test]
    fn every_row_has_a_code_of_its_own_a_verdict_and_what_it_is_about() {
        let mut codes = BTreeSet::new();
        for line in CODES.lines().filter(|line| !line.starts_with('#')) {
            let [code, verdict, about] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            assert!(codes.insert(code) && code == code.to_ascii_lowercase(), "{line}");
            assert!(VERDICTS.contains(&verdict), "{line}");
            assert!(about.split(' ').all(|word| ABOUT.contains(&word)), "{line}");
        }
        assert!(CODES.lines().filter(|line| line.starts_with('#')).all(|it| !it.contains('\t')));
    }

    #[test]
    fn a_code_is_compared_whole_in_any_case_and_a_pattern_by_its_part() {
        for (code, word) in [
            ("invalid_grant", "person"),
            ("Invalid_Grant", "token"),
            ("use_dpop_nonce", "token_type"),
            ("rate_limit", "passes"),
            ("RATE_LIMITED", "passes"),
            ("my_client_code", "key"),
            ("field_missing", "key"),
        ] {
            assert!(says(code, word), "{code} {word}");
        }
        for (code, word) in [
            ("", "person"),
            ("invalid_grants", "person"),
            ("invalid_grant, AADSTS70008", "person"),
            ("invalid_client, AADSTS7000222", "client"),
            ("api_rate_limit", "passes"),
            ("invalid_scope", "key"),
            ("My_Client", "key"),
            ("invalid_grant", "pers"),
        ] {
            assert!(!says(code, word), "{code} {word}");
        }
    }
}
