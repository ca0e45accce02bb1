//! `/tokens`: personal access tokens. The text of a new one is answered once. Who has a token can
//! make themselves others, none of which may do more or live longer.

use axum::extract::State;
use axum::routing::{delete, get};
use axum::{Json, Router};
use http::StatusCode;

use super::auth::Caller;
use super::body::{Body, Params, Segments};
use super::error::ApiError;
use super::page::Page;
use super::state::Admin;
use super::tokens::{ends_after, shown_once};
use super::users::{found, token_view};
use super::wire::{List, NewPersonalToken, PersonalTokenView, TokenIssued};
use keyward_base::id::TokenId;
use keyward_state::directory::{Scope, UserRecord};

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/tokens", get(list).post(add)).route("/tokens/{token}", delete(revoke))
}

async fn list(
    State(admin): State<Admin>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<List<PersonalTokenView>>, ApiError> {
    let directory = admin.deps().directory.view();
    let seen = directory.users(caller.org()).filter(|user| caller.sees_user(user));
    let all = seen.flat_map(|user| user.tokens.iter().map(|token| token_view(&admin, user, token)));
    let wants = |token: &PersonalTokenView| {
        page.wants(&[token.id.as_str(), &token.name, token.label.as_deref().unwrap_or("")])
    };
    page.cut(all.filter(wants).collect(), |token: &PersonalTokenView| token.id.as_str()).map(Json)
}

async fn add(
    State(admin): State<Admin>,
    caller: Caller,
    Body(new): Body<NewPersonalToken>,
) -> Result<(StatusCode, Json<TokenIssued>), ApiError> {
    let user = whose(&admin, &caller, &new)?;
    let scopes = scopes(&caller, &new.scopes)?;
    let expires = ends_after((new.ttl.as_deref(), new.expires_in), admin.deps().clock.now())?;
    caller.outlives(&user, expires)?;
    let label = new.label;
    let issued = admin
        .deps()
        .directory
        .add_personal_token(&user.org, &user.id, label.clone(), scopes, expires)
        .await?;
    Ok((StatusCode::CREATED, Json(shown_once(&issued, label)?)))
}

/// Oneself, or for an admin anybody.
fn whose(
    admin: &Admin,
    caller: &Caller,
    new: &NewPersonalToken,
) -> Result<std::sync::Arc<UserRecord>, ApiError> {
    match (&new.user, caller.user()) {
        (Some(name), _) => {
            let user = found(admin, caller, name)?;
            match caller.edits_all() || caller.user().is_some_and(|own| own.id == user.id) {
                true => Ok(user),
                false => Err(ApiError::NotYours { what: "user", name: user.name.clone() }),
            }
        }
        (None, Some(user)) => {
            caller.names("user", &user.id, &user.name);
            Ok(user.clone())
        }
        (None, None) => Err(ApiError::field("user", "is missing: name whose token it is")),
    }
}

fn scopes(caller: &Caller, texts: &[String]) -> Result<Vec<Scope>, ApiError> {
    let parse = |(at, text): (usize, &String)| {
        let scope = text.parse::<Scope>();
        scope.map_err(|error| ApiError::field(format!("scopes[{at}]"), error.to_string()))
    };
    let scopes = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    let scopes = if scopes.is_empty() { vec![Scope::All] } else { scopes };
    match scopes.iter().find(|scope| !caller.covers(**scope)) {
        None => Ok(scopes),
        Some(scope) => Err(ApiError::ScopeMissing(scope.to_string())),
    }
}

async fn revoke(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(token): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let directory = &admin.deps().directory;
    let (view, id) = (directory.view(), TokenId::parse(&token).ok());
    let has = |user: &&std::sync::Arc<UserRecord>| {
        user.tokens.iter().any(|token| Some(&token.id) == id.as_ref())
    };
    let found = view.users(caller.org()).filter(|user| caller.sees_user(user)).find(has);
    let (Some(user), Some(id)) = (found, &id) else {
        return Err(ApiError::not_found("token", &token));
    };
    caller.names("user", &user.id, &user.name);
    directory.revoke_personal_token(&user.org, &user.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
