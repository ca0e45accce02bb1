//! Tokens out of a file that another tool wrote: `gcloud`'s default credentials, an MCP client's or an SDK's
//! token file. JSON in which one place holds a refresh token, or else an access token.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure};
use crate::cli::secret::Typed;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How deep the tokens may lie.
const DEPTH_MAX: usize = 6;

/// The fields that are imported, and what tools call them.
const NAMES: &[(&str, &[&str])] = &[
    ("refresh_token", &["refresh_token", "refreshToken"]),
    ("access_token", &["access_token", "accessToken"]),
];

/// The tokens in a file.
///
/// # Errors
/// When it cannot be read, or no one place in it holds tokens. Nothing of it is repeated.
pub(super) fn tokens(file: &Path) -> Result<BTreeMap<String, Typed>, Failure> {
    let failed = |why: &str| Failure::new(Exit::Failed, format!("{}: {why}", file.display()));
    let read = std::fs::metadata(file).and_then(|found| match found.len() <= FILE_BYTES_MAX {
        true => std::fs::read(file).map(Zeroizing::new).map(Some),
        false => Ok(None),
    });
    let bytes = match read {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(failed("it is longer than 1 MiB")),
        Err(error) => {
            return Err(Failure::failed(&format!("cannot read {}", file.display()), &error));
        }
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
        failed("it is no JSON").hint("give the token itself: --secret-stdin refresh_token")
    })?;
    let mut found = Vec::new();
    look(&value, 0, &mut found);
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(failed("no refresh_token or access_token is in it")
            .hint("give the token itself: --secret-stdin refresh_token")),
        count => Err(failed(&format!("it holds the tokens of {count} accounts"))
            .hint("give the token itself: --secret-stdin refresh_token")),
    }
}

/// Every object with a token in it.
fn look(value: &Value, depth: usize, found: &mut Vec<BTreeMap<String, Typed>>) {
    if depth > DEPTH_MAX {
        return;
    }
    let Value::Object(object) = value else {
        if let Value::Array(all) = value {
            all.iter().for_each(|one| look(one, depth + 1, found));
        }
        return;
    };
    let mut tokens = BTreeMap::new();
    for (field, names) in NAMES {
        let mut texts = names.iter().filter_map(|name| object.get(*name)?.as_str());
        if let Some(text) = texts.find(|text| !text.is_empty()) {
            tokens.insert((*field).to_owned(), Typed::from(text.to_owned()));
        }
    }
    match tokens.is_empty() {
        false => found.push(tokens),
        true => object.values().for_each(|one| look(one, depth + 1, found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Result<Value, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let tokens = tokens(file.path()).map_err(|failure| failure.to_string())?;
        Ok(serde_json::to_value(tokens).unwrap())
    }

    #[test]
    fn a_file_without_the_tokens_of_exactly_one_account_is_refused_and_not_repeated() {
        for (text, says) in [
            ("canary", "no JSON"),
            (r#"{"token":"canary"}"#, "no refresh_token"),
            (r#"{"refresh_token":""}"#, "no refresh_token"),
            (r#"{"a":{"refresh_token":"canary1"},"b":{"access_token":"canary2"}}"#, "2 accounts"),
        ] {
            let refused = imported(text).unwrap_err();
            assert!(refused.contains(says) && !refused.contains("canary"), "{refused}");
        }
    }

    #[test]
    fn tokens_are_found_under_the_names_that_tools_use() {
        let google = r#"{"type":"authorized_user","client_id":"c","refresh_token":"1//r"}"#;
        assert_eq!(imported(google).unwrap(), serde_json::json!({"refresh_token": "1//r"}));
        let camel = r#"{"oauth":{"accessToken":"a","refreshToken":"r","expiresAt":1}}"#;
        let both = serde_json::json!({"access_token": "a", "refresh_token": "r"});
        assert_eq!(imported(camel).unwrap(), both);
    }
}
