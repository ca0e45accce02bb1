//! Pages that need no sign-in: consents, connect sessions, the certificate authority, errors, and sign-ins that an identity
//! provider refused. They have no rail and no script.

mod ca;
mod connect;
mod consents;
mod errors;
mod page;
mod sign_in;

use axum::{Router, middleware};
use keyward_api::{Admin, before_pages};

/// The pages, for the routers of the API.
pub(crate) fn routes(admin: &Admin) -> Router<Admin> {
    let linked = consents::routes().merge(connect::routes());
    linked
        .layer(middleware::from_fn_with_state(admin.clone(), before_pages))
        .merge(ca::routes())
        .merge(errors::routes())
        .merge(sign_in::routes())
}
