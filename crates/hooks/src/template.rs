//! [`SignedTemplate`]: the bytes that a service signs, as a template such as `{time}.{body}`.

use std::borrow::Cow;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER_PERMISSIVE;
use http::header::CONTENT_TYPE;
use percent_encoding::percent_decode;
use serde_json::Value;

use crate::Rejection;
use crate::key::is_equal;
use crate::request::{HookRequest, scalar};

/// What HubSpot decodes in a URL before it signs it.
const HUBSPOT_DECODED: &[u8] = b":/?@!$'()*,;";

/// The bytes that a scheme signs.
#[derive(Debug, Default)]
pub(crate) struct SignedTemplate(Vec<TemplatePiece>);

#[derive(Debug, Eq, PartialEq)]
pub(crate) enum TemplatePiece {
    Text(String),
    Body,
    Time,
    Id,
    Url,
    /// The URL with some characters decoded, as HubSpot signs it.
    DecodedUrl,
    Method,
    /// The parameters of a form, as Twilio signs them.
    Form,
    /// A pointer in the item of a list.
    Field(String),
}

/// What fills a template.
pub(crate) struct TemplateValues<'v> {
    pub(crate) request: &'v HookRequest<'v>,
    pub(crate) item: Option<&'v Value>,
    pub(crate) url: &'v str,
    pub(crate) time: Option<&'v str>,
    pub(crate) id: Option<&'v str>,
}

impl SignedTemplate {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = vec![];
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, after) = rest.split_once('{').unwrap_or((rest, ""));
            if !plain.is_empty() {
                pieces.push(TemplatePiece::Text(plain.to_owned()));
            }
            if plain.len() == rest.len() {
                break;
            }
            let (name, after) = after.split_once('}').ok_or("a `{` is not closed")?;
            pieces.push(match name {
                "body" => TemplatePiece::Body,
                "time" => TemplatePiece::Time,
                "id" => TemplatePiece::Id,
                "url" => TemplatePiece::Url,
                "decoded_url" => TemplatePiece::DecodedUrl,
                "method" => TemplatePiece::Method,
                "form" => TemplatePiece::Form,
                pointer if pointer.starts_with('/') => TemplatePiece::Field(pointer.to_owned()),
                other => return Err(format!("`{{{other}}}` is unknown")),
            });
            rest = after;
        }
        Ok(Self(pieces))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, piece: &TemplatePiece) -> bool {
        self.0.contains(piece)
    }

    /// The URLs that the service may have signed. Twilio's libraries try the default port too, because Twilio adds or
    /// removes it: <https://www.twilio.com/docs/usage/webhooks/webhooks-security>.
    pub(crate) fn urls<'u>(&self, url: &'u str) -> Vec<Cow<'u, str>> {
        let mut urls = vec![Cow::Borrowed(url)];
        if self.has(&TemplatePiece::Form) {
            urls.extend(other_port(url).map(Cow::Owned));
        }
        urls
    }

    pub(crate) fn fill(&self, values: &TemplateValues<'_>) -> Result<Vec<u8>, Rejection> {
        let incoming = values.request.incoming;
        let mut filled = vec![];
        for (at, piece) in self.0.iter().enumerate() {
            match piece {
                TemplatePiece::Text(text) => filled.extend(text.bytes()),
                TemplatePiece::Body => filled.extend(incoming.body),
                TemplatePiece::Time => {
                    filled.extend(values.time.ok_or(Rejection::TimeMalformed)?.bytes())
                }
                TemplatePiece::Id => {
                    let id = values.id.ok_or(Rejection::HeaderMissing)?;
                    // Else a part of the id could be read as the time, and the time as a part of the body.
                    if matches!(self.0.get(at + 1), Some(TemplatePiece::Text(mark)) if id.contains(mark))
                    {
                        return Err(Rejection::HeaderStrange);
                    }
                    filled.extend(id.bytes());
                }
                TemplatePiece::Url => filled.extend(values.url.bytes()),
                TemplatePiece::DecodedUrl => filled.extend(hubspot_url(values.url)),
                TemplatePiece::Method => filled.extend(incoming.method.as_str().bytes()),
                TemplatePiece::Form => filled.extend(form(values.request)?.bytes()),
                TemplatePiece::Field(pointer) => {
                    let value = values.item.and_then(|item| item.pointer(pointer)).and_then(scalar);
                    filled.extend(value.unwrap_or_default().bytes());
                }
            }
        }
        Ok(filled)
    }
}

/// The URL with the default port of its scheme, or without it.
fn other_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.strip_suffix(port) {
        Some(host) => Some(format!("{scheme}://{host}{path}")),
        None if authority.ends_with(']') || !authority.contains(':') => {
            Some(format!("{scheme}://{authority}{port}{path}"))
        }
        None => None,
    }
}

/// <https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation>
fn hubspot_url(url: &str) -> Vec<u8> {
    let mut decoded = vec![];
    let mut rest = url.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => HEXLOWER_PERMISSIVE.decode(&[*high, *low]).ok(),
            _ => None,
        };
        match byte.as_deref() {
            Some([byte]) if HUBSPOT_DECODED.contains(byte) => {
                decoded.push(*byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// What Twilio signs of a body: the parameters of a form, sorted by name. Of other bodies it puts a hash into the URL,
/// which it signs; a body without that hash is not signed.
/// <https://www.twilio.com/docs/usage/webhooks/webhooks-security>
fn form(request: &HookRequest<'_>) -> Result<String, Rejection> {
    let body = request.incoming.body;
    if let Some(hash) = request.query("bodySHA256") {
        let hash = HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).unwrap_or_default();
        return match is_equal(digest::digest(&digest::SHA256, body).as_ref(), &hash) {
            true => Ok(String::new()),
            false => Err(Rejection::SignatureWrong),
        };
    }
    if body.is_empty() {
        return Ok(String::new());
    }
    let kind = request.header(&CONTENT_TYPE)?.unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_form = kind.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    // Different bytes that are not UTF-8 would be decoded to the same replacement character.
    if !is_form || percent_decode(body).decode_utf8().is_err() {
        return Err(Rejection::BodyStrange);
    }
    let mut pairs: Vec<_> = form_urlencoded::parse(body).collect();
    pairs.sort();
    pairs.dedup();
    Ok(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_with_an_unknown_or_unclosed_name_is_refused() {
        for text in ["{bdy}", "{time", "v0:{}", "{body}{"] {
            assert!(SignedTemplate::parse(text).is_err(), "{text}");
        }
        let pieces = SignedTemplate::parse("v0:{time}:{body}").unwrap().0;
        let text = |text: &str| TemplatePiece::Text(text.to_owned());
        assert_eq!(pieces, [text("v0:"), TemplatePiece::Time, text(":"), TemplatePiece::Body]);
        assert_eq!(SignedTemplate::parse("").unwrap().0, []);
    }

    #[test]
    fn the_default_port_is_added_or_removed_and_no_other() {
        for (url, other) in [
            ("https://a.example/x?y=1", Some("https://a.example:443/x?y=1")),
            ("https://a.example:443/x", Some("https://a.example/x")),
            ("http://a.example?x", Some("http://a.example:80?x")),
            ("https://[::1]/x", Some("https://[::1]:443/x")),
            ("https://a.example:8443/x", None),
            ("/x", None),
        ] {
            assert_eq!(other_port(url).as_deref(), other, "{url}");
        }
    }

    #[test]
    fn only_the_characters_that_hubspot_decodes_are_decoded_and_only_once() {
        let decoded = hubspot_url("https://a.example/x?u=https%3a%2F%2Fb%20c%2525%3A%");
        assert_eq!(decoded, b"https://a.example/x?u=https://b%20c%2525:%");
    }
}
