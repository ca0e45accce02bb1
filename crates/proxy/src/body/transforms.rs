//! What changes a request's body while it is sent. `B` is the type of the agent's body.
//!
//! [`FormUpload`]: a `multipart/form-data` body that the credential is written into. Its memory is bounded: it holds only beginnings
//! of delimiters and parts, and passes all other bytes on. [`SignedChunks`] signs chunks, and counts the memory that they take.
//!
//! [`TrailerFilter`] removes request trailers that must not reach the upstream. A server may merge trailers into the head
//! (RFC 9110 §6.5.1) after policy has decided about the head, so fields that could have changed the decision and placeholders
//! are removed.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body, SizeHint};
use zeroize::Zeroizing;

use super::BodyError;
use crate::limits::budget::BudgetShare;
use keyward_base::settings::Settings;
use keyward_rules::inject::body::BodyError as FormError;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::multipart::rewriter::FormRewriter;
use keyward_rules::inject::sign::aws_chunks::ChunkSigner;
use keyward_rules::inject::strip;
use keyward_rules::policy::Permit;

/// Why a form cannot be rewritten to its end, once that is known. The protocols report only that the upload ended.
pub type FormFault = OnceLock<FormError>;

/// A form on its way: the rest of the agent's body, rewritten.
#[derive(Debug)]
pub struct FormUpload<B> {
    /// What the agent sends.
    source: B,
    rewriter: FormRewriter,
    /// Read from the source, and not rewritten yet.
    next: Bytes,
    /// The number of bytes to come, if the length was sent.
    left: Option<u64>,
    has_ended: bool,
    fault: Arc<FormFault>,
}

impl<B> FormUpload<B> {
    /// The rest of `source`. `next` was read from it; `left` is the length of the result, if known.
    pub fn new(source: B, rewriter: FormRewriter, next: Bytes, left: Option<u64>) -> Self {
        Self { source, rewriter, next, left, has_ended: false, fault: Arc::default() }
    }

    /// What the agent sends.
    pub fn source(&self) -> &B {
        &self.source
    }

    /// Why it ended early, if its content is the reason.
    pub fn fault(&self) -> &Arc<FormFault> {
        &self.fault
    }

    pub fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    pub fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> FormUpload<B> {
    /// The next bytes to send; `None` at the end. After an error the upstream has no complete body.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while !self.has_ended {
            let sent = match ready!(self.poll_source(cx)).transpose() {
                Ok(sent) => sent,
                Err(error) => {
                    self.has_ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            self.has_ended = sent.is_none();
            match self.rewrite(sent.as_deref()) {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Err(error) => {
                    self.has_ended = true;
                    // It is the first one: nothing is rewritten after it.
                    let _ = self.fault.set(error.clone());
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
        Poll::Ready(None)
    }

    /// The next bytes of the agent's body.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.next.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.next))));
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(frame) => frame?,
            };
            if let Ok(data) = frame.into_data() {
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl<B> FormUpload<B> {
    /// What may be sent after these bytes, or after the end of the body.
    fn rewrite(&mut self, sent: Option<&[u8]>) -> Result<Bytes, FormError> {
        let room = sent.map_or(0, <[u8]>::len) + self.rewriter.room();
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        let unwritten = self.rewriter.unwritten();
        match sent {
            Some(sent) => self.rewriter.push(sent, &mut out)?,
            None => self.rewriter.end(&mut out)?,
        }
        Ok(match self.rewriter.unwritten() == unwritten {
            true => Bytes::from(std::mem::take(&mut *out)),
            // It contains the credential: wiped when it is dropped.
            false => Bytes::from_owner(out),
        })
    }
}

/// Signs the chunks of one body.
#[derive(Debug)]
pub struct SignedChunks {
    signer: ChunkSigner,
    /// The memory of the incomplete chunk.
    share: BudgetShare,
}

impl SignedChunks {
    pub fn new(signer: ChunkSigner, share: BudgetShare) -> Self {
        Self { signer, share }
    }

    /// The chunks that `data` completes; none, often.
    pub fn push(&mut self, data: &Bytes) -> Result<Option<Bytes>, BodyError> {
        if !self.share.resize(self.signer.held() + data.len()) {
            return Err(BodyError::NoRoom);
        }
        let signed = self.signer.push(data)?;
        Ok((!signed.is_empty()).then(|| signed.into()))
    }

    /// Whether all chunks have passed.
    pub fn end(&self) -> Result<(), BodyError> {
        Ok(self.signer.end()?)
    }
}

/// The fields that are written in the head and therefore must not be in the trailers.
#[derive(Clone, Debug)]
pub struct TrailerFilter {
    credential: Option<Arc<Credential>>,
    settings: Option<Arc<Settings>>,
}

impl TrailerFilter {
    /// The filter for a request with this permit and credential.
    pub fn of(permit: &Permit, credential: Option<&Arc<Credential>>) -> Self {
        Self { credential: credential.cloned(), settings: permit.settings().cloned() }
    }

    /// Removes the fields that must not be passed on.
    pub fn apply(&self, fields: &mut HeaderMap) {
        strip::request_trailers(fields);
        if let Some(settings) = &self.settings {
            let agent = settings.user_agent.as_ref().map(|_| &header::USER_AGENT);
            for name in settings.headers.iter().map(|(name, _)| name).chain(agent) {
                strip::every(fields, name);
            }
        }
        if let Some(credential) = &self.credential {
            strip::cleared(fields, &credential.clears);
        }
    }
}
