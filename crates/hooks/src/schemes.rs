//! All schemes: those of `schemes.yaml`, and those that an id itself describes.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

use http::HeaderName;
use parking_lot::Mutex;

use crate::challenge_form::EventAnswer;
use crate::key::{KeyForm, SignatureAlgorithm};
use crate::request::{Encoding, SignatureLayout};
use crate::scheme::BODY_BYTES_MAX;
use crate::template::SignedTemplate;
use crate::verify::{ValuePlace, Way};
use crate::{Scheme, written};

/// Schemes that ids describe are kept for the life of the process, so their number is bounded.
const DESCRIBED_MAX: usize = 1024;

/// Documents schemes that an id describes.
pub(super) const HMAC: &str = "https://www.rfc-editor.org/rfc/rfc2104";

/// All schemes of `schemes.yaml`, sorted by id.
pub fn all() -> &'static [Scheme] {
    static READ: LazyLock<Vec<Scheme>> = LazyLock::new(|| {
        let read = written::read(include_str!("schemes.yaml"));
        read.unwrap_or_else(|why| panic!("schemes.yaml: {why}: a test reads it"))
    });
    &READ
}

/// The scheme with this id. An id such as `base64-sha256:x-xero-signature` describes one: an HMAC of the body, in that
/// encoding, with that hash (`sha1`, `sha256`, `sha512`), in that header.
pub fn get(id: &str) -> Option<&'static Scheme> {
    let known = all();
    match known.binary_search_by(|scheme| scheme.id.as_str().cmp(id)) {
        Ok(at) => Some(&known[at]),
        Err(_) => described(id),
    }
}

pub(super) fn described(id: &str) -> Option<&'static Scheme> {
    static DESCRIBED: LazyLock<Mutex<HashMap<String, &'static Scheme>>> =
        LazyLock::new(Mutex::default);
    let scheme = Scheme::described(id)?;
    let mut described = DESCRIBED.lock();
    if let Some(known) = described.get(&scheme.id) {
        return Some(known);
    }
    if described.len() == DESCRIBED_MAX {
        return None;
    }
    let scheme: &'static Scheme = Box::leak(Box::new(scheme));
    described.insert(scheme.id.clone(), scheme);
    Some(scheme)
}

impl Scheme {
    /// `ENCODING-HASH:HEADER`.
    fn described(id: &str) -> Option<Self> {
        let (form, header) = id.split_once(':')?;
        let header = HeaderName::from_str(header).ok()?;
        let (encoding, hash) = form.split_once('-')?;
        let (encoding, written) = match encoding {
            "hex" => (Encoding::Hex, "hexadecimal digits"),
            "base64" => (Encoding::Base64, "base64"),
            _ => return None,
        };
        let (algorithm, name) = match hash {
            "sha1" => (SignatureAlgorithm::HmacSha1, "HMAC-SHA-1"),
            "sha256" => (SignatureAlgorithm::HmacSha256, "HMAC-SHA-256"),
            "sha512" => (SignatureAlgorithm::HmacSha512, "HMAC-SHA-512"),
            _ => return None,
        };
        Some(Self {
            id: format!("{form}:{header}"),
            name: format!("{name} of the body in {header}, as {written}"),
            docs: HMAC.to_owned(),
            secret_label: "signing secret".to_owned(),
            challenge: None,
            answer: EventAnswer::default(),
            repeats: false,
            redelivers: false,
            body_bytes_max: BODY_BYTES_MAX,
            fetched: None,
            ways: vec![Way {
                key: KeyForm::Text,
                algorithm,
                signature: ValuePlace::Headers(vec![header]),
                layout: SignatureLayout::Whole,
                encoding,
                signed: SignedTemplate::body(),
                items: None,
                time: None,
                id: None,
            }],
        })
    }
}
