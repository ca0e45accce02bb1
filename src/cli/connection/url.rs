//! Connection strings among the arguments of a database: `--field url=…` without a password, `--secret-env url=…` with one.

use super::given::{ConnectionArguments, exposed};
use super::secrets::FieldSource;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::secret::Typed;
use keyward_api::wire::ProviderView;
use keyward_rules::provider::connection_url::{ConnectionUrl, URL, UrlError};

/// The arguments with the parts of the URL in its place. The server checks the parts as it checks any.
///
/// # Errors
/// When the URL cannot be used, or an argument contains a password.
pub(super) fn expanded(
    mut given: ConnectionArguments,
    provider: &ProviderView,
) -> Result<ConnectionArguments, Failure> {
    let Some(protocol) = provider.protocol else { return Ok(given) };
    let refused = |error: UrlError| Failure::usage(error.to_string());
    if let Some(url) = given.fields.remove(URL) {
        let parts = ConnectionUrl::parse(protocol, url.trim(), &[]).map_err(refused)?;
        if parts.password.is_some() {
            return Err(exposed(URL));
        }
        add(&mut given, parts)?;
    }
    if let Some(place) = given.secrets.iter().position(|source| source.field == URL) {
        let url = given.secrets.remove(place).read()?;
        let parts = ConnectionUrl::parse(protocol, url.text().trim(), &[]).map_err(refused)?;
        add(&mut given, parts)?;
    }
    Ok(given)
}

fn add(given: &mut ConnectionArguments, parts: ConnectionUrl) -> Result<(), Failure> {
    if !parts.ignored.is_empty() {
        let names = parts.ignored.join(", ");
        output::note(&format!(
            "note: parameters of the URL that are for clients have no effect: {names}"
        ));
    }
    let twice =
        |name: &str| Failure::usage(UrlError::DuplicateParameter(name.to_owned()).to_string());
    for (name, value) in parts.variables {
        if given.variables.insert(name.clone(), value).is_some() {
            return Err(twice(&name));
        }
    }
    if let Some(user) = parts.user
        && given.fields.insert("username".to_owned(), user).is_some()
    {
        return Err(twice("username"));
    }
    if let Some(password) = parts.password {
        given.secrets.push(FieldSource::held("password", Typed::from(password.to_string())));
    }
    Ok(())
}
