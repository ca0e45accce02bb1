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

use super::Tokens;
use super::failure::{ActingParty, ErrorCode, TokenFailure, typed};
use super::params::Params;
use super::reply;
use super::reported_error::ReportedError;
use super::request_context::RequestContext;
use super::transport::{RequestedEndpoint, Transport, client};
use keyward_base::secret::Secret;
use keyward_net::call::Bounds;

/// RFC 8628 §3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// RFC 8628 §3.5: `slow_down` adds this to the interval permanently.
pub const SLOW_DOWN: Duration = Duration::from_secs(5);

/// A started device flow. It must not reach agents: the person who enters the code connects an account.
#[derive(Clone, Debug)]
pub struct DeviceFlow {
    /// The code of the poller.
    pub device_code: Secret,
    /// The code that the person enters.
    pub user_code: Secret,
    /// The address where it is entered; https.
    pub verification_uri: String,
    /// The same address with the code.
    pub verification_uri_complete: Option<Secret>,
    /// When both codes expire.
    pub expires: Timestamp,
    /// The interval of polls, also before the first one.
    pub interval: Duration,
}

/// Expiry and interval with milliseconds; the members of RFC 8628 have whole seconds.
#[derive(Debug, Deserialize, Serialize)]
struct PollInterval {
    expires: Timestamp,
    interval_ms: u64,
}

impl ExtraDeviceAuthorizationFields for PollInterval {}

#[derive(Debug)]
pub enum PollResult {
    /// The person has consented.
    Tokens(Box<Tokens>),
    /// Not yet.
    Pending,
    /// Not yet, and polls are too frequent: the interval grows by 5 s permanently, or to this time once if
    /// that is longer.
    SlowDown(Option<Duration>),
}

/// RFC 8628 §3.1.
///
/// # Errors
/// When the server issues no code.
pub async fn device_start(ask: &RequestContext<'_>) -> Result<DeviceFlow, TokenFailure> {
    let url = ask.url(ask.oauth.device.as_ref(), "device")?;
    let transport = Transport::new(ask, RequestedEndpoint::Device, url, BTreeMap::default());
    let client =
        client(ask).set_device_authorization_url(transport.url(DeviceAuthorizationUrl::new)?);
    let request = client.exchange_device_code().add_scopes(ask.scope().map(Scope::new));
    let codes: Result<DeviceAuthorizationResponse<PollInterval>, _> =
        request.request_async(&transport).await;
    let codes = codes.map_err(|error| transport.failure(error))?;
    let complete = codes.verification_uri_complete();
    Ok(DeviceFlow {
        device_code: Secret::new(codes.device_code().secret().as_bytes()),
        user_code: Secret::new(codes.user_code().secret().as_bytes()),
        verification_uri: codes.verification_uri().to_string(),
        verification_uri_complete: complete.map(|uri| Secret::new(uri.secret().as_bytes())),
        expires: codes.extra_fields().expires,
        interval: Duration::from_millis(codes.extra_fields().interval_ms),
    })
}

/// RFC 8628 §3.4: one poll, whose answer is awaited for minutes: if it has tokens, the code is spent. The `oauth2` crate
/// can only poll until the end, but our polls continue after a restart.
///
/// # Errors
/// [`TokenFailure::Temporary`]: poll again, less often. [`TokenFailure::Permanent`]: declined, expired or rejected.
pub async fn device_poll(
    ask: &RequestContext<'_>,
    device_code: &Secret,
) -> Result<PollResult, TokenFailure> {
    let mut params = Params::default();
    params.set("grant_type", DEVICE_CODE);
    params.set("device_code", device_code.clone());
    params.set_all(&ask.token_params()?);
    let bounds = Bounds::of_refreshes(ask.settings);
    let answer = ask.post_within(&bounds, &ask.token_url()?, &mut params).await?;
    let failure = match ask.reading(&params, false).tokens(&answer) {
        Ok(tokens) => return Ok(PollResult::Tokens(Box::new(tokens))),
        Err(failure) => failure,
    };
    // Regardless of the status: GitHub says "pending" with 200.
    let object = reply::object(answer.body());
    let error = object.as_ref().and_then(ReportedError::of);
    match error.as_ref().and_then(|error| typed(error.code(&ask.oauth.says))) {
        Some(DeviceCodeErrorResponseType::AuthorizationPending) => return Ok(PollResult::Pending),
        Some(DeviceCodeErrorResponseType::SlowDown) => {
            let interval = object.as_ref().and_then(|object| object.get("interval"));
            return Ok(PollResult::SlowDown(reply::duration(interval)));
        }
        _ => {}
    }
    match failure {
        // Here `access_denied` and `expired_token` have their own meaning, and unknown codes are final.
        TokenFailure::Temporary(temporary) if temporary.unknown_code => {
            Err(TokenFailure::Permanent {
                who: ActingParty::Person,
                code: temporary.code.unwrap_or_else(|| ErrorCode::of("refused")),
                said: temporary.said,
            })
        }
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
