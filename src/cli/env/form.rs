//! Output formats of `keyward env`: shell, docker, compose, Kubernetes, JSON.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::environment::{AgentEnvironment, table};
use crate::cli::failure::Failure;
use crate::cli::settings::quoted;

/// The directory of the files in containers.
pub(super) const MOUNTED: &str = "/etc/keyward";

/// An output format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum EnvFormat {
    /// `export` lines of a POSIX shell
    #[value(alias = "bash", alias = "zsh")]
    Sh,
    /// `set` lines of fish
    Fish,
    /// a file for `docker run --env-file`
    Docker,
    /// an override file of docker compose
    Compose,
    /// a Kubernetes Secret and ConfigMap
    K8s,
    /// one JSON object
    Json,
}

/// The content to print.
pub(super) struct Printed<'a> {
    /// The agent's name.
    pub(super) agent: &'a str,
    /// The proxy's address for the client.
    pub(super) proxy: &'a str,
    /// The directory of the files on this machine.
    pub(super) folder: &'a Path,
    pub(super) made: &'a AgentEnvironment,
}

impl EnvFormat {
    /// Whether the client runs in a container, without this machine's files and home.
    pub(super) fn is_of_a_container(self) -> bool {
        matches!(self, Self::Docker | Self::Compose | Self::K8s)
    }

    /// The printed text.
    pub(super) fn print(self, printed: &Printed<'_>) -> Result<String, Failure> {
        let made = printed.made;
        Ok(match self {
            Self::Sh => {
                removals(made, "unset")
                    + &lines(made, |name, value| format!("export {name}={}", sh(value)))
            }
            Self::Fish => {
                removals(made, "set -eg")
                    + &lines(made, |name, value| format!("set -gx {name} {}", fish(value)))
            }
            Self::Docker => lines(made, |name, value| format!("{name}={value}")),
            Self::Compose => compose(printed),
            Self::K8s => kubernetes(printed)?,
            Self::Json => pretty(&json!(made.by_name()))?,
        })
    }

    /// The remaining steps, for people.
    pub(super) fn hint(self, printed: &Printed<'_>) -> Option<String> {
        let Printed { agent, folder, proxy, .. } = printed;
        let folder = folder.display();
        match self {
            Self::Docker => {
                let network = if is_loopback(proxy) { " --network host" } else { "" };
                let volume = quoted(&format!("{folder}:{MOUNTED}:ro"));
                Some(format!("hint: docker run --env-file FILE --volume {volume}{network} …"))
            }
            Self::Compose => {
                let service = match is_loopback(proxy) {
                    true => "; for a gateway that is a service too: --proxy SERVICE:PORT",
                    false => "",
                };
                Some(format!("hint: docker compose -f docker-compose.yaml -f FILE up{service}"))
            }
            Self::K8s => Some(format!(
                "hint: `kubectl apply --server-side -f FILE`; in the container: `envFrom` the Secret \
                 {}, and the ConfigMap keyward-files as a volume at {MOUNTED}",
                secret_name(agent)
            )),
            Self::Sh | Self::Fish | Self::Json => None,
        }
    }
}

fn lines(made: &AgentEnvironment, line: impl Fn(&str, &str) -> String) -> String {
    made.variables.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{}", line(name, value));
        text
    })
}

/// The commands of a shell that remove variables.
fn removals(made: &AgentEnvironment, command: &str) -> String {
    made.removed.iter().map(|name| format!("{command} {name}\n")).collect()
}

fn sh(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn fish(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

/// The service is named `agent`: an override file can extend services only by name.
fn compose(printed: &Printed<'_>) -> String {
    let mut text = "services:\n  agent:\n".to_owned();
    if is_loopback(printed.proxy) {
        text.push_str("    network_mode: host\n");
    }
    let volume = format!("{}:{MOUNTED}:ro", printed.folder.display());
    // A dollar sign is doubled, because compose expands variables.
    let literal = |value: &str| yaml(&value.replace('$', "$$"));
    let _ = writeln!(text, "    volumes: [{}]\n    environment:", literal(&volume));
    for (name, value) in &printed.made.variables {
        let why = table::why(name).unwrap_or("for the provider's SDKs");
        let _ = writeln!(text, "      {name}: {}  # {why}", literal(value));
    }
    text
}

/// JSON strings are YAML.
fn yaml(value: &str) -> String {
    json!(value).to_string()
}

/// JSON, which `kubectl` reads as well.
fn kubernetes(printed: &Printed<'_>) -> Result<String, Failure> {
    let files = printed.made.files.all.iter();
    let (text, binary): (Vec<_>, Vec<_>) =
        files.partition(|(_, content)| std::str::from_utf8(content).is_ok());
    let text: serde_json::Map<_, _> = text
        .into_iter()
        .map(|(name, content)| ((*name).into(), String::from_utf8_lossy(content).into()))
        .collect();
    let binary: serde_json::Map<_, _> = binary
        .into_iter()
        .map(|(name, content)| ((*name).into(), STANDARD.encode(content).into()))
        .collect();
    // Not `stringData`, which does not work well with a server-side apply
    // (<https://kubernetes.io/docs/concepts/configuration/secret/>).
    let variables = printed.made.by_name().into_iter();
    let variables: serde_json::Map<_, _> =
        variables.map(|(name, value)| (name.into(), STANDARD.encode(value).into())).collect();
    let secret = secret_name(printed.agent);
    pretty(&json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret },
          "data": variables },
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "keyward-files" },
          "data": text, "binaryData": binary },
    ] }))
}

/// The name of an agent's Secret, a DNS subdomain (RFC 1123): labels in lower case, without `_` and `~`, which begin and
/// end with a letter or digit.
pub(super) fn secret_name(agent: &str) -> String {
    let name = format!("keyward-{agent}").to_ascii_lowercase().replace(['_', '~'], "-");
    let labels = name.split('.').map(|label| label.trim_matches('-'));
    labels.filter(|label| !label.is_empty()).collect::<Vec<_>>().join(".")
}

fn pretty(value: &serde_json::Value) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|error| Failure::failed("cannot write JSON", &error))
}

fn is_loopback(proxy: &str) -> bool {
    let place = proxy.strip_prefix("https://").unwrap_or(proxy);
    place.parse::<SocketAddr>().is_ok_and(|addr| addr.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::environment::files::Paths;
    use crate::cli::environment::tests::{environment, facts_with_ca};
    use crate::cli::environment::{Inherited, ProxyAccess};
    use keyward_proxy::ca::authority::platform_pem;

    /// Longest content of a Secret and a ConfigMap.
    /// <https://kubernetes.io/docs/concepts/configuration/configmap/>
    const OBJECT_BYTES_MAX: usize = 1024 * 1024;

    fn printed(form: EnvFormat) -> String {
        let made = environment(&Inherited::default());
        let folder = Path::new("/f");
        let printed = Printed { agent: "claude", proxy: "127.0.0.1:8080", folder, made: &made };
        let hint = form.hint(&printed).unwrap_or_default();
        format!("{}{hint}", form.print(&printed).unwrap())
    }

    #[test]
    fn the_environment_is_printed_for_a_posix_shell() {
        insta::assert_snapshot!(printed(EnvFormat::Sh));
    }

    #[test]
    fn the_environment_is_printed_for_fish() {
        insta::assert_snapshot!(printed(EnvFormat::Fish));
    }

    #[test]
    fn the_environment_is_printed_for_docker() {
        insta::assert_snapshot!(printed(EnvFormat::Docker));
    }

    #[test]
    fn the_environment_is_printed_for_compose() {
        insta::assert_snapshot!(printed(EnvFormat::Compose));
    }

    #[test]
    fn the_environment_is_printed_as_json() {
        insta::assert_snapshot!(printed(EnvFormat::Json));
    }

    #[test]
    fn kubernetes_gets_the_token_as_a_secret_and_the_files_as_a_map() {
        let text = printed(EnvFormat::K8s);
        let (list, hint) = text.split_once("\nhint: ").unwrap();
        let list: serde_json::Value = serde_json::from_str(list).unwrap();
        let [secret, files] = [&list["items"][0], &list["items"][1]];
        let proxy = STANDARD.decode(secret["data"]["HTTPS_PROXY"].as_str().unwrap()).unwrap();
        assert_eq!(proxy, b"http://claude:kwa_canary@127.0.0.1:8080");
        assert!(!files.to_string().contains("canary"), "{files}");
        assert_eq!(files["data"]["ca.pem"], "the CA\n");
        assert_eq!(secret["metadata"]["name"], "keyward-claude");
        assert!(hint.contains("keyward-claude") && hint.contains("--server-side"), "{hint}");
    }

    #[test]
    fn the_hint_for_kubernetes_names_the_secret_that_is_printed() {
        let made = environment(&Inherited::default());
        for (agent, name) in [
            ("CI_bot~x", "keyward-ci-bot-x"),
            ("team.ci", "keyward-team.ci"),
            ("-x", "keyward--x"),
            ("ci-", "keyward-ci"),
            ("a..", "keyward-a"),
            (".-a.b", "keyward.a.b"),
        ] {
            let folder = Path::new("/f");
            let printed = Printed { agent, proxy: "keyward:8080", folder, made: &made };
            let objects: serde_json::Value =
                serde_json::from_str(&EnvFormat::K8s.print(&printed).unwrap()).unwrap();
            assert_eq!(objects["items"][0]["metadata"]["name"], name, "{agent}");
            let hint = EnvFormat::K8s.hint(&printed).unwrap();
            assert!(hint.contains(&format!("the Secret {name}, ")), "{agent}: {hint}");
        }
    }

    #[test]
    fn a_folder_with_blanks_quotes_and_dollar_signs_is_one_volume() {
        let made = environment(&Inherited::default());
        let folder = Path::new("/srv/o'brien/a $x");
        let printed = Printed { agent: "claude", proxy: "keyward:8080", folder, made: &made };
        let hint = EnvFormat::Docker.hint(&printed).unwrap();
        assert!(hint.contains(r" --volume '/srv/o'\''brien/a $x:/etc/keyward:ro' "), "{hint}");
        let compose = EnvFormat::Compose.print(&printed).unwrap();
        assert!(compose.contains("/srv/o'brien/a $$x:/etc/keyward:ro"), "{compose}");
    }

    #[test]
    fn kubernetes_objects_with_all_platform_roots_stay_below_the_size_limit() {
        let facts = facts_with_ca("the CA\n", &platform_pem().unwrap());
        let entrance =
            ProxyAccess { proxy: "keyward:8080", own: None, token: "kwa_canary", is_local: false };
        let made = facts.environment(entrance, &Paths::new(MOUNTED), &Inherited::default());
        let folder = Path::new("/f");
        let printed = Printed { agent: "claude", proxy: "keyward:8080", folder, made: &made };
        let list: serde_json::Value =
            serde_json::from_str(&EnvFormat::K8s.print(&printed).unwrap()).unwrap();
        for item in list["items"].as_array().unwrap() {
            let bytes = item.to_string().len();
            assert!(bytes < OBJECT_BYTES_MAX, "{}: {bytes}", item["kind"]);
        }
    }

    #[test]
    fn a_shell_unsets_variables_of_an_earlier_environment() {
        let made = environment(&Inherited::default());
        let made = AgentEnvironment { removed: vec!["OPENAI_API_KEY".to_owned()], ..made };
        let (folder, agent) = (Path::new("/f"), "claude");
        let printed = Printed { agent, proxy: "127.0.0.1:8080", folder, made: &made };
        for (form, line) in [
            (EnvFormat::Sh, "unset OPENAI_API_KEY\n"),
            (EnvFormat::Fish, "set -eg OPENAI_API_KEY\n"),
        ] {
            let text = form.print(&printed).unwrap();
            assert!(text.starts_with(line), "{text}");
        }
    }

    #[test]
    fn quotes_in_a_value_are_escaped_for_sh_and_fish() {
        assert_eq!(sh("it's $x"), r"'it'\''s $x'");
        assert_eq!(fish(r"it's \ $x"), r"'it\'s \\ $x'");
    }
}
