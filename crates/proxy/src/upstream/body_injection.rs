//! Writes a credential into a request's body. The body is read whole, within limits, and sent with its new length.
//! Nothing is sent before, so each attempt uses the credential that is current then.

use http::header::{self, HeaderName, HeaderValue};
use http_body::Body;

use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::refusal::{Refusal, Shortage};
use crate::request::held_body;
use crate::request::inbound::Inbound;
use keyward_rules::inject::body::{BodyError, BodyKind};
use keyward_rules::inject::credential::Write;
use keyward_rules::inject::placement::Location;
use keyward_rules::inject::write::{self, WriteError};

/// Fields that are wrong after the body has changed (RFC 1864, RFC 9530), and `Trailer`, because the new body has
/// no trailers.
static UNTRUE: [HeaderName; 5] = [
    header::TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// Whether any of `writes` changes the body.
pub fn is_wanted(writes: &[Write]) -> bool {
    writes.iter().any(|write| matches!(write.at, Location::Body(_)))
}

/// Reads the body and writes the credential into it. An agent that sent `Expect: 100-continue` is asked for the
/// body at once.
///
/// # Errors
/// When there is no body, or it cannot hold the credential, is too large or never ends.
pub async fn write(
    gateway: &Gateway,
    inbound: &mut Inbound,
    writes: &[Write],
) -> Result<(), Refusal> {
    let kind = kind(inbound)?;
    let (sent, mut share) = held_body::read(gateway, &mut inbound.body).await?;
    let bytes = write::body(kind, &sent, writes)?;
    drop(sent);
    // Both were there for a moment, in which nothing waits: it is one body on each core. Beyond its
    // limit a body is longer by the credential alone.
    if !share.resize(bytes.capacity().min(gateway.limits.written_body_bytes_max)) {
        return Err(Refusal::Overloaded(Shortage::Bodies));
    }
    let fields = &mut inbound.head.headers;
    UNTRUE.iter().for_each(|name| drop(fields.remove(name)));
    // The agent was told to go on, and the upstream gets all of it at once.
    fields.remove(header::EXPECT);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    inbound.body = RequestBody::own(held_body::owned(bytes, share));
    Ok(())
}

/// The format of the body. A request with an unsafe method and no body counts as an empty body.
fn kind(inbound: &Inbound) -> Result<BodyKind, WriteError> {
    let fields = &inbound.head.headers;
    let has_none = inbound.body.is_end_stream()
        && (inbound.head.method.is_safe() || !fields.contains_key(header::CONTENT_TYPE));
    match has_none {
        true => Err(BodyError::None.into()),
        false => Ok(BodyKind::of(fields)?),
    }
}
