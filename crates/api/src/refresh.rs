//! `/connections/{connection}/refresh`: requests a new token now.

use axum::Json;

use super::body::Segments;
use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
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
    context: Context,
    Segments(name): Segments<String>,
) -> Result<Json<TokenRefreshed>, ApiError> {
    let connection = context.connection(&name)?;
    let vault = &context.deps().vault;
    let refreshed = vault.refresh_now(&connection.org, &connection.id).await;
    // The verdict may be in force now.
    context.admin.enforce().await?;
    refreshed?;
    let token = vault.status(&connection).await;
    Ok(Json(TokenRefreshed { name: connection.name.clone(), token }))
}
