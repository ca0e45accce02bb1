//! A runtime for agents: what an instance may use is bound to it when it runs, nothing secret stands in its workflow, and
//! keys are changed under it. Played through the command line and the proxy.

use test_support::authorization::{Authorization, Rules};
use test_support::canary::Canary;
use test_support::market::{CHAT, Market};
use test_support::{HOST, Origin, Plan, STRANGER, ok};

/// E1: bindings give an instance its accounts at run time; its environment holds placeholders alone, and what
/// is not bound does not exist for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_an_agent_uses_only_bound_connections_and_its_variables_hold_no_secret() {
    let mut market = Market::stocked().await;
    market.lab.add_agent("other").await;
    market.says(&["agent", "bind", "digest", "sender"]);
    // `keyward` looks for the canary in all that is said.
    let env = market.says(&["env", "--agent", "digest"]);
    assert!(env.contains("HTTPS_PROXY"), "{env}");
    assert_eq!(market.request("digest", STRANGER, "GET /a").await.text(), "fine");
    let sent = market.lab.origin.only();
    assert_eq!(sent.head.all("x-api-key"), [&*market.lab.canary.text]);
    let refused = (403, "default_deny".to_owned());
    assert_eq!(market.gets("other", STRANGER, "GET /a").await, refused);
    assert_eq!(market.gets("digest", CHAT, "GET /a").await, refused, "not bound");
    market.says(&["agent", "unbind", "digest", "sender"]);
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await, refused);
    market.close().await;
}

/// E2: what was granted is told; E3: an account that was revoked says how it comes back, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_e3_scopes_are_shown_and_a_revoked_account_is_reconnected() {
    let market = Market::stocked().await;
    market.says(&["agent", "bind", "digest", "work-crm"]);
    let shown = market.says(&["connection", "show", "work-crm"]);
    assert!(shown.contains("read") && shown.contains("alice@acme.test"), "{shown}");
    assert_eq!(market.request("digest", HOST, "GET /deals").await.text(), "fine");
    market.server.issuer().end_all();
    let refused = market.request("digest", HOST, "GET /deals").await.is(424);
    assert!(refused.text().contains("connection reconnect work-crm"), "{}", refused.text());
    assert!(market.says(&["connection", "list", "--state", "broken"]).contains("work-crm"));
    let mut mending = market.terminal(&["connection", "reconnect", "work-crm", "--no-browser"]);
    let link = mending.rest_of("/oauth/start/");
    market.consents(&format!("/oauth/start/{link}")).await;
    mending.ends_with(0);
    assert_eq!(market.request("digest", HOST, "GET /deals").await.text(), "fine");
    market.close().await;
}

/// E5: the new key is saved beside the old one, taken by one command while an instance goes on, and the old
/// one is wiped when somebody has seen that it works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e5_a_key_is_rotated_while_a_program_uses_an_open_stream() {
    let market = Market::stocked().await;
    market.says(&["agent", "bind", "digest", "sender"]);
    let mut run = market.stream("digest", STRANGER).await;
    let ask = test_support::request_text("GET /a", STRANGER);
    run.send(ask.clone()).await;
    assert_eq!(run.answer("GET").await.text(), "fine");
    let new = Canary::new("newk");
    let file = format!("api_key={}", market.file("new-key", &new.text).display());
    let rotate = ["connection", "rotate", "sender", "--no-test", "--secret-file", &file];
    market.says(&rotate);
    std::fs::remove_file(market.lab.gateway.folder().join("new-key")).expect("it was made");
    // The same stream: nothing was cut.
    run.send(ask.clone()).await;
    assert_eq!(run.answer("GET").await.text(), "fine");
    let keys = || {
        let sent = market.lab.origin.received();
        sent.iter().map(|it| it.head.all("x-api-key")[0].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(), [&*market.lab.canary.text, &*new.text]);
    market.says(&["connection", "rotate", "confirm", "sender"]);
    let back = market.keyward(&["connection", "rotate", "rollback", "sender"]);
    assert_eq!(back.code, 1, "there is nothing to go back to: {back:?}");
    run.send(ask).await;
    assert_eq!(run.answer("GET").await.text(), "fine");
    assert_eq!(keys().last(), Some(&new.text));
    new.assert_absent_below(market.lab.gateway.folder());
    market.close().await;
}

/// E8: a script has a token of a person's, which does what it is scoped for and no more, until it is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e8_a_personal_token_of_a_script_works_within_its_scopes_until_it_is_revoked() {
    let market = Market::stocked().await;
    market.says(&["user", "add", "ann", "--role", "admin"]);
    let made = market.says(&["token", "add", "ann", "--scope", "connections:read", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    let token = made["token"].as_str().or(made["token"]["token"].as_str()).expect("shown once");
    assert!(token.starts_with("kwp_"), "{made}");
    let script = |token: &str, arguments: &[&str]| {
        let mut command = market.command(arguments);
        let output = command.env("KEYWARD_TOKEN", token).output().expect("it runs");
        market.lab.canary.assert_absent("what a script is told", &output.stdout);
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    };
    let (code, list) = script(token, &["connection", "list"]);
    assert!(code == Some(0) && list.contains("work-crm"), "{list}");
    for closed in [
        &["connection", "pause", "sender"][..],
        &["agent", "list"],
        &["key", "rotate"],
        &["token", "add", "ann"],
    ] {
        assert_eq!(script(token, closed).0, Some(4), "{closed:?}");
    }
    assert_eq!(
        script("kwp_0000000000000000000000000000000000", &["connection", "list"]).0,
        Some(4)
    );
    let listed = market.says(&["token", "list", "--q", "ann", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let id = listed["items"][0]["id"].as_str().expect("an id");
    market.says(&["token", "revoke", id]);
    assert_eq!(script(token, &["connection", "list"]).0, Some(4));
    Canary::of(token.to_owned()).assert_absent_below(market.lab.gateway.folder());
    market.close().await;
}

/// A runtime whose providers' names lead to one origin.
async fn runtime(hosts: &'static [&'static str]) -> Market {
    let origin = Origin::answering_as(hosts, |_| ok("{}"));
    let mut plan = Plan::api_key().no_agents();
    for host in hosts {
        plan = plan.resolve(&format!("{host}: \"{}\"", origin.addr));
    }
    let mut lab = plan.start(origin).await;
    lab.add_agent("instance").await;
    Market { lab, server: Authorization::with(Rules::default()).await }
}

/// An account with a key, which goes in by a file that is gone at once.
fn added(market: &Market, provider: &str, (field, key): (&str, &Canary), more: &[&str]) {
    let file = market.file("key", &key.text);
    let secret = format!("{field}={}", file.display());
    let add = ["connection", "add", provider, "--name", provider, "--secret-file", &*secret];
    let said = market.says(&[&add[..], more].concat());
    key.assert_absent("what the command says", said.as_bytes());
    std::fs::remove_file(file).expect("it was made");
    market.says(&["agent", "bind", "instance", provider]);
}

/// A service: its id, host and a path; field and prefix of its key; where that goes; what else is given.
type Service = (&'static str, &'static str, &'static str, Pair, Pair, &'static [&'static str]);
type Pair = (&'static str, &'static str);

const SERVICES: &[Service] = &[
    ("resend", "api.resend.com", "/emails", ("api_key", "re_"), ("authorization", "Bearer "), &[]),
    ("exa", "api.exa.ai", "/search", ("api_key", "exak"), ("x-api-key", ""), &[]),
    ("github", "api.github.com", "/user", ("token", "ghp_"), ("authorization", "Bearer "), &[]),
    (
        "shopify",
        "my-shop.myshopify.com",
        "/admin/api/2025-01/shop.json",
        ("api_key", "shpat_"),
        ("x-shopify-access-token", ""),
        &["--var", "shop=my-shop"],
    ),
    (
        "activecampaign",
        "my-co.api-us1.com",
        "/api/3/contacts",
        ("api_key", "acky"),
        ("api-token", ""),
        &["--var", "account=my-co"],
    ),
    ("clickup", "api.clickup.com", "/api/v2/team", ("api_key", "pk_"), ("authorization", ""), &[]),
    (
        "notion",
        "api.notion.com",
        "/v1/search",
        ("token", "ntn_"),
        ("authorization", "Bearer "),
        &[],
    ),
];

/// E4: the key or personal access token of each service goes where that service wants it, and to no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e4_each_key_is_sent_in_the_header_of_its_service_and_to_no_other_service() {
    const HOSTS: &[&str] = &[
        "api.resend.com",
        "api.exa.ai",
        "api.github.com",
        "my-shop.myshopify.com",
        "my-co.api-us1.com",
        "api.clickup.com",
        "api.notion.com",
    ];
    let market = runtime(HOSTS).await;
    let mut keys = Vec::new();
    for (provider, host, path, (field, prefix), (header, before), more) in SERVICES {
        let key = Canary::new(prefix);
        let more = [more, &["--no-test", "--any-shape"][..]].concat();
        added(&market, provider, (field, &key), &more);
        let answer = market.request("instance", host, &format!("GET {path}")).await;
        assert_eq!(answer.text(), "{}", "{provider}");
        let sent = market.lab.origin.received().pop().expect("it arrived");
        assert_eq!(sent.head.one("host"), Some(*host));
        assert_eq!(sent.head.all(header), [format!("{before}{}", key.text)], "{provider}");
        keys.push(key);
    }
    for (at, sent) in market.lab.origin.received().iter().enumerate() {
        for (other, key) in keys.iter().enumerate().filter(|(other, _)| *other != at) {
            key.assert_absent(SERVICES[other].0, &sent.head.raw);
        }
    }
    for key in &keys {
        key.assert_absent_below(market.lab.gateway.folder());
    }
    market.close().await;
}

/// E7: WhatsApp takes three things; only the token is a secret, and the ids are the program's to use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e7_whatsapp_has_two_ids_and_a_token() {
    const GRAPH: &str = "graph.facebook.com";
    let market = runtime(&[GRAPH]).await;
    let token = Canary::new("EAA");
    let file = market.file("key", &token.text).display().to_string();
    let secret = format!("access_token={file}");
    let add = ["connection", "add", "whatsapp", "--name", "whatsapp", "--secret-file", &*secret];
    let wrong = ["--field", "phone_number_id=+49 170", "--field", "business_account_id=1"];
    let did = market.keyward(&[&add[..], &wrong].concat());
    assert!(did.code != 0 && did.err.contains("phone_number_id"), "{did:?}");
    let ids = [
        "--field",
        "phone_number_id=106540352242922",
        "--field",
        "business_account_id=102290129340398",
    ];
    added(&market, "whatsapp", ("access_token", &token), &ids);
    let tested = market.lab.origin.only();
    assert_eq!(
        tested.head.target(),
        "/v22.0/106540352242922?fields=verified_name",
        "it was tested"
    );
    let message = "POST /v22.0/106540352242922/messages\r\nContent-Length: 0";
    assert_eq!(market.gets("instance", GRAPH, message).await.0, 200);
    let sent = market.lab.origin.received().pop().expect("it arrived");
    assert_eq!(sent.head.all("authorization"), [format!("Bearer {}", token.text)]);
    let env = market.says(&["env", "--agent", "instance"]);
    let placeholder = env.lines().find(|line| line.contains("WHATSAPP_ACCESS_TOKEN"));
    assert!(placeholder.is_some_and(|line| line.contains("kwph")), "{env}");
    assert!(env.contains("WHATSAPP_PHONE_NUMBER_ID='106540352242922'"), "{env}");
    assert!(env.contains("WABA_ID='102290129340398'"), "{env}");
    let shown = market.says(&["agent", "show", "instance"]);
    assert!(shown.contains("WHATSAPP_BUSINESS_ACCOUNT_ID"), "{shown}");
    token.assert_absent("the environment", env.as_bytes());
    token.assert_absent_below(market.lab.gateway.folder());
    market.close().await;
}
