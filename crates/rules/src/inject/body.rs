//! Writes a credential into a request body: a JSON object or a form; `multipart/` writes forms with files. All other bytes
//! stay as the agent sent them, except spaces between the members of a changed object.

use std::borrow::Cow;
use std::fmt;

use http::header::{self, HeaderMap};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

pub use super::multipart::BodyError;
use super::multipart::Delimiter;
use super::names::{pair, parameters};

/// Maximum depth of a path in nested objects.
pub const DEPTH_MAX: usize = 16;

/// The path of a value in a body: a member of a JSON object, `auth.key` of a nested object, or the form field
/// with that name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BodyPath(Box<[Box<str>]>);

/// The kinds of bodies that a credential can be written into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BodyKind {
    /// `application/json`, and types that end in `+json` (RFC 6839 §3.1).
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`.
    Multipart(Delimiter),
}

impl BodyPath {
    /// Parses names separated by dots. `None` when a name is empty or contains control characters, or there are
    /// more than [`DEPTH_MAX`].
    pub fn parse(text: &str) -> Option<Self> {
        let names: Box<[Box<str>]> = text.split('.').map(Into::into).collect();
        let is_sound = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
        (names.len() <= DEPTH_MAX && names.iter().all(|name| is_sound(name))).then_some(Self(names))
    }

    /// Whether both paths cannot exist in one body: they are equal, or one contains the other.
    pub fn collides(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| is_same(a, b))
    }

    /// The maximum size of its names when escaped, with separators.
    fn room(&self) -> usize {
        self.0.iter().map(|name| name.len() * 6 + "{\"\":},\"\"".len()).sum()
    }
}

impl fmt::Display for BodyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl BodyKind {
    /// The kind of body of a request with these fields.
    ///
    /// # Errors
    /// When the body is of another kind, or has a content coding.
    pub fn of(fields: &HeaderMap) -> Result<Self, BodyError> {
        let is_plain =
            |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if !fields.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
            return Err(BodyError::Coded);
        }
        let mut types = fields.get_all(header::CONTENT_TYPE).iter();
        let text = match (types.next(), types.next()) {
            (None, _) => return Err(BodyError::Kind("without a Content-Type".into())),
            (Some(one), None) => one.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => return Err(BodyError::Kind("of several Content-Types".into())),
        };
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match &*essence {
            "application/x-www-form-urlencoded" => Ok(Self::Form),
            "multipart/form-data" => Delimiter::of(text).map(Self::Multipart),
            "application/json" | "text/json" => Ok(Self::Json),
            other if other.ends_with("+json") => Ok(Self::Json),
            other => Err(BodyError::Kind(shown(other))),
        }
    }

    /// Writes each value at its path and removes other values there. No two of the paths may collide.
    ///
    /// # Errors
    /// When the body does not match its content type, or a value does not fit.
    pub fn write(
        self,
        body: &[u8],
        values: &[(&BodyPath, &str)],
    ) -> Result<Zeroizing<Vec<u8>>, BodyError> {
        if let Self::Multipart(delimiter) = self {
            let mut rewriter = delimiter.rewriter(values)?;
            let room = body.len() + rewriter.room();
            let mut out = Zeroizing::new(Vec::with_capacity(room));
            rewriter.push(body, &mut out)?;
            rewriter.end(&mut out)?;
            debug_assert!(out.len() <= room, "it has grown");
            return Ok(out);
        }
        let text = std::str::from_utf8(body).map_err(|_| BodyError::Malformed("no UTF-8"))?;
        // Enough capacity for all values, so that the buffer never grows and leaves a copy.
        let room: usize = values.iter().map(|(path, value)| path.room() + value.len() * 3).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(text.len() + room));
        if self == Self::Form {
            form(text, values, &mut out);
        } else {
            let steps: Vec<PathStep<'_>> =
                values.iter().map(|(path, value)| PathStep::first(path, Some(value))).collect();
            object(if text.trim_ascii().is_empty() { "{}" } else { text }, &steps, &mut out)?;
        }
        debug_assert!(out.len() <= text.len() + room, "it has grown");
        Ok(out)
    }

    /// The body without the values at these paths; `None` if nothing is removed: it has none of them, does not match its
    /// content type, or is `multipart/form-data`.
    pub fn without(&self, body: &[u8], paths: &[BodyPath]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Form => {
                let names: Vec<String> = paths.iter().map(BodyPath::to_string).collect();
                form_without(body, &names.iter().map(String::as_str).collect::<Vec<_>>())
            }
            Self::Json => {
                let text = std::str::from_utf8(body).ok()?;
                let steps: Vec<_> = paths.iter().map(|path| PathStep::first(path, None)).collect();
                let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
                object(text, &steps, &mut out).ok()?;
                Some(out)
            }
            Self::Multipart(_) => None,
        }
    }
}

/// A value, and how much of its path has been descended.
#[derive(Clone, Copy)]
struct PathStep<'a> {
    path: &'a BodyPath,
    depth: usize,
    /// `None`: what is there is removed.
    value: Option<&'a str>,
}

impl<'a> PathStep<'a> {
    fn first(path: &'a BodyPath, value: Option<&'a str>) -> Self {
        Self { path, depth: 0, value }
    }

    fn name(&self) -> &'a str {
        &self.path.0[self.depth]
    }

    fn is_last(&self) -> bool {
        self.depth + 1 == self.path.0.len()
    }

    fn error(&self, what: &'static str) -> BodyError {
        let path = self.path.0[..=self.depth].join(".");
        BodyError::PathStep { path: path.into(), what }
    }
}

/// A JSON object that is written while the original is read. Members are not collected in a list, which would
/// take many times the memory of an object with many small members.
struct Object<'a, 'b> {
    steps: &'b [PathStep<'a>],
    /// Steps for which a member was found.
    met: Vec<&'a str>,
    out: &'b mut Vec<u8>,
    /// Offset of its first member.
    begin: usize,
    failed: Option<BodyError>,
}

impl<'de> Visitor<'de> for &mut Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if self.failed.is_none() {
                self.failed = self.passes(key, value).err();
            }
        }
        Ok(())
    }
}

impl Object<'_, '_> {
    /// Copies a member as sent, including duplicates, unless a value is written there.
    fn passes(&mut self, key: &RawValue, value: &RawValue) -> Result<(), BodyError> {
        // Some servers accept half a surrogate pair as a name, but it is not valid text.
        let Ok(name) = serde_json::from_str::<Cow<'_, str>>(key.get()) else {
            return Err(BodyError::Malformed("a JSON object with a name that is no Unicode text"));
        };
        let steps = self.steps;
        match steps.iter().find(|step| is_same(step.name(), &name)) {
            None => self.member(key.get()).extend_from_slice(value.get().as_bytes()),
            // The existing value is replaced.
            Some(step) if step.is_last() => {}
            Some(step) if step.name() != name || self.met.contains(&step.name()) => {
                return Err(step.error("there twice, or in another case"));
            }
            Some(step) => {
                self.met.push(step.name());
                within(value.get(), step, steps, self.member(key.get()))?;
            }
        }
        Ok(())
    }

    /// Adds the members that were not found.
    fn adds(&mut self) -> Result<(), BodyError> {
        let steps = self.steps;
        for step in steps {
            let Some(value) = step.value else { continue };
            if !step.is_last() && self.met.contains(&step.name()) {
                continue;
            }
            let key = serde_json::to_string(step.name()).expect("text is JSON");
            let out = self.member(&key);
            if step.is_last() {
                serde_json::to_writer(out, value).expect("a buffer takes all");
            } else {
                within("{}", step, steps, out)?;
                self.met.push(step.name());
            }
        }
        Ok(())
    }

    /// Starts a member.
    fn member(&mut self, key: &str) -> &mut Vec<u8> {
        if self.out.len() > self.begin {
            self.out.push(b',');
        }
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b':');
        self.out
    }
}

/// Writes the object `text` with the values of `steps`.
fn object(text: &str, steps: &[PathStep<'_>], out: &mut Vec<u8>) -> Result<(), BodyError> {
    out.push(b'{');
    let begin = out.len();
    let mut object = Object { steps, met: Vec::new(), out, begin, failed: None };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_map(&mut object).and_then(|()| reader.end());
    read.map_err(|_| BodyError::Malformed("no JSON object"))?;
    object.failed.take().map_or(Ok(()), Err)?;
    object.adds()?;
    out.push(b'}');
    Ok(())
}

/// Writes the nested object `text` at `step`, with the values of all `steps` below it.
fn within(
    text: &str,
    step: &PathStep<'_>,
    steps: &[PathStep<'_>],
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    let text = match text.as_bytes() {
        [b'{', ..] => text,
        b"null" => "{}",
        _ => return Err(step.error("no object")),
    };
    let inner = steps.iter().filter(|other| other.name() == step.name());
    let inner: Vec<PathStep<'_>> =
        inner.map(|step| PathStep { depth: step.depth + 1, ..*step }).collect();
    object(text, &inner, out)
}

/// The form without the fields of these names; `None` if it has none of them.
pub(super) fn form_without(body: &[u8], names: &[&str]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(body).ok()?;
    let is_named = |name: &str| names.iter().any(|other| is_same(other, name));
    if !parameters(text.trim_ascii()).any(|(name, _)| is_named(&name)) {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    keep_fields(text, is_named, &mut out);
    Some(out)
}

/// Writes the fields of the form `text`, except those of ours.
fn keep_fields(text: &str, is_ours: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
    // To some servers `;` parts fields as well (HTML 4.01, appendix B.2.2).
    let goes = |pair: &str| parameters(pair).any(|(name, _)| is_ours(&name));
    for sent in text.trim_ascii().split('&').filter(|sent| !sent.is_empty() && !goes(sent)) {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(sent.as_bytes());
    }
}

/// Writes the form `text` without the fields that `values` replace, then those fields.
fn form(text: &str, values: &[(&BodyPath, &str)], out: &mut Vec<u8>) {
    let is_ours = |name: &str| values.iter().any(|(path, _)| is_same(&path.to_string(), name));
    keep_fields(text, is_ours, out);
    for (path, value) in values {
        if !out.is_empty() {
            out.push(b'&');
        }
        pair(&path.to_string(), value).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    }
}

/// Whether a server may treat the names as equal. Some, such as Go's, ignore case by Unicode simple folding.
pub(super) fn is_same(a: &str, b: &str) -> bool {
    let fold = |c: char| c.to_uppercase().flat_map(char::to_lowercase);
    a.chars().flat_map(fold).eq(b.chars().flat_map(fold))
}

/// A type for a message, cut and cleaned; only the agent that sent it sees it.
fn shown(essence: &str) -> Box<str> {
    essence.chars().take(80).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn path(text: &str) -> BodyPath {
        BodyPath::parse(text).expect(text)
    }

    fn write(kind: BodyKind, body: &str, values: &[(&str, &str)]) -> Result<String, BodyError> {
        let values: Vec<_> = values.iter().map(|(at, value)| (path(at), *value)).collect();
        let values: Vec<_> = values.iter().map(|(path, value)| (path, *value)).collect();
        let written = kind.write(body.as_bytes(), &values)?;
        Ok(String::from_utf8(written.to_vec()).expect("text"))
    }

    fn json(body: &str, at: &str) -> Result<String, BodyError> {
        write(BodyKind::Json, body, &[(at, "s3cret")])
    }

    fn form(body: &str, at: &str) -> String {
        write(BodyKind::Form, body, &[(at, "s3cret")]).expect(body)
    }

    fn kind(fields: &[(&'static str, &'static str)]) -> Result<BodyKind, BodyError> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        BodyKind::of(&map)
    }

    #[test]
    fn body_paths_with_empty_steps_control_bytes_or_too_many_steps_are_refused() {
        let deep = ["a"; DEPTH_MAX + 1].join(".");
        for bad in ["", ".", "a.", ".a", "a..b", "a\nb", "a.\0", &deep] {
            assert_eq!(BodyPath::parse(bad), None, "{bad:?}");
        }
        assert_eq!(path("auth.key").to_string(), "auth.key");
        assert!(BodyPath::parse(&deep[2..]).is_some());
    }

    #[test]
    fn a_body_of_an_unsupported_type_or_content_coding_is_refused() {
        for (name, bad) in [
            ("without a Content-Type", &[][..]),
            (
                "of several Content-Types",
                &[("content-type", "application/json"), ("content-type", "text/json")],
            ),
            ("multipart/mixed", &[("content-type", "multipart/mixed; boundary=x")]),
            ("text/plain", &[("content-type", "text/plain;charset=utf-8")]),
            ("application/jsonl", &[("content-type", "application/jsonl")]),
            ("application/grpc", &[("content-type", "application/grpc")]),
        ] {
            assert_eq!(kind(bad), Err(BodyError::Kind(name.into())), "{bad:?}");
        }
        for coding in ["gzip", "br", "identity, gzip", ""] {
            let fields = [("content-type", "application/json"), ("content-encoding", coding)];
            assert_eq!(kind(&fields), Err(BodyError::Coded), "{coding}");
        }
        for (text, want) in [
            ("application/json", BodyKind::Json),
            ("Application/JSON ; charset=utf-8", BodyKind::Json),
            ("application/vnd.api+json", BodyKind::Json),
            ("application/x-www-form-urlencoded; charset=UTF-8", BodyKind::Form),
        ] {
            assert_eq!(kind(&[("content-type", text)]), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_removed_leaves_the_rest_and_other_bodies_are_left() {
        let without = |kind: BodyKind, body: &str| {
            let paths = [path("token"), path("auth.key")];
            let out = kind.without(body.as_bytes(), &paths)?;
            Some(String::from_utf8(out.to_vec()).expect("text"))
        };
        for (kind, body) in [
            (BodyKind::Json, "[]"),
            (BodyKind::Json, "{"),
            (BodyKind::Json, r#"{"auth":1}"#),
            (BodyKind::Form, "a=b"),
        ] {
            assert_eq!(without(kind, body), None, "{body}");
        }
        let form = without(BodyKind::Form, "a=1&Token=x&b=2");
        assert_eq!(form.as_deref(), Some("a=1&b=2"));
        let json = without(BodyKind::Json, r#"{"a":[1, 2],"token":"x","auth":{"key":1,"b":2}}"#);
        assert_eq!(json.as_deref(), Some(r#"{"a":[1, 2],"auth":{"b":2}}"#));
        let none = without(BodyKind::Json, r#"{"a":{"token":1}}"#);
        assert_eq!(none.as_deref(), Some(r#"{"a":{"token":1}}"#), "nothing is added");
    }

    #[test]
    fn a_body_that_is_not_a_json_object_is_refused() {
        for bad in [
            "[]",
            "[{}]",
            "\"a\"",
            "1",
            "null",
            "{",
            "{}}",
            "{} {}",
            "{a:1}",
            "{'a':1}",
            "{\"a\"}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":\"\n\"}",
            "\u{feff}{}",
            "/**/{}",
            "{\"a\":NaN}",
            "a=1",
        ] {
            let error = json(bad, "key").expect_err(bad);
            assert_eq!(error, BodyError::Malformed("no JSON object"), "{bad:?}");
        }
        assert!(json("{\"\\ud800\":1}", "key").is_err(), "half a pair");
        let bytes = BodyKind::Json.write(b"{\"a\":\"\xff\"}", &[]);
        assert_eq!(bytes, Err(BodyError::Malformed("no UTF-8")));
    }

    #[test]
    fn a_path_step_that_is_not_an_object_or_is_ambiguous_is_refused() {
        for (body, what) in [
            (r#"{"auth":"kwph"}"#, "no object"),
            (r#"{"auth":[]}"#, "no object"),
            (r#"{"auth":{},"auth":{}}"#, "there twice, or in another case"),
            (r#"{"auth":{},"AUTH":{}}"#, "there twice, or in another case"),
            (r#"{"Auth":{}}"#, "there twice, or in another case"),
        ] {
            let error = json(body, "auth.key").expect_err(body);
            assert_eq!(error, BodyError::PathStep { path: "auth".into(), what }, "{body}");
        }
    }

    #[test]
    fn every_member_or_field_that_may_be_read_as_the_credential_is_replaced() {
        for body in [
            r#"{"key":"mine"}"#,
            r#"{"key":{"key":1}}"#,
            r#"{"key":"mine","Key":"mine","KEY":null}"#,
            r#"{"\u006bey":"mine"}"#,
            // U+212A KELVIN SIGN, a `k` to Go.
            "{\"\u{212a}ey\":\"mine\"}",
        ] {
            assert_eq!(json(body, "key").expect(body), r#"{"key":"s3cret"}"#, "{body}");
        }
        for body in
            ["key=mine", "KEY=mine", "%6bey=mine", "k%65y", "a;key=mine", "key=a&key=b", "&"]
        {
            assert_eq!(form(body, "key"), "key=s3cret", "{body}");
        }
    }

    #[test]
    fn all_other_members_and_fields_stay_as_they_were_sent() {
        let body = "{ \"n\" : 12345678901234567890.10e+2,\r\n\t\"k\\/\":\"\\u00e9\\ud800 \",\"n\":[ 1 , {\"key\":1} ] }";
        let want = "{\"n\":12345678901234567890.10e+2,\"k\\/\":\"\\u00e9\\ud800 \",\"n\":[ 1 , {\"key\":1} ],\"key\":\"s3cret\"}";
        assert_eq!(json(body, "key").expect(body), want);
        assert_eq!(form("b=%C3%A9+x&&c;d=1&e", "key"), "b=%C3%A9+x&c;d=1&e&key=s3cret");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(
            json(&deep, "key").expect("deep").len(),
            deep.len() + ",\"key\":\"s3cret\"".len()
        );
    }

    #[test]
    fn values_are_written_at_their_paths() {
        for (body, at, want) in [
            ("", "key", r#"{"key":"s3cret"}"#),
            (" \r\n", "a.b", r#"{"a":{"b":"s3cret"}}"#),
            ("{}", "a.b.c", r#"{"a":{"b":{"c":"s3cret"}}}"#),
            (r#"{"a":null,"x":1}"#, "a.b", r#"{"a":{"b":"s3cret"},"x":1}"#),
            (r#"{"a":{"b":{"c":0,"d":2}}}"#, "a.b.c", r#"{"a":{"b":{"d":2,"c":"s3cret"}}}"#),
        ] {
            assert_eq!(json(body, at).expect(body), want, "{body} {at}");
        }
        let values = [("auth.id", "i\"d"), ("auth.key", "a\\b"), ("top", "t")];
        let both = write(BodyKind::Json, r#"{"auth":{"x":1}}"#, &values).expect("room");
        assert_eq!(both, r#"{"auth":{"x":1,"id":"i\"d","key":"a\\b"},"top":"t"}"#);
        let fields = write(BodyKind::Form, "x=1", &[("auth[key]", "a&b=c d"), ("a.b", "+")]);
        assert_eq!(fields.expect("room"), "x=1&auth%5Bkey%5D=a%26b%3Dc%20d&a.b=%2B");
        assert_eq!(form("", "key"), "key=s3cret");
    }

    #[test]
    fn paths_collide_if_one_is_a_prefix_of_the_other_in_any_case() {
        for (a, b, collides) in [
            ("a", "a", true),
            ("a", "A", true),
            ("a", "a.b", true),
            ("a.b", "a.c", false),
            ("ab", "a.b", false),
        ] {
            assert_eq!(path(a).collides(&path(b)), collides, "{a} {b}");
            assert_eq!(path(b).collides(&path(a)), collides, "{b} {a}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-cA-C]|\\PC{1,4}", inner, 0..4)
                    .prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn writing_a_value_changes_only_its_member_of_the_object(
            body in prop::collection::btree_map("[a-dA-D]|\\PC{0,4}", any_json(), 0..6),
            value in "[ -~]{1,20}",
        ) {
            let text = json!(body).to_string();
            let written = write(BodyKind::Json, &text, &[("a", &value)]).expect("an object");
            let mut want = body;
            want.retain(|name, _| !is_same(name, "a"));
            want.insert("a".to_owned(), Value::from(value));
            let got: Value = serde_json::from_str(&written).expect("an object");
            prop_assert_eq!(got, json!(want));
        }

        #[test]
        fn no_body_makes_the_writer_panic(body in "\\PC{0,40}", deep in any::<bool>()) {
            let at = if deep { "a.b" } else { "a" };
            let _ = json(&body, at);
            let written = form(&body, at);
            prop_assert!(written.ends_with("=s3cret"), "{written}");
        }
    }
}
