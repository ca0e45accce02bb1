//! Bodies that a credential goes into: read whole, within bounds, written, and sent with their new
//! length. Nothing of the request has gone out before, so that each attempt has the credential of its
//! time.

use bytes::{BufMut, Bytes};
use http::header::{self, HeaderName, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::Gateway;
use super::body::RequestBody;
use super::budget::Share;
use super::error::Refusal;
use super::inbound::Inbound;
use crate::inject::body::{BodyError, BodyKind};
use crate::inject::credential::Write;
use crate::inject::placement::At;
use crate::inject::write::{self, WriteError};

/// What is said of the body as the agent sent it (RFC 1864, RFC 9530), and of trailers, which no body of
/// ours has.
static UNTRUE: [HeaderName; 5] = [
    header::TRAILER,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// A body with a credential in it: wiped when dropped.
struct Written {
    bytes: Zeroizing<Vec<u8>>,
    /// What it takes of what all may take.
    _share: Share,
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether any of `writes` goes into the body.
pub fn is_wanted(writes: &[Write]) -> bool {
    writes.iter().any(|write| matches!(write.at, At::Body(_)))
}

/// Reads the body, which is asked for at once where the agent waits for that, and writes into it.
///
/// # Errors
/// When there is none, or none that can be written into, or it is too large, or never ends.
pub async fn write(
    gateway: &Gateway,
    inbound: &mut Inbound,
    writes: &[Write],
) -> Result<(), Refusal> {
    let kind = kind(inbound)?;
    let (sent, share) = read(gateway, &mut inbound.body).await?;
    let bytes = write::body(kind, &sent, writes)?;
    let fields = &mut inbound.head.headers;
    UNTRUE.iter().for_each(|name| drop(fields.remove(name)));
    // The agent was told to go on, and the upstream gets all of it at once.
    fields.remove(header::EXPECT);
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    inbound.body = RequestBody::own(Bytes::from_owner(Written { bytes, _share: share }));
    Ok(())
}

/// What the body is. Without one, a request that changes something may have an empty one.
fn kind(inbound: &Inbound) -> Result<BodyKind, WriteError> {
    let fields = &inbound.head.headers;
    let has_none = inbound.body.is_end_stream()
        && (inbound.head.method.is_safe() || !fields.contains_key(header::CONTENT_TYPE));
    match has_none {
        true => Err(BodyError::None.into()),
        false => Ok(BodyKind::of(fields)?),
    }
}

async fn read(gateway: &Gateway, from: &mut RequestBody) -> Result<(Vec<u8>, Share), Refusal> {
    let bytes_max = gateway.limits.written_body_bytes_max;
    let declared = from.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) {
        return Err(Refusal::TooLarge { bytes: bytes_max });
    }
    let (mut sent, mut share) =
        (Vec::with_capacity(declared.unwrap_or(0)), gateway.written.share());
    // Taken, so that it is dropped when it was read: then it can be sent again.
    let mut body = std::mem::replace(from, RequestBody::empty());
    body.goes_now();
    body.keeps_trailers();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::AgentGone)?.into_data() else { continue };
        if sent.len() + data.len() > bytes_max {
            return Err(Refusal::TooLarge { bytes: bytes_max });
        }
        if !share.take(data.len()) {
            return Err(Refusal::Overloaded);
        }
        sent.put(data);
    }
    Ok((sent, share))
}
