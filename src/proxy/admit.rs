//! The stage between a permit and its request: the limits of the connection's settings. Without
//! settings it is one look at an `Option`.

use std::sync::Arc;

use http::HeaderMap;
use http::header;
use tokio::time::Instant;

use super::Gateway;
use super::error::Refusal;
use super::meter::Meter;
use super::record::Record;
use crate::base::settings::Settings;
use crate::inject::credential::Credential;
use crate::inject::strip;
use crate::policy::Permit;

/// A permit and its credential, within the limits of the connection.
#[derive(Debug)]
pub struct Admitted {
    pub(super) permitted: (Permit, Option<Arc<Credential>>),
    /// What is counted on; `None` where there is nothing to count.
    pub(super) meter: Option<Arc<Meter>>,
}

/// Admits a request, which is counted as under way until its record ends.
///
/// # Errors
/// When the connection has as many as it may.
pub fn admit(
    gateway: &Gateway,
    permitted: (Permit, Option<Arc<Credential>>),
    record: &mut Record,
) -> Result<Admitted, Refusal> {
    let Some((wanted, settings)) = permitted.0.wanted().zip(permitted.0.settings()) else {
        return Ok(Admitted { permitted, meter: None });
    };
    if !is_counted(settings) {
        return Ok(Admitted { permitted, meter: None });
    }
    let meter = gateway.meters.of(&wanted.connection);
    match meter.begin(settings, Instant::now()) {
        Ok(turn) => record.holds(turn),
        Err(excess) => {
            return Err(Refusal::RateLimited { connection: wanted.name.clone(), excess });
        }
    }
    Ok(Admitted { permitted, meter: Some(meter) })
}

fn is_counted(settings: &Settings) -> bool {
    settings.rate_limit.is_some() || settings.concurrency.is_some() || settings.retry.is_some()
}

/// Writes the fields of the settings, instead of what the agent sent there. Before the credential: what
/// is cleared for that goes here too.
pub fn write_fields(fields: &mut HeaderMap, settings: &Settings) {
    if let Some(agent) = &settings.user_agent {
        strip::replace(fields, &header::USER_AGENT, agent.value());
    }
    for (name, value) in settings.headers.iter() {
        strip::replace(fields, name, value);
    }
}
