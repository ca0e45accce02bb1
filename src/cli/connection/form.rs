//! Completes the form of a connection from the command line: refuses secrets in arguments, reads them from stdin
//! and files, and prompts for the rest. A database may have a connection string: `--field url=…` without a
//! password, `--secret-env url=…` with one.

use std::collections::BTreeMap;

use super::options::{ConnectionArguments, exposed};
use super::secrets::{self, FieldSource};
use super::shape::{self, Shapes};
use crate::cli::failure::Failure;
use crate::cli::terminal::secret::{self, Typed};
use crate::cli::{output, terminal};
use keyward_api::wire::{AuthView, FieldView, ProviderView, VariableView};
use keyward_model::References;
use keyward_rules::provider::connection_url::{ConnectionUrl, URL, UrlError};

/// A complete form.
#[derive(Debug)]
pub(in crate::cli) struct FilledForm {
    pub(in crate::cli) auth: String,
    pub(in crate::cli) fields: BTreeMap<String, Typed>,
    /// Fields that are kept elsewhere.
    pub(in crate::cli) references: References,
    pub(in crate::cli) variables: BTreeMap<String, String>,
}

impl FilledForm {
    /// Compares the secrets with known key shapes. Returns remarks.
    ///
    /// # Errors
    /// When one looks like something else.
    pub(in crate::cli) fn check(
        &self,
        provider: &ProviderView,
        shapes: &Shapes,
    ) -> Result<Vec<String>, Failure> {
        let mut remarks = Vec::new();
        let auth = choose(provider, Some(&self.auth))?;
        for field in &auth.fields {
            let Some(value) = self.fields.get(&field.name) else { continue };
            match shapes.judge(provider, auth, field, value) {
                Ok(remark) => {
                    remarks.extend(remark.map(|it| format!("note: {}: {it}", field.name)))
                }
                Err(misfit) => return Err(shape::refusal(field, &misfit)),
            }
        }
        Ok(remarks)
    }
}

impl ConnectionArguments {
    /// Checks everything before it reads or asks anything.
    ///
    /// # Errors
    /// When a field is unknown, given twice, a secret among the arguments, or missing where nobody
    /// can be asked.
    pub(in crate::cli) fn complete(self, provider: &ProviderView) -> Result<FilledForm, Failure> {
        let auth = choose(provider, self.auth.as_deref())?;
        let given = expanded_urls(self, provider)?.named(auth)?;
        given.check(auth)?;
        given.check_variables(provider)?;
        let asking = secret::can_ask() && !given.secrets.iter().any(FieldSource::is_stdin);
        if !asking {
            given.check_nothing_is_missing(provider, auth)?;
        }
        let mut fields = given.read()?;
        let (mut variables, references) = (given.variables, given.references);
        // What is easy first, the secret last.
        for variable in provider.variables.iter().filter(|variable| is_asked(variable)) {
            if !variables.contains_key(&variable.name) {
                variables.insert(variable.name.clone(), ask_variable(variable)?);
            }
        }
        for field in auth.fields.iter().filter(|field| !field.optional) {
            if !fields.contains_key(&field.name) && !references.contains_key(&field.name) {
                if field.from_source {
                    return Err(lacking(field));
                }
                fields.insert(field.name.clone(), ask(field, provider)?);
            }
        }
        Ok(FilledForm { auth: auth.id.clone(), fields, references, variables })
    }

    /// With the names of all fields: where there is one secret field, its sources need none.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub(in crate::cli) fn named(mut self, auth: &AuthView) -> Result<Self, Failure> {
        let named = self.secrets.into_iter().map(|source| source.named(auth));
        self.secrets = named.collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Fields that exist, each given once, and no secret in plain sight.
    pub(in crate::cli) fn check(&self, auth: &AuthView) -> Result<(), Failure> {
        let mut seen = Vec::new();
        for name in self.names() {
            let field = auth.fields.iter().find(|field| field.name == name);
            let Some(field) = field else { return Err(unknown(name, auth)) };
            if field.secret && self.fields.contains_key(name) {
                return Err(exposed(name));
            }
            if seen.contains(&name) {
                return Err(Failure::usage(format!("field `{name}` is given twice")));
            }
            seen.push(name);
        }
        Ok(())
    }

    pub(in crate::cli) fn check_variables(&self, provider: &ProviderView) -> Result<(), Failure> {
        let known: Vec<_> = provider.variables.iter().map(|known| known.name.as_str()).collect();
        let Some(name) = self.variables.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let failure = Failure::usage(format!("{} has no variable `{name}`", provider.id));
        Err(match known.is_empty() {
            true => failure.hint("omit --var: it has no variables"),
            false => failure.hint(format!("its variables are: {}", known.join(", "))),
        })
    }

    fn check_nothing_is_missing(
        &self,
        provider: &ProviderView,
        auth: &AuthView,
    ) -> Result<(), Failure> {
        let given = |name: &str| self.names().any(|given| given == name);
        let missing = auth.fields.iter().find(|field| !field.optional && !given(&field.name));
        if let Some(field) = missing {
            return Err(lacking(field));
        }
        let mut variables = provider.variables.iter().filter(|variable| is_asked(variable));
        match variables.find(|variable| !self.variables.contains_key(&variable.name)) {
            Some(variable) => {
                let (name, label) = (&variable.name, &variable.label);
                let example = variable.example.as_deref().unwrap_or("VALUE");
                Err(Failure::usage(format!("variable `{name}` ({label}) is missing"))
                    .hint(format!("--var {name}={example}")))
            }
            None => Ok(()),
        }
    }

    /// Whether a field was given.
    pub(in crate::cli) fn names_some(&self) -> bool {
        self.names().next().is_some()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let sources = self.secrets.iter().map(|source| source.field.as_str());
        let references = self.references.keys().map(String::as_str);
        self.fields.keys().map(String::as_str).chain(sources).chain(references)
    }

    pub(in crate::cli) fn read(&self) -> Result<BTreeMap<String, Typed>, Failure> {
        let plain = self.fields.iter().map(|(k, v)| (k.clone(), Typed::from(v.clone())));
        let mut fields: BTreeMap<_, _> = plain.collect();
        fields.extend(secrets::read(&self.secrets)?);
        Ok(fields)
    }
}

pub(in crate::cli) fn choose<'a>(
    provider: &'a ProviderView,
    id: Option<&str>,
) -> Result<&'a AuthView, Failure> {
    let found = match id {
        Some(id) => provider.auth.iter().find(|auth| auth.id == id),
        None => provider.auth.first(),
    };
    found.ok_or_else(|| {
        let id = id.unwrap_or_default();
        let known: Vec<_> = provider.auth.iter().map(|auth| auth.id.as_str()).collect();
        let message = format!("{} has no way to authenticate named `{id}`", provider.id);
        Failure::usage(message).hint(format!("choose one of: {}", known.join(", ")))
    })
}

pub(in crate::cli) fn is_asked(variable: &VariableView) -> bool {
    variable.default.is_none()
}

pub(in crate::cli) fn ask_variable(variable: &VariableView) -> Result<String, Failure> {
    if !variable.choices.is_empty() {
        let place = terminal::choose(&variable.label, &variable.choices)?;
        return Ok(variable.choices[place].clone());
    }
    secret::ask(&match &variable.example {
        Some(example) => format!("{} (such as {example})", variable.label),
        None => variable.label.clone(),
    })
}

fn ask(field: &FieldView, provider: &ProviderView) -> Result<Typed, Failure> {
    match field.secret {
        true => {
            if let Some(url) = &provider.key_url {
                output::note(&format!("get one at {url}"));
            }
            Typed::from_prompt(&format!("{} (not shown)", field.label))
        }
        false => secret::ask(&field.label).map(Typed::from),
    }
}

fn unknown(name: &str, auth: &AuthView) -> Failure {
    let known: Vec<_> = auth.fields.iter().map(|field| field.name.as_str()).collect();
    Failure::usage(format!("`{}` has no field `{name}`", auth.id))
        .hint(format!("its fields are: {}", known.join(", ")))
}

fn lacking(field: &FieldView) -> Failure {
    let (name, label) = (&field.name, &field.label);
    Failure::usage(format!("field `{name}` ({label}) is missing")).hint(match field.secret {
        _ if field.from_source => format!("--secret-from {name}=SOURCE:REF, of a secret source"),
        true => {
            format!(
                "--secret-stdin {name}, --secret-file {name}=PATH or --secret-env {name}=VARIABLE"
            )
        }
        false => format!("--field {name}=VALUE"),
    })
}

/// The arguments with the parts of the URL in its place. The server checks the parts as it checks any.
///
/// # Errors
/// When the URL cannot be used, or an argument contains a password.
pub(super) fn expanded_urls(
    mut given: ConnectionArguments,
    provider: &ProviderView,
) -> Result<ConnectionArguments, Failure> {
    let Some(protocol) = provider.protocol else { return Ok(given) };
    let refused = |error: UrlError| Failure::usage(error.to_string());
    if let Some(url) = given.fields.remove(URL) {
        let parts = ConnectionUrl::parse(protocol, url.trim(), &[]).map_err(refused)?;
        if parts.password.is_some() {
            return Err(exposed(URL));
        }
        add(&mut given, parts)?;
    }
    if let Some(place) = given.secrets.iter().position(|source| source.field == URL) {
        let url = given.secrets.remove(place).read()?;
        let parts = ConnectionUrl::parse(protocol, url.text().trim(), &[]).map_err(refused)?;
        add(&mut given, parts)?;
    }
    Ok(given)
}

fn add(given: &mut ConnectionArguments, parts: ConnectionUrl) -> Result<(), Failure> {
    if !parts.ignored.is_empty() {
        let names = parts.ignored.join(", ");
        output::note(&format!(
            "note: parameters of the URL that are for clients have no effect: {names}"
        ));
    }
    let twice =
        |name: &str| Failure::usage(UrlError::DuplicateParameter(name.to_owned()).to_string());
    for (name, value) in parts.variables {
        if given.variables.insert(name.clone(), value).is_some() {
            return Err(twice(&name));
        }
    }
    if let Some(user) = parts.user
        && given.fields.insert("username".to_owned(), user).is_some()
    {
        return Err(twice("username"));
    }
    if let Some(password) = parts.password {
        given.secrets.push(FieldSource::held("password", Typed::from(password.to_string())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::secrets::SecretArgs;
    use super::*;

    fn provider() -> ProviderView {
        let field = |name: &str, secret: bool, optional: bool| {
            serde_json::json!({"name": name, "label": name, "help": null, "secret": secret,
                               "optional": optional, "env": []})
        };
        serde_json::from_value(serde_json::json!({
            "id": "acme", "name": "Acme", "category": null, "hosts": ["{site}.example.com"],
            "variables": [{"name": "site", "kind": "label", "label": "Site", "help": null,
                           "example": "acme", "default": null, "choices": []}],
            "auth": [
                {"id": "basic", "kind": "basic", "label": "Basic", "note": null,
                 "fields": [
                    field("username", false, false), field("password", true, false),
                    field("note", false, true)]},
            ],
            "docs_url": null, "key_url": null,
        }))
        .unwrap()
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn refused(given: ConnectionArguments) -> String {
        given.complete(&provider()).unwrap_err().to_string()
    }

    #[test]
    fn a_secret_among_the_arguments_is_refused_without_being_repeated() {
        let message = refused(ConnectionArguments {
            fields: pairs(&[("username", "u"), ("password", "canary")]),
            variables: pairs(&[("site", "s")]),
            ..ConnectionArguments::default()
        });
        assert!(message.contains("`password` is a secret"), "{message}");
        assert!(message.contains("--secret-stdin password"), "{message}");
        assert!(!message.contains("canary"), "{message}");
    }

    #[test]
    fn unknown_and_doubled_fields_are_refused() {
        let unknown = ConnectionArguments {
            fields: pairs(&[("user", "u")]),
            ..ConnectionArguments::default()
        };
        assert!(refused(unknown).contains("its fields are: username, password, note"));
        let twice = ConnectionArguments {
            secrets: SecretArgs {
                secret_files: vec![("password".to_owned(), "f".into())],
                secret_stdin: Some("password".to_owned()),
                ..SecretArgs::default()
            }
            .sources(),
            ..ConnectionArguments::default()
        };
        assert!(refused(twice).contains("given twice"));
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_names_of_the_existing_ones() {
        let given = ConnectionArguments {
            variables: pairs(&[("sight", "s")]),
            ..ConnectionArguments::default()
        };
        assert!(refused(given).contains("hint: its variables are: site"));
    }

    #[test]
    fn a_way_to_authenticate_that_the_provider_does_not_have_is_refused() {
        let message = refused(ConnectionArguments {
            auth: Some("nope".to_owned()),
            ..ConnectionArguments::default()
        });
        assert!(message.contains("no way to authenticate"), "{message}");
    }

    #[test]
    fn a_field_that_expires_is_accepted_only_from_a_secret_source() {
        let mut provider = provider();
        provider.auth[0].fields[1].from_source = true;
        let auth = provider.auth[0].clone();
        let given = ConnectionArguments {
            fields: pairs(&[("username", "u")]),
            ..ConnectionArguments::default()
        };
        let message = given.check_nothing_is_missing(&provider, &auth).unwrap_err().to_string();
        assert!(message.contains("hint: --secret-from password=SOURCE:REF"), "{message}");
    }

    #[test]
    fn a_missing_field_or_variable_is_named_with_the_option_that_sets_it() {
        let field = ConnectionArguments {
            fields: pairs(&[("username", "u")]),
            ..ConnectionArguments::default()
        };
        let auth = provider().auth[0].clone();
        let message = field.check_nothing_is_missing(&provider(), &auth).unwrap_err().to_string();
        assert!(message.contains("hint: --secret-stdin password"), "{message}");
        let variable = ConnectionArguments {
            fields: pairs(&[("username", "u")]),
            secrets: SecretArgs {
                secret_stdin: Some("password".to_owned()),
                ..SecretArgs::default()
            }
            .sources(),
            ..ConnectionArguments::default()
        };
        let message = variable.check_nothing_is_missing(&provider(), &auth).unwrap_err();
        assert!(message.to_string().contains("hint: --var site=acme"), "{message}");
    }

    #[test]
    fn a_complete_form_asks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "p\n").unwrap();
        let given = ConnectionArguments {
            fields: pairs(&[("username", "u")]),
            secrets: SecretArgs {
                secret_files: vec![("password".to_owned(), path)],
                ..SecretArgs::default()
            }
            .sources(),
            variables: pairs(&[("site", "s")]),
            ..ConnectionArguments::default()
        };
        let filled = given.complete(&provider()).unwrap();
        assert_eq!(filled.auth, "basic", "the first that can be used");
        let fields = serde_json::to_value(&filled.fields).unwrap();
        assert_eq!(fields, serde_json::json!({"username": "u", "password": "p"}));
    }
}
