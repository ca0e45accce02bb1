//! `/logins`: the browsers in which users are signed in. Admins and auditors see all of the organisation, others their
//! own.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;

use super::auth::Caller;
use super::body::{Params, Segments};
use super::context::Context;
use super::error::ApiError;
use super::etag::IfMatch;
use super::openapi::Routes;
use super::page::Page;
use super::resource::remove_stored;
use super::wire::List;
use keyward_base::id::LoginId;
use keyward_model::{Login, LoginShown, Record, Shown, User};
use keyward_state::directory::{UserCredential, idle_until};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/logins", ["listLogins", "List the browsers in which users are signed in"], list)
        .delete("/logins/{login}", ["endLogin", "Sign a browser out"], end)
}

async fn list(
    context: Context,
    Params(page): Params<Page>,
) -> Result<Json<List<Shown<Login>>>, ApiError> {
    let view = context.view();
    let all = view.all::<Login>(context.caller.org());
    let mut wanted = Vec::new();
    for login in all.filter_map(|login| shown(&context, login)) {
        let texts = [
            login.id.as_str(),
            &login.facts.user_name,
            login.spec.browser.as_deref().unwrap_or_default(),
            login.spec.address.as_deref().unwrap_or_default(),
        ];
        if page.wants(&texts) {
            wanted.push(login);
        }
    }
    page.cut(wanted, |login| login.id.as_str()).map(Json)
}

async fn end(
    context: Context,
    Segments(id): Segments<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (view, caller) = (context.view(), &context.caller);
    let known = LoginId::parse(&id).ok();
    let known = known.and_then(|id| view.one::<Login>(caller.org(), &id));
    let found = known.and_then(|login| Some((login, shown(&context, login)?)));
    if !found.as_ref().is_some_and(|(login, _)| is_own(caller, login)) {
        caller.has_rights()?;
    }
    let (login, shown) = found.ok_or_else(|| ApiError::not_found("login", &id))?;
    caller.record_changed("login", &login.id, &shown.facts.user_name);
    remove_stored(&context, login, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller signed in, and the login is one of theirs: people of every role end these, as they sign out.
fn is_own(caller: &Caller, login: &Record<Login>) -> bool {
    let is_signed_in = matches!(caller.credential(), Some(UserCredential::Login(_)));
    is_signed_in && caller.user().is_some_and(|user| login.user.id() == Some(&user.id))
}

/// As the API answers with it; `None` if it has ended, or is not for the caller.
fn shown(context: &Context, login: &Arc<Record<Login>>) -> Option<Shown<Login>> {
    let (view, deps) = (context.view(), context.deps());
    let user = view.one::<User>(&login.org, login.user.id()?)?;
    let idle_until = idle_until(login, deps.sign_in.idle);
    if !context.caller.sees_user(user) || !user.may_sign_in() || deps.clock.now() >= idle_until {
        return None;
    }
    let current = context.caller.credential() == Some(&UserCredential::Login(login.id.clone()));
    Some(login.shown(LoginShown {
        user_name: user.name.clone(),
        last_used: login.facts.last_used,
        idle_until,
        expires: login.facts.expires,
        current,
    }))
}
