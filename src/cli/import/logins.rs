//! Logins of coding agents: `auth.json` of Codex, and what to do with a login of Claude Code.
//!
//! The format of `auth.json` is public: `codex-rs/login/src/auth/storage.rs` of the repository openai/codex.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::candidate::{ImportCandidate, SourceContent};

/// The name of the group of Codex's values.
pub(super) const CODEX: &str = "codex";

/// The provider of Codex's logins.
pub(super) const CHATGPT: &str = "chatgpt";

/// The claims of the ID token that Codex reads: the account and its plan. It verifies no signature.
const CLAIMS: [&str; 3] =
    ["email", "https://api.openai.com/auth", "https://api.openai.com/profile"];

/// Codex renews a login that it refreshed more than 8 days ago; Keyward renews this one.
const REFRESHED: &str = "2099-01-01T00:00:00Z";

/// The text in the places of other tokens, which Codex requires and does not send.
const ELSEWHERE: &str = "held-by-keyward";

/// The login in an `auth.json`: tokens of ChatGPT, or else an API key.
pub(super) fn codex(file: &str, text: Zeroizing<String>) -> SourceContent {
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut found = SourceContent::default();
    let token = document["tokens"]["refresh_token"].as_str().filter(|it| *it != ELSEWHERE);
    if token.is_some() && codex_with(&text, ELSEWHERE).is_none() {
        // The import spends the refresh token, so the file must not keep it.
        let why = "its ID token cannot be read: run `codex login` again";
        found.unusable.push((file.to_owned(), why.to_owned()));
    } else if let Some(token) = token {
        let place = format!("{file} refresh_token");
        let one = ImportCandidate::of(place, CODEX, token);
        found.candidates.push(ImportCandidate { provider: Some(CHATGPT), ..one });
    } else if let Some(key) = document["OPENAI_API_KEY"].as_str() {
        let place = format!("{file} OPENAI_API_KEY");
        let one = ImportCandidate::in_variable(place, CODEX, "OPENAI_API_KEY", key);
        found.candidates.push(ImportCandidate { provider: Some("openai"), ..one });
    } else {
        let why = match document["tokens"].is_object() {
            true => "its login is imported already",
            false => "it has no login: run `codex login` first",
        };
        found.unusable.push((file.to_owned(), why.to_owned()));
    }
    found.text = Some(text);
    found
}

/// The same document with a placeholder of the access token or key, and without other tokens.
pub(super) fn codex_with(text: &str, placeholder: &str) -> Option<Zeroizing<String>> {
    let mut document: Value = serde_json::from_str(text).ok()?;
    match document.get_mut("tokens").and_then(Value::as_object_mut) {
        Some(tokens) => {
            let identity = tokens.get("id_token").and_then(Value::as_str).and_then(unsigned);
            tokens.insert("id_token".to_owned(), identity?.into());
            tokens.insert("access_token".to_owned(), placeholder.into());
            tokens.insert("refresh_token".to_owned(), ELSEWHERE.into());
            document["last_refresh"] = REFRESHED.into();
        }
        None => document["OPENAI_API_KEY"] = placeholder.into(),
    }
    serde_json::to_string_pretty(&document).ok().map(Zeroizing::new)
}

/// The ID token with the claims that Codex reads, without a signature: it proves nothing.
fn unsigned(token: &str) -> Option<String> {
    let claims = token.split('.').nth(1)?;
    let claims: Value =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let kept =
        CLAIMS.iter().filter_map(|name| Some(((*name).to_owned(), claims.get(name)?.clone())));
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let kept = Value::Object(kept.collect());
    Some(format!("{}.{}.{ELSEWHERE}", part(json!({ "alg": "none" })), part(kept)))
}

/// A login of Claude Code is not taken: only Claude Code may renew it, and the format of its file is not documented.
/// <https://code.claude.com/docs/en/legal-and-compliance#authentication-and-credential-use>
pub(super) fn claude(file: &Path) -> SourceContent {
    let why = "this login belongs to Claude Code, which renews it: run `claude setup-token`, then \
               keyward connect anthropic --auth oauth_token";
    SourceContent {
        unusable: vec![(file.display().to_string(), why.to_owned())],
        ..SourceContent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> String {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({ "email": "a@b.test", "sub": "subject-canary",
            "https://api.openai.com/auth": { "chatgpt_plan_type": "plus", "chatgpt_account_id": "acc-1" } });
        let identity =
            format!("{}.{}.signature-canary", part(json!({ "alg": "RS256" })), part(claims));
        json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2026-01-01T00:00:00Z",
            "tokens": { "id_token": identity, "access_token": "access-canary",
                "refresh_token": "refresh-canary", "account_id": "acc-1" } })
        .to_string()
    }

    #[test]
    fn a_codex_login_is_imported_once_and_its_file_keeps_no_token() {
        let read = codex("f", Zeroizing::new(login()));
        assert_eq!(read.candidates.len(), 1);
        assert_eq!(read.candidates[0].value.text(), "refresh-canary");
        assert_eq!(read.candidates[0].provider, Some("chatgpt"));
        let text = codex_with(&login(), "kwph_x").unwrap();
        let found: Value = serde_json::from_str(&text).unwrap();
        assert!(!text.contains("canary"), "{}", *text);
        assert_eq!(found["tokens"]["access_token"], "kwph_x");
        assert_eq!(found["tokens"]["account_id"], "acc-1");
        assert_eq!(found["auth_mode"], "chatgpt");
        let claims = found["tokens"]["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["https://api.openai.com/auth"]["chatgpt_plan_type"], "plus");
        assert_eq!(claims.get("sub"), None);
        let again = codex("f", text);
        assert!(again.candidates.is_empty());
        assert_eq!(again.unusable[0].1, "its login is imported already");
    }

    #[test]
    fn a_codex_file_without_a_login_is_not_repeated_and_its_api_key_is_imported() {
        let unreadable = r#"{"tokens":{"id_token":"canary","refresh_token":"canary"}}"#;
        for (text, why) in [
            ("canary", "codex login"),
            ("{}", "codex login"),
            (r#"{"OPENAI_API_KEY":null}"#, "codex login"),
            (r#"{"account":"canary"}"#, "codex login"),
            (unreadable, "ID token"),
        ] {
            let read = codex("f", Zeroizing::new(text.to_owned()));
            assert!(read.candidates.is_empty());
            let told = format!("{:?}", read.unusable);
            assert!(told.contains(why) && !told.contains("canary"), "{told}");
        }
        let read = codex("f", Zeroizing::new(r#"{"OPENAI_API_KEY":"sk-proj-key"}"#.to_owned()));
        assert_eq!(read.candidates[0].provider, Some("openai"));
        let text = codex_with(r#"{"OPENAI_API_KEY":"sk-proj-key"}"#, "kwph_x").unwrap();
        assert!(text.contains("kwph_x") && !text.contains("sk-proj-key"));
    }
}
