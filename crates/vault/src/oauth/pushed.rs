//! The URL of an authorization request for the browser. Servers that require it get the parameters before, in a request
//! of the client (RFC 9126); `grant::oauth` sends it.

use super::Flows;
use super::authorize::AuthorizationParams;
use super::error::FlowError;
use super::start::FlowContext;
use crate::grant::oauth::{Temporary, TokenFailure, push_authorization};

impl Flows {
    /// The URL of the authorization request at this endpoint.
    ///
    /// # Errors
    /// When the server requires a pushed authorization request, and refuses it or cannot be reached.
    pub(super) async fn url_for_browser(
        &self,
        asking: &FlowContext,
        endpoint: &str,
        params: AuthorizationParams,
    ) -> Result<String, FlowError> {
        if !asking.must_push {
            return Ok(params.in_url(endpoint, &asking.oauth));
        }
        let missing = || FlowError::NoEndpoint {
            app: asking.app.name.clone(),
            what: "pushed authorization request",
        };
        let pushes_to = asking.push_endpoint.as_deref().ok_or_else(missing)?;
        let client = self.client(&asking.app).await?;
        let settings = self.settings.load_full();
        let ask = self.ask(asking, &client, &settings);
        match push_authorization(&ask, pushes_to, params.all()).await {
            Ok(reference) => Ok(params.by_reference(endpoint, &asking.oauth, &reference)),
            // Nothing is spent: the person may press the button again.
            Err(TokenFailure::Temporary(failure @ Temporary { unknown_code: false, .. })) => {
                Err(FlowError::Down(failure.to_string()))
            }
            Err(failure) => {
                let redirect_uri = asking.app.redirect_uri(&self.public_url);
                Err(self.refused_code(asking, &redirect_uri, &failure).await)
            }
        }
    }
}
