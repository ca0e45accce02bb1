//! Tokens out of a file that another tool wrote: `gcloud`'s default credentials, an MCP client's or an SDK's
//! token file. JSON in which one place holds a refresh token, or else an access token, with the time at which that expires.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::secret::Typed;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How deep the tokens may lie.
const DEPTH_MAX: usize = 6;

/// The fields that are imported, and what tools call them.
const NAMES: &[(&str, &[&str])] = &[
    ("refresh_token", &["refresh_token", "refreshToken"]),
    (ACCESS, &["access_token", "accessToken"]),
];

const ACCESS: &str = "access_token";

/// What tools call the time at which the access token expires.
const EXPIRY_NAMES: &[&str] = &["expires_at", "expiresAt", "expiry", "expiry_date"];

/// A number from which on a time is in milliseconds: in seconds, it would be after the year 5000.
const MILLISECONDS_MIN: f64 = 1e11;

/// The tokens of an account.
#[derive(Debug, Default)]
pub(super) struct ImportedTokens {
    /// By field.
    pub(super) tokens: BTreeMap<String, Typed>,
    /// When the access token expires.
    expires: Option<Timestamp>,
}

/// What the API takes in the place of a refresh token.
#[derive(Serialize)]
struct TokenDocument<'a> {
    #[serde(flatten)]
    tokens: &'a BTreeMap<String, Typed>,
    /// Unix seconds.
    expires_at: i64,
}

impl ImportedTokens {
    /// Puts the tokens among the fields of a request, in one document with the time if there is one.
    pub(super) fn fill(self, fields: &mut BTreeMap<String, Typed>) -> Result<(), Failure> {
        let Some(expires) = self.expires else {
            fields.extend(self.tokens);
            return Ok(());
        };
        fields.retain(|name, _| !self.tokens.contains_key(name));
        let document = TokenDocument { tokens: &self.tokens, expires_at: expires.as_second() };
        let text = serde_json::to_string(&document)
            .map_err(|error| Failure::failed("cannot write the request", &error))?;
        fields.insert("refresh_token".to_owned(), Typed::from(text));
        Ok(())
    }
}

/// The tokens in a file.
///
/// # Errors
/// When it cannot be read, no one place in it holds tokens, or their time has another form. Nothing of it is repeated.
pub(super) fn tokens(file: &Path) -> Result<ImportedTokens, Failure> {
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
        1 => found.remove(0).map_err(|member| {
            failed(&format!("`{member}` is not a time")).hint(
                "write the time as in 2026-01-31T12:00:00Z, or as Unix seconds or milliseconds; or remove it: the token \
                 is then used until the provider refuses it",
            )
        }),
        0 => Err(failed("no refresh_token or access_token is in it")
            .hint("give the token itself: --secret-stdin refresh_token")),
        count => Err(failed(&format!("it holds the tokens of {count} accounts"))
            .hint("give the token itself: --secret-stdin refresh_token")),
    }
}

/// Every object with a token in it; the name of its time, if that is none.
fn look(value: &Value, depth: usize, found: &mut Vec<Result<ImportedTokens, &'static str>>) {
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
        false => found.push(match tokens.contains_key(ACCESS) {
            true => expiry(object).map(|expires| ImportedTokens { tokens, expires }),
            false => Ok(ImportedTokens { tokens, expires: None }),
        }),
        true => object.values().for_each(|one| look(one, depth + 1, found)),
    }
}

/// When the access token of an object expires.
///
/// # Errors
/// The name of a member that is no time.
fn expiry(object: &Map<String, Value>) -> Result<Option<Timestamp>, &'static str> {
    let given = EXPIRY_NAMES.iter().find_map(|name| Some((*name, object.get(*name)?)));
    let Some((name, value)) = given.filter(|(_, value)| !value.is_null()) else { return Ok(None) };
    let expires = moment(value).ok_or(name)?;
    // 0, and the year 1 of Go, stand for a token without an end.
    Ok((expires > Timestamp::UNIX_EPOCH).then_some(expires))
}

/// RFC 3339, or Unix seconds or milliseconds.
fn moment(value: &Value) -> Option<Timestamp> {
    if let Some(text) = value.as_str() {
        return text.parse().ok();
    }
    let number = value.as_f64()?;
    let seconds = if number < MILLISECONDS_MIN { number } else { number / 1_000.0 };
    let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::UNIX_EPOCH.checked_add(since).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Result<Value, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut fields = BTreeMap::new();
        let tokens = tokens(file.path()).map_err(|failure| failure.to_string())?;
        tokens.fill(&mut fields).unwrap();
        Ok(serde_json::to_value(fields).unwrap())
    }

    /// The time that is sent for an access token.
    fn end(expiry: &str) -> Result<Value, String> {
        let text = format!(r#"{{"access_token":"canary","refresh_token":"r",{expiry}}}"#);
        let fields = imported(&text)?;
        let document = fields["refresh_token"].as_str().unwrap();
        let document = serde_json::from_str(document).unwrap_or(Value::Null);
        let tokens = ["access_token", "refresh_token"].map(|name| &document[name]);
        assert!(document.is_null() || tokens == ["canary", "r"], "{document}");
        Ok(document["expires_at"].clone())
    }

    #[test]
    fn the_end_of_an_access_token_is_sent_with_it_as_unix_seconds() {
        let at = 1_769_860_800;
        for expiry in [
            r#""expires_at":"2026-01-31T12:00:00Z""#,
            r#""expiry":"2026-01-31T13:00:00.250+01:00""#,
            r#""expires_at":1769860800"#,
            r#""expires_at":1769860800.5"#,
            r#""expiresAt":1769860800000"#,
            r#""expiry_date":1769860800000"#,
        ] {
            assert_eq!(end(expiry), Ok(at.into()), "{expiry}");
        }
        for none in [
            r#""expires_at":null"#,
            r#""expires_at":0"#,
            r#""expiry":"0001-01-01T00:00:00Z""#,
            r#""expires_in":3600"#,
        ] {
            assert_eq!(end(none), Ok(Value::Null), "{none}");
        }
    }

    #[test]
    fn a_time_in_another_form_is_refused_by_its_name_and_not_repeated() {
        for (name, value) in [
            ("expires_at", r#""canary""#),
            ("expires_at", r#""1769860800""#),
            ("expiresAt", "true"),
            ("expiry", r#""2026-01-31 12:00""#),
            ("expiry_date", "1e300"),
        ] {
            let refused = end(&format!(r#""{name}":{value}"#)).unwrap_err();
            assert!(refused.contains(&format!("`{name}` is not a time")), "{refused}");
            assert!(refused.contains("Unix seconds") && !refused.contains("canary"), "{refused}");
        }
        let refresh_only = r#"{"refresh_token":"r","expiry":"soon"}"#;
        assert_eq!(imported(refresh_only), Ok(serde_json::json!({"refresh_token": "r"})));
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
        let camel = r#"{"oauth":{"accessToken":"a","refreshToken":"r","scopes":["s"]}}"#;
        let both = serde_json::json!({"access_token": "a", "refresh_token": "r"});
        assert_eq!(imported(camel).unwrap(), both);
    }
}
