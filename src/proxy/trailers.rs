//! [`Sieve`]: which trailers of a request go on. A server may merge them into the head (RFC 9110 §6.5.1),
//! which was decided about without them: nothing goes on that could have had a say there, and no
//! placeholder.

use std::sync::Arc;

use http::{HeaderMap, header};

use crate::base::settings::Settings;
use crate::inject::credential::Credential;
use crate::inject::strip;
use crate::policy::{Permit, without_overrides};

/// What is written in the head, and therefore in no trailer.
#[derive(Clone, Debug)]
pub struct Sieve {
    credential: Option<Arc<Credential>>,
    settings: Option<Arc<Settings>>,
}

impl Sieve {
    /// Of a request with such a permit.
    pub fn of(permit: &Permit, credential: Option<&Arc<Credential>>) -> Self {
        Self { credential: credential.cloned(), settings: permit.settings().cloned() }
    }

    /// Takes out what does not go on.
    pub fn sift(&self, fields: &mut HeaderMap) {
        strip::request_trailers(fields);
        without_overrides(fields);
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
