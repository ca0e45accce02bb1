//! `keyward env`: prints an agent's environment variables for a shell, a container or a program, also for one that
//! uses a base URL and an API key instead of a proxy.

mod form;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args as Arguments, ValueEnum};
use serde::Serialize;

use self::form::{EnvFormat, Printed};
use super::client::Client;
use super::environment::files::{EnvironmentFiles, Paths};
use super::environment::unset;
use super::environment::{DEFAULT_AGENT, EnvironmentFacts, Inherited, ProxyAccess};
use super::failure::{Exit, Failure};
use super::output;
use super::settings::{Global, quoted};
use super::terminal::secret::Typed;
use crate::cli::connection::state::path;
use crate::cli::connection::{base_url, default_host};
use crate::cli::environment::AgentEnvironment;
use keyward_api::wire::{List, TokenIssued};
use keyward_base::agent::is_unreserved;
use keyward_base::host::{Scheme, Target};
use keyward_model::{Agent, Connection, Shown};
use keyward_rules::provider::environment;
use keyward_state::store::sled::chown_tree_to_owner_of;

#[derive(Debug, Arguments)]
#[command(after_help = "examples:\n  eval \"$(keyward env --agent claude)\"\n  \
                        keyward env --agent ci --for docker > ci.env\n  \
                        keyward env --agent ci --for k8s | kubectl apply --server-side -f -\n  \
                        eval \"$(keyward env --agent ci --base-url work-openai)\"\n  \
                        eval \"$(keyward env --unset)\"")]
pub(crate) struct Args {
    /// the agent's name or id
    #[arg(long, default_value = DEFAULT_AGENT)]
    pub(super) agent: String,
    /// the output format
    #[arg(long = "for", value_enum, default_value = "sh", value_name = "FORM")]
    form: EnvFormat,
    /// how long the new token lives
    #[arg(long, default_value = "8h", value_name = "DURATION", conflicts_with = "token_stdin")]
    ttl: String,
    /// read an existing token of the agent from standard input
    #[arg(long)]
    token_stdin: bool,
    /// the proxy's address as the client sees it; default: the listener's address
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    proxy: Option<String>,
    /// directory for the certificates; default: `client` or `container` in `--data`
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// print the base URL of CONNECTION (or CONNECTION@HOST) instead of a proxy
    #[arg(long, value_name = "CONNECTION", conflicts_with = "files")]
    base_url: Option<String>,
    /// print the commands that remove what an earlier `env` set in this shell
    #[arg(long, conflicts_with_all = ["agent", "ttl", "token_stdin", "proxy", "files", "base_url"])]
    unset: bool,
}

/// The request for a token.
#[derive(Debug, Serialize)]
struct NewToken<'a> {
    label: &'static str,
    ttl: &'a str,
}

impl Args {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        if self.unset {
            return self.print_removal();
        }
        let client = Client::open_or_make(global).await?;
        let mut facts = EnvironmentFacts::of(&client, &self.agent).await?;
        if let Some(named) = &self.base_url {
            return self.print_base_url(global, &client, &facts, named).await;
        }
        let form = if global.json { EnvFormat::Json } else { self.form };
        facts.share_files(form.is_of_a_container());
        if form == EnvFormat::K8s {
            check_secret_name(&client, &facts.agent).await?;
        }
        let folder = match &self.files {
            Some(folder) => folder.clone(),
            // The files have paths of their form: a shell and a container share none.
            None if form.is_of_a_container() => global.data_dir()?.join("container"),
            None => global.data_dir()?.join("client"),
        };
        let folder = std::path::absolute(&folder).map_err(|error| {
            Failure::failed("cannot resolve the directory of certificates", &error)
        })?;
        let proxy = self.proxy(global, &client).await?;
        // A client elsewhere cannot reach this machine's own listeners.
        let own = match self.proxy {
            Some(_) => None,
            None => global.own_listener(&client, &facts.agent),
        };
        // A container has its own files, without the user's home directory.
        let (paths, inherited) = match form.is_of_a_container() {
            true => (Paths::new(form::MOUNTED), Inherited::default()),
            false => (Paths::new(&folder), self.inherited(&folder)),
        };
        self.write(&facts.files(&paths, &inherited), form, &folder)?;
        // Last, so that a refused command creates no token.
        let token = self.token(&client, &facts).await?;
        let is_here = self.proxy.is_none() && client.host().is_none_or(|it| it.is_this_machine());
        let is_local = is_here && !form.is_of_a_container();
        let entrance = ProxyAccess { proxy: &proxy, own, token: &token, is_local };
        let made = facts.environment(entrance, &paths, &inherited);
        if client.is_private() {
            let hint = format!("start one: {} serve", global.keyward());
            output::note(&format!("note: no gateway runs, and the token needs one\nhint: {hint}"));
        }
        made.notes.iter().for_each(|note| output::note(note));
        facts.unusable.iter().for_each(|it| output::note(&it.note(global)));
        let agent = &facts.agent.name;
        let printed = Printed { agent, proxy: &proxy, folder: &folder, made: &made };
        if let Some(hint) = form.hint(&printed) {
            output::note(&hint);
        }
        output::print(&form.print(&printed)?)
    }

    /// # Errors
    /// For a form that is no shell's.
    fn print_removal(&self) -> Result<(), Failure> {
        if !matches!(self.form, EnvFormat::Sh | EnvFormat::Fish) {
            return Err(Failure::usage("`--unset` prints commands for a shell")
                .hint("use --for sh or fish"));
        }
        let made = unset::environment(|name| std::env::var_os(name));
        let (agent, proxy, folder) = ("", "", Path::new(""));
        output::print(&self.form.print(&Printed { agent, proxy, folder, made: &made })?)
    }

    /// What the client inherits. Lines of root's own files, which may have passwords, are in no file that another user gets.
    fn inherited(&self, folder: &Path) -> Inherited {
        let inherited = Inherited::of_process();
        let owner = folder.parent().and_then(|data| Some(std::fs::metadata(data).ok()?.uid()));
        let is_root = rustix::process::geteuid().is_root();
        match is_root && self.files.is_none() && owner.is_some_and(|owner| owner != 0) {
            true => inherited.without_files(),
            false => inherited,
        }
    }

    /// Files that root makes in the data directory belong to the owner of that directory.
    fn write(
        &self,
        files: &EnvironmentFiles,
        form: EnvFormat,
        folder: &Path,
    ) -> Result<(), Failure> {
        let written = match form.is_of_a_container() {
            true => files.write_for_containers(folder),
            false => files.write(folder),
        };
        let data = folder.parent().filter(|_| self.files.is_none());
        let given =
            written.and_then(|()| data.map_or(Ok(()), |data| chown_tree_to_owner_of(data, folder)));
        given.map_err(|error| {
            let what = format!("cannot write into {}", folder.display());
            let Some(data) = data else { return Failure::failed(&what, &error) };
            let failure = Failure::in_data_directory(&what, data, &error);
            match foreign(data, folder) {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })
    }

    /// # Errors
    /// When only the gateway's machine reaches the proxy, or its port is not known.
    async fn proxy(&self, global: &Global, client: &Client) -> Result<String, Failure> {
        if let Some(proxy) = &self.proxy {
            return Ok(proxy.clone());
        }
        let found = global.proxy_at(client).await;
        if found.addr.port() == 0 {
            // A free port is known to the running gateway alone.
            let message = format!("the proxy has no port yet: `listen.proxy` is {found}");
            return Err(Failure::new(Exit::Failed, message).hint(
                "start the gateway, which then takes a free port, or name the address: \
                 --proxy HOST:PORT",
            ));
        }
        let is_elsewhere = client.host().is_some_and(|host| !host.is_this_machine());
        match is_elsewhere && found.host.is_none() && found.addr.ip().is_loopback() {
            false => Ok(found.to_string()),
            true => Err(Failure::new(
                Exit::Failed,
                format!("the gateway's proxy listens only on its own machine, {found}"),
            )
            .hint("name the address that the program can reach: --proxy HOST:PORT")),
        }
    }

    async fn print_base_url(
        &self,
        global: &Global,
        client: &Client,
        facts: &EnvironmentFacts,
        named: &str,
    ) -> Result<(), Failure> {
        let form = if global.json { EnvFormat::Json } else { self.form };
        if matches!(form, EnvFormat::Compose | EnvFormat::K8s) {
            let form =
                form.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
            return Err(Failure::usage(format!("`--base-url` does not support the form {form}"))
                .hint("use --for sh, fish, docker or json"));
        }
        let based = Based::of(client, &facts.agent, named).await?;
        let proxy = self.proxy(global, client).await?;
        // Last, so that a refused command creates no token.
        let token = self.token(client, facts).await?;
        let made = based.environment(&proxy, &token);
        made.notes.iter().for_each(|note| output::note(note));
        let (agent, folder) = (&*facts.agent.name, Path::new(""));
        output::print(&form.print(&Printed { agent, proxy: &proxy, folder, made: &made })?)
    }

    async fn token(&self, client: &Client, facts: &EnvironmentFacts) -> Result<String, Failure> {
        if self.token_stdin {
            let typed = Typed::from_stdin()?;
            // The token is part of a URL, and of lines that a shell reads.
            return match is_unreserved(typed.text()) {
                true => Ok(typed.text().to_owned()),
                false => Err(Failure::usage("standard input does not hold a token")
                    .hint("tokens are letters, digits, - . _ ~, on one line")),
            };
        }
        let at = format!("/api/v1/agents/{}/tokens", facts.agent.id);
        let new = NewToken { label: "env", ttl: &self.ttl };
        let token: TokenIssued = client.post(&at, &new).await?;
        Ok(token.token)
    }
}

/// Refuses an agent whose Kubernetes Secret another agent of the organisation has too: the one that is applied last would take
/// the place of the other, whose pods would get its token.
async fn check_secret_name(client: &Client, agent: &Shown<Agent>) -> Result<(), Failure> {
    let secret = form::secret_name(&agent.name);
    let all: List<Shown<Agent>> = client.list("/api/v1/agents", &[]).await?;
    let is_same =
        |other: &&Shown<Agent>| other.id != agent.id && form::secret_name(&other.name) == secret;
    match all.items.iter().find(is_same) {
        None => Ok(()),
        Some(other) => {
            let (name, other) = (&agent.name, &other.name);
            let message = format!(
                "agents {name} and {other} would have the same Kubernetes Secret, {secret}"
            );
            let hint =
                "rename one of them: letter case, `_` and `~` are lost in the name of a Secret";
            Err(Failure::new(Exit::Failed, message).hint(hint))
        }
    }
}

/// The remedy for a directory that has another owner than the data directory.
fn foreign(data: &Path, folder: &Path) -> Option<String> {
    let [of_data, of_folder] = [std::fs::metadata(data).ok()?, std::fs::metadata(folder).ok()?];
    let (user, group) = (of_data.uid(), of_data.gid());
    let folder = quoted(&folder.to_string_lossy());
    (user != of_folder.uid()).then(|| format!("run `chown -R {user}:{group} {folder}` as root"))
}

/// A path segment of a URL.
fn host_and_port(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    let place = text.strip_prefix("https://").unwrap_or(text);
    let port = place.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port.is_some() && place.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("write HOST:PORT, such as keyward:8080, or https://HOST:PORT".to_owned()),
    }
}

const URL: &str = "KEYWARD_BASE_URL";

/// The agent's token, used as the API key. `KEYWARD_TOKEN` is a user's.
const TOKEN: &str = "KEYWARD_AGENT_TOKEN";

/// A connection of an agent, used through its base URL.
#[derive(Debug)]
struct Based {
    name: String,
    host: Option<String>,
    /// The upstream of the URL.
    stands_for: String,
    /// The variables from which the provider's SDKs read their keys.
    keys: Vec<String>,
    notes: Vec<String>,
}

impl Based {
    /// `named` is `CONNECTION` or `CONNECTION@HOST`.
    ///
    /// # Errors
    /// When there is no such connection, or its host is ambiguous.
    async fn of(client: &Client, agent: &Shown<Agent>, named: &str) -> Result<Self, Failure> {
        let (name, host) = match named.split_once('@') {
            Some((name, host)) => (name, Some(host.to_owned())),
            None => (named, None),
        };
        if host.as_deref().is_some_and(|host| Target::parse(Scheme::Https, host).is_err()) {
            return Err(Failure::usage("the text after `@` is not a host")
                .hint("use one of the connection's hosts, without wildcards"));
        }
        let connection: Shown<Connection> = client.get(&path(name)).await?;
        let Some(stands_for) = host.as_deref().or_else(|| default_host(&connection)) else {
            let hosts = connection.facts.hosts.join(", ");
            return Err(Failure::usage(format!("`{name}` has several hosts: {hosts}"))
                .hint(format!("choose one: --base-url {name}@HOST")));
        };
        let stands_for = format!("https://{stands_for}");
        let binding =
            agent.facts.bindings.iter().find(|binding| binding.connection == connection.id);
        let mut notes = Vec::new();
        if binding.is_none() {
            notes.push(format!(
                "note: agent {} is not bound to {name}: only a rule with `agents` and `use` lets it \
                 in (`keyward agent bind {} {name}`)",
                agent.name(),
                agent.name()
            ));
        }
        // Their values are the token, which is plain text.
        let keys = binding.into_iter().flat_map(|binding| binding.env.keys());
        let keys = keys.filter(|name| environment::may_set(name)).cloned().collect();
        Ok(Self { name: connection.spec.name, host, stands_for, keys, notes })
    }

    /// Its variables.
    fn environment(self, proxy: &str, token: &str) -> AgentEnvironment {
        let Self { name, host, stands_for, keys, mut notes } = self;
        let url = base_url(proxy, &name, host.as_deref());
        notes.push(format!(
            "hint: in the program, replace {stands_for} by {url}, and use ${TOKEN} as its API key"
        ));
        let keys = keys.into_iter().map(|key| (key, token.to_owned()));
        let ours = [(URL.to_owned(), url), (TOKEN.to_owned(), token.to_owned())];
        AgentEnvironment {
            variables: ours.into_iter().chain(keys).collect(),
            removed: Vec::new(),
            files: EnvironmentFiles { all: Vec::new() },
            notes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_another_owner_than_the_data_directory_gets_a_chown_hint() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("client");
        assert_eq!(foreign(data.path(), &folder), None, "it does not exist");
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(foreign(data.path(), &folder), None);
        if std::os::unix::fs::chown(data.path(), Some(65_534), None).is_ok() {
            let hint = foreign(data.path(), &folder).unwrap();
            assert!(hint.starts_with("run `chown -R 65534:"), "{hint}");
        }
    }

    #[test]
    fn a_proxy_address_that_is_not_host_and_port_is_refused() {
        for bad in ["keyward", "http://keyward:8080", "a:b", "a@b:1", "a b:1", "'a:1", ":"] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
        for good in ["keyward:8080", "10.0.0.1:1", "[::1]:8080"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
    }
}
