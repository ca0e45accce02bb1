//! [`TokenRequester`]: sends the token requests of the vault.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use keyward_net::call::HttpClient;

/// The sender; empty until the network is configured.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenRequester(pub(super) Arc<ArcSwapOption<RequestSender>>);

/// The client for token requests.
#[derive(Debug)]
pub(super) struct RequestSender {
    pub(super) caller: Arc<HttpClient>,
    /// The scripted responses of a test.
    #[cfg(test)]
    pub(super) script: Option<crate::tests::simulation::Script>,
}

impl RequestSender {
    /// A sender that sends a request only if `check` permits it.
    pub fn with_check(&self, check: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            caller: Arc::new(self.caller.with_check(check)),
            #[cfg(test)]
            script: self.script.clone(),
        }
    }
}

impl TokenRequester {
    /// Sets the client.
    pub fn calls(&self, caller: Arc<HttpClient>) {
        let by = RequestSender {
            caller,
            #[cfg(test)]
            script: None,
        };
        self.0.store(Some(Arc::new(by)));
    }

    /// Sets the client and the scripted responses.
    #[cfg(test)]
    pub fn scripted(&self, caller: Arc<HttpClient>, script: crate::tests::simulation::Script) {
        self.0.store(Some(Arc::new(RequestSender { caller, script: Some(script) })));
    }
}
