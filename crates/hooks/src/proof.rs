//! Which fields of a request prove that the service sent it. Some are the secret itself, so no program may see them.

use http::HeaderName;

use crate::Scheme;
use crate::verify::Place;

impl Scheme {
    /// Whether the field has a signature or the secret.
    pub fn is_proof(&self, field: &HeaderName) -> bool {
        let has = |place: &Place| matches!(place, Place::Headers(names) if names.contains(field));
        self.ways.iter().any(|way| has(&way.signature))
    }
}
