//! Checks the network path to the providers: names, addresses and certificates. The gateway that answers does the check,
//! because its environment decides. No request is sent, and so no credential.

use std::collections::BTreeSet;

use super::installation::{CheckedInstallation, Resources};
use super::report::DoctorReport;
use crate::cli::client::Client;
use crate::cli::settings::Global;
use keyward_api::wire::{List, UpstreamView};
use keyward_base::agent::TOKEN_PREFIX;
use keyward_base::host::{Scheme, Target};
use keyward_model::{Connection, Shown};

const ID: &str = "upstream";
/// Most hosts that a gateway checks.
const HOSTS_MAX: usize = 50;

/// Has every host of an active connection tried, except patterns: with a TLS handshake, or by a stream alone where a rule
/// allows cleartext.
pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    client: Option<&Client>,
    resources: Option<&Resources>,
    report: &mut DoctorReport,
) {
    if let Some(name) = ignored_proxy(install.config.upstream.proxy.is_some(), variable) {
        let message = format!("{name} names a proxy, which the gateway does not use");
        report.warn(ID, message, "if hosts are reached only through it, set `upstream.proxy`");
    }
    let mut hosts: BTreeSet<String> =
        usable(resources).flat_map(targets).map(|target| target.authority()).collect();
    let Some(client) = client.filter(|_| !hosts.is_empty()) else { return };
    let is_private = client.is_private();
    let found = match client.get::<List<UpstreamView>>("/api/v1/upstreams").await {
        Ok(found) => found.items,
        Err(failure) => {
            let hint = match is_private {
                true => {
                    "start the gateway, which then does the check, or run the doctor with the gateway's environment, and \
                     as its user"
                }
                false => failure.advice().unwrap_or_default(),
            };
            let message = format!("no host was checked: {}", failure.message());
            return report.warn(ID, message, hint);
        }
    };
    let by = match is_private {
        true => "checked by this command: no gateway runs",
        false => "checked by the gateway",
    };
    let count = hosts.len();
    for upstream in found {
        hosts.remove(&upstream.host);
        report_upstream(upstream, by, install.global, report);
    }
    if count > HOSTS_MAX {
        report.warn(ID, format!("{} more hosts were not checked", count - HOSTS_MAX), "");
    } else if !hosts.is_empty() {
        let hosts: Vec<_> = hosts.into_iter().collect();
        let why = "the certificates of their connections cannot be read";
        report.ok(ID, format!("not checked: {}; {why}", hosts.join(", ")));
    }
}

fn usable(resources: Option<&Resources>) -> impl Iterator<Item = &Shown<Connection>> {
    let all = resources.map_or(&[][..], |resources| &resources.connections[..]);
    all.iter().filter(|connection| connection.facts.state.is_usable())
}

/// The hosts of a connection, without patterns.
fn targets(connection: &Shown<Connection>) -> impl Iterator<Item = Target> {
    let literal = connection.facts.hosts.iter().filter(|host| !host.contains('*'));
    literal.filter_map(|host| Target::parse(Scheme::Https, host).ok())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The variable that names a proxy of the network, which the gateway does not read. The proxy of a run is Keyward's own.
fn ignored_proxy(
    is_configured: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<&'static str> {
    let is_other = |name: &&str| {
        variable(name).is_some_and(|url| !url.is_empty() && !url.contains(TOKEN_PREFIX))
    };
    ["HTTPS_PROXY", "https_proxy"].into_iter().find(is_other).filter(|_| !is_configured)
}

fn report_upstream(upstream: UpstreamView, by: &str, global: &Global, report: &mut DoctorReport) {
    let UpstreamView { host, reached, proxy, message, hint } = upstream;
    let way =
        proxy.map(|proxy| format!(" through the corporate proxy {proxy}")).unwrap_or_default();
    match (reached, message) {
        (true, None) => {
            report.ok(ID, format!("{host} answers{way} with a valid certificate ({by})"));
        }
        (true, Some(message)) => report.ok(ID, format!("{host} answers{way}: {message} ({by})")),
        (false, message) => {
            let message = format!("{}; {by}", message.unwrap_or_default());
            report.fail(ID, message, global.remedy(&hint.unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_proxy_variable_is_reported_only_if_no_proxy_is_configured() {
        let ignored = |is_configured, name: &'static str, url: &'static str| {
            ignored_proxy(is_configured, |asked| (asked == name).then(|| url.to_owned()))
        };
        let corporate = "http://ann:secret@proxy.corp.example:3128";
        assert_eq!(ignored(true, "HTTPS_PROXY", corporate), None);
        assert_eq!(ignored(false, "HTTPS_PROXY", ""), None);
        assert_eq!(ignored(false, "NO_PROXY", corporate), None);
        assert_eq!(ignored(false, "HTTPS_PROXY", "http://ci:kwa_x@127.0.0.1:8080"), None);
        assert_eq!(ignored(false, "https_proxy", corporate), Some("https_proxy"));
    }
}
