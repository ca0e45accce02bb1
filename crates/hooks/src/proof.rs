//! Finds the parts of a request that hold its signature or secret: they are removed before a program gets the
//! request.

use std::borrow::Cow;

use http::HeaderName;
use serde_json::Value;

use super::fetched::form::FetchedForm;
use crate::Scheme;
use crate::key::SignatureAlgorithm;
use crate::verify::{ValuePlace, Way};

impl Scheme {
    /// Whether the field has a signature or the secret.
    pub fn is_proof(&self, field: &HeaderName) -> bool {
        let has = |place: &ValuePlace| matches!(place, ValuePlace::Headers(names) if names.contains(field));
        let is_fetched =
            || self.fetched.and_then(FetchedForm::proof).is_some_and(|it| it == *field);
        self.ways.iter().any(|way| has(&way.signature)) || is_fetched()
    }

    /// The body of a verified request without the secret, which some services send in it. Others are unchanged.
    pub fn without_secret<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        let in_body = |way: &Way| match (&way.signature, way.algorithm) {
            (ValuePlace::Body(pointer), SignatureAlgorithm::Equal) => {
                Some((way.items.clone(), pointer.clone()))
            }
            _ => None,
        };
        let places: Vec<_> = self.ways.iter().filter_map(in_body).collect();
        if places.is_empty() {
            return Cow::Borrowed(body);
        }
        let mut json: Value = serde_json::from_slice(body).unwrap_or_default();
        for (items, pointer) in places {
            let at = json.pointer_mut(items.as_deref().unwrap_or_default());
            match at {
                Some(Value::Array(items)) => items.iter_mut().for_each(|it| clear(it, &pointer)),
                Some(one) => clear(one, &pointer),
                None => {}
            }
        }
        Cow::Owned(json.to_string().into_bytes())
    }
}

fn clear(item: &mut Value, pointer: &str) {
    if let Some(secret) = item.pointer_mut(pointer) {
        *secret = Value::String(String::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_body_is_removed_and_other_bodies_stay_as_they_are() {
        let scheme = crate::get("msgraph").unwrap();
        let sent =
            br#"{"value":[{"clientState":"secret","id":"1"},{"id":"2","clientState":"secret"}]}"#;
        let seen = scheme.without_secret(sent);
        let expected = r#"{"value":[{"clientState":"","id":"1"},{"id":"2","clientState":""}]}"#;
        assert_eq!(
            serde_json::from_slice::<Value>(&seen).unwrap(),
            serde_json::from_str::<Value>(expected).unwrap()
        );
        let other = b"{ \"a\" : \"secret\" }";
        assert_eq!(&*crate::get("github").unwrap().without_secret(other), other);
        assert_eq!(&*scheme.without_secret(b"none"), b"null");
    }
}
