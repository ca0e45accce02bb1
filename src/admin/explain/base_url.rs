//! A base URL, asked about as a program would send it: read by the reader of the data path, it becomes
//! a question about the host that it stands for.

use crate::admin::error::ApiError;
use crate::admin::state::Admin;
use crate::admin::wire::ExplainAsk;
use crate::base::agent::Agent;
use crate::base::host::{Scheme, Target};
use crate::proxy::base_url::{self, BaseUrls, Fault, Place};

/// The question that a base URL of this gateway stands for; `None` for any other URL.
///
/// # Errors
/// 422 when the data path would refuse it before a rule decides.
pub(super) fn behind(
    admin: &Admin,
    agent: &Agent,
    ask: &ExplainAsk,
) -> Result<Option<ExplainAsk>, ApiError> {
    let Some((scheme, rest)) = own_scheme(admin, &ask.url) else { return Ok(None) };
    let (authority, sent) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if !is_listener(admin, scheme, authority) {
        return Ok(None);
    }
    let refused = |fault: &Fault| ApiError::field("url", format!("{fault}: {}", fault.hint()));
    let sent = sent.split('#').next().unwrap_or(sent);
    let path = sent.split('?').next().unwrap_or(sent);
    let place = match Place::read((scheme, Some(authority)), path, &base_urls(admin)) {
        // Another server's.
        None | Some(Err(Fault::NotOurs)) => return Ok(None),
        Some(place) => place.map_err(|fault| refused(&fault))?,
    };
    let policy = admin.deps().rulebook.current();
    let (target, connection) =
        base_url::target(&policy, agent, &place).map_err(|fault| refused(&fault))?;
    if ask.connection.as_ref().is_some_and(|other| **other != *connection) {
        return Err(ApiError::field("connection", "the base URL names another connection"));
    }
    let url = format!("{target}{}", place.behind(sent));
    Ok(Some(ExplainAsk { url, connection: Some(connection.to_string()), ..ask.clone() }))
}

/// How a URL begins that may be one of a listener, and its rest. Where no listener runs, one of TLS is not
/// guessed.
fn own_scheme<'a>(admin: &Admin, url: &'a str) -> Option<(Scheme, &'a str)> {
    let cleartext = url.strip_prefix("http://").map(|rest| (Scheme::Http, rest));
    cleartext.or_else(|| {
        let rest = url.strip_prefix("https://").filter(|_| admin.places().is_some())?;
        Some((Scheme::Https, rest))
    })
}

/// Whether a listener of ours has the port; any may, where none runs.
fn is_listener(admin: &Admin, scheme: Scheme, authority: &str) -> bool {
    let Ok(asked) = Target::parse(scheme, authority) else { return false };
    let ports = |at: &String| at.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    admin
        .places()
        .is_none_or(|places| places.proxy.iter().filter_map(ports).any(|port| port == asked.port()))
}

fn base_urls(admin: &Admin) -> BaseUrls {
    admin.deps().data_path.upgrade().map_or_else(BaseUrls::default, |path| path.base_urls.clone())
}
