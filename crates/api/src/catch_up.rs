//! Read-your-writes across replicas behind a load balancer: a replica first catches up with what the others have
//! stored. If one process owns the store, nothing waits.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::body::whole;
use super::error::RefusedByView;
use super::state::Admin;

/// Catches up before a page is served, because another replica may just have created its link.
pub async fn before_pages(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    catch_up(&admin).await;
    next.run(request).await
}

/// Runs a request again that was refused for what this replica knew, after catching up: another replica may just have
/// made, changed or removed what it names. Such a refusal has changed nothing.
pub(super) async fn run_again(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    if !admin.deps().directory.is_shared() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = match whole(&parts.extensions, body, &admin).await {
        Ok(body) => Bytes::from_owner(body),
        Err(refusal) => return refusal.into_response(),
    };
    let again = Request::from_parts(parts.clone(), Body::from(body.clone()));
    let request = Request::from_parts(parts, Body::from(body));
    let response = next.clone().run(request).await;
    match response.extensions().get::<RefusedByView>().is_some() && catch_up(&admin).await {
        true => next.run(again).await,
        false => response,
    }
}

/// Waits until this replica knows what the others have stored. Returns whether it shares the store and has
/// caught up.
pub(super) async fn catch_up(admin: &Admin) -> bool {
    let directory = &admin.deps().directory;
    match directory.catch_up().await {
        Ok(()) => directory.is_shared(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the changes of other replicas: a request is answered from memory");
            false
        }
    }
}
