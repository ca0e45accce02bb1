//! Device authorization (RFC 8628): the request for a code, and a single poll. The caller schedules the polls, also
//! across restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use oauth2::{
    DeviceAuthorizationResponse, DeviceAuthorizationUrl, DeviceCodeErrorResponseType,
    ExtraDeviceAuthorizationFields, Scope,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Tokens;
use super::failure::{ActingParty, ErrorCode, Failure, typed};
use super::params::Params;
use super::reply;
use super::request_context::RequestContext;
use super::transport::{Endpoint, Transport, client};
use keyward_base::secret::Secret;

/// RFC 8628 §3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// RFC 8628 §3.5: `slow_down` adds this for good.
pub const SLOW_DOWN: Duration = Duration::from_secs(5);

/// What a code lives where the server does not say.
const LIFE: Duration = Duration::from_secs(600);

/// What a code or an address may be long, in bytes.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// A device flow that has begun. Nothing of it is for agents: who enters the code connects an account.
#[derive(Clone, Debug)]
pub struct Device {
    /// What the poller asks with.
    pub device_code: Secret,
    /// What the person enters.
    pub user_code: Secret,
    /// Where; https.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<Secret>,
    /// When both codes end.
    pub expires: Timestamp,
    /// Between two questions, and before the first.
    pub interval: Duration,
}

/// What is known more exactly than the members of RFC 8628 say, which are whole seconds.
#[derive(Debug, Deserialize, Serialize)]
struct PollInterval {
    expires: Timestamp,
    interval_ms: u64,
}

impl ExtraDeviceAuthorizationFields for PollInterval {}

/// What became of a device flow.
#[derive(Debug)]
pub enum PollResult {
    /// The person has consented.
    Tokens(Box<Tokens>),
    /// Not yet.
    Pending,
    /// Not yet, and the questions come too often: 5 s more between them for good, or this time, if it is
    /// more.
    SlowDown(Option<Duration>),
}

/// RFC 8628 §3.1.
///
/// # Errors
/// When the server gives no code.
pub async fn device_start(ask: &RequestContext<'_>) -> Result<Device, Failure> {
    let url = ask.url(ask.oauth.device.as_ref(), "device")?;
    let transport = Transport::new(ask, Endpoint::Device, url, BTreeMap::default());
    let client =
        client(ask).set_device_authorization_url(transport.url(DeviceAuthorizationUrl::new)?);
    let request = client.exchange_device_code().add_scopes(ask.scope().map(Scope::new));
    let codes: Result<DeviceAuthorizationResponse<PollInterval>, _> =
        request.request_async(&transport).await;
    let codes = codes.map_err(|error| transport.failure(error))?;
    let complete = codes.verification_uri_complete();
    Ok(Device {
        device_code: Secret::new(codes.device_code().secret().as_bytes()),
        user_code: Secret::new(codes.user_code().secret().as_bytes()),
        verification_uri: codes.verification_uri().to_string(),
        verification_uri_complete: complete.map(|uri| Secret::new(uri.secret().as_bytes())),
        expires: codes.extra_fields().expires,
        interval: Duration::from_millis(codes.extra_fields().interval_ms),
    })
}

/// An answer of a device endpoint as the `oauth2` crate parses it.
///
/// # Errors
/// When it holds no codes, or no address where one is entered.
pub(super) fn codes(
    ask: &RequestContext<'_>,
    object: &Map<String, Value>,
) -> Result<Value, Failure> {
    let text = |name: &str| {
        let text = object.get(name).and_then(Value::as_str)?;
        let fits = (1..=TEXT_BYTES_MAX).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
    };
    let missing = || Failure::unreadable("the answer is not that of a device endpoint");
    // Google wrote `verification_url` before the RFC had a name for it.
    let uri = text("verification_uri").or_else(|| text("verification_url"));
    let uri = uri.filter(|uri| uri.starts_with("https://") || ask.settings.insecure_loopback);
    let life = reply::duration(object.get("expires_in")).unwrap_or(LIFE);
    let interval = reply::duration(object.get("interval")).unwrap_or(ask.settings.device_interval);
    Ok(json!({
        "device_code": text("device_code").ok_or_else(missing)?,
        "user_code": text("user_code").ok_or_else(missing)?,
        "verification_uri": uri.ok_or_else(missing)?,
        "verification_uri_complete": text("verification_uri_complete"),
        "expires_in": life.as_secs(),
        "expires": ask.now.checked_add(life).map_err(|_| missing())?,
        "interval_ms": u64::try_from(interval.as_millis()).map_err(|_| missing())?,
    }))
}

/// RFC 8628 §3.4: asks once. The `oauth2` crate only polls until the end, and our polls go on after a
/// restart.
///
/// # Errors
/// [`Failure::Temporary`]: ask again, less often. [`Failure::Permanent`]: declined, expired or refused.
pub async fn device_poll(
    ask: &RequestContext<'_>,
    device_code: &Secret,
) -> Result<PollResult, Failure> {
    let mut params = Params::default();
    params.set("grant_type", DEVICE_CODE);
    params.set("device_code", device_code.clone());
    params.set_all(&ask.token_params()?);
    let answer = ask.post(&ask.token_url()?, &mut params).await?;
    let failure = match ask.reading(&params, false).tokens(&answer) {
        Ok(tokens) => return Ok(PollResult::Tokens(Box::new(tokens))),
        Err(failure) => failure,
    };
    // The status does not matter: GitHub says "pending" with 200.
    let object = reply::object(answer.body());
    let code = object.as_ref().and_then(reply::error).map(|(code, _)| code);
    match code.as_deref().and_then(typed) {
        Some(DeviceCodeErrorResponseType::AuthorizationPending) => return Ok(PollResult::Pending),
        Some(DeviceCodeErrorResponseType::SlowDown) => {
            let interval = object.as_ref().and_then(|object| object.get("interval"));
            return Ok(PollResult::SlowDown(reply::duration(interval)));
        }
        _ => {}
    }
    match failure {
        // Here `access_denied` and `expired_token` have a meaning, and nothing unknown is waited out.
        Failure::Temporary(temporary) if temporary.limited => Err(Failure::Permanent {
            who: ActingParty::Person,
            code: temporary.code.unwrap_or_else(|| ErrorCode::of("refused")),
            said: temporary.said,
        }),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
