//! The environment that makes a client use the gateway: variables (`table.rs`), the files that they name,
//! and placeholders. `keyward run` passes it to a child process; `keyward env` prints it.

mod databases;
pub(crate) mod files;
mod git;
mod no_proxy;
mod options;
pub(crate) mod outer;
pub(super) mod placeholders;
mod roots;
pub(crate) mod table;
pub(crate) mod unset;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{KeyPair, PKCS_RSA_SHA256};

use self::databases::Database;
pub(crate) use self::files::AgentEnvironment;
use self::files::{BUNDLE, EnvironmentFiles, NODE_SHIM, Paths, SourceFiles, TRUSTSTORE};
use self::git::InheritedEntries;
use self::options::{
    appended, first_directory, quoted_for_java, quoted_for_node, with_directory, without,
    without_directory,
};
use self::roots::InheritedRoots;
use self::table::{SetTo, TABLE};
use super::client::{Client, segment};
use super::connection::state::state_after_is;
use super::failure::{Exit, Failure};
use super::settings::Global;
use keyward_api::wire::DatabaseListenerView;
use keyward_model::{Agent, AgentSpec, Connection, Shown, check_name};
use keyward_rules::provider::AuthKind;
use keyward_rules::provider::run_files::{RUN_FILES, RunFile};

pub(crate) const DEFAULT_AGENT: &str = "default";

/// Java's pattern of directly reached hosts: `NO_PROXY` in another syntax.
const JAVA_DIRECT: &str = "localhost|127.*|[::1]";

/// Makes Maven 3.9 and newer read Java's own options (`aether.connector.http.useSystemProperties`,
/// <https://maven.apache.org/resolver/configuration.html>). Older versions always do.
const MAVEN: &str = "-Daether.connector.http.useSystemProperties=true";

/// Disables the daemon: one that was started with another environment has neither the proxy nor the CA
/// (<https://docs.gradle.org/current/userguide/gradle_daemon.html>).
const GRADLE: &str = "-Dorg.gradle.daemon=false";

/// The facts of an environment, except the token.
#[derive(Debug)]
pub(crate) struct EnvironmentFacts {
    pub(crate) agent: Shown<Agent>,
    ca: String,
    bundle: String,
    /// Host patterns of its bindings.
    hosts: Vec<String>,
    /// Its connections to databases; its default first.
    pub(crate) databases: Vec<Database>,
    /// The gateway's listeners for databases; none if it does not run.
    database_listeners: Vec<DatabaseListenerView>,
    /// Hosts of repositories that git reaches over HTTPS with its bindings.
    git_hosts: Vec<String>,
    /// The files for libraries that look for a credential, as far as a binding has one.
    run_files: Vec<&'static RunFile>,
    /// Whether the others are written too, without their variables.
    has_every_run_file: bool,
    /// The accounts of its connections with such files, as far as they are known.
    accounts: Vec<String>,
    /// The key in those files, which no service knows; made when one needs it.
    run_key: OnceLock<String>,
    /// Whether one of its bindings is the key of an SSH agent.
    pub(crate) has_ssh_key: bool,
    /// Its connections that cannot be used, as people read them.
    pub(crate) unusable: Vec<UnusableConnection>,
}

/// A connection that cannot be used.
#[derive(Debug)]
pub(crate) struct UnusableConnection {
    name: String,
    state: String,
    remedy: Option<String>,
}

impl UnusableConnection {
    /// `None` if it can be used.
    fn of(connection: &Shown<Connection>) -> Option<Self> {
        if connection.facts.state.is_usable() {
            return None;
        }
        let (name, remedy) = (connection.name.clone(), connection.facts.remedy.clone());
        Some(Self { name, state: state_after_is(&connection.facts.state), remedy })
    }

    /// The state and the remedy, on two lines.
    pub(crate) fn note(&self, global: &Global) -> String {
        let Self { name, state, remedy } = self;
        let remedy = remedy.as_deref().map(|remedy| format!("\nhint: {}", global.remedy(remedy)));
        format!("note: connection {name} is {state}{}", remedy.unwrap_or_default())
    }
}

/// How a client reaches the proxy, and authenticates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxyAccess<'a> {
    /// `HOST:PORT`, or `https://…` for a TLS listener.
    pub(crate) proxy: &'a str,
    /// The agent's own listener, for clients that cannot authenticate.
    pub(crate) own: Option<SocketAddr>,
    pub(crate) token: &'a str,
    /// Whether the client is on the gateway's machine.
    pub(crate) is_local: bool,
}

/// The variables and files that the client inherits. What an earlier environment of ours added is replaced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited {
    no_proxy: String,
    java: String,
    maven: String,
    gradle: String,
    node: String,
    php: String,
    python: String,
    wgetrc: String,
    apt: String,
    git: InheritedEntries,
    /// Files of [`RUN_FILES`] of an earlier environment.
    run_files: Vec<&'static RunFile>,
    /// Whether AWS's SDKs have a bundle of the user's own.
    has_aws_bundle: bool,
    /// Variables with placeholders of an earlier environment.
    placeholders: Vec<String>,
    roots: InheritedRoots,
    /// Variables of an outer environment that this one may not replace.
    outer: Vec<&'static str>,
    /// Variables whose values cannot be kept.
    not_utf8: Vec<&'static str>,
}

impl EnvironmentFacts {
    /// Reads the facts of an agent from the gateway.
    pub(crate) async fn of(client: &Client, agent: &str) -> Result<Self, Failure> {
        let agent = agent_view(client, agent).await?;
        let (mut hosts, mut git_hosts, mut unusable) = (Vec::new(), Vec::new(), Vec::new());
        let (mut databases, mut run_files, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
        let mut has_ssh_key = false;
        for binding in &agent.facts.bindings {
            let at = format!("/api/v1/connections/{}", segment(binding.connection.as_str()));
            let connection: Shown<Connection> = client.get(&at).await?;
            unusable.extend(UnusableConnection::of(&connection));
            if let Some(database) = Database::of(&connection) {
                match binding.default {
                    true => databases.insert(0, database),
                    false => databases.push(database),
                }
            }
            let (kind, own) = (connection.facts.kind, &connection.facts.hosts);
            let before = run_files.len();
            run_files.extend(RUN_FILES.iter().filter(|file| file.serves(kind, own)));
            if run_files.len() > before {
                accounts.extend(connection.facts.account);
            }
            hosts.extend(connection.facts.hosts);
            git_hosts.extend(connection.facts.git_hosts);
            // Of a key by reference, nothing else is known until it is fetched.
            has_ssh_key |= connection.facts.kind == Some(AuthKind::SshKey);
        }
        let (ca, bundle) = (client.text("/ca.pem").await?, client.text("/bundle.pem").await?);
        let status = if databases.is_empty() { None } else { client.status().await };
        let database_listeners = status.map(|status| status.databases).unwrap_or_default();
        Ok(Self {
            agent,
            ca,
            bundle,
            hosts,
            databases,
            database_listeners,
            git_hosts,
            run_files: RUN_FILES.iter().filter(|file| run_files.contains(file)).collect(),
            has_every_run_file: false,
            accounts,
            run_key: OnceLock::new(),
            has_ssh_key,
            unusable,
        })
    }

    /// The files are those of other agents too: they name no account. In containers, agents may have the same volume.
    pub(crate) fn share_files(&mut self, with_containers: bool) {
        self.accounts.clear();
        self.has_every_run_file = with_containers;
    }

    /// The environment of a client that has the files at `paths`.
    pub(crate) fn environment(
        &self,
        ProxyAccess { proxy, own, token, is_local }: ProxyAccess<'_>,
        paths: &Paths,
        inherited: &Inherited,
    ) -> AgentEnvironment {
        let (scheme, place) = match proxy.strip_prefix("https://") {
            Some(place) => ("https", place),
            None => ("http", proxy),
        };
        let url = format!("{scheme}://{}:{token}@{place}", self.agent.name);
        let no_proxy = no_proxy::cleaned(&inherited.no_proxy, &self.hosts);
        let is_wanted = |set_to: SetTo| set_to != SetTo::BundleForOwn || inherited.has_aws_bundle;
        let value = |set_to: SetTo| match set_to {
            SetTo::Proxy => url.clone(),
            SetTo::NoProxy => no_proxy.clone(),
            SetTo::File(name) => paths.file(name),
            SetTo::BundleForOwn => paths.file(BUNDLE),
            SetTo::Text(text) => text.to_owned(),
            SetTo::Java => {
                let own = own.map(|own| own.to_string());
                let proxy = own.as_deref().unwrap_or(proxy);
                appended(&inherited.java, &java(proxy, &paths.file(TRUSTSTORE)))
            }
            SetTo::Maven => appended(&inherited.maven, MAVEN),
            SetTo::Gradle => appended(&inherited.gradle, GRADLE),
            SetTo::Node => appended(&inherited.node, &require(paths)),
            SetTo::Php => with_directory(&inherited.php, &paths.directory()),
            SetTo::Python => first_directory(&paths.directory(), &inherited.python),
        };
        let placeholders = placeholders::of(self.agent.name(), &self.agent.facts.bindings);
        let names = placeholders.names(&inherited.placeholders);
        let is_set = |name: &&String| placeholders.variables.contains_key(*name);
        let unset = inherited.placeholders.iter().filter(|name| !is_set(name)).cloned();
        let earlier = inherited.run_files.iter().filter(|file| !self.run_files.contains(file));
        let earlier = earlier.map(|file| file.variable.clone());
        let outer = inherited.outer.iter().map(ToString::to_string);
        let removed = unset.chain(earlier).chain(outer).collect();
        let ours = TABLE.iter().filter(|variable| is_wanted(variable.set_to));
        let ours = ours.map(|variable| (variable.name.to_owned(), value(variable.set_to)));
        let of_files = self.run_files.iter();
        let of_files = of_files.map(|it| (it.variable.clone(), paths.file(&it.file)));
        let mut made = AgentEnvironment {
            variables: ours
                .chain(of_files)
                .chain(git::variables(&self.git_hosts, &inherited.git))
                .chain(placeholders.variables)
                .chain(names)
                .collect(),
            removed,
            files: self.files(paths, inherited),
            notes: placeholders.not_chosen.into_iter().chain(inherited.notes()).collect(),
        };
        match is_local {
            true => databases::add(&mut made, &self.databases, &self.database_listeners, token),
            false => made.notes.extend(databases::note_elsewhere(&self.databases)),
        }
        made
    }

    /// The files of that environment.
    pub(crate) fn files(&self, paths: &Paths, inherited: &Inherited) -> EnvironmentFiles {
        let roots = inherited.roots.beside(&self.bundle);
        let (ca, bundle) = (self.ca.clone() + &roots, self.bundle.clone() + &roots);
        let sources = SourceFiles {
            ca: &ca,
            bundle: &bundle,
            wgetrc: &inherited.wgetrc,
            apt: &inherited.apt,
        };
        let is_written =
            |file: &&'static RunFile| self.has_every_run_file || self.run_files.contains(file);
        let mut files = EnvironmentFiles::new(paths, sources);
        files.all.extend(RUN_FILES.iter().filter(is_written).map(|file| {
            let key = || self.run_key.get_or_init(new_key).clone();
            (file.file.as_str(), file.content(&self.accounts, key).into_bytes())
        }));
        files
    }
}

/// A new RSA key in PEM.
fn new_key() -> String {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256);
    key.expect("this backend generates RSA keys").serialize_pem()
}

impl Inherited {
    /// The environment of this process.
    pub(crate) fn of_process() -> Self {
        Self::of(|name: &str| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// Without the lines of the user's own files.
    pub(crate) fn without_files(self) -> Self {
        Self { wgetrc: String::new(), apt: String::new(), ..self }
    }

    /// `variable`: the value of a variable that is set and not empty.
    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| {
            variable(name).and_then(|value| value.into_string().ok()).unwrap_or_default()
        };
        let is_utf8 = |name: &str| variable(name).is_none_or(|value| value.to_str().is_some());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let file = |path: Option<PathBuf>| {
            let bytes = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
            // A comment in another encoding is no reason to omit the other lines.
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let in_home = |name: &str| path("HOME").map(|home| home.join(name));
        let aws = file(path("AWS_CONFIG_FILE").or_else(|| in_home(".aws/config")));
        // The files of an earlier environment have one directory, which may be gone.
        let ca = path("NODE_EXTRA_CA_CERTS");
        let earlier = ca.as_deref().and_then(Path::parent).map(Paths::new);
        let is_earlier = |file: &&RunFile| {
            earlier.as_ref().is_some_and(|it| it.file(&file.file) == text(&file.variable))
        };
        let run_files = RUN_FILES.iter().filter(is_earlier).collect();
        let shim = earlier.as_ref().map_or_else(String::new, require);
        let directory = earlier.map_or_else(String::new, |paths| paths.directory());
        Self {
            no_proxy: format!("{},{}", text("NO_PROXY"), text("no_proxy")),
            java: text("JAVA_TOOL_OPTIONS"),
            maven: text("MAVEN_OPTS"),
            gradle: text("GRADLE_OPTS"),
            node: without(&text("NODE_OPTIONS"), &shim),
            php: without_directory(&text("PHP_INI_SCAN_DIR"), &directory),
            python: without_directory(&text("PYTHONPATH"), &directory),
            git: InheritedEntries::of(&text),
            run_files,
            has_aws_bundle: variable("AWS_CA_BUNDLE").is_some()
                || aws.lines().any(|line| line.trim_start().starts_with("ca_bundle")),
            placeholders: placeholders::inherited(&text),
            roots: InheritedRoots::of(&variable),
            outer: outer::variables(|name| variable(name)?.into_string().ok()),
            not_utf8: TABLE
                .iter()
                .filter(|variable| variable.set_to.has_inherited() && !is_utf8(variable.name))
                .map(|variable| variable.name)
                .collect(),
            wgetrc: file(path("WGETRC").or_else(|| in_home(".wgetrc"))),
            apt: file(path("APT_CONFIG")),
        }
    }

    /// Notes about values that the client does not get.
    fn notes(&self) -> impl Iterator<Item = String> {
        let lost = self.not_utf8.iter().map(|name| {
            format!(
                "note: the program does not get the inherited value of {name}, which is not UTF-8\n\
                 hint: set {name} in UTF-8"
            )
        });
        lost.chain(self.roots.notes())
    }
}

/// The agent; the default one is made when absent, bound to nothing.
async fn agent_view(client: &Client, name: &str) -> Result<Shown<Agent>, Failure> {
    let at = format!("/api/v1/agents/{}", segment(name));
    match client.get(&at).await {
        Err(failure) if failure.exit() == Exit::NotFound && name == DEFAULT_AGENT => {
            match client.post("/api/v1/agents", &AgentSpec::named(name)).await {
                Ok(agent) => Ok(agent),
                // Another run was faster.
                Err(_) => client.get(&at).await,
            }
        }
        // People often run a program before they have connected an account for it.
        Err(failure) if failure.exit() == Exit::NotFound && check_name(name).is_ok() => {
            let hint = failure.advice().map(|hint| format!("{hint}; ")).unwrap_or_default();
            Err(failure.hint(format!("{hint}`keyward connect --agent {name}` creates it")))
        }
        found => found,
    }
}

/// The option that loads the script for Node.
fn require(paths: &Paths) -> String {
    quoted_for_node(&format!("--require={}", paths.file(NODE_SHIM)))
}

fn java(proxy: &str, truststore: &str) -> String {
    // Java speaks no TLS to a proxy, so it fails rather than going past it.
    let proxy = proxy.strip_prefix("https://").unwrap_or(proxy);
    let parsed = proxy.parse::<SocketAddr>().map(|a| (a.ip().to_string(), a.port().to_string()));
    let named = || proxy.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned()));
    let (host, port) = parsed.ok().or_else(named).unwrap_or_default();
    let options = [
        format!("-Dhttps.proxyHost={host}"),
        format!("-Dhttps.proxyPort={port}"),
        format!("-Dhttp.proxyHost={host}"),
        format!("-Dhttp.proxyPort={port}"),
        format!("-Dhttp.nonProxyHosts={JAVA_DIRECT}"),
        "-Djdk.http.auth.tunneling.disabledSchemes=".to_owned(),
        quoted_for_java(&format!("-Djavax.net.ssl.trustStore={truststore}")),
        "-Djavax.net.ssl.trustStoreType=PKCS12".to_owned(),
        "-Djavax.net.ssl.trustStorePassword=".to_owned(),
    ];
    options.join(" ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::ffi::OsStringExt;

    use super::table::PLACEHOLDERS;
    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    /// An agent `claude` with one connection.
    pub(crate) fn facts() -> EnvironmentFacts {
        let agent = serde_json::from_value(serde_json::json!({
            "id": "agt_1", "name": "claude", "environment": null, "labels": {},
            "managed_by": "store", "paused": false, "created": "2025-01-02T03:04:05Z",
            "tokens": [], "bindings": [{
                "connection": "con_1", "name": "work", "provider": "github",
                "managed_by": "store", "created": "2025-01-02T03:04:05Z",
                "placeholders": {"token": "ghp_kwph"},
                "env": {"GH_TOKEN": "ghp_kwph", "GITHUB_TOKEN": "ghp_kwph"}}],
        }));
        let hosts = vec!["api.github.com".to_owned()];
        let (ca, bundle) = ("the CA\n".into(), "roots\n".into());
        let git_hosts = vec!["github.com".to_owned()];
        EnvironmentFacts {
            agent: agent.unwrap(),
            ca,
            bundle,
            hosts,
            databases: Vec::new(),
            database_listeners: Vec::new(),
            git_hosts,
            run_files: Vec::new(),
            has_every_run_file: false,
            accounts: Vec::new(),
            run_key: OnceLock::new(),
            has_ssh_key: false,
            unusable: Vec::new(),
        }
    }

    /// The same with this CA, and these roots beside it.
    pub(crate) fn facts_with_ca(ca: &str, roots: &str) -> EnvironmentFacts {
        EnvironmentFacts { ca: ca.to_owned(), bundle: format!("{roots}{ca}"), ..facts() }
    }

    fn at(proxy: &str) -> ProxyAccess<'_> {
        ProxyAccess { proxy, own: None, token: "kwa_canary", is_local: true }
    }

    /// Its environment, with files in `/f`.
    pub(crate) fn environment(inherited: &Inherited) -> AgentEnvironment {
        facts().environment(at("127.0.0.1:8080"), &Paths::new("/f"), inherited)
    }

    #[test]
    fn a_tls_proxy_has_an_https_url_in_the_environment() {
        let paths = Paths::new("/f");
        let to = at("https://127.0.0.1:8443");
        let made = facts().environment(to, &paths, &Inherited::default());
        let url = "https://claude:kwa_canary@127.0.0.1:8443";
        assert_eq!(made.by_name()["HTTPS_PROXY"], url);
        assert!(made.by_name()["JAVA_TOOL_OPTIONS"].contains("https.proxyHost=127.0.0.1 "));
    }

    #[test]
    fn only_java_gets_the_agents_own_listener() {
        let own = Some("127.0.0.1:8090".parse().unwrap());
        let to = ProxyAccess { own, ..at("127.0.0.1:8080") };
        let made = facts().environment(to, &Paths::new("/f"), &Inherited::default());
        for (name, value) in &made.variables {
            assert_eq!(value.contains("8090"), name == "JAVA_TOOL_OPTIONS", "{name}");
        }
        let java = made.by_name()["JAVA_TOOL_OPTIONS"];
        assert!(java.contains("-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8090 "), "{java}");
        assert!(!java.contains("8080"), "{java}");
    }

    #[test]
    fn inherited_options_are_kept_and_inherited_bypasses_of_the_gateway_are_dropped() {
        let inherited = Inherited {
            no_proxy: "*,github.com,intranet.example".into(),
            java: "-Xmx1g".into(),
            maven: "-Xmx2g".into(),
            gradle: "-Xmx3g".into(),
            node: "--max-old-space-size=99".into(),
            php: "/etc/php".into(),
            python: "/lib/own".into(),
            ..Inherited::default()
        };
        let environment = environment(&inherited);
        let found = environment.by_name();
        assert_eq!(found["no_proxy"], "localhost,127.0.0.1,::1,intranet.example");
        assert!(found["JAVA_TOOL_OPTIONS"].starts_with("-Xmx1g -Dhttps.proxyHost=127.0.0.1 "));
        assert_eq!(found["MAVEN_OPTS"], format!("-Xmx2g {MAVEN}"));
        assert_eq!(found["GRADLE_OPTS"], format!("-Xmx3g {GRADLE}"));
        assert_eq!(found["NODE_OPTIONS"], "--max-old-space-size=99 --require=/f/node-shim.cjs");
        assert_eq!(found["PHP_INI_SCAN_DIR"], "/etc/php:/f");
        assert_eq!(found["PYTHONPATH"], "/f:/lib/own");
    }

    #[test]
    fn aws_sdks_get_the_bundle_only_in_place_of_one_of_the_users_own() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        let bundle = |shell: &[(&str, &str)]| {
            let shell = shell.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            let made = environment(&inherited(&shell.collect()));
            made.by_name().get("AWS_CA_BUNDLE").map(ToString::to_string)
        };
        assert_eq!(bundle(&[]), None);
        assert_eq!(bundle(&[("AWS_CA_BUNDLE", "/corp.pem")]).as_deref(), Some("/f/bundle.pem"));
        let at = [("AWS_CONFIG_FILE", config.to_str().unwrap())];
        std::fs::write(&config, "[default]\nregion = eu-west-1\n").unwrap();
        assert_eq!(bundle(&at), None);
        std::fs::write(&config, "[default]\n  ca_bundle = /corp.pem\n").unwrap();
        assert_eq!(bundle(&at).as_deref(), Some("/f/bundle.pem"));
    }

    #[test]
    fn an_inherited_value_that_is_not_utf8_is_named_in_a_note() {
        let title = OsString::from_vec(b"--title=caf\xe9".to_vec());
        let shell = [("NODE_OPTIONS", title.clone()), ("EDITOR", title)];
        let inherited = Inherited::of(|name: &str| {
            shell.iter().find(|(set, _)| *set == name).map(|(_, value)| value.clone())
        });
        let made = environment(&inherited);
        let [note] = &made.notes[..] else { panic!("{:?}", made.notes) };
        assert!(
            note.starts_with("note: the program does not get the inherited value of NODE_OPTIONS")
        );
        assert_eq!(made.by_name()["NODE_OPTIONS"], "--require=/f/node-shim.cjs");
        assert!(environment(&Inherited::default()).notes.is_empty());
    }

    /// What a client inherits in a shell with these variables.
    fn inherited(shell: &BTreeMap<String, String>) -> Inherited {
        Inherited::of(|name: &str| shell.get(name).map(OsString::from))
    }

    #[test]
    fn an_environment_that_is_made_again_in_its_own_shell_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let theirs = [
            ("NODE_OPTIONS", "--max-old-space-size=99"),
            ("JAVA_TOOL_OPTIONS", "-Xmx1g"),
            ("PHP_INI_SCAN_DIR", "/etc/php:"),
            ("PYTHONPATH", "/lib/own"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "user.name"),
        ];
        let theirs = theirs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut shell = BTreeMap::from(theirs);
        let once = facts().environment(at("127.0.0.1:8080"), &paths, &inherited(&shell));
        once.files.write(dir.path()).unwrap();
        shell.extend(once.variables.iter().cloned());
        let twice = facts().environment(at("127.0.0.1:8080"), &paths, &inherited(&shell));
        assert_eq!(twice.variables, once.variables);
        assert_eq!(twice.files.all, once.files.all);
        assert!(twice.removed.is_empty(), "{:?}", twice.removed);
    }

    #[test]
    fn another_agent_gets_nothing_of_the_agent_of_an_earlier_environment() {
        let earlier = Paths::new("/data/run/7");
        let earlier = facts().environment(at("127.0.0.1:8080"), &earlier, &Inherited::default());
        let mut shell: BTreeMap<String, String> = earlier.variables.into_iter().collect();
        let placeholder = Placeholder::issue("ghp_", Some(40));
        shell.insert("GH_TOKEN".to_owned(), placeholder.as_str().to_owned());
        shell.insert("GITHUB_TOKEN".to_owned(), "of the user".to_owned());
        let mut other = EnvironmentFacts { git_hosts: Vec::new(), ..facts() };
        (other.agent.spec.name, other.agent.facts.bindings) = ("other".to_owned(), Vec::new());
        let made = other.environment(at("127.0.0.1:8080"), &Paths::new("/f"), &inherited(&shell));
        assert_eq!(made.removed, ["GH_TOKEN"]);
        let found = made.by_name();
        assert_eq!(found["NODE_OPTIONS"], "--require=/f/node-shim.cjs");
        assert!(!found["JAVA_TOOL_OPTIONS"].contains("/data/run/7"));
        assert_eq!(found["PHP_INI_SCAN_DIR"], ":/f");
        assert_eq!((found["GIT_CONFIG_COUNT"], found[PLACEHOLDERS]), ("0", ""));
    }

    #[test]
    fn only_an_agent_with_a_google_account_gets_googles_files_and_nested_ones_lose_them() {
        const NAMES: [&str; 2] =
            ["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", "GOOGLE_APPLICATION_CREDENTIALS"];
        let of_user = [(NAMES[1].to_owned(), "/home/ada/key.json".to_owned())];
        let (without, mut shell) = (facts(), BTreeMap::from(of_user));
        let paths = Paths::new("/data/run/7");
        let made = without.environment(at("h:1"), &paths, &inherited(&shell));
        assert!(NAMES.iter().all(|name| !made.by_name().contains_key(name)));
        assert!(made.removed.is_empty(), "the user's own file stays: {:?}", made.removed);
        let of_google = |made: &AgentEnvironment| {
            made.files.all.iter().filter(|(name, _)| name.starts_with('g')).count()
        };
        assert_eq!(of_google(&made), 0);
        let robot = "robot@acme.iam.gserviceaccount.com";
        let mut shared = EnvironmentFacts { accounts: vec![robot.to_owned()], ..facts() };
        shared.share_files(true);
        let made = shared.environment(at("h:1"), &paths, &inherited(&shell));
        assert_eq!((of_google(&made), made.by_name().contains_key(NAMES[1])), (2, false));
        let file = made.files.all.iter().find(|(name, _)| *name == "google.json").unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file.1).unwrap();
        assert!(file["project_id"].is_null() && file["private_key"].is_string(), "{file}");
        let with = EnvironmentFacts { run_files: RUN_FILES.iter().collect(), ..facts() };
        let made = with.environment(at("h:1"), &paths, &inherited(&shell));
        let found = NAMES.map(|name| made.by_name()[name].to_owned());
        assert_eq!(found, ["/data/run/7/gcloud-token", "/data/run/7/google.json"]);
        assert_eq!(of_google(&made), 2);
        shell.extend(made.variables);
        let nested = without.environment(at("h:1"), &Paths::new("/f"), &inherited(&shell));
        assert_eq!(nested.removed, NAMES, "files of the outer agent");
    }

    #[test]
    fn lines_of_the_users_own_files_stay_beside_a_comment_in_another_encoding() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("own");
        std::fs::write(&file, b"# caf\xe9\nretries = 7\n").unwrap();
        let shell =
            ["WGETRC", "APT_CONFIG"].map(|name| (name.to_owned(), file.display().to_string()));
        let found = inherited(&BTreeMap::from(shell));
        for text in [&found.wgetrc, &found.apt] {
            assert!(text.lines().any(|line| line == "retries = 7"), "{text}");
        }
    }

    #[test]
    fn a_path_with_a_blank_stays_one_word() {
        let paths = Paths::new("/a b");
        let made = facts().environment(at("h:1"), &paths, &Inherited::default());
        let found = made.by_name();
        assert_eq!(found["NODE_OPTIONS"], "\"--require=/a b/node-shim.cjs\"");
        let store = "\"-Djavax.net.ssl.trustStore=/a b/truststore.p12\"";
        assert!(found["JAVA_TOOL_OPTIONS"].contains(store));
    }

    #[test]
    fn every_file_that_a_variable_names_is_written() {
        let made = environment(&Inherited::default());
        let written: Vec<_> = made.files.all.iter().map(|(name, _)| format!("/f/{name}")).collect();
        for (name, value) in &made.variables {
            if let Some(at) = value.find("/f/") {
                let file = value[at..].split([' ', '"']).next().unwrap();
                assert!(written.iter().any(|known| known == file), "{name}: {file}");
            }
        }
    }

    #[test]
    fn the_note_about_an_unusable_connection_is_a_sentence() {
        let note = |state: &serde_json::Value| {
            let mut connection = serde_json::json!({
                "id": "con_1", "name": "main", "provider": "github", "auth": "pat",
                "managed_by": "store", "created": "2025-01-02T03:04:05Z",
                "environment": null, "hosts": [],
            });
            let state = state.as_object().unwrap().clone();
            connection.as_object_mut().unwrap().extend(state);
            let shown = serde_json::from_value(connection).unwrap();
            UnusableConnection::of(&shown).unwrap().note(&Global::default())
        };
        let draft = note(&serde_json::json!({"state": "draft", "failure": "rejected"}));
        assert_eq!(draft, "note: connection main is a draft: rejected");
        let paused = note(&serde_json::json!({"state": "paused"}));
        assert_eq!(paused, "note: connection main is paused");
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", environment(&Inherited::default())).contains("canary"));
    }
}
