//! [`OperationDraft`]: what is known of an operation while its handler describes itself, its answers among it.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::etag::TaggedAnswer;
use crate::wire::List;

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

const NDJSON: &str = "application/x-ndjson";
const OCTETS: &str = "application/octet-stream";

/// The answer of a handler. Refusals have the same form everywhere and are not described for each.
pub(crate) trait DescribedAnswer {
    fn describe(draft: &mut OperationDraft<'_>);
}

impl<T: JsonSchema> DescribedAnswer for Json<T> {
    fn describe(draft: &mut OperationDraft<'_>) {
        add::<T>(draft, 200, "application/json");
    }
}

impl<T: JsonSchema> DescribedAnswer for TaggedAnswer<T> {
    fn describe(draft: &mut OperationDraft<'_>) {
        add::<T>(draft, 200, "application/json");
        draft.answers.iter_mut().for_each(|answer| answer.has_tag = true);
    }
}

/// Only handlers that add something say the status beside the body.
impl<T: JsonSchema> DescribedAnswer for (StatusCode, Json<T>) {
    fn describe(draft: &mut OperationDraft<'_>) {
        add::<T>(draft, 201, "application/json");
    }
}

/// Only handlers that remove something answer without a body.
impl DescribedAnswer for StatusCode {
    fn describe(draft: &mut OperationDraft<'_>) {
        draft.answers.push(AnswerDraft { status: 204, content: None, has_tag: false });
    }
}

impl<A: DescribedAnswer> DescribedAnswer for Result<A, ApiError> {
    fn describe(draft: &mut OperationDraft<'_>) {
        A::describe(draft);
    }
}

/// An answer of lines, each of which is the JSON of a `T`, that ends when the stream does.
pub(crate) struct JsonLinesAnswer<T, const STATUS: u16> {
    response: Response,
    lines: PhantomData<fn() -> T>,
}

impl<T, const STATUS: u16> JsonLinesAnswer<T, STATUS> {
    /// `body`: the lines.
    pub(crate) fn new(body: Body) -> Self {
        let status = StatusCode::from_u16(STATUS).unwrap_or_default();
        let response = (status, [(header::CONTENT_TYPE, NDJSON)], body).into_response();
        Self { response, lines: PhantomData }
    }
}

impl<T, const STATUS: u16> IntoResponse for JsonLinesAnswer<T, STATUS> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<T: JsonSchema, const STATUS: u16> DescribedAnswer for JsonLinesAnswer<T, STATUS> {
    fn describe(draft: &mut OperationDraft<'_>) {
        add::<T>(draft, STATUS, NDJSON);
    }
}

/// A file that a browser saves.
pub(crate) struct Download(Response);

impl Download {
    /// `name`: plain ASCII without quotes.
    pub(crate) fn new(name: &str, body: Body) -> Self {
        let disposition = format!("attachment; filename=\"{name}\"");
        let fields =
            [(header::CONTENT_TYPE, OCTETS.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
        Self((fields, body).into_response())
    }
}

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        self.0
    }
}

impl DescribedAnswer for Download {
    fn describe(draft: &mut OperationDraft<'_>) {
        let schema = serde_json::json!({"type": "string", "format": "binary"});
        let content = Some((OCTETS, schema));
        draft.answers.push(AnswerDraft { status: 200, content, has_tag: false });
    }
}

/// A page of a list, or its items as server-sent events.
pub(crate) enum PageOrEvents<T> {
    Page(Json<List<T>>),
    Events(Response),
}

impl<T: Serialize> IntoResponse for PageOrEvents<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Page(page) => page.into_response(),
            Self::Events(response) => response,
        }
    }
}

impl<T: JsonSchema> DescribedAnswer for PageOrEvents<T> {
    fn describe(draft: &mut OperationDraft<'_>) {
        Json::<List<T>>::describe(draft);
        add::<T>(draft, 200, "text/event-stream");
    }
}

fn add<T: JsonSchema>(draft: &mut OperationDraft<'_>, status: u16, media: &'static str) {
    let schema = draft.output.reference::<T>();
    let content = Some((media, schema));
    draft.answers.push(AnswerDraft { status, content, has_tag: false });
}
