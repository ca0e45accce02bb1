//! `/users/{user}/password`: users set their own password, and admins those of others. A change ends the user's other
//! logins.

use axum::Extension;
use http::StatusCode;

use super::means::SignInMethodChange;
use crate::body::{Body, Segments};
use crate::catch_up::catch_up;
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi::Routes;
use crate::request_id::SecureRequest;
use crate::wire::PasswordChangeRequest;
use keyward_base::secret::PasswordHash;
use keyward_model::{Record, User};
use keyward_state::crypto::password;
use keyward_state::directory::UserCredential;

pub(crate) fn routes() -> Routes {
    Routes::new()
        .put("/users/{user}/password", ["setPassword", "Set the password of a user"], set)
        .delete(
            "/users/{user}/password",
            ["removePassword", "Remove the password of a user"],
            remove,
        )
}

async fn set(
    context: Context,
    Segments(name): Segments<String>,
    visit: Option<Extension<SecureRequest>>,
    Body(PasswordChangeRequest { password, current }): Body<PasswordChangeRequest>,
) -> Result<StatusCode, ApiError> {
    let means = SignInMethodChange::of(&context, &name)?;
    means.signs_in()?;
    if let Some(wrong) = password::refusal(&password.0, &means.user.name) {
        return Err(ApiError::field("password", wrong));
    }
    means.prove(current, visit).await?;
    let hash = context.admin.sign_in_limits().hash(password.0).await?;
    context.caller.because("password set");
    store(&context, &means.user, Some(hash)).await
}

async fn remove(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let means = SignInMethodChange::of(&context, &name)?;
    if means.user.facts.password.is_none() {
        return Err(ApiError::refused(format!("user `{}` has no password", means.user.name)));
    }
    means.may_remove("password")?;
    context.caller.because("password removed");
    store(&context, &means.user, None).await
}

async fn store(
    context: &Context,
    user: &Record<User>,
    hash: Option<PasswordHash>,
) -> Result<StatusCode, ApiError> {
    let directory = &context.deps().directory;
    let own = match context.caller.credential() {
        Some(UserCredential::Login(id)) => Some(id),
        _ => None,
    };
    // First: a login that is to end must not read the new password and replace it.
    directory.end_logins(&user.org, &user.id, own).await?;
    directory.set_password(user, hash).await?;
    // Another replica may just have stored a login with the former password.
    catch_up(&context.admin).await;
    directory.end_logins(&user.org, &user.id, own).await?;
    Ok(StatusCode::NO_CONTENT)
}
