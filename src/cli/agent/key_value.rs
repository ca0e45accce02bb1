//! `KEY=VALUE` arguments.

use std::collections::BTreeMap;

use crate::cli::failure::Failure;

/// `KEY=VALUE` of an argument.
pub(in crate::cli) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        // The text is not repeated: it may be a secret in the wrong place.
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// A map of pairs; a key given twice is a mistake.
pub(in crate::cli) fn unique(
    pairs: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.contains_key(&key) {
            return Err(Failure::usage(format!("`{key}` is given twice")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_pairs_are_refused_without_their_text_and_doubled_keys_are_refused() {
        for bad in ["canary", "=canary", ""] {
            let error = pair(bad).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        assert_eq!(pair("k=a=b"), Ok(("k".to_owned(), "a=b".to_owned())));
        let twice = vec![("k".to_owned(), String::new()), ("k".to_owned(), String::new())];
        assert!(unique(twice).is_err());
    }
}
