//! `keyward plugin` without a terminal, as in CI: it names missing answers, stores nothing without agreement, and reports
//! what is left to do.

use serde_json::{Value, json};

use test_support::market::Market;
use test_support::{HOST, STRANGER};

const ALL: &[&str] = &["--slot", "crm=work-crm", "--slot", "mail=sender", "--slot", "chat=alerts"];

fn install<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["plugin", "install", file, "--agent", "digest"], more].concat()
}

async fn is_nothing_stored(market: &Market) {
    let all = market.api("GET", "/plugins", &Value::Null).await;
    assert_eq!(all["items"], json!([]));
    let agent = market.api("GET", "/agents/digest", &Value::Null).await;
    assert_eq!(agent["bindings"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugin_check_reports_every_fault_of_a_manifest_with_its_line() {
    let market = Market::open().await;
    let file = market.manifest(&[
        ("1.2.0", "soon"),
        ("provider: chat", "provider: chta"),
        ("methods: [GET]", "methods: []"),
        ("label: Sender", "lable: Sender"),
    ]);
    let did = market.keyward(&["plugin", "check", &file]);
    assert_eq!(did.code, 1);
    for line in [
        "keyward-plugin.yaml:2: version: this is not a version",
        "keyward-plugin.yaml:5: connections[0].methods: the list is empty: name one, or omit the key",
        "keyward-plugin.yaml:6: connections[1].lable: unknown key `lable`; did you mean `label`?",
        "keyward-plugin.yaml:7: connections[2].provider: there is no provider `chta`; did you mean `chat`?",
    ] {
        assert!(did.err.contains(line), "{}", did.err);
    }
    assert!(did.err.contains("hint: only built-in providers"), "{}", did.err);
    let file = market.manifest(&[]);
    assert_eq!(market.says(&["plugin", "check", &file]), "crm-digest 1.2.0 is valid\n");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_install_without_all_choices_names_every_open_slot_and_stores_nothing() {
    let market = Market::stocked().await;
    let file = market.manifest(&[]);
    let did = market.keyward(&install(&file, &["--slot", "mail=sender", "--yes"]));
    assert_eq!(did.code, 2, "{did:?}");
    for line in [
        "error: slot `crm` (CRM account, required) has no connection; connections of svc: work-crm\n",
        "error: slot `chat` (Alerts, optional) has no connection; connections of chat: alerts\n",
        "hint: choose for each: --slot crm=CONNECTION, or leave an optional one empty: --skip SLOT",
    ] {
        assert!(did.err.contains(line), "{}", did.err);
    }
    for (more, says) in [
        (&["--slot", "crm=work-crm", "--slot", "mail=sender", "--skip", "chat"][..], "--yes"),
        (&["--skip", "crm", "--yes"], "slot `crm` is required and cannot be skipped"),
        (&["--skip", "chat", "--slot", "chat=alerts", "--yes"], "slot `chat` is given twice"),
        (&["--slot", "cmr=work-crm", "--yes"], "crm-digest has no slot `cmr`"),
    ] {
        let did = market.keyward(&install(&file, more));
        assert_eq!(did.code, 2, "{more:?}: {did:?}");
        assert!(did.err.contains(says), "{}", did.err);
    }
    let wrong = ["--slot", "crm=sender", "--slot", "mail=sender", "--skip", "chat", "--yes"];
    let did = market.keyward(&install(&file, &wrong));
    assert!(
        did.code == 1 && did.err.contains("slot `crm` requires an account at `svc`"),
        "{did:?}"
    );
    is_nothing_stored(&market).await;
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_provider_is_reported_before_any_open_slot() {
    let market = Market::stocked().await;
    let file = market.manifest(&[("provider: chat", "provider: chta")]);
    let did = market.keyward(&install(&file, &[]));
    assert_eq!(did.code, 1, "{did:?}");
    assert!(did.err.contains("there is no provider `chta`; did you mean `chat`?"), "{}", did.err);
    assert!(!did.err.contains("has no connection"), "{}", did.err);
    is_nothing_stored(&market).await;
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_installed_by_options_with_a_summary_of_what_it_will_reach() {
    let market = Market::stocked().await;
    let file = market.manifest(&[]);
    let did = market.keyward(&install(&file, &[ALL, &["--yes"]].concat()));
    assert_eq!(did.code, 0, "{did:?}");
    assert!(
        did.out.contains("plugin crm-digest 1.2.0 installed for agent digest: ready"),
        "{did:?}"
    );
    for text in ["alice@acme.test", HOST, STRANGER, "GET", "/send/**", "read"] {
        assert!(did.err.contains(text), "the summary lacks {text}: {}", did.err);
    }
    assert_eq!(market.gets("digest", STRANGER, "GET /send/x").await.0, 200);
    // In CI it is run again and again.
    let again = market.keyward(&install(&file, &[]));
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.out.contains("installed already"), "{again:?}");
    let list = market.says(&["plugin", "list"]);
    assert!(list.contains("crm=work-crm, mail=sender, chat=alerts"), "{list}");
    let shown = market.says(&["agent", "show", "digest"]);
    assert!(shown.contains("sender (acme, slot mail of crm-digest)"), "{shown}");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_version_needs_choices_for_new_slots_and_lists_what_changed() {
    let market = Market::stocked().await;
    market.install();
    let wider = ("methods: [GET]", "methods: [GET, POST]");
    let more = ("  - { slot: chat,", "  - { slot: copy, provider: acme }\n  - { slot: chat,");
    let file = market.manifest(&[("1.2.0", "1.3.0"), wider, more]);
    let did = market.keyward(&install(&file, &["--yes"]));
    assert_eq!(did.code, 2, "{did:?}");
    assert!(did.err.contains("slot `copy`") && !did.err.contains("slot `crm`"), "{}", did.err);
    let did = market.keyward(&install(&file, &["--slot", "copy=sender"]));
    assert_eq!(did.code, 2, "it is agreed to: {did:?}");
    assert!(did.err.contains("changed: methods of slot crm, until now GET\n"), "{}", did.err);
    assert!(did.err.contains("new: slot copy\n"), "{}", did.err);
    assert_eq!(market.plugin("crm-digest").await["version"], "1.2.0");
    let did = market.keyward(&install(&file, &["--slot", "copy=sender", "--yes"]));
    assert!(did.out.contains("1.3.0 installed in the place of 1.2.0"), "{did:?}");
    let old = market.manifest(&[]);
    let did = market.keyward(&install(&old, &["--yes"]));
    assert_eq!(did.code, 1, "{did:?}");
    assert!(did.err.contains("newer than 1.2.0"), "{}", did.err);
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_created_for_a_plugin_is_removed_when_the_install_fails() {
    let market = Market::stocked().await;
    let file = market.manifest(&[]);
    let of = |agent: &'static str, more: &[&'static str]| {
        let head = ["plugin", "install", &*file, "--agent", agent];
        let words: Vec<String> = head.iter().chain(more).map(ToString::to_string).collect();
        words
    };
    let run =
        |words: Vec<String>| market.keyward(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let wrong = ["--slot", "crm=sender", "--slot", "mail=sender", "--skip", "chat", "--yes"];
    assert_eq!(run(of("fresh", &wrong)).code, 1);
    assert_eq!(market.ask("GET", "/agents/fresh", &Value::Null).await.head.status(), 404);
    let right = ["--slot", "crm=work-crm", "--slot", "mail=sender", "--skip", "chat", "--yes"];
    let did = run(of("fresh", &right));
    assert!(did.out.contains("for agent fresh: ready"), "{did:?}");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_changed_and_emptied_by_command() {
    let market = Market::stocked().await;
    market.install();
    market.keyed("acme", "sender-2").await;
    let said =
        market.says(&["plugin", "set", "crm-digest", "--slot", "mail=sender-2", "--clear", "chat"]);
    assert!(said.contains("of agent digest is ready"), "left empty on purpose: {said}");
    let shown = market.plugin("crm-digest").await;
    assert_eq!(shown["slots"][1]["connection"]["name"], "sender-2");
    let did = market.keyward(&["plugin", "set", "crm-digest", "--clear", "mail"]);
    assert!(did.code == 1 && did.err.contains("is required"), "{did:?}");
    assert_eq!(market.keyward(&["plugin", "set", "crm-digest"]).code, 2);
    let did = market.keyward(&["plugin", "show", "crm-digets"]);
    assert!(did.code == 5 && did.err.contains("did you mean `crm-digest`?"), "{did:?}");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_runs_as_a_plugin_only_when_that_version_is_installed_and_ready() {
    let market = Market::stocked().await;
    let file = market.manifest(&[]);
    let run = |plugin: &str| {
        let line = ["run", "--agent", "digest", "--plugin", plugin, "--", "sh", "-c"];
        market.keyward(&[&line[..], &["echo ran"]].concat())
    };
    let did = run(&file);
    assert_eq!(did.code, 125, "{did:?}");
    assert!(did.err.contains("plugin `crm-digest` is not installed for agent `digest`"), "{did:?}");
    assert!(did.err.contains("hint: keyward plugin install"), "{did:?}");
    market.install();
    let did = run(&file);
    assert_eq!((did.code, &*did.out), (0, "ran\n"), "{did:?}");
    market.says(&["connection", "pause", "work-crm"]);
    let did = run(&file);
    assert_eq!((did.code, &*did.out), (125, ""), "{did:?}");
    assert!(did.err.contains("slot crm: connection `work-crm` is paused"), "{did:?}");
    assert!(did.err.contains("hint: resume it: `keyward connection resume work-crm`"), "{did:?}");
    market.says(&["connection", "resume", "work-crm"]);
    let newer = market.manifest(&[("1.2.0", "1.3.0")]);
    let did = run(&newer);
    assert!(did.err.contains("version 1.2.0 of plugin `crm-digest` is installed"), "{did:?}");
    market.close().await;
}
