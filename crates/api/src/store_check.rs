//! `/store/check`: all rows and indexes of the store are verified while the gateway serves. Nothing is changed: a repair
//! needs the store for itself, and is `keyward store check --repair`.

use axum::Json;
use axum::extract::State;

use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::StoreCheckView;
use keyward_state::directory::{OpenedRow, View};

pub(super) fn routes() -> Routes {
    Routes::new().post(
        "/store/check",
        ["checkStore", "Verify all rows and indexes of the store"],
        check,
    )
}

/// One at a time: each has all rows in memory.
async fn check(State(admin): State<Admin>) -> Result<Json<StoreCheckView>, ApiError> {
    let Ok(_turn) = admin.store_checks().try_lock() else {
        return Err(ApiError::refused("the store is being checked already")
            .hint("try again when that check has ended"));
    };
    Ok(Json(admin.deps().directory.check_store(check_content).await?.into()))
}

/// Decodes rows that are no records of the directory: `Err` says what is wrong with one.
///
/// # Errors
/// With what is wrong.
pub fn check_content(view: &View, row: &OpenedRow) -> Result<(), String> {
    keyward_vault::check_content(view, row)?;
    keyward_vault::events::check_content(row)?;
    keyward_vault::oauth::check_content(row)?;
    keyward_inbox::check_content(row)
}
