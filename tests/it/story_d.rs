//! Story D, agent authentication for developers: each wish told by the command line and the real proxy.

use std::io::Write;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::canary::Canary;
use crate::support::process::Served;
use crate::support::*;

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
        let origin = origin.await;
        let plan = Plan::api_key().test(ME).no_agents().top(settings);
        let variables = [("CANARY", &*plan.canary().text)];
        let served = Served::start(&plan, &origin, &variables);
        Self { served, origin, key: Canary::new("devk"), me, said: vec![] }
    }

    fn answers(&self, status: u16, fields: &str, body: &str) {
        *self.me.lock().expect("not poisoned") = (status, fields.to_owned(), body.to_owned());
    }

    fn run(&mut self, arguments: &str, input: &str) -> Output {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut command = self.served.keyward(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let mut stdin = child.stdin.take().expect("piped");
        // A command that reads nothing may already have ended.
        drop(stdin.write_all(input.as_bytes()));
        drop(stdin);
        let output = child.wait_with_output().expect("our child");
        self.said.extend(&output.stdout);
        self.said.extend(&output.stderr);
        output
    }

    /// What a command says that succeeds.
    fn says(&mut self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, input);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command complains of that fails.
    fn fails(&mut self, arguments: &str, input: &str) -> String {
        let output = self.run(arguments, input);
        assert_eq!(output.status.code(), Some(1), "{arguments}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
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
        let stream = tokio::net::TcpStream::connect(self.served.proxy).await;
        let mut wire = Wire::plain(stream.expect("it listens"));
        wire.send(format!(
            "GET https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        wire.answer("GET").await
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
async fn d2_d5_a_key_is_a_draft_until_the_api_takes_it_and_then_active() {
    let mut desk = Desk::new("").await;
    let key = desk.key.text.clone();
    desk.answers(401, "", "");
    let refused = desk.fails("connection add acme --name crm --secret-stdin api_key", &key);
    assert!(refused.contains("does not take this key (401)"), "{refused}");
    assert!(refused.contains("connection add --resume crm"), "{refused}");
    assert!(desk.says("connection list --state draft", "").contains("crm"));
    let token = desk.agent("crm");
    assert_eq!(desk.get(&token).await.head.status(), 424, "nobody may use it yet");
    desk.answers(200, "", r#"{"login":"alice"}"#);
    let resumed = desk.says("connection add --resume crm", "");
    assert!(resumed.contains("crm is active") && resumed.contains("takes the key"), "{resumed}");
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
        (503, "", "has a fault of its own (503)"),
        (401, long_ago, "this machine's clock is"),
        (401, "", "does not take this key (401)"),
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
    assert_eq!(unknown.status.code(), Some(2));
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(told.contains("there are: google_workspace, slack"), "{told}");
    desk.leaves(&[]);
}
