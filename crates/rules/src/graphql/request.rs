//! [`Operations`] of a request: `application/json` with one operation or a list of them
//! (<https://graphql.github.io/graphql-over-http/draft/#sec-JSON-Encoding>).

use std::collections::BTreeSet;
use std::fmt;

use http::header::{self, HeaderMap};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::root_fields;
use super::{NotUnderstood, Operations};

/// Maximum number of operations in a list.
const CALLS_MAX: usize = 100;

impl Operations {
    /// The operations of the body of a POST with these fields, whose URL has this query.
    ///
    /// # Errors
    /// When services may find other operations in the request, or in the document.
    pub fn read(
        fields: &HeaderMap,
        url_query: Option<&str>,
        body: &[u8],
    ) -> Result<Self, NotUnderstood> {
        // Some services prefer `query` of the URL to that of the body.
        if url_query.is_some_and(|query| !query.is_empty()) {
            return Err(NotUnderstood::UrlQuery);
        }
        if fields.contains_key(header::CONTENT_ENCODING) && !is_identity(fields) {
            return Err(NotUnderstood::Coded);
        }
        if !is_json(fields) {
            return Err(NotUnderstood::ContentType);
        }
        let Calls(calls) = serde_json::from_slice(body).map_err(|_| NotUnderstood::Json)?;
        if calls.len() > CALLS_MAX {
            return Err(NotUnderstood::TooLarge);
        }
        let mut found = BTreeSet::new();
        for call in calls {
            found.extend(root_fields(&call.document()?)?);
        }
        Self::new(found).ok_or(NotUnderstood::Json)
    }
}

fn is_identity(fields: &HeaderMap) -> bool {
    let mut codings = fields.get_all(header::CONTENT_ENCODING).iter();
    codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether the body is JSON in UTF-8: one `application/json`, without parameters other than `charset=utf-8`.
fn is_json(fields: &HeaderMap) -> bool {
    let mut types = fields.get_all(header::CONTENT_TYPE).iter();
    let (Some(one), None) = (types.next(), types.next()) else { return false };
    let Ok(text) = one.to_str() else { return false };
    let text = text.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    parts.next() == Some("application/json")
        && parts.all(|part| matches!(part, "charset=utf-8" | "charset=\"utf-8\""))
}

/// The calls of a body: an object, or the objects of a list. At most one more than is allowed.
struct Calls(Vec<Call>);

/// The members of one call. The first problem is kept, because errors of a deserializer are texts.
#[derive(Default)]
struct Call {
    query: Option<String>,
    problem: Option<NotUnderstood>,
}

/// `extensions`: `null`, or an object whose members change nothing.
struct Extensions {
    are_harmless: bool,
}

impl Call {
    fn document(self) -> Result<String, NotUnderstood> {
        match self.problem {
            Some(problem) => Err(problem),
            None => self.query.ok_or(NotUnderstood::Json),
        }
    }

    fn is_wrong(&mut self, problem: NotUnderstood) {
        self.problem.get_or_insert(problem);
    }

    /// Reads the value of a member.
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "query" => self.query = Some(map.next_value()?),
            // Ignored: all operations of the document are judged, not only the selected one.
            "operationName" => drop(map.next_value::<Option<String>>()?),
            "variables" => drop(map.next_value::<IgnoredAny>()?),
            "extensions" => {
                if !map.next_value::<Extensions>()?.are_harmless {
                    self.is_wrong(NotUnderstood::Extension);
                }
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
                self.is_wrong(NotUnderstood::Member);
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct CallsVisitor;

        impl<'de> Visitor<'de> for CallsVisitor {
            type Value = Calls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of objects")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Calls, A::Error> {
                Ok(Calls(vec![CallVisitor.visit_map(map)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Calls, A::Error> {
                let mut calls = Vec::new();
                while let Some(call) = list.next_element()? {
                    calls.push(call);
                    if calls.len() > CALLS_MAX {
                        while list.next_element::<IgnoredAny>()?.is_some() {}
                    }
                }
                Ok(Calls(calls))
            }
        }

        from.deserialize_any(CallsVisitor)
    }
}

struct CallVisitor;

impl<'de> Visitor<'de> for CallVisitor {
    type Value = Call;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Call, A::Error> {
        let (mut call, mut names) = (Call::default(), BTreeSet::new());
        while let Some(name) = map.next_key::<String>()? {
            call.member(&name, &mut map)?;
            // Parsers differ in which duplicate they use.
            if !names.insert(name) {
                call.is_wrong(NotUnderstood::Duplicate);
            }
            // Enough names to know that one is not understood.
            if names.len() > NAMES_MAX {
                return Err(A::Error::custom("too many members"));
            }
        }
        Ok(call)
    }
}

/// Maximum number of members of a call; four are known.
const NAMES_MAX: usize = 64;

impl<'de> Deserialize<'de> for Call {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(CallVisitor)
    }
}

impl<'de> Deserialize<'de> for Extensions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ExtensionsVisitor;

        impl<'de> Visitor<'de> for ExtensionsVisitor {
            type Value = Extensions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_unit<E: Error>(self) -> Result<Extensions, E> {
                Ok(Extensions { are_harmless: true })
            }

            /// `clientLibrary` is the name and version of Apollo's client.
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Extensions, A::Error> {
                let mut are_harmless = true;
                while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                    are_harmless &= name == "clientLibrary";
                }
                Ok(Extensions { are_harmless })
            }
        }

        from.deserialize_any(ExtensionsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(body: &str) -> Result<usize, NotUnderstood> {
        with(&[("content-type", "application/json")], None, body.as_bytes())
    }

    fn with(
        fields: &[(&'static str, &'static str)],
        query: Option<&str>,
        body: &[u8],
    ) -> Result<usize, NotUnderstood> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        Operations::read(&map, query, body).map(|found| found.fields().count())
    }

    #[test]
    fn a_body_in_which_a_service_may_find_another_operation_is_refused() {
        use NotUnderstood as No;
        for (body, expected) in [
            ("", No::Json),
            ("[]", No::Json),
            ("{}", No::Json),
            ("null", No::Json),
            ("\"{ a }\"", No::Json),
            ("{ a }", No::Json),
            ("[[{\"query\":\"{a}\"}]]", No::Json),
            (r#"{"query":null}"#, No::Json),
            (r#"{"query":["{a}"]}"#, No::Json),
            (r#"{"query":"{a}"} {"query":"mutation{b}"}"#, No::Json),
            ("\u{feff}{\"query\":\"{a}\"}", No::Json),
            (r#"{"query":"{a}","operationName":7}"#, No::Json),
            (r#"{"query":"{a}","extensions":[1]}"#, No::Json),
            (r#"{"query":"{a}" /* "query":"mutation{b}" */}"#, No::Json),
            (r#"{"query":"{a}\ud800"}"#, No::Json),
            (r#"{"query":"{a}",}"#, No::Json),
            (r#"{"query":NaN}"#, No::Json),
            (r#"{"query":"{a}","query":"mutation{b}"}"#, No::Duplicate),
            (r#"{"query":"mutation{b}","query":"{a}"}"#, No::Duplicate),
            (r#"{"query":"{a}","qu\u0065ry":"mutation{b}"}"#, No::Duplicate),
            (r#"{"query":"{a}","variables":{},"variables":{}}"#, No::Duplicate),
            (r#"{"query":"{a}","Query":"mutation{b}"}"#, No::Member),
            (r#"{"query":"{a}","QUERY":"mutation{b}"}"#, No::Member),
            (r#"{"query":"{a}","query\u0000":"mutation{b}"}"#, No::Member),
            (r#"{"query":"{a}","documentId":"x"}"#, No::Member),
            (r#"{"id":"x"}"#, No::Member),
            (r#"{"query":"{a}","doc_id":"1"}"#, No::Member),
            (r#"{"query":"{a}","operationname":"B"}"#, No::Member),
            (r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#, No::Extension),
            (
                r#"{"query":"{a}","extensions":{"persistedQuery":{"sha256Hash":"x"}}}"#,
                No::Extension,
            ),
            (r#"[{"query":"{a}"},{"id":"x"}]"#, No::Member),
            (r#"{"query":"{a}\rb"}"#, No::Document("brackets that are not balanced")),
        ] {
            let found = read(body);
            match expected {
                No::Document(_) => assert!(matches!(found, Err(No::Document(_))), "{body}"),
                expected => assert_eq!(found, Err(expected), "{body}"),
            }
        }
    }

    #[test]
    fn only_plain_json_without_a_query_in_the_url_is_read() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        let body = br#"{"query":"{a}"}"#;
        for (fields, query, expected) in [
            (&[][..], None, NotUnderstood::ContentType),
            (&[("content-type", "application/graphql")], None, NotUnderstood::ContentType),
            (
                &[("content-type", "multipart/form-data; boundary=x")],
                None,
                NotUnderstood::ContentType,
            ),
            (
                &[("content-type", "application/json; charset=utf-16")],
                None,
                NotUnderstood::ContentType,
            ),
            (&[("content-type", "application/json, text/plain")], None, NotUnderstood::ContentType),
            (&[("content-type", "text/plain")], None, NotUnderstood::ContentType),
            (&[JSON, ("content-type", "application/graphql")], None, NotUnderstood::ContentType),
            (&[JSON, ("content-encoding", "gzip")], None, NotUnderstood::Coded),
            (&[JSON, ("content-encoding", "identity, gzip")], None, NotUnderstood::Coded),
            (
                &[JSON, ("content-encoding", "identity"), ("content-encoding", "br")],
                None,
                NotUnderstood::Coded,
            ),
            (&[JSON], Some("query=mutation{b}"), NotUnderstood::UrlQuery),
            (&[JSON], Some("a=b"), NotUnderstood::UrlQuery),
        ] {
            assert_eq!(with(fields, query, body), Err(expected), "{fields:?} {query:?}");
        }
        for value in [
            "application/json",
            "Application/JSON; Charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert_eq!(with(&[("content-type", value)], Some(""), body), Ok(1), "{value}");
        }
        assert_eq!(with(&[JSON, ("content-encoding", "identity")], None, body), Ok(1));
        assert_eq!(with(&[JSON], None, b"{\"query\":\"{a}\xff\"}"), Err(NotUnderstood::Json));
    }

    #[test]
    fn each_operation_of_a_list_counts() {
        assert_eq!(
            read(r#"[{"query":"{a}"},{"query":"mutation M {b}","operationName":"M"}]"#),
            Ok(2)
        );
        let of = |count: usize| format!("[{}]", vec![r#"{"query":"{a}"}"#; count].join(","));
        assert_eq!(read(&of(CALLS_MAX)), Ok(1));
        assert_eq!(read(&of(CALLS_MAX + 1)), Err(NotUnderstood::TooLarge));
        let whole = r#"{"operationName":null,"variables":{"a":{"query":"x"}},"query":"query($a: I) { b(a: $a) { c } }","extensions":{"clientLibrary":{"name":"x"}}}"#;
        assert_eq!(read(whole), Ok(1));
        assert_eq!(
            read(&format!("{{\"query\":\"{{a}}\",\"variables\":{}", "[".repeat(100_000))),
            Err(NotUnderstood::Json)
        );
    }
}
