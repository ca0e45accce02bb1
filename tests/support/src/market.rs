//! A gateway with three services, one of which uses consent, and the command line: the starting point of tests
//! of plugins.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::authorization::{Authorization, CLIENT, CLIENT_SECRET, Rules};
use super::browser::Browser;
use super::canary::{self, Canary};
use super::finished::{Finished, finished};
use super::lab::{HOST, Lab, Plan, STRANGER};
use super::oauth::{app, provider};
use super::origin::{Origin, ok};
use super::process::built;
use super::pty::Terminal;
use super::wire::{Message, Wire};

/// The host of provider `chat`.
pub const CHAT: &str = "third.acme.test";

/// What a plugin of these tests declares: an account that is consented to, one with a key, and one that it
/// can do without.
pub const MANIFEST: &str = "\
plugin: crm-digest
version: 1.2.0
summary: Mails a weekly digest of the CRM.
connections:
  - { slot: crm, provider: svc, label: CRM account, help: Reads deals., required: true, scopes: [read], methods: [GET] }
  - { slot: mail, provider: acme, label: Sender, help: Sends the digest., required: true, paths: [/send/**] }
  - { slot: chat, provider: chat, label: Alerts, help: Optional notices., required: false }
";

/// All of it.
pub struct Market {
    pub lab: Lab,
    pub server: Authorization,
}

impl Market {
    /// Provider `svc` at [`HOST`] by consent, `acme` at [`STRANGER`] by key, `chat` at [`CHAT`] by token.
    pub async fn open() -> Self {
        Self::with(|plan| plan).await
    }

    /// With a plan that is changed.
    pub fn with(change: impl FnOnce(Plan) -> Plan) -> impl Future<Output = Self> {
        Self::started(change(Self::plan()))
    }

    fn plan() -> Plan {
        let plan = Plan::api_key().hosts(STRANGER).no_agents().provider(&provider(""));
        plan.provider(&format!(
            "{{ id: chat, name: Chat, hosts: [{CHAT}], auth: [{{ id: token, kind: bearer }}] }}"
        ))
    }

    /// Not generic: it is compiled once, and not for each change.
    async fn started(plan: Plan) -> Self {
        let server = Authorization::with(Rules::default()).await;
        let issuer = server.issuer().clone();
        let origin = Origin::answering(move |request| match request.head.one("host") {
            Some(HOST) => issuer.api(request, "fine"),
            _ => ok("fine"),
        });
        let lab = server.reached(plan).start(origin).await;
        app(&lab, "svc-app", (CLIENT, CLIENT_SECRET)).await;
        Self { lab, server }
    }

    /// With agent `digest` and a connection of each provider: `work-crm`, `sender` and `alerts`.
    pub async fn stocked() -> Self {
        Self::stocked_with(|plan| plan).await
    }

    /// The same with a plan that is changed.
    pub fn stocked_with(change: impl FnOnce(Plan) -> Plan) -> impl Future<Output = Self> {
        Self::stocked_by(change(Self::plan()))
    }

    async fn stocked_by(plan: Plan) -> Self {
        let mut market = Self::started(plan).await;
        market.lab.add_agent("digest").await;
        market.consented("work-crm").await;
        market.keyed("acme", "sender").await;
        market.keyed("chat", "alerts").await;
        market
    }

    /// A connection of `svc` that a person consented to.
    pub async fn consented(&self, name: &str) {
        let new = json!({ "provider": "svc", "auth": "oauth", "name": name, "app": "svc-app" });
        let made = self.api("POST", "/connections", &new).await;
        self.consents(made["authorize_url"].as_str().expect("a start page")).await;
    }

    /// A connection with the canary for its key.
    pub async fn keyed(&self, provider: &str, name: &str) {
        let field = if provider == "chat" { "token" } else { "api_key" };
        let key = &self.lab.canary.text;
        let new = json!({ "provider": provider, "name": name, "fields": { field: key } });
        self.api("POST", "/connections", &new).await;
    }

    /// A person opens a start page and consents.
    pub async fn consents(&self, link: &str) {
        let mut browser = Browser::new(&self.lab.gateway);
        let url = browser.begin(link.trim()).await;
        browser.get(&self.server.issuer().consent(&url)).await.is(303);
    }

    /// One call of the API.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Message {
        self.lab.gateway.api_json(method, path, body).await
    }

    /// One that answers 2xx.
    pub async fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, path, body).await.done(path)
    }

    /// A plugin as the API shows it.
    pub async fn plugin(&self, name: &str) -> Value {
        self.api("GET", &format!("/plugins/{name}"), &Value::Null).await
    }

    /// A plugin's state.
    pub async fn state(&self, name: &str) -> String {
        self.plugin(name).await["state"].as_str().expect("a state").to_owned()
    }

    /// An agent's stream to a host.
    pub async fn stream(&self, agent: &str, host: &str) -> Wire {
        self.lab.tunnel_as(agent, host).await
    }

    /// One request of an agent, `GET /a` and more fields.
    pub async fn request(&self, agent: &str, host: &str, request: &str) -> Message {
        self.lab.ask_as(agent, host, request).await
    }

    /// Status and code of the answer to it.
    pub async fn gets(&self, agent: &str, host: &str, request: &str) -> (u16, String) {
        let answer = self.request(agent, host, request).await;
        (answer.head.status(), answer.head.one("keyward-error").unwrap_or_default().to_owned())
    }

    /// Asks until the answer has this code: what a provider ended is found out by a request, and the policy
    /// follows in a moment.
    pub async fn until(&self, code: &str, (agent, host): (&str, &str), request: &str) -> Message {
        super::wire::until_some(code, async || {
            let answer = self.request(agent, host, request).await;
            (answer.head.one("keyward-error") == Some(code)).then_some(answer)
        })
        .await
    }

    /// A file beside the configuration: its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.gateway.folder().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The manifest, with this in the place of that.
    pub fn manifest(&self, changes: &[(&str, &str)]) -> String {
        let mut text = MANIFEST.to_owned();
        for (before, after) in changes {
            assert!(text.contains(before), "{before}");
            text = text.replace(before, after);
        }
        self.file("keyward-plugin.yaml", &text).display().to_string()
    }

    /// The command line of this install.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.lab.gateway.folder();
        let mut command = Command::new(built());
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").expect("programs are found by it"))
            .env("HOME", folder)
            .env("KEYWARD_DATA", self.lab.gateway.data())
            .env("KEYWARD_CONFIG", folder.join("keyward.yaml"))
            .env("CANARY", &self.lab.canary.text)
            .args(arguments)
            .current_dir(folder);
        command
    }

    /// Runs a command where nobody can be asked.
    pub fn keyward(&self, arguments: &[&str]) -> Finished {
        let done = finished(self.command(arguments), "");
        self.lab.canary.assert_absent("standard output", done.out.as_bytes());
        self.lab.canary.assert_absent("standard error", done.err.as_bytes());
        done
    }

    /// What it says when it succeeds.
    pub fn says(&self, arguments: &[&str]) -> String {
        let did = self.keyward(arguments);
        assert_eq!(did.code, 0, "{arguments:?}: {did:?}");
        did.out + &did.err
    }

    /// Installs [`MANIFEST`] for `digest`, with all that it asks for.
    pub fn install(&self) {
        let file = self.manifest(&[]);
        self.says(&[
            "plugin",
            "install",
            &file,
            "--agent",
            "digest",
            "--slot",
            "crm=work-crm",
            "--slot",
            "mail=sender",
            "--slot",
            "chat=alerts",
            "--yes",
        ]);
    }

    /// A command at a terminal.
    pub fn terminal(&self, arguments: &[&str]) -> Terminal {
        let mut command = self.command(arguments);
        command.env("TERM", "xterm");
        Terminal::start(command)
    }

    /// Looks for every secret where it should not be.
    pub async fn close(self) -> Vec<Value> {
        let mut secrets = vec![CLIENT_SECRET.to_owned()];
        for pair in self.server.calls().into_iter().filter_map(|call| call.issued) {
            secrets.push(pair.access);
            secrets.extend(pair.refresh);
        }
        let log = canary::log().lock().expect("not poisoned").clone();
        for secret in secrets {
            let secret = Canary::of(secret);
            secret.assert_absent("the log", &log);
            secret.assert_absent_below(self.lab.gateway.folder());
        }
        self.lab.finish().await
    }
}
