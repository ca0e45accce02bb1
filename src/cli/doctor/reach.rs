//! Checks the network path to the providers: names, addresses and certificates. A running gateway does the
//! check, because its environment decides; otherwise this process does, with the same dialler and verifier, but without
//! the certificates of connections.
//! It sends no request, and so no credential.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::task::JoinSet;

use super::installation::{CheckedInstallation, Resources};
use super::report::DoctorReport;
use crate::cli::client::Client;
use crate::cli::settings::Global;
use keyward_api::wire::{List, UpstreamView};
use keyward_app::config::{Config, UpstreamProxy};
use keyward_base::agent::TOKEN_PREFIX;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::HostPattern;
use keyward_model::{Connection, Shown};
use keyward_net::dial::Dialler;
use keyward_net::guard::Guard;
use keyward_net::reach::reach;
use keyward_net::tls;

const ID: &str = "upstream";
/// Most hosts to check; they are checked concurrently.
const HOSTS_MAX: usize = 50;

/// Which process checked: the environments differ.
#[derive(Clone, Copy)]
enum Checker {
    Gateway,
    Doctor,
}

/// A host that this process tries.
struct TriedHost {
    target: Target,
    /// The same host over cleartext, if a rule allows it there.
    cleartext: Option<Target>,
}

/// Tries every host of an active connection, except patterns: with a TLS handshake, or by a stream alone where a rule
/// allows cleartext.
pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    gateway: Option<&Client>,
    resources: Option<&Resources>,
    report: &mut DoctorReport,
) {
    if let Some(name) = ignored_proxy(install.config.upstream.proxy.is_some(), variable) {
        let message = format!("{name} names a proxy, which the gateway does not use");
        report.warn(ID, message, "if hosts are reached only through it, set `upstream.proxy`");
    }
    let asked = match gateway {
        Some(client) => client.get::<List<UpstreamView>>("/api/v1/upstreams").await.ok(),
        None => None,
    };
    let (found, by) = match asked {
        Some(found) => (found.items, Checker::Gateway),
        // An older gateway, or one that refuses this caller.
        None => match check_from_here(install, resources, report).await {
            Some(found) => (found, Checker::Doctor),
            None => return,
        },
    };
    let mut hosts: BTreeSet<String> =
        usable(resources).flat_map(targets).map(|target| target.authority()).collect();
    let count = hosts.len();
    for upstream in found {
        hosts.remove(&upstream.host);
        report_upstream(upstream, by, gateway.is_some(), install.global, report);
    }
    if count > HOSTS_MAX {
        report.warn(ID, format!("{} more hosts were not checked", count - HOSTS_MAX), "");
    } else if !hosts.is_empty() {
        let hosts: Vec<_> = hosts.into_iter().collect();
        let why = "the certificates of their connections cannot be read here";
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

fn report_upstream(
    upstream: UpstreamView,
    by: Checker,
    serves: bool,
    global: &Global,
    report: &mut DoctorReport,
) {
    let UpstreamView { host, reached, proxy, message, hint } = upstream;
    let way =
        proxy.map(|proxy| format!(" through the corporate proxy {proxy}")).unwrap_or_default();
    let by = match (by, serves) {
        (Checker::Gateway, _) => "checked by the gateway",
        (Checker::Doctor, true) => "checked by this command, which may have another environment",
        (Checker::Doctor, false) => "checked by this command: no gateway runs",
    };
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

/// Checks with the environment of this process; `None` if that is impossible, which is reported.
async fn check_from_here(
    install: &CheckedInstallation<'_>,
    resources: Option<&Resources>,
    report: &mut DoctorReport,
) -> Option<Vec<UpstreamView>> {
    let tls = trust(&install.config, report)?;
    let dialler = dialler(&install.config, &tls, report)?;
    let mut tries = JoinSet::new();
    for TriedHost { target, cleartext } in own_tries(install, resources).into_iter().take(HOSTS_MAX)
    {
        let (dialler, tls) = (dialler.clone(), tls.clone());
        tries.spawn(async move {
            let tried = reach(&dialler, tls, &target, cleartext.as_ref()).await;
            UpstreamView::new(&target, tried)
        });
    }
    let mut found = tries.join_all().await;
    found.sort_by(|a, b| a.host.cmp(&b.host));
    Some(found)
}

/// The hosts of connections without certificates of their own, which only the gateway reads.
fn own_tries(install: &CheckedInstallation<'_>, resources: Option<&Resources>) -> Vec<TriedHost> {
    let catalogue = install.config.catalogue();
    let has_own_tls = |connection: &Shown<Connection>| {
        let provider = catalogue.get(&connection.provider);
        let auth = provider.and_then(|it| it.auth(connection.auth.as_deref()));
        auth.is_some_and(|auth| auth.tls.is_some())
    };
    let rules = resources.map_or(&[][..], |resources| &resources.rules[..]);
    let mut tries: BTreeMap<Target, TriedHost> = BTreeMap::new();
    for connection in usable(resources).filter(|it| !has_own_tls(it)) {
        for target in targets(connection) {
            let host = target.authority();
            let is_clear = HostPattern::parse(&host).is_ok_and(|pattern| {
                rules.iter().any(|rule| rule.spec.allows_cleartext(&connection.name, &pattern))
            });
            let own = TriedHost { target: target.clone(), cleartext: None };
            let own = tries.entry(target).or_insert(own);
            if is_clear {
                own.cleartext = Target::parse(Scheme::Http, &host).ok();
            }
        }
    }
    tries.into_values().collect()
}

/// The TLS configuration that verifies upstreams.
fn trust(config: &Config, report: &mut DoctorReport) -> Option<Arc<ClientConfig>> {
    let mut roots = Vec::new();
    for path in &config.upstream.trust {
        match tls::load_pem_certs(path) {
            Ok(certs) => roots.extend(certs),
            Err(error) => {
                report.fail(ID, error.to_string(), "correct `upstream.trust`");
                return None;
            }
        }
    }
    let made = tls::client_config(&roots);
    made.map_err(|error| report.fail(ID, error.to_string(), "correct `upstream.trust`")).ok()
}

/// Dials as the gateway does. The password of the corporate proxy may exist only in the environment of the
/// gateway's service.
fn dialler(config: &Config, tls: &ClientConfig, report: &mut DoctorReport) -> Option<Arc<Dialler>> {
    let upstream = &config.upstream;
    let hidden = config.secret_variables();
    let load = |proxy: &UpstreamProxy| proxy.load(&config.environment, &hidden);
    let proxy = match upstream.proxy.as_ref().map(load).transpose() {
        Ok(proxy) => proxy.map(|proxy| proxy.verified_as(tls)),
        Err(error) => {
            let hint = "start the gateway, which then does the check, or run the doctor with the gateway's \
                        environment, and as its user";
            report.warn(ID, format!("no host was checked: {error}"), hint);
            return None;
        }
    };
    let guard = Guard::new(upstream.allow_private.clone(), Vec::new());
    let dialler = Dialler::new(guard, upstream.resolve.clone(), config.limits.addresses_max);
    Some(Arc::new(dialler.with_proxy(proxy)))
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
