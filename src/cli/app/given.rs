//! The arguments of an app, as a request of the API and as output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::agent::{pair, unique};
use crate::cli::connection::{secrets, settings};
use crate::cli::failure::Failure;
use crate::cli::terminal::secret::Typed;
use crate::cli::terminal::table::fields;
use keyward_model::{App, FieldReference, Shown};

/// Endpoints that an app may have of its own.
const URLS: [&str; 5] = ["issuer", "authorize", "token", "device", "revoke"];

/// Settings that may be cleared, as arguments. The API writes `_` for `-`.
const SETTINGS: [&str; 13] = [
    "refresh-buffer",
    "auto-refresh",
    "keep-alive",
    "authorize-params",
    "token-params",
    "client-auth",
    "key-id",
    "timeout",
    "retry",
    "rate-limit",
    "concurrency",
    "user-agent",
    "headers",
];

/// Where its secrets are read from.
#[derive(Debug, Args)]
pub(super) struct Secrets {
    /// read client_secret (the default), private_key or certificate from standard input
    #[arg(long, value_name = "SECRET", num_args = 0..=1, default_missing_value = "client_secret")]
    secret_stdin: Option<String>,
    /// read one of them from a file; may be given several times
    #[arg(long = "secret-file", value_name = "SECRET=PATH", value_parser = file)]
    secret_files: Vec<(String, PathBuf)>,
    /// keep one of them in a secret source; may be given several times
    #[arg(long = "secret-from", value_name = "SECRET=SOURCE:REF", value_parser = secrets::reference_argument)]
    references: Vec<(String, FieldReference)>,
}

/// A secret of a request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum GivenSecret {
    Text(Typed),
    Reference(FieldReference),
}

/// What it asks for, where and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
// Its own name is that of the settings of requests, which stand beside it.
#[group(skip)]
pub(super) struct AppArguments {
    /// a scope to request; may be given several times; default: the provider's
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// a variable of the provider's URLs; may be given several times
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = pair)]
    variables: Vec<(String, String)>,
    /// issuer, authorize, token, device or revoke, instead of the provider's
    #[arg(long = "url", value_name = "WHICH=URL", value_parser = pair)]
    urls: Vec<(String, String)>,
    /// how long before its end a token is refreshed, such as 5m
    #[arg(long, value_name = "TIME")]
    refresh_buffer: Option<String>,
    /// whether tokens are refreshed before they end
    #[arg(long, value_name = "true|false")]
    auto_refresh: Option<bool>,
    /// how often unused tokens are refreshed, such as 30d; 0s: never
    #[arg(long, value_name = "TIME")]
    keep_alive: Option<String>,
    /// a parameter of the consent page's URL; may be given several times
    #[arg(long = "authorize-param", value_name = "KEY=VALUE", value_parser = pair)]
    authorize_params: Vec<(String, String)>,
    /// a parameter of requests for tokens; may be given several times
    #[arg(long = "token-param", value_name = "KEY=VALUE", value_parser = pair)]
    token_params: Vec<(String, String)>,
    /// how the client authenticates: body, basic, none, private_key_jwt, mtls …
    #[arg(long, value_name = "WAY")]
    client_auth: Option<String>,
    /// the id that the provider knows its key by
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    #[command(flatten)]
    requests: settings::RequestArgs,
}

/// A request with secrets in it.
#[derive(Debug, Serialize)]
pub(super) struct AppRequest {
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secrets: Option<BTreeMap<String, GivenSecret>>,
}

impl Secrets {
    pub(super) fn read(&self) -> Result<BTreeMap<String, GivenSecret>, Failure> {
        let names = self.secret_files.iter().map(|(name, _)| name);
        let names = names.chain(self.references.iter().map(|(name, _)| name));
        let mut names: Vec<&String> = names.chain(&self.secret_stdin).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Failure::usage(format!("`{}` is given twice", pair[0])));
        }
        let mut found = BTreeMap::new();
        for (name, path) in &self.secret_files {
            found.insert(name.clone(), GivenSecret::Text(Typed::from_file(path)?));
        }
        for (name, reference) in &self.references {
            found.insert(name.clone(), GivenSecret::Reference(reference.clone()));
        }
        if let Some(name) = &self.secret_stdin {
            found.insert(name.clone(), GivenSecret::Text(Typed::from_stdin()?));
        }
        Ok(found)
    }
}

impl AppArguments {
    /// As the API takes them; only what was given.
    pub(super) fn to_json(&self) -> Result<Map<String, Value>, Failure> {
        let mut given = Map::new();
        let mut put = |key: &str, value: Value, is_given: bool| {
            if is_given {
                given.insert(key.to_owned(), value);
            }
        };
        put("scopes", json!(self.scopes), !self.scopes.is_empty());
        put("variables", json!(unique(self.variables.clone())?), !self.variables.is_empty());
        let urls = unique(self.urls.clone())?;
        if let Some(unknown) = urls.keys().find(|key| !URLS.contains(&key.as_str())) {
            let failure = Failure::usage(format!("an app has no URL `{unknown}`"));
            return Err(failure.hint(format!("it has: {}", URLS.join(", "))));
        }
        put("urls", json!(urls), !urls.is_empty());
        let settings = self.settings()?;
        let is_given = !settings.is_empty();
        put("settings", settings.into(), is_given);
        Ok(given)
    }

    fn settings(&self) -> Result<Map<String, Value>, Failure> {
        let (authorize, token) =
            (unique(self.authorize_params.clone())?, unique(self.token_params.clone())?);
        let settings = [
            ("refresh_buffer", self.refresh_buffer.as_ref().map(|it| json!(it))),
            ("auto_refresh", self.auto_refresh.map(Value::from)),
            ("keep_alive", self.keep_alive.as_ref().map(|it| json!(it))),
            ("authorize_params", (!authorize.is_empty()).then(|| json!(authorize))),
            ("token_params", (!token.is_empty()).then(|| json!(token))),
            ("client_auth", self.client_auth.as_ref().map(|it| json!(it))),
            ("key_id", self.key_id.as_ref().map(|it| json!(it))),
        ];
        let given = settings.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Ok(given.chain(self.requests.to_json()?).collect())
    }

    /// The same as a change, with what is cleared.
    pub(super) fn patch(&self, cleared: &[String]) -> Result<Map<String, Value>, Failure> {
        let mut patch = self.to_json()?;
        for one in cleared {
            let (section, key) = match (one.split_once('='), one.as_str()) {
                (Some(("url", url)), _) if URLS.contains(&url) => ("urls", url.to_owned()),
                (Some(("var", name)), _) if !name.is_empty() => ("variables", name.to_owned()),
                (None, "scopes") => {
                    patch.insert("scopes".to_owned(), json!([]));
                    continue;
                }
                (_, name) if SETTINGS.contains(&name) => ("settings", name.replace('-', "_")),
                _ => return Err(unknown(one)),
            };
            let section = patch.entry(section).or_insert_with(|| json!({}));
            if let Value::Object(map) = section
                && map.insert(key, Value::Null).is_some()
            {
                return Err(Failure::usage(format!("{one} is both set and cleared")));
            }
        }
        Ok(patch)
    }
}

fn unknown(one: &str) -> Failure {
    Failure::usage(format!("there is no setting `{one}`"))
        .hint(format!("clear one of: scopes, url=WHICH, var=NAME, {}", SETTINGS.join(", ")))
}

/// `SECRET=PATH` of an argument.
fn file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("write SECRET=PATH".to_owned()),
    }
}

/// URLs and settings, one a line.
pub(super) fn shown(app: &Shown<App>) -> String {
    let of = |value: Value| match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let urls = of(serde_json::to_value(&app.urls).unwrap_or_default());
    let settings = of(serde_json::to_value(&app.settings).unwrap_or_default());
    let mut lines = Vec::new();
    for (key, value) in urls
        .iter()
        .map(|(key, value)| (format!("{key} URL"), value))
        .chain(settings.iter().map(|(key, value)| (key.replace('_', " "), value)))
    {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Object(map) => {
                let pairs = map.iter().map(|(k, v)| match v {
                    Value::String(text) => format!("{k}={text}"),
                    other => format!("{k}={other}"),
                });
                pairs.collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        lines.push((key, text));
    }
    let lines: Vec<(&str, String)> =
        lines.iter().map(|(key, text)| (key.as_str(), text.clone())).collect();
    fields(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> AppArguments {
        AppArguments {
            scopes: vec!["repo".into()],
            variables: vec![],
            urls: vec![("token".into(), "https://t.test/".into())],
            refresh_buffer: Some("2m".into()),
            auto_refresh: None,
            keep_alive: None,
            authorize_params: vec![],
            token_params: vec![],
            client_auth: None,
            key_id: None,
            requests: settings::RequestArgs::default(),
        }
    }

    #[test]
    fn unknown_settings_and_settings_both_set_and_cleared_are_refused() {
        for bad in ["nonsense", "url=nonsense", "var=", "refresh-buffer", "url=token"] {
            assert!(given().patch(&[bad.to_owned()]).is_err(), "{bad}");
        }
        let twice = AppArguments { urls: vec![("a".into(), "b".into())], ..given() };
        assert!(twice.to_json().unwrap_err().to_string().contains("it has: issuer"));
        for bad in ["client_secret", "=p", "client_secret="] {
            assert!(file(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_patch_has_only_the_settings_that_arguments_set_or_clear() {
        let cleared = ["auto-refresh".to_owned(), "var=region".to_owned()];
        let patch = given().patch(&cleared).unwrap();
        let expected = json!({
            "scopes": ["repo"], "urls": {"token": "https://t.test/"},
            "settings": {"refresh_buffer": "2m", "auto_refresh": null},
            "variables": {"region": null},
        });
        assert_eq!(Value::Object(patch), expected);
    }
}
