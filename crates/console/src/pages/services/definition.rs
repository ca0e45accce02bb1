//! A definition of a service: made of the fields of a short form, or written as YAML or JSON; checked as it is typed.

use keyward_rules::provider::document::{Document, Problem};
use keyward_rules::provider::{Catalogue, Provider, check};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Longest definition, so that an address can have it.
pub(super) const TEXT_CHARS_MAX: usize = 16_000;

/// Longest id that is made of a host.
const ID_CHARS_MAX: usize = 60;

/// What a person gave.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DefinitionForm {
    /// `text`: the definition is written.
    #[serde(rename = "as")]
    pub(super) way: Option<String>,
    pub(super) definition: Option<String>,
    pub(super) name: Option<String>,
    pub(super) host: Option<String>,
    /// `bearer`, `header`, `query` or `basic`.
    pub(super) send: Option<String>,
    pub(super) header: Option<String>,
    pub(super) query: Option<String>,
    pub(super) test: Option<String>,
}

/// Something wrong, at a field of the form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DefinitionProblem {
    /// A field of [`DefinitionForm`]; `None`: the definition as a whole.
    pub(super) field: Option<&'static str>,
    /// `line 3: hosts[0]` of what is written.
    pub(super) place: String,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// A definition that the gateway accepts, as far as it can be judged alone.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) provider: Provider,
    pub(super) definition: Map<String, Value>,
    /// A service of the catalogue that has one of its hosts.
    pub(super) owner: Option<String>,
}

fn plain(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default().trim()
}

impl DefinitionForm {
    pub(super) fn is_text(&self) -> bool {
        self.way.as_deref() == Some("text")
    }

    pub(super) fn send(&self) -> &str {
        match plain(&self.send) {
            "" => "bearer",
            send => send,
        }
    }

    /// Whether there is something to judge.
    pub(super) fn is_begun(&self) -> bool {
        let texts = [&self.definition, &self.name, &self.host];
        texts.into_iter().any(|text| !plain(text).is_empty())
    }

    /// The host alone: people paste URLs.
    fn authority(&self) -> &str {
        let host = plain(&self.host);
        let rest = host.split_once("://").map_or(host, |(_, rest)| rest);
        rest.split(['/', '?', '#']).next().unwrap_or_default()
    }

    /// The definition that the short form describes.
    fn described(&self) -> Value {
        let host = self.authority();
        let id = dashed(host);
        let variable = id.replace('-', "_").to_ascii_uppercase();
        let variable = match variable.starts_with(|c: char| c.is_ascii_digit()) {
            true => format!("API_{variable}"),
            false => variable,
        };
        let key = |place: &str, name: &str| {
            let auth_id = format!("{place}-{}", dashed(name));
            json!({"id": auth_id, "kind": "api_key", "placement": { place: name }, "env": [format!("{variable}_KEY")]})
        };
        let auth = match self.send() {
            "header" => key("header", plain(&self.header)),
            "query" => key("query", plain(&self.query)),
            "basic" => {
                json!({"id": "basic", "kind": "basic", "env": [format!("{variable}_PASSWORD")]})
            }
            _ => json!({"id": "bearer", "kind": "bearer", "env": [format!("{variable}_TOKEN")]}),
        };
        let name = if plain(&self.name).is_empty() { host } else { plain(&self.name) };
        let mut definition = json!({ "id": id, "name": name, "hosts": [host], "auth": [auth] });
        let path = plain(&self.test);
        if !path.is_empty() {
            let slash = if path.starts_with('/') { "" } else { "/" };
            definition["test"] = json!({ "url": format!("https://{host}{slash}{path}") });
        }
        definition
    }

    /// As YAML: what was written, or what the short form describes.
    pub(super) fn yaml(&self) -> String {
        match self.is_text() {
            true => self.definition.clone().unwrap_or_default(),
            false => yaml(&self.described()),
        }
    }

    /// Judges it as the gateway would.
    pub(super) fn checked(&self) -> Result<Checked, Vec<DefinitionProblem>> {
        let missing = [
            ("host", self.authority().is_empty(), "the host is missing"),
            (
                "header",
                self.send() == "header" && plain(&self.header).is_empty(),
                "the name of the header field is missing",
            ),
            (
                "query",
                self.send() == "query" && plain(&self.query).is_empty(),
                "the name of the parameter is missing",
            ),
        ];
        let missing =
            missing.into_iter().filter(|(_, is_missing, _)| *is_missing && !self.is_text());
        let missing: Vec<_> = missing
            .map(|(field, _, message)| DefinitionProblem {
                field: Some(field),
                place: String::new(),
                message: message.to_owned(),
                remedy: String::new(),
            })
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let text = self.yaml();
        let wrong = |problems: Vec<Problem>| {
            problems.into_iter().map(|problem| self.placed(problem)).collect::<Vec<_>>()
        };
        let catalogue = Catalogue::built_in();
        let found = check::file("definition", &text, &catalogue).map_err(wrong)?;
        let document = Document::parse("definition", &text).map_err(wrong)?;
        let value = serde_json::to_value(document.root()).unwrap_or_default();
        match (<[Provider; 1]>::try_from(found), value) {
            (Ok([provider]), Value::Object(definition)) if definition.contains_key("id") => {
                let owner = catalogue.host_owner(&provider.hosts);
                let owner = owner.map(|(owner, _)| owner.id().to_string());
                Ok(Checked { provider, definition, owner })
            }
            _ => Err(vec![DefinitionProblem {
                field: None,
                place: String::new(),
                message: "this is not one service".to_owned(),
                remedy: "write one definition, with id at the top".to_owned(),
            }]),
        }
    }

    fn placed(&self, problem: Problem) -> DefinitionProblem {
        let Problem { path, line, message, remedy, .. } = problem;
        if self.is_text() {
            let line = line.map(|line| format!("line {line}"));
            let place: Vec<_> =
                line.into_iter().chain((!path.is_empty()).then_some(path)).collect();
            return DefinitionProblem { field: None, place: place.join(": "), message, remedy };
        }
        let field = match path.split(['.', '[']).next().unwrap_or_default() {
            "name" => Some("name"),
            "hosts" | "id" => Some("host"),
            "test" => Some("test"),
            "auth" => match self.send() {
                "header" => Some("header"),
                "query" => Some("query"),
                _ => None,
            },
            _ => None,
        };
        DefinitionProblem { field, place: String::new(), message, remedy }
    }
}

/// `billing.acme.test:8443` as `billing-acme-test-8443`.
fn dashed(text: &str) -> String {
    let letters =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let dashed: String = letters.take(ID_CHARS_MAX).collect();
    dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// A definition as YAML in the order in which people read it. Texts are JSON strings, which are YAML.
fn yaml(definition: &Value) -> String {
    let mut text = String::new();
    for key in ["id", "name", "hosts", "auth", "test"] {
        match (key, &definition[key]) {
            (_, Value::Null) => {}
            ("auth", Value::Array(all)) => {
                text += "auth:\n";
                for auth in all {
                    text += &format!("  - {auth}\n");
                }
            }
            (key, value) => text += &format!("{key}: {value}\n"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(fields: &[(&str, &str)]) -> DefinitionForm {
        let map: Map<String, Value> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        serde_json::from_value(Value::Object(map)).unwrap()
    }

    #[test]
    fn each_way_to_send_a_key_makes_a_service_that_the_gateway_accepts() {
        for (send, name, auth) in [
            ("bearer", "", "bearer"),
            ("basic", "", "basic"),
            ("header", "X-Api-Key", "header-x-api-key"),
            ("query", "api_key", "query-api-key"),
        ] {
            let given = given(&[
                ("host", "https://billing.acme.test/v1/me"),
                ("send", send),
                (if send == "query" { "query" } else { "header" }, name),
                ("test", "v1/me"),
            ]);
            let checked = given.checked().unwrap_or_else(|wrong| panic!("{send}: {wrong:?}"));
            assert_eq!(&*checked.provider.id, "billing-acme-test");
            assert_eq!(checked.definition["auth"][0]["id"], auth);
            assert_eq!(checked.definition["test"]["url"], "https://billing.acme.test/v1/me");
            assert_eq!(checked.owner, None);
        }
    }

    #[test]
    fn a_problem_is_shown_at_its_form_field() {
        for (fields, field) in [
            (&[("name", "x")][..], Some("host")),
            (&[("host", "*.com")], Some("host")),
            (&[("host", "a.test"), ("send", "header")], Some("header")),
            (&[("host", "a.test"), ("send", "header"), ("header", "a b")], Some("header")),
            (&[("host", "a.test"), ("send", "query")], Some("query")),
            (&[("as", "text"), ("definition", "id: a\n")], None),
        ] {
            let wrong = given(fields).checked().expect_err("it is refused");
            assert_eq!(wrong[0].field, field, "{fields:?}: {wrong:?}");
        }
    }

    #[test]
    fn an_invalid_text_definition_is_refused_with_its_line() {
        let text = "id: acme\nname: Acme\nhosts: [\"*.com\"]\nauth:\n  - { id: k, kind: bearer }\n";
        let wrong =
            given(&[("as", "text"), ("definition", text)]).checked().expect_err("it is refused");
        assert_eq!(wrong[0].place, "line 3: hosts[0]");
        let text = text.replace("*.com", "acme.test");
        let checked = given(&[("as", "text"), ("definition", &text)]).checked().unwrap();
        assert_eq!(checked.definition["name"], "Acme");
    }

    #[test]
    fn a_host_of_a_catalogue_provider_names_that_provider() {
        let checked = given(&[("host", "api.github.com")]).checked().unwrap();
        assert_eq!(checked.owner.as_deref(), Some("github"));
    }
}
