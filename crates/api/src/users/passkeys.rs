//! `/session/passkeys`: the passkeys of the user who asks: registered, listed, named and removed. An admin removes all
//! of another user at `/users/{user}/passkeys`.

use axum::Json;
use axum::extract::Extension;
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, StatusCode};

use super::means::SignInMethodChange;
use crate::body::{Body, Segments};
use crate::context::Context;
use crate::error::ApiError;
use crate::openapi::Routes;
use crate::request_id::SecureRequest;
use crate::sign_in::only_browsers;
use crate::sign_in::passkey::{PasskeySite, ReturnedChallenge, decoded, on, returned, timeout_ms};
use crate::wire::{
    AuthenticatorSelection, CredentialDescriptor, CredentialParameter, List,
    PasskeyChallengeRequest, PasskeyChange, PasskeyCreateRequest, PasskeyCreation, PasskeyUser,
    RelyingParty,
};
use keyward_base::id::PasskeyId;
use keyward_model::{Passkey, PasskeyShown, Record, User, is_label};
use keyward_state::crypto::webauthn::{
    PasskeyAlgorithm, PasskeyRegistration, RegisteredKey, WebauthnError,
};

const PUBLIC_KEY: &str = "public-key";

pub(crate) fn routes() -> Routes {
    const OWN: &str = "/session/passkeys";
    const ONE: &str = "/session/passkeys/{passkey}";
    Routes::new()
        .get(OWN, ["listPasskeys", "List one's own passkeys"], list)
        .post(OWN, ["addPasskey", "Register a passkey"], add)
        .post(
            "/session/passkeys/challenge",
            ["addPasskeyChallenge", "Ask for what a browser needs to register a passkey"],
            challenge,
        )
        .patch(ONE, ["changePasskey", "Name a passkey"], change)
        .delete(ONE, ["removePasskey", "Remove a passkey"], remove)
        .delete(
            "/users/{user}/passkeys",
            ["removePasskeys", "Remove all passkeys of a user"],
            remove_all,
        )
}

async fn list(context: Context) -> Result<Json<List<PasskeyShown>>, ApiError> {
    let means = SignInMethodChange::own(&context)?;
    let items = means.user.facts.passkeys.iter().map(Passkey::shown).collect();
    Ok(Json(List { items, next: None }))
}

/// What the browser is asked to register. The challenge is for this user alone.
async fn challenge(
    context: Context,
    visit: Option<Extension<SecureRequest>>,
    fields: HeaderMap,
    Body(PasskeyChallengeRequest { current }): Body<PasskeyChallengeRequest>,
) -> Result<Json<PasskeyCreation>, ApiError> {
    let means = SignInMethodChange::own(&context)?;
    on(&context.admin)?;
    means.signs_in()?;
    let site = PasskeySite::of(&fields, seen(visit.as_ref())?)?;
    means.prove(current, visit).await?;
    let user = &means.user;
    let now = context.deps().clock.now();
    let challenge = context.admin.challenges().issue(&purpose(&means), now);
    context.caller.because("challenge for a new passkey");
    let own = user.facts.passkeys.iter();
    let exclude =
        own.map(|own| CredentialDescriptor { r#type: PUBLIC_KEY, id: own.credential.clone() });
    let params = PasskeyAlgorithm::ALL
        .map(|it| CredentialParameter { r#type: PUBLIC_KEY, alg: it.number() });
    Ok(Json(PasskeyCreation {
        rp: RelyingParty { id: site.rp_id, name: "Keyward".to_owned() },
        user: PasskeyUser {
            id: BASE64URL_NOPAD.encode(user.id.as_str().as_bytes()),
            name: user.name.clone(),
            display_name: user.name.clone(),
        },
        challenge: BASE64URL_NOPAD.encode(&challenge),
        pub_key_cred_params: params.to_vec(),
        timeout: timeout_ms(),
        exclude_credentials: exclude.collect(),
        authenticator_selection: AuthenticatorSelection {
            resident_key: "required",
            require_resident_key: true,
            user_verification: "required",
        },
        attestation: "none",
    }))
}

async fn add(
    context: Context,
    visit: Option<Extension<SecureRequest>>,
    fields: HeaderMap,
    Body(ask): Body<PasskeyCreateRequest>,
) -> Result<(StatusCode, Json<PasskeyShown>), ApiError> {
    let means = SignInMethodChange::own(&context)?;
    on(&context.admin)?;
    named(&ask.name)?;
    let site = PasskeySite::of(&fields, seen(visit.as_ref())?)?;
    let passkey = registered(&means, &site, ask)
        .map_err(|error| ApiError::field("credential", format!("is not accepted: {error}")))?;
    let user = &means.user;
    context.deps().directory.add_passkey(&user.org, &user.id, passkey.clone()).await?;
    context.caller.because(format!("registered: {}", passkey.name));
    Ok((StatusCode::CREATED, Json(passkey.shown())))
}

fn registered(
    means: &SignInMethodChange<'_>,
    site: &PasskeySite,
    ask: PasskeyCreateRequest,
) -> Result<Passkey, WebauthnError> {
    let admin = means.admin();
    let (challenges, now) = (admin.challenges(), admin.deps().clock.now());
    let response = ask.credential.response;
    let client_data = decoded(&response.client_data_json)?;
    let ReturnedChallenge { challenge, valid } =
        returned(challenges, &client_data, &purpose(means), now)?;
    let public_key = response.public_key.ok_or(WebauthnError::Key)?;
    let (data, key) = (decoded(&response.authenticator_data)?, decoded(&public_key)?);
    let given = PasskeyRegistration {
        client_data: &client_data,
        authenticator_data: &data,
        algorithm: response.public_key_algorithm,
        public_key: &key,
    };
    let RegisteredKey { id, count } = site.ceremony(&challenge).register(&given)?;
    if !challenges.use_up(valid, now) {
        return Err(WebauthnError::Challenge);
    }
    Ok(Passkey {
        id: PasskeyId::random(),
        name: ask.name,
        credential: BASE64URL_NOPAD.encode(&id),
        algorithm: response.public_key_algorithm,
        public_key,
        count,
        created: now,
        last_used: None,
    })
}

async fn change(
    context: Context,
    Segments(id): Segments<String>,
    Body(PasskeyChange { name }): Body<PasskeyChange>,
) -> Result<Json<PasskeyShown>, ApiError> {
    let means = SignInMethodChange::own(&context)?;
    let id = of_text(&id)?;
    named(&name)?;
    let user = &means.user;
    let rename = |passkey: &mut Passkey| passkey.name.clone_from(&name);
    let changed = context.deps().directory.change_passkey(&user.org, &user.id, &id, rename).await?;
    context.caller.because(format!("named: {name}"));
    Ok(Json(changed.shown()))
}

async fn remove(context: Context, Segments(id): Segments<String>) -> Result<StatusCode, ApiError> {
    let means = SignInMethodChange::own(&context)?;
    let id = of_text(&id)?;
    context.deps().directory.remove_passkey(&means.user.org, &means.user.id, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove_all(
    context: Context,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let means = SignInMethodChange::of(&context, &name)?;
    let user = &means.user;
    let count = user.facts.passkeys.len();
    if count == 0 {
        return Err(ApiError::refused(format!("user `{}` has no passkeys", user.name)));
    }
    let all = |user: &mut Record<User>| user.facts.passkeys.clear();
    context.deps().directory.change::<User>(&user.org, &user.id, all).await?;
    context.caller.because(format!("removed: {count}"));
    Ok(StatusCode::NO_CONTENT)
}

/// What a challenge for a registration is for.
fn purpose(means: &SignInMethodChange<'_>) -> String {
    format!("register {}", means.user.id)
}

fn named(name: &str) -> Result<(), ApiError> {
    match is_label(name) {
        true => Ok(()),
        false => Err(ApiError::field("name", "must be 1 to 64 printable characters")),
    }
}

fn of_text(id: &str) -> Result<PasskeyId, ApiError> {
    PasskeyId::parse(id).map_err(|_| ApiError::not_found("passkey", id))
}

fn seen(visit: Option<&Extension<SecureRequest>>) -> Result<SecureRequest, ApiError> {
    visit.map(|Extension(visit)| *visit).ok_or_else(only_browsers)
}
