//! All schemes: those of `schemes.yaml`, and those that an id itself describes.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

use http::HeaderName;
use parking_lot::Mutex;

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
        let as_written = match encoding {
            "hex" => "hexadecimal digits",
            "base64" => "base64",
            _ => return None,
        };
        let name = match hash {
            "sha1" => "SHA-1",
            "sha256" => "SHA-256",
            "sha512" => "SHA-512",
            _ => return None,
        };
        // A name of a header has no quotes.
        let text = format!(
            "- id: \"{form}:{header}\"
  name: \"HMAC-{name} of the body in {header}, as {as_written}\"
  docs: {HMAC}
  secret: signing secret
  by:
  - {{ headers: [\"{header}\"], encoding: {encoding}, algorithm: hmac-{hash}, signed: '{{body}}' }}"
        );
        written::read(&text).ok()?.pop()
    }
}
