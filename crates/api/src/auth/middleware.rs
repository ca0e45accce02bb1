//! Middleware that authenticates requests and records changes in the audit log; and whether the access of a
//! [`Caller`] has ended while its answer is sent.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Access, Caller, CallerIdentity, OPEN};
use crate::catch_up::catch_up;
use crate::change_record::PendingRecord;
use crate::idempotency::once;
use crate::state::{Admin, Deps};
use keyward_base::codes::Code;
use keyward_model::User;
use keyward_state::directory::UserCredential;
use keyward_state::observe::change::TaskActor;

/// Authenticates a request on the socket, whose peer is the operator unless it sends a token, and records
/// changes in the audit log.
pub(crate) async fn on_socket(
    State(admin): State<Admin>,
    request: Request,
    next: Next,
) -> Response {
    if OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let mut caller = Caller::of(&admin, &request, CallerIdentity::Operator);
    // Another replica may just have made the token, or the organisation that the request names.
    if caller.is_err() && catch_up(&admin).await {
        caller = Caller::of(&admin, &request, CallerIdentity::Operator);
    }
    match caller {
        Ok(caller) => serve(&admin, caller, request, next).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Serves the request of a caller; a repeated one with the same `Idempotency-Key` has no further effect. Without the
/// rights, there is no kept answer either.
pub(crate) async fn serve(admin: &Admin, caller: Caller, request: Request, next: Next) -> Response {
    if caller.may().is_err() {
        return serve_now(admin, caller, request, next).await;
    }
    let (of, own) = (caller.clone(), admin.clone());
    once(admin, &of, request, |request| async move { serve_now(&own, caller, request, next).await })
        .await
}

async fn serve_now(admin: &Admin, caller: Caller, mut request: Request, next: Next) -> Response {
    let allowed = caller.may();
    if caller.access != Access::Write {
        return match allowed {
            Ok(()) => {
                let actor = caller.actor();
                request.extensions_mut().insert(caller);
                actor.acting(next.run(request)).await
            }
            Err(refusal) => refusal.into_response(),
        };
    }
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let record = match PendingRecord::begin(admin, &caller, &method, &path).await {
        Ok(record) => record,
        Err(refusal) => return refusal.into_response(),
    };
    let response = match allowed {
        Ok(()) => {
            let actor = TaskActor { by: caller.actor(), request: Some(record.events()) };
            request.extensions_mut().insert(caller);
            actor.scope(next.run(request)).await
        }
        Err(refusal) => refusal.into_response(),
    };
    let code = response.extensions().get::<Code>().copied();
    record.ended(response.status(), code);
    response
}

/// How often a streaming answer checks whether the time of its caller's token or login has ended.
const CREDENTIAL_CHECK_EVERY: Duration = Duration::from_secs(15);

impl Caller {
    /// Whether the caller's authentication is still valid, with the same rights; checked during streaming responses.
    pub(crate) fn is_still_authenticated(&self, deps: &Deps) -> bool {
        let CallerIdentity::User(person) = &self.who else { return self.has_live_credential(deps) };
        let role = deps.directory.view().one::<User>(&self.org, &person.user.id).map(|it| it.role);
        role == Some(person.user.role) && self.has_live_credential(deps)
    }

    /// Whether the caller's token or login would still be accepted, perhaps with another role.
    pub(crate) fn has_live_credential(&self, deps: &Deps) -> bool {
        let (view, now) = (deps.directory.view(), deps.clock.now());
        let CallerIdentity::User(person) = &self.who else { return view.org(&self.org).is_some() };
        view.one::<User>(&self.org, &person.user.id).is_some_and(|user| {
            let is_live = match &person.credential {
                UserCredential::Token(id) => {
                    let live = user.facts.tokens.iter().find(|token| token.id == *id);
                    live.is_some_and(|token| token.is_live(now))
                }
                UserCredential::Login(id) => {
                    view.is_login_valid(&self.org, id, deps.sign_in.idle, now)
                }
            };
            !user.paused && is_live
        })
    }

    /// Waits until the caller's authentication is no longer valid: after a change at once, after its time within
    /// `CREDENTIAL_CHECK_EVERY`.
    pub(crate) async fn authentication_end(&self, deps: &Deps) {
        let mut changes = deps.directory.changes();
        while self.is_still_authenticated(deps) {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(CREDENTIAL_CHECK_EVERY) => {}
            }
        }
    }
}
