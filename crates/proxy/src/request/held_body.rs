//! Bodies that are read whole, within limits: to judge or to sign them, or to write a credential into them.

use bytes::{BufMut, Bytes};
use http::header::{self, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::inbound::Inbound;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::limits::budget::BudgetShare;
use crate::refusal::{Refusal, Shortage};

/// A body that was read whole. Wiped when dropped, because it may contain a credential.
struct HeldBody {
    bytes: Zeroizing<Vec<u8>>,
    /// Its share of the memory budget.
    _share: BudgetShare,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that are wiped when they are dropped, with their share of the memory budget.
pub fn owned(bytes: Zeroizing<Vec<u8>>, share: BudgetShare) -> Bytes {
    Bytes::from_owner(HeldBody { bytes, _share: share })
}

/// Reads the body and keeps it, so that it can be judged or signed before it is sent.
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
    let held = owned(Zeroizing::new(sent), share);
    inbound.put_body(held.clone());
    Ok(held)
}

/// Sends these bytes in place of the body, which was read.
///
/// # Errors
/// When there is no memory for them.
pub fn replace(
    gateway: &Gateway,
    inbound: &mut Inbound,
    bytes: Zeroizing<Vec<u8>>,
) -> Result<Bytes, Refusal> {
    let mut share = gateway.injected_bodies.share(inbound.body.owner());
    if !share.resize(bytes.capacity()) {
        return Err(Refusal::Overloaded(Shortage::Bodies));
    }
    inbound.head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let held = owned(bytes, share);
    inbound.put_body(held.clone());
    Ok(held)
}

/// Reads the body into one buffer. Memory is counted before it is allocated. An agent that sent `Expect: 100-continue`
/// is asked for the body at once.
///
/// # Errors
/// When it is too large or never ends.
pub async fn read(
    gateway: &Gateway,
    from: &mut RequestBody,
) -> Result<(Vec<u8>, BudgetShare), Refusal> {
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

fn grow(sent: &mut Vec<u8>, capacity: usize, share: &mut BudgetShare) -> Result<(), Refusal> {
    if !share.resize(capacity) {
        return Err(Refusal::Overloaded(Shortage::Bodies));
    }
    sent.reserve_exact(capacity - sent.len());
    Ok(())
}
