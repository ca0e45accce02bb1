//! Names of header fields and parameters as servers read them: aliases of fields, and form encoding.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Characters that are not encoded in a query value: RFC 3986 unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Whether an origin that passes fields in variables may treat the names, in lower case, as equal. CGI and WSGI write `-` as
/// `_` (RFC 3875 §4.1.18), PHP also `.`
/// (<https://www.php.net/manual/en/language.variables.external.php>), lighttpd all that is no letter or digit.
pub(super) fn is_alias(name: &str, of: &str) -> bool {
    let fold = |byte: u8| if is_mapped(byte) { b'_' } else { byte };
    name.len() == of.len() && name.bytes().zip(of.bytes()).all(|(a, b)| fold(a) == fold(b))
}

/// Whether an origin may map the character of a field name to `_`.
pub(super) fn is_mapped(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric()
}

/// Whether a field name, or an alias of it, is in `names`. Most names differ from them in length, which is compared
/// first.
pub(super) fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| is_alias(name, other))
}

/// The decoded names of the parameters of a query or form, with their raw values. Some servers also split at `;`
/// (HTML 4.01, appendix B.2.2).
pub fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    query.split(['&', ';']).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name.contains(['+', '%']) {
            true => (decoded(name).into(), value),
            false => (name.into(), value),
        }
    })
}

/// Whether some server reads a parameter with this decoded name as `name`: servers ignore case, PHP removes leading spaces
/// and cuts at a NUL.
pub fn may_be_name(given: &str, name: &str) -> bool {
    let read = given.trim_start_matches(' ').split(['\0', '[']).next().unwrap_or_default();
    given.eq_ignore_ascii_case(name) || read.eq_ignore_ascii_case(name)
}

/// Each value that some server reads as that of the parameter.
pub(super) fn values_of<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let given = parameters(query).filter(move |(given, _)| may_be_name(given, name));
    given.map(|(_, value)| decoded(value))
}

/// Decodes a form name or value: `+` is a space, `%XX` a byte.
pub fn decoded(piece: &str) -> String {
    percent_decode_str(&piece.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Parameters that are part of a credential only in a query that has the parameter `on`, in this spelling.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DependentParameters {
    pub on: &'static str,
    pub names: &'static [&'static str],
}

impl DependentParameters {
    /// The names, if `query` has that parameter.
    pub(super) fn names_in(&self, query: &str) -> &'static [&'static str] {
        match parameters(query).any(|(name, _)| name == self.on) {
            true => self.names,
            false => &[],
        }
    }
}

/// The parts of a pair of a query or form.
pub(super) fn pair<'a>(name: &'a str, value: &'a str) -> impl Iterator<Item = &'a str> {
    let value = utf8_percent_encode(value, QUERY);
    utf8_percent_encode(name, QUERY).chain(["="]).chain(value)
}
