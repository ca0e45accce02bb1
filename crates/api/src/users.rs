//! `/users`: people and what they may do. Admins change them; a member sees nobody but themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::wire::{List, NewUser, PersonalTokenView, UserPatch, UserView};
use keyward_state::directory::{self, PersonalToken, UserRecord};

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/users", get(list).post(add))
        .route("/users/{user}", get(show).patch(change).delete(remove))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<UserView>>, ApiError> {
    let directory = admin.deps().directory.view();
    let seen = directory.users(caller.org()).filter(|user| caller.sees_user(user));
    let texts = |user: &UserRecord| {
        page.wants(&[&user.name, user.id.as_str(), user.email.as_deref().unwrap_or("")])
    };
    let page = page.cut(seen.filter(|user| texts(user)).collect(), |user| &user.name)?;
    Ok(Json(page.map(|user| view(&admin, user))))
}

async fn show(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<UserView>, ApiError> {
    Ok(Json(view(&admin, &*found(&admin, &caller, &name)?)))
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewUser>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    of_admin(&caller)?;
    let NewUser { name, email, role } = new;
    let new = directory::NewUser { name, email, role };
    let user = admin.deps().directory.add_user(caller.org(), new).await?;
    caller.names("user", &user.id, &user.name);
    caller.because(format!("role {}", user.role.as_str()));
    Ok((StatusCode::CREATED, Json(view(&admin, &user))))
}

/// Who is paused, or may do less from now on, notices with the next request.
async fn change(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
    Body(patch): Body<UserPatch>,
) -> Result<Json<UserView>, ApiError> {
    let user = found(&admin, &caller, &name)?;
    of_admin(&caller)?;
    caller.because(told(&patch));
    let set = move |user: &mut UserRecord| {
        if let Some(email) = &patch.email {
            user.email.clone_from(email);
        }
        user.role = patch.role.unwrap_or(user.role);
        user.paused = patch.paused.unwrap_or(user.paused);
    };
    let changed = admin.deps().directory.update_user(&user.org, &user.id, set).await?;
    Ok(Json(view(&admin, &changed)))
}

async fn remove(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let user = found(&admin, &caller, &name)?;
    of_admin(&caller)?;
    admin.deps().directory.remove_user(&user.org, &user.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By name or id, as far as they exist for the caller.
pub(super) fn found(
    admin: &Admin,
    caller: &Caller,
    name: &str,
) -> Result<Arc<UserRecord>, ApiError> {
    let found = of(admin, caller, name)?;
    caller.names("user", &found.id, &found.name);
    Ok(found)
}

/// The same of who is only mentioned.
pub(super) fn of(admin: &Admin, caller: &Caller, name: &str) -> Result<Arc<UserRecord>, ApiError> {
    let view = admin.deps().directory.view();
    let found = view.find_user(caller.org(), name).filter(|user| caller.sees_user(user));
    let known = || view.users(caller.org()).filter(|user| caller.sees_user(user));
    let known = || known().map(|user| &*user.name);
    let found = found.ok_or_else(|| ApiError::not_found_among("user", name, known()))?;
    Ok(found.clone())
}

fn of_admin(caller: &Caller) -> Result<(), ApiError> {
    match caller.user() {
        Some(user) if !caller.edits_all() => Err(ApiError::RoleRefused(user.role.as_str())),
        _ => Ok(()),
    }
}

fn told(patch: &UserPatch) -> String {
    let role = patch.role.map(|role| format!("role {}", role.as_str()));
    let paused = patch.paused.map(|paused| if paused { "paused" } else { "resumed" }.to_owned());
    let email = patch.email.as_ref().map(|_| "e-mail address".to_owned());
    role.into_iter().chain(paused).chain(email).collect::<Vec<_>>().join(", ")
}

fn view(admin: &Admin, user: &UserRecord) -> UserView {
    UserView {
        id: user.id.clone(),
        name: user.name.clone(),
        email: user.email.clone(),
        role: user.role,
        paused: user.paused,
        created: user.created,
        updated: user.updated,
        tokens: user.tokens.iter().map(|token| token_view(admin, user, token)).collect(),
    }
}

/// A token without its text.
pub(super) fn token_view(
    admin: &Admin,
    user: &UserRecord,
    token: &PersonalToken,
) -> PersonalTokenView {
    PersonalTokenView {
        id: token.id.clone(),
        user: user.id.clone(),
        name: user.name.clone(),
        label: token.label.clone(),
        scopes: token.scopes.clone(),
        created: token.created,
        expires: token.expires,
        last_used: admin.deps().metrics.usage.token(&token.id).last,
    }
}
