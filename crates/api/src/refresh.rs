//! `/connections/{connection}/refresh`: requests a new token now.

use axum::Json;
use axum::extract::State;

use super::auth::Caller;
use super::body::Segments;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::TokenRefreshed;

pub(super) fn routes() -> Routes {
    Routes::new().post(
        "/connections/{connection}/refresh",
        ["refreshConnection", "Refresh the access token of a connection"],
        refresh,
    )
}

/// Requests a token from the authorization server, regardless of the age of the present one. The back-off after
/// failures of the server still applies; a secret of a source is fetched at once.
async fn refresh(
    State(admin): State<Admin>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Result<Json<TokenRefreshed>, ApiError> {
    let connection = admin.connection(&caller, &name)?;
    let vault = &admin.deps().vault;
    let refreshed = vault.refresh_now(&connection.org, &connection.id).await;
    // The verdict may be in force now.
    admin.enforce().await?;
    refreshed?;
    let token = vault.status(&connection).await;
    Ok(Json(TokenRefreshed { name: connection.name.clone(), token }))
}
