//! The questions of `keyward connect`: provider, authentication method, variables, name, fields, and the
//! secret last. Without a terminal, the options give the answers.

use std::collections::HashSet;

use crate::cli::connection::form::{self, FilledForm};
use crate::cli::connection::options::ConnectionArguments;
use crate::cli::connection::options::{New, Options};
use crate::cli::connection::shape::Shapes;
use crate::cli::failure::{Exit, Failure};
use crate::cli::terminal::secret::{self, Typed};
use crate::cli::{output, terminal};
use keyward_api::wire::{AuthView, FieldView, ProviderView};
use keyward_model::{References, check_name};

/// What is said of a key at the place of the name, without the key.
const NAME_IS_KEY: &str = "this looks like a key: it is not used as the name";

/// The source of the answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cli) enum AnswerSource {
    /// The options, and the terminal for missing values.
    Asking,
    /// Only the options.
    Given,
}

/// The context of the questions.
pub(in crate::cli) struct Questions {
    pub(in crate::cli) options: Options,
    pub(in crate::cli) provider: ProviderView,
    pub(in crate::cli) shapes: Shapes,
    /// Names of existing connections.
    pub(in crate::cli) taken: HashSet<String>,
    pub(in crate::cli) way: AnswerSource,
}

/// The answers that stay valid for another key.
pub(in crate::cli) struct FixedAnswers {
    pub(super) auth: AuthView,
    pub(super) name: String,
    /// The app, unless the options name one or the gateway finds it.
    pub(super) app: Option<String>,
    /// Whether a secret was refused, so that those of the options are not used again.
    pub(super) is_retry: bool,
}

/// Asks for a provider.
pub(in crate::cli) fn provider(shapes: &Shapes) -> Result<ProviderView, Failure> {
    let all = shapes.providers();
    let line = |one: &ProviderView| match &one.category {
        Some(category) => format!("{} ({}, {category})", one.name, one.id),
        None => format!("{} ({})", one.name, one.id),
    };
    let lines: Vec<_> = all.iter().map(line).collect();
    Ok(all[terminal::choose("provider", &lines)?].clone())
}

/// Asks for one of a few choices.
pub(in crate::cli) fn choose(label: &str, ways: &[&str]) -> Result<usize, Failure> {
    let ways: Vec<_> = ways.iter().map(ToString::to_string).collect();
    terminal::choose(label, &ways)
}

impl Questions {
    /// Asks for the authentication method and the name.
    ///
    /// # Errors
    /// When no method can be typed, or the name of the options is wrong or in use.
    pub(in crate::cli) fn named(&self) -> Result<FixedAnswers, Failure> {
        let auth = self.auth()?;
        let proposed = proposed(&self.provider.id, &self.taken);
        let name = match (&self.options.name, self.way) {
            // A key is recognised first: other refusals repeat what was given.
            (Some(name), _) => {
                if self.shapes.is_key(name) {
                    return Err(Failure::usage(NAME_IS_KEY)
                        .hint(format!("choose a name: --name {proposed}")));
                }
                check_name(name).map_err(|refusal| Failure::usage(refusal.to_string()))?;
                name.clone()
            }
            (None, AnswerSource::Asking) => self.asked_name(&proposed)?,
            (None, AnswerSource::Given) => self.provider.id.clone(),
        };
        match self.taken.contains(&name) {
            true => Err(Failure::new(Exit::Failed, format!("connection `{name}` exists already"))
                .hint(format!(
                    "choose another name: --name {proposed}; or let an agent use it: keyward agent bind \
                     AGENT {name}; what is missing: keyward connection show {name}"
                ))),
            false => Ok(FixedAnswers { auth, name, app: None, is_retry: false }),
        }
    }

    /// Asks for a name until it is one that a new connection can have.
    fn asked_name(&self, proposed: &str) -> Result<String, Failure> {
        loop {
            let name = secret::ask_or("name of the connection", proposed)?;
            match check_name(&name) {
                _ if self.shapes.is_key(&name) => {
                    output::note(&format!("{NAME_IS_KEY}; press Enter for {proposed}"));
                }
                Ok(()) if !self.taken.contains(&name) => return Ok(name),
                Ok(()) => output::note(&format!("connection `{name}` exists already")),
                Err(refusal) => output::note(&refusal.to_string()),
            }
        }
    }

    /// Whether the options give tokens; then no consent is needed.
    pub(super) fn gives_tokens(&self) -> bool {
        self.options.given().is_ok_and(|given| given.names_some())
    }

    fn auth(&self) -> Result<AuthView, Failure> {
        let provider = &self.provider;
        let is_typed = |auth: &&AuthView| !auth.fields.iter().any(|field| field.from_source);
        let usable: Vec<_> = provider.auth.iter().filter(is_typed).collect();
        if usable.is_empty() {
            let message = format!("{} needs values of a secret source", provider.name);
            let hint =
                format!("keyward connection add {} --secret-from FIELD=SOURCE:REF", provider.id);
            return Err(Failure::new(Exit::Failed, message).hint(hint));
        }
        let auth = self.options.auth_of(provider);
        if auth.is_some() || usable.len() == 1 || self.way == AnswerSource::Given {
            return form::choose(provider, auth.as_deref()).cloned();
        }
        let line = |auth: &&AuthView| match &auth.note {
            Some(note) => format!("{}: {note}", auth.label),
            None => auth.label.clone(),
        };
        let lines: Vec<_> = usable.iter().map(line).collect();
        Ok(usable[terminal::choose("authenticate with", &lines)?].clone())
    }

    /// Asks for all fields.
    ///
    /// # Errors
    /// When a value is missing or has the wrong format, or the user stops.
    pub(in crate::cli) fn filled(&self, named: &FixedAnswers) -> Result<New, Failure> {
        let mut given = self.options.given()?;
        given.auth = Some(named.auth.id.clone());
        if named.is_retry && self.way == AnswerSource::Asking {
            given.secrets.clear();
        }
        let filled = match self.way {
            AnswerSource::Asking => self.asked(given, &named.auth)?,
            AnswerSource::Given => {
                let filled = given.complete(&self.provider)?;
                if !self.options.secrets.any_shape {
                    let remarks = filled.check(&self.provider, &self.shapes)?;
                    remarks.iter().for_each(|remark| output::note(remark));
                }
                filled
            }
        };
        let mut members = self.options.members()?;
        if let (None, Some(app)) = (self.options.app(), &named.app) {
            members.insert("app".to_owned(), app.clone().into());
        }
        Ok(New {
            provider: self.provider.id.clone(),
            auth: filled.auth,
            name: named.name.clone(),
            visibility: self.options.seen.word(),
            variables: filled.variables,
            fields: filled.fields,
            members,
            ..New::default()
        })
    }

    fn asked(&self, given: ConnectionArguments, auth: &AuthView) -> Result<FilledForm, Failure> {
        let given = given.named(auth)?;
        given.check(auth)?;
        given.check_variables(&self.provider)?;
        let mut fields = given.read()?;
        let mut variables = given.variables;
        for variable in self.provider.variables.iter().filter(|one| form::is_asked(one)) {
            if !variables.contains_key(&variable.name) {
                if let Some(help) = &variable.help {
                    output::note(&format!("{}: {help}", variable.label));
                }
                variables.insert(variable.name.clone(), form::ask_variable(variable)?);
            }
        }
        self.tell_where_keys_are(auth);
        let mut asked: Vec<_> = auth.fields.iter().filter(|field| !field.optional).collect();
        asked.sort_by_key(|field| field.secret);
        for field in asked {
            let value = match fields.remove(&field.name) {
                Some(value) => value,
                None => self.ask(field)?,
            };
            let value = self.looks_right(auth, field, value)?;
            fields.insert(field.name.clone(), value);
        }
        let references = References::new();
        Ok(FilledForm { auth: auth.id.clone(), fields, references, variables })
    }

    fn tell_where_keys_are(&self, auth: &AuthView) {
        let provider = &self.provider;
        // There is no key: its page would mislead.
        if auth.fields.iter().all(|field| field.optional) {
            return;
        }
        match (&provider.key_url, &provider.docs_url) {
            (Some(url), _) => output::note(&format!("get it at {url}")),
            (None, Some(url)) => output::note(&format!("how to get it: {url}")),
            (None, None) => {}
        }
        if let Some(note) = &auth.note {
            output::note(&format!("({note})"));
        }
    }

    fn ask(&self, field: &FieldView) -> Result<Typed, Failure> {
        if let Some(help) = &field.help {
            output::note(&format!("{}: {help}", field.label));
        }
        match field.secret {
            true => Typed::from_prompt(&format!("{} (not shown)", field.label)),
            false => secret::ask(&field.label).map(Typed::from),
        }
    }

    /// Asks for the value until its format is correct or the user confirms it.
    fn looks_right(
        &self,
        auth: &AuthView,
        field: &FieldView,
        mut value: Typed,
    ) -> Result<Typed, Failure> {
        if self.options.secrets.any_shape {
            return Ok(value);
        }
        loop {
            let misfit = match self.shapes.judge(&self.provider, auth, field, &value) {
                Ok(remark) => {
                    if let Some(remark) = remark {
                        output::note(&format!("note: {remark}"));
                    }
                    return Ok(value);
                }
                Err(misfit) => misfit,
            };
            output::note(&format!("{}: it {}; {}", field.label, misfit.says, misfit.remedy));
            let ways: &[&str] = match misfit.is_final {
                true => &["paste it again"],
                false => &["paste it again", "it is correct"],
            };
            if choose("now", ways)? == 1 {
                return Ok(value);
            }
            value = self.ask(field)?;
        }
    }
}

/// `github`, `github-2` …
pub(super) fn proposed(provider: &str, taken: &HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{provider}-{number}"));
    let mut names = std::iter::once(provider.to_owned()).chain(numbered);
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_never_proposed() {
        let taken = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert_eq!(proposed("github", &taken(&["github", "github-2", "work"])), "github-3");
        assert_eq!(proposed("github", &taken(&["work"])), "github");
    }
}
