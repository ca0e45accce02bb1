//! Tests. Requests are signed here by formulas that do not use `schemes.yaml`.

mod bodies;
mod challenges;
mod edges;
mod fetched;
mod properties;
mod table;
mod vectors;

use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;

use keyward_base::secret::Secret;

use crate::{ChallengeAction, Incoming, Rejection, Scheme, VerifiedRequest};

/// The time of most tests, in seconds.
const NOW: i64 = 1_700_000_000;

const URL: &str = "https://hooks.example/in/a?b=1";

/// A request.
#[derive(Clone, Debug)]
struct Sent {
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn post(body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: Method::POST,
            url: URL.to_owned(),
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    fn get(url: &str) -> Self {
        Self { method: Method::GET, url: url.to_owned(), ..Self::post("") }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a value");
        self.headers.append(name.parse::<HeaderName>().expect("a name"), value);
        self
    }

    fn replace(mut self, name: &str, value: &str) -> Self {
        self.headers.remove(name);
        self.with(name, value)
    }

    fn one(&self, name: &str) -> &str {
        self.headers.get(name).expect("the header").to_str().expect("ASCII")
    }

    fn incoming(&self) -> Incoming<'_> {
        let Self { method, url, headers, body } = self;
        Incoming { method, url, headers, body }
    }

    fn verify_at(&self, id: &str, keys: &[&str], now: i64) -> Result<VerifiedRequest, Rejection> {
        let now = Timestamp::from_second(now).expect("a time");
        scheme(id).verify(&self.incoming(), &secrets(keys), now)
    }

    fn verify(&self, id: &str, keys: &[&str]) -> Result<VerifiedRequest, Rejection> {
        self.verify_at(id, keys, NOW)
    }

    fn challenge(&self, id: &str, keys: &[&str]) -> Result<Option<ChallengeAction>, Rejection> {
        let now = Timestamp::from_second(NOW).expect("a time");
        scheme(id).challenge(&self.incoming(), &secrets(keys), now)
    }
}

fn scheme(id: &str) -> &'static Scheme {
    crate::get(id).unwrap_or_else(|| panic!("no scheme {id}"))
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| secret(text)).collect()
}

fn sha256(key: &[u8], message: impl AsRef<[u8]>) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_ref()).as_ref().to_vec()
}

fn sha1(key: &[u8], message: impl AsRef<[u8]>) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    hmac::sign(&key, message.as_ref()).as_ref().to_vec()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    HEXLOWER.encode(bytes.as_ref())
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes.as_ref())
}
