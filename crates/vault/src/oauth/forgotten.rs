//! Clients that Keyward registered and their server has forgotten: a new consent gets another client where that is
//! certain. Some servers only show a page about it, which Keyward does not see; then messages name the remedy.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use serde::Deserialize;

use super::Flows;
use super::endpoints::CLIENT_FORGOTTEN;
use super::error::{CallbackRefusal, FlowError};
use super::flow::{Flow, FlowStage};
use super::start::{ConsentRequest, FlowContext, requested_scopes};
use keyward_base::id::{AppId, OrgId};
use keyward_net::call::Bounds;
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState};

/// The code by which a server says that it does not know the client.
const UNKNOWN_CLIENT: &str = "invalid_client";

impl Flows {
    /// The context of a new consent; with a new client if the server has forgotten the registered one, if that was not
    /// registered for all scopes, or with `register`.
    pub(super) async fn context_of_consent(
        self: &Arc<Self>,
        connection: &ConnectionRecord,
        ask: &ConsentRequest,
    ) -> Result<FlowContext, FlowError> {
        // Checked first, because only a consent needs an app.
        if !self.needs_consent(&connection.org, &connection.provider, connection.auth.as_deref()) {
            return Err(self.no_consent_error(connection));
        }
        let asking = self.context_of_connection(connection).await?;
        let Some(registered) = &asking.app.facts.registered else { return Ok(asking) };
        let scopes = requested_scopes(&asking, &ask.more_scopes);
        if ask.register {
            return self.register_again(&asking, &scopes).await;
        }
        let is_lost = self.is_forgotten(&asking)
            || self.is_doubtful(&connection.org, &asking.app.id).await?
                && self.is_denied(&asking, ask).await?;
        if registered.permits(&scopes) && !is_lost {
            return Ok(asking);
        }
        if let Some(client) = self.unused_client(&asking, &scopes) {
            let unused = self.with_client(&asking, client).await?;
            // None of its consents has connected anything, also if they came back.
            if !self.is_denied(&unused, ask).await? {
                return Ok(unused);
            }
        }
        self.register_again(&asking, &scopes).await
    }

    /// Whether the server has forgotten the registered client: it has expired, or was rejected.
    fn is_forgotten(&self, asking: &FlowContext) -> bool {
        let rejected = matches!(
            asking.connection.facts.state,
            ConnectionState::Broken { reason: BrokenReason::ClientRejected, .. }
        );
        let ends = asking.app.facts.registered.as_ref().and_then(|registered| registered.expires);
        rejected || ends.is_some_and(|ends| ends <= self.clock.now())
    }

    /// Whether the authorization endpoint denies the registered client, which ends the registration. The `state` of this
    /// request belongs to no flow.
    async fn is_denied(
        &self,
        asking: &FlowContext,
        ask: &ConsentRequest,
    ) -> Result<bool, FlowError> {
        // The answer to a pushed request tells it later.
        if ask.device || asking.must_push {
            return Ok(false);
        }
        let settings = self.settings.load_full();
        let flow =
            self.new_flow(&asking.connection.org, asking, ask.clone(), settings.flow_lifetime);
        let url = self.authorization(&flow, asking).await?.url;
        let request = Request::get(url).header(header::ACCEPT, "application/json");
        let Ok(request) = request.body(Bytes::new()) else { return Ok(false) };
        let Ok(answer) = self.caller.call(request, &Bounds::of_metadata(&settings)).await else {
            return Ok(false);
        };
        let is_denial = denies_client(&answer);
        if is_denial {
            self.end_registration(&asking.app).await;
        }
        Ok(is_denial)
    }

    /// Whether the last consent of a client was sent to the provider and did not come back.
    async fn is_doubtful(&self, org: &OrgId, app: &AppId) -> Result<bool, FlowError> {
        let all = self.flows.all(org).await?.into_iter().map(|(_, flow, _)| flow);
        let went = |flow: &Flow| {
            let was_sent = !matches!(
                flow.stage,
                FlowStage::Offered | FlowStage::Polling(_) | FlowStage::Failed { .. }
            );
            flow.app == *app && was_sent
        };
        let last = all.filter(went).max_by_key(|flow| flow.created);
        Ok(last.is_some_and(|flow| matches!(flow.stage, FlowStage::AtProvider(_))))
    }

    /// The remedy for the start page, if the last consent of a registered client did not come back.
    pub(super) async fn hint_about_client(
        &self,
        asking: &FlowContext,
    ) -> Result<Option<String>, FlowError> {
        let (connection, app) = (&asking.connection, &asking.app);
        let is_doubtful =
            app.facts.registered.is_some() && self.is_doubtful(&connection.org, &app.id).await?;
        Ok(is_doubtful.then(|| {
            let hint = register_again(&connection.name);
            format!("An earlier consent of this client was not finished. {hint}")
        }))
    }

    /// Why a flow has ended whose time is over.
    pub(super) fn why_over(&self, flow: &Flow) -> String {
        let view = self.directory().view();
        let is_registered =
            view.app(&flow.org, &flow.app).is_some_and(|app| app.facts.registered.is_some());
        let why = "no consent was given in time";
        match (&flow.stage, view.connection(&flow.org, &flow.connection)) {
            (FlowStage::AtProvider(_), Some(connection)) if is_registered => {
                format!("{why}. {}", register_again(&connection.name))
            }
            _ => why.to_owned(),
        }
    }

    /// A refusal at the callback. If the server says there that it does not know a registered client, the registration
    /// ends.
    pub(super) async fn declined(&self, flow: &Flow, refusal: CallbackRefusal) -> CallbackRefusal {
        let app = self.directory().view().app(&flow.org, &flow.app).cloned();
        let registered = app.filter(|app| app.facts.registered.is_some());
        match (&refusal, registered) {
            (CallbackRefusal::Declined(code), Some(app)) if code.as_str() == UNKNOWN_CLIENT => {
                self.end_registration(&app).await;
                CallbackRefusal::Unfit(format!("{refusal}: {CLIENT_FORGOTTEN}"))
            }
            _ => refusal,
        }
    }
}

/// Whether the authorization endpoint says in JSON that it does not know the client. Pages and failures are not certain.
fn denies_client(answer: &Response<Bytes>) -> bool {
    #[derive(Deserialize)]
    struct Denial {
        error: Option<String>,
        registration_endpoint: Option<String>,
        url: Option<String>,
    }
    let Ok(denial) = serde_json::from_slice::<Denial>(answer.body()) else { return false };
    match (answer.status(), denial.error.as_deref()) {
        (StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, Some(UNKNOWN_CLIENT)) => true,
        // FastMCP: clients shall register again.
        (StatusCode::BAD_REQUEST, Some("invalid_request")) => {
            denial.registration_endpoint.is_some()
        }
        // Better Auth: the URL of its error page.
        (StatusCode::OK, None) => denial.url.is_some_and(|url| {
            let query = url.split_once('?').map_or("", |(_, query)| query);
            let mut values = form_urlencoded::parse(query.as_bytes());
            values.any(|(name, value)| name == "error" && value == UNKNOWN_CLIENT)
        }),
        _ => false,
    }
}

/// The remedy for a client that the provider's page does not know.
fn register_again(connection: &str) -> String {
    format!(
        "If the provider's page says that it does not know the client: \
         `keyward connection reconnect {connection} --register-again`"
    )
}
