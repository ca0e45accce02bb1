//! Fills in where a connection's database is, from the variables of its provider.

use std::collections::BTreeMap;

use super::{FormError, Provider};
use keyward_base::database::{DatabaseEndpoint, DatabaseProtocol, StreamSecurity};
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::HostPattern;

/// The variable with the host, and the port if it is not the protocol's.
pub(super) const HOST: &str = "host";
/// The variable with the name of the database.
pub(super) const DATABASE: &str = "database";
/// The variable that says how the stream is secured.
pub(super) const SSLMODE: &str = "sslmode";
/// The variable with the database of MongoDB that knows the user.
pub(super) const AUTH_SOURCE: &str = "auth_source";
/// TLS with a verified certificate.
pub(super) const VERIFY_FULL: &str = "verify-full";
/// No TLS.
pub(super) const DISABLE: &str = "disable";
/// The choices of [`SSLMODE`].
pub(super) const SSLMODES: [&str; 2] = [VERIFY_FULL, DISABLE];

impl Provider {
    /// Where the database is; `None` for a service that is used over HTTP.
    pub(super) fn database(
        &self,
        hosts: &[HostPattern],
        values: &BTreeMap<String, String>,
    ) -> Result<Option<DatabaseEndpoint>, FormError> {
        let Some(protocol) = self.protocol else { return Ok(None) };
        let missing = |name: &str| {
            let label = self.variable(name).map_or(name, |variable| variable.label.as_str());
            FormError::Missing { name: name.to_owned(), label: label.to_owned() }
        };
        let pattern = hosts.first().ok_or_else(|| missing(HOST))?;
        let host = pattern.literal().ok_or_else(|| missing(HOST))?.clone();
        let port = if pattern.names_port() { pattern.port() } else { protocol.default_port() };
        let database = values.get(DATABASE).ok_or_else(|| missing(DATABASE))?.clone();
        if protocol == DatabaseProtocol::Redis && database.parse::<u16>().is_err() {
            return Err(FormError::Number { name: DATABASE.to_owned() });
        }
        let security = match values.get(SSLMODE).map(String::as_str) {
            Some(DISABLE) => StreamSecurity::Cleartext,
            _ => StreamSecurity::VerifiedTls,
        };
        let target = Target::new(Scheme::Https, host, port);
        let auth_source = values.get(AUTH_SOURCE).cloned();
        Ok(Some(DatabaseEndpoint { protocol, target, database, security, auth_source }))
    }
}
