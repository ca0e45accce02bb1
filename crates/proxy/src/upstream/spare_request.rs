//! [`SpareRequest`]: a copy of a request that is being sent, for another stream in case the upstream does not process
//! it. The copy was authorized as the request was, and is not another attempt.

use std::time::Duration;

use http::Request;

use crate::body::replay::BodyCopy;
use crate::body::request_body::RequestBody;
use crate::gateway::Core;

/// The time to wait until a body that is no longer polled is dropped.
const BODY_DROPPED_WITHIN: Duration = Duration::from_secs(1);

/// A copy of a request, whose body is copied while it is sent.
pub struct SpareRequest {
    head: Request<RequestBody>,
    body: BodyCopy,
}

impl SpareRequest {
    pub fn of(core: &Core, request: &mut Request<RequestBody>) -> Self {
        let mut head = Request::new(RequestBody::empty());
        head.method_mut().clone_from(request.method());
        head.uri_mut().clone_from(request.uri());
        head.headers_mut().clone_from(request.headers());
        head.extensions_mut().clone_from(request.extensions());
        Self { head, body: BodyCopy::of(request.body_mut(), &core.replays) }
    }

    /// The request to send again; `None` when a part of its body was not kept.
    pub async fn into_request(self) -> Option<Box<Request<RequestBody>>> {
        self.body.wait_until_dropped(BODY_DROPPED_WITHIN).await;
        let body = self.body.into_body()?;
        Some(Box::new(self.head.map(|_| body)))
    }

    /// Drops the copy: the request was answered, and the rest of its body need not be kept.
    pub fn discard(self) {
        self.body.discard();
    }
}
