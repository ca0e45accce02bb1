//! Ownership of new resources. Only callers who may change everything may assign another owner.

use super::context::Context;
use super::error::ApiError;
use super::resource::mentioned;
use keyward_base::id::UserId;
use keyward_model::User;
use keyward_state::directory::Visibility;

/// The owner of a new resource: the named user, else the caller.
pub(super) fn of_new(context: &Context, named: Option<&str>) -> Result<Option<UserId>, ApiError> {
    match named {
        Some(name) => resolve_assigned(context, Some(name)),
        None => Ok(context.caller.user().map(|user| user.id.clone())),
    }
}

/// Checks that the caller may assign the named owner; `None`: the organisation.
pub(super) fn resolve_assigned(
    context: &Context,
    named: Option<&str>,
) -> Result<Option<UserId>, ApiError> {
    let caller = &context.caller;
    let found = named.map(|name| mentioned::<User>(context, name)).transpose();
    let found = found.map_err(|error| error.in_field("owner"))?;
    let found = found.map(|user| user.id.clone());
    let own = caller.user().map(|user| user.id.clone());
    match caller.user() {
        Some(user) if !caller.edits_all() && found != own => {
            Err(ApiError::RoleRefused(user.role.as_str()))
        }
        _ => Ok(found),
    }
}

/// The visibility of a connection: the requested one; by default private if it has an owner, else
/// shared.
pub(super) fn visibility(owner: Option<&UserId>, asked: Option<Visibility>) -> Visibility {
    asked.unwrap_or(match owner {
        Some(_) => Visibility::Private,
        None => Visibility::Shared,
    })
}
