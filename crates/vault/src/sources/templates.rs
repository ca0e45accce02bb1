//! [`Scope`]: fills the templates of a kind's requests, and encodes each value for its place.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::SourceError;
use super::forms::SourceRequests;
use super::request::{encoded, encoded_path};
use keyward_base::secret::Secret;
use keyward_model::{SourceKind, SourceSettings};

/// The values that templates name.
#[derive(Clone)]
pub(super) struct Scope<'a> {
    kind: &'static SourceKind,
    requests: &'static SourceRequests,
    settings: &'a SourceSettings,
    credentials: &'a BTreeMap<String, Secret>,
    /// Parts of the reference, and what earlier requests found.
    found: BTreeMap<&'static str, String>,
}

impl<'a> Scope<'a> {
    /// # Errors
    /// When the path of the reference has another form than the kind's.
    pub(super) fn new(
        kind: &'static SourceKind,
        requests: &'static SourceRequests,
        settings: &'a SourceSettings,
        credentials: &'a BTreeMap<String, Secret>,
        path: &str,
    ) -> Result<Self, SourceError> {
        let mut found = BTreeMap::from([("ref", path.to_owned())]);
        if let Some(pattern) = &kind.reference.pattern {
            let parts = pattern.parts(path);
            found.extend(parts.ok_or(SourceError::Reference(&kind.reference.must))?);
        }
        Ok(Self { kind, requests, settings, credentials, found })
    }

    pub(super) fn insert(&mut self, name: &'static str, text: String) {
        self.found.insert(name, text);
    }

    /// A part of the reference.
    pub(super) fn part(&self, name: &str) -> Option<&str> {
        self.found.get(name).map(String::as_str)
    }

    pub(super) fn credential(&self, name: &'static str) -> Result<&'a Secret, SourceError> {
        self.credentials.get(name).ok_or(SourceError::Credential(name))
    }

    /// A credential as text.
    pub(super) fn credential_text(&self, name: &'static str) -> Result<&'a str, SourceError> {
        self.credential(name)?.expose_text().ok_or(SourceError::Credential(name))
    }

    /// A template as it is; `None` if one of its names has no value.
    pub(super) fn plain(&self, template: &'static str) -> Result<Option<String>, SourceError> {
        self.filled(template, |value| Some(value.to_owned()))
    }

    /// A URL, of an address that is not encoded.
    pub(super) fn url(&self, template: &'static str) -> Result<String, SourceError> {
        let (address, rest) = template.split_at(template.find('}').map_or(0, |at| at + 1));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let address = self.plain(address)?.ok_or(SourceError::Kind)?;
        let path = self.filled(path, encoded_path)?.ok_or(SourceError::Kind)?;
        let mut url = format!("{}{path}", address.trim_end_matches('/'));
        if !query.is_empty() {
            url = format!("{url}?{}", self.parameters(query)?);
        }
        Ok(url)
    }

    /// The parameters of a query or form that have a value.
    pub(super) fn parameters(&self, template: &'static str) -> Result<String, SourceError> {
        let mut given = Vec::new();
        for parameter in template.split('&') {
            given.extend(self.filled(parameter, |value| Some(encoded(value)))?);
        }
        Ok(given.join("&"))
    }

    /// The object of a body.
    pub(super) fn json(
        &self,
        members: &'static BTreeMap<String, Value>,
    ) -> Result<Vec<u8>, SourceError> {
        let mut body = Map::new();
        for (name, value) in members {
            let value = match value {
                Value::String(template) => Value::from(self.plain(template)?),
                value => value.clone(),
            };
            body.insert(name.clone(), value);
        }
        Ok(Value::Object(body).to_string().into_bytes())
    }

    fn filled(
        &self,
        template: &'static str,
        encode: fn(&str) -> Option<String>,
    ) -> Result<Option<String>, SourceError> {
        let (mut text, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').unwrap_or((after, ""));
            let Some(value) = self.value(name)? else { return Ok(None) };
            let value = encode(&value).ok_or(SourceError::Reference(&self.kind.reference.must))?;
            text.push_str(before);
            text.push_str(&value);
            rest = behind;
        }
        text.push_str(rest);
        Ok(Some(text))
    }

    fn value(&self, name: &'static str) -> Result<Option<Cow<'_, str>>, SourceError> {
        let given = self.part(name).map(Cow::Borrowed).or_else(|| self.settings.text(name));
        if given.is_some() {
            return Ok(given);
        }
        if let Some(cases) = self.requests.values.get(name) {
            let case = cases.iter().find(|case| self.settings.meet(case.when.as_ref()));
            let text = case.map_or(Ok(None), |case| self.plain(&case.is));
            return Ok(text?.map(Cow::Owned));
        }
        match self.kind.credentials.iter().any(|it| it.name == name) {
            true => Ok(Some(self.credential_text(name)?.trim().into())),
            false => Ok(None),
        }
    }
}
