//! Methods that a request's fields or query ask a server to use instead of its own. Rules must permit each of
//! them. Bodies are not read; a form may still name one.

use http::{HeaderMap, HeaderValue, Method};

use crate::inject::{names, steering};

/// The parameter of Meta's Graph API. <https://developers.facebook.com/docs/graph-api/overview>
const PLAIN: &str = "method";

/// The methods that rules are written for.
const USUAL: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A field or parameter names an override that is not a method.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a field or parameter overrides the method with an invalid one")]
pub struct NoMethod;

/// The methods that `fields` and `query` name, in upper case as frameworks read them; usually none.
///
/// # Errors
/// When one is not a method, because the server's behaviour is then unknown.
pub fn overrides(fields: &HeaderMap, query: Option<&str>) -> Result<Vec<Method>, NoMethod> {
    let mut methods = Vec::new();
    for name in fields.keys().filter(|name| steering::is_method_field(name)) {
        for value in fields.get_all(name) {
            methods.push(method(HeaderValue::to_str(value).map_err(|_| NoMethod)?)?);
        }
    }
    for (name, value) in query.into_iter().flat_map(names::parameters) {
        if steering::is_method_parameter(&name) {
            methods.push(method(&names::decoded(value))?);
        } else if name.eq_ignore_ascii_case(PLAIN) {
            methods.extend(usual(&names::decoded(value)));
        }
    }
    Ok(methods)
}

/// The method that a parameter `method` names, if it is a usual one: elsewhere the name has other meanings.
fn usual(value: &str) -> Option<Method> {
    let value = value.trim();
    USUAL.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(value))
}

fn method(text: &str) -> Result<Method, NoMethod> {
    Method::from_bytes(text.trim().to_ascii_uppercase().as_bytes()).map_err(|_| NoMethod)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), value(v))).collect()
    }

    #[test]
    fn an_override_field_with_an_invalid_method_is_refused() {
        for value in ["", "GET, DELETE", "DE LETE", "a:b"] {
            assert_eq!(
                overrides(&fields(&[("x-http-method", value)]), None),
                Err(NoMethod),
                "{value}"
            );
        }
    }

    #[test]
    fn every_override_field_counts_and_methods_are_read_in_any_case() {
        assert_eq!(overrides(&fields(&[("x-method", "DELETE")]), Some("a=1&b")), Ok(vec![]));
        let both = fields(&[("x-http-method-override", "delete"), ("x_method_override", " Put ")]);
        assert_eq!(overrides(&both, None), Ok(vec![Method::DELETE, Method::PUT]));
    }

    #[test]
    fn query_parameters_override_the_method_like_fields() {
        let found = |query: &str| overrides(&HeaderMap::new(), Some(query));
        for (query, methods) in [
            ("_method=DELETE", vec![Method::DELETE]),
            ("a=1;%5FMETHOD=p%75t&b", vec![Method::PUT]),
            ("_method=get&$httpMethod=+patch+", vec![Method::GET, Method::PATCH]),
            ("x_method=DELETE&a=_method&method=photos.search&method=", vec![]),
            ("a=1&Method=delete", vec![Method::DELETE]),
        ] {
            assert_eq!(found(query), Ok(methods), "{query}");
        }
        for query in ["_method", "_method=", "_method=DE+LETE", "_method=%ff", "a=1&_method=a,b"] {
            assert_eq!(found(query), Err(NoMethod), "{query}");
        }
    }
}
