//! The files of `deploy/` and the Dockerfile fit the program: their configurations are read, their
//! commands exist, secrets reach the gateway and not the agent, and the agent has the variables that
//! `keyward env` would print.

use std::collections::BTreeMap;
use std::path::Path;

use keyward_app::config::Config;
use serde::Deserialize;
use serde_yaml::Value;

use super::commands::refusal;
use super::{Page, configurations};
use test_support::cli::Cli;

/// The documents of a YAML file.
fn documents(path: &str) -> Vec<Value> {
    let page = Page::read(path);
    let documents = serde_yaml::Deserializer::from_str(&page.text);
    documents.map(|document| Value::deserialize(document).expect("it is YAML")).collect()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_sequence().into_iter().flatten();
    items.map(|item| item.as_str().expect("text").to_owned()).collect()
}

fn keys(value: &Value) -> Vec<String> {
    let keys = value.as_mapping().into_iter().flat_map(|map| map.keys());
    keys.map(|key| key.as_str().expect("text").to_owned()).collect()
}

/// The values of one key of a list of maps.
fn each(list: &Value, key: &str) -> Vec<String> {
    let items = list.as_sequence().into_iter().flatten();
    items.filter_map(|item| item[key].as_str()).map(str::to_owned).collect()
}

/// The command that the image's entry point gets.
fn assert_command(arguments: &Value) {
    let words = [vec!["keyward".to_owned()], texts(arguments)].concat();
    assert!(words.len() > 1, "no command");
    if let Some(refused) = refusal(&words) {
        panic!("{words:?}: {refused}");
    }
}

/// The variables that a configuration reads secrets from.
fn secrets(yaml: &str) -> Vec<String> {
    let problems = configurations::problems(yaml);
    assert!(problems.is_empty(), "{problems}");
    let config = Config::parse(yaml, Path::new("keyward.yaml"), &BTreeMap::new()).expect("read");
    config.secret_variables().into_iter().map(str::to_owned).collect()
}

/// What an agent in a container may be given: what `keyward env` prints.
fn assert_variables_of_an_agent(names: &[String], own: &[&str]) {
    let cli = Cli::with_agent();
    let printed = cli.run(&["env", "--agent", "ci", "--for", "json"]).json();
    for name in names.iter().filter(|name| !own.contains(&name.as_str())) {
        assert!(printed.get(name).is_some(), "{name} is none of the variables of an agent");
    }
    for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        assert!(names.iter().any(|it| it == name), "{name} is missing");
    }
}

#[test]
fn the_composed_agent_has_no_route_and_no_secret_but_its_token() {
    let compose = &documents("deploy/docker-compose.yaml")[0];
    let agent = &compose["services"]["agent"];
    let gateway = &compose["services"]["keyward"];
    let networks = texts(&agent["networks"]);
    assert!(!networks.is_empty(), "without any, it would get the default one");
    for network in networks {
        assert_eq!(compose["networks"][&network]["internal"], Value::Bool(true), "{network}");
        assert!(texts(&gateway["networks"]).contains(&network), "{network}");
    }
    let secrets = secrets(compose["configs"]["keyward.yaml"]["content"].as_str().expect("text"));
    let given = keys(&gateway["environment"]);
    assert!(secrets.iter().all(|name| given.contains(name)), "{secrets:?} of {given:?}");
    let variables = keys(&agent["environment"]);
    assert_variables_of_an_agent(&variables, &[]);
    let values = serde_yaml::to_string(&agent["environment"]).expect("YAML");
    for name in secrets.iter().filter(|name| !name.starts_with("CI_")) {
        assert!(!values.contains(name.as_str()), "{name}");
    }
    for volume in texts(&agent["volumes"]) {
        assert!(!volume.starts_with("data:"), "{volume}");
    }
}

#[test]
fn composed_replicas_share_store_key_and_ca_and_nothing_else() {
    let compose = &documents("deploy/docker-compose.replicas.yaml")[0];
    let common = &compose["x-keyward"];
    assert_command(&common["command"]);
    let yaml = compose["configs"]["keyward.yaml"]["content"].as_str().expect("text");
    let given = keys(&common["environment"]);
    assert_eq!(secrets(yaml), ["KEYWARD_KEY", "DATABASE_URL"]);
    assert!(secrets(yaml).iter().all(|name| given.contains(name)), "{given:?}");
    let services = compose["services"].as_mapping().expect("services");
    let replicas = services
        .iter()
        .filter(|(name, _)| name.as_str().is_some_and(|name| name.starts_with("keyward-")));
    let volumes: Vec<String> = replicas.flat_map(|(_, it)| texts(&it["volumes"])).collect();
    assert_eq!(volumes.iter().filter(|it| *it == "ca:/certs").count(), 3, "{volumes:?}");
    let own: std::collections::BTreeSet<_> =
        volumes.iter().filter(|it| it.ends_with(":/data")).collect();
    assert_eq!(own.len(), 3, "each has a data directory of its own");
    let config = Config::parse(yaml, Path::new("keyward.yaml"), &BTreeMap::new()).expect("read");
    assert!(config.ca.cert.starts_with("/certs") && config.ca.key.starts_with("/certs"));
}

#[test]
fn the_composed_commands_exist() {
    let compose = &documents("deploy/docker-compose.yaml")[0];
    let services = compose["services"].as_mapping().expect("services");
    let ours = services.values().filter(|service| service["image"] == "keyward");
    let ours: Vec<_> = ours.collect();
    assert_eq!(ours.len(), 2);
    ours.iter().for_each(|service| assert_command(&service["command"]));
}

#[test]
fn the_sidecar_has_the_secrets_and_the_agent_its_token_only() {
    let documents = documents("deploy/kubernetes-sidecar.yaml");
    let kind = |kind: &str| documents.iter().find(|it| it["kind"] == kind).expect("it is there");
    let pod = &kind("Deployment")["spec"]["template"]["spec"];
    let (gateway, agent) = (&pod["initContainers"][0], &pod["containers"][0]);
    let secrets = secrets(kind("ConfigMap")["data"]["keyward.yaml"].as_str().expect("text"));
    assert_eq!(secrets.len(), 3, "{secrets:?}");
    let given = each(&gateway["env"], "name");
    assert!(secrets.iter().all(|name| given.contains(name)), "{secrets:?} of {given:?}");

    assert_variables_of_an_agent(&each(&agent["env"], "name"), &["CI_AGENT_TOKEN"]);
    let entries = agent["env"].as_sequence().expect("a list");
    for key in entries.iter().filter_map(|it| it["valueFrom"]["secretKeyRef"]["key"].as_str()) {
        assert_eq!(key, "agent-token");
    }
    assert_eq!(each(&agent["volumeMounts"], "name"), ["certs"]);
    assert!(pod.get("shareProcessNamespace").is_none());
}

#[test]
fn the_sidecar_is_hardened_and_its_commands_exist() {
    let documents = documents("deploy/kubernetes-sidecar.yaml");
    let deployment = documents.iter().find(|it| it["kind"] == "Deployment").expect("it is there");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], Value::Bool(true));
    for container in pod["initContainers"].as_sequence().expect("a list") {
        assert_command(&container["args"]);
        let closed = &container["securityContext"];
        assert_eq!(closed["readOnlyRootFilesystem"], Value::Bool(true));
        assert_eq!(closed["allowPrivilegeEscalation"], Value::Bool(false));
        assert_eq!(texts(&closed["capabilities"]["drop"]), ["ALL"]);
        assert_eq!(closed["runAsUser"], Value::from(65532));
    }
    assert_probes(&pod["initContainers"][0]);
}

/// A gateway that is not ready must not be restarted.
fn assert_probes(container: &Value) {
    let command = |probe: &str| texts(&container[probe]["exec"]["command"]).join(" ");
    for probe in ["startupProbe", "readinessProbe"] {
        assert_eq!(command(probe), "/keyward health", "{probe}");
    }
    assert_eq!(command("livenessProbe"), "/keyward health --alive");
}

#[test]
fn the_cluster_s_gateway_is_hardened_and_has_all_secrets() {
    let documents = documents("deploy/kubernetes.yaml");
    let kind = |kind: &str| documents.iter().find(|it| it["kind"] == kind).expect("it is there");
    let deployment = kind("Deployment");
    assert_eq!(deployment["spec"]["replicas"], Value::from(1), "one process owns the directory");
    assert_eq!(deployment["spec"]["strategy"]["type"], Value::from("Recreate"));
    let pod = &deployment["spec"]["template"]["spec"];
    let user = &pod["securityContext"];
    assert_eq!(user["runAsUser"], Value::from(65532));
    // The other value opens the data directory to a group, which the gateway refuses.
    assert_eq!(user["fsGroupChangePolicy"], Value::from("OnRootMismatch"));
    let gateway = &pod["containers"][0];
    assert_command(&gateway["args"]);
    assert_probes(gateway);
    let closed = &gateway["securityContext"];
    assert_eq!(closed["readOnlyRootFilesystem"], Value::Bool(true));
    assert_eq!(texts(&closed["capabilities"]["drop"]), ["ALL"]);
    let secrets = secrets(kind("ConfigMap")["data"]["keyward.yaml"].as_str().expect("text"));
    let given = each(&gateway["env"], "name");
    assert!(secrets.iter().all(|name| given.contains(name)), "{secrets:?} of {given:?}");
}

#[test]
fn the_cluster_s_agents_reach_only_the_gateway_and_dns() {
    let documents = documents("deploy/kubernetes.yaml");
    let named = |name: &str| {
        let is = |it: &&Value| it["kind"] == "NetworkPolicy" && it["metadata"]["name"] == name;
        documents.iter().find(is).expect("it is there")
    };
    let agents = &named("keyward-agents")["spec"];
    let ways = agents["egress"].as_sequence().expect("a list");
    assert_eq!(ways.len(), 2);
    assert!(ways.iter().all(|way| way.get("to").is_some()), "a way without a target is any target");
    assert_eq!(ways[0]["to"][0]["podSelector"]["matchLabels"]["app"], Value::from("keyward"));
    assert_eq!(ways[0]["ports"][0]["port"], Value::from(8080));
    assert_eq!(ways[1]["to"][0]["podSelector"]["matchLabels"]["k8s-app"], Value::from("kube-dns"));
    let gateway = &named("keyward")["spec"];
    let from = &gateway["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(from, &agents["podSelector"]["matchLabels"], "the gateway lets the agents in");
    let service = documents.iter().find(|it| it["kind"] == "Service").expect("it is there");
    assert_eq!(service["spec"]["selector"]["app"], Value::from("keyward"));
}

#[test]
fn the_image_and_the_systemd_unit_start_existing_commands() {
    let dockerfile = Page::read("Dockerfile").text;
    let words = |instruction: &str| {
        let (_, rest) = dockerfile.rsplit_once(instruction).expect("the instruction is there");
        let line = rest.lines().next().unwrap_or_default();
        serde_yaml::from_str::<Value>(line).expect("the exec form is a list")
    };
    assert_eq!(texts(&words("ENTRYPOINT ")), ["/keyward"]);
    assert_command(&words("\nCMD "));
    assert_eq!(texts(&words("--start-period=10s CMD ")), ["/keyward", "health"]);
    assert!(dockerfile.contains("\nUSER 65532:65532\n"), "Kubernetes wants a number");

    let unit = Page::read("deploy/keyward.service").text;
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let words: Vec<String> = start.split_whitespace().map(str::to_owned).collect();
    assert!(refusal(&words).is_none(), "{start}");
}

/// Cargo reads the manifest of each package of the workspace before it builds one.
#[test]
fn the_image_is_built_from_a_context_with_every_package_and_script() {
    let manifest = Page::read("Cargo.toml").text;
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = "));
    let members: Vec<String> =
        serde_yaml::from_str(members.expect("a workspace")).expect("a list of texts");
    let context = Page::read(".dockerignore").text;
    assert!(members.len() > 2, "{members:?}");
    let mut needed: Vec<_> =
        members.iter().map(|it| it.trim_end_matches("/*").to_owned()).collect();
    for script in ["release/compile", "release/train"] {
        let text = Page::read(script).text;
        let named = text.split("$root/").skip(1);
        let named = named.map(|rest| rest.split(['"', ' ', ')']).next().unwrap_or_default());
        needed.extend(named.map(str::to_owned));
        needed.extend([script.to_owned(), "release/lib.sh".to_owned()]);
    }
    assert!(needed.contains(&"bench/rig".to_owned()), "{needed:?}");
    for path in needed {
        assert!(context.lines().any(|line| line == format!("!{path}")), "{path} is missing");
    }
}
