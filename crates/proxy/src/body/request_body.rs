//! [`RequestBody`]: the body of a request on its way to the upstream. It is passed on frame by frame and counted,
//! never collected.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::BodyError;
use super::copy_writer::BodyCopyWriter;
use super::expect_continue::{BodyDemand, ContinueGate, ContinueWait};
use super::incoming_body::IncomingBody;
use super::transforms::{FormFault, FormUpload, SignedChunks, TrailerFilter};
use crate::h2::websocket::PendingWebSocket;
use keyward_base::agent::Agent;
use keyward_base::id::AgentId;

/// Bytes of ours are sent in pieces of at most this size, so that the progress of a slow upload is seen.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The request's body on its way to the upstream. On the heap, because hyper moves a request about twenty times.
#[derive(Debug)]
pub struct RequestBody(Box<BodyState>);

#[derive(Debug)]
struct BodyState {
    content: BodyContent,
    count: Arc<AtomicU64>,
    /// Counts what was taken for the upstream, in all attempts, where that is asked for.
    taken: Option<Arc<AtomicU64>>,
    gate: Option<ContinueWait>,
    demand: Option<Arc<BodyDemand>>,
    trailers: Trailers,
    /// Signs what is received before it is sent.
    chunks: Option<Box<SignedChunks>>,
    /// Pieces that are sent first: they were sent before, or rewritten already.
    again: VecDeque<Bytes>,
    /// The writers of copies. The last one gets the rest when the body is dropped.
    copies: Vec<BodyCopyWriter<RequestBody>>,
    /// The agent whose memory budget is charged for copies; `None` for a request without an agent.
    owner: Option<Arc<Agent>>,
}

/// The handling of a request's trailers.
#[derive(Debug)]
enum Trailers {
    /// Not decided yet: dropped unless a filter is set.
    Undecided,
    Filtered(TrailerFilter),
    Dropped,
}

#[derive(Debug)]
enum BodyContent {
    /// Received from the agent, or empty.
    Incoming(IncomingBody),
    /// Bytes of ours: of a test request or after injection.
    Own(Bytes),
    /// Received from the agent and rewritten.
    Form(Box<FormUpload<RequestBody>>),
    /// No body: a WebSocket follows.
    Handshake(PendingWebSocket),
}

impl RequestBody {
    /// Passes a received body on and counts its bytes.
    pub fn new(arriving: IncomingBody) -> Self {
        Self::of(BodyContent::Incoming(arriving))
    }

    /// A body from bytes of ours.
    pub fn own(bytes: Bytes) -> Self {
        Self::of(BodyContent::Own(bytes))
    }

    /// A form that is rewritten while it is sent, after its beginning `first`.
    pub fn form(first: Bytes, upload: FormUpload<Self>) -> Self {
        let (count, owner) = (upload.source().count(), upload.source().0.owner.clone());
        let mut body = Self::of(BodyContent::Form(Box::new(upload)));
        (body.0.count, body.0.owner) = (count, owner);
        body.0.again.extend(Some(first).filter(|first| !first.is_empty()));
        body
    }

    /// Where a form that is rewritten notes why it cannot be sent to its end.
    pub fn form_fault(&self) -> Option<Arc<FormFault>> {
        match &self.0.content {
            BodyContent::Form(upload) => Some(upload.fault().clone()),
            _ => None,
        }
    }

    fn of(content: BodyContent) -> Self {
        Self(Box::new(BodyState {
            content,
            count: Arc::default(),
            taken: None,
            gate: None,
            demand: None,
            trailers: Trailers::Undecided,
            chunks: None,
            again: VecDeque::new(),
            copies: Vec::new(),
            owner: None,
        }))
    }

    pub fn empty() -> Self {
        Self::new(IncomingBody::Empty)
    }

    /// Sets the agent whose memory budget is charged.
    pub fn set_owner_agent(&mut self, agent: &Arc<Agent>) {
        self.0.owner = Some(agent.clone());
    }

    /// The agent whose memory budget is charged.
    pub fn owner(&self) -> Option<&AgentId> {
        self.0.owner.as_deref().map(|agent| &agent.id)
    }

    /// The number of bytes that have passed. What is sent again is counted once.
    pub fn count(&self) -> Arc<AtomicU64> {
        self.0.count.clone()
    }

    /// Counts from now on what is taken for the upstream, also what is sent again or was rewritten. `None` for no body.
    pub fn count_taken(&mut self) -> Option<Arc<AtomicU64>> {
        (!self.is_end_stream()).then(|| self.0.taken.get_or_insert_default().clone())
    }

    /// Holds the body back until its gate opens, for at most `timeout`.
    pub fn wait_for_continue(&mut self, timeout: Duration) {
        self.0.gate = Some(ContinueWait::new(timeout));
    }

    /// Sends the body without waiting for `100 Continue`.
    pub fn do_not_wait(&mut self) {
        self.0.gate = None;
    }

    /// Waits again if the previous upstream did not want the body.
    pub fn wait_again(&mut self) {
        self.0.gate = self.0.gate.as_ref().map(ContinueWait::again);
    }

    /// Passes trailers on after `filter` has been applied.
    pub fn filter_trailers(&mut self, sieve: TrailerFilter) {
        if !matches!(self.0.trailers, Trailers::Dropped) {
            self.0.trailers = Trailers::Filtered(sieve);
        }
    }

    /// Signs the chunks that the body consists of. Once some were sent, it cannot be sent again.
    pub fn sign_chunks(&mut self, chunks: SignedChunks) {
        self.0.chunks = Some(Box::new(chunks));
    }

    pub fn drop_trailers(&mut self) {
        self.0.trailers = Trailers::Dropped;
    }

    /// Signals when the body is polled first. hyper sends `100 Continue` by itself then (RFC 9110 §10.1.1), h2 does
    /// not.
    pub fn demand(&mut self) -> Arc<BodyDemand> {
        self.0.demand.get_or_insert_default().clone()
    }

    /// No body: the handshake of a WebSocket.
    pub fn handshake(websocket: PendingWebSocket) -> Self {
        Self::of(BodyContent::Handshake(websocket))
    }

    /// The agent's side of a WebSocket over HTTP/2, once.
    pub fn take_websocket(&mut self) -> Option<PendingWebSocket> {
        match std::mem::replace(&mut self.0.content, BodyContent::Incoming(IncomingBody::Empty)) {
            BodyContent::Handshake(websocket) => Some(websocket),
            content => {
                self.0.content = content;
                None
            }
        }
    }

    /// Keeps a copy of what is sent. The copy gets the rest when the body is dropped.
    pub fn copy_to(&mut self, writer: BodyCopyWriter<Self>) {
        self.0.copies.push(writer);
    }

    /// The body with `sent`, which was sent before, in front of it.
    pub fn prepend(mut self, mut sent: VecDeque<Bytes>) -> Self {
        sent.append(&mut self.0.again);
        self.0.again = sent;
        // The body is sent from its beginning again.
        self.0.copies.iter().for_each(BodyCopyWriter::restart);
        self
    }

    /// The gate that holds the body back.
    pub fn gate(&self) -> Option<Arc<ContinueGate>> {
        self.0.gate.as_ref().map(ContinueWait::gate)
    }
}

impl BodyState {
    /// Waits at the gate. Returns `Ready(Ok)` from the moment that it is open.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(held) = &mut self.gate else { return Poll::Ready(Ok(())) };
        match std::task::ready!(held.poll(cx)) {
            false => Poll::Ready(Err(BodyError::NotWanted)),
            true => {
                self.gate = None;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self.get_mut().0;
        if let Err(error) = std::task::ready!(this.poll_gate(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        if let Some(demand) = this.demand.take() {
            demand.signal();
        }
        let (frame, is_own) = match this.next_again() {
            Some(data) => (Some(Ok(Frame::data(data))), true),
            None => {
                let is_own = matches!(this.content, BodyContent::Own(_));
                (std::task::ready!(this.poll_signed(cx)), is_own)
            }
        };
        if let Some(frame) = &frame {
            this.count_and_copy(frame.as_ref().ok(), is_own);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let is_signed = self.0.chunks.as_ref().is_none_or(|chunks| chunks.end().is_ok());
        self.0.again.is_empty() && self.0.content.is_end_stream() && is_signed
    }

    fn size_hint(&self) -> SizeHint {
        let gone: usize = self.0.again.iter().map(Bytes::len).sum();
        match self.0.content.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + gone as u64),
            None => SizeHint::new(),
        }
    }
}

impl BodyState {
    /// The next piece of what is sent first.
    fn next_again(&mut self) -> Option<Bytes> {
        let first = self.again.front_mut()?;
        let piece = next_piece(first);
        if first.is_empty() {
            self.again.pop_front();
        }
        Some(piece)
    }

    /// Counts and copies what is sent; drops the copies if the body broke.
    fn count_and_copy(&self, frame: Option<&Frame<Bytes>>, is_own: bool) {
        if let (Some(taken), Some(data)) = (&self.taken, frame.and_then(Frame::data_ref)) {
            taken.fetch_add(data.len() as u64, Relaxed);
        }
        if self.copies.is_empty() {
            return;
        }
        let Some(frame) = frame.filter(|_| self.chunks.is_none()) else {
            return self.copies.iter().for_each(BodyCopyWriter::discard);
        };
        let Some(data) = frame.data_ref() else { return };
        let more = self.content.size_hint().exact();
        for writer in &self.copies {
            match is_own {
                true => writer.add_own(data),
                false => writer.copy(data, more),
            }
        }
    }

    /// The next frame that was not sent before, signed where chunks are.
    fn poll_signed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let frame = std::task::ready!(self.poll_content(cx));
            let Some(chunks) = &mut self.chunks else { return Poll::Ready(frame) };
            let data = match &frame {
                Some(Ok(frame)) => frame.data_ref(),
                Some(Err(_)) => None,
                None => return Poll::Ready(chunks.end().err().map(Err)),
            };
            let Some(data) = data else { return Poll::Ready(frame) };
            match chunks.push(data) {
                Ok(None) => {}
                Ok(Some(signed)) => return Poll::Ready(Some(Ok(Frame::data(signed)))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    /// The next frame as it was received.
    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self;
        let arriving = match &mut this.content {
            BodyContent::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            BodyContent::Own(bytes) => {
                let piece = next_piece(bytes);
                this.count.fetch_add(piece.len() as u64, Relaxed);
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            BodyContent::Incoming(arriving) => arriving,
            BodyContent::Form(upload) => {
                return upload.poll_data(cx).map(|data| Some(data?.map(Frame::data)));
            }
            BodyContent::Handshake(_) => return Poll::Ready(None),
        };
        match std::task::ready!(Pin::new(arriving).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    this.count.fetch_add(data.len() as u64, Relaxed);
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => Poll::Ready(
                    frame.into_trailers().ok().and_then(|it| this.filtered_trailers(it)),
                ),
            },
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            None => Poll::Ready(None),
        }
    }
}

impl BodyState {
    /// The trailers after filtering, if any are left. They are not copied, so a body with trailers is sent only
    /// once.
    fn filtered_trailers(&self, mut fields: HeaderMap) -> Option<Result<Frame<Bytes>, BodyError>> {
        let Trailers::Filtered(sieve) = &self.trailers else { return None };
        sieve.apply(&mut fields);
        if fields.is_empty() {
            return None;
        }
        self.copies.iter().for_each(BodyCopyWriter::discard);
        Some(Ok(Frame::trailers(fields)))
    }
}

impl BodyContent {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(arriving) => arriving.is_end_stream(),
            Self::Own(bytes) => bytes.is_empty(),
            Self::Form(upload) => upload.is_end_stream(),
            Self::Handshake(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(arriving) => arriving.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Form(upload) => upload.size_hint(),
            Self::Handshake(_) => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(writer) = self.0.copies.pop() else { return };
        let mut rest = Self::empty();
        // If the rest is not sent, the copy before this one gets it.
        std::mem::swap(&mut rest.0, &mut self.0);
        writer.body_dropped(rest);
    }
}

/// Takes the next piece of bytes of ours.
fn next_piece(bytes: &mut Bytes) -> Bytes {
    bytes.split_to(bytes.len().min(PIECE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// The lengths of the pieces, and what was counted after each.
    async fn pieces(mut body: RequestBody) -> Vec<(usize, u64)> {
        let taken = body.count_taken().unwrap();
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push((frame.unwrap().into_data().unwrap().len(), taken.load(Relaxed)));
        }
        pieces
    }

    #[tokio::test]
    async fn bytes_of_ours_are_sent_and_counted_piece_by_piece() {
        let long = || Bytes::from(vec![b'x'; 2 * PIECE_BYTES_MAX + 1]);
        let (one, two) = (PIECE_BYTES_MAX as u64, 2 * PIECE_BYTES_MAX as u64);
        let lengths = [(PIECE_BYTES_MAX, one), (PIECE_BYTES_MAX, two), (1, two + 1)];
        assert_eq!(pieces(RequestBody::own(long())).await, lengths);
        let again = RequestBody::own(Bytes::from_static(b"rest")).prepend([long()].into());
        let count = again.count();
        assert_eq!(again.size_hint().exact(), Some(two + 5));
        assert_eq!(pieces(again).await, [&lengths[..], &[(4, two + 5)]].concat());
        assert_eq!(count.load(Relaxed), 4, "what is sent again is not counted twice");
    }

    #[test]
    fn nothing_is_counted_where_there_is_no_body() {
        assert!(RequestBody::empty().count_taken().is_none());
    }
}
