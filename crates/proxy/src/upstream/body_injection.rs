//! Writes a credential into a request's body. The body is read whole, within limits, and sent with its new length.
//! Nothing is sent before, so each attempt uses the credential that is current then.

use bytes::{BufMut, Bytes};
use http::header::{self, HeaderName, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::limits::budget::Share;
use crate::refusal::{Refusal, Shortage};
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

/// A body that was read whole. Wiped when dropped, because it may contain a credential.
struct InjectedBody {
    bytes: Zeroizing<Vec<u8>>,
    /// Its share of the memory budget.
    _share: Share,
}

impl AsRef<[u8]> for InjectedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

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
    let (sent, mut share) = read(gateway, &mut inbound.body).await?;
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
    inbound.body = RequestBody::own(Bytes::from_owner(InjectedBody { bytes, _share: share }));
    Ok(())
}

/// Reads the body and keeps it, so that it can be signed before it is sent.
///
/// # Errors
/// When it is too large or never ends.
pub async fn hold(gateway: &Gateway, inbound: &mut Inbound) -> Result<Bytes, Refusal> {
    if inbound.body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let (sent, share) = read(gateway, &mut inbound.body).await?;
    let fields = &mut inbound.head.headers;
    fields.remove(header::TRAILER);
    fields.remove(header::EXPECT);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(sent.len()));
    let held = Bytes::from_owner(InjectedBody { bytes: Zeroizing::new(sent), _share: share });
    inbound.body = RequestBody::own(held.clone());
    Ok(held)
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

/// Reads the body into one buffer. Memory is counted before it is allocated.
async fn read(gateway: &Gateway, from: &mut RequestBody) -> Result<(Vec<u8>, Share), Refusal> {
    let bytes_max = gateway.limits.written_body_bytes_max;
    let declared = from.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Refusal::TooLarge { bytes: bytes_max });
    }
    let (mut sent, mut share) = (Vec::new(), gateway.injected_bodies.share(from.owner()));
    grow(&mut sent, declared.unwrap_or(0), &mut share)?;
    // Taken, so that it is dropped when it was read: then it can be sent again.
    let mut body = std::mem::replace(from, RequestBody::empty());
    body.do_not_wait();
    body.drop_trailers();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::AgentGone)?.into_data() else { continue };
        let bytes = sent.len() + data.len();
        if bytes > bytes_max {
            return Err(Refusal::TooLarge { bytes: bytes_max });
        }
        if bytes > sent.capacity() {
            let capacity = bytes.max(2 * sent.capacity()).min(bytes_max);
            grow(&mut sent, capacity, &mut share)?;
        }
        sent.put(data);
    }
    Ok((sent, share))
}

fn grow(sent: &mut Vec<u8>, capacity: usize, share: &mut Share) -> Result<(), Refusal> {
    if !share.resize(capacity) {
        return Err(Refusal::Overloaded(Shortage::Bodies));
    }
    sent.reserve_exact(capacity - sent.len());
    Ok(())
}
