//! Pages of links that cannot be used.

use axum::response::Response;
use http::StatusCode;

use super::render;
use crate::error::ApiError;
use crate::state::Admin;

pub(super) const ASK_AGAIN: &str = "Ask for another link where you got this one.";

pub(super) fn unknown_browser(admin: &Admin) -> Response {
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = "This browser did not open the link, or the link has ended.";
    render::refused(&brand, StatusCode::FORBIDDEN, why, ASK_AGAIN)
}

pub(super) fn foreign(admin: &Admin) -> Response {
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = "This form was sent by another site.";
    render::refused(&brand, StatusCode::FORBIDDEN, why, "Open the link, and use its own buttons.")
}

pub(super) fn ended(admin: &Admin) -> Response {
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = "This link has ended: links work once, and for 30 minutes.";
    render::refused(&brand, StatusCode::GONE, why, ASK_AGAIN)
}

pub(super) fn failure(admin: &Admin, error: &ApiError) -> Response {
    let text = error.text();
    let brand = admin.deps().connect.borrow().branding.clone();
    let why = crate::html::sentence(&text.message);
    render::refused(&brand, text.code.status(), &why, "Nothing was kept. Open the link again.")
}
