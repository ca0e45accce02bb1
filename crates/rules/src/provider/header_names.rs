//! The names of header fields in a provider file.

use http::HeaderName;

use super::document::Problems;
use crate::inject::steering;

/// Fields that a credential must not be written to: routing, framing, hop-by-hop, our own (RFC 9110 §7.6.1).
/// `Cookie` has a placement of its own.
const FORBIDDEN: &[&str] = &[
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "keyward-connection",
    "max-forwards",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Parses a header name that credentials may be written to.
pub(super) fn header_name(name: &str, at: &str, problems: &mut Problems<'_>) -> Option<HeaderName> {
    let header = field_name(name, at, problems)?;
    if FORBIDDEN.contains(&header.as_str()) || steers(&header) {
        let remedy = "choose another field";
        problems.add(at, format_args!("`{header}` steers the request itself"), remedy);
        return None;
    }
    Some(header)
}

/// Parses a header name that is only read.
pub(super) fn field_name(name: &str, at: &str, problems: &mut Problems<'_>) -> Option<HeaderName> {
    let header = HeaderName::from_bytes(name.as_bytes()).ok();
    if header.is_none() {
        problems.add(at, "this is not a header field's name", "write letters and hyphens");
    }
    header
}

/// Whether the field makes a server use another path or method.
fn steers(header: &HeaderName) -> bool {
    steering::is_path_field(header) || steering::is_method_field(header)
}
