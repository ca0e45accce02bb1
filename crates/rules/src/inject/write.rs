//! Writes a credential into a request: fields, query, cookies, path. `body.rs` does the body.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::body::{BodyError, BodyKind, BodyPath};
use super::credential::Write;
use super::multipart::Delimiter;
use super::multipart::rewriter::FormRewriter;
use super::names::{decoded, pair, parameters};
use super::placeholder::holds_mark;
use super::placement::Location;
use super::sign::SignError;
use keyward_base::secret::Secret;

/// The shortest parameter of a query string that is a secret by itself: 128 bits in base64. Shorter ones are versions, dates and
/// permissions, which are ordinary words of answers.
const SECRET_PARAMETER_BYTES_MIN: usize = 22;

/// Why a credential cannot be written. The message names the place and never quotes the value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// A value has bytes that a field cannot contain.
    #[error("the credential holds a byte that cannot be sent in a field")]
    Unsendable,
    /// The credential has no placement for this host and path.
    #[error("this connection's credential has no place in a request to this path")]
    NoPlace,
    /// A path segment outside the credential's prefix contains a placeholder.
    #[error(
        "the path contains a placeholder, but this connection's credential is not written there"
    )]
    PlaceholderInPath,
    /// The credential goes into the body, which cannot take it.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The request cannot be signed with the credential.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// The parts of a request head that a credential may change.
#[derive(Debug)]
pub struct RequestHead<'a> {
    pub fields: &'a mut HeaderMap,
    /// Path in origin form, as on the wire; borrowed while it is unchanged.
    pub path: Cow<'a, str>,
    /// Query without `?`, as on the wire; borrowed while it is unchanged.
    pub query: Option<Cow<'a, str>>,
}

/// Writes each of `writes` except those of the body ([`body`]). Existing values must have been removed.
///
/// # Errors
/// When a value cannot be sent, or a placeholder would remain in the path.
pub fn credential(head: &mut RequestHead<'_>, writes: &[Write]) -> Result<(), WriteError> {
    for write in writes {
        let value = write.value.expose_text().ok_or(WriteError::Unsendable)?;
        match &write.at {
            Location::Header(name) => {
                head.fields.insert(name.clone(), sensitive(value)?);
            }
            Location::Query(name) => append_query(&mut head.query, name, value),
            Location::QueryString => append_parameters(&mut head.query, value)?,
            Location::Cookie(name) => append_cookie(head.fields, name, value)?,
            Location::Path(prefix) => {
                let path = prefix.write(&head.path, sound_path(value)?);
                head.path = path.ok_or(WriteError::Unsendable)?.into();
            }
            // A signature is made when the rest of the request is final.
            Location::Body(_) | Location::Signature => {}
            // Connections of databases own no host that requests are sent to.
            Location::Login(_) => return Err(WriteError::NoPlace),
        }
    }
    match holds_mark(&head.path) {
        true => Err(WriteError::PlaceholderInPath),
        false => Ok(()),
    }
}

/// Writes those of `writes` that go into the body into `sent`, a body of the given kind.
///
/// # Errors
/// When a value cannot be sent, or does not fit into the body.
pub fn body(
    kind: BodyKind,
    sent: &[u8],
    writes: &[Write],
) -> Result<Zeroizing<Vec<u8>>, WriteError> {
    Ok(kind.write(sent, &of_body(writes)?)?)
}

/// As [`body`], for a form with this delimiter that arrives in pieces.
///
/// # Errors
/// When a value cannot be sent in a form.
pub fn form(delimiter: &Delimiter, writes: &[Write]) -> Result<FormRewriter, WriteError> {
    Ok(delimiter.rewriter(&of_body(writes)?)?)
}

/// The values that go into the body.
fn of_body(writes: &[Write]) -> Result<Vec<(&BodyPath, &str)>, WriteError> {
    let mut values = Vec::new();
    for write in writes {
        if let Location::Body(path) = &write.at {
            values.push((path, write.value.expose_text().ok_or(WriteError::Unsendable)?));
        }
    }
    Ok(values)
}

/// A secret as the value of a field, which is never logged or indexed (RFC 7541 §7.1.3).
///
/// # Errors
/// When no field can hold it.
pub fn secret_field(secret: &Secret) -> Result<HeaderValue, WriteError> {
    sensitive(secret.expose_text().ok_or(WriteError::Unsendable)?)
}

fn sensitive(value: &str) -> Result<HeaderValue, WriteError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| WriteError::Unsendable)?;
    value.set_sensitive(true);
    Ok(value)
}

fn append_query(query: &mut Option<Cow<'_, str>>, name: &str, value: &str) {
    let query = query.get_or_insert_default().to_mut();
    if !query.is_empty() {
        query.push('&');
    }
    query.extend(pair(name, value));
}

/// Appends parameters that are encoded already. People copy them with the `?` of their URL.
fn append_parameters(query: &mut Option<Cow<'_, str>>, value: &str) -> Result<(), WriteError> {
    let parameters = value.strip_prefix('?').unwrap_or(value);
    if !parameters.bytes().all(|b| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b)) {
        return Err(WriteError::Unsendable);
    }
    let query = query.get_or_insert_default().to_mut();
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(parameters);
    Ok(())
}

fn append_cookie(fields: &mut HeaderMap, name: &str, value: &str) -> Result<(), WriteError> {
    // RFC 6265 §5.4: one `Cookie` field. What the agent sent comes first, the credential last.
    if value.contains([';', ',', ' ', '"', '\\']) {
        return Err(WriteError::Unsendable);
    }
    let own = sensitive(&format!("{name}={value}"))?;
    let sent = fields.get_all(header::COOKIE).iter().chain([&own]).map(HeaderValue::as_bytes);
    let pairs = sent.collect::<Vec<_>>().join(&b"; "[..]);
    let mut value = HeaderValue::from_bytes(&pairs).map_err(|_| WriteError::Unsendable)?;
    value.set_sensitive(true);
    fields.insert(header::COOKIE, value);
    Ok(())
}

/// The values of a query string that are secret by themselves, decoded. Services that repeat parameters write each alone.
pub fn secret_parameters(write: &Write) -> Vec<Secret> {
    let (Location::QueryString, Some(text)) = (&write.at, write.value.expose_text()) else {
        return Vec::new();
    };
    // Some services read `+` as a space.
    let readings = |value: &str| [decoded(value), decoded(&value.replace('+', "%2B"))];
    let mut values: Vec<String> = parameters(text).flat_map(|(_, raw)| readings(raw)).collect();
    // Services omit padding.
    values.iter_mut().for_each(|value| value.truncate(value.trim_end_matches('=').len()));
    values.retain(|value| value.len() >= SECRET_PARAMETER_BYTES_MIN);
    values.dedup();
    values.into_iter().map(Secret::from).collect()
}

/// Refuses a value that would end the path early.
fn sound_path(value: &str) -> Result<&str, WriteError> {
    match value.contains(['?', '#', ' ', '\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
        true => Err(WriteError::Unsendable),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::super::path_prefix::PathPrefix;
    use super::super::placeholder::Placeholder;
    use super::super::template::{Encoding, ValueTemplate};
    use super::*;
    use keyward_base::secret::Secret;

    fn write(at: Location, value: &str) -> Vec<Write> {
        vec![Write { at, value: Secret::from(value.to_owned()) }]
    }

    fn at_path(template: &str) -> Location {
        let template = ValueTemplate::parse(template, Encoding::Plain).unwrap();
        Location::Path(PathPrefix::of(&template, |_| true))
    }

    fn head<'a>(
        fields: &'a mut HeaderMap,
        path: &'a str,
        query: Option<&'a str>,
    ) -> RequestHead<'a> {
        RequestHead { fields, path: path.into(), query: query.map(Into::into) }
    }

    #[test]
    fn a_value_with_control_bytes_is_refused_not_cut() {
        let mut fields = HeaderMap::new();
        for bad in ["a\r\nb", "a\0b", "\u{e9}\n"] {
            let at = Location::Header(HeaderName::from_static("x-key"));
            let result = credential(&mut head(&mut fields, "/", None), &write(at, bad));
            assert_eq!(result, Err(WriteError::Unsendable), "{bad:?}");
            let at = Location::Cookie("sid".into());
            let result = credential(&mut head(&mut fields, "/", None), &write(at, bad));
            assert_eq!(result, Err(WriteError::Unsendable), "{bad:?}");
        }
        assert!(fields.is_empty());
    }

    #[test]
    fn a_value_that_would_end_the_path_is_refused_not_cut() {
        let mut fields = HeaderMap::new();
        for bad in ["/bota?b/", "/bota#b/", "/bota b/", "/bota\\b/", "/bota/b/"] {
            let at = at_path("/bot{key}/");
            let result = credential(&mut head(&mut fields, "/x", None), &write(at, bad));
            assert_eq!(result, Err(WriteError::Unsendable), "{bad:?}");
        }
    }

    #[test]
    fn a_placeholder_left_in_the_path_is_refused() {
        let placeholder = Placeholder::issue("", None);
        let mut fields = HeaderMap::new();
        let path = format!("/v1/{}", placeholder.as_str());
        let at = Location::Header(HeaderName::from_static("x-key"));
        let result = credential(&mut head(&mut fields, &path, None), &write(at, "k"));
        assert_eq!(result, Err(WriteError::PlaceholderInPath));
    }

    #[test]
    fn the_path_prefix_replaces_a_placeholder_and_is_added_where_it_is_missing() {
        let placeholder = Placeholder::issue("1234567890:", None);
        let held = placeholder.as_str();
        let cases = [
            (format!("/bot{held}/getMe"), "/bot1:k/", "/bot1:k/getMe"),
            ("/getMe".into(), "/bot1:k/", "/bot1:k/getMe"),
            ("/bot1:k/getMe".into(), "/bot1:k/", "/bot1:k/getMe"),
            ("/bot2:other/getMe".into(), "/bot1:k/", "/bot1:k/bot2:other/getMe"),
            (format!("/file/bot{held}/a/b"), "/file/bot1:k/", "/file/bot1:k/a/b"),
            ("/".into(), "/bot1:k/", "/bot1:k/"),
        ];
        for (path, prefix, expected) in cases {
            let mut fields = HeaderMap::new();
            let mut head = head(&mut fields, &path, None);
            let at = at_path(&prefix.replace("1:k", "{key}"));
            credential(&mut head, &write(at, prefix)).unwrap();
            assert_eq!(head.path, expected, "{path}");
        }
    }

    #[test]
    fn a_query_string_credential_is_appended_unchanged_or_refused() {
        let mut fields = HeaderMap::new();
        for bad in ["a=1#x", "a=1 b", "a=\"", "a={b}"] {
            let mut head = head(&mut fields, "/x", Some("q=1"));
            let result = credential(&mut head, &write(Location::QueryString, bad));
            assert_eq!(result, Err(WriteError::Unsendable), "{bad:?}");
        }
        for (query, expected) in
            [(Some("q=1"), "q=1&sv=1&sig=a%2Fb%3D"), (None, "sv=1&sig=a%2Fb%3D")]
        {
            let mut head = head(&mut fields, "/x", query);
            credential(&mut head, &write(Location::QueryString, "?sv=1&sig=a%2Fb%3D")).unwrap();
            assert_eq!(head.query.as_deref(), Some(expected));
        }
    }

    #[test]
    fn only_long_parameters_of_a_query_string_are_secret_by_themselves() {
        let of = |at: Location, value: &str| {
            let secrets = secret_parameters(&write(at, value)[0]);
            secrets.iter().map(|it| it.expose_text().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let signed =
            "?sv=2022-11-02&se=2030-01-01T00%3A00%3A00Z&sig=Zk9%2Bab%2FcdEFghIJklMNopQR%3D%3D";
        assert_eq!(of(Location::QueryString, signed), ["Zk9+ab/cdEFghIJklMNopQR"]);
        let plus = of(Location::QueryString, "sig=Zk9+ab/cdEFghIJklMNopQR==");
        assert_eq!(plus, ["Zk9 ab/cdEFghIJklMNopQR", "Zk9+ab/cdEFghIJklMNopQR"]);
        assert!(of(Location::Query("sig".into()), signed).is_empty());
    }

    #[test]
    fn query_and_cookie_values_are_encoded_for_their_place() {
        let mut fields = HeaderMap::new();
        fields.append("cookie", HeaderValue::from_static("a=1"));
        fields.append("cookie", HeaderValue::from_bytes("b=é".as_bytes()).unwrap());
        let mut head = head(&mut fields, "/x", Some("q=1"));
        credential(&mut head, &write(Location::Query("key".into()), "a&b=c d")).unwrap();
        credential(&mut head, &write(Location::Cookie("sid".into()), "xyz")).unwrap();
        assert_eq!(head.query.as_deref(), Some("q=1&key=a%26b%3Dc%20d"));
        let cookies: Vec<_> = fields.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=é; sid=xyz"]);
        assert!(fields["cookie"].is_sensitive());
    }
}
