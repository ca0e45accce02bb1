//! [`target`] finds the upstream that a base URL means for one agent.

use std::sync::Arc;

use super::address::BaseUrl;
use super::error::BaseUrlError;
use keyward_base::agent::Agent;
use keyward_base::host::{Scheme, Target};
use keyward_rules::policy::{Account, Policy};
use keyward_rules::provider::decode::nearest;

/// The maximum number of hosts that a refusal lists.
const LISTED_MAX: usize = 8;

/// The target of the base URL and the name of its connection.
///
/// # Errors
/// When the agent has no such connection, or the host is ambiguous.
pub fn target(
    policy: &Policy,
    agent: &Agent,
    base_url: &BaseUrl,
) -> Result<(Target, Arc<str>), BaseUrlError> {
    let Some(account) = policy.account(agent, base_url.connection()) else {
        let names = policy.account_names(agent);
        let near = nearest(base_url.connection(), names).map(Into::into);
        return Err(BaseUrlError::Unknown { name: base_url.connection().into(), near });
    };
    let name = account.name.clone();
    let target = match base_url.host() {
        None => account.base_url_target().ok_or_else(|| BaseUrlError::ManyHosts {
            connection: name.clone(),
            hosts: hosts_of(account),
        })?,
        Some(host) => Target::parse(Scheme::Https, host)
            .ok()
            .filter(|target| account.owning(target).is_some())
            .ok_or_else(|| BaseUrlError::NotItsHost {
                connection: name.clone(),
                hosts: hosts_of(account),
            })?,
    };
    Ok((target, name))
}

fn hosts_of(account: &Account) -> String {
    let hosts: Vec<_> = account.hosts.iter().take(LISTED_MAX).map(ToString::to_string).collect();
    hosts.join(", ")
}
