//! Writes a credential into a request's body. The body is read whole, within limits, and sent with its new length; a
//! longer form with files is written while it is sent. Each attempt uses the credential that is current then.
//!
//! A `multipart/form-data` body within the limits of [`held_body`] is sent whole, with its new length; a longer one while it
//! arrives. Its length is still known if the credential's place is in the beginning that is held.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use super::signing::Signing;
use crate::body::request_body::RequestBody;
use crate::body::transforms::FormUpload;
use crate::gateway::Gateway;
use crate::limits::budget::BudgetShare;
use crate::refusal::{Refusal, Shortage};
use crate::request::held_body;
use crate::request::inbound::Inbound;
use keyward_rules::inject::body::{BodyError, BodyKind, BodyPath};
use keyward_rules::inject::credential::Write;
use keyward_rules::inject::multipart::rewriter::FormRewriter;
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
            write_form(gateway, inbound, rewriter).await?;
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

/// The beginning of a form.
struct Beginning {
    /// How much of it the agent has sent.
    received: usize,
    /// The length of the agent's body, if it is too long to be held.
    long: Option<u64>,
    /// The rewritten bytes. The buffer is never reallocated implicitly, because that would leave a copy of the
    /// credential.
    written: Zeroizing<Vec<u8>>,
    share: BudgetShare,
    bytes_max: usize,
}

/// What follows the beginning of a form.
struct FormRest {
    source: RequestBody,
    rewriter: FormRewriter,
    /// Read from the source, and not rewritten yet.
    next: Bytes,
    /// The length of the whole new body, if known.
    length: Option<u64>,
}

/// Reads the beginning of the body until the new body, or its length, is known, or the limit is reached. An agent that
/// sent `Expect: 100-continue` is asked for the body at once.
///
/// # Errors
/// When the beginning is not of a form, never ends, or there is no memory for it. Nothing was sent then.
async fn write_form(
    gateway: &Gateway,
    inbound: &mut Inbound,
    mut rewriter: FormRewriter,
) -> Result<(), Refusal> {
    // Taken, so that it is dropped when it was read: then it can be sent again.
    let mut source = std::mem::replace(&mut inbound.body, RequestBody::empty());
    source.do_not_wait();
    source.drop_trailers();
    let mut beginning = Beginning::new(gateway, &source, &mut rewriter)?;
    let mut next = Bytes::new();
    while next.is_empty() && beginning.length_of_all(&rewriter).is_none() {
        let Some(frame) = source.frame().await else {
            rewriter.end(&mut beginning.written).map_err(form_refusal)?;
            send_whole(inbound, beginning);
            return Ok(());
        };
        let Ok(mut data) = frame.map_err(|_| Refusal::AgentGone)?.into_data() else { continue };
        next = data.split_off(data.len().min(beginning.room()));
        beginning.push(&data, &mut rewriter)?;
    }
    let length = beginning.length_of_all(&rewriter);
    send_rest(inbound, beginning, FormRest { source, rewriter, next, length });
    Ok(())
}

impl Beginning {
    fn new(
        gateway: &Gateway,
        source: &RequestBody,
        rewriter: &mut FormRewriter,
    ) -> Result<Self, Refusal> {
        let bytes_max = gateway.limits.written_body_bytes_max;
        let declared = source.size_hint().exact();
        let held = declared.and_then(|bytes| usize::try_from(bytes).ok());
        let held = held.filter(|bytes| *bytes <= bytes_max);
        let long = declared.filter(|_| held.is_none());
        if long.is_some() {
            rewriter.refuse_repeated();
        }
        let mut beginning = Self {
            received: 0,
            long,
            written: Zeroizing::default(),
            share: gateway.injected_bodies.share(source.owner()),
            bytes_max,
        };
        beginning.reserve(held.unwrap_or(0), rewriter)?;
        Ok(beginning)
    }

    /// How many more bytes of the agent's body it may have.
    fn room(&self) -> usize {
        self.bytes_max - self.received
    }

    fn push(&mut self, data: &[u8], rewriter: &mut FormRewriter) -> Result<(), Refusal> {
        self.reserve(data.len(), rewriter)?;
        self.received += data.len();
        rewriter.push(data, &mut self.written).map_err(form_refusal)
    }

    /// Makes room for what `bytes` more bytes become. Memory is counted before it is allocated; beyond its limit a body
    /// is longer by the credential alone.
    fn reserve(&mut self, bytes: usize, rewriter: &FormRewriter) -> Result<(), Refusal> {
        let needed = self.written.len() + bytes + rewriter.room();
        if needed <= self.written.capacity() {
            return Ok(());
        }
        let capacity = needed.max(2 * self.written.capacity());
        let capacity = capacity.min(needed.max(self.bytes_max));
        if !self.share.resize(capacity.min(self.bytes_max)) {
            return Err(Refusal::Overloaded(Shortage::Bodies));
        }
        let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
        larger.extend_from_slice(&self.written);
        self.written = larger;
        Ok(())
    }

    /// The length of the new body, once all that follows passes unchanged. Only of a body that is too long to be held.
    fn length_of_all(&self, rewriter: &FormRewriter) -> Option<u64> {
        let rest = self.long? - self.received as u64;
        let held = rewriter.rest_passes()?;
        Some((self.written.len() + held) as u64 + rest)
    }

    /// What is sent for it: wiped when it is dropped.
    fn into_bytes(self) -> Bytes {
        held_body::owned(self.written, self.share)
    }
}

fn send_whole(inbound: &mut Inbound, beginning: Beginning) {
    let length = HeaderValue::from(beginning.written.len());
    inbound.head.headers.insert(header::CONTENT_LENGTH, length);
    inbound.put_body(beginning.into_bytes());
}

fn send_rest(inbound: &mut Inbound, beginning: Beginning, rest: FormRest) {
    let FormRest { source, rewriter, next, length } = rest;
    let fields = &mut inbound.head.headers;
    match length {
        Some(length) => fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length)),
        None => fields.remove(header::CONTENT_LENGTH),
    };
    let left = length.map(|length| length - beginning.written.len() as u64);
    let upload = FormUpload::new(source, rewriter, next, left);
    inbound.body = RequestBody::form(beginning.into_bytes(), upload);
}

fn form_refusal(error: BodyError) -> Refusal {
    WriteError::from(error).into()
}
