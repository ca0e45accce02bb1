//! [`Context`]: what every handler of a resource needs, the services and who asks.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::auth::Caller;
use super::error::ApiError;
use super::state::{Admin, Deps};
use keyward_state::directory::View;

/// The services, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) admin: Admin,
    pub(super) caller: Caller,
}

impl Context {
    pub(super) fn deps(&self) -> &Deps {
        self.admin.deps()
    }

    /// The directory as of now.
    pub(super) fn view(&self) -> Arc<View> {
        self.deps().directory.view()
    }
}

impl FromRequestParts<Admin> for Context {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, admin).await?;
        Ok(Self { admin: admin.clone(), caller })
    }
}
