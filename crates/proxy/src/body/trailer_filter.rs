//! [`TrailerFilter`] removes request trailers that must not reach the upstream. A server may merge trailers into
//! the head (RFC 9110 §6.5.1) after policy has decided about the head, so fields that could have changed the
//! decision and placeholders are removed.

use std::sync::Arc;

use http::{HeaderMap, header};

use keyward_base::settings::Settings;
use keyward_rules::inject::credential::Credential;
use keyward_rules::inject::strip;
use keyward_rules::policy::Permit;

/// The fields that are written in the head and therefore must not be in the trailers.
#[derive(Clone, Debug)]
pub struct TrailerFilter {
    credential: Option<Arc<Credential>>,
    settings: Option<Arc<Settings>>,
}

impl TrailerFilter {
    /// The filter for a request with this permit and credential.
    pub fn of(permit: &Permit, credential: Option<&Arc<Credential>>) -> Self {
        Self { credential: credential.cloned(), settings: permit.settings().cloned() }
    }

    /// Removes the fields that must not be passed on.
    pub fn apply(&self, fields: &mut HeaderMap) {
        strip::request_trailers(fields);
        if let Some(settings) = &self.settings {
            let agent = settings.user_agent.as_ref().map(|_| &header::USER_AGENT);
            for name in settings.headers.iter().map(|(name, _)| name).chain(agent) {
                strip::every(fields, name);
            }
        }
        if let Some(credential) = &self.credential {
            strip::cleared(fields, &credential.clears);
        }
    }
}
