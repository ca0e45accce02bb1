//! `/tokens`: personal access tokens. The text of a new token is returned once. A token can create
//! others, but not with more rights or a longer life.

use std::sync::Arc;

use axum::Json;
use http::StatusCode;

use super::token_shown;
use crate::auth::Caller;
use crate::body::{Params, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::input::SpecInput;
use crate::openapi::Routes;
use crate::page::Page;
use crate::resource::found;
use crate::tokens::{expiry, shown_once};
use crate::wire::{List, TokenIssued};
use keyward_base::id::TokenId;
use keyward_model::{
    PersonalTokenCreateOptions, PersonalTokenShown, PersonalTokenSpec, Record, Scope, User,
};

pub(crate) fn routes() -> Routes {
    Routes::new()
        .get("/tokens", ["listTokens", "List personal access tokens"], list)
        .post("/tokens", ["addToken", "Add a personal access token"], add)
        .delete("/tokens/{token}", ["revokeToken", "Revoke a personal access token"], revoke)
}

async fn list(
    context: Context,
    Params(page): Params<Page>,
) -> Result<Json<List<PersonalTokenShown>>, ApiError> {
    let directory = context.view();
    let seen = directory.all::<User>(context.caller.org());
    let seen = seen.filter(|user| context.caller.sees_user(user));
    let all = seen
        .flat_map(|user| user.facts.tokens.iter().map(|token| token_shown(&context, user, token)));
    let wants = |token: &PersonalTokenShown| {
        let label = token.spec.label.as_deref().unwrap_or("");
        page.wants(&[token.id.as_str(), &token.name, label])
    };
    page.cut(all.filter(wants).collect(), |token: &PersonalTokenShown| token.id.as_str()).map(Json)
}

async fn add(
    context: Context,
    SpecInput { spec, options }: SpecInput<PersonalTokenSpec, PersonalTokenCreateOptions>,
) -> Result<(StatusCode, Json<TokenIssued>), ApiError> {
    let user = whose(&context, options.user.as_deref())?;
    let spec = covered(&context.caller, spec)?;
    let now = context.deps().clock.now();
    let expires = expiry(options.ttl.as_deref(), options.expires_in, now)?;
    context.caller.check_token_expiry(expires)?;
    let (label, directory) = (spec.label.clone(), &context.deps().directory);
    let issued = directory.add_personal_token(&user.org, &user.id, spec, expires).await?;
    Ok((StatusCode::CREATED, Json(shown_once(&issued, label)?)))
}

/// Oneself, or for an admin anybody.
fn whose(context: &Context, named: Option<&str>) -> Result<Arc<Record<User>>, ApiError> {
    let caller = &context.caller;
    match (named, caller.user()) {
        (Some(name), own) => {
            let user = found::<User>(context, name)?;
            match caller.edits_all() || own.is_some_and(|own| own.id == user.id) {
                true => Ok(user),
                false => Err(ApiError::AnotherUser(user.name.clone())),
            }
        }
        (None, Some(user)) => {
            caller.record_changed("user", &user.id, &user.name);
            Ok(user.clone())
        }
        (None, None) => Err(ApiError::field("user", "is missing: name the user of the token")),
    }
}

/// Refuses scopes that the caller's own token lacks.
fn covered(caller: &Caller, spec: PersonalTokenSpec) -> Result<PersonalTokenSpec, ApiError> {
    let spec = spec.or_all();
    match spec.scopes.iter().find(|scope: &&Scope| !caller.covers(**scope)) {
        None => Ok(spec),
        Some(scope) => Err(ApiError::ScopeMissing(scope.to_string())),
    }
}

async fn revoke(
    context: Context,
    Segments(token): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let (view, id) = (context.view(), TokenId::parse(&token).ok());
    let has = |user: &&Arc<Record<User>>| {
        user.facts.tokens.iter().any(|token| Some(&token.id) == id.as_ref())
    };
    let seen = view.all::<User>(context.caller.org());
    let found = seen.filter(|user| context.caller.sees_user(user)).find(has);
    let (Some(user), Some(id)) = (found, &id) else {
        return Err(ApiError::not_found("token", &token));
    };
    context.caller.record_changed("user", &user.id, &user.name);
    context.deps().directory.revoke_personal_token(&user.org, &user.id, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
