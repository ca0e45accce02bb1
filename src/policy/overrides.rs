//! Methods that a request's fields ask a server to take instead of its own: a rule about methods must
//! hold for each that the server may come to.

use http::{HeaderMap, HeaderName, Method};

/// Fields that frameworks read so: Rack, Laravel and Symfony, ASP.NET, Google's and Microsoft's APIs
/// (<https://cloud.google.com/endpoints/docs/grpc/transcoding>, <https://docs.oasis-open.org/odata/>).
static FIELDS: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// The fields that override methods name something that is no method.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a field that overrides the method names none")]
pub struct NoMethod;

/// The methods that `fields` name, upper case as frameworks read them; usually none.
///
/// # Errors
/// When one names no method: what a server makes of it cannot be known.
pub fn overrides(fields: &HeaderMap) -> Result<Vec<Method>, NoMethod> {
    let mut methods = Vec::new();
    if !fields.keys().any(|name| FIELDS.contains(name)) {
        return Ok(methods);
    }
    for name in &FIELDS {
        for value in fields.get_all(name) {
            let text = value.to_str().map_err(|_| NoMethod)?.trim().to_ascii_uppercase();
            methods.push(Method::from_bytes(text.as_bytes()).map_err(|_| NoMethod)?);
        }
    }
    Ok(methods)
}

/// Removes those fields where nobody decided about them.
pub fn without_overrides(fields: &mut HeaderMap) {
    for name in &FIELDS {
        fields.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), value(v))).collect()
    }

    #[test]
    fn what_is_no_method_is_refused() {
        for value in ["", "GET, DELETE", "DE LETE", "a:b"] {
            assert_eq!(overrides(&fields(&[("x-http-method", value)])), Err(NoMethod), "{value}");
        }
    }

    #[test]
    fn every_field_counts_whatever_its_case() {
        assert_eq!(overrides(&fields(&[("x-method", "DELETE")])), Ok(vec![]));
        let both = fields(&[("x-http-method-override", "delete"), ("x-method-override", " Put ")]);
        assert_eq!(overrides(&both), Ok(vec![Method::DELETE, Method::PUT]));
    }
}
