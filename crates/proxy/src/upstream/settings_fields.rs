//! [`write_fields`] sets the request fields that a connection's settings configure.

use http::{HeaderMap, header};

use keyward_base::settings::Settings;
use keyward_rules::inject::strip;

/// Writes the fields of the settings in place of the agent's. Must run before the credential is written, so that
/// fields which the credential clears are cleared here too.
pub fn write_fields(fields: &mut HeaderMap, settings: &Settings) {
    if let Some(agent) = &settings.user_agent {
        strip::replace(fields, &header::USER_AGENT, agent.value());
    }
    for (name, value) in settings.headers.iter() {
        strip::replace(fields, name, value);
    }
}
