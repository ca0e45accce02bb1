//! Own providers: services that an organisation added to those of the catalogue and the configuration. A
//! record holds the definition as it was given, in the schema of `providers:`; the directory compiles it.

use keyward_base::id::OwnProviderId;
use keyward_base::keys::section;
use keyward_rules::provider::document::Problem;
use keyward_rules::provider::{Catalogue, Provider, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use super::resource::{Kind, NoMembers, Resource};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnProvider {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct OwnProviderSpec {
        /// The provider's id, the `id` of the definition.
        #[key("text", required)]
        pub name: String,
        /// The provider as under `providers:` of the configuration.
        #[key("map", required)]
        pub definition: Map<String, Value>,
    }
}

impl OwnProviderSpec {
    /// Of a definition, which is not checked yet.
    pub fn new(definition: Map<String, Value>) -> Self {
        let name = definition.get("id").and_then(Value::as_str).unwrap_or_default();
        Self { name: name.to_owned(), definition }
    }

    /// The provider that the definition describes.
    ///
    /// # Errors
    /// All errors of the definition. An id of `reserved` is one.
    pub fn provider(&self, reserved: &Catalogue) -> Result<Provider, Vec<Problem>> {
        let found = check::file("provider", &self.text(), reserved)?;
        found.into_iter().next().ok_or_else(Vec::new)
    }

    /// The provider of a stored definition, which an earlier version may have accepted: it has no variables and no
    /// beginnings of placeholders that this version refuses.
    ///
    /// # Errors
    /// All other errors of the definition.
    pub fn stored_provider(&self) -> Result<Provider, Vec<Problem>> {
        let found = check::stored("provider", &self.text())?;
        found.into_iter().next().ok_or_else(Vec::new)
    }

    /// JSON is valid YAML. The definition is an object, never a list.
    fn text(&self) -> String {
        Value::Object(self.definition.clone()).to_string()
    }
}

impl Resource for OwnProvider {
    type Id = OwnProviderId;
    type Spec = OwnProviderSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = NoMembers;
    type Shown = NoMembers;

    const KIND: Kind = Kind { one: "provider", article: "a provider", many: "providers", max: 500 };

    // The configuration's own providers are read with the file and not stored.
    const DECLARABLE: bool = false;

    fn name(spec: &OwnProviderSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &OwnProviderSpec) -> Vec<Refusal> {
        let problems = spec.provider(&Catalogue::default()).err().unwrap_or_default();
        problems.iter().map(refusal).collect()
    }
}

fn refusal(problem: &Problem) -> Refusal {
    let field = if problem.path.is_empty() { "definition" } else { &problem.path };
    let refusal = Refusal::new(field.to_owned(), format!("is refused: {}", problem.message));
    match problem.remedy.is_empty() {
        true => refusal,
        false => refusal.hint(&*problem.remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Record;

    /// As version 0.2 wrote it.
    const STORED: &str = r#"{"id":"prv_00000000000000000000","org":"org_default","name":"corp",
        "definition":{"id":"corp","name":"Corp","hosts":["api.corp.example:8443"],
            "auth":[{"id":"bearer","kind":"bearer"}],
            "test":{"url":"https://api.corp.example:8443/me","rejects":[401,403]}},
        "created":"2026-01-02T03:04:05Z"}"#;

    fn spec(definition: &str) -> OwnProviderSpec {
        OwnProviderSpec::new(serde_json::from_str(definition).unwrap())
    }

    #[test]
    fn a_definition_that_is_no_provider_is_refused_with_the_path_of_its_error() {
        for (bad, path) in [
            ("{}", "definition"),
            (
                r#"{"id":"A B","name":"x","hosts":["x.test"],"auth":[{"id":"k","kind":"bearer"}]}"#,
                "id",
            ),
            (
                r#"{"id":"a","name":"x","hosts":["*.com"],"auth":[{"id":"k","kind":"bearer"}]}"#,
                "hosts[0]",
            ),
            (r#"{"id":"a","name":"x","hosts":["x.test"],"auth":[]}"#, "auth"),
        ] {
            let refusals = OwnProvider::refusals(&spec(bad));
            assert!(refusals.first().is_some_and(|it| it.field == path), "{bad}: {refusals:?}");
        }
    }

    #[test]
    fn a_stored_definition_keeps_its_provider_without_the_variables_that_run_code() {
        let stored = spec(
            r#"{"id":"nice","name":"Nice","hosts":["api.nice.example"],"auth":[{"id":"k","kind":"bearer",
                "key":{"placeholder":"$(touch ran)","prefixes":["`x`","ni_"]},"env":["BASH_ENV","NICE_TOKEN"]}]}"#,
        );
        assert_eq!(OwnProvider::refusals(&stored).len(), 3);
        let provider = stored.stored_provider().unwrap();
        let field = &provider.auth[0].fields[0];
        assert_eq!(field.env, ["NICE_TOKEN"]);
        let placeholder = field.placeholder(None, &std::collections::BTreeMap::new());
        assert!(placeholder.as_str().starts_with("ni_"), "{}", placeholder.as_str());
        assert!(spec("{}").stored_provider().is_err());
    }

    #[test]
    fn the_stored_row_is_flat_and_stays_as_it_was() {
        let stored: Value = serde_json::from_str(STORED).unwrap();
        let record: Record<OwnProvider> = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(record.name(), "corp");
        assert_eq!(&*record.provider(&Catalogue::default()).unwrap().id, "corp");
        assert_eq!(serde_json::to_value(&record).unwrap(), stored);
    }
}
