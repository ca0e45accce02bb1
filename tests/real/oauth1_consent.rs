//! Consents of OAuth 1.0a at a service by oauthlib, which checks every signature, callback and verifier: from the API, from
//! the command line of the real binary, and all that must connect nothing.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::issuer::{Issuer, Program};
use test_support::authorization::{AUTH_HOST, query};
use test_support::browser::{Browser, onward};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::oauth::AGENT;
use test_support::process::reserved_address;
use test_support::*;

pub(crate) const CONSUMER: &str = "consumerOfKeyward1";

/// What naive percent-encoding breaks.
pub(crate) const SECRET: &str = "consumer+s/e%c=r&e:t~ of a test";

/// The provider `one`: API and endpoints are one host, as X has them.
fn provider(more: &str) -> String {
    let at = |path: &str| format!("\"https://{AUTH_HOST}/{path}\"");
    format!(
        "{{ id: one, name: One, hosts: [{AUTH_HOST}], auth: [{{ id: oauth1, kind: oauth1, request_token: {}, \
         authorize: {}, token: {}, revoke: {}, account: screen_name, signature: {{ hash: sha256 }}{more} }}] }}",
        at("request_token"),
        at("authorize"),
        at("access_token"),
        at("revoke"),
    )
}

fn plan(issuer: &Issuer, more: &str) -> Plan {
    let addr = issuer.addr;
    let plan = Plan::api_key().hosts("third.acme.test").provider(&provider(more));
    plan.resolve(&format!("{AUTH_HOST}: \"{addr}\"")).allow(&addr.to_string())
}

/// An `oauthlib` service, and a gateway whose provider `one` it is.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) issuer: Issuer,
}

impl World {
    async fn start() -> Self {
        Self::with("", |plan| plan).await
    }

    /// With more in the method, and a plan that is changed.
    async fn with(more: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let world = Self::without_app(more, change).await;
        let app = json!({ "provider": "one", "auth": "oauth1", "name": "one-app",
                          "client_id": CONSUMER, "secrets": { "client_secret": SECRET } });
        let app = world.api("POST", "/apps", &app).await;
        world.settle(&app["redirect_uri"]);
        world
    }

    /// The service knows no consumer yet.
    pub(crate) async fn without_app(more: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let issuer = Issuer::start(Program::Oauthlib);
        let origin = Origin::answering(|_: &Message| ok("nothing"));
        let mut lab = change(plan(&issuer, more)).start(origin).await;
        lab.add_agent(AGENT).await;
        lab.guard(Canary::of(SECRET.to_owned()));
        Self { lab, issuer }
    }

    pub(crate) fn settle(&self, redirect_uri: &Value) {
        let client =
            json!({ "client_id": CONSUMER, "secret": SECRET, "redirect_uri": redirect_uri });
        self.issuer.settle([client], json!({}));
    }

    async fn try_api(&self, method: &str, path: &str, body: &Value) -> Message {
        self.lab.gateway.api_json(method, path, body).await
    }

    pub(crate) async fn api(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_api(method, path, body).await.done(path)
    }

    /// A connection that waits for its consent, which the agent may use then.
    async fn draft(&self, name: &str) -> Value {
        let new = json!({ "provider": "one", "name": name });
        let made = self.api("POST", "/connections", &new).await;
        let bind = json!({ "connection": name });
        self.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
        made
    }

    /// A browser at the service: it, and where it is.
    async fn begun(&self, made: &Value) -> (Browser, String) {
        let mut browser = Browser::new(&self.lab.gateway);
        let url = browser.begin(made["authorize_url"].as_str().expect("a start page")).await;
        (browser, url)
    }

    /// Where the service sends a browser whose person presses a button.
    fn pressed(&self, button: &str, url: &str) -> String {
        let told = self.issuer.tell(&json!({ "do": button, "url": url }));
        told["location"].as_str().expect("an address").to_owned()
    }

    async fn connected(&self, name: &str) -> Value {
        let made = self.draft(name).await;
        let (mut browser, url) = self.begun(&made).await;
        browser.get(&self.pressed("authorize", &url)).await.is(303);
        self.api("GET", &format!("/connections/{name}"), &Value::Null).await
    }

    pub(crate) async fn ask(&self, request: &str) -> Message {
        self.lab.ask_as(AGENT, AUTH_HOST, request).await
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        tokens(&self.issuer)
    }

    /// Refused with this status and these words: nothing is connected.
    async fn refuses(&self, answer: &Message, status: u16, words: &str) {
        assert_eq!(answer.head.status(), status, "{}", answer.text());
        assert!(answer.text().to_lowercase().contains(words), "{words}: {}", answer.text());
        let shown = self.api("GET", "/connections/work", &Value::Null).await;
        assert_eq!(shown["state"], "draft");
        assert_eq!(self.tokens(), Vec::<String>::new(), "no token was given");
    }

    /// Nothing that the service ever issued is where it must not be.
    pub(crate) async fn finish(mut self) -> Vec<Value> {
        for event in ["temporary", "token", "verifier"] {
            for issued in self.issuer.log(event) {
                let values = ["token", "secret", "verifier"].map(|name| issued[name].as_str());
                for value in values.into_iter().flatten() {
                    // The temporary token is in the browser's address (RFC 5849, section 2.2).
                    self.lab.guard(Canary::of(value.to_owned()));
                }
            }
        }
        self.lab.finish_with_changes().await
    }
}

/// The access tokens that the service gave.
fn tokens(issuer: &Issuer) -> Vec<String> {
    let given = issuer.log("token");
    given.iter().map(|it| it["token"].as_str().expect("a token").to_owned()).collect()
}

/// oauth 2.oauth1-state, 2.oauth1-token
#[tokio::test]
async fn a_callback_of_another_state_browser_or_token_is_refused() {
    let world = World::start().await;
    let made = world.draft("work").await;
    let (mut browser, url) = world.begun(&made).await;
    let back = world.pressed("authorize", &url);
    let (state, token) = (query(&back)["state"].clone(), query(&url)["oauth_token"].clone());
    assert_eq!(state.len(), 64, "256 bits");
    for other in ["a".repeat(64), String::new()] {
        let answer = browser.get(&back.replace(&state, &other)).await;
        world.refuses(&answer, 400, "this consent has ended").await;
    }
    for twice in ["&oauth_token=x", "&oauth_verifier=x", "&state=x"] {
        world.refuses(&browser.get(&format!("{back}{twice}")).await, 400, "twice").await;
    }
    // Each of these uses its flow up.
    let stranger = Browser::new(&world.lab.gateway).get(&back).await;
    world.refuses(&stranger, 403, "this browser did not begin").await;
    world.refuses(&browser.get(&back).await, 400, "this consent has ended").await;

    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let (mut browser, other) = world.begun(&again).await;
    let back = world.pressed("authorize", &other);
    let altered = back.replace(&query(&other)["oauth_token"], &token);
    world.refuses(&browser.get(&altered).await, 400, "other temporary credentials").await;
    assert_eq!(world.issuer.log("asked").len(), 2, "no token was asked for");
    world.finish().await;
}

/// oauth 2.oauth1-exchange
#[tokio::test]
async fn a_wrong_verifier_gives_no_token_and_is_sent_once() {
    let world = World::start().await;
    let made = world.draft("work").await;
    let (mut browser, url) = world.begun(&made).await;
    let back = world.pressed("authorize", &url);
    let verifier = query(&back)["oauth_verifier"].clone();
    let answer = browser.get(&back.replace(&verifier, &"v".repeat(verifier.len()))).await;
    world.refuses(&answer, 502, "did not give tokens").await;
    let replayed = browser.get(&back).await;
    world.refuses(&replayed, 400, "this consent has ended").await;
    let asked = world.issuer.log("asked");
    let paths: Vec<_> = asked.iter().map(|it| it["path"].as_str().expect("a path")).collect();
    assert_eq!(paths, ["/request_token", "/access_token"]);
    world.finish().await;
}

/// oauth 2.oauth1-denied
#[tokio::test]
async fn a_denied_consent_is_reported_and_connects_nothing() {
    let world = World::start().await;
    let made = world.draft("work").await;
    let (mut browser, url) = world.begun(&made).await;
    let denied = browser.get(&world.pressed("deny", &url)).await;
    world.refuses(&denied, 403, "the consent was declined").await;

    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let (mut browser, url) = world.begun(&again).await;
    let back = world.pressed("authorize", &url);
    let without = back.replace("oauth_verifier", "x");
    world.refuses(&browser.get(&without).await, 400, "sent no verifier").await;
    let shown = world.api("GET", "/connections/work", &Value::Null).await;
    assert!(shown["failure"].to_string().contains("verifier"), "{shown}");
    world.finish().await;
}

/// oauth 2.oauth1-state
#[tokio::test]
async fn a_consent_that_is_too_old_is_refused() {
    let change = |plan: Plan| plan.top("oauth: { flow_lifetime: 1s }");
    let world = World::with("", change).await;
    let made = world.draft("work").await;
    let (mut browser, url) = world.begun(&made).await;
    let back = world.pressed("authorize", &url);
    let flow = format!("/flows/{}", made["flow"].as_str().expect("a flow"));
    until("the end of a flow", async || {
        world.api("GET", &flow, &Value::Null).await["state"] == "failed"
    })
    .await;
    world.refuses(&browser.get(&back).await, 400, "this consent has ended").await;
    world.finish().await;
}

/// oauth 2.oauth1-confirmed
#[tokio::test]
async fn no_consent_begins_at_a_service_that_does_not_confirm_the_callback() {
    let world = World::start().await;
    let change = json!({ "do": "change", "settings": { "confirms": false } });
    world.issuer.tell(&change);
    let made = world.draft("work").await;
    let start = made["authorize_url"].as_str().expect("a start page");
    let mut browser = Browser::new(&world.lab.gateway);
    browser.get(start).await;
    world.refuses(&browser.post(start).await, 409, "does not confirm the callback").await;
    // The link is not used up: the service may be corrected.
    world.issuer.tell(&json!({ "do": "change", "settings": { "confirms": true } }));
    let url = browser.begin(start).await;
    browser.get(&world.pressed("authorize", &url)).await.is(303);
    world.finish().await;
}

#[tokio::test]
async fn a_rejected_consumer_is_reported_with_the_setting_to_correct() {
    let world = World::start().await;
    let change = json!({ "secrets": { "client_secret": "another-consumer-secret" } });
    world.api("PATCH", "/apps/one-app", &change).await;
    let made = world.draft("work").await;
    let start = made["authorize_url"].as_str().expect("a start page");
    let mut browser = Browser::new(&world.lab.gateway);
    browser.get(start).await;
    world.refuses(&browser.post(start).await, 409, "consumer key or secret of app").await;
    world.finish().await;
}

/// oauth 2.durable: the temporary secret is in the flow's record.
#[tokio::test]
async fn a_consent_survives_a_restart_between_its_start_and_its_callback() {
    let mut world = World::start().await;
    let made = world.draft("work").await;
    let (browser, url) = world.begun(&made).await;
    let back = world.pressed("authorize", &url);
    world.lab.gateway.restart().await;
    let mut after = Browser::new(&world.lab.gateway);
    after.cookies.clone_from(&browser.cookies);
    assert_eq!(after.get(&back).await.head.status(), 303);
    let shown = world.api("GET", "/connections/work", &Value::Null).await;
    assert_eq!(shown["state"], "active");
    assert_eq!(world.ask("GET /1.1/me").await.head.status(), 200);
    world.finish().await;
}

/// With another consumer secret at the service, too: it is used at once.
/// oauth 2.oauth1-signed
#[tokio::test]
async fn a_consent_ends_in_a_token_that_signs_requests_until_it_is_revoked() {
    let world = World::start().await;
    let shown = world.connected("work").await;
    assert_eq!((&shown["state"], &shown["account"]), (&json!("active"), &json!("alice")));
    let answer = world.ask("GET /1.1/me?b=2&a=1%20x&oauth_token=mine").await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "{\"account\": \"alice\"}"));
    let form = "POST /1.1/post\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 16\r\n\r\nstatus=a+b%21&c=";
    assert_eq!(world.ask(form).await.head.status(), 200);
    for endpoint in ["/request_token", "/access_token", "/revoke"] {
        let refused = world.ask(&format!("POST {endpoint}\r\nContent-Length: 0")).await;
        let code = refused.head.one("keyward-error").map(str::to_owned);
        assert_eq!(code.as_deref(), Some("token_endpoint_refused"), "{endpoint}");
    }
    let refreshed = world.try_api("POST", "/connections/work/refresh", &json!({})).await;
    assert!(refreshed.head.status() >= 400, "nothing is renewed: {}", refreshed.text());

    let change = json!({ "secrets": { "client_secret": "the-next-consumer-secret" } });
    world.api("PATCH", "/apps/one-app", &change).await;
    let unknown = world.ask("GET /1.1/me").await;
    assert_eq!(unknown.head.status(), 401, "signed with the secret that the service does not know");
    world.api("PATCH", "/apps/one-app", &json!({ "secrets": { "client_secret": SECRET } })).await;
    assert_eq!(world.ask("GET /1.1/me").await.head.status(), 200);

    let token = world.tokens().remove(0);
    let removed = world.api("DELETE", "/connections/work?revoke=true", &Value::Null).await;
    assert_eq!(removed["revoked_upstream"], true, "{removed}");
    let revoked = world.issuer.log("revoked");
    assert_eq!(revoked, [json!({ "event": "revoked", "token": token })]);
    let records = world.finish().await;
    let changes = records.iter().filter(|it| it.get("change").is_some()).count();
    assert!(changes > 0, "the connection's changes are in the audit log");
}

/// The person has another account at the service.
/// oauth 2.account
#[tokio::test]
async fn a_reconnect_with_another_account_waits_for_a_decision() {
    let world = World::start().await;
    world.connected("work").await;
    let first = world.tokens().remove(0);
    world.issuer.tell(&json!({ "do": "change", "settings": { "account": "bob" } }));
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let (mut browser, url) = world.begun(&again).await;
    browser.get(&world.pressed("authorize", &url)).await;
    let flow = format!("/flows/{}", again["flow"].as_str().expect("a flow"));
    let view = world.api("GET", &flow, &Value::Null).await;
    assert_eq!((&view["state"], &view["account"]), (&json!("confirm"), &json!("bob")), "{view}");
    world.ask("GET /1.1/me").await;
    let used = |world: &World| world.issuer.log("api").last().map(|it| it["token"].clone());
    assert_eq!(used(&world), Some(json!(first)), "the old token works on");
    world.finish().await;
}

/// The address to which the form of a link's page is sent.
fn form_of(page: &Message) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("<form method=\"post\" action=\"").expect("a form");
    let query = rest.split('"').next().expect("an address").replace("&amp;", "&");
    format!("/connect/session{query}")
}

/// A link of the platform: the person declines once, and the cookie of another link ends no consent.
#[tokio::test]
async fn an_end_user_connects_by_a_link() {
    let mut world = World::with("", |plan| plan.top("connect: { return_urls: [] }")).await;
    world.api("POST", "/users", &json!({ "name": "auth0|5f7c", "role": "end_user" })).await;
    let spec = json!({ "user": "auth0|5f7c", "providers": ["one"] });
    let link = world.api("POST", "/connect-sessions", &spec).await;
    let other = world.api("POST", "/connect-sessions", &spec).await;
    let url = |link: &Value| link["url"].as_str().expect("text").to_owned();
    for link in [&link, &other] {
        let token = url(link).rsplit('/').next().expect("a token").to_owned();
        world.lab.guard(Canary::of(token));
    }
    let (mut browser, mut stranger) =
        (Browser::new(&world.lab.gateway), Browser::new(&world.lab.gateway));
    for (browser, link) in [(&mut browser, &link), (&mut stranger, &other)] {
        browser.get(&url(link)).await;
        assert_eq!(browser.post(&url(link)).await.head.status(), 303);
    }
    let chosen = "/connect/session?step=choose";
    let page = browser.get(chosen).await;
    let at_service = onward(&browser.post(&form_of(&page)).await);
    stranger.get(&world.pressed("authorize", &at_service)).await.is(403);

    for (button, words) in [("deny", "The consent was declined"), ("authorize", "is connected")] {
        let page = browser.get(chosen).await;
        let at_service = onward(&browser.post(&form_of(&page)).await);
        browser.get(&world.pressed(button, &at_service)).await.is(303);
        let shown = browser.get("/connect/session").await;
        assert!(shown.text().contains(words), "{}", shown.text());
    }
    let id = link["id"].as_str().expect("an id");
    let done = world.api("GET", &format!("/connect-sessions/{id}"), &Value::Null).await;
    assert_eq!(done["state"], "completed", "{done}");
    let all = world.api("GET", "/connections?provider=one", &Value::Null).await;
    let all = all["items"].as_array().expect("a list");
    assert_eq!(all.len(), 1, "no draft is left: {all:?}");
    assert_eq!((&all[0]["state"], &all[0]["account"]), (&json!("active"), &json!("alice")));
    assert_eq!(world.tokens().len(), 1);
    world.finish().await;
}

/// The binary, its gateway and its commands, as a user has them.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_connects_and_requests_of_a_run_are_signed() {
    let issuer = Issuer::start(Program::Oauthlib);
    let origin = Origin::answering(|_: &Message| ok("nothing"));
    let admin: SocketAddr = reserved_address();
    let install = Install::new(&plan(&issuer, "").admin(&admin.to_string()), &origin);
    let secret = install.folder().join("consumer-secret");
    std::fs::write(&secret, SECRET).expect("a file");
    let _serving = install.serve();
    let file = format!("client_secret={}", secret.display());
    let add = ["app", "add", "one", "--auth", "oauth1", "--client-id", CONSUMER, "--json"];
    let output = install.keyward(&add).args(["--secret-file", &file]).output().expect("it runs");
    std::fs::remove_file(&secret).expect("it was read");
    let app: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let client =
        json!({ "client_id": CONSUMER, "secret": SECRET, "redirect_uri": app["redirect_uri"] });
    issuer.settle([client], json!({}));

    let connect = ["connect", "one", "--name", "work", "--agent", "bot", "--no-browser"];
    let mut command = install.keyward(&connect);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.lines().any(|line| line.contains("/oauth/start/")) {
        assert!(lines.read_line(&mut said).expect("text") > 0, "no start page in: {said}");
    }
    let link = said.lines().find(|line| line.contains("/oauth/start/")).expect("it is there");
    let mut browser = Browser::at(admin);
    let url = browser.begin(link.trim()).await;
    let told = issuer.tell(&json!({ "do": "authorize", "url": url }));
    browser.get(told["location"].as_str().expect("an address")).await.is(303);
    let output = child.wait_with_output().expect("our child");
    std::io::Read::read_to_string(&mut lines, &mut said).expect("text");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("alice") || String::from_utf8_lossy(&output.stdout).contains("alice"));

    let fetch = format!("curl -sS 'https://{AUTH_HOST}/1.1/me?x=1'");
    let ran = install.keyward(&["run", "--agent", "bot", "--", "sh", "-c", &fetch]).output();
    let ran = ran.expect("it runs");
    let printed = String::from_utf8_lossy(&[&*ran.stdout, &*ran.stderr].concat()).into_owned();
    assert!(printed.contains("\"account\": \"alice\""), "{printed}");
    let mut secrets = vec![SECRET.to_owned()];
    for event in ["token", "temporary"] {
        secrets.extend(
            issuer.log(event).iter().map(|it| it["secret"].as_str().expect("text").to_owned()),
        );
    }
    secrets.extend(tokens(&issuer));
    let all = format!("{said}{printed}{}", String::from_utf8_lossy(&output.stdout));
    for secret in secrets.into_iter().map(Canary::of) {
        secret.assert_absent("what the commands said", all.as_bytes());
        secret.assert_absent_below(install.folder());
    }
}
