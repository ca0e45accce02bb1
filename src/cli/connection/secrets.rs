//! Options that name the sources of secret fields: standard input, files, environment variables, and secret sources
//! (`--secret-from FIELD=SOURCE:REF`). Where the form has one secret field, its name may be omitted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::failure::Failure;
use crate::cli::terminal::secret::Typed;
use crate::cli::terminal::table::moment;
use keyward_api::wire::AuthView;
use keyward_base::time::format_duration;
use keyward_model::{Connection, Failures, FetchedView, FieldReference, References, Shown};

/// Sources of secrets, as arguments.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct SecretArgs {
    /// read a secret field from standard input; the only one needs no name
    #[arg(long, value_name = "FIELD", num_args = 0..=1, default_missing_value = "")]
    pub(in crate::cli) secret_stdin: Option<String>,
    /// read a secret field from a file; may be given several times
    #[arg(long = "secret-file", value_name = "FIELD=PATH", value_parser = file)]
    pub(in crate::cli) secret_files: Vec<(String, PathBuf)>,
    /// read a secret field from an environment variable; several times
    #[arg(long = "secret-env", value_name = "[FIELD=]VARIABLE", value_parser = variable)]
    pub(in crate::cli) secret_envs: Vec<(String, String)>,
    /// accept a secret whose format is not the provider's
    #[arg(long = "skip-format-check", alias = "any-shape")]
    pub(in crate::cli) any_shape: bool,
    /// The only secret field, from another program.
    #[arg(skip)]
    pub(in crate::cli) held: Option<Typed>,
    /// Secret fields with values that were read already.
    #[arg(skip)]
    pub(in crate::cli) held_fields: Vec<(String, Typed)>,
}

/// The source of one field. An empty name means the only secret field.
#[derive(Clone, Debug)]
pub(in crate::cli) struct FieldSource {
    pub(in crate::cli) field: String,
    from: From,
}

#[derive(Clone, Debug)]
enum From {
    Stdin,
    File(PathBuf),
    Variable(String),
    Held(Typed),
}

impl SecretArgs {
    /// One source for each option.
    pub(in crate::cli) fn sources(&self) -> Vec<FieldSource> {
        let source = |field: &String, from: From| FieldSource { field: field.clone(), from };
        let stdin = self.secret_stdin.iter().map(|field| source(field, From::Stdin));
        let files = self.secret_files.iter();
        let files = files.map(|(field, path)| source(field, From::File(path.clone())));
        let variables = self.secret_envs.iter();
        let variables = variables.map(|(field, name)| source(field, From::Variable(name.clone())));
        let held = self.held.iter().map(|held| source(&String::new(), From::Held(held.clone())));
        let fields = self.held_fields.iter();
        let fields = fields.map(|(field, held)| source(field, From::Held(held.clone())));
        stdin.chain(files).chain(variables).chain(held).chain(fields).collect()
    }

    /// Whether an option names the field.
    pub(in crate::cli) fn names(&self, field: &str) -> bool {
        self.sources().iter().any(|source| source.field == field)
    }
}

impl FieldSource {
    /// A secret that was read already.
    pub(in crate::cli) fn held(field: &str, secret: Typed) -> Self {
        Self { field: field.to_owned(), from: From::Held(secret) }
    }

    /// With a name: an empty one becomes that of the only secret field.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub(in crate::cli) fn named(mut self, auth: &AuthView) -> Result<Self, Failure> {
        if !self.field.is_empty() {
            return Ok(self);
        }
        let secrets = || auth.fields.iter().filter(|field| field.secret);
        let needed: Vec<_> = secrets().filter(|field| !field.optional).collect();
        let known = || secrets().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
        match needed[..] {
            [only] => {
                self.field.clone_from(&only.name);
                Ok(self)
            }
            [] if secrets().next().is_none() => {
                Err(Failure::usage(format!("`{}` has no secret field", auth.id))
                    .hint("omit the secret"))
            }
            _ => Err(Failure::usage(format!("`{}` has several secret fields", auth.id))
                .hint(format!("name one: {}", known()))),
        }
    }

    /// Whether standard input has the secret, so that it cannot be asked on.
    pub(in crate::cli) fn is_stdin(&self) -> bool {
        matches!(self.from, From::Stdin)
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(in crate::cli) fn read(&self) -> Result<Typed, Failure> {
        match &self.from {
            From::Stdin => Typed::from_stdin(),
            From::File(path) => Typed::from_file(path),
            From::Variable(name) => Typed::from_variable(name),
            From::Held(secret) => Ok(secret.clone()),
        }
    }
}

pub(in crate::cli) fn read(sources: &[FieldSource]) -> Result<BTreeMap<String, Typed>, Failure> {
    sources.iter().map(|source| Ok((source.field.clone(), source.read()?))).collect()
}

/// `FIELD=PATH` of an argument.
pub(in crate::cli) fn file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((field, path)) if !field.is_empty() && !path.is_empty() => {
            Ok((field.to_owned(), path.into()))
        }
        _ => Err("write FIELD=PATH".to_owned()),
    }
}

/// `[FIELD=]VARIABLE` of an argument. The value itself has no place there and is not repeated.
fn variable(text: &str) -> Result<(String, String), String> {
    let (field, name) = text.split_once('=').unwrap_or(("", text));
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match !name.is_empty() && name.bytes().all(is_word) {
        true => Ok((field.to_owned(), name.to_owned())),
        false => Err("write FIELD=VARIABLE or VARIABLE".to_owned()),
    }
}

/// `FIELD=SOURCE:REF` of an argument.
pub(in crate::cli) fn reference_argument(text: &str) -> Result<(String, FieldReference), String> {
    let parts = text.split_once('=').and_then(|(field, rest)| {
        let (from, reference) = rest.split_once(':')?;
        Some((field, from, reference))
    });
    match parts {
        Some((field, from, reference)) if ![field, from, reference].contains(&"") => {
            let (from, reference) = (from.to_owned(), reference.to_owned());
            Ok((field.to_owned(), FieldReference { from, reference }))
        }
        _ => Err("write FIELD=SOURCE:REF, such as api_key=vault:apps/openai#key".to_owned()),
    }
}

/// The rows of `connection show`.
pub(super) fn reference_rows(connection: &Shown<Connection>) -> Vec<(&'static str, String)> {
    let facts = &connection.facts;
    vec![
        ("by reference", named_references(&connection.references)),
        ("fetched", fetched_references(facts.fetched.as_ref())),
        ("fetching fails", failing_references(facts.fetch_failing.as_ref())),
    ]
}

/// Which fields are where.
pub(in crate::cli) fn named_references(references: &References) -> String {
    let references = references.iter();
    let references = references.map(|(field, FieldReference { from, reference })| {
        format!("{field} from {from}: {reference}")
    });
    references.collect::<Vec<_>>().join(", ")
}

/// When the values were fetched, and how long they are used.
pub(in crate::cli) fn fetched_references(fetched: Option<&FetchedView>) -> String {
    let Some(it) = fetched else { return String::new() };
    let (at, kept) = (moment(it.at), moment(it.kept_until));
    let age = u64::try_from(Timestamp::now().duration_since(it.at).as_secs()).unwrap_or_default();
    let age = format_duration(Duration::from_secs(age));
    format!("{at}, {age} ago; used until {kept} if the source cannot be asked")
}

/// Failures since then.
pub(in crate::cli) fn failing_references(failing: Option<&Failures>) -> String {
    let Some(it) = failing else { return String::new() };
    let message = it.message.as_deref().unwrap_or("no answer");
    format!("since {}, {} in a row: {message}", moment(it.since), it.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(fields: &[(&str, bool, bool)]) -> AuthView {
        let field = |(name, secret, optional): &(&str, bool, bool)| {
            serde_json::json!({"name": name, "label": name, "help": null, "secret": secret,
                               "optional": optional, "env": []})
        };
        let fields: Vec<_> = fields.iter().map(field).collect();
        serde_json::from_value(serde_json::json!({
            "id": "key", "kind": "bearer", "label": "Key", "note": null, "fields": fields,
        }))
        .unwrap()
    }

    fn unnamed() -> FieldSource {
        FieldSource { field: String::new(), from: From::Stdin }
    }

    #[test]
    fn a_source_without_a_field_needs_exactly_one_secret_field() {
        for (fields, says) in [
            (&[("user", false, false)][..], "`key` has no secret field"),
            (&[("a", true, false), ("b", true, false)], "hint: name one: a, b"),
            (&[("a", true, true), ("b", true, true)], "hint: name one: a, b"),
        ] {
            let message = unnamed().named(&auth(fields)).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
        let fields = [("user", false, false), ("token", true, false), ("more", true, true)];
        assert_eq!(unnamed().named(&auth(&fields)).unwrap().field, "token");
    }

    #[test]
    fn a_secret_variable_is_given_by_name_and_an_invalid_name_is_refused() {
        assert_eq!(variable("GITHUB_TOKEN").unwrap(), (String::new(), "GITHUB_TOKEN".to_owned()));
        assert_eq!(variable("token=T").unwrap(), ("token".to_owned(), "T".to_owned()));
        for bad in ["", "token=", "token=a-b", "ghp_x y"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_has_a_field_a_source_and_a_value() {
        for bad in ["", "token", "token=vault", "=vault:a", "token=:a", "token=vault:"] {
            assert!(reference_argument(bad).is_err(), "{bad}");
        }
        let (field, found) = reference_argument("token=op:op://dev/github/token=x:1").unwrap();
        assert_eq!((&*field, &*found.from), ("token", "op"));
        assert_eq!(found.reference, "op://dev/github/token=x:1");
    }
}
