//! [`Passing`]: the upstream's body on its way to the agent, as it comes or, where the request carried a
//! credential, looked into. What is looked for and how is `inject::scrub`'s.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;

use super::arriving::Arriving;
use super::body::BodyError;
use super::error::Refusal;
use crate::inject::scrub::{Fault, Inspector, Masker, Needles, fields};

/// How long the head of a coded answer waits for the first bytes that may go on, so that a short answer
/// with a secret in it becomes a refusal and not a cut. A stream whose first event comes later is begun
/// without it.
const FIRST_BYTES_WITHIN: Duration = Duration::from_millis(200);

/// A body.
#[derive(Debug)]
pub enum Passing {
    /// Nothing of ours can be in it: nothing is looked at.
    AsItComes(Arriving),
    /// The request carried a credential.
    Looked(Box<Looked>),
}

/// A body that is looked into.
#[derive(Debug)]
pub struct Looked {
    incoming: Arriving,
    needles: Arc<Needles>,
    look: Look,
    /// What may go on.
    ready: VecDeque<Frame<Bytes>>,
    /// What comes after the data that is still looked at.
    trailers: Option<HeaderMap>,
    /// Bytes that have not gone on, where their number is known.
    left: Option<u64>,
    /// The inspector has more to do.
    working: bool,
    /// The upstream has sent all.
    ended: bool,
    masked: u64,
    /// What of `masked` has been asked for.
    noted: u64,
}

#[derive(Debug)]
enum Look {
    Mask(Masker),
    Inspect(Box<Inspector>),
}

/// The answer with its fields masked and its body to be looked into; how many needles were in the
/// fields.
///
/// # Errors
/// When the body cannot be looked into, or its beginning already shows that it must not go on.
pub async fn scrubbed(
    response: Response<Arriving>,
    needles: Arc<Needles>,
) -> Result<(Response<Passing>, u64), Refusal> {
    let (mut head, incoming) = response.into_parts();
    let is_told = |phrase: &ReasonPhrase| needles.are_in(phrase.as_bytes());
    let mut masked = 0;
    if head.extensions.get::<ReasonPhrase>().is_some_and(is_told) {
        head.extensions.remove::<ReasonPhrase>();
        masked += 1;
    }
    masked += fields::mask(&needles, &mut head.headers);
    if masked > 0 {
        fields::without_digests(&mut head.headers);
    }
    if incoming.is_end_stream() {
        return Ok((Response::from_parts(head, Passing::AsItComes(incoming)), masked));
    }
    let look = look(head.status, &head.headers, &needles)?;
    let coded = matches!(look, Look::Inspect(_));
    let mut body = Looked::new(incoming, needles, look);
    if coded {
        body.begin().await?;
    }
    Ok((Response::from_parts(head, Passing::Looked(Box::new(body))), masked))
}

/// How the body of such an answer is looked into.
fn look(status: StatusCode, headers: &HeaderMap, needles: &Arc<Needles>) -> Result<Look, Fault> {
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| Fault::Unscannable("it is not known"))?;
        codings.extend(text.split(','));
    }
    match (Inspector::new(needles, codings.into_iter())?, status) {
        (Some(_), StatusCode::PARTIAL_CONTENT) => Err(Fault::Unscannable("it is a part of one")),
        (Some(inspector), _) => Ok(Look::Inspect(Box::new(inspector))),
        (None, StatusCode::PARTIAL_CONTENT) => Ok(Look::Mask(Masker::of_part(needles.clone()))),
        (None, _) => Ok(Look::Mask(Masker::new(needles.clone()))),
    }
}

impl Passing {
    /// How many needles were masked since this was asked last.
    pub fn take_masked(&mut self) -> u64 {
        match self {
            Self::AsItComes(_) => 0,
            Self::Looked(body) => body.masked - std::mem::replace(&mut body.noted, body.masked),
        }
    }
}

impl Looked {
    fn new(incoming: Arriving, needles: Arc<Needles>, look: Look) -> Self {
        Self {
            left: incoming.size_hint().exact(),
            incoming,
            needles,
            look,
            ready: VecDeque::new(),
            trailers: None,
            working: false,
            ended: false,
            masked: 0,
            noted: 0,
        }
    }

    /// Waits, for a while, until something may go on.
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
                    // Others on this core get their turn.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
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

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Fault> {
        match frame.into_data() {
            Ok(data) => self.look(data)?,
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                return self.end();
            }
        }
        // Nobody asks for more after the last byte of a declared length.
        match self.incoming.is_end_stream() {
            true => self.end(),
            false => Ok(()),
        }
    }

    fn look(&mut self, data: Bytes) -> Result<(), Fault> {
        match &mut self.look {
            Look::Mask(masker) => {
                let data = masker.push(data);
                self.masked += masker.take_masked();
                self.pass(data);
            }
            Look::Inspect(inspector) => {
                inspector.push(data)?;
                self.working = true;
            }
        }
        Ok(())
    }

    /// The upstream has sent all.
    fn end(&mut self) -> Result<(), Fault> {
        self.ended = true;
        match &mut self.look {
            Look::Mask(masker) => {
                let rest = masker.finish();
                self.masked += masker.take_masked();
                self.pass(rest);
            }
            Look::Inspect(inspector) => {
                inspector.end();
                self.working = true;
            }
        }
        if let Some(trailers) = &mut self.trailers {
            self.masked += fields::mask(&self.needles, trailers);
            if self.masked > 0 {
                fields::without_digests(trailers);
            }
        }
        Ok(())
    }

    /// One turn of the inspector. Answers whether it has more to do.
    fn work(&mut self) -> Result<bool, Fault> {
        let Look::Inspect(inspector) = &mut self.look else { return Ok(false) };
        self.working = inspector.work()?;
        while let Some(data) = inspector.cleared() {
            self.ready.push_back(Frame::data(data));
        }
        Ok(self.working)
    }

    fn pass(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.ready.push_back(Frame::data(data));
        }
    }
}

/// An answer of which nothing has gone on.
fn refusal(error: BodyError) -> Refusal {
    match error {
        BodyError::Scrubbed(fault) => Refusal::Scrubbed(fault),
        BodyError::Cut(cut) => {
            Refusal::Protocol { what: "it ended before its body did", source: Some(cut) }
        }
        BodyError::NotWanted => Refusal::Internal("an answer's body was not wanted"),
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::AsItComes(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::from),
            Self::Looked(body) => {
                let next = ready!(body.poll_next(cx));
                if let (Some(Ok(frame)), Some(left)) = (&next, &mut body.left) {
                    *left -= frame.data_ref().map_or(0, |data| data.len() as u64).min(*left);
                }
                Poll::Ready(next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::AsItComes(incoming) => incoming.is_end_stream(),
            Self::Looked(body) => {
                let nothing_left = body.ready.is_empty() && body.trailers.is_none();
                body.ended && !body.working && nothing_left
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::AsItComes(incoming) => incoming.size_hint(),
            Self::Looked(body) => body.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
