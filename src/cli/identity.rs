//! [`Identity`]: the user and organisation of a command, from `KEYWARD_TOKEN` and `--org`.
//! Without a token, the command runs as the operator, on this machine only.

use std::fmt;

use http::{HeaderMap, HeaderValue, header};

use super::failure::{Exit, Failure};
use super::settings::Global;
use keyward_api::auth::ORG_FIELD;
use keyward_base::codes::Code;

/// What every request carries.
#[derive(Clone, Default)]
pub(crate) struct Identity {
    token: Option<HeaderValue>,
    org: Option<HeaderValue>,
}

impl Identity {
    /// Of this process.
    ///
    /// # Errors
    /// When one of them cannot be sent.
    pub(crate) fn of(global: &Global) -> Result<Self, Failure> {
        // Empty as unset: so it is passed by compose files that name no value.
        let token = std::env::var("KEYWARD_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.map(|token| bearer(&token)).transpose()?;
        let org = global.org.as_deref().map(HeaderValue::from_str).transpose();
        let org =
            org.map_err(|_| Failure::usage("--org is not a valid name of an organisation"))?;
        Ok(Self { token, org })
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// With the variable whose token the gateway refused.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        match self.has_token() && failure.has_code(Code::Unauthenticated) {
            true => failure.hint(
                "KEYWARD_TOKEN holds this token: give another (an admin makes one with \
                 `keyward token add USER`), or on the gateway's machine unset it",
            ),
            false => failure,
        }
    }

    /// Adds it to the fields of a request.
    pub(crate) fn mark(&self, fields: &mut HeaderMap) {
        if let Some(token) = &self.token {
            fields.insert(header::AUTHORIZATION, token.clone());
        }
        if let Some(org) = &self.org {
            fields.insert(ORG_FIELD, org.clone());
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        // Its text is not repeated.
        Failure::new(Exit::Forbidden, "KEYWARD_TOKEN does not hold a token")
            .hint("create one: keyward token add USER")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("org", &self.org).finish_non_exhaustive()
    }
}
