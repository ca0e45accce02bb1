//! The stories of users, told in the browser: pause and removal, rotation, plugins, people and their tokens, and end
//! users who connect an account of their own.

use serde_json::{Value, json};

use super::*;
use test_support::canary::Canary;

/// Keys that the API accepts.
const KEYS: [&str; 2] = ["ak_old-0123456789abcdef", "ak_new-0123456789abcdef"];

const MANIFEST: &str = "plugin: crm-digest\nversion: 1.2.0\nsummary: Mails a weekly digest of the CRM.\n\
    connections:\n- slot: crm\n  provider: svc\n  label: CRM account\n  methods: [GET]\n";

/// An API that accepts [`KEYS`], a connection `mine` with the first of them, and an agent `laptop` that uses it.
async fn keys() -> Lab {
    let origin = Origin::answering(|request: &Message| match request.head.one("x-api-key") {
        Some(key) if KEYS.contains(&key) => ok(r#"{"login": "alice@acme.test"}"#),
        _ => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let test = format!("{{ method: GET, url: \"https://{HOST}/me\", account: [login] }}");
    let mut lab = Plan::api_key().test(&test).start(origin).await;
    for key in KEYS {
        lab.guard(Canary::of(key.to_owned()));
    }
    lab.add_agent("laptop").await;
    let new = json!({ "provider": "acme", "name": "mine", "fields": { "api_key": KEYS[0] } });
    api(&lab, "POST", "/connections", &new).await;
    api(&lab, "POST", "/connections/mine/test", &json!({})).await;
    api(&lab, "POST", "/agents/laptop/bindings", &json!({ "connection": "mine" })).await;
    lab
}

async fn api(lab: &Lab, method: &str, path: &str, body: &Value) -> Value {
    lab.gateway.api_json(method, path, body).await.done(path)
}

/// A1, A5: a connection is found, paused and resumed in the list, and removed; what used it fails by its name.
#[tokio::test]
async fn a1_a5_a_connection_is_found_paused_resumed_and_removed() {
    let lab = keys().await;
    let token = lab.token("laptop").to_owned();
    let agent = Agent { name: "laptop", token: &token };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    agent.works(&lab).await;
    tab.click("Connections").await;
    tab.fill("Search connections", "no-such").await;
    tab.sees("No connection fits").await;
    tab.fill("Search connections", "min").await;
    tab.does_not_see("No connection fits").await;
    tab.sees("alice@acme.test").await;

    tab.click("Actions for mine").await;
    tab.shows("Pause connection", "Pause mine?").await;
    // The question is in front of the menu; Enter answers with its button.
    tab.press(&["Tab", "Enter"]).await;
    tab.sees("paused").await;
    let refused = agent.curl(&lab, &[]).await;
    assert!(refused.contains("connection_paused") && refused.contains("mine"), "{refused}");
    tab.click("Actions for mine").await;
    tab.shows("Resume connection", "Resumed.").await;
    agent.works(&lab).await;

    tab.open(&at(&lab, "/connections/mine")).await;
    tab.sees("laptop").await;
    tab.shows("Remove connection", "Requests of laptop that need it are refused").await;
    tab.fill("Type mine to confirm", "mine").await;
    tab.press(&["Enter"]).await;
    tab.is_at("/connections").await;
    let refused = agent.curl(&lab, &[]).await;
    assert!(refused.contains(" 424") && refused.contains("`mine` was removed"), "{refused}");
    lab.finish().await;
}

/// D6, D8: a key that the service rejects replaces nothing; the next one does; the audit log names the change and is
/// verified.
#[tokio::test]
async fn d6_d8_a_rejected_key_replaces_nothing_and_the_log_has_the_change() {
    let lab = keys().await;
    let token = lab.token("laptop").to_owned();
    let agent = Agent { name: "laptop", token: &token };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    tab.leads("Rotate key", "/connections/mine/rotate").await;
    tab.fill("API key", "ak_wrong-0123456789abcdef").await;
    tab.shows("Test and rotate", "401").await;
    tab.is_at("/connections/mine/rotate").await;
    agent.works(&lab).await;
    tab.fill("API key", KEYS[1]).await;
    tab.leads("Test and rotate", "/connections/mine").await;
    agent.works(&lab).await;
    let sent = lab.origin.received();
    assert_eq!(sent.last().expect("a request").head.all("x-api-key"), [KEYS[1]]);

    tab.leads("Audit", "/audit").await;
    tab.shows("Changes", "mine").await;
    tab.sees("rotat").await;
    tab.shows("Verify log", "follows the one before it").await;
    lab.finish().await;
}

/// B2, B7: a manifest is read, an account chosen, what it will reach is said, and then it is installed. Its account
/// breaks, and is repaired in place.
#[tokio::test]
async fn b2_b7_a_plugin_is_installed_blocked_and_repaired() {
    let world = world(Program::OidcProvider, "").await;
    let mut chromium = browser(&world).await;
    let lab = &world.lab;
    let mut tab = chromium.tab("ann").await;
    sign_in(&mut tab, &link(lab, None).await).await;
    let token = adds_agent(&mut tab, "digest").await;
    let agent = Agent { name: "digest", token: &token };

    // A mistake is named with its place.
    tab.open(&at(lab, "/plugins/new")).await;
    tab.choose("Agent", "digest").await;
    tab.fill("Manifest", &MANIFEST.replace("svc", "svx")).await;
    tab.shows("Continue", "svx").await;
    tab.fill("Manifest", MANIFEST).await;
    tab.choose("Agent", "digest").await;
    tab.shows("Continue", "There is no account at Service yet").await;
    tab.shows("Back", "Or choose the file").await;
    assert_eq!(tab.value("document.querySelector('#manifest').value").await, MANIFEST);
    tab.shows("Continue", "There is no account at Service yet").await;
    let walk = tab.url().await;

    // The account is connected beside the walk, which then has it.
    tab.open(&at(lab, "/connect/to/svc")).await;
    tab.fill("Name", "work").await;
    tab.click("Continue to Service").await;
    consents(&mut tab).await;
    tab.open(&walk).await;
    tab.shows("Continue", "will have access to").await;
    tab.sees("Only GET").await;
    tab.shows("Install plugin", "Installed.").await;
    agent.works(lab).await;
    let refused = agent.curl(lab, &["-X", "DELETE"]).await;
    assert!(refused.contains(" 403"), "the manifest says GET: {refused}");

    breaks(&world, agent).await;
    tab.sees("It is blocked").await;
    tab.click("Reconnect account").await;
    consents_again(&mut tab).await;
    agent.works(lab).await;
    tab.open(&at(lab, "/plugins")).await;
    tab.sees("ready").await;
    world.finish().await;
}

/// E8: an admin adds a person, who signs in with a link and makes a token; a script uses it until it is revoked.
#[tokio::test]
async fn e8_a_person_signs_in_and_makes_a_token_for_a_script() {
    let lab = keys().await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    api(&lab, "POST", "/users", &json!({ "name": "bob", "role": "member" })).await;
    let mut bob = chromium.tab("bob").await;
    sign_in(&mut bob, &link(&lab, Some("bob")).await).await;
    bob.open(&at(&lab, "/people/bob")).await;
    bob.click("Add token").await;
    bob.fill("Label (optional)", "nightly").await;
    bob.press(&["Enter"]).await;
    let token = shown_once(&mut bob).await;
    bob.sees("nightly").await;
    let script = async || {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-sS", "-w", " %{http_code}", "--max-time", "30", "-H"]);
        curl.arg(format!("Authorization: Bearer {token}")).arg(at(&lab, "/api/v1/caller"));
        said(&run(curl).await).trim_end().to_owned()
    };
    let answer = script().await;
    assert!(answer.contains(r#""bob""#) && answer.ends_with(" 200"), "{answer}");
    bob.shows("Revoke token", "Revoke nightly?").await;
    bob.press(&["Tab", "Enter"]).await;
    bob.sees("Revoked.").await;
    let answer = script().await;
    assert!(answer.ends_with(" 401"), "{answer}");

    // A member sees no settings of the installation, and cannot open what is another's.
    assert_eq!(bob.open(&at(&lab, "/people")).await.0, 200);
    assert_eq!(bob.open(&at(&lab, "/webhooks/new")).await.0, 403);
    lab.finish().await;
}

/// An end user connects an account with a link, in a browser of their own; who copies the link gets nothing, before or
/// after.
#[tokio::test]
async fn an_end_user_connects_and_a_stolen_link_fails() {
    let lab = keys().await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    api(&lab, "POST", "/users", &json!({ "name": "cust-1", "role": "end_user" })).await;
    let made =
        api(&lab, "POST", "/connect-sessions", &json!({ "user": "cust-1", "providers": ["acme"] }))
            .await;
    let link = made["url"].as_str().expect("a link");
    let mut user = chromium.tab("end user").await;
    user.open(link).await;
    user.sees("Connect").await;
    user.is_accessible().await;
    user.shows("Continue", "cust-1").await;

    let mut thief = chromium.tab("thief").await;
    let (status, _) = thief.open(link).await;
    assert_eq!(status, 403);
    thief.sees("This link cannot be used").await;
    let (status, _) = thief.open(&at(&lab, "/connect/session")).await;
    assert!(status >= 400, "{status}");
    assert_eq!(thief.cookies().await, json!([]));

    let mut user = chromium.again("end user");
    user.fill("API key", "ak_wrong-0123456789abcdef").await;
    user.shows("Connect", "401").await;
    user.is_accessible().await;
    user.fill("API key", KEYS[1]).await;
    user.shows("Connect", "Your Acme account is connected").await;
    let all = api(&lab, "GET", "/connections?owner=cust-1", &Value::Null).await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "{all}");
    assert_eq!(all["items"][0]["account"], "alice@acme.test", "{all}");
    lab.finish().await;
}

/// A program's answer that does not end is on the pages of its agent and its connection as soon as it begins, and Cut
/// ends it and not the agent's access.
#[tokio::test]
async fn an_open_answer_appears_on_the_pages_and_is_cut() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        while let Some(request) = stream.request().await {
            match request.head.target() {
                "/events" => {
                    stream
                        .send(
                            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
                        )
                        .await;
                    return drop(stream.rest().await);
                }
                _ => stream.send(ok("fine")).await,
            }
        }
    });
    let lab = Plan::api_key().start(origin).await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/agents/ci").await;
    tab.sees("Nothing is open now").await;
    let mut wire = lab.sent("GET /events").await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    tab.sees("/events").await;
    tab.is_accessible().await;
    tab.open(&at(&lab, "/connections/acme")).await;
    tab.sees("/events").await;
    tab.shows("Cut", "ends at once").await;
    tab.press(&["Tab", "Enter"]).await;
    tab.sees("Nothing is open now").await;
    let rest = wire.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not look whole: {rest:?}");
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    tab.open(&at(&lab, "/audit?changes=true")).await;
    tab.sees("stream").await;
    let records = lab.finish().await;
    assert!(records.iter().any(|record| record["code"] == "stream_cut"), "{records:#?}");
}
