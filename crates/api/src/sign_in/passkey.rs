//! Sign-in with a passkey. The browser asks for a challenge, and gives it back signed; `webauthn` of `keyward-state`
//! checks the rest.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use data_encoding::BASE64URL_NOPAD;
use http::{HeaderMap, header};

use super::attempt::{AuthenticatedUser, Browser, only_browsers};
use crate::body::Body;
use crate::change_record::PendingRecord;
use crate::error::ApiError;
use crate::request_id::SecureRequest;
use crate::request_refusal::RequestRefusal;
use crate::state::Admin;
use crate::wire::{PasskeyRequest, UsedCredential};
use keyward_base::host::{Host, Scheme, Target};
use keyward_model::{NoMembers, SignInMethod};
use keyward_state::crypto::challenge::{self, Challenges, Valid};
use keyward_state::crypto::webauthn::{
    Ceremony, PasskeyAlgorithm, PasskeyAssertion, WebauthnError, challenge_in,
};

/// What a challenge for a sign-in is for.
const SIGN_IN: &str = "sign-in";

/// The origin of the page that asks, and its relying party.
#[derive(Clone, Debug)]
pub(crate) struct PasskeySite {
    pub(crate) origin: String,
    pub(crate) rp_id: String,
}

/// A challenge that came back, and that belongs to this site.
pub(crate) struct ReturnedChallenge {
    pub(crate) challenge: Vec<u8>,
    pub(crate) valid: Valid,
}

impl PasskeySite {
    /// By the admitted `Host` of the request.
    ///
    /// # Errors
    /// When it is an address: passkeys belong to a host name.
    pub(crate) fn of(fields: &HeaderMap, visit: SecureRequest) -> Result<Self, ApiError> {
        let scheme = if visit.is_https { Scheme::Https } else { Scheme::Http };
        let host = fields.get(header::HOST).and_then(|host| host.to_str().ok());
        let target = host.and_then(|host| Target::parse(scheme, host).ok());
        let target = target.ok_or(ApiError::Misdirected)?;
        let Host::Name(name) = target.host() else {
            return Err(ApiError::refused(
                "passkeys belong to a host name, and this page has an address",
            )
            .hint("open the console by its name, or at http://localhost with its port"));
        };
        let (scheme, default) = (scheme.as_str(), scheme.default_port());
        let port = match target.port() {
            port if port == default => String::new(),
            port => format!(":{port}"),
        };
        Ok(Self { origin: format!("{scheme}://{name}{port}"), rp_id: name.to_string() })
    }

    pub(crate) fn ceremony<'a>(&'a self, challenge: &'a [u8]) -> Ceremony<'a> {
        Ceremony { challenge, origin: &self.origin, rp_id: &self.rp_id }
    }
}

/// Answers with a challenge, and with what else the browser needs to sign in.
pub(super) async fn challenge(
    State(admin): State<Admin>,
    visit: Option<Extension<SecureRequest>>,
    fields: HeaderMap,
    Body(NoMembers {}): Body<NoMembers>,
) -> Result<Json<PasskeyRequest>, ApiError> {
    let Some(Extension(visit)) = visit else { return Err(only_browsers()) };
    on(&admin)?;
    let site = PasskeySite::of(&fields, visit)?;
    let challenge = admin.challenges().issue(SIGN_IN, admin.deps().clock.now());
    Ok(Json(PasskeyRequest {
        challenge: BASE64URL_NOPAD.encode(&challenge),
        timeout: timeout_ms(),
        rp_id: site.rp_id,
        user_verification: "required",
    }))
}

/// Refuses when the configuration switches passkeys off.
pub(crate) fn on(admin: &Admin) -> Result<(), RequestRefusal> {
    match admin.deps().sign_in.passkeys {
        true => Ok(()),
        false => Err(RequestRefusal::PasskeysOff),
    }
}

/// How long a browser waits for its user.
pub(crate) fn timeout_ms() -> i64 {
    challenge::LIFE.as_secs() * 1_000
}

/// The challenge that the client data has, if it was issued for this purpose.
pub(crate) fn returned(
    challenges: &Challenges,
    client_data: &[u8],
    purpose: &str,
    now: jiff::Timestamp,
) -> Result<ReturnedChallenge, WebauthnError> {
    let challenge = challenge_in(client_data)?;
    let valid = challenges.check(&challenge, purpose, now).ok_or(WebauthnError::Challenge)?;
    Ok(ReturnedChallenge { challenge, valid })
}

/// Binary values are given as base 64 for URLs.
pub(crate) fn decoded(text: &str) -> Result<Vec<u8>, WebauthnError> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| WebauthnError::Malformed)
}

impl Browser<'_> {
    /// Unknown passkeys and wrong signatures get the same answer.
    pub(super) async fn by_passkey(
        &self,
        given: UsedCredential,
        record: &mut PendingRecord,
    ) -> Result<AuthenticatedUser, ApiError> {
        on(self.admin)?;
        let site = PasskeySite::of(self.fields, self.visit)?;
        let (deps, view) = (self.admin.deps(), self.admin.deps().directory.view());
        let found = view.passkey(&given.id);
        if let Some((user, _)) = found {
            record.set_user(user);
        }
        let Some((user, passkey)) = found.filter(|(user, _)| user.may_sign_in()) else {
            return Err(self.passkey_failed(WebauthnError::Key)?);
        };
        let checked = self.check(&site, &given, user.id.as_str(), passkey);
        let count = match checked {
            Ok(count) => count,
            Err(error) => return Err(self.passkey_failed(error)?),
        };
        if !self.is_first_use(&given).await? {
            return Err(self.passkey_failed(WebauthnError::Challenge)?);
        }
        let now = deps.clock.now();
        let used = |own: &mut keyward_model::Passkey| {
            own.count = own.count.max(count);
            own.last_used = Some(now);
        };
        deps.directory.change_passkey(&user.org, &user.id, &passkey.id, used).await?;
        Ok(AuthenticatedUser::new(user.clone(), SignInMethod::Passkey))
    }

    /// Whether no other replica has accepted the challenge.
    async fn is_first_use(&self, given: &UsedCredential) -> Result<bool, ApiError> {
        let client_data = decoded(&given.response.client_data_json).unwrap_or_default();
        let challenge = challenge_in(&client_data).unwrap_or_default();
        let name = format!("passkey/{}", BASE64URL_NOPAD.encode(&challenge));
        let life = Duration::from_secs(challenge::LIFE.as_secs().unsigned_abs());
        Ok(self.admin.deps().directory.claim_once(&name, life).await?)
    }

    fn check(
        &self,
        site: &PasskeySite,
        given: &UsedCredential,
        user: &str,
        passkey: &keyward_model::Passkey,
    ) -> Result<u32, WebauthnError> {
        let (challenges, now) = (self.admin.challenges(), self.admin.deps().clock.now());
        let response = &given.response;
        let client_data = decoded(&response.client_data_json)?;
        let ReturnedChallenge { challenge, valid } =
            returned(challenges, &client_data, SIGN_IN, now)?;
        // §7.2 step 6: the user whom the authenticator names is the owner of the credential.
        let handle = decoded(response.user_handle.as_deref().ok_or(WebauthnError::Malformed)?)?;
        if handle != user.as_bytes() {
            return Err(WebauthnError::Key);
        }
        let algorithm = PasskeyAlgorithm::of(passkey.algorithm).ok_or(WebauthnError::Key)?;
        let data = decoded(&response.authenticator_data)?;
        let signature = decoded(&response.signature)?;
        let given = PasskeyAssertion {
            client_data: &client_data,
            authenticator_data: &data,
            signature: &signature,
        };
        let key = decoded(&passkey.public_key)?;
        let ceremony = site.ceremony(&challenge);
        let count = ceremony.sign_in(&given, algorithm, &key, passkey.count)?;
        match challenges.use_up(valid, now) {
            true => Ok(count),
            false => Err(WebauthnError::Challenge),
        }
    }

    /// Counts the failure of the address; the log has the reason.
    fn passkey_failed(&self, error: WebauthnError) -> Result<ApiError, RequestRefusal> {
        match error {
            WebauthnError::Counter => tracing::warn!(%error, "a passkey is refused"),
            error => tracing::debug!(%error, "a passkey is refused"),
        }
        self.admin.sign_in_limits().failed(self.visit.client)?;
        Ok(RequestRefusal::PasskeyRefused.into())
    }
}
