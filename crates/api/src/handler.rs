//! [`BoxedHandler`]: a handler of axum without its type. rustc proves that the future of a handler is `Send` at each
//! layer that axum puts around it. All boxed handlers have one type, so this is proved once for each handler.

use std::fmt;
use std::future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;

type Answered = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Any handler for the state `S`.
pub struct BoxedHandler<S>(Arc<dyn Fn(Request, S) -> Answered + Send + Sync>);

pub fn boxed<H, T, S>(handler: H) -> BoxedHandler<S>
where
    H: Handler<T, S>,
{
    BoxedHandler(Arc::new(move |request, state| Box::pin(handler.clone().call(request, state))))
}

impl<S: 'static> BoxedHandler<S> {
    /// Answers with what `check` refuses, before the handler.
    pub fn checked<E: IntoResponse + 'static>(self, check: fn(&Request) -> Result<(), E>) -> Self {
        Self(Arc::new(move |request, state| match check(&request) {
            Ok(()) => (self.0)(request, state),
            Err(refusal) => Box::pin(future::ready(refusal.into_response())),
        }))
    }
}

impl<S> Clone for BoxedHandler<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for BoxedHandler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedHandler")
    }
}

impl<S: 'static> Handler<(), S> for BoxedHandler<S> {
    type Future = Answered;

    fn call(self, request: Request, state: S) -> Self::Future {
        (self.0)(request, state)
    }
}

/// Answers GET and HEAD, as [`axum::routing::get`] does.
pub fn get<H, T, S>(handler: H) -> MethodRouter<S>
where
    H: Handler<T, S>,
    S: Clone + Send + Sync + 'static,
{
    MethodRouter::new().get(boxed(handler))
}
