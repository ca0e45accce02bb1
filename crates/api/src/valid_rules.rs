//! [`ValidRules`]: refuses requests whose answer depends on rules with which no gateway would start. Only a process
//! without listeners can have such rules.

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::error::ApiError;
use super::state::Admin;

/// An argument of each handler that decides by the rules of the configuration, or shows them. Tests of connections do not
/// have it, nor do changes of stored rules, which may be the remedy.
#[derive(Clone, Copy, Debug)]
pub(super) struct ValidRules(());

impl FromRequestParts<Admin> for ValidRules {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, admin: &Admin) -> Result<Self, ApiError> {
        match &*admin.deps().refused_rules {
            [] => Ok(Self(())),
            errors => Err(ApiError::RulesRefused { errors: errors.to_vec() }),
        }
    }
}
