//! Origin, gateway, agent and canary together: the starting point of most tests. A test must finish its lab,
//! which searches for the canary.

mod tunnel;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::net::TcpStream;

use super::canary::{self, Canaries, Canary};
use super::gateway::Gateway;
use super::origin::Origin;
use super::pki::pki;
use super::text::{list, token_variable};
use super::wire::{Seen, Wire, patiently};

/// The host that the lab's provider owns.
pub const HOST: &str = "api.acme.test";

/// Another name of the same origin, that nothing names: denied by default.
pub const STRANGER: &str = "other.acme.test";

/// What the gateway is to be configured with; YAML in flow style, one line each.
pub struct Plan {
    auth: String,
    fields: String,
    hosts: String,
    /// Further fields of the provider in flow style, each after a comma.
    pub provider_more: String,
    agents: Vec<(String, String)>,
    providers: Vec<String>,
    connections: Vec<String>,
    rules: Vec<String>,
    limits: Vec<String>,
    resolve: Vec<String>,
    allow: Vec<String>,
    admin: String,
    proxy: String,
    listen: String,
    upstream: String,
    top: String,
    canary: Canary,
    secrets: Vec<Canary>,
    variables: BTreeMap<String, String>,
    files: Vec<(String, String)>,
    trusted: bool,
}

/// A running experiment.
pub struct Lab {
    pub origin: Origin,
    pub gateway: Gateway,
    /// Only the origin may see it.
    pub canary: Canary,
    tokens: BTreeMap<String, Canary>,
    secrets: Vec<Canary>,
    clients: Mutex<Vec<Seen>>,
    finished: bool,
}

impl Plan {
    /// A provider `acme` that owns [`HOST`], a connection `acme` with the canary in every secret
    /// field, and an agent `ci` that may use it.
    pub fn new(auth: &str, fields: &str) -> Self {
        Self {
            auth: auth.to_owned(),
            fields: fields.to_owned(),
            hosts: HOST.to_owned(),
            provider_more: String::new(),
            agents: vec![("ci".to_owned(), "acme".to_owned())],
            providers: vec![],
            connections: vec![],
            rules: vec![],
            limits: vec!["drain_timeout: 2s".to_owned()],
            resolve: vec![],
            allow: vec![],
            admin: "127.0.0.1:0".to_owned(),
            proxy: "\"127.0.0.1:0\"".to_owned(),
            listen: String::new(),
            upstream: String::new(),
            top: String::new(),
            canary: Canary::new("cnry"),
            secrets: vec![],
            variables: BTreeMap::new(),
            files: vec![],
            trusted: true,
        }
    }

    /// An API key in `X-Api-Key`.
    pub fn api_key() -> Self {
        Self::new(
            "{ id: key, kind: api_key, placement: { header: X-Api-Key } }",
            "{ api_key: { env: CANARY } }",
        )
    }

    /// A bearer token.
    pub fn bearer() -> Self {
        Self::new("{ id: token, kind: bearer }", "{ token: { env: CANARY } }")
    }

    /// The provider's hosts, comma-separated.
    pub fn hosts(mut self, hosts: &str) -> Self {
        self.hosts = hosts.to_owned();
        self
    }

    /// How connections of the provider are tested, in flow style.
    pub fn test(mut self, yaml: &str) -> Self {
        self.provider_more += &format!(", test: {yaml}");
        self
    }

    /// More keys of the provider, in flow style.
    pub fn keys(mut self, yaml: &str) -> Self {
        self.provider_more += &format!(", {yaml}");
        self
    }

    /// Another agent and the connections that it may use, comma-separated.
    pub fn agent(mut self, name: &str, uses: &str) -> Self {
        self.agents.push((name.to_owned(), uses.to_owned()));
        self
    }

    /// Only the agents that are added after this.
    pub fn no_agents(mut self) -> Self {
        self.agents.clear();
        self
    }

    /// How requests of the connection `acme` are sent, in flow style.
    pub fn settings(mut self, yaml: &str) -> Self {
        self.fields += &format!(", settings: {yaml}");
        self
    }

    /// Another provider.
    pub fn provider(mut self, yaml: &str) -> Self {
        self.providers.push(yaml.to_owned());
        self
    }

    /// Whether one of that id was added.
    pub fn has_provider(&self, id: &str) -> bool {
        self.providers.iter().any(|yaml| yaml.starts_with(&format!("{{ id: {id},")))
    }

    /// Another connection.
    pub fn connection(mut self, yaml: &str) -> Self {
        self.connections.push(yaml.to_owned());
        self
    }

    /// A rule, after those before it.
    pub fn rule(mut self, yaml: &str) -> Self {
        self.rules.push(yaml.to_owned());
        self
    }

    /// `name: value` of `limits:`, instead of one of that name.
    pub fn limit(mut self, yaml: &str) -> Self {
        let name = |yaml: &str| yaml.split(':').next().map(str::to_owned);
        self.limits.retain(|other| name(other) != name(yaml));
        self.limits.push(yaml.to_owned());
        self
    }

    /// `host: address` of `upstream.resolve`.
    pub fn resolve(mut self, yaml: &str) -> Self {
        self.resolve.push(yaml.to_owned());
        self
    }

    /// A network of `upstream.allow_private`.
    pub fn allow(mut self, network: &str) -> Self {
        self.allow.push(network.to_owned());
        self
    }

    /// The admin listener, where its port must be known beforehand.
    pub fn admin(mut self, addr: &str) -> Self {
        self.admin = addr.to_owned();
        self
    }

    /// The proxy listeners, in flow style, instead of a plain one.
    pub fn proxy(mut self, yaml: &str) -> Self {
        self.proxy = yaml.to_owned();
        self
    }

    /// More of `listen:`, in flow style.
    pub fn listen(mut self, yaml: &str) -> Self {
        self.listen = format!(", {yaml}");
        self
    }

    /// A line of `upstream:`.
    pub fn upstream(mut self, yaml: &str) -> Self {
        self.upstream += &format!("  {yaml}\n");
        self
    }

    /// Lines at the top level of the configuration.
    pub fn top(mut self, yaml: &str) -> Self {
        self.top += &format!("{yaml}\n");
        self
    }

    /// A variable that the configuration may name.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A file beside the configuration.
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A further credential, in a variable: guarded as the canary is.
    pub fn secret(mut self, name: &str, secret: &Canary) -> Self {
        self.secrets.push(secret.clone());
        self.variable(name, &secret.text)
    }

    /// The origins' authority is not trusted.
    pub fn untrusted(mut self) -> Self {
        self.trusted = false;
        self
    }

    /// The secret that will be planted.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// Starts the gateway before `origin`.
    pub async fn start(self, origin: Origin) -> Lab {
        match self.try_start(&origin).await {
            Ok((gateway, tokens)) => self.lab(origin, gateway, tokens),
            Err(error) => panic!("the gateway did not start: {error}\n{}", self.yaml(&origin)),
        }
    }

    /// Why the gateway does not start before `origin`; it panics when it does.
    pub async fn refused(self, origin: &Origin) -> String {
        self.try_start(origin).await.err().expect("it is refused")
    }

    /// As [`Plan::start`], without the rules that the gateway refuses to start with: drawn ones
    /// may contradict each other.
    pub async fn start_consistent(mut self, origin: Origin) -> Lab {
        loop {
            let error = match self.try_start(&origin).await {
                Ok((gateway, tokens)) => return self.lab(origin, gateway, tokens),
                Err(error) => error,
            };
            let before = self.rules.len();
            let named = |rule: &String| {
                let name = rule.trim_start_matches("{ name: ").split(',').next();
                name.is_some_and(|name| error.contains(&format!("rule `file:{name}`")))
            };
            // The one that contradicts an earlier one is the later.
            if let Some(last) = self.rules.iter().rposition(named) {
                self.rules.remove(last);
            }
            assert!(self.rules.len() < before, "{error}\n{}", self.yaml(&origin));
        }
    }

    async fn try_start(
        &self,
        origin: &Origin,
    ) -> Result<(Gateway, BTreeMap<String, Canary>), String> {
        let tokens: BTreeMap<String, Canary> =
            self.agents.iter().map(|(name, _)| (name.clone(), Canary::new("kwa_"))).collect();
        let mut variables = self.variables.clone();
        variables.insert("CANARY".to_owned(), self.canary.text.clone());
        for (name, token) in &tokens {
            variables.insert(token_variable(name), token.text.clone());
        }
        let mut files = vec![("origin-ca.pem", &*pki().pem)];
        files.extend(self.files.iter().map(|(name, text)| (&**name, &**text)));
        let gateway = Gateway::try_start(&self.yaml(origin), &variables, &files).await?;
        Ok((gateway, tokens))
    }

    fn lab(self, origin: Origin, gateway: Gateway, tokens: BTreeMap<String, Canary>) -> Lab {
        let (canary, secrets, clients) = (self.canary, self.secrets, Mutex::default());
        Lab { origin, gateway, canary, tokens, secrets, clients, finished: false }
    }

    /// The configuration, for an origin.
    pub fn yaml(&self, origin: &Origin) -> String {
        let addr = origin.addr;
        let mut resolve: Vec<String> =
            super::origin::NAMES.iter().map(|name| format!("{name}: \"{addr}\"")).collect();
        resolve.extend(self.resolve.clone());
        let mut allow = vec![addr.to_string()];
        allow.extend(self.allow.clone());
        let allow: Vec<String> = allow.iter().map(|network| format!("\"{network}\"")).collect();
        let trust = if self.trusted { "origin-ca.pem" } else { "" };
        let acme = format!(
            "{{ id: acme, name: Acme, hosts: [{}], auth: [{}]{} }}",
            self.hosts, self.auth, self.provider_more
        );
        let first = format!("{{ name: acme, provider: acme, fields: {} }}", self.fields);
        let agents = self.agents.iter().map(|(name, uses)| {
            let variable = token_variable(name);
            format!("{{ name: {name}, token: {{ env: {variable} }}, use: [{uses}] }}")
        });
        let (proxy, admin, more) = (&self.proxy, &self.admin, &self.listen);
        let mut yaml = format!("listen: {{ proxy: {proxy}, admin: \"{admin}\"{more} }}\n");
        yaml += &format!(
            "upstream:\n  trust: [{trust}]\n  allow_private: [{}]\n  resolve: {{ {} }}\n",
            allow.join(", "),
            resolve.join(", ")
        );
        yaml += &self.upstream;
        yaml += &list("providers", std::iter::once(acme).chain(self.providers.clone()));
        yaml += &list("connections", std::iter::once(first).chain(self.connections.clone()));
        yaml += &list("agents", agents);
        yaml += &list("rules", self.rules.clone());
        yaml += &format!("limits: {{ {} }}\n", self.limits.join(", "));
        // Most tests end a token as soon as it was issued.
        let none_is_new = "oauth: { fresh_for: 0s";
        yaml + &match (self.top.contains("fresh_for"), self.top.contains("oauth: {")) {
            (true, _) => self.top.clone(),
            (false, true) => self.top.replacen("oauth: {", &format!("{none_is_new},"), 1),
            (false, false) => format!("{}{none_is_new} }}\n", self.top),
        }
    }
}

impl Lab {
    /// An API key before an origin that says `fine`.
    pub async fn simple() -> Self {
        Plan::api_key().start(Origin::saying("fine")).await
    }

    /// Adds an agent by the API: one that no file manages.
    pub async fn add_agent(&mut self, name: &str) {
        let new = format!(r#"{{"name":"{name}"}}"#);
        self.gateway.api("POST", "/agents", &new).await.is(201);
        let token = self.gateway.api("POST", &format!("/agents/{name}/tokens"), "{}").await;
        let token = token.json()["token"].as_str().expect("shown once").to_owned();
        self.tokens.insert(name.to_owned(), Canary::of(token));
    }

    /// Uses the token of an agent for another one as well, such as the agent that it is renamed to.
    pub fn share_token(&mut self, agent: &str, with: &str) {
        let token = self.tokens[agent].clone();
        self.tokens.insert(with.to_owned(), token);
    }

    /// The token of an agent.
    pub fn token(&self, agent: &str) -> &str {
        &self.tokens[agent].text
    }

    /// The `Proxy-Authorization` line of an agent, with its line end.
    pub fn authorization(&self, agent: &str) -> String {
        let pair = BASE64_STANDARD.encode(format!("{agent}:{}", self.token(agent)));
        format!("Proxy-Authorization: Basic {pair}\r\n")
    }

    /// A stream to the proxy.
    pub async fn client(&self) -> Wire {
        self.client_at(self.gateway.proxy).await
    }

    /// A stream to some listener, recorded for the canary.
    pub async fn client_at(&self, addr: std::net::SocketAddr) -> Wire {
        let seen = Seen::default();
        self.clients.lock().expect("not poisoned").push(Arc::clone(&seen));
        let stream = patiently("connecting", TcpStream::connect(addr)).await.expect("it listens");
        Wire::plain(stream).recorded(seen)
    }

    /// The placeholder that `ci` holds for a field of `acme`.
    pub fn placeholder(&self, field: &str) -> String {
        self.gateway.placeholder("ci", "acme", field)
    }

    /// A further secret, which nobody must see from now on.
    pub fn guard(&mut self, secret: Canary) {
        self.secrets.push(secret);
    }

    /// Stops the gateway, looks for the canary and the tokens, and gives the audit records of
    /// exchanges.
    ///
    /// # Panics
    /// When a secret is where it should not be.
    pub async fn finish(self) -> Vec<Value> {
        let all = self.finish_with_changes().await.into_iter();
        all.filter(|record| record.get("change").is_none()).collect()
    }

    /// The same, with the records of changes.
    pub async fn finish_with_changes(mut self) -> Vec<Value> {
        self.finished = true;
        let told = self.gateway.tells().await;
        let records = self.gateway.stop_with_changes().await;
        let log = canary::log().lock().expect("not poisoned").clone();
        assert!(!log.is_empty(), "nothing was logged: the capture does not work");
        let all = self.tokens.values().chain(&self.secrets).chain([&self.canary]);
        let secrets = Canaries::new(all.cloned().collect());
        secrets.assert_absent("the log", &log);
        secrets.assert_absent("what the admin API tells", &told);
        secrets.assert_absent_below(self.gateway.folder());
        for seen in self.clients.lock().expect("not poisoned").iter() {
            secrets.assert_absent("what a client saw", &seen.lock().expect("not poisoned"));
        }
        let tokens = Canaries::new(self.tokens.values().cloned().collect());
        tokens.assert_absent("what the origin received", &self.origin.bytes());
        records
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let excused = self.finished || std::thread::panicking();
        assert!(excused, "a lab must be finished: that is where secrets are looked for");
    }
}
