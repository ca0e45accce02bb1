//! The endpoint of a connection's database, from the variables of its provider; and the check of such a provider: its host,
//! its variables and the places of its credentials.

use std::collections::BTreeMap;

use super::document::{Problems, item_of, key_of};
use super::schema::ProviderText;
use super::variable::{FormError, Variable, VariableKind};
use super::{AuthMethod, Provider};
use crate::inject::placement::Location;
use keyward_base::database::{
    DatabaseEndpoint, DatabaseProtocol, Seeds, SessionAttrs, StreamSecurity,
};
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
/// The variable with further servers.
pub(super) const MORE_HOSTS: &str = "more_hosts";
/// The variable that says whether the host is a server, or a name under which DNS lists servers.
pub(super) const SEEDS: &str = "seeds";
/// The variable that says which of several servers of PostgreSQL is used.
pub(super) const SESSION_ATTRS: &str = "target_session_attrs";
/// DNS lists the servers.
pub(super) const SRV: &str = "srv";
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
        let port =
            if pattern.has_explicit_port() { pattern.port() } else { protocol.default_port() };
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
        let more = more_hosts(values.get(MORE_HOSTS), protocol)?;
        let seeds = match values.get(SEEDS).map(String::as_str) {
            Some(SRV)
                if !more.is_empty()
                    || pattern.has_explicit_port()
                    || target.host().address().is_some() =>
            {
                let must =
                    "the name alone, without a port or further hosts, when DNS lists the servers";
                return Err(FormError::Servers { name: HOST.to_owned(), must });
            }
            Some(SRV) => Seeds::Srv,
            _ => Seeds::Listed(more),
        };
        let attrs = values.get(SESSION_ATTRS).and_then(|name| SessionAttrs::named(name));
        Ok(Some(DatabaseEndpoint {
            protocol,
            target,
            database,
            security,
            auth_source,
            seeds,
            session_attrs: attrs.unwrap_or_default(),
        }))
    }
}

/// The servers of a list in canonical form.
fn more_hosts(list: Option<&String>, protocol: DatabaseProtocol) -> Result<Vec<Target>, FormError> {
    let named = list.map(String::as_str).unwrap_or_default().split(',');
    let server = |text: &str| {
        let pattern = HostPattern::parse(text)?;
        let port =
            if pattern.has_explicit_port() { pattern.port() } else { protocol.default_port() };
        let host = pattern.literal().ok_or_else(|| FormError::not_hosts(MORE_HOSTS.to_owned()))?;
        Ok(Target::new(Scheme::Https, host.clone(), port))
    };
    named.filter(|text| !text.is_empty()).map(server).collect()
}

/// Checks that a provider with a `protocol` can be logged in at, and that no other has a login.
pub(super) fn check(
    text: &ProviderText,
    variables: &[Variable],
    auth: &[AuthMethod],
    path: &str,
    problems: &mut Problems<'_>,
) {
    let is_database = text.protocol.is_some();
    for (index, method) in auth.iter().enumerate() {
        let mut places = method.placements.iter().flat_map(|scope| &scope.places);
        if places.any(|place| matches!(place.at, Location::Login(_)) != is_database) {
            let at = item_of(&key_of(path, "auth"), index);
            let message = "`login` is for databases, and their only place";
            problems.add(&at, message, "set the provider's `protocol`, or choose another place");
        }
    }
    if !is_database {
        return;
    }
    let found = |name: &str| variables.iter().find(|variable| variable.name == name);
    let is_host = found(HOST).is_some_and(|host| host.kind == VariableKind::Host);
    if !is_host || text.hosts != ["{host}"] {
        let message = "a database has one host, which its owner gives";
        let remedy = "write `hosts: [\"{host}\"]` with the variable `host` of kind `host`";
        problems.add(&key_of(path, "hosts"), message, remedy);
    }
    let choices = found(SSLMODE).map(|sslmode| &sslmode.choices[..]);
    if found(DATABASE).is_none() || choices != Some(&SSLMODES.map(str::to_owned)) {
        let message = "a database has the variables `database` and `sslmode`";
        let remedy = "add them, `sslmode` with `choices: [verify-full, disable]`";
        problems.add(&key_of(path, "variables"), message, remedy);
    }
}
