//! Checks agents, connections, bindings and plugins: agents without connections, connections without agents,
//! connections that cannot be used, and slots of plugins without a working connection, except optional ones that
//! were left empty.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::apps;
use super::installation::{CheckedInstallation, Resources};
use super::installation::{not_fetched, source_remedy};
use super::report::DoctorReport;
use crate::cli::client::Client;
use crate::cli::connection::state::{how_to_bind, may_bind};
use crate::cli::connection::{refresh_remedy, said, why};
use crate::cli::settings::Global;
use crate::cli::{output, plugin};
use keyward_model::{Agent, Connection, PluginView, RuleShown, Shown, TokenShown, Visibility};
use keyward_state::directory::{ConnectionState, PluginState};

const AGENTS: &str = "agents";
const CONNECTIONS: &str = "connections";
/// Most reports of each kind; a large installation gets a count instead.
const REPORTED_MAX: usize = 20;

pub(super) async fn check(
    install: &CheckedInstallation<'_>,
    client: &Client,
    report: &mut DoctorReport,
) -> Option<Resources> {
    let agents = client.list::<Shown<Agent>>("/api/v1/agents", &[]).await;
    let connections = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await;
    match (agents, connections) {
        (Ok(agents), Ok(connections)) => {
            let (agents, connections) = (agents.items, connections.items);
            let rules = client.list::<RuleShown>("/api/v1/rules", &[]).await;
            let rules = rules.map_or_else(|_| Vec::new(), |rules| rules.items);
            let mut resources = Resources { agents, connections, apps: Vec::new(), rules };
            apps::check(install, client, &mut resources, report).await;
            check_all(&resources, install.global, report);
            Some(resources)
        }
        (Err(failure), _) | (_, Err(failure)) => {
            let hint = failure.advice().unwrap_or("see the gateway's log");
            report.fail(AGENTS, failure.message(), hint);
            None
        }
    }
}

fn check_all(resources: &Resources, global: &Global, report: &mut DoctorReport) {
    let keyward = &global.keyward();
    let before = report.checks.len();
    let problems =
        resources.agents.iter().filter_map(|agent| check_agent(agent, resources, keyward));
    warn_all(AGENTS, problems, report);
    if resources.agents.is_empty() {
        let hint = format!("{keyward} agent add NAME");
        report.warn(AGENTS, "there is no agent; `keyward run` creates `default`", hint);
    } else if report.checks.len() == before {
        report.ok(AGENTS, format!("every agent has a connection ({})", resources.agents.len()));
    }
    let mut found = DoctorReport::default();
    let bound: BTreeSet<_> = resources
        .agents
        .iter()
        .flat_map(|agent| agent.facts.bindings.iter().map(|binding| &binding.connection))
        .collect();
    for connection in &resources.connections {
        let details = apps::app_details(connection, &resources.apps);
        let is_used = bound.contains(&connection.id) || is_used_unbound(connection, resources);
        check_connection(connection, is_used, &details, global, &mut found);
    }
    for connection in &resources.connections {
        for warning in &connection.facts.warnings {
            let hint = format!("{keyward} connection rotate {}", connection.name);
            found.warn(CONNECTIONS, format!("connection {}: {warning}", connection.name), hint);
        }
    }
    let is_sound = found.checks.is_empty();
    let omitted = report.add_worst(found, REPORTED_MAX).len();
    if omitted > 0 {
        report.warn(CONNECTIONS, format!("and {omitted} more"), "");
    }
    if resources.connections.is_empty() {
        let hint = format!("{keyward} connection add github --name work");
        report.warn(CONNECTIONS, "there is no connection", hint);
    } else if is_sound {
        let count = resources.connections.len();
        report.ok(CONNECTIONS, format!("every connection works and has an agent ({count})"));
    }
}

fn check_agent(
    agent: &Shown<Agent>,
    resources: &Resources,
    keyward: &str,
) -> Option<(String, String)> {
    let name = &agent.name;
    if agent.facts.held {
        let hint = format!("{keyward} agent resume {name}, once the reason is clear");
        return Some((format!("agent {name} is paused, manually or by an alarm"), hint));
    }
    if agent.facts.paused {
        let hint = "add it to the configuration again, or remove it";
        return Some((
            format!("agent {name} is paused: it is no longer in the configuration file"),
            hint.to_owned(),
        ));
    }
    if has_access(agent, resources) {
        let now = Timestamp::now();
        let has_expired = |token: &TokenShown| token.expires.is_some_and(|expires| expires <= now);
        // An agent without tokens is used by `keyward run`, which creates its own token.
        let all_expired =
            !agent.facts.tokens.is_empty() && agent.facts.tokens.iter().all(has_expired);
        let hint = format!("{keyward} agent token add {name}; `keyward run` creates its own token");
        return all_expired.then(|| (format!("every token of agent {name} has expired"), hint));
    }
    let connection = resources.connections.iter().find(|it| may_bind(agent, it));
    let connection = connection.map_or("CONNECTION", |it| &it.name);
    let hint = how_to_bind(agent, connection, keyward);
    Some((format!("agent {name} is bound to no connection"), hint))
}

/// Whether the agent may use a connection, by a binding, by a rule, or for end users in sessions.
fn has_access(agent: &Shown<Agent>, resources: &Resources) -> bool {
    !agent.facts.bindings.is_empty()
        || !agent.user_providers.is_empty()
        || resources.grants().any(|(agents, _)| agents.contains(&agent.name))
}

/// Whether a rule grants the connection, or an agent may use it for its owner in sessions.
fn is_used_unbound(connection: &Shown<Connection>, resources: &Resources) -> bool {
    let serves = |agent: &Shown<Agent>| agent.serves_users_at(&connection.provider);
    resources.grants().any(|(_, granted)| granted == connection.name)
        || connection.facts.owner.is_some() && resources.agents.iter().any(serves)
}

fn warn_all(
    id: &'static str,
    all: impl Iterator<Item = (String, String)>,
    report: &mut DoctorReport,
) {
    let all: Vec<_> = all.collect();
    let more = all.len().saturating_sub(REPORTED_MAX);
    for (message, hint) in all.into_iter().take(REPORTED_MAX) {
        report.warn(id, message, hint);
    }
    if more > 0 {
        report.warn(id, format!("and {more} more"), "");
    }
}

fn check_connection(
    connection: &Shown<Connection>,
    is_used: bool,
    behind: &str,
    global: &Global,
    report: &mut DoctorReport,
) {
    let name = &connection.name;
    let remedy = connection.facts.remedy.as_deref().map(|remedy| global.remedy(remedy));
    let remedy = remedy.unwrap_or_default();
    if let Some(failing) = connection.facts.token.as_ref().and_then(|token| token.failing.as_ref())
    {
        let message = format!(
            "the token of connection {name} cannot be refreshed since {:.0}; {} attempts failed ({})",
            failing.since,
            failing.count,
            why(failing)
        );
        report.warn(CONNECTIONS, message, refresh_remedy(failing, &remedy));
    }
    if let Some(failing) = &connection.facts.fetch_failing {
        let (fetched, from) =
            (connection.facts.fetched.as_ref(), connection.references.values().next());
        let message = format!("values of connection {name} {}", not_fetched(failing, fetched));
        report.warn(CONNECTIONS, message, source_remedy(from, global));
    }
    match &connection.facts.state {
        ConnectionState::Broken { reason, detail } => {
            let reason = output::word(reason);
            let detail = detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
            let said = said(connection.facts.said.as_deref());
            let message = format!("connection {name} is broken: {reason}{detail}{said}{behind}");
            report.fail(CONNECTIONS, message, remedy);
        }
        ConnectionState::Paused => {
            report.warn(CONNECTIONS, format!("connection {name} is paused"), remedy);
        }
        ConnectionState::Draft { failure } => {
            let why = failure.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            let message = format!("connection {name} is not connected{why}{behind}");
            report.warn(CONNECTIONS, message, remedy);
        }
        ConnectionState::Active | ConnectionState::Testing if !is_used => {
            let hint = format!("{} agent bind AGENT {name}", global.keyward());
            let agent = match connection.facts.visibility {
                Visibility::Private => "no agent of its owner",
                Visibility::Shared => "no agent",
            };
            report.warn(CONNECTIONS, format!("{agent} is bound to connection {name}"), hint);
        }
        ConnectionState::Active | ConnectionState::Testing => {}
    }
}

const PLUGINS: &str = "plugins";

pub(super) async fn check_plugin(
    install: &CheckedInstallation<'_>,
    client: &Client,
    report: &mut DoctorReport,
) {
    match client.list::<PluginView>("/api/v1/plugins", &[]).await {
        Ok(all) => check_plugins(&all.items, install.global, report),
        Err(failure) => {
            let hint = failure.advice().unwrap_or("see the gateway's log");
            report.fail(PLUGINS, failure.message(), hint);
        }
    }
}

fn check_plugins(plugins: &[PluginView], global: &Global, report: &mut DoctorReport) {
    let before = report.checks.len();
    for plugin in plugins {
        let (name, agent) = (&plugin.name, &plugin.agent);
        let lacks = plugin.missing.iter().find(|it| it.required || it.connection.is_some());
        let hint = match (plugin.state, lacks) {
            (PluginState::Paused, _) => plugin::paused_remedy(name),
            (_, Some(lacks)) => lacks.hint.clone(),
            (_, None) => continue,
        };
        let state = plugin::summary::state_of(plugin);
        let message = format!("plugin {name} of agent {agent} is {state}");
        report.warn(PLUGINS, message, global.remedy(&hint));
    }
    if report.checks.len() == before && !plugins.is_empty() {
        let count = plugins.len();
        report.ok(PLUGINS, format!("every plugin has the connections that it needs ({count})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::report::{CheckStatus, DoctorCheck};

    fn agent(name: &str, more: &serde_json::Value) -> Shown<Agent> {
        let mut agent = serde_json::json!({
            "id": "agt_1", "name": name, "environment": null, "labels": {},
            "managed_by": "store", "paused": false, "created": "2025-01-02T03:04:05Z",
            "tokens": [], "bindings": [{
                "connection": "con_1", "name": "work", "provider": "github",
                "managed_by": "store", "created": "2025-01-02T03:04:05Z",
                "placeholders": {}, "env": {}}],
        });
        let more = more.as_object().unwrap().clone();
        agent.as_object_mut().unwrap().extend(more);
        serde_json::from_value(agent).unwrap()
    }

    fn connection(id: &str, state: &serde_json::Value) -> Shown<Connection> {
        let mut connection = serde_json::json!({
            "id": id, "name": "work", "provider": "github", "auth": "pat", "environment": null,
            "variables": {}, "hosts": [], "managed_by": "store",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        });
        let state = state.as_object().unwrap().clone();
        connection.as_object_mut().unwrap().extend(state);
        serde_json::from_value(connection).unwrap()
    }

    fn judged(agents: Vec<Shown<Agent>>, connections: Vec<Shown<Connection>>) -> Vec<DoctorCheck> {
        judged_with(agents, connections, Vec::new())
    }

    fn judged_with(
        agents: Vec<Shown<Agent>>,
        connections: Vec<Shown<Connection>>,
        rules: Vec<RuleShown>,
    ) -> Vec<DoctorCheck> {
        let mut report = DoctorReport::default();
        let resources = Resources { agents, connections, apps: Vec::new(), rules };
        check_all(&resources, &Global::default(), &mut report);
        report.checks
    }

    #[test]
    fn an_unusable_agent_or_connection_is_reported_with_a_remedy() {
        let token = serde_json::json!({"id": "tok_1", "label": null,
            "created": "2025-01-02T03:04:05Z", "expires": "2025-01-03T03:04:05Z"});
        let warn = |message, hint| (CheckStatus::Warn, message, hint);
        let table = [
            (
                agent("ci", &serde_json::json!({"paused": true})),
                serde_json::json!({"state": "active"}),
                (
                    CheckStatus::Warn,
                    "agent ci is paused: it is no longer in the configuration file",
                    "add it",
                ),
            ),
            (
                agent("ci", &serde_json::json!({"paused": true, "held": true})),
                serde_json::json!({"state": "active"}),
                warn("agent ci is paused, manually or by an alarm", "keyward agent resume ci"),
            ),
            (
                agent("ci", &serde_json::json!({"tokens": [token]})),
                serde_json::json!({"state": "active"}),
                warn("every token of agent ci has expired", "keyward agent token add ci"),
            ),
            (
                agent("ci", &serde_json::json!({})),
                serde_json::json!({"state": "paused", "remedy": "resume it: `x`"}),
                (CheckStatus::Warn, "connection work is paused", "resume it: `x`"),
            ),
            (
                agent("ci", &serde_json::json!({})),
                serde_json::json!({"state": "broken", "reason": "revoked", "detail": "x",
                                   "remedy": "give it a new secret: `y`"}),
                (
                    CheckStatus::Fail,
                    "connection work is broken: revoked (x)",
                    "give it a new secret: `y`",
                ),
            ),
            (
                agent("ci", &serde_json::json!({})),
                serde_json::json!({"state": "active", "warnings": ["its `key` is a common word"]}),
                warn(
                    "connection work: its `key` is a common word",
                    "keyward connection rotate work",
                ),
            ),
        ];
        for (agent, state, (status, message, hint)) in table {
            let checks = judged(vec![agent], vec![connection("con_1", &state)]);
            let check = checks.iter().find(|check| check.status != CheckStatus::Ok).unwrap();
            assert_eq!((check.status, &*check.message), (status, message));
            assert!(check.hint.as_ref().unwrap().starts_with(hint), "{check:?}");
        }
    }

    #[test]
    fn an_unbound_agent_of_the_configuration_file_gets_a_remedy_for_that_file() {
        let of_file = serde_json::json!({"managed_by": "file", "bindings": []});
        let connections = vec![connection("con_1", &serde_json::json!({"state": "active"}))];
        let checks = judged(vec![agent("extra", &of_file)], connections);
        let check = checks.iter().find(|check| check.id == AGENTS).unwrap();
        let hint = "add `use: [work]` to agent extra in the configuration file";
        assert_eq!(check.hint.as_deref(), Some(hint));
    }

    #[test]
    fn a_connection_granted_by_a_rule_or_for_end_users_needs_no_binding() {
        let active = |owner: Option<&str>| serde_json::json!({"state": "active", "owner": owner, "visibility": "private"});
        let unbound = serde_json::json!({"bindings": []});
        let serves = serde_json::json!({"bindings": [], "user_providers": ["github"]});
        let rule = |spec: serde_json::Value| {
            let mut rule = serde_json::json!({"id": "file:r", "name": "r", "action": "inject"});
            rule.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
            serde_json::from_value(rule).unwrap()
        };
        let all_ok = |checks: &[DoctorCheck]| checks.iter().all(|it| it.status == CheckStatus::Ok);
        let (ci, own) = (|| agent("ci", &unbound), || connection("con_1", &active(None)));
        for (spec, is_grant) in [
            (serde_json::json!({"agents": ["ci"], "use": "work"}), true),
            (serde_json::json!({"use": "work"}), false),
            (serde_json::json!({"agents": ["ci"]}), false),
            (serde_json::json!({"agents": ["other"], "use": "other"}), false),
        ] {
            let checks = judged_with(vec![ci()], vec![own()], vec![rule(spec)]);
            assert_eq!(all_ok(&checks), is_grant, "{checks:?}");
        }
        let of_customer = || connection("con_1", &active(Some("usr_1")));
        let checks = judged(vec![agent("support", &serves)], vec![of_customer()]);
        assert!(all_ok(&checks), "{checks:?}");
        // A customer's account is not offered to another agent.
        let checks = judged(vec![ci()], vec![of_customer()]);
        let told: Vec<_> = checks.iter().map(|it| (&*it.message, it.hint.as_deref())).collect();
        let expected = [
            ("agent ci is bound to no connection", Some("keyward agent bind ci CONNECTION")),
            (
                "no agent of its owner is bound to connection work",
                Some("keyward agent bind AGENT work"),
            ),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn only_a_connection_that_can_be_bound_is_offered() {
        let agent = |environment: Option<&str>| {
            agent("ci", &serde_json::json!({"bindings": [], "environment": environment}))
        };
        for (state, environment, is_offered) in [
            ("paused", None, false),
            ("active", Some("prod"), false),
            ("active", Some("test"), true),
            ("active", None, true),
        ] {
            let it = serde_json::json!({"state": state, "environment": environment});
            let checks = judged(vec![agent(Some("test"))], vec![connection("con_1", &it)]);
            let hint = checks[0].hint.as_deref().unwrap();
            assert_eq!(hint.ends_with(" work"), is_offered, "{state} {environment:?}: {hint}");
        }
    }

    #[test]
    fn of_many_unbound_agents_the_first_are_reported_and_the_others_counted() {
        let loose = |n: usize| agent(&format!("a{n}"), &serde_json::json!({"bindings": []}));
        let checks = judged((0..50).map(loose).collect(), vec![]);
        let agents: Vec<_> = checks.iter().filter(|check| check.id == AGENTS).collect();
        assert_eq!(agents.len(), REPORTED_MAX + 1);
        assert_eq!(agents[REPORTED_MAX].message, "and 30 more");
    }

    #[test]
    fn a_broken_connection_is_found_behind_many_others() {
        let named = |n: usize, id: &str, state: &str| {
            let state =
                serde_json::json!({"name": format!("c{n}"), "state": state, "reason": "revoked"});
            connection(id, &state)
        };
        let mut many: Vec<_> = (0..25).map(|n| named(n, "con_1", "active")).collect();
        many.push(named(25, "con_1", "broken"));
        let checks = judged(vec![agent("ci", &serde_json::json!({}))], many);
        let failed: Vec<_> = checks.iter().filter(|it| it.status == CheckStatus::Fail).collect();
        let [check] = &failed[..] else { panic!("{checks:?}") };
        assert!(check.message.starts_with("connection c25 is broken"), "{check:?}");

        let loose = (0..50).map(|n| named(n, "con_2", "active"));
        let checks = judged(Vec::new(), loose.collect());
        let found: Vec<_> = checks.iter().filter(|check| check.id == CONNECTIONS).collect();
        assert_eq!(found.len(), REPORTED_MAX + 1);
        assert_eq!(found[REPORTED_MAX].message, "and 30 more");
    }
}
