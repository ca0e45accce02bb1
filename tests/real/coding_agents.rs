//! Coding agents with a subscription: Codex with a login of ChatGPT that `keyward import` took, and Claude Code with a
//! token of `claude setup-token`. Both call the vendors' real hosts, whose origin accepts only the live tokens.

use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::stage::{installed, run, said};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

const CHATGPT: &str = "chatgpt.com";
const LOGIN: &str = "auth.openai.com";
const ANTHROPIC: &str = "api.anthropic.com";
const ACCOUNT: &str = "0b3c5a7e-account-of-the-person";

/// The client of Codex, in its source.
const CLIENT: &str = "app_EMoamEEZ73f0CkXaXp7hrann";

/// ChatGPT and its authorization server, whose refresh tokens are valid once.
#[derive(Default)]
struct Vendor {
    renewals: AtomicUsize,
    /// Access tokens up to this number are refused.
    ended: AtomicUsize,
    /// Refresh tokens in the order of their use.
    used: Mutex<Vec<String>>,
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// An access token that is valid until 2100.
fn access(number: usize) -> String {
    format!(
        "{}.{}.live-access-{number}",
        part(&json!({ "alg": "RS256" })),
        part(&json!({ "exp": 4_102_444_800_u64 }))
    )
}

fn refresh(number: usize) -> String {
    format!("rt_live-refresh-token-of-the-person-{number}")
}

fn status(code: u16, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn stream(events: &[Value]) -> String {
    let each = events.iter().map(|event| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"))
    });
    let body: String = each.collect();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Vendor {
    fn answer(&self, request: &Message) -> String {
        match request.head.one("host") {
            Some(LOGIN) => self.renewal(request),
            Some(CHATGPT) => self.chatgpt(request),
            _ => anthropic(request),
        }
    }

    fn renewal(&self, request: &Message) -> String {
        let asked = request.json();
        let number = self.renewals.fetch_add(1, Ordering::SeqCst);
        self.used.lock().expect("not poisoned").push(asked["refresh_token"].to_string());
        if asked["refresh_token"] != refresh(number).as_str() || asked["client_id"] != CLIENT {
            return status(401, &json!({ "error": { "code": "refresh_token_reused" } }));
        }
        let tokens = json!({ "id_token": "x.y.z", "access_token": access(number + 1), "refresh_token": refresh(number + 1) });
        status(200, &tokens)
    }

    fn chatgpt(&self, request: &Message) -> String {
        let number = self.renewals.load(Ordering::SeqCst);
        let live = format!("Bearer {}", access(number));
        let is_live = request.head.one("authorization") == Some(&*live);
        let path = request.head.target().to_owned();
        match path.split('?').next().unwrap_or_default() {
            _ if !is_live || number <= self.ended.load(Ordering::SeqCst) => {
                status(401, &json!({ "detail": "Unauthorized" }))
            }
            "/backend-api/wham/accounts/check" => status(
                200,
                &json!({ "accounts": [{ "id": ACCOUNT, "workspace_backend_origin": "https://chatgpt.com", "account_routing_override": "us" }] }),
            ),
            "/backend-api/codex/responses" if request.head.method() == "POST" => stream(&[
                json!({ "type": "response.created", "response": { "id": "r1" } }),
                json!({ "type": "response.output_item.done", "item": { "type": "message", "role": "assistant", "id": "m1",
                    "content": [{ "type": "output_text", "text": "fine, says ChatGPT" }] } }),
                json!({ "type": "response.completed", "response": { "id": "r1", "usage": { "input_tokens": 1,
                    "input_tokens_details": null, "output_tokens": 1, "output_tokens_details": null, "total_tokens": 2 } } }),
            ]),
            // Without WebSockets, Codex asks by HTTPS.
            "/backend-api/codex/responses" => status(426, &json!({})),
            _ => status(404, &json!({})),
        }
    }
}

fn anthropic(request: &Message) -> String {
    match request.head.target().split('?').next() {
        Some("/v1/messages") => stream(&[
            json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
                "content": [], "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 1, "output_tokens": 1 } } }),
            json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "fine, says Claude" } }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": { "output_tokens": 3 } }),
            json!({ "type": "message_stop" }),
        ]),
        _ => ok("{}"),
    }
}

struct Desk {
    install: Install,
    origin: Origin,
    vendor: Arc<Vendor>,
    /// No file of the person and no output has them.
    live: Vec<Canary>,
}

impl Desk {
    async fn new(plan: Plan) -> Self {
        let vendor = Arc::new(Vendor::default());
        let answering = Arc::clone(&vendor);
        let names = [CHATGPT, LOGIN, ANTHROPIC];
        let origin = Origin::answering_as(&names, move |message| answering.answer(message));
        let plan = names
            .iter()
            .fold(plan, |plan, name| plan.resolve(&format!("{name}: \"{}\"", origin.addr)));
        let mut live = vec![plan.canary().clone()];
        live.extend(
            (0..4).flat_map(|number| [Canary::of(access(number)), Canary::of(refresh(number))]),
        );
        Self { install: Install::new(&plan, &origin), origin, vendor, live }
    }

    async fn runs(&self, arguments: &[&str]) -> Output {
        let mut command = self.install.keyward(arguments);
        command
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_AUTOUPDATER", "1");
        let output = run(command).await;
        for secret in &self.live {
            secret.assert_absent("what the program said", said(&output).as_bytes());
        }
        output
    }

    /// What arrived at the host and path.
    fn to(&self, host: &str, path: &str) -> Vec<Message> {
        let all = self.origin.received().into_iter();
        let is_it = |it: &Message| {
            it.head.one("host") == Some(host) && it.head.target().split('?').next() == Some(path)
        };
        all.filter(is_it).collect()
    }

    fn login(&self) {
        let claims = json!({ "email": "ann@b.test", "https://api.openai.com/auth": {
            "chatgpt_plan_type": "plus", "chatgpt_account_id": ACCOUNT, "chatgpt_user_id": "user-1" } });
        let identity = format!("{}.{}.signature", part(&json!({ "alg": "RS256" })), part(&claims));
        let login = json!({ "auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2026-01-01T00:00:00Z",
            "tokens": { "id_token": identity, "access_token": access(0), "refresh_token": refresh(0), "account_id": ACCOUNT } });
        let folder = self.install.folder().join(".codex");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("auth.json"), login.to_string()).expect("a file");
    }

    fn codex_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.install.folder().join(".codex").join(name)).expect(name)
    }
}

/// A question to Codex, as a script asks one.
async fn asks_codex(desk: &Desk) -> Output {
    let codex = installed("real-node/node_modules/.bin/codex").display().to_string();
    let arguments =
        ["run", "--agent", "codex", "--", &codex, "exec", "--skip-git-repo-check", "say fine"];
    desk.runs(&arguments).await
}

/// Claude Code of the package for this machine.
fn claude() -> String {
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let package =
        format!("real-node/node_modules/@anthropic-ai/claude-code-linux-{machine}/claude");
    installed(&package).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_asks_with_an_imported_login_and_holds_no_token_of_it() {
    let desk = Desk::new(Plan::api_key().no_agents()).await;
    desk.login();
    let before = desk.codex_file("auth.json");
    let output = desk.runs(&["import", "codex", "--agent", "codex", "--yes"]).await;
    assert!(output.status.success(), "{}", said(&output));
    let file = desk.codex_file("auth.json");
    for secret in &desk.live {
        secret.assert_absent("auth.json", file.as_bytes());
    }
    assert_eq!(desk.codex_file(".keyward-backup/auth.json"), before);
    let output = asks_codex(&desk).await;
    assert!(
        output.status.success() && said(&output).contains("fine, says ChatGPT"),
        "{}",
        said(&output)
    );
    let asked = desk.to(CHATGPT, "/backend-api/codex/responses");
    let asked = asked.iter().find(|it| it.head.method() == "POST").expect("a question");
    assert_eq!(asked.head.one("authorization"), Some(&*format!("Bearer {}", access(1))));
    assert_eq!(asked.head.one("chatgpt-account-id"), Some(ACCOUNT));
    assert_eq!(desk.codex_file("auth.json"), file, "Codex does not renew the login itself");
    // The service ends the access token: the refresh token of the last answer renews it, each one once.
    desk.vendor.ended.store(1, Ordering::SeqCst);
    let output = asks_codex(&desk).await;
    assert!(
        output.status.success() && said(&output).contains("fine, says ChatGPT"),
        "{}",
        said(&output)
    );
    let used = desk.vendor.used.lock().expect("not poisoned").clone();
    assert_eq!(used, [0, 1].map(|number| json!(refresh(number)).to_string()));
    // Nothing else of the website gets the token.
    let others = desk.origin.received().into_iter().filter(|it| {
        it.head.one("host") == Some(CHATGPT)
            && !["/backend-api/codex/", "/backend-api/wham/"]
                .iter()
                .any(|path| it.head.target().starts_with(path))
    });
    assert_eq!(others.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_claude_code_is_not_imported_and_gets_a_hint_to_setup_token() {
    let desk = Desk::new(Plan::api_key().no_agents()).await;
    let folder = desk.install.folder().join(".claude");
    std::fs::create_dir_all(&folder).expect("a folder");
    let text = json!({ "claudeAiOauth": { "accessToken": access(1), "refreshToken": refresh(1) } })
        .to_string();
    std::fs::write(folder.join(".credentials.json"), &text).expect("a file");
    let output = desk.runs(&["import", "claude", "--yes"]).await;
    let told = said(&output);
    assert!(told.contains("not imported:") && told.contains("claude setup-token"), "{told}");
    assert_eq!(std::fs::read_to_string(folder.join(".credentials.json")).expect("a file"), text);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 1, "nothing beside it");
}

#[tokio::test(flavor = "multi_thread")]
async fn claude_code_asks_with_the_token_of_a_subscription_and_does_not_hold_it() {
    let plan = Plan::api_key().no_agents();
    let plan = plan.connection(
        "{ name: claude, provider: anthropic, auth: oauth_token, fields: { token: { env: CANARY } } }",
    );
    let desk = Desk::new(plan.agent("ci", "claude")).await;
    let claude = claude();
    let output = desk.runs(&["run", "--agent", "ci", "--", &claude, "-p", "say fine"]).await;
    assert!(
        output.status.success() && said(&output).contains("fine, says Claude"),
        "{}",
        said(&output)
    );
    let asked = desk.to(ANTHROPIC, "/v1/messages");
    assert!(!asked.is_empty());
    for request in asked {
        let live = format!("Bearer {}", desk.live[0].text);
        assert_eq!(request.head.all("authorization"), [&*live]);
        assert!(!request.head.has("x-api-key"));
        let betas = request.head.all("anthropic-beta").join(",");
        assert!(
            betas.contains("oauth-"),
            "the API takes these tokens with that beta alone: {betas}"
        );
    }
}
