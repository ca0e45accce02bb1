//! The beginning of a push by git: the list of references is read and kept, the pack after it passes as it comes.

use bytes::{BufMut, Bytes};
use http::header;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::held_body::owned;
use super::inbound::Inbound;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::refusal::{Refusal, Shortage};
use keyward_rules::git_push::{PushReader, PushUnclear, PushedRefs};

/// The most bytes of a refused push that are read and dropped.
const DROPPED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Reads the rest of a refused push and drops it: over HTTP/2, git gets the answer only after it has sent all.
pub async fn drop_rest(inbound: &mut Inbound) {
    let mut body = std::mem::replace(&mut inbound.body, RequestBody::empty());
    let mut left = DROPPED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}

/// Reads the list of references. The body that is sent begins with the bytes that were read.
///
/// # Errors
/// When there is no memory, or the agent breaks off.
pub async fn read(
    gateway: &Gateway,
    inbound: &mut Inbound,
) -> Result<Result<PushedRefs, PushUnclear>, Refusal> {
    if inbound.head.headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(Err(PushUnclear::Coded));
    }
    let mut share = gateway.injected_bodies.share(inbound.body.owner());
    // An agent that sent `Expect: 100-continue` is asked for the body at once.
    inbound.head.headers.remove(header::EXPECT);
    let mut body = std::mem::replace(&mut inbound.body, RequestBody::empty());
    body.do_not_wait();
    let (mut reader, mut sent) = (PushReader::default(), Vec::new());
    let refs = loop {
        let Some(frame) = body.frame().await else { break Err(PushUnclear::Cut) };
        let Ok(data) = frame.map_err(|_| Refusal::AgentGone)?.into_data() else { continue };
        if !share.resize(sent.len() + data.len()) {
            return Err(Refusal::Overloaded(Shortage::Bodies));
        }
        sent.put(data.clone());
        match reader.push(&data) {
            Ok(false) => {}
            Ok(true) => break Ok(reader.finish()),
            Err(why) => break Err(why),
        }
    };
    let begun: Option<Bytes> = (!sent.is_empty()).then(|| owned(Zeroizing::new(sent), share));
    inbound.body = body.prepend(begun.into_iter().collect());
    Ok(refs)
}
