//! Checks the field values of a new grant: present, declared, sendable, and not a placeholder. Values are
//! not repaired, except that one trailing line break is removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{GrantError, MintError};
use keyward_base::secret::Secret;
use keyward_rules::inject::placeholder;
use keyward_rules::inject::placement::Location;
use keyward_rules::provider::{AuthKind, AuthMethod, Field};

/// 16 KiB: the longest tokens in use (JWTs with many claims) are shorter than 8 KiB.
pub const FIELD_BYTES_MAX: usize = 16 * 1024;

/// Examples of manuals instead of a key, in lower case.
const SAMPLES: &[&str] = &[
    "your_",
    "your-",
    "yourapikey",
    "changeme",
    "change_me",
    "change-me",
    "replace_me",
    "replace-me",
    "placeholder",
    "example_key",
    "insert_",
    "xxxxxx",
    "......",
    "******",
    "…",
];

/// The checked values by field name. The values of `referred` fields are kept elsewhere.
pub(super) fn check(
    auth: &AuthMethod,
    mut given: BTreeMap<String, Secret>,
    referred: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Secret>, GrantError> {
    let mut names = given.keys().map(String::as_str).chain(referred.iter().copied());
    if let Some(field) = names.find(|name| auth.field(name).is_none()).map(str::to_owned) {
        let known: Vec<&str> = auth.fields.iter().map(|field| field.name.as_str()).collect();
        return Err(GrantError::Unknown { auth: auth.id.clone(), field, known: known.join(", ") });
    }
    drop(names);
    let mut values = BTreeMap::new();
    for field in &auth.fields {
        match given.remove(&field.name) {
            Some(value) if is_document(auth, &value) => {
                drop(values.insert(field.name.clone(), check_document(field, value)?));
            }
            Some(value) => drop(values.insert(field.name.clone(), check_value(field, value)?)),
            None if field.optional || referred.contains(&*field.name) => {}
            None => {
                let (field, label) = (field.name.clone(), field.label.clone());
                return Err(GrantError::Missing { field, label });
            }
        }
    }
    Ok(values)
}

/// Values that are written raw into a path or cookie must not contain its delimiters: a `/` in a key that is not at the
/// end would change the path.
pub(super) fn check_places(
    auth: &AuthMethod,
    values: &BTreeMap<String, Secret>,
) -> Result<(), GrantError> {
    for place in auth.placements.iter().flat_map(|scope| &scope.places) {
        let (name, sendable): (_, fn(u8) -> bool) = match place.at {
            Location::Path(ref prefix) if prefix.is_end => ("path", is_byte_of_segments),
            Location::Path(_) => ("path", is_path_byte),
            Location::Cookie(_) => ("cookie", is_cookie_byte),
            Location::Header(_)
            | Location::Query(_)
            | Location::QueryString
            | Location::Body(_)
            | Location::Signature
            | Location::Login(_) => continue,
        };
        for field in place.value.fields() {
            let value = values.get(field).map(Secret::expose).unwrap_or_default();
            if !value.iter().all(|byte| sendable(*byte)) {
                return Err(GrantError::Delimiter { field: field.to_owned(), place: name });
            }
        }
    }
    Ok(())
}

/// RFC 3986 §3.3 `pchar`, without percent-encoding.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn is_byte_of_segments(byte: u8) -> bool {
    is_path_byte(byte) || byte == b'/'
}

/// RFC 6265 §4.1.1 `cookie-octet`.
fn is_cookie_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

/// Private keys in PEM, or key files in JSON. They are used for signing and never sent, so they may have
/// several lines.
fn is_document(auth: &AuthMethod, value: &Secret) -> bool {
    let signs = auth.kind == AuthKind::Oauth2 || auth.kind.has_documents() || auth.tls.is_some();
    let text = value.expose().trim_ascii();
    // The lines of `known_hosts`.
    if auth.kind == AuthKind::SshKey && text.contains(&b'\n') {
        return true;
    }
    signs && (text.starts_with(b"-----BEGIN ") || is_object(text))
}

/// Whether the text begins as a JSON object with a member does: `{` and a quote. Templates in manuals have no quote
/// there.
fn is_object(text: &[u8]) -> bool {
    text.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\""))
}

fn check_document(field: &Field, value: Secret) -> Result<Secret, GrantError> {
    let bytes = value.expose();
    let is_text = |b: &u8| (b' '..=b'~').contains(b) || matches!(b, b'\n' | b'\r' | b'\t');
    match bytes.len() <= FIELD_BYTES_MAX {
        false => Err(GrantError::TooLong { field: field.name.clone() }),
        true if bytes.iter().all(is_text) => Ok(Secret::new(bytes.trim_ascii())),
        true => Err(GrantError::Characters { field: field.name.clone() }),
    }
}

fn check_value(field: &Field, value: Secret) -> Result<Secret, GrantError> {
    let name = || field.name.clone();
    let value = without_line_end(value);
    let bytes = value.expose();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(GrantError::Empty { field: name() });
    }
    if bytes.len() > FIELD_BYTES_MAX {
        return Err(GrantError::TooLong { field: name() });
    }
    if looks_like_placeholder(field, bytes) {
        return Err(GrantError::Placeholder { field: name(), hint: hint(field) });
    }
    if !bytes.iter().all(|b| (b' '..=b'~').contains(b)) {
        return Err(GrantError::Characters { field: name() });
    }
    if bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ') {
        return Err(GrantError::Blank { field: name() });
    }
    let fits = |text: &str| field.pattern.as_ref().is_none_or(|shape| shape.matches(text));
    match value.expose_text() {
        Some(text) if fits(text) => Ok(value),
        _ => {
            let pattern = field.pattern.as_ref().map_or("", |shape| shape.written());
            Err(GrantError::Shape {
                field: name(),
                label: noun(&field.label),
                pattern: pattern.to_owned(),
            })
        }
    }
}

/// A field of a stored grant.
///
/// # Errors
/// When it is absent.
pub(super) fn required(
    fields: &BTreeMap<String, Secret>,
    field: &str,
) -> Result<Secret, MintError> {
    let missing = || MintError::Malformed { what: format!("there is no `{field}`") };
    fields.get(field).cloned().ok_or_else(missing)
}

/// Removes the line break at the end of a file.
fn without_line_end(value: Secret) -> Secret {
    let bytes = value.expose();
    match bytes.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        Some(line) => Secret::new(line),
        None => value,
    }
}

/// A placeholder of Keyward (from a copied environment), or an example from a manual. Only secret fields
/// are checked: a user may have any name.
fn looks_like_placeholder(field: &Field, bytes: &[u8]) -> bool {
    if !placeholder::scan(bytes).is_empty() {
        return true;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if !field.secret {
        return false;
    }
    let bracketed = |open, close| text.starts_with(open) && text.ends_with(close);
    let bare_prefix = || field.prefixes.iter().any(|prefix| prefix.as_str() == text);
    let after = field.prefixes.iter().find_map(|prefix| text.strip_prefix(prefix.as_str()));
    let body = after.unwrap_or(text).to_ascii_lowercase();
    bare_prefix()
        || bracketed('<', '>')
        || bracketed('{', '}')
        || bracketed('$', '}')
        || SAMPLES.iter().any(|sample| body.starts_with(sample))
        || body.ends_with("...")
}

/// The label in a sentence: `a token`, `an API key`.
fn noun(label: &str) -> String {
    let first = label.split(' ').next().unwrap_or_default();
    let is_short_form = first.len() > 1 && first.chars().all(|letter| !letter.is_lowercase());
    let mut letters = label.chars();
    let label = match letters.next() {
        Some(first) if !is_short_form => first.to_lowercase().chain(letters).collect(),
        _ => label.to_owned(),
    };
    // Abbreviations are read letter by letter: an SSH key, an MFA code.
    let vowels = if is_short_form { "AEFHILMNORSX" } else { "aeio" };
    let article = if label.starts_with(|first| vowels.contains(first)) { "an" } else { "a" };
    format!("{article} {label}")
}

fn hint(field: &Field) -> String {
    match (field.prefixes.first(), &field.help) {
        (Some(prefix), _) => format!("it looks like `{prefix}…`"),
        (None, Some(help)) => help.clone(),
        (None, None) => format!("the {}", field.label.to_lowercase()),
    }
}
