//! Requests of the default agent before it exists: it will have no connection, so the hint names agents that have one.

use super::seen::ProbedRequest;
use crate::cli::client::Client;
use crate::cli::doctor::report::DoctorReport;
use crate::cli::environment::DEFAULT_AGENT;
use crate::cli::settings::Global;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::HostPattern;
use keyward_model::{Agent, Connection, Shown};

/// Agents that are named.
const NAMED_MAX: usize = 4;

/// Warns of the requests, which no agent would send as this one.
pub(super) async fn report(
    client: &Client,
    global: &Global,
    asked: &[&ProbedRequest],
    report: &mut DoctorReport,
) {
    let agents = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await;
    let connections = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await;
    // Without them, the hint names no agents.
    let agents = agents.map(|all| all.items).unwrap_or_default();
    let connections = connections.map(|all| all.items).unwrap_or_default();
    let targets: Vec<_> = asked.iter().filter_map(|asked| target(asked)).collect();
    let named = agents_for(&targets, &agents, &connections);
    let hint = match named.is_empty() {
        true => format!("`{} connect` adds a connection for it", global.keyward()),
        false => format!("name one that has a connection for the host: {}", named.join(", ")),
    };
    let message = format!("agent {DEFAULT_AGENT} does not exist yet: it would have no connection");
    report.warn("policy", message, hint);
}

fn target(asked: &ProbedRequest) -> Option<Target> {
    let scheme = if asked.url.starts_with("http://") { Scheme::Http } else { Scheme::Https };
    Target::parse(scheme, &asked.host).ok()
}

/// `--agent NAME` of agents that are bound to a connection for one of the targets.
fn agents_for(
    targets: &[Target],
    agents: &[Shown<Agent>],
    connections: &[Shown<Connection>],
) -> Vec<String> {
    let is_asked = |host: &String| {
        let pattern = HostPattern::parse(host);
        pattern.is_ok_and(|pattern| targets.iter().any(|target| pattern.matches(target)))
    };
    let fits = connections.iter().filter(|it| it.facts.hosts.iter().any(is_asked));
    let fits: Vec<_> = fits.map(|connection| &connection.id).collect();
    let has_one = |agent: &&Shown<Agent>| {
        agent.facts.bindings.iter().any(|binding| fits.contains(&&binding.connection))
    };
    let named = agents.iter().filter(has_one).take(NAMED_MAX);
    named.map(|agent| format!("--agent {}", agent.name)).collect()
}
