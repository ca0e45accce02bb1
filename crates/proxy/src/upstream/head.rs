//! Prepares the head of a request for the upstream. The order of its steps is a security property: strip, clear,
//! write the credential, set the authority from the permit.

use std::borrow::Cow;

use http::header::{self, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use crate::limits::budget::Budget;
use crate::refusal::Refusal;
use keyward_base::host::Target;
use keyward_base::id::AgentId;
use keyward_base::settings::Settings;
use keyward_rules::inject::credential::{Clears, Credential, Write};
use keyward_rules::inject::scrub::range::AskedPart;
use keyward_rules::inject::scrub::request_fields;
use keyward_rules::inject::strip;
use keyward_rules::inject::write::{self, RequestHead};

/// Methods whose answers may be a part. `Range` is defined for GET alone (RFC 9110 §14.2), but some services send files on
/// POST too (<https://www.dropbox.com/developers/documentation/http/documentation#files-download>).
const READS: [Method; 2] = [Method::GET, Method::POST];

/// The changes to the head of a request.
pub struct HeadChanges<'a> {
    /// The target of the permit.
    pub target: &'a Target,
    pub credential: Option<&'a Credential>,
    /// The writes of the credential for this target and path.
    pub writes: &'a [Write],
    pub settings: Option<&'a Settings>,
    /// The protocols that the request may switch to.
    pub upgrade: Option<&'a HeaderValue>,
    /// The memory budget for decoding the answer.
    pub decoders: &'a Budget,
    /// The agent whose share of it is charged.
    pub agent: Option<&'a AgentId>,
}

/// The result of the changes, apart from the fields.
pub struct ChangedHead {
    /// The URI to send.
    pub uri: Uri,
    /// The part that it asks for.
    pub part: AskedPart,
}

impl HeadChanges<'_> {
    /// Changes the fields.
    ///
    /// # Errors
    /// When the credential does not fit the request.
    pub fn apply(&self, head: &mut Parts) -> Result<ChangedHead, Refusal> {
        let Parts { method, headers: fields, uri, .. } = head;
        // 1. Hop-by-hop fields. `TE: trailers` is set again later, because we pass trailers.
        let trailers = wants_trailers(fields);
        strip::hop_by_hop(fields);
        strip::steering(fields);
        if let Some(settings) = self.settings {
            write_fields(fields, settings);
        }
        // 2. Values in the places of the credential, and every placeholder.
        let query = strip_query(uri.query(), self.credential);
        let mut part = AskedPart::Whole;
        if let Some(credential) = self.credential {
            strip::cleared(fields, &credential.clears);
            if credential.may_be_echoed() {
                let margin = READS.contains(method).then(|| credential.needles.longest() as u64);
                let has_room = |bytes| self.decoders.has_room(self.agent, bytes);
                part = request_fields::restrict(fields, margin, has_room);
            }
            if credential.renews.is_some_and(|renews| renews.expired_status.is_some()) {
                // The body of the answer is searched for an error that means 401.
                fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
        }
        strip::placeholder_fields(fields);
        // 3. The credential.
        let mut head = RequestHead { fields, path: path_of(uri).into(), query };
        write::credential(&mut head, self.writes)?;
        let uri = origin_form(uri, &head.path, head.query.as_deref())?;
        // 4. Authority.
        set_host(fields, self.target)?;
        if let Some(protocols) = self.upgrade {
            fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            fields.insert(header::UPGRADE, protocols.clone());
        } else if trailers {
            fields.insert(header::TE, HeaderValue::from_static("trailers"));
            fields.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        }
        Ok(ChangedHead { uri, part })
    }
}

/// Sets one `Host`, the target's. An equal `Host` from the agent stays as it is.
fn set_host(fields: &mut HeaderMap, target: &Target) -> Result<(), Refusal> {
    let mut sent = fields.get_all(header::HOST).iter();
    if let (Some(host), None) = (sent.next(), sent.next())
        && target.equals_authority(host.as_bytes())
    {
        return Ok(());
    }
    let host = HeaderValue::try_from(target.authority())
        .map_err(|_| Refusal::Internal("a target is no field value"))?;
    fields.insert(header::HOST, host);
    Ok(())
}

fn path_of(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}

fn strip_query<'a>(
    query: Option<&'a str>,
    credential: Option<&Credential>,
) -> Option<Cow<'a, str>> {
    let query = query?;
    let left = match credential {
        Some(credential) => strip::query(query, &credential.clears),
        None => strip::query(query, &Clears::default()),
    };
    match left {
        None => Some(query.into()),
        Some(left) if left.is_empty() => None,
        Some(left) => Some(left.into()),
    }
}

fn wants_trailers(fields: &HeaderMap) -> bool {
    let tokens = fields.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    tokens.flat_map(|value| value.split(',')).any(|token| token.trim() == "trailers")
}

/// `path?query` in origin form, without scheme and authority. Returns `sent` if it is equal.
fn origin_form(sent: &Uri, path: &str, query: Option<&str>) -> Result<Uri, Refusal> {
    if let Some(same) = sent.path_and_query().map(|same| Uri::from(same.clone()))
        && same.path() == path
        && same.query() == query
        && has_written_path(&same)
    {
        return Ok(same);
    }
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path = PathAndQuery::try_from(text)
        .map_err(|_| Refusal::BadRequest("the request target holds a byte that no URI has"))?;
    Ok(Uri::from(path))
}

/// Whether the path is written out. `Uri` reads `/` where the text begins with the query (`https://host?query`, and `:path` over
/// HTTP/2), or is empty (`https://host#fragment`), and sends the text.
fn has_written_path(uri: &Uri) -> bool {
    let is_written = |text: &PathAndQuery| text.as_str().starts_with(['/', '*']);
    !uri.path().is_empty() && uri.path_and_query().is_some_and(is_written)
}

/// Writes the fields of the settings in place of the agent's. Must run before the credential is written, so that
/// fields which the credential clears are cleared here too.
fn write_fields(fields: &mut HeaderMap, settings: &Settings) {
    if let Some(agent) = &settings.user_agent {
        strip::replace(fields, &header::USER_AGENT, agent.value());
    }
    for (name, value) in settings.headers.iter() {
        strip::replace(fields, name, value);
    }
}
