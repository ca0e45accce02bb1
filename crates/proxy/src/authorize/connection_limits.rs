//! Applies the rate and concurrency limits of a connection's settings, after authorization and before the request
//! is built. Costs almost nothing for connections without limits.

use std::sync::Arc;

use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::limits::meter::{ExchangeSlot, Meter};
use crate::refusal::Refusal;
use keyward_base::settings::Settings;
use keyward_rules::inject::credential::Credential;
use keyward_rules::policy::Permit;

/// A permit and its credential, counted against the connection's limits.
#[derive(Debug)]
pub struct Admitted {
    pub permitted: (Permit, Option<Arc<Credential>>),
    /// The meter of the connection; `None` when it has no limits.
    pub meter: Option<Arc<Meter>>,
}

/// Admits a request. It is counted as running while `running` is held.
///
/// # Errors
/// When the connection has reached a limit.
pub fn admit(
    gateway: &Gateway,
    permitted: (Permit, Option<Arc<Credential>>),
    running: &mut Option<ExchangeSlot>,
) -> Result<Admitted, Refusal> {
    let Some((wanted, settings)) = permitted.0.wanted().zip(permitted.0.settings()) else {
        return Ok(Admitted { permitted, meter: None });
    };
    if !is_counted(settings) {
        return Ok(Admitted { permitted, meter: None });
    }
    let meter = gateway.meters.of(&wanted.connection);
    match meter.begin(settings, Instant::now()) {
        Ok(slot) => *running = Some(slot),
        Err(excess) => {
            return Err(Refusal::RateLimited { connection: wanted.name.clone(), excess });
        }
    }
    Ok(Admitted { permitted, meter: Some(meter) })
}

fn is_counted(settings: &Settings) -> bool {
    settings.rate_limit.is_some() || settings.concurrency.is_some() || settings.retry.is_some()
}
