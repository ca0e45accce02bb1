//! Honeytokens that the configuration declares: one text over reloads and restarts, removed with their line, and
//! read-only for everybody else.

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::hooks::Hooks;
use test_support::market::Market;
use test_support::*;

/// A lab whose webhook is told of honeytokens, with these in its file.
struct Baited {
    lab: Lab,
    hooks: Hooks,
    key: Canary,
}

impl Baited {
    async fn with(items: &[&str]) -> Self {
        let hooks = Hooks::start().await;
        let plan = hooks.reached(Plan::api_key()).top(&section(items));
        let mut lab = plan.start(Origin::saying("fine")).await;
        lab.add_agent("bot").await;
        let bound = lab.gateway.api("POST", "/agents/bot/bindings", r#"{"connection":"acme"}"#);
        assert_eq!(bound.await.head.status(), 201);
        let key = hooks.subscribed(&mut lab, &["honeytoken.used"]).await;
        Self { lab, hooks, key }
    }

    /// Has other honeytokens read: what is wrong with them.
    async fn reads(&self, items: &[&str]) -> String {
        let file = self.lab.gateway.folder().join("keyward.yaml");
        let yaml = std::fs::read_to_string(&file).expect("the configuration");
        let (before, _) = yaml.split_once("honeytokens:").expect("they are last");
        std::fs::write(&file, format!("{before}{}", section(items))).expect("a file");
        let asked = self.lab.gateway.running().reloads().reload();
        patiently("reloading", asked).await.expect("it runs").errors.join("\n")
    }

    async fn becomes(&self, items: &[&str]) {
        assert_eq!(self.reads(items).await, "", "{items:?}");
    }

    async fn shown(&self, name: &str) -> Value {
        self.lab.gateway.api("GET", &format!("/honeytokens/{name}"), "").await.is(200).json()
    }

    async fn is_there(&self, name: &str) -> bool {
        let shown = self.lab.gateway.api("GET", &format!("/honeytokens/{name}"), "").await;
        shown.head.status() == 200
    }

    /// `bot` sends it, and is refused as for any unknown placeholder.
    async fn is_sent(&self, text: &str) {
        let mut wire = self.lab.tunnel_as("bot", HOST).await;
        wire.send(format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nX-Api-Key: {text}\r\n\r\n")).await;
        let answer = wire.answer("GET").await;
        assert_eq!(answer.json()["error"]["code"], "placeholder_foreign", "{}", answer.text());
    }
}

fn section(items: &[&str]) -> String {
    let items: String = items.iter().map(|item| format!("  - {item}\n")).collect();
    format!("honeytokens:\n{items}")
}

fn text(shown: &Value) -> String {
    shown["text"].as_str().expect("its text").to_owned()
}

#[tokio::test]
async fn an_invalid_honeytoken_is_refused_by_line_with_a_remedy_and_changes_nothing() {
    let baited = Baited::with(&["{ name: readme }"]).await;
    let made = json!({"name": "stored"}).to_string();
    baited.lab.gateway.api("POST", "/honeytokens", &made).await.is(201);
    let before = baited.shown("readme").await;
    let many: Vec<String> = (0..1_000).map(|n| format!("{{ name: n{n} }}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (items, says) in [
        (&["{ provider: acme }"][..], "honeytokens[0]: `name` is missing; add `name:`"),
        (&["{ name: .. }"], "honeytokens[0].name: `name` must be 1 to 64 letters"),
        (&["{ name: hny_x }"], "honeytokens[0].name: `name` must be 1 to 64 letters"),
        (
            &["{ name: a }", "{ name: b }", "{ name: a, provider: acme }"],
            "honeytokens[2].name: the name `a` is used twice; rename or remove one",
        ),
        (
            &["{ name: a, provider: acne }"],
            "honeytokens[0].provider: there is no provider `acne`; did you mean `acme`?",
        ),
        (&["{ name: a, revoked: true }"], "unknown key `revoked`; did you mean `revokes`?"),
        (&["{ name: a, revokes: perhaps }"], "honeytokens[0].revokes"),
        (&["{ name: a, revoke: perhaps }"], "honeytokens[0]"),
        (&["{ name: a, revoke: true, revokes: true }"], "unknown key `revoke`"),
        (&["{ name: a, org: A B }"], "honeytokens[0].org: this is not the name"),
        (
            &["{ name: stored }"],
            "honeytokens[0]: honeytoken `stored`: a stored honeytoken has this name; rename one of them",
        ),
        (&many, "honeytokens[999]: honeytoken `n999`: its organisation has 1000 already"),
    ] {
        let told = baited.reads(items).await;
        assert!(told.contains(says) && told.contains("keyward.yaml:"), "{says}: {told}");
        assert_eq!(baited.shown("readme").await, before, "{says}");
        assert!(!baited.is_there("a").await && !baited.is_there("b").await, "{says}");
    }
    baited.lab.finish().await;
}

#[tokio::test]
async fn a_declared_honeytoken_keeps_its_text_over_restarts_and_raises_an_event() {
    let mut baited =
        Baited::with(&["{ name: readme, provider: openai }", "{ name: wiki, org: elsewhere }"])
            .await;
    let before = baited.shown("readme").await;
    assert_eq!((&before["managed_by"], &before["revokes"]), (&json!("file"), &json!(false)));
    assert!(text(&before).starts_with("sk-"), "in the shape of its provider's keys: {before}");
    assert!(!baited.is_there("wiki").await, "it is the other organisation's");
    let theirs = "keyward-org: elsewhere\r\n";
    let wiki = baited.lab.gateway.api_with(theirs, ("GET", "/honeytokens/wiki"), "").await.is(200);
    let more =
        ["{ name: other }", "{ name: readme, provider: openai }", "{ name: wiki, org: elsewhere }"];
    baited.becomes(&more).await;
    assert_eq!(baited.shown("readme").await, before);
    baited.lab.gateway.restart().await;
    assert_eq!(baited.shown("readme").await, before);
    // What the other organisation's would raise, the next event is not.
    baited.is_sent(&text(&wiki.json())).await;
    baited.is_sent(&text(&before)).await;
    let event = baited.hooks.event(&baited.key).await;
    assert_eq!(
        (&event.data["honeytoken"], &event.data["detail"]),
        (&json!("readme"), &Value::Null)
    );
    baited.lab.finish().await;
}

#[tokio::test]
async fn a_changed_revoke_key_keeps_the_text_and_a_changed_provider_replaces_it() {
    let mut baited = Baited::with(&["{ name: readme, provider: openai }"]).await;
    let before = baited.shown("readme").await;
    baited.becomes(&["{ name: readme, provider: acme }"]).await;
    let other = baited.shown("readme").await;
    assert_ne!((text(&other), &other["id"]), (text(&before), &before["id"]));
    assert_eq!(other["provider"], "acme");
    baited.becomes(&["{ name: readme, provider: acme, revoke: true }"]).await;
    let revokes = baited.shown("readme").await;
    assert_eq!((text(&revokes), &revokes["revokes"]), (text(&other), &json!(true)));
    // The text before is a placeholder that nobody knows: no alarm, and no token is revoked.
    baited.is_sent(&text(&before)).await;
    baited.is_sent(&text(&other)).await;
    let event = baited.hooks.event(&baited.key).await;
    assert_eq!(event.data["detail"], "token revoked", "{event:?}");
    let mut wire = baited.lab.client().await;
    let who = baited.lab.authorization("bot");
    wire.ask(format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n{who}\r\n")).await.is(407);
    let records = baited.lab.finish_with_changes().await;
    let used = records.iter().filter(|it| it["change"]["event"] == "honeytoken.used").count();
    assert_eq!(used, 1);
    let by_file: Vec<_> = records
        .iter()
        .map(|record| &record["change"])
        .filter(|change| change["by"] == "file" && change["what"] == "honeytoken")
        .map(|change| change["action"].clone())
        .collect();
    assert_eq!(by_file, ["added", "removed", "added", "changed"]);
}

#[tokio::test]
async fn a_honeytoken_that_leaves_the_file_is_removed_and_stored_ones_are_kept() {
    let baited = Baited::with(&["{ name: readme }", "{ name: wiki }"]).await;
    let made = json!({"name": "by-hand", "revokes": true}).to_string();
    let made = baited.lab.gateway.api("POST", "/honeytokens", &made).await.json();
    assert_eq!(made["managed_by"], "store");
    let gone = text(&baited.shown("readme").await);
    baited.becomes(&["{ name: wiki }"]).await;
    assert!(!baited.is_there("readme").await);
    assert!(baited.is_there("wiki").await);
    assert_eq!(baited.shown("by-hand").await, made);
    baited.is_sent(&gone).await;
    // Its name is free, and what takes it is another one.
    baited.becomes(&["{ name: wiki }", "{ name: readme }"]).await;
    assert_ne!(text(&baited.shown("readme").await), gone);
    assert_eq!(baited.shown("by-hand").await, made);
    let records = baited.lab.finish_with_changes().await;
    assert!(!records.iter().any(|it| it["change"]["event"] == "honeytoken.used"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_show_what_the_file_declares_and_do_not_remove_it() {
    let market = Market::with(|plan| {
        plan.top(&section(&["{ name: readme, provider: github, revoke: true }"]))
    })
    .await;
    market.says(&["honeytoken", "add", "by-hand"]);
    let again = market.says(&["honeytoken", "show", "readme", "--json"]);
    let shown: Value = serde_json::from_str(&again).expect("JSON");
    assert!(text(&shown).starts_with("gh"), "{shown}");
    let told = market.says(&["honeytoken", "show", "readme"]);
    for part in [&*text(&shown), "shape of", "github", "managed by", "file", "yes"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let list = market.says(&["honeytoken", "list"]);
    assert!(
        list.contains("MANAGED BY") && list.contains("file") && list.contains("store"),
        "{list}"
    );
    let refused = market.keyward(&["honeytoken", "remove", "readme"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains(
            "error: honeytoken `readme` is managed by the configuration file\nhint: remove it under \
             `honeytokens:`"
        ),
        "{refused:?}"
    );
    let unknown = market.keyward(&["honeytoken", "show", "readmee"]);
    assert_eq!(unknown.code, 5, "{unknown:?}");
    assert_eq!(market.says(&["honeytoken", "show", "readme", "--json"]), again);
    market.says(&["honeytoken", "remove", "by-hand"]);
    assert!(!market.says(&["honeytoken", "list"]).contains("by-hand"));
    market.close().await;
}
