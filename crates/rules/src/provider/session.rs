//! [`SessionRequests`]: how the token of a session is obtained, with a login request that is data.

use http::{HeaderName, Method};

use super::document::{Problems, key_of};
use super::keys::RequestText;
use super::methods::header_name;
use super::url_template::UrlTemplate;
use crate::inject::json_template::JsonTemplate;
use crate::inject::sign::message::SignedMessage;
use crate::inject::template::{Encoding, ValueTemplate};

/// The requests of a session.
#[derive(Clone, Debug)]
pub struct SessionRequests {
    /// The login: the owner's fields become a token.
    pub login: RequestTemplate,
    /// The renewal with the session's refresh token, where the service has one. If it fails, the login follows.
    pub renewal: Option<RequestTemplate>,
}

/// A request with fields of the owner in it.
#[derive(Clone, Debug)]
pub struct RequestTemplate {
    pub method: Method,
    /// The URL, with variables only.
    pub url: UrlTemplate,
    pub headers: Vec<(HeaderName, ValueTemplate)>,
    pub body: BodyTemplate,
}

/// A body with fields of the owner in it.
#[derive(Clone, Debug)]
pub enum BodyTemplate {
    /// No body.
    Empty,
    Json(JsonTemplate),
    Form(Vec<(String, SignedMessage)>),
}

impl RequestTemplate {
    /// Checks a request; `names` are the fields and variables that it may contain.
    pub(super) fn checked(
        text: &RequestText,
        names: &[&str],
        path: &str,
        problems: &mut Problems<'_>,
    ) -> Option<Self> {
        let method = text.method.as_deref().unwrap_or("POST");
        let Ok(method) = Method::from_bytes(method.as_bytes()) else {
            problems.add(&key_of(path, "method"), "this is not a method", "write GET or POST");
            return None;
        };
        let check = RequestCheck { names, path };
        Some(Self {
            method,
            url: UrlTemplate::literal(&text.url),
            headers: check.headers(text, problems),
            body: check.body(text, problems)?,
        })
    }
}

struct RequestCheck<'a> {
    names: &'a [&'a str],
    path: &'a str,
}

impl RequestCheck<'_> {
    fn headers(
        &self,
        text: &RequestText,
        problems: &mut Problems<'_>,
    ) -> Vec<(HeaderName, ValueTemplate)> {
        let mut found = Vec::new();
        for (name, value) in &text.headers {
            let at = key_of(&key_of(self.path, "headers"), name);
            let template = self.template(value, Encoding::Plain, &at, problems);
            found.extend(header_name(name, &at, problems).zip(template));
        }
        let basic = text.basic.as_ref().map(|pair| ("basic", pair.clone(), Encoding::Basic));
        let bearer = text.bearer.as_ref();
        let bearer = bearer.map(|name| ("bearer", format!("Bearer {{{name}}}"), Encoding::Plain));
        for (key, value, encoding) in basic.into_iter().chain(bearer) {
            let template = self.template(&value, encoding, &key_of(self.path, key), problems);
            found.extend(template.map(|template| (http::header::AUTHORIZATION, template)));
        }
        found
    }

    fn body(&self, text: &RequestText, problems: &mut Problems<'_>) -> Option<BodyTemplate> {
        match (&text.json, &text.form) {
            (None, None) => Some(BodyTemplate::Empty),
            (Some(json), None) => self.json(json, problems).map(BodyTemplate::Json),
            (None, Some(form)) => {
                let mut pairs = Vec::new();
                for (name, value) in form {
                    let at = key_of(&key_of(self.path, "form"), name);
                    let value = self.message(value, &at, problems);
                    pairs.extend(value.map(|value| (name.clone(), value)));
                }
                Some(BodyTemplate::Form(pairs))
            }
            (Some(_), Some(_)) => {
                problems.add(self.path, "`json` and `form` exclude each other", "keep one");
                None
            }
        }
    }

    fn json(&self, value: &serde_yaml::Value, problems: &mut Problems<'_>) -> Option<JsonTemplate> {
        let at = key_of(self.path, "json");
        let value = serde_json::to_value(value).ok();
        let Some(template) = value.and_then(|value| JsonTemplate::parse(&value).ok()) else {
            problems.add(&at, "the braces do not pair", "write fields as `{name}`");
            return None;
        };
        for message in template.messages() {
            self.known(message.fields(), &at, problems);
        }
        Some(template)
    }

    fn message(&self, text: &str, at: &str, problems: &mut Problems<'_>) -> Option<SignedMessage> {
        let Some(message) = SignedMessage::parse(text) else {
            problems.add(at, "the braces do not pair", "write fields as `{name}`");
            return None;
        };
        self.known(message.fields(), at, problems);
        Some(message)
    }

    fn template(
        &self,
        text: &str,
        encoding: Encoding,
        at: &str,
        problems: &mut Problems<'_>,
    ) -> Option<ValueTemplate> {
        match ValueTemplate::parse(text, encoding) {
            Ok(template) => {
                self.known(template.fields(), at, problems);
                Some(template)
            }
            Err(error) => {
                problems.add(at, error, "");
                None
            }
        }
    }

    fn known<'m>(
        &self,
        fields: impl Iterator<Item = &'m str>,
        at: &str,
        problems: &mut Problems<'_>,
    ) {
        unknown_names(fields, self.names, at, problems);
    }
}

/// Reports names that are neither fields nor variables.
pub(super) fn unknown_names<'m>(
    used: impl Iterator<Item = &'m str>,
    known: &[&str],
    at: &str,
    problems: &mut Problems<'_>,
) {
    for name in used.filter(|name| !known.contains(name)) {
        let remedy = "declare it under `fields` or `variables`";
        problems.add(at, format_args!("`{{{name}}}` is neither a field nor a variable"), remedy);
    }
}
