//! [`DescribedAnswer`]: what a handler answers.

use std::marker::PhantomData;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::draft::{AnswerDraft, OperationDraft};
use crate::error::ApiError;
use crate::etag::TaggedAnswer;
use crate::wire::List;

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
