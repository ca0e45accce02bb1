//! Checks the providers of databases: their host, their variables and the places of their credentials.

use super::document::{Problems, item_of, key_of};
use super::schema::ProviderText;
use super::{AuthMethod, Variable, VariableKind, database};
use crate::inject::placement::Location;

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
    let is_host = found(database::HOST).is_some_and(|host| host.kind == VariableKind::Host);
    if !is_host || text.hosts != ["{host}"] {
        let message = "a database has one host, which its owner gives";
        let remedy = "write `hosts: [\"{host}\"]` with the variable `host` of kind `host`";
        problems.add(&key_of(path, "hosts"), message, remedy);
    }
    let choices = found(database::SSLMODE).map(|sslmode| &sslmode.choices[..]);
    if found(database::DATABASE).is_none()
        || choices != Some(&database::SSLMODES.map(str::to_owned))
    {
        let message = "a database has the variables `database` and `sslmode`";
        let remedy = "add them, `sslmode` with `choices: [verify-full, disable]`";
        problems.add(&key_of(path, "variables"), message, remedy);
    }
}
