//! [`OperationDraft`]: what is known of an operation while its handler describes itself.

use std::collections::BTreeMap;

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// An operation in the making.
pub(crate) struct OperationDraft<'a> {
    /// Schemas of requests.
    pub(super) input: &'a mut Components,
    /// Schemas of answers.
    pub(super) output: &'a mut Components,
    /// Parameters of the query: name, schema, whether one must be given.
    pub(super) query: Vec<(String, Value, bool)>,
    /// Whether it may have an `If-Match`.
    pub(super) is_conditional: bool,
    pub(super) body: Option<Value>,
    pub(super) body_is_optional: bool,
    pub(super) answers: Vec<AnswerDraft>,
}

impl<'a> OperationDraft<'a> {
    pub(super) fn new(input: &'a mut Components, output: &'a mut Components) -> Self {
        let (query, answers) = (Vec::new(), Vec::new());
        Self {
            input,
            output,
            query,
            is_conditional: false,
            body: None,
            body_is_optional: false,
            answers,
        }
    }
}

/// One answer of an operation.
#[derive(Clone, Debug)]
pub(crate) struct AnswerDraft {
    pub(super) status: u16,
    /// Media type and schema; `None`: no body.
    pub(super) content: Option<(&'static str, Value)>,
    /// Whether it has an `ETag`.
    pub(super) has_tag: bool,
}

/// Named schemas, which others refer to.
pub(crate) struct Components {
    generator: SchemaGenerator,
    /// Those that are not of one type.
    named: BTreeMap<String, Value>,
}

impl Components {
    pub(super) fn new(contract: Contract) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.contract = contract;
            settings.definitions_path = "/components/schemas".into();
        });
        Self { generator: settings.into_generator(), named: BTreeMap::new() }
    }

    /// A reference to the schema of `T`; simple types are in place.
    pub(super) fn reference<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    /// The schema of `T` itself.
    pub(super) fn inline<T: JsonSchema>(&mut self) -> Map<String, Value> {
        let schema: Schema = T::json_schema(&mut self.generator);
        match schema.to_value() {
            Value::Object(members) => members,
            _ => Map::new(),
        }
    }

    /// Names a schema; words of the name become one: `NewPersonalToken`.
    pub(super) fn named(&mut self, words: &str, schema: Map<String, Value>) -> Value {
        let name: String = words.split(' ').map(capitalised).collect();
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        self.named.insert(name, Value::Object(schema));
        reference
    }

    pub(super) fn finish(mut self) -> BTreeMap<String, Value> {
        let mut all = self.named;
        all.extend(self.generator.take_definitions(true));
        all
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
