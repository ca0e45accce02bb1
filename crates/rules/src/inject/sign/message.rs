//! [`SignedMessage`]: a text made of fields of the owner, of the request and of the time, such as the text that an HMAC
//! signs, or a claim of a token. Parsed once, from provider data.
//!
//! `message_names.tsv` has names of texts that are made of others.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use md5::Md5;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::SignError;
use crate::inject::template::{TemplatePart, ValueTemplate};
use keyward_base::secret::Secret;

/// Names of provider files that stand for other texts.
const NAMES: &str = include_str!("message_names.tsv");

/// A text with `{names}` in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedMessage(Vec<MessagePiece>);

/// A piece of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
enum MessagePiece {
    Literal(Box<str>),
    /// A field of the owner, or a variable.
    Field(Box<str>),
    /// The same in upper case.
    UpperField(Box<str>),
    Computed(Computed),
    /// A field of the request's head; empty if it is absent.
    Header(HeaderName),
    /// The fields of the request's head that begin so.
    Headers(Box<str>),
}

/// What a message may name beside fields and variables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Computed {
    /// The method, in upper case.
    Method,
    /// Host and port, as in `Host`.
    Host,
    /// The path, as on the wire.
    Path,
    /// The query without `?`, as on the wire.
    Query,
    /// The parameters in the canonical form of a signature.
    QueryLines,
    /// Path and query, as on the wire.
    Target,
    Body,
    /// The body's length in bytes; empty without a body.
    BodyLength,
    /// SHA-256 of the body in hexadecimal digits.
    BodySha256,
    /// SHA-256 of the body in base64.
    BodySha256Base64,
    /// MD5 of the body in base64.
    BodyMd5Base64,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// RFC 3339 with milliseconds, in UTC.
    Rfc3339,
    /// RFC 9110 §5.6.7.
    HttpDate,
    /// 32 random hexadecimal digits, new for each request.
    Nonce,
    /// The signature, which places write.
    Signature,
}

/// Names in provider files.
const COMPUTED: [(&str, Computed); 17] = [
    ("method", Computed::Method),
    ("request_host", Computed::Host),
    ("path", Computed::Path),
    ("query", Computed::Query),
    ("query_lines", Computed::QueryLines),
    ("target", Computed::Target),
    ("body", Computed::Body),
    ("body_length", Computed::BodyLength),
    ("body_sha256", Computed::BodySha256),
    ("body_sha256_base64", Computed::BodySha256Base64),
    ("body_md5_base64", Computed::BodyMd5Base64),
    ("seconds", Computed::Seconds),
    ("milliseconds", Computed::Milliseconds),
    ("rfc3339", Computed::Rfc3339),
    ("http_date", Computed::HttpDate),
    ("nonce", Computed::Nonce),
    ("signature", Computed::Signature),
];

/// A request that is being signed.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    pub method: &'a str,
    /// Host and port, as in `Host`.
    pub authority: &'a str,
    /// Path and query, as on the wire.
    pub target: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The body, if [`SignedMessage::needs_body`].
    pub body: &'a [u8],
}

/// What a message is filled with.
#[derive(Clone, Copy, Debug)]
pub struct MessageValues<'a> {
    /// Fields of the owner and variables.
    pub fields: &'a BTreeMap<String, Secret>,
    /// The request; `None` for texts that belong to none.
    pub request: Option<RequestParts<'a>>,
    /// The time of the signature.
    pub now: Timestamp,
    /// [`Computed::Nonce`].
    pub nonce: &'a str,
    /// [`Computed::Signature`].
    pub signature: &'a str,
}

impl Computed {
    /// The value with this name in provider files.
    pub fn named(name: &str) -> Option<Self> {
        COMPUTED.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether it is a time in a number.
    fn is_number(self) -> bool {
        matches!(self, Self::Seconds | Self::Milliseconds)
    }

    fn is_of_body(self) -> bool {
        use Computed as C;
        matches!(
            self,
            C::Body | C::BodyLength | C::BodySha256 | C::BodySha256Base64 | C::BodyMd5Base64
        )
    }

    fn is_of_time(self) -> bool {
        use Computed as C;
        matches!(self, C::Seconds | C::Milliseconds | C::Rfc3339 | C::HttpDate | C::Nonce)
    }

    fn render(
        self,
        values: &MessageValues<'_>,
        out: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), SignError> {
        let text = match self {
            Self::Signature => values.signature.to_owned(),
            Self::Nonce => values.nonce.to_owned(),
            Self::Seconds => values.now.as_second().to_string(),
            Self::Milliseconds => values.now.as_millisecond().to_string(),
            Self::Rfc3339 => values.now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            Self::HttpDate => values.now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            of_request => {
                let request = values.request.ok_or(SignError::Unsignable)?;
                return of_request.of_request(&request, out);
            }
        };
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn of_request(
        self,
        request: &RequestParts<'_>,
        out: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), SignError> {
        let RequestParts { method, authority, target, body, .. } = *request;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let text = match self {
            Self::Method => method.to_ascii_uppercase(),
            Self::Host => authority.to_owned(),
            Self::Path => path.to_owned(),
            Self::Query => query.to_owned(),
            Self::QueryLines => query_lines(query),
            Self::Target => target.to_owned(),
            Self::BodyLength if body.is_empty() => String::new(),
            Self::BodyLength => body.len().to_string(),
            Self::BodySha256 => HEXLOWER.encode(&Sha256::digest(body)),
            Self::BodySha256Base64 => STANDARD.encode(Sha256::digest(body)),
            Self::BodyMd5Base64 => STANDARD.encode(Md5::digest(body)),
            _ => {
                out.extend_from_slice(body);
                return Ok(());
            }
        };
        out.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl SignedMessage {
    /// Parses a text such as `{seconds}{method}{target}{body}`. `{header:date}` is a field of the request's head,
    /// `{headers:x-acme-}` those that begin so, `{upper:name}` a field of the owner in upper case. `None`: the braces do
    /// not pair, or a name is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(at);
            let (name, after) = tail.strip_prefix('{')?.split_once('}')?;
            if !literal.is_empty() {
                pieces.push(MessagePiece::Literal(literal.into()));
            }
            match NAMES.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')) {
                Some(text) => pieces.extend(Self::parse(text)?.0),
                None => pieces.push(MessagePiece::named(name)?),
            }
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(MessagePiece::Literal(rest.into()));
        }
        Some(Self(pieces))
    }

    /// The message of a placement's template.
    pub fn of(template: &ValueTemplate) -> Self {
        let piece = |part: &TemplatePart| match part {
            TemplatePart::Literal(text) => MessagePiece::Literal(text.clone()),
            TemplatePart::Field(name) => MessagePiece::of_name(name),
        };
        Self(template.parts().iter().map(piece).collect())
    }

    /// The message in which the signature has this name.
    #[must_use]
    pub fn naming(mut self, name: &str) -> Self {
        for piece in &mut self.0 {
            if matches!(piece, MessagePiece::Field(field) if **field == *name) {
                *piece = MessagePiece::Computed(Computed::Signature);
            }
        }
        self
    }

    /// The names of fields and variables.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            MessagePiece::Field(name) | MessagePiece::UpperField(name) => Some(&**name),
            _ => None,
        })
    }

    /// Whether it depends on the request.
    pub fn needs_request(&self) -> bool {
        self.computed(|it| !it.is_of_time() && it != Computed::Signature) || self.has_headers()
    }

    /// Whether it depends on the request's body.
    pub fn needs_body(&self) -> bool {
        self.computed(Computed::is_of_body)
    }

    pub fn names_signature(&self) -> bool {
        self.computed(|it| it == Computed::Signature)
    }

    /// Whether it names anything that is computed for each request.
    pub fn is_computed(&self) -> bool {
        self.computed(|_| true) || self.has_headers()
    }

    fn has_headers(&self) -> bool {
        let is =
            |it: &MessagePiece| matches!(it, MessagePiece::Header(_) | MessagePiece::Headers(_));
        self.0.iter().any(is)
    }

    /// Whether it is a number, which JSON has without quotes.
    pub fn is_number(&self) -> bool {
        matches!(&self.0[..], [MessagePiece::Computed(one)] if one.is_number())
    }

    fn computed(&self, is_wanted: impl Fn(Computed) -> bool) -> bool {
        self.0.iter().any(|piece| matches!(piece, MessagePiece::Computed(it) if is_wanted(*it)))
    }

    /// Fills in the values.
    ///
    /// # Errors
    /// When a field has no value, or a part of the request cannot be signed.
    pub fn render(&self, values: &MessageValues<'_>) -> Result<Zeroizing<Vec<u8>>, SignError> {
        // A signed body may be large; fields are short, so that the buffer rarely grows.
        let body = values.request.filter(|_| self.needs_body()).map_or(0, |it| it.body.len());
        let mut out = Zeroizing::new(Vec::with_capacity(1024 + body));
        for piece in &self.0 {
            match piece {
                MessagePiece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                MessagePiece::Field(name) => out.extend_from_slice(field(values, name)?.expose()),
                MessagePiece::UpperField(name) => {
                    let upper = field(values, name)?.expose().iter().map(u8::to_ascii_uppercase);
                    out.extend(upper);
                }
                MessagePiece::Computed(value) => value.render(values, &mut out)?,
                MessagePiece::Header(name) => {
                    let request = values.request.ok_or(SignError::Unsignable)?;
                    out.extend_from_slice(header_value(request.headers, name)?.as_bytes());
                }
                MessagePiece::Headers(begin) => {
                    let request = values.request.ok_or(SignError::Unsignable)?;
                    out.extend_from_slice(headers(request.headers, begin)?.as_bytes());
                }
            }
        }
        Ok(out)
    }

    /// [`SignedMessage::render`] as a text that can be sent in a field.
    ///
    /// # Errors
    /// As there, and when it cannot be sent.
    pub fn text(&self, values: &MessageValues<'_>) -> Result<Secret, SignError> {
        let mut bytes = self.render(values)?;
        let is_text = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        match is_text {
            true => Ok(Secret::new(std::mem::take(&mut *bytes))),
            false => Err(SignError::Unsignable),
        }
    }
}

impl MessagePiece {
    fn named(name: &str) -> Option<Self> {
        let is_word = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        match name.split_once(':') {
            Some(("header", field)) => field.parse().ok().map(Self::Header),
            // A name is in lower case, as in the head.
            Some(("headers", begin)) => {
                let name: HeaderName = begin.parse().ok()?;
                Some(Self::Headers(name.as_str().into()))
            }
            Some(("upper", field)) if is_word(field) => Some(Self::UpperField(field.into())),
            None if is_word(name) => Some(Self::of_name(name)),
            _ => None,
        }
    }

    fn of_name(name: &str) -> Self {
        match Computed::named(name) {
            Some(value) => Self::Computed(value),
            None => Self::Field(name.into()),
        }
    }
}

fn field<'a>(values: &MessageValues<'a>, name: &str) -> Result<&'a Secret, SignError> {
    values.fields.get(name).ok_or(SignError::FieldMissing)
}

/// Fields whose name begins so, in order, each on a line of its own.
fn headers(fields: &HeaderMap, begin: &str) -> Result<String, SignError> {
    let names = fields.keys().map(|name| name.as_str()).filter(|name| name.starts_with(begin));
    // Services sort as their language does: without hyphens, and `_` before digits.
    let rank = |name: &str| name.replace('-', "").replace('_', "!");
    let names: BTreeSet<(String, &str)> = names.map(|name| (rank(name), name)).collect();
    let mut text = String::new();
    for (_, name) in names {
        let name = name.parse().map_err(|_| SignError::Unsignable)?;
        let value = header_value(fields, &name)?;
        text.push_str(&format!("{name}:{}\n", value.trim()));
    }
    Ok(text)
}

/// The parameters, each behind a line end: names in lower case and in order, their decoded values in order.
fn query_lines(query: &str) -> String {
    let mut parameters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters.entry(decoded(name).to_lowercase()).or_default().insert(decoded(value));
    }
    let line = |(name, values): (String, BTreeSet<String>)| {
        format!("\n{name}:{}", values.into_iter().collect::<Vec<_>>().join(","))
    };
    parameters.into_iter().map(line).collect()
}

/// The values of a field, joined by commas; empty without one.
fn header_value(fields: &HeaderMap, name: &HeaderName) -> Result<String, SignError> {
    // Without a body, libraries leave the length out, or write 0: signatures have neither.
    if *name == header::CONTENT_LENGTH && fields.get(name).is_some_and(|length| length == "0") {
        return Ok(String::new());
    }
    let values: Result<Vec<&str>, _> =
        fields.get_all(name).iter().map(HeaderValue::to_str).collect();
    Ok(values.map_err(|_| SignError::Unsignable)?.join(","))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Secret::from((*v).to_owned()))).collect()
    }

    fn rendered(text: &str, body: &[u8]) -> Result<String, SignError> {
        let mut headers = HeaderMap::new();
        headers.insert("date", HeaderValue::from_static("today"));
        let request = RequestParts {
            method: "post",
            authority: "api.acme.test",
            target: "/a/b?x=1&y=%20",
            headers: &headers,
            body,
        };
        let values = MessageValues {
            fields: &fields(&[("name", "acme")]),
            request: Some(request),
            now: "2023-01-02T03:04:05.678901Z".parse().unwrap(),
            nonce: "abc",
            signature: "s1",
        };
        let bytes = SignedMessage::parse(text).expect(text).render(&values)?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn invalid_message_templates_are_refused() {
        for bad in [
            "{",
            "}",
            "{}",
            "a{b",
            "a}b",
            "{a b}",
            "{header:}",
            "{header:a b}",
            "{headers:}",
            "{lower:a}",
        ] {
            assert!(SignedMessage::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_field_without_a_value_is_an_error() {
        assert_eq!(rendered("{other}", b""), Err(SignError::FieldMissing));
    }

    #[test]
    fn each_name_in_braces_is_replaced_by_its_value() {
        for (text, expected) in [
            ("{method}\n{request_host}\n{path}", "POST\napi.acme.test\n/a/b"),
            ("{target}|{query}", "/a/b?x=1&y=%20|x=1&y=%20"),
            ("{seconds} {milliseconds}", "1672628645 1672628645678"),
            ("{rfc3339}", "2023-01-02T03:04:05.678Z"),
            ("{http_date}", "Mon, 02 Jan 2023 03:04:05 GMT"),
            ("{name}{upper:name}{nonce}{signature}", "acmeACMEabcs1"),
            ("{header:date}{header:etag}", "today"),
            ("{headers:Da}{headers:x-}", "date:today\n"),
            ("{query_lines}", "\nx:1\ny: "),
            ("{body}{body_length}", "hello5"),
            // RFC 1321 and FIPS 180-4 are the sources of the digests, made by coreutils.
            ("{body_md5_base64}", "XUFAKrxLKna5cZ2REBfFkg=="),
            ("{body_sha256}", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
            ("{body_sha256_base64}", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
        ] {
            assert_eq!(rendered(text, b"hello").as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(rendered("[{body_length}]", b"").as_deref(), Ok("[]"));
    }

    #[test]
    fn each_name_of_other_texts_is_a_message() {
        for line in NAMES.lines() {
            let (name, text) = line.split_once('\t').expect(line);
            let named = SignedMessage::parse(&format!("{{{name}}}"));
            assert!(named.is_some() && named == SignedMessage::parse(text), "{line}");
        }
    }

    #[test]
    fn a_message_states_whether_it_needs_the_request_and_its_body() {
        for (text, request, body) in [
            ("{seconds}{name}", false, false),
            ("{path}", true, false),
            ("{header:date}", true, false),
            ("{headers:x-}", true, false),
            ("{body_sha256}", true, true),
            ("{signature}", false, false),
        ] {
            let message = SignedMessage::parse(text).unwrap();
            assert_eq!((message.needs_request(), message.needs_body()), (request, body), "{text}");
        }
    }
}
