//! A plugin marketplace: a plugin is installed, its grant is revoked at the provider, it blocks, a reconnect repairs it.
//! Played through the command line and the proxy.

use serde_json::Value;

use test_support::market::{CHAT, Market};
use test_support::{HOST, STRANGER};

const SEND: &str = "POST /send/digest\r\nContent-Length: 0";

/// B1, B2: the manifest declares each connection; what it will reach is told, then it is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_b2_a_plugin_is_installed_and_does_what_its_manifest_says() {
    let market = Market::stocked().await;
    market.install();
    let shown = market.says(&["plugin", "show", "crm-digest"]);
    for text in ["Mails a weekly digest", "ready", "work-crm", "alice@acme.test", "GET", "/send/**"]
    {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert_eq!(market.request("digest", HOST, "GET /deals").await.text(), "fine");
    assert_eq!(market.request("digest", STRANGER, SEND).await.text(), "fine");
    assert_eq!(market.request("digest", CHAT, "GET /ping").await.text(), "fine");
    let refused = market.gets("digest", HOST, "DELETE /deals").await;
    assert_eq!(refused, (403, "denied".to_owned()), "the manifest says GET");
    market.close().await;
}

/// B3: the plugin holds placeholders; only the request that goes out carries the value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_the_plugin_never_holds_a_credential() {
    let market = Market::stocked().await;
    market.install();
    let file = market.manifest(&[]);
    let run = ["run", "--agent", "digest", "--plugin", &*file, "--", "sh", "-c", "env"];
    let did = market.keyward(&run);
    assert_eq!(did.code, 0, "{did:?}");
    // `keyward` looks for the canary in both; the tokens of the consent are looked for here.
    for pair in market.server.calls().into_iter().filter_map(|call| call.issued) {
        assert!(!did.out.contains(&pair.access));
    }
    assert_eq!(market.gets("digest", STRANGER, SEND).await.0, 200);
    let sent = market.lab.origin.only();
    assert_eq!(sent.head.all("x-api-key"), [&*market.lab.canary.text]);
    market.close().await;
}

/// B4: what is not known is named before anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b4_an_unknown_provider_is_reported_before_any_slot() {
    let market = Market::stocked().await;
    let file = market.manifest(&[("provider: acme", "provider: acne")]);
    let did = market.keyward(&["plugin", "install", &file, "--agent", "nobody-yet"]);
    assert!(did.err.contains("there is no provider `acne`; did you mean `acme`?"), "{did:?}");
    assert!(!did.err.contains("slot `"), "{did:?}");
    market.close().await;
}

/// B5: a second plugin takes the same account without another consent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b5_two_plugins_share_an_account() {
    let market = Market::stocked().await;
    market.install();
    let file = market.file(
        "second.yaml",
        "plugin: forecast\nversion: 0.1.0\nconnections:\n  - { slot: crm, provider: svc }\n",
    );
    let file = file.display().to_string();
    let before = market.server.calls().len();
    let install = ["plugin", "install", &*file, "--agent", "digest", "--yes"];
    market.says(&[&install[..], &["--slot", "crm=work-crm"]].concat());
    assert_eq!(market.server.calls().len(), before, "nobody was asked to consent");
    assert_eq!(market.gets("digest", HOST, "DELETE /deals").await.0, 200, "the second one may");
    market.close().await;
}

/// B6, B7: the grant is revoked at the provider: the connection breaks, the plugin blocks with all that it
/// does, and a reconnect in place repairs it, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b6_b7_a_revoked_grant_blocks_the_plugin_until_it_is_reconnected() {
    let market = Market::stocked().await;
    market.install();
    let before = market.plugin("crm-digest").await;
    market.server.issuer().end_all();
    let refused = market.request("digest", HOST, "GET /deals").await;
    assert_eq!(refused.head.one("keyward-error"), Some("connection_broken"), "{}", refused.text());
    let refused = market.until("plugin_blocked", ("digest", STRANGER), SEND).await.is(424);
    let said = refused.text();
    for name in ["crm-digest", "`crm`", "work-crm", "revoked", "connection reconnect work-crm"] {
        assert!(said.contains(name), "{name}: {said}");
    }
    let list = market.says(&["plugin", "list"]);
    assert!(list.contains("blocked: slot crm: connection `work-crm` is broken: revoked"), "{list}");
    // One command mends what is broken in it.
    let mut mending = market.terminal(&["plugin", "reconnect", "crm-digest", "--no-browser"]);
    mending.shows("slot crm: connection work-crm");
    let link = mending.rest_of("/oauth/start/");
    market.consents(&format!("/oauth/start/{link}")).await;
    mending.shows("plugin crm-digest of agent digest is ready");
    mending.ends_with(0);
    assert_eq!(market.request("digest", HOST, "GET /deals").await.text(), "fine");
    assert_eq!(market.gets("digest", STRANGER, SEND).await.0, 200);
    let after = market.plugin("crm-digest").await;
    assert_eq!(after["slots"], before["slots"], "the same account in the same place");
    let issued: Vec<_> = market.server.calls().into_iter().filter_map(|it| it.issued).collect();
    let sent = market.lab.origin.received();
    let last = sent.iter().rfind(|request| request.head.one("host") == Some(HOST));
    let last = last.expect("it arrived").head.all("authorization")[0].to_owned();
    assert_eq!(last, format!("Bearer {}", issued.last().expect("tokens").access));
    market.close().await;
}

/// B8: an optional connection drops without a word; a required one fails the next run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_a_removed_connection_degrades_or_fails_the_next_run() {
    let market = Market::stocked().await;
    market.install();
    let file = market.manifest(&[]);
    let run = ["run", "--agent", "digest", "--plugin", &*file, "--", "sh", "-c", "echo ran"];
    let said = market.says(&["connection", "remove", "alerts"]);
    assert!(said.contains("plugin crm-digest of agent digest is degraded now"), "{said}");
    let did = market.keyward(&run);
    assert_eq!((did.code, &*did.out), (0, "ran\n"), "{did:?}");
    assert!(!did.err.contains("chat") && !did.err.contains("degraded"), "silently: {did:?}");
    let said = market.says(&["connection", "remove", "sender"]);
    assert!(said.contains("plugin crm-digest of agent digest is blocked now"), "{said}");
    let did = market.keyward(&run);
    assert_eq!((did.code, &*did.out), (125, ""), "{did:?}");
    assert!(did.err.contains("slot `mail` is empty"), "{did:?}");
    market.close().await;
}

/// B9: removing revokes nothing at the provider, and says so; asked to, it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b9_removing_a_plugin_leaves_accounts_and_says_which() {
    let market = Market::stocked().await;
    market.install();
    market.says(&["agent", "bind", "digest", "alerts"]);
    let said = market.says(&["plugin", "remove", "crm-digest"]);
    for line in [
        "plugin crm-digest removed\n",
        "its connections stay, and nothing was revoked at their providers:\n",
        "  work-crm (svc): unused: keyward connection remove work-crm --revoke\n",
        "  alerts (chat): used by digest\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(market.server.issuer().revoked().is_empty());
    assert_eq!(market.gets("digest", HOST, "GET /deals").await.1, "default_deny");
    assert_eq!(market.gets("digest", CHAT, "GET /ping").await.0, 200, "the agent's own stays");
    let said = market.says(&["connection", "remove", "work-crm", "--revoke"]);
    assert!(said.contains("the access is revoked at the provider"), "{said}");
    assert_eq!(market.server.issuer().revoked().len(), 2);
    assert_eq!(market.api("GET", "/plugins", &Value::Null).await["items"], Value::Array(vec![]));
    market.close().await;
}
