//! Story D, agent authentication for developers: each wish told by the command line and the real proxy.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use test_support::authorization::{Authorization, CLIENT, CLIENT_SECRET, Rules, query};
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::finished::{Finished, finished};
use test_support::market::Market;
use test_support::process::Served;
use test_support::*;

/// The test request of the provider.
const ME: &str = "{ url: 'https://api.acme.test/me', account: [login] }";

/// A developer at a desk: a gateway, an API, and the command line.
struct Desk {
    served: Served,
    origin: Origin,
    key: Canary,
    /// What the API answers to `/me`: a status, fields, a body.
    me: Arc<Mutex<(u16, String, String)>>,
    said: Vec<u8>,
}

impl Desk {
    async fn new(settings: &str) -> Self {
        let me = Arc::new(Mutex::new((200, String::new(), r#"{"login":"alice"}"#.to_owned())));
        let told = me.clone();
        let origin = Origin::answering(move |request| match request.head.target() {
            "/me" => {
                let (status, fields, body) = told.lock().expect("not poisoned").clone();
                let length = body.len();
                format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
            }
            _ => ok("fine"),
        });
        let plan = Plan::api_key().test(ME).no_agents().top(settings);
        let served = Served::start(&plan, &origin, &[]);
        Self { served, origin, key: Canary::new("devk"), me, said: vec![] }
    }

    fn answers(&self, status: u16, fields: &str, body: &str) {
        *self.me.lock().expect("not poisoned") = (status, fields.to_owned(), body.to_owned());
    }

    fn run(&mut self, arguments: &str, input: &str) -> Finished {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let done = finished(self.served.keyward(&arguments), input);
        self.said.extend(done.out.as_bytes());
        self.said.extend(done.err.as_bytes());
        done
    }

    /// What a command says that succeeds.
    fn says(&mut self, arguments: &str, input: &str) -> String {
        self.run(arguments, input).ok()
    }

    /// What a command complains of that fails.
    fn fails(&mut self, arguments: &str, input: &str) -> String {
        self.run(arguments, input).failed(1)
    }

    fn json(&mut self, arguments: &str) -> Value {
        serde_json::from_str(&self.says(&format!("{arguments} --json"), "")).expect("JSON")
    }

    /// An agent that may use `connection`: its token.
    fn agent(&mut self, connection: &str) -> String {
        self.says("agent add bot", "");
        self.says(&format!("agent bind bot {connection}"), "");
        let token = self.json("agent token add bot");
        token["token"].as_str().expect("shown once").to_owned()
    }

    async fn get(&self, token: &str) -> Message {
        let mut wire = Wire::to(self.served.proxy).await;
        wire.ask(absolute("GET /a", HOST, token)).await
    }

    /// The keys that the API received, in order.
    fn received(&self) -> Vec<String> {
        let keys = self.origin.received();
        keys.iter().map(|it| it.head.one("x-api-key").unwrap_or_default().to_owned()).collect()
    }

    fn leaves(self, others: &[&Canary]) {
        for secret in others.iter().copied().chain([&self.key]) {
            secret.assert_absent("what the commands said", &self.said);
            secret.assert_absent("the gateway's output", self.served.output().as_bytes());
            secret.assert_absent_below(&self.served.data());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_d5_a_connection_is_a_draft_until_the_api_accepts_its_key() {
    let mut desk = Desk::new("").await;
    let key = desk.key.text.clone();
    desk.answers(401, "", "");
    let refused = desk.fails("connection add acme --name crm --secret-stdin api_key", &key);
    assert!(refused.contains("rejected this key (401)"), "{refused}");
    assert!(refused.contains("connection add --resume crm"), "{refused}");
    assert!(desk.says("connection list --state draft", "").contains("crm"));
    let token = desk.agent("crm");
    assert_eq!(desk.get(&token).await.head.status(), 424, "nobody may use it yet");
    desk.answers(200, "", r#"{"login":"alice"}"#);
    let resumed = desk.says("connection add --resume crm", "");
    assert!(resumed.contains("crm is active") && resumed.contains("accepted the key"), "{resumed}");
    assert_eq!(desk.json("connection show crm")["account"], "alice");
    assert_eq!(desk.get(&token).await.text(), "fine");
    assert_eq!(desk.received(), [&*key, &*key, &*key]);
    desk.leaves(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_request_settings_are_what_the_api_receives() {
    let mut desk = Desk::new("").await;
    let key = desk.key.text.clone();
    desk.says("connection add acme --name crm --user-agent acme/1 --secret-stdin api_key", &key);
    desk.says("connection set crm --header X-Env:prod --timeout 5s --rate-limit 2/h", "");
    let token = desk.agent("crm");
    for _ in 0..2 {
        assert_eq!(desk.get(&token).await.text(), "fine");
    }
    let own = desk.get(&token).await;
    assert_eq!(own.head.one("keyward-error"), Some("rate_limited"), "{own:?}");
    let last = desk.origin.received().pop().expect("it came");
    assert_eq!(
        (last.head.all("user-agent"), last.head.all("x-env")),
        (vec!["acme/1"], vec!["prod"])
    );
    desk.leaves(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d6_a_change_is_tested_and_then_saved() {
    let mut desk = Desk::new("").await;
    let key = desk.key.text.clone();
    desk.says("connection add acme --name crm --secret-stdin api_key", &key);
    desk.answers(403, "", "");
    let refused = desk.fails("connection set crm --header X-Team:b --test", "");
    assert!(refused.contains("nothing was changed"), "{refused}");
    assert_eq!(desk.json("connection show crm")["settings"], json!({}));
    desk.answers(200, "", "{}");
    desk.says("connection set crm --header X-Team:b --test", "");
    assert_eq!(desk.json("connection show crm")["settings"], json!({"headers": {"x-team": "b"}}));
    desk.leaves(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_a_key_is_rotated_confirmed_and_rolled_back_without_a_failed_request() {
    let mut desk = Desk::new("").await;
    let (old, new, third) = (desk.key.clone(), Canary::new("newk"), Canary::new("thrd"));
    desk.says(
        "connection add acme --name crm --secret-stdin api_key --rotate-every 90d",
        &old.text,
    );
    let token = desk.agent("crm");
    assert_eq!(desk.get(&token).await.text(), "fine");
    // What the API refuses changes nothing.
    desk.answers(401, "", "");
    let refused = desk.fails("connection rotate crm --secret-stdin api_key", &new.text);
    assert!(refused.contains("the old secret stays in force"), "{refused}");
    desk.answers(200, "", r#"{"login":"alice"}"#);
    let rotated = desk.says("connection rotate crm --secret-stdin api_key", &new.text);
    assert!(rotated.contains("uses the new secret"), "{rotated}");
    assert!(rotated.contains("connection rotate rollback crm"), "{rotated}");
    assert_eq!(desk.get(&token).await.text(), "fine");
    let back = desk.says("connection rotate rollback crm", "");
    assert!(back.contains("uses the old secret again"), "{back}");
    assert_eq!(desk.get(&token).await.text(), "fine");
    desk.says("connection rotate crm --secret-stdin api_key --no-test --expires 5d", &third.text);
    let confirmed = desk.says("connection rotate confirm crm", "");
    assert!(confirmed.contains("the old secret is wiped"), "{confirmed}");
    assert_eq!(desk.get(&token).await.text(), "fine");
    assert!(desk.says("connection list --due", "").contains("crm"), "it ends in five days");
    let (old_key, new_key, third_key) = (&*old.text, &*new.text, &*third.text);
    // Added, used, refused, taken, used, back, used; the third is not tested.
    let sent = [old_key, old_key, new_key, new_key, new_key, old_key, third_key];
    assert_eq!(desk.received(), sent);
    desk.leaves(&[&new, &third]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d10_a_test_says_what_is_wrong_and_what_to_do() {
    let mut desk = Desk::new("").await;
    let key = desk.key.text.clone();
    desk.says("connection add acme --name crm --secret-stdin api_key", &key);
    let needs = "WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"crm.read\"\r\n";
    let long_ago = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (status, fields, says) in [
        (403, needs, "it lacks: crm.read (403)"),
        (403, "X-OAuth-Scopes: user\r\nX-Accepted-OAuth-Scopes: repo\r\n", "it has: user"),
        (404, "", "there is no such API at the address"),
        (429, "Retry-After: 7\r\n", "test it again in 7 s"),
        (503, "", "has an internal error (503)"),
        (401, long_ago, "this machine's clock is"),
        (401, "", "rejected this key (401)"),
    ] {
        desk.answers(status, fields, "");
        let told = desk.fails("connection test crm", "");
        assert!(told.contains(says) && told.contains("hint: "), "{status}: {told}");
    }
    let shown = desk.json("connection show crm");
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("broken"), &json!("test_failed")));
    desk.answers(200, "", r#"{"login":"alice"}"#);
    desk.says("connection test crm", "");
    assert_eq!(desk.json("connection show crm")["state"], "active");
    desk.leaves(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d12_d3_connections_are_described_kept_apart_and_found() {
    let mut desk = Desk::new("").await;
    let key = desk.key.text.clone();
    let add = |name: &str, more: &str| {
        format!("connection add acme --name {name} --secret-stdin api_key {more}")
    };
    desk.says(&add("crm-dev", "--env dev --tag crm --description sandbox"), &key);
    desk.says(&add("crm-prod", "--env production --tag crm --tag paid"), &key);
    let names = |found: &Value| -> Vec<String> {
        let items = found["items"].as_array().expect("a list").clone();
        items.iter().filter_map(|it| it["name"].as_str()).map(str::to_owned).collect()
    };
    assert_eq!(names(&desk.json("connection list --tag crm --env production")), ["crm-prod"]);
    assert_eq!(names(&desk.json("connection list --q SANDBOX")), ["crm-dev"]);
    desk.says("connection set crm-dev --name crm-test --untag crm --tag old", "");
    assert_eq!(names(&desk.json("connection list --tag old")), ["crm-test"]);
    desk.says("agent add robot --env dev", "");
    let refused = desk.fails("agent bind robot crm-prod", "");
    assert!(refused.contains("dev") && refused.contains("production"), "{refused}");
    desk.leaves(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d13_apps_begin_with_templates_of_the_catalogue() {
    let mut desk = Desk::new("").await;
    let google =
        desk.says("app add --template google_workspace --client-id 12-x --public --json", "");
    let google: Value = serde_json::from_str(&google).expect("JSON");
    assert_eq!(google["provider"], "google");
    let scopes: Vec<&str> =
        google["scopes"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for scope in ["gmail.readonly", "calendar.readonly"] {
        assert!(scopes.iter().any(|it| it.ends_with(scope)), "{scopes:?}");
    }
    let settings = &google["settings"];
    assert_eq!(
        (&settings["auto_refresh"], &settings["rate_limit"], &settings["timeout"]),
        (&json!(true), &json!("100/min"), &json!("30s"))
    );
    let slack =
        "app add slack --template slack --client-id 1.2 --timeout 20s --secret-stdin client_secret";
    let secret = desk.key.text.clone();
    desk.says(slack, &secret);
    let slack = desk.json("app show slack");
    assert_eq!(slack["scopes"], json!(["channels:read", "chat:write", "users:read"]));
    assert_eq!(
        (&slack["settings"]["rate_limit"], &slack["settings"]["timeout"]),
        (&json!("50/min"), &json!("20s")),
        "what is given goes before"
    );
    let unknown = desk.run("app add --template nope --client-id x --public", "");
    let told = unknown.failed(2);
    assert!(told.contains("templates: ") && told.contains(" google_workspace, "), "{told}");
    desk.leaves(&[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_app_names_its_redirect_uri_only_for_a_provider_with_a_consent() {
    let mut desk = Desk::new("").await;
    let secret = desk.key.text.clone();
    for (provider, consents) in [("paypal", false), ("ebay", false), ("github", true)] {
        let add = format!("app add {provider} --client-id x --secret-stdin client_secret");
        let told = desk.says(&add, &secret);
        let shown = desk.json(&format!("app show {provider}"));
        let uri = shown["redirect_uri"].as_str().expect("a URL");
        assert!(told.contains(&format!("app {provider} added")), "{told}");
        assert_eq!(told.contains("register this redirect URI at "), consents, "{told}");
        assert_eq!(told.contains(uri), consents, "{told}");
    }
    desk.leaves(&[]);
}

/// D1, D9: an app's own addresses, client and scopes are what the person is sent to, with PKCE and a state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_d9_a_consent_uses_the_client_and_the_scopes_of_its_app() {
    let market = Market::open().await;
    let secret = format!("client_secret={}", market.file("secret", CLIENT_SECRET).display());
    let add = ["app", "add", "svc", "--name", "own", "--client-id", CLIENT, "--scope", "read"];
    market.says(&[&add[..], &["--secret-file", &secret]].concat());
    std::fs::remove_file(market.lab.gateway.folder().join("secret")).expect("it was made");
    let app = market.says(&["app", "show", "own", "--json"]);
    let app: Value = serde_json::from_str(&app).expect("JSON");
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "own" });
    let made = market.api("POST", "/connections", &new).await;
    let mut browser = Browser::new(&market.lab.gateway);
    let url = browser.begin(made["authorize_url"].as_str().expect("a start page")).await;
    assert!(url.starts_with("https://auth.acme.test/authorize?"), "{url}");
    let asked = query(&url);
    assert_eq!((&*asked["client_id"], &*asked["scope"]), (CLIENT, "read"), "no scope more");
    assert_eq!(asked["redirect_uri"], app["redirect_uri"]);
    assert_eq!(asked["code_challenge_method"], "S256");
    assert!(asked["state"].len() >= 22, "{url}");
    let back = market.server.issuer().consent(&url);
    let forged = back.replace(&asked["state"], &"A".repeat(asked["state"].len()));
    assert_eq!(browser.get(&forged).await.head.status(), 400);
    assert_eq!(browser.get(&back).await.head.status(), 303);
    let call = market.server.only_call();
    assert_eq!((call.form["code_verifier"].len() >= 43, call.error), (true, None));
    market.close().await;
}

/// D11: the provider's limit comes through as it is; our own is told as ours; both say when to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d11_a_rate_limit_of_the_provider_is_distinct_from_that_of_the_connection() {
    let origin = Origin::answering(|request| match request.head.target() {
        "/busy" => {
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nX-RateLimit-Remaining: 0\r\n\
                    Content-Length: 4\r\n\r\nbusy"
                .to_owned()
        }
        _ => ok("fine"),
    });
    let lab = Plan::api_key().settings("{ rate_limit: 2/h }").start(origin).await;
    let theirs = lab.ask("GET /busy").await;
    assert_eq!((theirs.head.status(), &*theirs.text()), (429, "busy"));
    assert_eq!(theirs.head.one("retry-after"), Some("7"));
    assert!(!theirs.head.has("keyward-error"), "an upstream's own answer never carries it");
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let ours = lab.ask("GET /a").await;
    assert_eq!(ours.refusal(), (429, Some("rate_limited")));
    assert!(ours.head.has("retry-after") && ours.text().contains("2/h"), "{}", ours.text());
    assert_eq!(lab.origin.received().len(), 2, "the third one was not sent");
    lab.finish().await;
}

/// D14: for local use the key is in a variable of the gateway's; programs get placeholders in theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d14_the_gateway_reads_the_key_from_a_variable_and_programs_get_a_placeholder() {
    let provider = "{ id: desk, name: Desk, hosts: [desk.acme.test], \
                    auth: [{ id: token, kind: bearer, env: [DESK_TOKEN] }] }";
    let connection = "{ name: desk, provider: desk, fields: { token: { env: CANARY } } }";
    let plan =
        |plan: Plan| plan.provider(provider).connection(connection).agent("bot", "acme, desk");
    let market = Market::with(plan).await;
    let script = "env | grep -v '^CANARY=' ; test -z \"$CANARY\" && echo none";
    let did = market.keyward(&["run", "--agent", "bot", "--", "sh", "-c", script]);
    assert_eq!(did.code, 0, "{did:?}");
    assert!(did.out.contains("HTTPS_PROXY=") && did.out.ends_with("none\n"), "{did:?}");
    let placeholder = did.out.lines().find_map(|line| line.strip_prefix("DESK_TOKEN="));
    assert!(placeholder.is_some_and(|it| it.contains("kwph")), "{did:?}");
    assert_eq!(market.gets("bot", STRANGER, "GET /a").await.0, 200);
    let sent = market.lab.origin.only();
    assert_eq!(sent.head.all("x-api-key"), [&*market.lab.canary.text]);
    market.close().await;
}

/// D15: streams to the provider are shared, and what may be sent again is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d15_upstream_streams_are_pooled_and_temporary_failures_are_retried() {
    let tries = Arc::new(Mutex::new(0));
    let counted = tries.clone();
    let origin = Origin::answering(move |request| {
        let mut tries = counted.lock().expect("not poisoned");
        match request.head.target() {
            "/shaky" if *tries < 2 => {
                *tries += 1;
                "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            _ => ok("fine"),
        }
    });
    let plan = Plan::api_key().settings("{ retry: { attempts: 3, on: [503] } }");
    let lab = plan.start(origin).await;
    let mut wire = lab.tunnel(HOST).await;
    for path in ["/a", "/shaky", "/b"] {
        wire.send(request_text(&format!("GET {path}"), HOST)).await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "{path}");
    }
    assert_eq!(*tries.lock().expect("not poisoned"), 2);
    let sent = lab.origin.received();
    let paths: Vec<_> = sent.iter().map(|it| it.head.target().to_owned()).collect();
    assert_eq!(paths, ["/a", "/shaky", "/shaky", "/shaky", "/b"]);
    assert_eq!(lab.origin.streams(), 1, "one stream for all of them");
    lab.finish().await;
}

/// When tokens of agents and of people were last used.
async fn tokens_are_reviewed(market: &Market) {
    let tokens = market.api("GET", "/agents/ci/tokens", &Value::Null).await;
    assert!(tokens["items"][0]["last_used"].is_string(), "{tokens}");
    let tokens = market.api("GET", "/agents/idle/tokens", &Value::Null).await;
    assert!(tokens["items"][0]["last_used"].is_null(), "{tokens}");
    market.says(&["user", "add", "ann", "--role", "auditor"]);
    let made = market.says(&["token", "add", "ann", "--json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let last = async || {
        let all = market.api("GET", "/tokens", &Value::Null).await;
        all["items"][0]["last_used"].clone()
    };
    assert!(last().await.is_null());
    let token = made["token"].as_str().expect("shown once").to_owned();
    let mut review = market.command(&["connection", "usage", "acme"]);
    let output = review.env("KEYWARD_TOKEN", &token).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "an auditor reads: {output:?}");
    assert!(last().await.is_string());
}

/// D7, D8: what a connection was used for is told, by whom, with which failures and how fast; who may use it and
/// when they last did; and when each token was last used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d7_d8_usage_and_access_are_reviewed_by_command() {
    let limited = "HTTP/1.1 503 x\r\nX-Limit-Acme: 60\r\nX-Remaining-Acme: 41\r\nX-Reset-Acme: 4070908800\r\n\
                   Content-Length: 0\r\n\r\n";
    let origin = Origin::answering(move |request| match request.head.target() {
        "/busy" => limited.to_owned(),
        _ => ok("fine"),
    });
    let mut plan = Plan::api_key().settings("{ rate_limit: 3/h }").agent("idle", "acme");
    plan.provider_more =
        ", retry_headers: { reset_at: [x-reset-acme], remaining: [x-remaining-acme] }".to_owned();
    let lab = plan.agent("none", "").start(origin).await;
    let market = Market { lab, server: Authorization::with(Rules::default()).await };
    let before = market.says(&["connection", "usage", "acme", "--json"]);
    let before: Value = serde_json::from_str(&before).expect("JSON");
    assert_eq!((&before["requests"], &before["last_used"]), (&json!(0), &Value::Null));
    for (path, status) in [("/a", 200), ("/busy", 503), ("/b", 200), ("/c", 429)] {
        assert_eq!(market.lab.ask(&format!("GET {path}")).await.head.status(), status, "{path}");
    }
    let usage = until_some("four requests", async || {
        // The record of an exchange ends after its answer.
        let usage = market.api("GET", "/connections/acme/usage", &Value::Null).await;
        (usage["requests"] == 4).then_some(usage)
    })
    .await;
    assert_eq!(usage["failed"], 2, "{usage}");
    assert_eq!(usage["statuses"], json!({ "503": 1 }));
    assert_eq!(usage["refusals"], json!({ "rate_limited": 1 }));
    assert_eq!(usage["provider_limit"]["remaining"], 41, "{usage}");
    assert_eq!(usage["provider_limit"]["limit"], 60);
    assert_eq!(usage["provider_limit"]["resets_at"], "2099-01-01T00:00:00Z");
    assert!(usage["latency_ms"]["p50"].as_u64() <= usage["latency_ms"]["p99"].as_u64(), "{usage}");
    assert!(usage["last_used"].is_string() && usage["bytes_out"].as_u64() >= Some(8), "{usage}");
    let agents: Vec<_> = usage["agents"].as_array().expect("a list").clone();
    let told: Vec<_> = agents.iter().map(|it| (&it["name"], &it["by"], &it["requests"])).collect();
    let (ci, idle) = (json!("ci"), json!("idle"));
    let bound = json!("bound");
    assert_eq!(told, [(&ci, &bound, &json!(4)), (&idle, &bound, &json!(0))], "and nobody else");
    assert!(agents[0]["last_used"].is_string() && agents[1]["last_used"].is_null(), "{usage}");
    let shown = market.says(&["connection", "usage", "acme"]);
    for part in ["503: 1", "rate_limited: 1", "41 of 60 left", "half within", "LAST USED"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    tokens_are_reviewed(&market).await;
    market.ask("GET", "/connections/nope/usage", &Value::Null).await.is(404);
    market.close().await;
}
