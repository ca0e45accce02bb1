//! Writes a credential into a request's body. The body is read whole, within limits, and sent with its new length; a
//! longer form with files is written while it is sent. Each attempt uses the credential that is current then.

use http::header::{self, HeaderName, HeaderValue};
use http_body::Body;

use super::form_injection;
use super::signing::Signing;
use crate::gateway::Gateway;
use crate::refusal::{Refusal, Shortage};
use crate::request::held_body;
use crate::request::inbound::Inbound;
use keyward_rules::inject::body::{BodyError, BodyKind, BodyPath};
use keyward_rules::inject::credential::Write;
use keyward_rules::inject::placeholder::scan;
use keyward_rules::inject::placement::Location;
use keyward_rules::inject::write::{self, WriteError};

/// Fields that are wrong when the body has changed (RFC 1864, RFC 9530), and `Trailer`, because the new body has
/// no trailers.
static OUTDATED: [HeaderName; 5] = [
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
/// body at once. A body that `signing` covers is read whole in any case.
///
/// # Errors
/// When there is no body, or it cannot hold the credential, is too large or never ends.
pub async fn write(
    gateway: &Gateway,
    inbound: &mut Inbound,
    writes: &[Write],
    signing: Option<&Signing<'_>>,
) -> Result<(), Refusal> {
    let is_signed = signing.is_some_and(|signing| signing.needs_body(inbound));
    match kind(inbound)? {
        BodyKind::Multipart(delimiter) if !is_signed => {
            let rewriter = write::form(&delimiter, writes)?;
            form_injection::write(gateway, inbound, rewriter).await?;
        }
        kind => write_whole(gateway, inbound, writes, kind).await?,
    }
    let fields = &mut inbound.head.headers;
    OUTDATED.iter().for_each(|name| drop(fields.remove(name)));
    // The agent was asked for the body already.
    fields.remove(header::EXPECT);
    Ok(())
}

/// Removes what programs repeat of the credential from a body with a placeholder. A body that is too long to be held, or of
/// unknown length, passes unchanged.
///
/// # Errors
/// When it never ends, or there is no memory for it.
pub async fn remove_repeats(
    gateway: &Gateway,
    inbound: &mut Inbound,
    repeats: &[BodyPath],
) -> Result<(), Refusal> {
    let Ok(kind) = BodyKind::of(&inbound.head.headers) else { return Ok(()) };
    let bytes_max = gateway.limits.written_body_bytes_max as u64;
    let bytes = inbound.body.size_hint().exact();
    if !bytes.is_some_and(|bytes| (1..=bytes_max).contains(&bytes)) {
        return Ok(());
    }
    let held = held_body::hold(gateway, inbound).await?;
    let shorter = if scan(&held).is_empty() { None } else { kind.without(&held, repeats) };
    drop(held);
    if let Some(shorter) = shorter {
        held_body::replace(gateway, inbound, shorter)?;
        let fields = &mut inbound.head.headers;
        OUTDATED.iter().for_each(|name| drop(fields.remove(name)));
    }
    Ok(())
}

async fn write_whole(
    gateway: &Gateway,
    inbound: &mut Inbound,
    writes: &[Write],
    kind: BodyKind,
) -> Result<(), Refusal> {
    let (sent, mut share) = held_body::read(gateway, &mut inbound.body).await?;
    let bytes = write::body(kind, &sent, writes)?;
    drop(sent);
    // Both were there for a moment, in which nothing waits: it is one body on each core. Beyond its
    // limit a body is longer by the credential alone.
    if !share.resize(bytes.capacity().min(gateway.limits.written_body_bytes_max)) {
        return Err(Refusal::Overloaded(Shortage::Bodies));
    }
    let length = HeaderValue::from(bytes.len());
    inbound.head.headers.insert(header::CONTENT_LENGTH, length);
    inbound.put_body(held_body::owned(bytes, share));
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
