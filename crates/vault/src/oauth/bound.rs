//! Starts a flow in a browser that is already bound by the cookie of a connect session. It needs no start page and no
//! start link; the callback checks that cookie instead of one of the flow.

use std::sync::Arc;

use super::error::FlowError;
use super::flow::{Flow, StoredFlow};
use super::{ConsentRequest, Flows};
use keyward_base::id::{FlowId, OrgId};
use keyward_rules::provider::oauth::GrantText;
use keyward_state::directory::ConnectionRecord;

/// The cookie of a browser.
pub struct BrowserBinding<'a> {
    /// The cookie's name.
    pub cookie: &'a str,
    /// Its value. A secret; only its hash is stored.
    pub value: &'a str,
}

/// A flow whose browser goes to the provider.
#[derive(Debug)]
pub struct StartedConsent {
    pub flow: FlowId,
    /// The authorization URL, for that browser alone.
    pub url: String,
}

impl Flows {
    /// Starts and begins a flow for a connection, in this browser. A connection in use is not changed.
    ///
    /// # Errors
    /// As [`Flows::start`], and when the provider has no consent in the browser.
    pub async fn start_in(
        self: &Arc<Self>,
        org: &OrgId,
        connection: &ConnectionRecord,
        ask: ConsentRequest,
        browser: BrowserBinding<'_>,
    ) -> Result<StartedConsent, FlowError> {
        let asking = self.context_of_consent(connection, &ask).await?;
        if asking.oauth.grant != GrantText::AuthorizationCode {
            return Err(self.no_consent_error(connection));
        }
        let life = self.settings.load().flow_lifetime;
        let flow = self.new_flow(org, &asking, ask, life);
        let flow = Flow { cookie: Some(browser.cookie.to_owned()), ..flow };
        let authorization = self.authorization(&flow, &asking).await?;
        let (id, version) = (flow.id.clone(), self.put_new(&flow).await?);
        let stored = StoredFlow { flow, version };
        let url = self.redirect_to_provider(stored, authorization, browser.value).await?;
        Ok(StartedConsent { flow: id, url })
    }
}

impl std::fmt::Debug for BrowserBinding<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrowserBinding").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}
