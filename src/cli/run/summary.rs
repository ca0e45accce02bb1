//! Prints the refusals of a run when its program has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use super::gateway::RunGateway;
use super::lease::OpenRun;
use crate::cli::connection::state::{how_to_bind, may_bind};
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::wire::{Rejected, RunRefusals};
use keyward_base::pattern::HostPattern;
use keyward_model::{Agent, Connection, ManagedBy, Shown};
use keyward_rules::policy::WayIn;
use keyward_rules::provider::catalogue::is_part_of;
use keyward_rules::provider::{Catalogue, CatalogueEntry};

/// Hosts, and connections, that are named.
const NAMED_MAX: usize = 4;

/// How long the gateway may take to answer; there is no summary after that.
const WITHIN: Duration = Duration::from_secs(2);

/// Prints the summary to standard error; nothing if nothing was refused, or the gateway is gone.
pub(super) async fn print(gateway: &RunGateway, lease: &OpenRun, agent: &Shown<Agent>) {
    let refusals = async {
        let client = gateway.client().await.ok()?;
        client.get::<RunRefusals>(&lease.refusals_path()).await.ok()
    };
    let Ok(Some(refusals)) = tokio::time::timeout(WITHIN, refusals).await else { return };
    let connections = async {
        let client = gateway.client().await.ok()?;
        client.list::<Shown<Connection>>("/api/v1/connections", &[]).await.ok()
    };
    let connections = match refusals.hosts.is_empty() {
        true => None,
        false => tokio::time::timeout(WITHIN, connections).await.ok().flatten(),
    };
    let connections = connections.map(|all| all.items).unwrap_or_default();
    let lines = lines(&refusals, agent, &connections, &gateway.global);
    lines.iter().for_each(|line| output::note(line));
}

fn lines(
    refusals: &RunRefusals,
    agent: &Shown<Agent>,
    connections: &[Shown<Connection>],
    global: &Global,
) -> Vec<String> {
    let keyward = global.keyward();
    let mut lines: Vec<_> = blocked(refusals, &keyward).into_iter().collect();
    lines.extend(remedy(refusals, agent, &keyward));
    lines.extend(foreign_placeholders(refusals, agent, &keyward));
    lines.extend(accounts(refusals, agent, connections, &keyward));
    let rejected = refusals.rejected.iter().take(NAMED_MAX);
    lines.extend(rejected.map(|it| rejection(it, global)));
    let more = refusals.rejected.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        lines.push(format!("keyward: {more} other connections were rejected too"));
    }
    lines
}

/// `keyward: 3 requests blocked: packages.example ×2, example.com (keyward audit query --refused)`.
fn blocked(refusals: &RunRefusals, keyward: &str) -> Option<String> {
    let requests = match refusals.requests {
        0 => return None,
        1 => "1 request".to_owned(),
        many => format!("{many} requests"),
    };
    let host = |it: &keyward_api::wire::HostRefusals| match it.requests {
        1 => it.host.clone(),
        many => format!("{} ×{many}", it.host),
    };
    let mut hosts: Vec<_> = refusals.hosts.iter().take(NAMED_MAX).map(host).collect();
    match refusals.hosts.len().saturating_sub(NAMED_MAX) {
        0 => {}
        1 => hosts.extend(refusals.hosts.last().map(host)),
        more => hosts.push(format!("and {more} others")),
    }
    let hosts = if hosts.is_empty() { String::new() } else { format!(": {}", hosts.join(", ")) };
    Some(format!("keyward: {requests} blocked{hosts} ({keyward} audit query --refused)"))
}

/// The sets of hosts that would allow what was blocked, beside those that the agent has.
fn remedy(refusals: &RunRefusals, agent: &Shown<Agent>, keyward: &str) -> Option<String> {
    let missing: BTreeSet<_> = refusals.hosts.iter().filter_map(|it| it.set.clone()).collect();
    if missing.is_empty() {
        return None;
    }
    let had = agent.allow.iter().flatten().filter(|set| !missing.contains(*set)).cloned();
    let sets: Vec<String> = had.chain(missing.iter().cloned()).collect();
    let name = &agent.name;
    Some(match agent.managed_by {
        Some(ManagedBy::File) => format!(
            "keyward: to allow them: `allow: [{}]` at agent {name} in the configuration file",
            sets.join(", ")
        ),
        _ => {
            let way = WayIn { host: String::new(), sets };
            format!("keyward: to allow them: {}", command(&way, agent, None, keyward))
        }
    })
}

/// The remedy that the refusal itself names, as this program is called.
fn command(way: &WayIn, agent: &Shown<Agent>, provider: Option<&str>, keyward: &str) -> String {
    way.command(&agent.name, provider).replacen("keyward", keyward, 1)
}

/// The hosts that got a placeholder which was refused. Another connection would not help.
fn foreign_placeholders(
    refusals: &RunRefusals,
    agent: &Shown<Agent>,
    keyward: &str,
) -> Option<String> {
    let hosts = refusals.hosts.iter().filter(|it| it.foreign_placeholder);
    let hosts: Vec<_> = hosts.take(NAMED_MAX).map(|it| it.host.as_str()).collect();
    let (name, hosts) = (&agent.name, hosts.join(", "));
    (!hosts.is_empty()).then(|| {
        format!(
            "keyward: the placeholder sent to {hosts} belongs to another agent than {name}, or to another host: run the program as the agent that has it (--agent), or replace it in its file: {keyward} import FILE --agent {name}"
        )
    })
}

/// For services that the agent has no connection to: `keyward: connection work is not bound to agent ci: keyward agent
/// bind ci work`, or without such a connection `keyward: for an account at GitHub: keyward connect github`. Whose account a
/// host of storage belongs to is unknown: [`is_storage`].
fn accounts(
    refusals: &RunRefusals,
    agent: &Shown<Agent>,
    connections: &[Shown<Connection>],
    keyward: &str,
) -> Vec<String> {
    let blocked = refusals.hosts.iter().filter(|it| it.set.is_none() && !it.foreign_placeholder);
    let (of_storage, others): (Vec<_>, Vec<_>) = blocked
        .filter_map(|it| HostPattern::parse(&it.host).ok())
        .partition(|host| is_storage(&host.to_string()));
    if of_storage.is_empty() && others.is_empty() {
        return Vec::new();
    }
    let has = |id: &str| agent.facts.bindings.iter().any(|binding| binding.provider == id);
    let catalogue = Catalogue::built_in();
    let unbound =
        |id: &str| connections.iter().find(|it| *it.provider == *id && may_bind(agent, it));
    let connects =
        |entry: &CatalogueEntry<'_>| command(&WayIn::default(), agent, Some(entry.id()), keyward);
    let line = |entry: CatalogueEntry<'_>| match unbound(entry.id()) {
        Some(connection) => {
            let (name, agent_name) = (&connection.name, &agent.name);
            let how = how_to_bind(agent, name, keyward);
            format!("keyward: connection {name} is not bound to agent {agent_name}: {how}")
        }
        None => format!("keyward: for an account at {}: {}", entry.name(), connects(&entry)),
    };
    let meant = catalogue.entries().filter(|entry| others.iter().any(|host| entry.has_host(host)));
    let meant: Vec<_> = meant.collect();
    let is_part = |id: &str| meant.iter().any(|service| is_part_of(id, service.id()));
    let meant = meant.iter().filter(|entry| !has(entry.id()) && !is_part(entry.id()));
    let lines = meant.copied().map(line);
    let of_storage = of_storage.iter().filter_map(|host| {
        let entry = catalogue.entries().find(|entry| entry.has_host(host))?;
        let how = match unbound(entry.id()) {
            Some(connection) => how_to_bind(agent, &connection.name, keyward),
            None => connects(&entry),
        };
        let (name, agent) = (entry.name(), &agent.name);
        (!has(entry.id())).then(|| {
            format!(
                "keyward: many services send signed URLs of {host}, which need no account: {keyward} rule add pass {host} --agent {agent}; for an account of your own at {name}: {how}"
            )
        })
    });
    let unknown = others.iter().filter(|host| !catalogue.entries().any(|it| it.has_host(host)));
    let without_account = unknown.map(|host| {
        let way = WayIn { host: host.to_string(), sets: Vec::new() };
        format!("keyward: to allow {host}: {}", command(&way, agent, None, keyward))
    });
    lines.chain(of_storage).chain(without_account).take(NAMED_MAX).collect()
}

/// Whether the host has buckets or storage accounts. Their owner need not be the one who has an account: GitHub keeps files
/// of LFS in a bucket of S3 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>), and logs of
/// Actions in Azure.
fn is_storage(host: &str) -> bool {
    const ENDINGS: &[&str] = &[
        ".blob.core.windows.net",
        ".r2.cloudflarestorage.com",
        ".backblazeb2.com",
        ".storage.googleapis.com",
    ];
    let of_aws = [".amazonaws.com", ".amazonaws.com.cn"];
    let mut of_aws = of_aws.iter().filter_map(|ending| host.strip_suffix(ending));
    let is_s3 = |label: &str| label == "s3" || label.starts_with("s3-");
    host == "storage.googleapis.com"
        || ENDINGS.iter().any(|ending| host.ends_with(ending))
        || of_aws.any(|labels| labels.split('.').any(is_s3))
}

/// `keyward: work was rejected by GitHub (401): keyward connection rotate work`.
fn rejection(rejected: &Rejected, global: &Global) -> String {
    let Rejected { connection, provider, hint, .. } = rejected;
    let hint = hint.as_deref().map(|hint| global.remedy(hint));
    let command = hint.as_deref().and_then(|hint| match hint.contains("configuration file") {
        true => Some(hint.replace('`', "")),
        false => hint.split('`').nth(1).map(str::to_owned),
    });
    let test = || format!("{} connection test {connection}", global.keyward());
    let command = command.unwrap_or_else(test);
    format!("keyward: {connection} was rejected by {provider} (401): {command}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(managed_by: &str, allow: &[&str]) -> Shown<Agent> {
        serde_json::from_value(serde_json::json!({
            "id": "agt_1", "name": "ci", "labels": {}, "environment": null, "allow": allow,
            "managed_by": managed_by, "paused": false, "created": "2025-01-02T03:04:05Z",
            "tokens": [], "bindings": [],
        }))
        .unwrap()
    }

    fn refusals(hosts: &[(&str, u64, Option<&str>)]) -> RunRefusals {
        serde_json::from_value(serde_json::json!({
            "requests": hosts.iter().map(|host| host.1).sum::<u64>(),
            "hosts": hosts.iter().map(|(host, requests, set)| {
                serde_json::json!({ "host": host, "requests": requests, "set": set })
            }).collect::<Vec<_>>(),
            "rejected": [],
        }))
        .unwrap()
    }

    fn text(refusals: &RunRefusals, agent: &Shown<Agent>) -> String {
        lines(refusals, agent, &[], &Global::default()).join("\n")
    }

    #[test]
    fn the_summary_is_empty_if_no_request_was_refused() {
        assert_eq!(text(&RunRefusals::default(), &agent("store", &[])), "");
    }

    #[test]
    fn at_most_four_hosts_are_named_and_the_others_counted() {
        let hosts = ["a", "b", "c", "d", "e", "f", "g"].map(|name| format!("{name}.test"));
        let hosts: Vec<_> = hosts.iter().map(|host| (&**host, 1, None)).collect();
        insta::assert_snapshot!(text(&refusals(&hosts), &agent("store", &[])), @r"
        keyward: 7 requests blocked: a.test, b.test, c.test, d.test, and 3 others (keyward audit query --refused)
        keyward: to allow a.test: keyward rule add pass a.test --agent ci
        keyward: to allow b.test: keyward rule add pass b.test --agent ci
        keyward: to allow c.test: keyward rule add pass c.test --agent ci
        keyward: to allow d.test: keyward rule add pass d.test --agent ci
        ");
        insta::assert_snapshot!(text(&refusals(&hosts[..1]), &agent("store", &[])), @r"
        keyward: 1 request blocked: a.test (keyward audit query --refused)
        keyward: to allow a.test: keyward rule add pass a.test --agent ci
        ");
    }

    #[test]
    fn the_remedy_keeps_the_sets_that_the_agent_has() {
        let blocked = refusals(&[("pypi.org", 2, Some("packages")), ("b.test", 1, None)]);
        insta::assert_snapshot!(text(&blocked, &agent("store", &["github-read"])), @r"
        keyward: 3 requests blocked: pypi.org ×2, b.test (keyward audit query --refused)
        keyward: to allow them: keyward agent set ci --allow github-read --allow packages
        keyward: to allow b.test: keyward rule add pass b.test --agent ci
        ");
        insta::assert_snapshot!(text(&blocked, &agent("file", &[])), @r"
        keyward: 3 requests blocked: pypi.org ×2, b.test (keyward audit query --refused)
        keyward: to allow them: `allow: [packages]` at agent ci in the configuration file
        keyward: to allow b.test: keyward rule add pass b.test --agent ci
        ");
    }

    #[test]
    fn a_blocked_service_is_named_unless_the_agent_has_an_account_there() {
        let blocked = refusals(&[("api.github.com", 2, None), ("b.test", 1, None)]);
        insta::assert_snapshot!(text(&blocked, &agent("store", &[])), @r"
        keyward: 3 requests blocked: api.github.com ×2, b.test (keyward audit query --refused)
        keyward: for an account at GitHub: keyward connect github --agent ci
        keyward: to allow b.test: keyward rule add pass b.test --agent ci
        ");
        let mut bound = agent("store", &[]);
        bound.facts.bindings = serde_json::from_value(serde_json::json!([{
            "connection": "con_1", "name": "work", "provider": "github", "managed_by": "store",
            "created": "2025-01-02T03:04:05Z", "placeholders": {}, "env": {},
        }]))
        .unwrap();
        assert!(!text(&blocked, &bound).contains("connect "), "a rule has refused it");
    }

    #[test]
    fn a_blocked_host_of_storage_is_not_said_to_need_an_account() {
        let text = |hosts: &[&str], agent: &Shown<Agent>| {
            let hosts: Vec<_> = hosts.iter().map(|host| (*host, 1, None)).collect();
            let all = lines(&refusals(&hosts), agent, &[], &Global::default());
            all[1..].join("\n")
        };
        let agent = agent("store", &[]);
        insta::assert_snapshot!(text(&["github-cloud.s3.amazonaws.com"], &agent), @"keyward: many services send signed URLs of github-cloud.s3.amazonaws.com, which need no account: keyward rule add pass github-cloud.s3.amazonaws.com --agent ci; for an account of your own at Amazon Web Services: keyward connect aws --agent ci");
        for host in [
            "productionresultssa3.blob.core.windows.net",
            "files.s3.eu-central-1.amazonaws.com",
            "files.s3-accelerate.amazonaws.com",
            "s3.cn-north-1.amazonaws.com.cn",
            "storage.googleapis.com",
        ] {
            let said = text(&[host], &agent);
            let begins = format!("keyward: many services send signed URLs of {host}, which");
            assert!(said.starts_with(&begins) && !said.contains('\n'), "{said}");
        }
        let said = text(&["sts.us-east-1.amazonaws.com"], &agent);
        assert_eq!(
            said,
            "keyward: for an account at Amazon Web Services: keyward connect aws --agent ci"
        );
    }

    fn connection(more: &serde_json::Value) -> Shown<Connection> {
        let mut connection = serde_json::json!({
            "id": "con_1", "name": "work", "provider": "github", "auth": "pat", "environment": null,
            "variables": {}, "hosts": [], "managed_by": "store", "state": "active",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        });
        let more = more.as_object().unwrap().clone();
        connection.as_object_mut().unwrap().extend(more);
        serde_json::from_value(connection).unwrap()
    }

    #[test]
    fn an_existing_connection_is_offered_before_a_new_account() {
        let blocked = refusals(&[("api.github.com", 1, None)]);
        let said = |managed_by: &str, more: &serde_json::Value| {
            let (agent, all) = (agent(managed_by, &[]), [connection(more)]);
            lines(&blocked, &agent, &all, &Global::default())[1].clone()
        };
        for other in [
            serde_json::json!({"provider": "gitlab"}),
            serde_json::json!({"state": "paused"}),
            serde_json::json!({"owner": "usr_1"}),
        ] {
            let said = said("store", &other);
            assert_eq!(
                said,
                "keyward: for an account at GitHub: keyward connect github --agent ci"
            );
        }
        let none = serde_json::json!({});
        insta::assert_snapshot!(said("store", &none), @"keyward: connection work is not bound to agent ci: keyward agent bind ci work");
        insta::assert_snapshot!(said("file", &none), @"keyward: connection work is not bound to agent ci: add `use: [work]` to agent ci in the configuration file");
    }

    #[test]
    fn for_a_foreign_placeholder_no_new_account_or_binding_is_offered() {
        let mut blocked = refusals(&[("api.github.com", 1, None)]);
        blocked.hosts[0].foreign_placeholder = true;
        let none = serde_json::json!({});
        let said = lines(&blocked, &agent("store", &[]), &[connection(&none)], &Global::default());
        let said = said.join("\n");
        assert!(!said.contains("connect github") && !said.contains("agent bind"), "{said}");
        assert!(
            said.contains(
                "the placeholder sent to api.github.com belongs to another agent than ci"
            ),
            "{said}"
        );
        assert!(said.contains("keyward import FILE --agent ci"), "{said}");
    }

    #[test]
    fn a_rejected_connection_is_named_with_its_remedy() {
        let rejected = |hint: Option<&str>| RunRefusals {
            rejected: vec![Rejected {
                connection: "work".to_owned(),
                provider: "GitHub".to_owned(),
                requests: 2,
                hint: hint.map(str::to_owned),
            }],
            ..RunRefusals::default()
        };
        let hint = "get a new secret at https://x.test, then: `keyward connection rotate work`";
        insta::assert_snapshot!(text(&rejected(Some(hint)), &agent("store", &[])), @"keyward: work was rejected by GitHub (401): keyward connection rotate work");
        insta::assert_snapshot!(text(&rejected(None), &agent("store", &[])), @"keyward: work was rejected by GitHub (401): keyward connection test work");
    }
}
