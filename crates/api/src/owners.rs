//! Whose a new thing is, and to whom it is given. Only who may change everything gives to others.

use super::auth::Caller;
use super::context::Context;
use super::error::ApiError;
use super::resource::mentioned;
use super::state::Admin;
use keyward_base::id::UserId;
use keyward_model::User;
use keyward_state::directory::Visibility;

/// The owner of something new: who is named, else who asks.
pub(super) fn of_new(
    admin: &Admin,
    caller: &Caller,
    named: Option<&str>,
) -> Result<Option<UserId>, ApiError> {
    match named {
        Some(name) => given_to(admin, caller, Some(name)),
        None => Ok(caller.user().map(|user| user.id.clone())),
    }
}

/// To whom something is given.
pub(super) fn given_to(
    admin: &Admin,
    caller: &Caller,
    named: Option<&str>,
) -> Result<Option<UserId>, ApiError> {
    let context = Context { admin: admin.clone(), caller: caller.clone() };
    let found = named.map(|name| mentioned::<User>(&context, name)).transpose()?;
    let found = found.map(|user| user.id.clone());
    let own = caller.user().map(|user| user.id.clone());
    match caller.user() {
        Some(user) if !caller.edits_all() && found != own => {
            Err(ApiError::RoleRefused(user.role.as_str()))
        }
        _ => Ok(found),
    }
}

/// What is somebody's is theirs alone unless they say otherwise.
pub(super) fn visibility(owner: Option<&UserId>, asked: Option<Visibility>) -> Visibility {
    asked.unwrap_or(match owner {
        Some(_) => Visibility::Private,
        None => Visibility::Shared,
    })
}
