//! `keyward plugin install` at a real terminal: slot by slot, then a summary, then it is stored; and what an
//! end in between leaves.

use rustix::process::Signal;
use serde_json::Value;

use test_support::STRANGER;
use test_support::market::{MANIFEST, Market};

async fn ended(market: &Market, terminal: test_support::pty::Terminal) -> (Option<i32>, String) {
    let (code, shown) = terminal.ends();
    market.lab.canary.assert_absent("the terminal", shown.as_bytes());
    (code, shown)
}

async fn plugins(market: &Market) -> usize {
    let all = market.api("GET", "/plugins", &Value::Null).await;
    all["items"].as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_asks_for_each_slot_and_shows_a_summary_before_it_installs() {
    let mut market = Market::open().await;
    market.lab.add_agent("digest").await;
    market.consented("work-crm").await;
    let file = market.manifest(&[]);
    let mut walk = market.terminal(&["plugin", "install", &file, "--agent", "digest"]);
    walk.shows("crm-digest 1.2.0: Mails a weekly digest of the CRM.");
    walk.shows("1 of 3: CRM account (Service, required)");
    walk.shows("Reads deals.");
    walk.shows("methods: GET");
    walk.shows("scopes: read");
    walk.asks("> work-crm (alice@acme.test)", "\r");
    walk.shows("2 of 3: Sender (Acme, required)");
    // The file's own `acme` is there; another one is made, by pasting its key.
    walk.asks("> acme", "\u{1b}[B");
    walk.asks("> connect another account at Acme", "\r");
    walk.asks("name of the connection [acme-2]: ", "sender\r");
    walk.shows("(not shown): ");
    assert!(!walk.echoes());
    walk.types(&format!("{}\r", market.lab.canary.text));
    walk.shows("connection sender added (con_");
    walk.shows("3 of 3: Alerts (Chat, optional)");
    walk.asks("> connect an account at Chat", "\u{1b}[B");
    walk.asks("> leave it empty", "\r");
    walk.shows("crm-digest 1.2.0 of agent digest will reach:");
    walk.shows("empty, optional");
    walk.shows("> install it");
    assert_eq!(plugins(&market).await, 0, "nothing is stored before");
    walk.types("\r");
    walk.shows("plugin crm-digest 1.2.0 installed for agent digest: ready");
    let (code, shown) = ended(&market, walk).await;
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(market.gets("digest", STRANGER, "GET /send/x").await.0, 200);
    let received = market.lab.origin.received();
    let keys: Vec<_> = received.iter().flat_map(|request| request.head.all("x-api-key")).collect();
    assert_eq!(keys, [&*market.lab.canary.text]);
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_filled_by_a_consent_during_the_walk() {
    let mut market = Market::open().await;
    market.lab.add_agent("digest").await;
    market.keyed("acme", "sender").await;
    let file = market.manifest(&[]);
    let given = ["--slot", "mail=sender", "--skip", "chat", "--no-browser"];
    let head = ["plugin", "install", &*file, "--agent", "digest"];
    let mut walk = market.terminal(&[&head[..], &given].concat());
    walk.shows("1 of 1: CRM account (Service, required)");
    walk.asks("> connect an account at Service", "\r");
    walk.asks("name of the connection [svc]: ", "\r");
    walk.shows("open this page in your browser and consent:");
    let link = walk.rest_of("/oauth/start/");
    market.consents(&format!("/oauth/start/{link}")).await;
    walk.shows("connection svc added (con_");
    walk.asks("> install it", "\r");
    walk.shows("installed for agent digest: ready");
    let (code, shown) = ended(&market, walk).await;
    assert_eq!(code, Some(0), "{shown}");
    let call = market.server.only_call();
    assert!(call.error.is_none(), "{call:?}");
    assert_eq!(market.state("crm-digest").await, "ready");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_ends_early_stores_no_plugin_and_names_what_it_made() {
    let market = Market::stocked().await;
    let file = market.manifest(&[]);
    // At the first question: nothing was made.
    let mut walk = market.terminal(&["plugin", "install", &file, "--agent", "fresh"]);
    walk.asks("> work-crm", "\u{3}");
    walk.shows("error: interrupted: the plugin was not installed");
    let (code, shown) = ended(&market, walk).await;
    assert_eq!(code, Some(130), "{shown}");
    assert!(!shown.contains("kept:"), "{shown}");
    // After a key was pasted, at the summary.
    let given = ["--slot", "crm=work-crm", "--skip", "chat"];
    let head = ["plugin", "install", &*file, "--agent", "fresh"];
    let mut walk = market.terminal(&[&head[..], &given].concat());
    walk.asks("> acme", "\u{1b}[A");
    walk.asks("> connect another account at Acme", "\r");
    walk.asks("name of the connection [acme-2]: ", "pasted\r");
    walk.asks("(not shown): ", &format!("{}\r", market.lab.canary.text));
    walk.asks("> install it", "\u{1b}[B");
    walk.asks("> stop", "\r");
    walk.shows("kept: connections that were created: pasted");
    walk.shows("error: interrupted: the plugin was not installed");
    let (code, shown) = ended(&market, walk).await;
    assert_eq!(code, Some(130), "{shown}");
    assert_eq!(plugins(&market).await, 0);
    assert_eq!(market.ask("GET", "/agents/fresh", &Value::Null).await.head.status(), 404);
    assert_eq!(market.ask("GET", "/connections/pasted", &Value::Null).await.head.status(), 200);
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_during_a_consent_ends_the_walk_also_after_an_account_was_connected() {
    let mut market = Market::open().await;
    market.lab.add_agent("digest").await;
    market.consented("work-crm").await;
    // The slot of the consent is the last one, and asks for what `work-crm` was not granted.
    let crm = MANIFEST.lines().find(|line| line.contains("slot: crm")).expect("a slot");
    let chat = MANIFEST.lines().last().expect("a slot");
    let last = format!("{chat}\n{}", crm.replace("[read]", "[write]"));
    let file = market.manifest(&[(crm, ""), (chat, &last)]);
    let given = ["--skip", "chat", "--no-browser"];
    let head = ["plugin", "install", &*file, "--agent", "digest"];
    let mut walk = market.terminal(&[&head[..], &given].concat());
    walk.shows("1 of 2: Sender");
    walk.asks("> acme", "\u{1b}[A");
    walk.asks("> connect another account at Acme", "\r");
    walk.asks("name of the connection [acme-2]: ", "sender\r");
    walk.asks("(not shown): ", &format!("{}\r", market.lab.canary.text));
    walk.shows("2 of 2: CRM account");
    walk.asks("> work-crm", "\r");
    walk.asks("work-crm was not granted write", "\u{1b}[A");
    walk.asks("> consent again", "\r");
    walk.shows("open this page in your browser and consent:");
    walk.signal(Signal::INT);
    walk.shows("kept: connections that were created: sender");
    walk.shows("error: interrupted: the plugin was not installed");
    let (code, shown) = ended(&market, walk).await;
    assert_eq!(code, Some(130), "{shown}");
    assert_eq!(plugins(&market).await, 0);
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_not_known_ends_the_walk_before_its_first_question() {
    let market = Market::stocked().await;
    let file = market.manifest(&[("provider: chat", "provider: nowhere-at-all")]);
    let walk = market.terminal(&["plugin", "install", &file, "--agent", "digest"]);
    let (code, shown) = ended(&market, walk).await;
    assert_eq!(code, Some(1), "{shown}");
    // The terminal folds it.
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("there is no provider `nowhere-at-all`"), "{shown}");
    assert!(!shown.contains("1 of 3"), "{shown}");
    market.close().await;
}
