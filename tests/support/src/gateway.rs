//! A gateway in this process, on free ports. The only file that configures and starts a gateway from Rust.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use keyward_app::config::Config;
use keyward_app::{self as app, Running};
use keyward_base::id::OrgId;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::canary;
use super::process::api_request;
use super::wire::{Seen, Wire};

/// A running gateway and its files.
pub struct Gateway {
    running: Option<Running>,
    folder: TempDir,
    /// The first proxy listener.
    pub proxy: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// The CA's certificate.
    pub ca_pem: String,
    yaml: String,
    variables: BTreeMap<String, String>,
}

impl Gateway {
    /// Starts one from a configuration text. `files` are put beside it first. The error is what a
    /// user would read.
    pub async fn try_start(
        yaml: &str,
        variables: &BTreeMap<String, String>,
        files: &[(&str, &str)],
    ) -> Result<Self, String> {
        let folder = TempDir::new().expect("a temporary directory");
        Self::try_start_in(folder, yaml, variables, files).await
    }

    /// The same in a directory that is there: `data` in it may hold a store.
    pub async fn try_start_in(
        folder: TempDir,
        yaml: &str,
        variables: &BTreeMap<String, String>,
        files: &[(&str, &str)],
    ) -> Result<Self, String> {
        canary::log();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            // Some are secrets, which others may not read.
            let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, own).expect("ours");
        }
        let file = folder.path().join("keyward.yaml");
        std::fs::write(&file, yaml).expect("the configuration");
        let config = config(yaml, &file, &folder.path().join("data"), variables)?;
        let running = app::start(config).await.map_err(|error| format!("{error:#}"))?;
        let proxy = *running.proxy_addrs().first().expect("a proxy listener");
        let admin = running.admin_addr();
        let ca_pem = running.services().authority.cert_pem().to_owned();
        let (yaml, variables) = (yaml.to_owned(), variables.clone());
        Ok(Self { running: Some(running), folder, proxy, admin, ca_pem, yaml, variables })
    }

    /// Another gateway with the same configuration, variables, files and CA, and a data directory of its own.
    pub async fn replica(&self) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        for part in ["data", "data/ca"] {
            let made = folder.path().join(part);
            std::fs::create_dir(&made).expect("a folder");
            std::fs::set_permissions(made, std::fs::Permissions::clone(&private)).expect("ours");
        }
        for part in ["", "data/ca"] {
            for entry in std::fs::read_dir(self.folder.path().join(part)).expect("a folder") {
                let from = entry.expect("an entry").path();
                if from.is_file() {
                    let name = from.file_name().expect("a name");
                    std::fs::copy(&from, folder.path().join(part).join(name)).expect("a copy");
                }
            }
        }
        let started = Self::try_start_in(folder, &self.yaml, &self.variables, &[]).await;
        started.unwrap_or_else(|error| panic!("the replica did not start: {error}"))
    }

    /// Stops it, and starts it again on the same data.
    pub async fn restart(&mut self) {
        self.stop().await;
        let file = self.folder.path().join("keyward.yaml");
        let running = super::wire::until_some("starting again", async || {
            let config = config(&self.yaml, &file, &self.data(), &self.variables);
            match app::start(config.expect("it was read before")).await {
                Ok(running) => Some(running),
                // The store's files are let go a moment after its last user.
                Err(error) if format!("{error:#}").contains("locked") => None,
                Err(error) => panic!("it does not start again: {error:#}"),
            }
        })
        .await;
        self.proxy = *running.proxy_addrs().first().expect("a proxy listener");
        self.admin = running.admin_addr();
        self.running = Some(running);
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Its directory, where `data()` and files of the test are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The gateway's inside.
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until `stop`")
    }

    /// What agent `agent` holds instead of `field` of `connection`.
    ///
    /// # Panics
    /// When there is no such binding.
    pub fn placeholder(&self, agent: &str, connection: &str, field: &str) -> String {
        let view = self.running().services().directory.view();
        let org = OrgId::default_org();
        let agent = view.find_agent(&org, agent).expect("the agent");
        let connection = view.find_connection(&org, connection).expect("the connection");
        let bound = agent.facts.bindings.iter().find(|bound| bound.connection == connection.id);
        let placeholder = bound.and_then(|bound| bound.placeholders.get(field));
        placeholder.expect("a placeholder").as_str().to_owned()
    }

    /// One call of the admin API, over its socket.
    pub async fn api(&self, method: &str, path: &str, body: &str) -> super::wire::Message {
        let socket = self.data().join("admin.sock");
        let stream = UnixStream::connect(socket).await.expect("the socket listens");
        let mut wire = Wire::over(stream, None, Seen::default());
        wire.send(api_request(method, path, body)).await;
        wire.answer(method).await
    }

    /// The same with a JSON body; null is none.
    pub async fn api_json(
        &self,
        method: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> super::wire::Message {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.api(method, path, &body).await
    }

    /// The same with more fields, each with its line end: who asks, and in which organisation.
    pub async fn api_with(
        &self,
        fields: &str,
        (method, path): (&str, &str),
        body: &str,
    ) -> super::wire::Message {
        let socket = self.data().join("admin.sock");
        let stream = UnixStream::connect(socket).await.expect("the socket listens");
        let mut wire = Wire::over(stream, None, Seen::default());
        let request = api_request(method, path, body);
        wire.send(request.replacen("\r\n", &format!("\r\n{fields}"), 1)).await;
        wire.answer(method).await
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> String {
        let socket = self.data().join("admin.sock");
        let stream = UnixStream::connect(socket).await.expect("the socket listens");
        let mut wire = Wire::over(stream, None, Seen::default());
        wire.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.text()
    }

    /// Everything that the admin API tells whoever may ask it; empty when it has been stopped.
    pub async fn tells(&self) -> Vec<u8> {
        let Some(running) = &self.running else { return vec![] };
        let view = running.services().directory.view();
        let mut asked: Vec<(String, String)> = Vec::new();
        for org in view.orgs() {
            let lists = [
                "/connections",
                "/agents",
                "/plugins",
                "/rules",
                "/users",
                "/tokens",
                "/sessions",
                "/webhooks",
                "/providers/acme",
            ];
            asked.extend(lists.map(|path| (org.id.to_string(), path.to_owned())));
        }
        let of = |one: &str| format!("/connections/{one}");
        asked.extend(view.connections().map(|one| (one.org.to_string(), of(&one.name))));
        for agent in view.agents() {
            let of = |of: &str| (agent.org.to_string(), format!("/agents/{}{of}", agent.name));
            asked.extend(["", "/tokens", "/bindings"].map(of));
        }
        let mut told = vec![];
        for (org, path) in asked {
            let fields = format!("Keyward-Org: {org}\r\n");
            let answer = self.api_with(&fields, ("GET", &path), "").await;
            assert_eq!(answer.head.status(), 200, "{path}: {}", answer.text());
            told.extend(answer.head.raw);
            told.extend(answer.body);
        }
        told
    }

    /// Stops it and gives its audit records of exchanges, in order.
    pub async fn stop(&mut self) -> Vec<serde_json::Value> {
        exchanges(self.stop_with_changes().await)
    }

    /// The same, with those of changes.
    pub async fn stop_with_changes(&mut self) -> Vec<serde_json::Value> {
        if let Some(running) = self.running.take() {
            super::wire::patiently("shutting down", running.shutdown()).await;
        }
        records(&self.data().join("audit/audit.jsonl"))
    }
}

/// The exchanges in an audit file; none when nothing was written.
pub fn audit(file: &Path) -> Vec<serde_json::Value> {
    exchanges(records(file))
}

fn exchanges(records: Vec<serde_json::Value>) -> Vec<serde_json::Value> {
    records.into_iter().filter(|record| record.get("change").is_none()).collect()
}

fn records(file: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
}

/// The gateway sees no variable but these.
fn config(
    yaml: &str,
    file: &Path,
    data: &Path,
    variables: &BTreeMap<String, String>,
) -> Result<Config, String> {
    let mut variables = variables.clone();
    variables.insert("KEYWARD_DATA".to_owned(), data.display().to_string());
    Config::parse(yaml, file, &variables)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
