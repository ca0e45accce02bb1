//! Device authorization (RFC 8628): a code that the person enters elsewhere, and a poller that continues after a
//! restart. One replica polls for each flow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;

use super::Flows;
use super::error::FlowError;
use super::flow::{Flow, FlowStage, Polling, SealedText};
use super::start::{ConsentRequest, DeviceCode, FlowContext, Started, endpoint};
use crate::grant::oauth::{PollResult, SLOW_DOWN, TokenFailure, device_poll, device_start};
use keyward_base::id::{FlowId, OrgId};
use keyward_base::secret::Secret;
use keyward_state::store::Lease;

/// How much the pause grows with each failed poll, and its maximum.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The consequence of a poll.
enum PollStep {
    /// Poll again after the interval.
    Again,
    /// Poll again with this new interval.
    Slower(Duration),
    /// The server could not be reached.
    Longer,
    /// The flow has ended.
    Done,
}

impl Flows {
    /// Requests a code and starts to poll.
    pub(super) async fn start_device(
        self: &Arc<Self>,
        org: &OrgId,
        mut asking: FlowContext,
        ask: ConsentRequest,
    ) -> Result<Started, FlowError> {
        self.add_endpoint(
            &mut asking,
            |oauth| &mut oauth.device,
            |metadata| metadata.device_authorization_endpoint.as_ref(),
        )
        .await?;
        endpoint(&asking, asking.oauth.device.as_ref(), "device")?;
        // Over the limit, no code is requested.
        self.sweep(org, &ask.person).await?;
        let settings = self.settings.load_full();
        let client = self.client(&asking.app).await?;
        let mut flow = self.new_flow(org, &asking, ask, settings.flow_lifetime);
        let request = crate::grant::oauth::RequestContext {
            scopes: &flow.scopes,
            ..self.ask(&asking, &client, &settings)
        };
        let device = match device_start(&request).await {
            Ok(device) => device,
            Err(failure) => return Err(self.refused_request(&asking.app, &failure).await),
        };
        let hidden = |secret: &Secret| SealedText::new(secret.expose_text().unwrap_or_default());
        let polling = Polling {
            device_code: hidden(&device.device_code),
            user_code: hidden(&device.user_code),
            verification_uri: device.verification_uri,
            verification_uri_complete: device.verification_uri_complete.as_ref().map(hidden),
            interval_ms: u64::try_from(device.interval.as_millis()).unwrap_or(u64::MAX),
            client_id: Some(asking.app.client_id.clone()),
        };
        flow.expires = device.expires;
        let code = DeviceCode::of(&polling, flow.expires);
        flow.stage = FlowStage::Polling(polling);
        self.put_new(&flow).await?;
        let id = flow.id.clone();
        self.poll_until_done(flow);
        Ok(Started::Device { flow: id, code })
    }

    pub(super) fn poll_until_done(self: &Arc<Self>, flow: Flow) {
        let flows = Arc::clone(self);
        self.spawn(async move { flows.poller(flow).boxed().await });
    }

    /// One task of one replica polls. When it stops, the next search for unfinished consents starts another one.
    async fn poller(self: &Arc<Self>, flow: Flow) {
        match self.lease_of(&flow.id).await {
            Ok(Some(lease)) => self.renewing(&lease, self.polls(&flow, &lease).boxed()).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a device's consent cannot be polled for now"),
        }
    }

    async fn polls(self: &Arc<Self>, flow: &Flow, lease: &Lease) {
        let (org, id) = (flow.org.clone(), flow.id.clone());
        let mut pause = Duration::ZERO;
        loop {
            let (flow, polling) = match self.polled(&org, &id).await {
                Ok(Some(found)) => found,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "a device's consent cannot be read now");
                    let again = self.settings.load().device_interval;
                    if !self.wait(again).await {
                        return;
                    }
                    continue;
                }
            };
            let interval = Duration::from_millis(polling.interval_ms);
            // Also before the first poll, but not beyond the end of the flow.
            let left = flow.expires.duration_since(self.clock.now());
            let left = Duration::try_from(left).unwrap_or_default();
            if !self.wait((interval + pause).min(left)).await {
                return;
            }
            if self.clock.now() >= flow.expires {
                return self.note_failure(&flow, "the code was not entered in time").await;
            }
            match self.still_holds(lease).await {
                Ok(true) => {}
                // The lease was lost while this process was paused; another replica polls.
                Ok(false) => return,
                Err(_) => continue,
            }
            match self.poll(&flow, polling).boxed().await {
                PollStep::Again => pause = Duration::ZERO,
                PollStep::Slower(interval) => self.slow_down(&org, &id, interval).await,
                PollStep::Longer => pause = (pause * 2).max(interval).min(PAUSE_MAX),
                PollStep::Done => return,
            }
        }
    }

    async fn polled(&self, org: &OrgId, id: &FlowId) -> Result<Option<(Flow, Polling)>, FlowError> {
        let found = self.flows.get(org, id.as_str()).await?;
        Ok(found.and_then(|(flow, _)| match flow.stage.clone() {
            FlowStage::Polling(polling) => Some((flow, polling)),
            _ => None,
        }))
    }

    async fn poll(self: &Arc<Self>, flow: &Flow, polling: Polling) -> PollStep {
        let asked = async {
            let asking = self.context_of_flow(flow).await?;
            asking.is_still_of(polling.client_id.as_deref())?;
            let client = self.client(&asking.app).await?;
            Ok::<_, FlowError>((asking, client))
        };
        let (asking, client) = match asked.await {
            Ok(found) => found,
            // A failure of the server or the store does not end the consent.
            Err(error) if error.is_temporary() => return PollStep::Longer,
            Err(error) => return self.given_up(flow, &error.to_string()).await,
        };
        let settings = self.settings.load_full();
        let ask = self.ask(&asking, &client, &settings);
        let code = Secret::new(polling.device_code.text());
        // A stopping gateway polls again after its next start.
        let Some(polled) = self.unless_closed(device_poll(&ask, &code)).await else {
            return PollStep::Again;
        };
        match polled {
            Ok(PollResult::Pending) => PollStep::Again,
            Ok(PollResult::SlowDown(wanted)) => {
                let slower = Duration::from_millis(polling.interval_ms) + SLOW_DOWN;
                PollStep::Slower(slower.max(wanted.unwrap_or_default()))
            }
            Ok(PollResult::Tokens(tokens)) => {
                let received = self.received(&asking, *tokens, None, BTreeMap::default());
                match self.complete(flow, received).await {
                    Ok(()) => PollStep::Done,
                    Err(error) => self.given_up(flow, &error.to_string()).await,
                }
            }
            Err(TokenFailure::Temporary(_)) => PollStep::Longer,
            Err(failure) => {
                let error = self.refused_request(&asking.app, &failure).await;
                let why = ended(&failure).map_or_else(|| error.to_string(), str::to_owned);
                self.given_up(flow, &why).await
            }
        }
    }

    async fn given_up(&self, flow: &Flow, why: &str) -> PollStep {
        self.note_failure(flow, why).await;
        PollStep::Done
    }

    /// Stores the longer interval, so that polls are not faster after a restart.
    async fn slow_down(&self, org: &OrgId, id: &FlowId, interval: Duration) {
        let kept = async {
            let Some((mut flow, version)) = self.flows.get(org, id.as_str()).await? else {
                return Ok(());
            };
            if let FlowStage::Polling(polling) = &mut flow.stage {
                polling.interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            }
            self.flows.put(org, id.as_str(), &flow, Some(version)).await.map(|_| ())
        };
        if let Err::<(), crate::RowError>(error) = kept.await {
            tracing::warn!(%error, "the interval of a device's consent could not be kept");
        }
    }

    /// The code of a running flow, for the person who started it.
    ///
    /// # Errors
    /// When there is no such flow, or it has no code.
    pub async fn device_code(&self, org: &OrgId, id: &FlowId) -> Result<DeviceCode, FlowError> {
        let (flow, polling) = self.polled(org, id).await?.ok_or(FlowError::NoFlow)?;
        let until: Timestamp = flow.expires;
        Ok(DeviceCode::of(&polling, until))
    }
}

/// The message for the person, of codes that only polls have.
fn ended(failure: &TokenFailure) -> Option<&'static str> {
    match failure.code()?.as_str() {
        // The second one is of Microsoft.
        // https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code#expected-errors
        "access_denied" | "authorization_declined" => Some("the consent was declined"),
        "expired_token" => Some("the code was not entered in time"),
        _ => None,
    }
}
