//! A workspace for agents: many connections, labelled by purpose, and blueprints that pick from them. Played through the
//! command line and the proxy.

use serde_json::{Value, json};

use test_support::authorization::{Fault, query};
use test_support::browser::Browser;
use test_support::market::{CHAT, Market};
use test_support::{HOST, STRANGER, request_text};

/// "Work Gmail" and "Client X Calendar" of a workspace, as this market has them: two accounts of one service.
async fn workspace() -> Market {
    let mut market = Market::open().await;
    market.consented("work-gmail").await;
    market.server.issuer().change(|rules| rules.account = "client-x@acme.test".to_owned());
    market.consented("client-x-calendar").await;
    market.keyed("chat", "alerts").await;
    market.lab.add_agent("blueprint").await;
    market
}

/// A1: one list, with provider, kind, name and state, that can be searched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_all_connections_are_in_one_list_and_can_be_searched() {
    let market = workspace().await;
    let list = market.says(&["connection", "list"]);
    for (name, provider, auth) in [
        ("work-gmail", "svc", "oauth"),
        ("client-x-calendar", "svc", "oauth"),
        ("alerts", "chat", "token"),
        ("acme", "acme", "key"),
    ] {
        let line = list.lines().find(|line| line.starts_with(&format!("{name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name}: {list}"));
        assert!(
            line.contains(provider) && line.contains(auth) && line.contains("active"),
            "{line}"
        );
    }
    let found = market.says(&["connection", "list", "--q", "GMAIL"]);
    assert!(found.contains("work-gmail") && !found.contains("calendar"), "{found}");
    let shown = market.says(&["connection", "show", "client-x-calendar"]);
    assert!(shown.contains("client-x@acme.test"), "{shown}");
    market.close().await;
}

/// A2: a service is connected through its consent, at a callback address that is the deployment's; where a
/// consent fails, the message names the setting of the provider's app that does not match.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a_consent_connects_a_service_and_one_that_fails_names_the_setting() {
    let market = Market::open().await;
    let app = market.api("GET", "/apps/svc-app", &Value::Null).await;
    let callback = app["redirect_uri"].as_str().expect("shown, to be registered").to_owned();
    let add = ["connection", "add", "svc", "--name", "work", "--no-browser"];
    for (status, refusal, says) in [
        (400, "invalid_client", "(`--client-auth body` or `basic_raw`); `keyward app set svc-app`"),
        (400, "redirect_uri_mismatch", &*format!("must have the redirect URI {callback}")),
        (400, "unauthorized_client", "does not allow the authorization code grant"),
        // Keycloak's words for a wrong secret, and Glewlwyd's.
        (401, "unauthorized_client", "(unauthorized_client): client id or secret of app `svc-app`"),
        (403, "unauthorized_client", "or client id or secret of app `svc-app`"),
    ] {
        market.server.fail_next(Fault::error(status, refusal));
        let mut adding =
            market.terminal(match market.says(&["connection", "list"]).contains("work") {
                true => &["connection", "reconnect", "work", "--no-browser"],
                false => &add,
            });
        let link = adding.rest_of("/oauth/start/");
        let mut browser = Browser::new(&market.lab.gateway);
        let url = browser.begin(&format!("/oauth/start/{}", link.trim())).await;
        assert_eq!(query(&url)["redirect_uri"], callback);
        browser.get(&market.server.issuer().consent(&url)).await.is(502);
        let shown = adding.ends_with(1);
        // The terminal folds it.
        let words = |text: &str| text.split_whitespace().collect::<String>();
        let [shown, says, refusal] = [&shown, says, refusal].map(words);
        assert!(shown.contains(&says) && shown.contains(&refusal), "{says}: {shown}");
    }
    let mut adding = market.terminal(&["connection", "reconnect", "work", "--no-browser"]);
    let link = adding.rest_of("/oauth/start/");
    market.consents(&format!("/oauth/start/{}", link.trim())).await;
    adding.ends_with(0);
    let list = market.says(&["connection", "list"]);
    let line = list.lines().find(|line| line.starts_with("work "));
    assert!(line.is_some_and(|line| line.contains("active")), "{list}");
    market.close().await;
}

/// A3 and A4: of two accounts of one service a run uses the one that its blueprint picked; the other does
/// not exist for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_a4_a_blueprint_picks_work_gmail_over_client_x_calendar() {
    let market = workspace().await;
    let file = market.file(
        "blueprint.yaml",
        "plugin: inbox\nversion: \"1\"\nconnections:\n  - { slot: mail, provider: svc }\n",
    );
    let file = file.display().to_string();
    let install = ["plugin", "install", &*file, "--agent", "blueprint", "--yes"];
    market.says(&[&install[..], &["--slot", "mail=work-gmail"]].concat());
    assert_eq!(market.request("blueprint", HOST, "GET /inbox").await.text(), "fine");
    let tokens: Vec<_> = market.server.calls().iter().filter_map(|it| it.issued.clone()).collect();
    let sent = market.lab.origin.only();
    let bearer = |at: usize| format!("Bearer {}", tokens[at].access);
    assert_eq!(sent.head.all("authorization"), [&*bearer(0)], "alice's, not client X's");
    for name in ["client-x-calendar", "no-such-one"] {
        let request = format!("GET /inbox\r\nKeyward-Connection: {name}");
        let refused = market.gets("blueprint", HOST, &request).await;
        assert_eq!(refused, (424, "connection_missing".to_owned()));
    }
    assert_eq!(market.gets("blueprint", CHAT, "GET /a").await.1, "default_deny");
    // The other box is ticked instead: from the next request on.
    market.says(&["plugin", "set", "inbox", "--slot", "mail=client-x-calendar"]);
    assert_eq!(market.request("blueprint", HOST, "GET /inbox").await.text(), "fine");
    let sent = market.lab.origin.received();
    assert_eq!(sent[1].head.all("authorization"), [&*bearer(1)]);
    market.close().await;
}

/// A3: with both ticked, the run uses the default, or says which one it means; where it must say so, it reads how.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a3_an_agent_with_two_accounts_uses_its_default_or_must_select_one() {
    let market = workspace().await;
    market.says(&["agent", "bind", "blueprint", "work-gmail", "client-x-calendar"]);
    assert_eq!(market.request("blueprint", HOST, "GET /inbox").await.text(), "fine");
    let work = market.lab.origin.only().head.one("authorization").map(str::to_owned);
    market.says(&["agent", "bind", "blueprint", "client-x-calendar", "--default"]);
    assert_eq!(market.request("blueprint", HOST, "GET /inbox").await.text(), "fine");
    let client_x = market.lab.origin.received()[1].head.one("authorization").map(str::to_owned);
    assert!(work.is_some() && client_x.is_some() && work != client_x);
    market.says(&["agent", "set", "blueprint", "--require-selection", "true"]);
    let refused = market.request("blueprint", HOST, "GET /inbox").await;
    assert_eq!(refused.head.one("keyward-error"), Some("connection_ambiguous"));
    let error = refused.json()["error"].clone();
    assert_eq!(error["message"], "several connections fit: client-x-calendar, work-gmail");
    assert!(
        error["hint"].as_str().is_some_and(|it| it.contains("`Keyward-Connection`")),
        "{error}"
    );
    let chosen = "GET /inbox\r\nKeyward-Connection: work-gmail";
    assert_eq!(market.request("blueprint", HOST, chosen).await.text(), "fine");
    market.close().await;
}

/// A5: pause, resume and disconnect; what referred to it fails with a message that names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_plugins_report_a_connection_that_is_paused_resumed_or_removed() {
    let market = Market::stocked().await;
    market.install();
    let send = "POST /send/x\r\nContent-Length: 0";
    let said = market.says(&["connection", "pause", "work-crm"]);
    assert!(said.contains("connection work-crm is paused"), "{said}");
    let blocked = "note: plugin crm-digest of agent digest is blocked: slot crm: connection `work-crm` is paused";
    assert!(said.contains(blocked), "{said}");
    let refused = market.request("digest", STRANGER, send).await.text();
    assert!(refused.contains("crm-digest") && refused.contains("work-crm"), "{refused}");
    let said = market.says(&["connection", "resume", "work-crm"]);
    assert!(said.contains("plugin crm-digest of agent digest is ready"), "{said}");
    assert_eq!(market.gets("digest", STRANGER, send).await.0, 200);
    let said = market.says(&["connection", "remove", "work-crm"]);
    assert!(
        said.contains("plugin crm-digest of agent digest is blocked now: slot crm is empty"),
        "{said}"
    );
    let refused = market.request("digest", STRANGER, send).await.text();
    assert!(refused.contains("slot `crm` is empty"), "{refused}");
    market.close().await;
}

/// A7: a job that runs on a schedule is an agent like any other: its own identity, token and limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a7_a_scheduled_job_has_its_own_identity_and_limits() {
    let mut market = workspace().await;
    market.lab.add_agent("sync-job").await;
    let slot =
        json!([{ "slot": "source", "provider": "svc", "methods": ["GET"], "paths": ["/sync/**"] }]);
    let manifest = json!({ "plugin": "sync", "version": "1.0.0", "connections": slot });
    let new = json!({
        "agent": "sync-job", "manifest": manifest, "slots": { "source": "work-gmail" },
    });
    market.api("POST", "/plugins", &new).await;
    market.says(&["agent", "bind", "blueprint", "work-gmail"]);
    assert_eq!(market.gets("sync-job", HOST, "GET /sync/1").await.0, 200);
    assert_eq!(market.gets("sync-job", HOST, "GET /other").await.0, 403);
    assert_eq!(market.gets("blueprint", HOST, "GET /other").await.0, 200, "others' limits differ");
    let records = market.close().await;
    let agents: Vec<_> = records
        .iter()
        .filter(|record| record["path"] == "/sync/1")
        .map(|record| record["agent"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(agents, ["sync-job"], "it is told apart in the log");
}

/// A8: keys for calling in are agents' tokens, apart from the accounts, and each opens its agent's world
/// only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_a_token_of_an_agent_is_no_connection_and_authenticates_that_agent_only() {
    let mut market = Market::stocked().await;
    market.install();
    market.lab.add_agent("hook").await;
    let token = market.api("POST", "/agents/digest/tokens", &json!({ "label": "hook-1" })).await;
    let connections = market.says(&["connection", "list"]);
    assert!(!connections.contains("hook-1"), "{connections}");
    assert_eq!(market.gets("hook", STRANGER, "GET /send/x").await.1, "default_deny");
    assert_eq!(market.gets("digest", STRANGER, "GET /send/x").await.0, 200);
    // Revoked, it opens nothing, and neither accounts nor other keys notice.
    let mut wire = market.lab.client().await;
    let text = token["token"].as_str().expect("shown once").to_owned();
    let id = token["id"].as_str().expect("an id").to_owned();
    let connect = |token: &str| {
        format!(
            "CONNECT {STRANGER}:443 HTTP/1.1\r\nHost: {STRANGER}:443\r\n\
             Proxy-Authorization: Bearer {token}\r\n\r\n"
        )
    };
    wire.send(connect(&text)).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
    market.api("DELETE", &format!("/agents/digest/tokens/{id}"), &Value::Null).await;
    let mut wire = market.lab.client().await;
    wire.send(connect(&text)).await;
    assert_eq!(wire.answer("CONNECT").await.head.status(), 407);
    let mut wire = market.stream("digest", STRANGER).await;
    wire.ask(request_text("GET /send/x", STRANGER)).await.is(200);
    market.close().await;
}

/// A6: of a provider whose refresh tokens work once, each is followed by its successor; of one that keeps them,
/// the first stays. Programs notice neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_tokens_rotate_by_each_provider_s_own_rules() {
    for rotates in [true, false] {
        let mut market = Market::open().await;
        market.server.issuer().change(|rules| rules.rotates = rotates);
        market.consented("work").await;
        market.lab.add_agent("sync").await;
        market.says(&["agent", "bind", "sync", "work"]);
        for _ in 0..2 {
            market.server.issuer().expire_all();
            assert_eq!(market.request("sync", HOST, "GET /a").await.text(), "fine");
        }
        let calls = market.server.calls();
        assert_eq!(calls.len(), 3, "a code and two refreshes");
        let mut held = calls[0].issued.clone().expect("tokens").refresh.expect("one");
        for call in &calls[1..] {
            assert_eq!(call.form["grant_type"], "refresh_token");
            assert_eq!(call.form["refresh_token"], held, "rotates: {rotates}");
            let next = call.issued.clone().expect("tokens").refresh;
            match rotates {
                true => held = next.expect("a successor"),
                false => assert!(next.is_none_or(|next| next == held)),
            }
        }
        market.close().await;
    }
}
