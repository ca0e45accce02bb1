//! Applies the rate and concurrency limits of a connection's settings, after authorization and before the request
//! is built. Costs almost nothing for connections without limits.

use std::sync::Arc;

use tokio::time::Instant;

use super::decide::Permitted;
use crate::body::request_body::RequestBody;
use crate::gateway::Gateway;
use crate::limits::meter::{ExchangeSlot, Meter};
use crate::refusal::Refusal;
use keyward_rules::policy::Permit;
use keyward_state::observe::telemetry::OutgoingTrace;

/// Proof that a permitted request is within the limits of its connection. Made only by [`admit`].
#[must_use]
#[derive(Debug)]
pub struct Admitted(Permitted);

/// How an exchange counts against the limits of its connection.
#[derive(Debug, Default)]
pub enum Admission {
    /// No attempt was admitted yet.
    #[default]
    Pending,
    /// It is not counted: the connection has no limits, or is being tested.
    Uncounted,
    /// Counted as running until this is dropped.
    Counted(ExchangeSlot),
}

/// Admits a request. An exchange is counted once, however often it is sent.
///
/// # Errors
/// When the connection has reached a limit.
pub fn admit(
    gateway: &Gateway,
    permitted: Permitted,
    admission: &mut Admission,
) -> Result<Admitted, Refusal> {
    if let Admission::Pending = admission {
        *admission = Admission::of(gateway, permitted.permit())?;
    }
    Ok(Admitted(permitted))
}

impl Admitted {
    /// The request with its permit and credential.
    pub fn permitted(&self) -> &Permitted {
        &self.0
    }

    pub fn body_mut(&mut self) -> &mut RequestBody {
        self.0.body_mut()
    }

    /// Writes the fields of the exchange's trace.
    pub fn set_trace(&mut self, trace: &OutgoingTrace) {
        self.0.set_trace(trace);
    }

    /// The request, to be sent.
    pub fn into_permitted(self) -> Permitted {
        self.0
    }
}

impl Admission {
    fn of(gateway: &Gateway, permit: &Permit) -> Result<Self, Refusal> {
        let Some((wanted, settings)) = permit.wanted().zip(permit.settings()) else {
            return Ok(Self::Uncounted);
        };
        if settings.rate_limit.is_none()
            && settings.concurrency.is_none()
            && settings.retry.is_none()
        {
            return Ok(Self::Uncounted);
        }
        match gateway.meters.of(&wanted.connection).begin(settings, Instant::now()) {
            Ok(slot) => Ok(Self::Counted(slot)),
            Err(excess) => Err(Refusal::RateLimited { connection: wanted.name.clone(), excess }),
        }
    }

    /// The meter of the connection, if the exchange is counted.
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        match self {
            Self::Counted(slot) => Some(slot.meter()),
            Self::Pending | Self::Uncounted => None,
        }
    }
}
