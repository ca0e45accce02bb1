//! Bodies that a decision depends on: the references of a push, GraphQL operations, and requests for a token.
//!
//! Of a push by git, the list of references is read and kept; the pack after it passes as it comes.
//!
//! Some libraries request a token with the placeholder of the credentials file that the environment of `keyward run` and
//! `keyward env` has: as a refresh token (RFC 6749 §6), or as the issuer of an assertion (RFC 7523 §2.1). Keyward answers them
//! itself: no upstream knows the placeholder.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes};
use http::{Method, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::held_body::{self, hold, owned};
use super::inbound::Inbound;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::refusal::{Refusal, Shortage};
use keyward_base::host::Scheme;
use keyward_rules::git_push::{PushReader, PushUnclear, PushedRefs, RequestedPush};
use keyward_rules::graphql::Operations;
use keyward_rules::inject::placeholder::{OF_ANY_CONNECTION, token_endpoints};
use keyward_rules::policy::PolicyQuery;

impl Inbound {
    /// Reads what the decision depends on: the references of a push, or the GraphQL operations of another body. The body
    /// that is sent is the one that was judged. `false`: they are known.
    ///
    /// # Errors
    /// When the body is too large or never ends.
    pub async fn read_body(&mut self, gateway: &Gateway) -> Result<bool, Refusal> {
        // Not shared yet: streams depend on the query of a permit, and this one has none.
        if RequestedPush::is_push(&self.query.method, &self.query.path) {
            if self.query.push.is_some() {
                return Ok(false);
            }
            let refs = read_pushed_refs(gateway, self).await?;
            let mut query = PolicyQuery::clone(&self.query);
            query.push = Some(refs);
            self.query = Arc::new(query);
            return Ok(true);
        }
        if self.query.operations.is_some() {
            return Ok(false);
        }
        let body = hold(gateway, self).await?;
        let fields = &self.head.headers;
        let operations = Operations::read(fields, self.head.uri.query(), &body);
        let mut query = PolicyQuery::clone(&self.query);
        query.operations = Some(operations);
        self.query = Arc::new(query);
        Ok(true)
    }
}

/// The most bytes of a body that are read and dropped.
const DROPPED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Reads the rest of the body and drops it, for a client that gets the answer only after it has sent all, such as git over
/// HTTP/2.
pub async fn drop_rest(inbound: &mut Inbound) {
    let mut body = std::mem::replace(&mut inbound.body, RequestBody::empty());
    body.do_not_wait();
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
async fn read_pushed_refs(
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

/// More than any such form has.
const TOKEN_REQUEST_BYTES_MAX: u64 = 4_096;

/// Whether the body must be read to know.
pub fn may_request_token(inbound: &Inbound) -> bool {
    let (head, target) = (&inbound.head, inbound.target());
    let length = || head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok();
    let name = target.host().name();
    head.method == Method::POST
        && target.scheme() == Scheme::Https
        && token_endpoints().any(|(host, path)| name == Some(host) && head.uri.path() == path)
        && length().is_some_and(|bytes| bytes <= TOKEN_REQUEST_BYTES_MAX)
}

/// Reads the body, and keeps it for the upstream.
///
/// # Errors
/// [`Refusal::PlaceholderToken`] if it has the placeholder, and as [`held_body::hold`].
pub async fn check_token_request(gateway: &Gateway, inbound: &mut Inbound) -> Result<(), Refusal> {
    let body = held_body::hold(gateway, inbound).await?;
    match has_placeholder(&body) {
        true => Err(Refusal::PlaceholderToken),
        false => Ok(()),
    }
}

/// Both values have only unreserved characters, so that they are the same in every encoding of a form.
fn has_placeholder(form: &[u8]) -> bool {
    form.split(|byte| *byte == b'&').any(|pair| {
        pair.strip_prefix(b"refresh_token=") == Some(OF_ANY_CONNECTION.as_bytes())
            || pair.strip_prefix(b"assertion=").and_then(issuer).is_some_and(|name| {
                // An address, whose domain says nothing.
                name.split('@').next() == Some(OF_ANY_CONNECTION)
            })
    })
}

/// The claim of an assertion that is read.
#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

/// Who signed an assertion, as it says. Nothing is verified: the answer has nothing but the placeholder.
fn issuer(assertion: &[u8]) -> Option<String> {
    let claims = assertion.split(|byte| *byte == b'.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<IssuerClaim>(&claims).ok().map(|claims| claims.iss)
}
