//! `/users/{user}/totp`: one-time codes (RFC 6238), required beside the password once a first code has confirmed the
//! key. The key is shown once.

use std::net::{IpAddr, Ipv4Addr};

use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use jiff::SignedDuration;
use qrcode::{EcLevel, QrCode, render::svg};
use zeroize::Zeroizing;

use super::means::SignInMethodChange;
use crate::body::{Body, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi::Routes;
use crate::request_id::SecureRequest;
use crate::sign_in::limits::{CodeTry, network};
use crate::wire::{TotpCode, TotpRequest, TotpView};
use keyward_base::secret::TotpKey;
use keyward_model::{Record, User};
use keyward_state::directory::TotpError;

/// How long a new key waits for its first code.
const CONFIRMED_WITHIN: SignedDuration = SignedDuration::from_mins(15);

/// Of the picture, in pixels.
const PICTURE_MIN: u32 = 200;

pub(crate) fn routes() -> Routes {
    const PATH: &str = "/users/{user}/totp";
    Routes::new()
        .post(PATH, ["addTotp", "Make a key of one-time codes; a code confirms it"], add)
        .put(
            PATH,
            ["confirmTotp", "Confirm the key with a code, which is required from now on"],
            confirm,
        )
        .delete(PATH, ["removeTotp", "Remove the key: the password alone signs in"], remove)
}

async fn add(
    context: Context,
    Segments(name): Segments<String>,
    visit: Option<Extension<SecureRequest>>,
    Body(TotpRequest { current, code }): Body<TotpRequest>,
) -> Result<(StatusCode, Json<TotpView>), ApiError> {
    let means = SignInMethodChange::of(&context, &name)?;
    let user = &means.user;
    means.signs_in()?;
    if user.facts.password.is_none() {
        return Err(ApiError::refused(format!(
            "user `{}` has no password, and a code is required only beside one",
            user.name
        ))
        .hint("set a password first; links and passkeys need no code"));
    }
    means.prove(current, visit).await?;
    let directory = &context.deps().directory;
    if user.facts.totp.is_some() && means.needs_proof() {
        let code = code.ok_or_else(|| ApiError::field("code", "is missing"))?;
        try_code(&context, user, visit)?;
        directory.use_totp(&user.org, &user.id, &code.0).await.map_err(refused)?;
    }
    let expires = context.deps().clock.now() + CONFIRMED_WITHIN;
    let key = directory.add_totp(&user.org, &user.id, expires).await?;
    context.caller.because("key made");
    let uri = uri(&key, &user.name, &context.deps().public_url);
    let view = TotpView {
        secret: key.text().to_string(),
        qr: picture(&uri)?,
        uri: uri.to_string(),
        expires,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

async fn confirm(
    context: Context,
    Segments(name): Segments<String>,
    visit: Option<Extension<SecureRequest>>,
    Body(TotpCode { code }): Body<TotpCode>,
) -> Result<StatusCode, ApiError> {
    let means = SignInMethodChange::of(&context, &name)?;
    let user = &means.user;
    try_code(&context, user, visit)?;
    context.deps().directory.confirm_totp(&user.org, &user.id, &code.0).await.map_err(refused)?;
    context.caller.because("required from now on");
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let means = SignInMethodChange::of(&context, &name)?;
    let user = &means.user;
    if user.facts.totp.is_none() && user.facts.totp_new.is_none() {
        return Err(ApiError::refused(format!("user `{}` has no one-time codes", user.name)));
    }
    means.may_remove("key of one-time codes")?;
    context.deps().directory.remove_totp(&user.org, &user.id).await?;
    context.caller.because("removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a code that the caller gives for a user from the budget of codes.
fn try_code(
    context: &Context,
    user: &Record<User>,
    visit: Option<Extension<SecureRequest>>,
) -> Result<(), ApiError> {
    let client = visit.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(visit)| visit.client);
    let tried = CodeTry { user: user.id.as_str(), network: network(client), is_known: true };
    Ok(context.admin.sign_in_limits().try_code(tried)?)
}

fn refused(error: TotpError) -> ApiError {
    match error {
        TotpError::NoKey => {
            ApiError::refused("there is no new key of one-time codes, or it has expired")
                .hint("begin again")
        }
        TotpError::WrongCode => ApiError::WrongProof {
            field: "code",
            message: "is wrong, or was used",
            hint: Some("wait for the next code; check the clock of the device that shows it"),
        },
        TotpError::Directory(error) => error.into(),
    }
}

/// The key URI that authenticator programs read:
/// <https://github.com/google/google-authenticator/wiki/Key-Uri-Format>.
fn uri(key: &TotpKey, user: &str, public_url: &str) -> Zeroizing<String> {
    let host = public_url.split_once("://").map_or(public_url, |(_, host)| host);
    let account: String =
        form_urlencoded::byte_serialize(format!("{user}@{host}").as_bytes()).collect();
    let secret = key.text();
    Zeroizing::new(format!("otpauth://totp/Keyward:{account}?secret={}&issuer=Keyward", *secret))
}

/// The URI as a QR code, a picture for `img`.
fn picture(uri: &str) -> Result<String, ApiError> {
    let code = QrCode::with_error_correction_level(uri, EcLevel::L).map_err(ApiError::internal)?;
    let svg = Zeroizing::new(
        code.render::<svg::Color<'_>>().min_dimensions(PICTURE_MIN, PICTURE_MIN).build(),
    );
    Ok(format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uri_names_the_user_and_the_gateway() {
        let key = TotpKey::new(Zeroizing::new(*b"12345678901234567890"));
        assert_eq!(
            *uri(&key, "ann", "https://keys.example.com:8443"),
            "otpauth://totp/Keyward:ann%40keys.example.com%3A8443?\
             secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Keyward"
        );
    }
}
