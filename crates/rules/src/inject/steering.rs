//! Header fields and query parameters that make a server use another method, path or content than the request's, in every
//! spelling that an origin may accept.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};

use super::named_resources::is_naming_field;
use super::names::{is_alias, is_one_of};

/// Fields that change the path on some servers (IIS rewriting, Symfony).
const PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// Fields that change the method in frameworks: Rack, Laravel and Symfony, ASP.NET, Google's and Microsoft's
/// APIs (<https://cloud.google.com/endpoints/docs/grpc/transcoding>, <https://docs.oasis-open.org/odata/>).
const METHODS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];

/// Parameters that change the method: Laravel and Symfony, Express, Google's APIs
/// (<https://cloud.google.com/apis/docs/system-parameters>), Salesforce
/// (<https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/dome_update_fields.htm>); and the names
/// of the fields. Written with `_` for `-`.
const PARAMETERS: [&str; 6] = [
    "_method",
    "_httpmethod",
    "$httpmethod",
    "x_http_method_override",
    "x_http_method",
    "x_method_override",
];

/// Fields that say how the content is read. Decisions rely on them.
static CONTENT: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING];

/// The field with the action of a request to AWS.
const ACTION: [&str; 1] = ["x-amz-target"];

/// Whether policy decides on what the field says: a method, another resource, or an action of AWS.
pub fn is_judged_field(name: &HeaderName) -> bool {
    is_method_field(name) || is_naming_field(name) || is_one_of(name.as_str(), &ACTION)
}

/// Whether the field says how the content is read.
pub fn is_content_field(name: &HeaderName) -> bool {
    CONTENT.contains(name)
}

/// Whether a server may take the field for one that says how the content is read. Some use the last spelling.
pub fn is_content_alias(name: &HeaderName) -> bool {
    CONTENT.iter().any(|field| name != field && is_alias(name.as_str(), field.as_str()))
}

/// Whether a server may read the path from the field.
pub fn is_path_field(name: &HeaderName) -> bool {
    is_one_of(name.as_str(), &PATHS)
}

/// Whether a server may read the method from the field.
pub fn is_method_field(name: &HeaderName) -> bool {
    is_one_of(name.as_str(), &METHODS)
}

/// Whether a server may read the method from the parameter with this decoded name. Some ignore case; PHP cuts
/// names at a NUL, removes leading spaces, and replaces `.`, `[` and spaces with `_`
/// (<https://www.php.net/manual/en/language.variables.external.php>).
pub fn is_method_parameter(name: &str) -> bool {
    let name = name.trim_start_matches(' ').split('\0').next().unwrap_or_default();
    let folded = || {
        name.chars().map(|c| match c {
            '.' | '[' | ' ' | '-' => '_',
            c => c.to_ascii_lowercase(),
        })
    };
    PARAMETERS.iter().any(|known| folded().eq(known.chars()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_method_parameter_is_recognised_and_no_other_name() {
        for name in
            ["_method", "_METHOD", ".method", "[method", " _method", "  method", "_method\0x"]
        {
            assert_eq!(is_method_parameter(name), name != "  method", "{name:?}");
        }
        for name in [
            "$httpMethod",
            "_HttpMethod",
            "X-HTTP-Method-Override",
            "x_http_method",
            "x.method.override",
        ] {
            assert!(is_method_parameter(name), "{name}");
        }
        for name in ["", "method", "my_method", "_methods", "_method[]", "httpMethod", "__method"] {
            assert!(!is_method_parameter(name), "{name}");
        }
    }

    #[test]
    fn a_field_is_recognised_with_any_character_in_place_of_its_hyphens() {
        let name = |text: &'static str| HeaderName::from_static(text);
        assert!(is_path_field(&name("x_original_url")) && is_path_field(&name("x-rewrite_url")));
        assert!(is_method_field(&name("x_http-method_override")));
        assert!(
            is_method_field(&name("x.http-method~override"))
                && is_path_field(&name("x'rewrite!url"))
        );
        assert!(!is_method_field(&name("x-original-url")) && !is_path_field(&name("x_original")));
        assert!(
            is_content_alias(&name("content_type")) && is_content_alias(&name("content.length"))
        );
        assert!(!is_content_alias(&CONTENT_TYPE) && !is_content_alias(&name("x_content_type")));
    }
}
