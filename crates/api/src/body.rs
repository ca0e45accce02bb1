//! Extractors for JSON bodies, queries and path segments. Errors never quote the input, which may contain a
//! secret.

use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Path, Query, Request};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Uri};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

use super::body_bytes::collect;
use super::error::ApiError;
use super::host::UnprovedSender;
use super::state::Admin;

/// A JSON body; its buffer is wiped.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

/// The query string.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

/// The variables of the path.
#[derive(Debug)]
pub(super) struct Segments<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Admin> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Self, ApiError> {
        parse(&body_of(request, admin).await?).map(Self)
    }
}

/// `None`: the body is empty.
impl<T: DeserializeOwned> OptionalFromRequest<Admin> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, admin: &Admin) -> Result<Option<Self>, ApiError> {
        match http_body::Body::size_hint(request.body()).exact() {
            Some(0) => Ok(None),
            _ => parse(&body_of(request, admin).await?).map(|body| Some(Self(body))),
        }
    }
}

/// The text of a JSON body.
pub(super) async fn body_of(
    request: Request,
    admin: &Admin,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let fields = request.headers();
    let is_patch = request.method() == Method::PATCH && is_merge_patch(fields);
    if !is_json(fields) && !is_patch {
        return Err(ApiError::MediaType);
    }
    if is_coded(fields) {
        return Err(ApiError::ContentCoding);
    }
    let (parts, body) = request.into_parts();
    whole(&parts.extensions, body, admin).await
}

/// The whole body of a request, within the limits of its length and time, and of the memory for bodies whose sender has
/// proved nothing yet.
pub(super) async fn whole(
    extensions: &Extensions,
    body: axum::body::Body,
    admin: &Admin,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let limits = &admin.deps().limits;
    let mut memory = extensions.get::<UnprovedSender>().map(|_| admin.unproved_body(extensions));
    let body = collect(body, limits.admin_body_bytes_max, memory.as_mut());
    let body = tokio::time::timeout(limits.head_timeout, body).await;
    let slow = |_| ApiError::Unreadable("the body came too slowly".to_owned());
    body.map_err(slow)?
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parameters(&parts.uri).map(Self)
    }
}

/// Refuses the parameters of a request whose handler has none.
pub(super) fn no_params(request: &Request) -> Result<(), ApiError> {
    parameters(request.uri()).map(|NoParams {}| ())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    match Query::try_from_uri(uri) {
        Ok(Query(value)) => Ok(value),
        Err(rejection) => Err(wrong_parameter(&rejection.body_text())),
    }
}

/// Names the parameter; the rejection also quotes values, which are not shown.
fn wrong_parameter(rejection: &str) -> ApiError {
    let message =
        rejection.strip_prefix("Failed to deserialize query string: ").unwrap_or_default();
    match message.split_once(": ") {
        Some((name, message)) if is_name(name) => ApiError::field(name, said(message)),
        _ if message.starts_with("unknown field") || message.starts_with("missing field") => {
            ApiError::field("", said(message))
        }
        // Serde names it in the message alone.
        _ if message.starts_with("duplicate field") => {
            ApiError::field(message.split('`').nth(1).unwrap_or_default(), said(message))
        }
        _ => ApiError::field("", "a query parameter is unknown or malformed"),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl<T: DeserializeOwned + Send> FromRequestParts<Admin> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, admin).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::Unreadable("the path is not UTF-8".to_owned())),
        }
    }
}

/// Whether the body is declared as JSON.
pub(super) fn is_json(fields: &HeaderMap) -> bool {
    is_declared(fields, "application/json")
}

/// Whether the body is declared as a merge patch (RFC 7396, section 4). As for JSON, a browser asks the gateway before
/// it sends such a body for a page of another origin.
pub(super) fn is_merge_patch(fields: &HeaderMap) -> bool {
    is_declared(fields, "application/merge-patch+json")
}

/// Whether the body is compressed (RFC 9110, section 8.4).
fn is_coded(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn is_declared(fields: &HeaderMap, kind: &str) -> bool {
    let value = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.map(|value| value.split(';').next().unwrap_or_default().trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case(kind))
}

/// Parses JSON: invalid JSON is a 400; a type mismatch is a 422 that names the field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    refuse_list(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        misfit(if path == "." { String::new() } else { path }, error.inner(), bytes)
    })?;
    reader.end().map_err(|error| misfit(String::new(), &error, bytes))?;
    Ok(value)
}

/// Serde would read an array into a struct, field by field.
pub(super) fn refuse_list(bytes: &[u8]) -> Result<(), ApiError> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(ApiError::Unreadable("the body is not UTF-8".to_owned()));
    }
    match bytes.trim_ascii_start().starts_with(b"[") {
        true => Err(ApiError::field("", "the body must be a JSON object")),
        false => Ok(()),
    }
}

/// Why `body` is refused. serde_json also reports a value of the wrong type for an enum as a syntax error.
pub(super) fn misfit(field: String, error: &serde_json::Error, body: &[u8]) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
    if error.is_syntax() && is_json() {
        return ApiError::field(field, "has a value that is not accepted");
    }
    if !error.is_data() {
        let message = match (error.is_eof(), line, column) {
            (true, _, 0) => "the body is empty; send a JSON object".to_owned(),
            (true, _, _) => {
                format!(
                    "the body is not valid JSON: it ends too early, at line {line}, column {column}"
                )
            }
            _ => format!("the body is not valid JSON: line {line}, column {column}"),
        };
        return ApiError::Unreadable(message);
    }
    let message = said(&error.to_string());
    ApiError::field(with_missing(field, &message), message)
}

/// The path of a missing field: the path of the error is that of the object that lacks it.
pub(super) fn with_missing(field: String, message: &str) -> String {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) if field.is_empty() => name.to_owned(),
        Some(name) => format!("{field}.{name}"),
        None => field,
    }
}

/// The part of serde's message that may be shown. Wrong values are removed, because the message quotes them;
/// unknown, missing and duplicate names are kept.
pub(super) fn said(message: &str) -> String {
    let message = message.rsplit_once(" at line ").map_or(message, |(head, _)| head);
    let names = ["unknown field", "missing field", "duplicate field"];
    if names.iter().any(|name| message.starts_with(name)) {
        return super::error::shown_long(message);
    }
    match (message, message.rsplit_once(", expected ")) {
        (_, Some((_, "a sequence"))) => "must be a list".to_owned(),
        (_, Some((_, "a map"))) => "must be an object".to_owned(),
        // The name of a type says nothing to a caller.
        (_, Some((_, kind))) if kind.starts_with("struct ") => "must be an object".to_owned(),
        (_, Some((_, kind))) if is_unsigned(kind) => {
            "must be a whole number of 0 or more".to_owned()
        }
        (_, Some((_, expected))) => format!("must be {expected}"),
        ("invalid digit found in string", None) => "must be a whole number".to_owned(),
        ("provided string was not `true` or `false`", None) => {
            "must be `true` or `false`".to_owned()
        }
        _ => "has a value that is not accepted".to_owned(),
    }
}

/// Whether it names a type of Rust, such as `u64` or `a nonzero u32`.
fn is_unsigned(kind: &str) -> bool {
    let name = kind.rsplit(' ').next().unwrap_or_default();
    ["u8", "u16", "u32", "u64", "usize"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::{AgentSpec, SecretFields, TokenCreateOptions};

    /// A body with secrets.
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only what is refused is looked at")]
    struct NewConnection {
        provider: String,
        name: String,
        fields: SecretFields,
    }

    fn refused<T: DeserializeOwned + std::fmt::Debug>(body: &[u8]) -> ApiError {
        parse::<T>(body).unwrap_err()
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum State {
        Active,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only what is refused is looked at")]
    struct PageRange {
        limit: Option<usize>,
        state: Option<State>,
        due: Option<bool>,
    }

    #[test]
    fn a_wrong_parameter_is_named_and_its_value_is_not() {
        for (query, field, said) in [
            ("limit=canary", "limit", "must be a whole number"),
            ("limit=-1", "limit", "must be a whole number"),
            ("limit=1&limit=2", "limit", "duplicate field `limit`"),
            ("due=canary", "due", "must be `true` or `false`"),
            ("state=canary", "state", "must be `active`"),
            (
                "lmit=canary",
                "lmit",
                "unknown field `lmit`, expected one of `limit`, `state`, `due`",
            ),
            ("%00=canary", "", "a query parameter is unknown or malformed"),
        ] {
            let uri = format!("/x?{query}").parse().expect("a URI");
            let rejection = Query::<PageRange>::try_from_uri(&uri).expect_err(query).body_text();
            let ApiError::Field { field: named, message, .. } = wrong_parameter(&rejection) else {
                panic!("{query}: {rejection}")
            };
            assert_eq!(named, field, "{query}: {rejection}");
            assert!(message.starts_with(said), "{query}: {message}");
            assert!(!message.contains("canary") && !message.contains('\0'), "{query}: {message:?}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_is_refused_as_unreadable() {
        for bad in ["", "{", "{\"name\":\"a\"} x", "\u{feff}{}", "{'name':'a'}"] {
            let error = refused::<AgentSpec>(bad.as_bytes());
            assert!(matches!(error, ApiError::Unreadable(_)), "{error:?}");
        }
        assert!(matches!(refused::<AgentSpec>(b"{\"name\":\"\xff\"}"), ApiError::Unreadable(_)));
    }

    #[test]
    fn an_empty_a_cut_and_a_malformed_body_get_different_messages() {
        for (body, said) in [
            ("", "the body is empty; send a JSON object"),
            (
                "{\"name\":\"a",
                "the body is not valid JSON: it ends too early, at line 1, column 10",
            ),
            ("{'name':'a'}", "the body is not valid JSON: line 1, column 2"),
        ] {
            assert_eq!(refused::<AgentSpec>(body.as_bytes()).to_string(), said);
        }
    }

    #[test]
    fn only_the_merge_patch_media_type_declares_a_merge_patch() {
        let declared = |kind: &'static str| {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            (is_json(&fields), is_merge_patch(&fields))
        };
        for other in
            ["text/plain", "application/json-patch+json", "application/x-www-form-urlencoded"]
        {
            assert_eq!(declared(other), (false, false), "{other}");
        }
        assert_eq!(declared("application/merge-patch+json; charset=utf-8"), (false, true));
        assert_eq!(declared("application/JSON"), (true, false));
    }

    #[test]
    fn an_array_is_not_taken_for_an_object() {
        for bad in [r#"["ci"]"#.to_owned(), "[".repeat(100_000)] {
            assert!(matches!(refused::<AgentSpec>(bad.as_bytes()), ApiError::Field { .. }));
        }
    }

    #[test]
    fn an_unknown_field_is_a_422_that_names_it() {
        let error = refused::<AgentSpec>(br#"{"name":"a","nmae":"b"}"#);
        assert!(matches!(&error, ApiError::Field { .. }));
        assert!(error.to_string().contains("unknown field `nmae`"), "{error}");
    }

    #[test]
    fn a_missing_field_is_named() {
        let ApiError::Field { field, message, .. } =
            refused::<NewConnection>(b"{\"provider\":\"p\"}")
        else {
            panic!("another refusal")
        };
        assert_eq!((field.as_str(), message.as_str()), ("name", "missing field `name`"));
    }

    #[test]
    fn a_text_in_place_of_an_object_is_refused_without_the_name_of_a_type() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code, reason = "only what is refused is looked at")]
        struct Outer {
            inner: NewConnection,
        }
        let ApiError::Field { field, message, .. } = refused::<Outer>(br#"{"inner":"canary"}"#)
        else {
            panic!("another refusal")
        };
        assert_eq!((field.as_str(), message.as_str()), ("inner", "must be an object"));
    }

    #[test]
    fn no_refusal_quotes_a_value() {
        let bodies = [
            r#"{"provider":"p","name":"n","fields":"canary"}"#,
            r#"{"provider":"p","name":"n","fields":{"token":["canary"]}}"#,
            r#"{"provider":"p","name":"n","fields":{"token":{"a":"canary"}}}"#,
            r#"{"provider":"p","name":"n","fields":["canary, expected x"]}"#,
            r#"{"provider":["canary"],"name":"n","fields":{}}"#,
            r#"{"provider":"p","name":"n","fields":{"token":"canary","token":"canary"}}"#,
        ];
        for body in bodies {
            let error = refused::<NewConnection>(body.as_bytes());
            assert!(!format!("{error:?}").contains("canary"), "{body}: {error:?}");
        }
        let error = refused::<TokenCreateOptions>(br#"{"token":7777777}"#);
        assert!(!format!("{error:?}").contains("7777777"), "{error:?}");
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_by_its_path() {
        let body = br#"{"provider":"p","name":"n","fields":{"token":1}}"#;
        let ApiError::Field { field, message, .. } = refused::<NewConnection>(body) else {
            panic!("not a field error")
        };
        assert_eq!((field.as_str(), message.as_str()), ("fields.token", "must be a string"));
    }

    #[test]
    fn a_value_in_place_of_a_number_is_refused_without_the_name_of_a_type() {
        for value in ["-1", "1.5", r#""60""#, "1e30"] {
            let body = format!(r#"{{"expires_in":{value}}}"#);
            let ApiError::Field { field, message, .. } =
                refused::<TokenCreateOptions>(body.as_bytes())
            else {
                panic!("another refusal: {value}")
            };
            let expected = ("expires_in", "must be a whole number of 0 or more");
            assert_eq!((field.as_str(), message.as_str()), expected, "{value}");
        }
    }

    /// serde_json calls it a syntax error.
    #[test]
    fn a_value_of_the_wrong_type_for_an_enum_is_named_by_its_path() {
        for body in [r#"{"state":1}"#, r#"{"state":true}"#, r#"{"state":["active"]}"#] {
            let ApiError::Field { field, .. } = refused::<PageRange>(body.as_bytes()) else {
                panic!("not a field error: {body}")
            };
            assert_eq!(field, "state", "{body}");
        }
        for no_json in [r#"{"state":1"#, r#"{"state":1}}"#, r#"{"state":1,}"#] {
            let error = refused::<PageRange>(no_json.as_bytes());
            assert!(matches!(error, ApiError::Unreadable(_)), "{no_json}: {error:?}");
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_however_it_is_framed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let whole = axum::body::Body::from(vec![b' '; 11]);
            assert_eq!(collect(whole, 10, None).await, Err(ApiError::TooLarge { max_bytes: 10 }));
            let chunks = ["123456", "123456"].map(Ok::<_, std::convert::Infallible>);
            let chunked = axum::body::Body::from_stream(futures_util::stream::iter(chunks));
            assert_eq!(collect(chunked, 10, None).await, Err(ApiError::TooLarge { max_bytes: 10 }));
        });
    }
}
