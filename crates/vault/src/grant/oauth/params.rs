//! [`Params`]: the parameters of a request to an authorization server, as a form or as JSON. All values are
//! held as secrets.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use keyward_base::secret::Secret;

/// Names and values in order; names are unique.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<Param>);

#[derive(Debug)]
struct Param {
    name: String,
    value: Secret,
    /// Whether the value must be masked in errors.
    sensitive: bool,
}

/// Parameters with secrets. Others have plain words, such as `refresh_token` itself.
const SENSITIVE: &[&str] = &[
    "access_token",
    "actor_token",
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "refresh_token",
    "state",
    "subject_token",
    "token",
    "WebIdentityToken",
];

/// Types of values.
pub(super) trait ParamValue {
    fn secret(self) -> Secret;
}

impl ParamValue for &str {
    fn secret(self) -> Secret {
        Secret::new(self.as_bytes())
    }
}

impl ParamValue for String {
    fn secret(self) -> Secret {
        Secret::from(self)
    }
}

impl ParamValue for Secret {
    fn secret(self) -> Secret {
        self
    }
}

impl Params {
    /// Sets a parameter; replaces one of the same name.
    pub(super) fn set(&mut self, name: &str, value: impl ParamValue) {
        let value = value.secret();
        match self.0.iter_mut().find(|param| param.name == name) {
            Some(param) => param.value = value,
            None => {
                let sensitive = SENSITIVE.contains(&name);
                self.0.push(Param { name: name.to_owned(), value, sensitive });
            }
        }
    }

    /// Sets a token under any name; it is masked in errors.
    pub(super) fn set_token(&mut self, name: &str, token: &Secret) {
        self.set(name, token.clone());
        for param in self.0.iter_mut().filter(|param| param.name == name) {
            param.sensitive = true;
        }
    }

    /// The parameters of a form.
    pub(super) fn from_form(form: &[u8]) -> Self {
        let mut params = Self::default();
        for (name, value) in form_urlencoded::parse(form) {
            params.set(&name, value.into_owned());
        }
        params
    }

    /// Removes a parameter.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|param| param.name != name);
    }

    /// Sets several.
    pub(super) fn set_all(&mut self, params: &BTreeMap<String, String>) {
        for (name, value) in params {
            self.set(name, value.as_str());
        }
    }

    /// Renames parameters as this server expects.
    pub(super) fn rename(&mut self, renames: &BTreeMap<String, String>) {
        for param in &mut self.0 {
            if let Some(theirs) = renames.get(&param.name) {
                param.name.clone_from(theirs);
            }
        }
    }

    /// The values that must be masked in errors.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter().filter(|param| param.sensitive).map(|param| &param.value)
    }

    /// `application/x-www-form-urlencoded`.
    pub(super) fn form(&self) -> Zeroizing<String> {
        let bytes = |param: &Param| 2 + 3 * (param.name.len() + param.value.len());
        let bytes: usize = self.0.iter().map(bytes).sum();
        let mut out = Zeroizing::new(String::with_capacity(bytes));
        for param in &self.0 {
            if !out.is_empty() {
                out.push('&');
            }
            out.extend(form_urlencoded::byte_serialize(param.name.as_bytes()));
            out.push('=');
            out.extend(form_urlencoded::byte_serialize(param.value.expose()));
        }
        out
    }

    /// `url` with the parameters in its query.
    pub(super) fn in_query(&self, url: &str) -> Zeroizing<String> {
        let separator = if url.contains('?') { '&' } else { '?' };
        Zeroizing::new(format!("{url}{separator}{}", *self.form()))
    }

    /// A JSON object of strings. Invalid UTF-8 is replaced.
    pub(super) fn json(&self) -> Zeroizing<Vec<u8>> {
        let text = |param: &Param| {
            let value = String::from_utf8_lossy(param.value.expose());
            (param.name.clone(), serde_json::Value::from(value))
        };
        let object: serde_json::Map<_, _> = self.0.iter().map(text).collect();
        Zeroizing::new(serde_json::to_vec(&object).unwrap_or_default())
    }
}

/// One value as `application/x-www-form-urlencoded`, with a space as `%20`, which all servers decode: some
/// decode Basic credentials as parts of a URL, where `+` is not a space.
pub(super) fn form_encoded(value: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(3 * value.len()));
    // A literal `+` is `%2B`.
    let part = |part| if part == "+" { "%20" } else { part };
    out.extend(form_urlencoded::byte_serialize(value).map(part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_occurs_once_with_its_last_value() {
        let mut params = Params::default();
        params.set("scope", "a");
        params.set("x", "1");
        params.set("scope", "b c");
        assert_eq!(*params.form(), "scope=b+c&x=1");
        assert_eq!(&**params.json(), br#"{"scope":"b c","x":"1"}"#);
    }

    #[test]
    fn renamed_parameters_keep_their_values() {
        let mut params = Params::default();
        params.set("client_id", "x");
        params.rename(&BTreeMap::from([("client_id".to_owned(), "client_key".to_owned())]));
        assert_eq!(*params.form(), "client_key=x");
    }

    /// OAuth 4: `+ / % : &` and blanks break naive code.
    #[test]
    fn reserved_characters_are_encoded() {
        assert_eq!(*form_encoded(b"+/%:& =~-_.*"), "%2B%2F%25%3A%26%20%3D%7E-_.*");
    }
}
