//! [`KeyForm`]: the body of the form with a key. Secret values become [`Secret`]s at once, and no page shows them again;
//! [`EnteredValues`] are the others.

use std::collections::BTreeMap;

use axum::body::Body;
use zeroize::Zeroizing;

use super::offers::{ConnectOffer, Offers};

use crate::page_request::PageRequest;
use keyward_base::secret::Secret;
use keyward_rules::provider::Field;

/// Keys of service accounts and certificates take a few KiB.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Before the name of a field of the auth method.
pub const FIELD: &str = "field.";

/// Before the name of a host variable.
pub const VARIABLE: &str = "variable.";

/// What a person has entered.
#[derive(Default)]
pub(super) struct KeyForm {
    pub(super) fields: BTreeMap<String, Secret>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) entered: EnteredValues,
}

/// Values that are not secret, by the names of their inputs: the form has them again after a refusal.
#[derive(Default)]
pub struct EnteredValues(BTreeMap<String, String>);

/// Reads the form of a method.
pub(super) struct FormReader<'a> {
    pub(super) offers: &'a Offers,
    pub(super) offer: &'a ConnectOffer,
    /// Whether the person insists on values that do not look like those of the field.
    pub(super) insists: bool,
}

impl FormReader<'_> {
    /// Reads the body.
    ///
    /// # Errors
    /// When it is malformed or too long, or a value looks like something else.
    pub(super) async fn read(
        &self,
        request: &PageRequest,
        body: Body,
    ) -> Result<KeyForm, FormProblem> {
        // A button without fields.
        if http_body::Body::size_hint(&body).exact() == Some(0) {
            return Ok(KeyForm::default());
        }
        let unreadable = || FormProblem::of("the form cannot be read");
        let body = request.form(body, FORM_BYTES_MAX).await.ok_or_else(unreadable)?;
        let entered = self.entered(&body);
        match self.parsed(&body) {
            Ok(form) => Ok(KeyForm { entered, ..form }),
            Err(problem) => Err(FormProblem { entered, ..problem }),
        }
    }

    fn parsed(&self, body: &[u8]) -> Result<KeyForm, FormProblem> {
        let mut form = KeyForm::default();
        for (name, value) in form_urlencoded::parse(body) {
            if let Some(name) = name.strip_prefix(VARIABLE) {
                form.variables.insert(name.to_owned(), value.trim().to_owned());
            } else if let Some(name) = name.strip_prefix(FIELD) {
                let value = Zeroizing::new(value.into_owned());
                let secret = self.judged(name, &value)?;
                if secret
                    .is_some_and(|secret| form.fields.insert(name.to_owned(), secret).is_some())
                {
                    return Err(FormProblem::of("the form has a field twice"));
                }
            }
        }
        Ok(form)
    }

    /// The values that may be shown again. A key may have been pasted at the place of another value.
    fn entered(&self, body: &[u8]) -> EnteredValues {
        let Self { offers, offer, .. } = self;
        let given = || form_urlencoded::parse(body);
        let secrets = given().filter(|(name, _)| self.is_secret(name));
        let secrets: Vec<_> =
            secrets.map(|(_, value)| Zeroizing::new(value.trim().to_owned())).collect();
        let is_secret = |value: &str| {
            offers.is_key(value) || secrets.iter().any(|secret| **secret == *value.trim())
        };
        let is_variable = |name: &str| {
            let variable = name.strip_prefix(VARIABLE);
            variable.is_some_and(|name| offer.provider.variable(name).is_some())
        };
        let shown = given().filter(|(name, value)| {
            let is_input = is_variable(name) || self.field(name).is_some_and(|it| !it.secret);
            is_input && !is_secret(value)
        });
        EnteredValues(shown.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The field of the method that an input is for.
    fn field(&self, input: &str) -> Option<&Field> {
        let name = input.strip_prefix(FIELD)?;
        self.offer.auth().fields.iter().find(|field| field.name == name)
    }

    fn is_secret(&self, input: &str) -> bool {
        self.field(input).is_some_and(|field| field.secret)
    }

    /// The checked value of a field; `None`: the field is optional and empty.
    fn judged(&self, name: &str, value: &Zeroizing<String>) -> Result<Option<Secret>, FormProblem> {
        let Self { offers, offer, insists } = self;
        let unknown = || FormProblem::of("the form has a field that this provider does not have");
        let known: Option<&Field> = offer.auth().fields.iter().find(|field| field.name == name);
        let field = known.ok_or_else(unknown)?;
        let value = value.trim();
        if value.is_empty() && field.optional {
            return Ok(None);
        }
        if field.secret
            && let Err(mismatch) = offers.judge(offer, field, value)
            && (mismatch.is_final || !insists)
        {
            return Err(FormProblem {
                message: format!("{} {}", field.label, mismatch.says),
                hint: Some(mismatch.remedy),
                may_insist: !mismatch.is_final,
                input: Some(format!("{FIELD}{name}")),
                entered: EnteredValues::default(),
            });
        }
        Ok(Some(Secret::new(value)))
    }
}

/// What went wrong with the last attempt.
pub struct FormProblem {
    pub message: String,
    pub hint: Option<String>,
    /// Whether the same value may be tested as it is.
    pub may_insist: bool,
    /// The input that it is about, if it is known.
    pub input: Option<String>,
    /// What the form has again.
    pub entered: EnteredValues,
}

impl FormProblem {
    pub(super) fn of(message: impl Into<String>) -> Self {
        let (message, entered) = (message.into(), EnteredValues::default());
        Self { message, hint: None, may_insist: false, input: None, entered }
    }
}

impl EnteredValues {
    pub fn get(&self, input: &str) -> Option<&str> {
        self.0.get(input).map(String::as_str)
    }
}
