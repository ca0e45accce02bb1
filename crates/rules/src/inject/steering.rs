//! Header fields and query parameters that make a server use another method, path or content than the request's, or
//! name another resource, in every spelling that an origin may accept.

use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};

use super::names::{is_alias, is_mapped, is_one_of};

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

/// The field with the second path of COPY and MOVE (RFC 4918 §10.3).
const DESTINATION: [&str; 1] = ["destination"];

/// How fields end that name what a PUT copies: `x-amz-copy-source`, and so with the `x-…-` of each storage (Azure, Google
/// Cloud Storage, Alibaba OSS, Tencent COS, Huawei OBS, Baidu BOS, Volcengine TOS, Kingsoft KS3).
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
const COPIED: &str = "copy-source";

/// The same of what a PUT renames: Amazon S3, Azure Data Lake, Azure Files.
/// <https://learn.microsoft.com/rest/api/storageservices/datalakestoragegen2/path/create>
/// <https://learn.microsoft.com/rest/api/storageservices/rename-file>
const RENAMED: &str = "rename-source";

/// The same of an object that is read through the new one: OpenStack Swift, Alibaba OSS, Baidu BOS, Volcengine TOS.
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putsymlink>
const LINKED: &str = "symlink-target";

/// Fields of OpenStack Swift with objects below the account of the request.
/// <https://docs.openstack.org/api-ref/object-store/#create-or-replace-object>
const RELATIVE: [&str; 2] = ["x-copy-from", "x-object-manifest"];

/// The field with the action of a request to AWS.
const ACTION: [&str; 1] = ["x-amz-target"];

/// What a request does with the source that a field names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SourceField {
    Copied,
    /// The source is gone afterwards.
    Renamed,
    /// The source is read, now or later. Its name does not say all of its path.
    Relative,
}

impl SourceField {
    /// The methods that would have the same effect on the source.
    pub fn methods(self) -> &'static [Method] {
        match self {
            Self::Copied | Self::Relative => &[Method::GET],
            Self::Renamed => &[Method::GET, Method::DELETE],
        }
    }
}

/// Whether the field names the destination of COPY and MOVE.
pub fn is_destination_field(name: &HeaderName) -> bool {
    is_one_of(name.as_str(), &DESTINATION)
}

/// Whether the field names the source of a copy, and what becomes of it.
pub fn source_field(name: &HeaderName) -> Option<SourceField> {
    match name.as_str() {
        name if is_of_storage(name, COPIED) => Some(SourceField::Copied),
        name if is_of_storage(name, RENAMED) => Some(SourceField::Renamed),
        name if is_of_storage(name, LINKED) || is_one_of(name, &RELATIVE) => {
            Some(SourceField::Relative)
        }
        _ => None,
    }
}

/// Whether it is `x-END`, or has the name of a storage between the two, in any spelling.
fn is_of_storage(name: &str, end: &str) -> bool {
    let Some(at) = name.len().checked_sub(end.len()) else { return false };
    let Some((begin, found)) = name.split_at_checked(at) else { return false };
    is_alias(found, end)
        && begin.get(..2).is_some_and(|begin| is_alias(begin, "x-"))
        && begin.bytes().last().is_some_and(is_mapped)
}

/// Whether policy decides on what the field says: a method, another resource, or an action of AWS.
pub fn is_judged_field(name: &HeaderName) -> bool {
    is_method_field(name)
        || is_destination_field(name)
        || source_field(name).is_some()
        || is_one_of(name.as_str(), &ACTION)
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
