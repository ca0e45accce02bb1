//! The secrets of an app, and its request of the API; its settings as output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::connection::secrets;
use crate::cli::failure::Failure;
use crate::cli::terminal::secret::Typed;
use crate::cli::terminal::table::fields;
use keyward_model::{App, FieldReference, Shown};

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

    #[test]
    fn a_file_without_its_secret_or_path_is_refused() {
        for bad in ["client_secret", "=p", "client_secret="] {
            assert!(file(bad).is_err(), "{bad}");
        }
    }
}
