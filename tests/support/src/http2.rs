//! HTTP/2 at both ends of a lab: a client that uses CONNECT, an origin that follows a script, and hand-written
//! frames that a conforming library would not send.

mod client;
pub mod frames;
mod origin;

use http::{HeaderMap, Method, Request, Response, Uri};

#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub use client::{Call, Client, Socket};
#[allow(unused_imports, reason = "two test binaries share this, each uses a part")]
pub use origin::{Ask, Offer, Order, Reply};

use super::wire::Head;

/// The head of a request as tests of HTTP/1.1 know it, pseudo-header fields among the others.
fn request_head<T>(request: &Request<T>) -> Head {
    let uri = request.uri();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let start = format!("{} {path} HTTP/2", request.method());
    let mut fields = vec![];
    if let Some(authority) = uri.authority() {
        fields.push((":authority".to_owned(), authority.to_string()));
    }
    if let Some(scheme) = uri.scheme_str() {
        fields.push((":scheme".to_owned(), scheme.to_owned()));
    }
    head(start, fields, request.headers())
}

/// The head of an answer.
fn answer_head<T>(answer: &Response<T>) -> Head {
    let start = format!("HTTP/2 {}", answer.status().as_u16());
    head(start, vec![], answer.headers())
}

fn head(start: String, mut fields: Vec<(String, String)>, others: &HeaderMap) -> Head {
    fields.extend(pairs(others));
    let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let raw = format!("{start}\r\n{lines}\r\n").into_bytes();
    Head { start, fields, raw }
}

fn pairs(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in pairs {
        let name = http::HeaderName::try_from(name).expect("a name");
        fields.append(name, value.parse().expect("a value"));
    }
    fields
}

/// A request from `POST /path\r\nName: value`.
fn request(text: &str, authority: &str) -> Request<()> {
    let mut lines = text.split("\r\n");
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).expect("a request");
    let uri: Uri = format!("https://{authority}{path}").parse().expect("a URI");
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = fields(lines.map(|line| line.split_once(": ").expect("a field")));
    request
}
