//! What the origin answers: `/small` (1 KiB), `/big?bytes=N`, `/sse?n=N&interval_ms=N`, `/count`, which
//! answers how many bytes came.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response, StatusCode, Version};
use tokio::time::Interval;

use crate::seen::Seen;

const SMALL_BYTES: usize = 1024;
const CHUNK_BYTES: usize = 256 * 1024;

pub struct App {
    pub seen: Seen,
    secret: Vec<u8>,
    small: Bytes,
    chunk: Bytes,
}

pub enum Answer {
    Whole(Option<Bytes>),
    /// The chunk again and again, `left` bytes in all.
    Repeated {
        chunk: Bytes,
        left: u64,
    },
    /// Events that tell when they were written.
    Events {
        timer: Interval,
        left: u64,
    },
}

impl App {
    pub fn new(secret: &str) -> Self {
        let (small, chunk) = (vec![b'x'; SMALL_BYTES].into(), vec![b'y'; CHUNK_BYTES].into());
        Self { seen: Seen::default(), secret: secret.into(), small, chunk }
    }

    fn note(&self, request: &Request<Incoming>) {
        Seen::one(&self.seen.requests);
        if request.version() == Version::HTTP_2 {
            Seen::one(&self.seen.http2_requests);
        }
        let mut credentials = request.headers().get_all("x-api-key").iter();
        Seen::one(match (credentials.next(), credentials.next()) {
            (None, _) => &self.seen.credential_missing,
            (Some(one), None) if one.as_bytes() == self.secret => &self.seen.credential_right,
            _ => &self.seen.credential_wrong,
        });
    }
}

pub async fn answer(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    app.note(&request);
    let body = match request.uri().path() {
        "/small" => Answer::Whole(Some(app.small.clone())),
        "/big" => Answer::Repeated { chunk: app.chunk.clone(), left: asked(&request, "bytes") },
        "/sse" => {
            let every = Duration::from_millis(asked(&request, "interval_ms").max(1));
            Answer::Events { timer: tokio::time::interval(every), left: asked(&request, "n") }
        }
        "/count" => Answer::Whole(Some(count(request.into_body()).await.to_string().into())),
        _ => {
            let mut answer = Response::new(Answer::Whole(None));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return Ok(answer);
        }
    };
    let kind = match body {
        Answer::Events { .. } => "text/event-stream",
        _ => "application/octet-stream",
    };
    let mut answer = Response::new(body);
    answer.headers_mut().insert("content-type", kind.parse().expect("a constant"));
    Ok(answer)
}

pub async fn counts(
    app: Arc<App>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let told = app.seen.tell(request.uri().path() == "/reset");
    Ok(Response::new(Answer::Whole(Some(told.into()))))
}

fn asked(request: &Request<Incoming>, name: &str) -> u64 {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    values.next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

async fn count(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    bytes
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Repeated { left: 0, .. } | Self::Events { left: 0, .. } => None,
            Self::Repeated { chunk, left } => {
                let next =
                    chunk.slice(..chunk.len().min(usize::try_from(*left).unwrap_or(usize::MAX)));
                *left -= next.len() as u64;
                Some(next)
            }
            Self::Events { timer, left } => {
                ready!(timer.poll_tick(cx));
                *left -= 1;
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                Some(format!("data: {}\n\n", now.as_micros()).into())
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Repeated { left, .. } | Self::Events { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Repeated { left, .. } => SizeHint::with_exact(*left),
            Self::Events { .. } => SizeHint::default(),
        }
    }
}
