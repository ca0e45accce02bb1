//! Explains a base URL of this gateway: the data path's parser converts it into a question about the target.

use crate::error::ApiError;
use crate::state::Admin;
use crate::wire::ExplainRequest;
use keyward_base::agent::Agent;
use keyward_base::codes::RefusalText;
use keyward_base::host::{Scheme, Target};
use keyward_proxy::base_url::{self, BaseUrl, BaseUrlError, ServedBaseUrls};

/// The question that a base URL of this gateway means; `None` for any other URL.
///
/// # Errors
/// 422 when the data path would refuse it before evaluating rules.
pub(super) fn behind(
    admin: &Admin,
    agent: &Agent,
    ask: &ExplainRequest,
) -> Result<Option<ExplainRequest>, ApiError> {
    let Some((scheme, rest)) = own_scheme(admin, &ask.url) else { return Ok(None) };
    let (authority, sent) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !is_listener(admin, scheme, authority) {
        return Ok(None);
    }
    let refused = |fault: &BaseUrlError| {
        let RefusalText { message, hint, .. } = fault.text();
        ApiError::field("url", format!("{message}: {}", hint.unwrap_or_default()))
    };
    let sent = sent.split('#').next().unwrap_or(sent);
    let path = sent.split('?').next().unwrap_or(sent);
    let place = match BaseUrl::read(scheme, Some(authority), path, &base_urls(admin)) {
        // The URL of another server.
        None | Some(Err(BaseUrlError::NotOurs)) => return Ok(None),
        Some(place) => place.map_err(|fault| refused(&fault))?,
    };
    let policy = admin.deps().rulebook.current();
    let (target, connection) =
        base_url::target(&policy, agent, &place).map_err(|fault| refused(&fault))?;
    if ask.connection.as_ref().is_some_and(|other| **other != *connection) {
        return Err(ApiError::field("connection", "the base URL names another connection"));
    }
    let url = format!("{target}{}", place.upstream_path(sent));
    Ok(Some(ExplainRequest { url, connection: Some(connection.to_string()), ..ask.clone() }))
}

/// Splits a URL that may be one of a listener into scheme and rest. If no listener runs, TLS is not assumed.
fn own_scheme<'a>(admin: &Admin, url: &'a str) -> Option<(Scheme, &'a str)> {
    let cleartext = url.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    cleartext.or_else(|| {
        let rest = url.strip_prefix("https://").filter(|_| admin.locations().is_some())?;
        Some((Scheme::Https, rest))
    })
}

/// Whether one of our listeners has the port; true if none runs.
fn is_listener(admin: &Admin, scheme: Scheme, authority: &str) -> bool {
    let Ok(asked) = Target::parse(scheme, authority) else { return false };
    let ports = |at: &String| at.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    admin
        .locations()
        .is_none_or(|places| places.proxy.iter().filter_map(ports).any(|port| port == asked.port()))
}

fn base_urls(admin: &Admin) -> ServedBaseUrls {
    admin
        .deps()
        .data_path
        .upgrade()
        .map_or_else(ServedBaseUrls::default, |path| path.base_urls.clone())
}
