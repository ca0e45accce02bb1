//! [`ScrubbedBody`]: the body of an answer, searched for the credential if the request carried one. `inject::scrub`
//! knows what to search for and how.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode, response};
use http_body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;

use super::part::{self, PartWindow, WRONG_LENGTH};
use crate::body::BodyError;
use crate::body::incoming_body::IncomingBody;
use crate::limits::budget::BudgetShare;
use crate::refusal::Refusal;
use crate::upstream::sent::{CredentialSearch, Unscrubbed};
use crate::upstream::{ended_early, protocol};
use keyward_rules::inject::scrub::range::{AskedPart, ByteRange};
use keyward_rules::inject::scrub::{FlushPoints, InspectError, Inspector, Masker, Needles, fields};

/// How long the head of an encoded answer waits for the first body bytes, so that a short answer with a secret
/// becomes a refusal and not a cut. A stream whose first event is later is begun without waiting.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(200);

/// The step in which decoder memory is counted; most decoding needs no more.
const MEMORY_STEP: usize = 64 * 1024;

/// The body of an answer that was searched, or needs no search. Made only by [`scrubbed`].
#[derive(Debug)]
pub struct ScrubbedBody(AnswerContent);

#[derive(Debug)]
enum AnswerContent {
    /// No credential was sent: the body is not searched.
    AsItComes(IncomingBody),
    /// A credential was sent: the body is searched.
    ScannedBody(Box<ScannedBody>),
    /// A part that was read, searched and cut.
    Part(Option<Bytes>),
}

/// A body that is searched for the credential.
#[derive(Debug)]
struct ScannedBody {
    incoming: IncomingBody,
    needles: Arc<Needles>,
    look: Scanner,
    /// What is passed on, if the body is a part.
    window: Option<PartWindow>,
    /// Frames that may be passed on.
    ready: VecDeque<Frame<Bytes>>,
    /// The trailers, passed on after the remaining data.
    trailers: Option<HeaderMap>,
    /// Bytes that were not passed on yet, if the agent may know their number.
    left: Option<u64>,
    /// The inspector has more work.
    working: bool,
    /// The upstream's body has ended.
    ended: bool,
    masked: u64,
    /// The part of `masked` that was reported already.
    noted: u64,
}

#[derive(Debug)]
enum Scanner {
    Mask(Masker),
    /// With the share of the memory budget for its decoders.
    Inspect(Box<Inspector>, BudgetShare),
}

/// Masks the credential in the fields of an answer and prepares its body for the search. Returns the number of
/// matches in the fields too. If no credential was sent, nothing is searched. `memory` makes a share of the budget for
/// decoding the answer.
///
/// # Errors
/// When the body cannot be searched, or its beginning already contains the credential.
pub async fn scrubbed(
    unscrubbed: Unscrubbed,
    memory: impl Fn() -> BudgetShare,
) -> Result<(Response<ScrubbedBody>, u64), Refusal> {
    let (response, search) = unscrubbed.into_parts();
    let (mut head, incoming) = response.into_parts();
    let Some(CredentialSearch { needles, must_search, part }) = search else {
        return Ok((Response::from_parts(head, ScrubbedBody::unsearched(incoming)), 0));
    };
    let masked = mask_head(&mut head, &needles);
    let is_part = head.status == StatusCode::PARTIAL_CONTENT;
    let asked = match part {
        AskedPart::Widened { asked, margin } if is_part => Some((asked, margin)),
        _ => None,
    };
    if incoming.is_end_stream() && asked.is_none() {
        if is_part && must_search {
            fields::without_part_digests(&mut head.headers);
        }
        if must_search {
            fields::without_coded_lengths(&mut head.headers);
        }
        return Ok((Response::from_parts(head, ScrubbedBody::unsearched(incoming)), masked));
    }
    let look = match must_search {
        true => {
            let is_part = part::checked(&mut head, part)?;
            fields::without_coded_lengths(&mut head.headers);
            let length = incoming.size_hint().exact();
            look(&head.headers, length, &needles, is_part, &memory)?
        }
        // A coded body passes as it is. A plain stream is not delayed, because the key was not sent.
        false => {
            let length = incoming.size_hint().exact();
            let flush_points = length.map_or(FlushPoints::Anywhere, |_| FlushPoints::Nowhere);
            Scanner::Mask(Masker::new(needles.clone(), flush_points))
        }
    };
    let body = ScannedBody::new(incoming, needles, look);
    let (body, found) = match asked {
        // On the heap: few answers are cut.
        Some((asked, margin)) => Box::pin(body.cut(&mut head, asked, margin, memory())).await?,
        None => (body.peek_body().await?, 0),
    };
    Ok((Response::from_parts(head, ScrubbedBody(body)), masked + found))
}

/// Masks the credential in the reason and the fields; returns the number of matches.
fn mask_head(head: &mut response::Parts, needles: &Needles) -> u64 {
    let has_credential = |phrase: &ReasonPhrase| needles.are_in(phrase.as_bytes());
    let mut masked = 0;
    if head.extensions.get::<ReasonPhrase>().is_some_and(has_credential) {
        head.extensions.remove::<ReasonPhrase>();
        masked += 1;
    }
    masked += fields::mask(needles, &mut head.headers);
    if masked > 0 {
        fields::without_digests(&mut head.headers);
    }
    masked
}

/// Chooses how a body of this length, if it is known, is searched.
fn look(
    headers: &HeaderMap,
    length: Option<u64>,
    needles: &Arc<Needles>,
    is_part: bool,
    memory: impl Fn() -> BudgetShare,
) -> Result<Scanner, InspectError> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| InspectError::Unscannable("it is not known"))?;
        codings.extend(text.split(','));
    }
    // The length of the decoded body is not known.
    let decoded = || FlushPoints::of(headers, None);
    match (Inspector::new(needles, codings.into_iter(), decoded)?, is_part) {
        (Some(_), true) => Err(InspectError::Unscannable("the answer is only a part")),
        (Some(inspector), false) => Ok(Scanner::Inspect(Box::new(inspector), memory())),
        (None, _) => {
            let flush_points = FlushPoints::of(headers, length);
            Ok(Scanner::Mask(Masker::new(needles.clone(), flush_points)))
        }
    }
}

impl ScrubbedBody {
    fn unsearched(incoming: IncomingBody) -> Self {
        Self(AnswerContent::AsItComes(incoming))
    }

    /// The number of matches that were masked since the last call.
    pub fn take_masked(&mut self) -> u64 {
        match &mut self.0 {
            AnswerContent::AsItComes(_) | AnswerContent::Part(_) => 0,
            AnswerContent::ScannedBody(body) => {
                body.masked - std::mem::replace(&mut body.noted, body.masked)
            }
        }
    }
}

impl ScannedBody {
    fn new(incoming: IncomingBody, needles: Arc<Needles>, look: Scanner) -> Box<Self> {
        let left = match look {
            Scanner::Mask(_) => incoming.size_hint().exact(),
            // The agent must not see the length of a coded body.
            Scanner::Inspect(..) => None,
        };
        Box::new(Self {
            left,
            incoming,
            needles,
            look,
            window: None,
            ready: VecDeque::new(),
            trailers: None,
            working: false,
            ended: false,
            masked: 0,
            noted: 0,
        })
    }

    /// Cuts the body of a part. A short one is read whole, so that its head fits what is masked.
    async fn cut(
        mut self: Box<Self>,
        head: &mut response::Parts,
        asked: ByteRange,
        margin: u64,
        mut memory: BudgetShare,
    ) -> Result<(AnswerContent, u64), Refusal> {
        let Some(window) = part::cut(head, self.left, asked, margin)? else {
            return Ok((AnswerContent::Part(Some(Bytes::new())), 0));
        };
        if let Scanner::Mask(masker) = &mut self.look
            && !asked.is_long()
        {
            let (bytes, found) = window.read(self.incoming, masker, &mut memory).await?;
            if found > 0 {
                fields::without_digests(&mut head.headers);
            }
            return Ok((AnswerContent::Part(Some(bytes)), found));
        }
        self.left = Some(window.length());
        self.window = Some(window);
        Ok((AnswerContent::ScannedBody(self), 0))
    }

    /// A whole body. A coded one waits for its beginning.
    async fn peek_body(mut self: Box<Self>) -> Result<AnswerContent, Refusal> {
        if let Scanner::Inspect(..) = self.look {
            self.count_memory().map_err(|fault| refusal(fault.into()))?;
            self.begin().await?;
        }
        Ok(AnswerContent::ScannedBody(self))
    }

    /// Waits briefly until a frame may be passed on.
    async fn begin(&mut self) -> Result<(), Refusal> {
        let first = std::future::poll_fn(|cx| self.poll_next(cx));
        match tokio::time::timeout(FIRST_BYTES_WITHIN, first).await {
            Ok(Some(Ok(frame))) => self.ready.push_front(frame),
            Ok(Some(Err(error))) => return Err(refusal(error)),
            Ok(None) | Err(_) => {}
        }
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.working {
                let more = self.work()?;
                if more && self.ready.is_empty() {
                    // Yields to other tasks of this core.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            if !self.must_read_on()
                && let Some(frame) = self.ready.pop_front()
            {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.is_cut_short() {
                return Poll::Ready(Some(Err(InspectError::Unscannable("it is cut short").into())));
            }
            if self.ended {
                return Poll::Ready(self.trailers.take().map(|fields| Ok(Frame::trailers(fields))));
            }
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(frame) => self.take(frame?)?,
                None => self.end()?,
            }
        }
    }

    /// Whether all was passed on but the end of a coding, which cannot be decoded.
    fn is_cut_short(&self) -> bool {
        matches!(&self.look, Scanner::Inspect(inspector, _) if inspector.is_cut_short())
    }

    /// Whether the last bytes that are passed on wait for the end of a part. hyper does not poll again after them, and a
    /// part that is cut short is an error.
    fn must_read_on(&self) -> bool {
        let is_passed = self.window.as_ref().is_some_and(PartWindow::is_passed);
        is_passed && !self.ended && self.ready.len() == 1
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), BodyError> {
        // hyper does not poll again after the last byte of a declared length.
        let is_last = self.incoming.is_end_stream();
        match frame.into_data() {
            Ok(data) => self.look(data, is_last)?,
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                return self.end();
            }
        }
        match is_last {
            true => self.end(),
            false => Ok(()),
        }
    }

    fn look(&mut self, data: Bytes, is_last: bool) -> Result<(), BodyError> {
        match &mut self.look {
            Scanner::Mask(masker) => {
                let data = match is_last {
                    true => masker.push_last(data),
                    false => masker.push(data),
                };
                self.masked += masker.take_masked();
                self.pass(data)?;
            }
            Scanner::Inspect(inspector, _) => {
                inspector.push(data)?;
                self.working = true;
            }
        }
        Ok(())
    }

    /// The upstream's body has ended.
    fn end(&mut self) -> Result<(), BodyError> {
        self.ended = true;
        match &mut self.look {
            Scanner::Mask(masker) => {
                let rest = masker.finish();
                self.masked += masker.take_masked();
                self.pass(rest)?;
            }
            Scanner::Inspect(inspector, _) => {
                inspector.end();
                self.working = true;
            }
        }
        if self.window.as_ref().is_some_and(|window| !window.is_read()) {
            return Err(BodyError::PartLength);
        }
        if let Some(trailers) = &mut self.trailers {
            self.masked += fields::mask(&self.needles, trailers);
            if self.window.is_some() {
                fields::without_part_digests(trailers);
            }
            if self.masked > 0 {
                fields::without_digests(trailers);
            }
        }
        Ok(())
    }

    /// Lets the inspector work once. Returns whether it has more work.
    fn work(&mut self) -> Result<bool, InspectError> {
        let Scanner::Inspect(inspector, _) = &mut self.look else { return Ok(false) };
        self.working = inspector.work()?;
        while let Some(data) = inspector.cleared() {
            self.ready.push_back(Frame::data(data));
        }
        self.count_memory()?;
        Ok(self.working)
    }

    /// Counts the inspector's memory against the budget.
    fn count_memory(&mut self) -> Result<(), InspectError> {
        let Scanner::Inspect(inspector, memory) = &mut self.look else { return Ok(()) };
        let bytes = inspector.memory().next_multiple_of(MEMORY_STEP);
        if memory.resize(bytes) { Ok(()) } else { Err(InspectError::NoMemory) }
    }

    fn pass(&mut self, mut data: Bytes) -> Result<(), BodyError> {
        if let Some(window) = &mut self.window {
            data = window.pass(data).ok_or(BodyError::PartLength)?;
        }
        if !data.is_empty() {
            self.ready.push_back(Frame::data(data));
        }
        Ok(())
    }
}

/// The refusal for an answer of which nothing was passed on.
fn refusal(error: BodyError) -> Refusal {
    match error {
        BodyError::Scrubbed(fault) => Refusal::Scrubbed(fault),
        BodyError::Receive(cut) => ended_early(cut),
        BodyError::PartLength => protocol(WRONG_LENGTH),
        BodyError::NotWanted | BodyError::Chunks(_) | BodyError::Form(_) | BodyError::NoRoom => {
            Refusal::Internal("an answer's body was not wanted")
        }
    }
}

impl Body for ScrubbedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            AnswerContent::AsItComes(incoming) => {
                Pin::new(incoming).poll_frame(cx).map_err(BodyError::from)
            }
            AnswerContent::Part(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))))
            }
            AnswerContent::ScannedBody(body) => {
                let next = ready!(body.poll_next(cx));
                if let (Some(Ok(frame)), Some(left)) = (&next, &mut body.left) {
                    *left -= frame.data_ref().map_or(0, |data| data.len() as u64).min(*left);
                }
                Poll::Ready(next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            AnswerContent::AsItComes(incoming) => incoming.is_end_stream(),
            AnswerContent::Part(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            AnswerContent::ScannedBody(body) => {
                let nothing_left = body.ready.is_empty() && body.trailers.is_none();
                body.ended && !body.working && nothing_left && !body.is_cut_short()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            AnswerContent::AsItComes(incoming) => incoming.size_hint(),
            AnswerContent::Part(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            AnswerContent::ScannedBody(body) => {
                body.left.map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}
