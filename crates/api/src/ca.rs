//! `/ca`: the certificate authority, and its rotation. What a rotation does is `keyward_proxy::ca`'s.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::body::Body;
use super::error::ApiError;
use super::openapi::Routes;
use super::state::Admin;
use super::wire::{CaView, RotateCa};
use keyward_base::time::parse_duration;
use keyward_proxy::ca::CaError;
use keyward_proxy::ca::authority::{Authority, OVERLAP_DEFAULT, Overview, RotationMode};

pub(super) fn routes() -> Routes {
    Routes::new().get("/ca", ["getCa", "Show the certificate authority"], show).post(
        "/ca/rotate",
        ["rotateCa", "Replace the certificate authority"],
        rotate,
    )
}

async fn show(State(admin): State<Admin>) -> Json<CaView> {
    Json(view(&admin.deps().authority))
}

async fn rotate(
    State(admin): State<Admin>,
    Body(asked): Body<RotateCa>,
) -> Result<Json<CaView>, ApiError> {
    let (how, authority) = (rotation_mode(&asked)?, Arc::clone(&admin.deps().authority));
    // Off the async threads, and to its end when the caller goes away.
    let rotated = tokio::task::spawn_blocking(move || {
        authority.rotate(how)?;
        Ok(view(&authority))
    });
    rotated.await.map_err(ApiError::internal)?.map(Json)
}

fn rotation_mode(asked: &RotateCa) -> Result<RotationMode, ApiError> {
    match (&asked.overlap, asked.no_overlap) {
        (Some(_), true) => Err(ApiError::field("overlap", "contradicts `no_overlap`")),
        (None, true) => Ok(RotationMode::NoOverlap),
        (None, false) => Ok(RotationMode::Overlap(OVERLAP_DEFAULT)),
        (Some(text), false) => {
            let length = parse_duration(text);
            let length = length.map_err(|error| ApiError::field("overlap", error.to_string()))?;
            // Certificates count in whole seconds.
            match length.as_secs() {
                0 => Err(ApiError::field("overlap", "is shorter than a second: use `no_overlap`")),
                _ => Ok(RotationMode::Overlap(length)),
            }
        }
    }
}

fn view(authority: &Authority) -> CaView {
    let Overview { certificates, overlap_until, made_here, notice, pem } = authority.overview();
    CaView {
        fingerprint: authority.fingerprint(),
        expires: authority.expires(),
        overlap_until,
        made_here,
        notice,
        certificates,
        pem,
    }
}

impl From<CaError> for ApiError {
    fn from(error: CaError) -> Self {
        match error {
            CaError::Sign(_) | CaError::Random(_) | CaError::Tls(_) => Self::internal(error),
            // The operator asked, and the operator must look: files are named.
            refused => {
                Self::refused(refused.to_string()).hint_if(refused.hint().map(str::to_owned))
            }
        }
    }
}
