//! A gateway, an API, its authorization server, and a user with a browser: the starting point of tests of
//! consents.

use keyward_base::id::{AppId, OrgId};
use keyward_base::secret::Secret;
use keyward_model::{AppSpec, ManagedBy};
use keyward_vault::grant::AppSecret;
use keyward_vault::{NewApp, Vault};
use serde_json::{Value, json};

use super::authorization::{AUTH_HOST, Authorization, CLIENT, CLIENT_SECRET, Rules};
use super::browser::Browser;
use super::canary::{self, Canary};
use super::lab::{HOST, Lab, Plan};
use super::origin::Origin;
use super::wire::Message;

/// The agent that may use the connection.
pub const AGENT: &str = "bot";

/// All of it.
pub struct World {
    pub lab: Lab,
    pub server: Authorization,
    /// The client, as Keyward knows it.
    pub app: AppId,
}

/// The provider `svc` of these tests, with whatever else its way to authenticate says.
pub fn provider(more: &str) -> String {
    let at = |path: &str| format!("https://{AUTH_HOST}/{path}");
    format!(
        "{{ id: svc, name: Service, hosts: [{HOST}], auth: [{{ id: oauth, kind: oauth2, \
         grant: authorization_code, issuer: \"https://{AUTH_HOST}\", authorize: \"{}\", token: \"{}\", \
         device: \"{}\", revoke: \"{}\", client_auth: basic, scopes: [read], account: account.id, \
         test: {{ method: GET, url: \"https://{HOST}/me\" }}{more} }}] }}",
        at("authorize"),
        at("token"),
        at("device"),
        at("revoke"),
    )
}

/// Registers an app of `svc` by that name: its id.
pub async fn app(lab: &Lab, name: &str, client: (&str, &str)) -> AppId {
    app_in(&lab.gateway.running().services().vault, name, client).await
}

/// The same, in a vault.
pub async fn app_in(vault: &Vault, name: &str, client: (&str, &str)) -> AppId {
    let spec = AppSpec {
        name: name.to_owned(),
        provider: "svc".to_owned(),
        client_id: client.0.to_owned(),
        ..AppSpec::default()
    };
    let new = NewApp {
        id: None,
        org: OrgId::default_org(),
        spec,
        registered: None,
        managed_by: ManagedBy::Store,
    };
    let secret = Some(Secret::new(client.1));
    let secret = AppSecret { client_secret: secret, ..AppSecret::default() };
    vault.lifecycle().add_app(new, secret).await.expect("an app").id.clone()
}

impl World {
    /// With the usual rules.
    pub async fn start() -> Self {
        Self::with(Rules::default(), |plan| plan).await
    }

    /// The same, with a connection that works.
    pub async fn with_connection() -> Self {
        let world = Self::start().await;
        world.connected().await;
        world
    }

    /// With these rules, and a plan that is changed.
    pub fn with(rules: Rules, change: impl FnOnce(Plan) -> Plan) -> impl Future<Output = Self> {
        Self::saying("fine", rules, change)
    }

    /// The same, with an API that says `text`.
    pub fn saying(
        text: &'static str,
        rules: Rules,
        change: impl FnOnce(Plan) -> Plan,
    ) -> impl Future<Output = Self> {
        Self::started(text, rules, change(Plan::api_key().hosts("other.acme.test")))
    }

    /// Not generic: it is compiled once, and not for each change.
    async fn started(text: &'static str, rules: Rules, plan: Plan) -> Self {
        let server = Authorization::with(rules).await;
        let issuer = server.issuer().clone();
        let origin = Origin::answering(move |request| {
            // What the provider's test request asks for.
            let login = issuer.account_of(request).filter(|_| request.head.target() == "/me");
            let body = login.map(|login| json!({ "login": login }).to_string());
            issuer.api(request, body.as_deref().unwrap_or(text))
        });
        let plan = server.reached(plan);
        let plan = if plan.has_provider("svc") { plan } else { plan.provider(&provider("")) };
        let mut lab = plan.start(origin).await;
        lab.add_agent(AGENT).await;
        let app = app(&lab, "svc-app", (CLIENT, CLIENT_SECRET)).await;
        Self { lab, server, app }
    }

    /// One call of the API that answers 2xx.
    pub async fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        self.lab.gateway.api_json(method, path, body).await.done(path)
    }

    /// Adds connection `work` as a draft, bound to the agent: what the API answers.
    pub async fn draft(&self) -> Value {
        let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app" });
        let made = self.api("POST", "/connections", &new).await;
        let bind = json!({ "connection": "work" });
        self.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
        made
    }

    /// A person consents to what was begun, and comes back.
    pub async fn consent(&self, browser: &mut Browser, started: &Value) -> Message {
        let start = started["authorize_url"].as_str().expect("a start page").to_owned();
        let url = browser.begin(&start).await;
        let back = self.server.issuer().consent(&url);
        browser.get(&back).await
    }

    /// A connection `work` that works, and how it was begun.
    pub async fn connected(&self) -> Value {
        let made = self.draft().await;
        let mut browser = self.browser();
        self.consent(&mut browser, &made).await.is(303);
        made
    }

    /// A fresh browser.
    pub fn browser(&self) -> Browser {
        Browser::new(&self.lab.gateway)
    }

    /// A browser that has begun what was started, and where the provider asks for the consent.
    pub async fn begins(&self, started: &Value) -> (Browser, String) {
        let mut browser = self.browser();
        let url = browser.begin(started["authorize_url"].as_str().expect("a start page")).await;
        (browser, url)
    }

    /// The same of a new draft.
    pub async fn begun(&self) -> (Browser, String) {
        self.begins(&self.draft().await).await
    }

    /// How a flow stands.
    pub async fn flow(&self, made: &Value) -> Value {
        let flow = made["flow"].as_str().expect("a flow");
        self.api("GET", &format!("/flows/{flow}"), &Value::Null).await
    }

    /// Waits until a flow is not open any more.
    pub async fn settled(&self, made: &Value) -> Value {
        super::wire::until_some("the end of a consent", async || {
            let view = self.flow(made).await;
            (view["state"] != "open").then_some(view)
        })
        .await
    }

    /// The connection as the API shows it.
    pub async fn connection(&self) -> Value {
        self.api("GET", "/connections/work", &Value::Null).await
    }

    /// One request of the agent to the API behind.
    pub async fn request(&self) -> Message {
        self.lab.ask_as(AGENT, HOST, "GET /thing").await
    }

    /// Looks for everything that the server issued or was shown: in the log, in files, at clients.
    pub async fn finish(self) -> Vec<Value> {
        let mut secrets = vec![CLIENT_SECRET.to_owned()];
        for call in self.server.calls() {
            let known = ["code", "code_verifier", "refresh_token", "device_code"];
            secrets.extend(known.iter().filter_map(|name| call.form.get(*name).cloned()));
            if let Some(pair) = call.issued {
                secrets.push(pair.access);
                secrets.extend(pair.refresh);
            }
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
