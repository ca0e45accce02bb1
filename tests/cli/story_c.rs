//! An integration platform: its customers are organisations, their people connect accounts, and programs act with those.
//! Played through the command line and the proxy.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use test_support::canary::Canary;
use test_support::finished::Finished;
use test_support::market::{CHAT, Market};
use test_support::*;

/// The platform: a gateway, and its command line.
struct Platform {
    lab: Lab,
}

impl Platform {
    async fn new(secrets: &[(&str, &Canary)]) -> Self {
        let mut plan = Plan::api_key();
        for (name, secret) in secrets {
            plan = plan.secret(name, secret);
        }
        Self { lab: plan.start(Origin::saying("fine")).await }
    }

    /// A command as whoever has the token, or as the platform's operator.
    async fn keyward(&self, token: Option<&str>, line: &str, input: &str) -> Finished {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        command.env_clear().arg("--data").arg(self.lab.gateway.data()).arg("--json");
        command.args(line.split(' ')).envs(token.map(|token| ("KEYWARD_TOKEN", token)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("keyward starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        // It may refuse before it reads.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = patiently(line, child.wait_with_output()).await.expect("it ends");
        Finished::from(output)
    }

    async fn operator(&self, line: &str) -> Value {
        self.keyward(None, line, "").await.json()
    }

    /// A person of an organisation, and their token.
    async fn person(&mut self, org: &str, name: &str, role: &str) -> String {
        self.operator(&format!("--org {org} user add {name} --role {role}")).await;
        let token = self.operator(&format!("--org {org} token add {name} --label laptop")).await;
        let token = token["token"].as_str().expect("shown once").to_owned();
        assert!(token.starts_with("kwp_"), "scanners find it");
        self.lab.guard(Canary::of(token.clone()));
        token
    }

    /// Connects an account: the key goes in on standard input.
    async fn connects(&self, token: &str, more: &str, key: &Canary) -> Value {
        let line = format!("connection add acme --secret-stdin api_key {more}");
        self.keyward(Some(token), &line, &key.text).await.json()
    }

    /// An agent of a person that may use one of their connections, and its token.
    async fn agent(&self, token: &str, name: &str, connection: &str) -> String {
        let added = self.keyward(Some(token), &format!("agent add {name}"), "").await.json();
        let bind = format!("agent bind {name} {connection}");
        self.keyward(Some(token), &bind, "").await.json();
        added["token"]["token"].as_str().expect("shown once").to_owned()
    }

    /// A request of an agent that names the connection.
    async fn call(&self, (agent, token): (&str, &str), connection: &str) -> Message {
        let mut wire = self.lab.client().await;
        let pair = base64(&format!("{agent}:{token}"));
        wire.send(format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nProxy-Authorization: Basic {pair}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.answer("CONNECT").await.head.status(), 200);
        let mut wire = self.lab.secure(wire, HOST).await;
        wire.ask(request_text(&format!("GET /me\r\nKeyward-Connection: {connection}"), HOST)).await
    }

    fn last_key(&self) -> String {
        let received = self.lab.origin.received();
        received.last().expect("a request").head.one("x-api-key").expect("a key").to_owned()
    }
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}

#[tokio::test]
async fn c4_a_connection_belongs_to_an_organisation_and_to_the_user_who_made_it() {
    let keys = [Canary::new("cnry"), Canary::new("cnry")];
    let mut platform = Platform::new(&[("ONE", &keys[0]), ("TWO", &keys[1])]).await;
    platform.operator("org add northwind").await;
    platform.operator("org add southwind").await;
    let ann = platform.person("northwind", "ann", "member").await;
    let bob = platform.person("northwind", "bob", "member").await;
    let eve = platform.person("southwind", "eve", "admin").await;

    // Two customers use the same names, and never meet.
    let made = platform.connects(&ann, "--name billing", &keys[0]).await;
    assert_eq!(made["visibility"], "private");
    platform.connects(&eve, "--name billing", &keys[1]).await;
    let anns = platform.agent(&ann, "invoices", "billing").await;
    let eves = platform.agent(&eve, "invoices", "billing").await;
    for (token, key) in [(&anns, &keys[0]), (&eves, &keys[1])] {
        let answer = platform.call(("invoices", token), "billing").await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"));
        assert_eq!(platform.last_key(), key.text, "its own organisation's");
    }

    // Neither a colleague nor another customer sees it, by name or by id.
    let id = made["id"].as_str().expect("an id");
    for (who, named) in [(&bob, "billing"), (&bob, id), (&eve, id)] {
        let refused = platform.keyward(Some(who), &format!("connection show {named}"), "").await;
        let text = refused.failed(5);
        assert!(text.contains(&format!("no connection is named `{named}`")), "{text}");
    }
    let line = format!("connection remove {id}");
    platform.keyward(Some(&eve), &line, "").await.failed(5);
    assert_eq!(
        platform.keyward(Some(&bob), "connection list", "").await.json()["items"],
        Value::Array(vec![])
    );
    // Whoever works for one customer does not get into another by asking for it.
    let text = platform.keyward(Some(&eve), "--org northwind connection list", "").await.failed(5);
    let nothing =
        platform.keyward(Some(&eve), "--org northstar connection list", "").await.failed(5);
    let plain = |text: &str, named: &str| {
        let mut error: Value = serde_json::from_str(text).expect("JSON");
        error["error"].as_object_mut().expect("an error").remove("request");
        error.to_string().replace(named, "X")
    };
    assert_eq!(plain(&text, "northwind"), plain(&nothing, "northstar"));

    // A customer leaves: first what is theirs, then they.
    let full = platform.keyward(None, "org remove southwind", "").await.failed(1);
    assert!(full.contains("remove everything of it first"), "{full}");
    for line in ["agent remove invoices", "connection remove billing", "user remove eve"] {
        platform.operator(&format!("--org southwind {line}")).await;
    }
    platform.operator("org remove southwind").await;
    platform.keyward(Some(&eve), "connection list", "").await.failed(4);
    let orgs = platform.operator("org list").await;
    let names: Vec<_> = orgs["items"].as_array().unwrap().iter().map(|org| &org["name"]).collect();
    assert_eq!(names, ["default", "northwind"]);
    platform.lab.finish().await;
}

#[tokio::test]
async fn c5_team_members_each_connect_their_own_account_of_the_same_provider() {
    let keys = [Canary::new("cnry"), Canary::new("cnry"), Canary::new("cnry")];
    let secrets = [("ONE", &keys[0]), ("TWO", &keys[1]), ("THREE", &keys[2])];
    let mut platform = Platform::new(&secrets).await;
    platform.operator("org add team").await;
    let lead = platform.person("team", "lead", "admin").await;
    let ann = platform.person("team", "ann", "member").await;
    let bob = platform.person("team", "bob", "member").await;
    platform.connects(&ann, "--name ann-acme", &keys[0]).await;
    platform.connects(&bob, "--name bob-acme", &keys[1]).await;
    let shared = platform.connects(&lead, "--name team-acme --shared", &keys[2]).await;
    assert_eq!(shared["visibility"], "shared");

    let anns = platform.agent(&ann, "anns-helper", "ann-acme").await;
    let bobs = platform.agent(&bob, "bobs-helper", "bob-acme").await;
    for (agent, token, connection, key) in
        [("anns-helper", &anns, "ann-acme", &keys[0]), ("bobs-helper", &bobs, "bob-acme", &keys[1])]
    {
        platform.call((agent, token), connection).await.is(200);
        assert_eq!(platform.last_key(), key.text, "the account of whose agent it is");
    }
    // What the team shares is everybody's to use, and only the lead's to change.
    platform.keyward(Some(&bob), "agent bind bobs-helper team-acme", "").await.json();
    assert_eq!(platform.call(("bobs-helper", &bobs), "team-acme").await.head.status(), 200);
    assert_eq!(platform.last_key(), keys[2].text);
    let text = platform.keyward(Some(&bob), "connection pause team-acme", "").await.failed(4);
    assert!(text.contains("you may use it, but not change it"), "{text}");
    // What is somebody's alone is not lent by an admin either.
    let lent = platform.keyward(Some(&lead), "agent bind bobs-helper ann-acme", "").await.failed(1);
    assert!(lent.contains("is private"), "{lent}");

    // Bob leaves: paused, he and his agent are out at once; then Ann takes over his account.
    platform.keyward(Some(&lead), "user set bob --pause", "").await.json();
    platform.keyward(Some(&bob), "connection list", "").await.failed(4);
    for line in
        ["agent remove bobs-helper", "connection assign bob-acme --to ann", "user remove bob"]
    {
        platform.keyward(Some(&lead), line, "").await.json();
    }
    platform.keyward(Some(&ann), "agent bind anns-helper bob-acme", "").await.json();
    assert_eq!(platform.call(("anns-helper", &anns), "bob-acme").await.head.status(), 200);
    assert_eq!(platform.last_key(), keys[1].text);

    let changes = platform.keyward(Some(&lead), "audit query --changes", "").await;
    assert_eq!(changes.code, 0, "{}", changes.err);
    for said in
        ["\"by\":\"usr_", "\"user\":\"lead\"", "\"name\":\"bob-acme\"", "\"action\":\"removed\""]
    {
        assert!(changes.out.replace(": ", ":").contains(said), "{said}: {}", changes.out);
    }
    platform.lab.finish().await;
}

/// A provider with a way to authenticate of each kind whose secret is pasted.
const MANY: &str = "{ id: many, name: Many, hosts: [third.acme.test], auth: [ \
    { id: header, kind: api_key, placement: { header: X-Key } }, \
    { id: query, kind: api_key, placement: { query: key } }, \
    { id: cookie, kind: api_key, placement: { cookie: sid } }, \
    { id: body, kind: api_key, placement: { body: auth.key } }, \
    { id: basic, kind: basic }, { id: bearer, kind: bearer }, \
    { id: custom, kind: custom, fields: [{ name: tenant, label: Tenant, secret: false, pattern: 't[0-9]+' }, \
      { name: key, label: Key, secret: true }], place: [{ header: X-Tenant, value: '{tenant}' }, \
      { header: X-Signed, value: 'v1 {key}' }] } ] }";

/// Each way was used twice, in order.
fn each_in_its_place(received: &[Message], ways: &[&str], canary: &str) {
    assert_eq!(received.len(), 2 * ways.len());
    let pair = format!("Basic {}", base64(&format!("ann:{canary}")));
    for (at, sent) in received.iter().enumerate() {
        let (head, way) = (&sent.head, ways[at / 2]);
        let found = |field: &str, value: &str| head.all(field) == [value];
        let query = match way {
            "query" => format!("/a?x=1&key={canary}"),
            _ => "/a?x=1".to_owned(),
        };
        assert_eq!(head.target(), query, "{way}");
        assert!(!head.has("keyward-connection"), "{way}");
        if way == "body" {
            let object = serde_json::json!({"auth": {"key": canary}});
            assert_eq!((head.method(), sent.json()), ("POST", object), "{sent:?}");
        } else {
            assert!(sent.body.is_empty(), "{way}");
        }
        let there = match way {
            "header" => found("x-key", canary),
            "query" | "body" => true,
            "cookie" => found("cookie", &format!("sid={canary}")),
            "basic" => found("authorization", &pair),
            "bearer" => found("authorization", &format!("Bearer {canary}")),
            _ => found("x-tenant", "t42") && found("x-signed", &format!("v1 {canary}")),
        };
        assert!(there, "{way}: {head:?}");
        let others = ["x-key", "cookie", "authorization", "x-signed"];
        assert!(others.iter().filter(|field| head.has(field)).count() <= 1, "{way}: {head:?}");
    }
}

/// C1, C2: a provider says how it is authenticated at; an account is added by each of the ways, its shape is
/// checked, and a call that names the connection carries the credential in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_c2_a_call_names_its_connection_and_carries_its_credential_in_its_place() {
    let mut market = Market::with(|plan| plan.provider(MANY)).await;
    let broken = market.file(
        "broken.yaml",
        "id: x\nname: X\nhosts: [x.test]\nauth:\n  - { id: a, kind: bearr }\n",
    );
    let did = market.keyward(&["provider", "check", &broken.display().to_string()]);
    assert!(did.code == 1 && did.err.contains("broken.yaml:5"), "{did:?}");
    market.lab.add_agent("flow").await;
    let canary = market.lab.canary.text.clone();
    let ways: [(&str, &[&str], &str); 7] = [
        ("header", &[], "api_key"),
        ("query", &[], "api_key"),
        ("cookie", &[], "api_key"),
        ("body", &[], "api_key"),
        ("basic", &["--field", "username=ann"], "password"),
        ("bearer", &[], "token"),
        ("custom", &["--field", "tenant=t42"], "key"),
    ];
    for (way, more, secret) in ways {
        let secret = format!("{secret}={}", market.file("secret", &canary).display());
        let add = ["connection", "add", "many", "--auth", way, "--name", way, "--no-test"];
        if way == "custom" {
            let wrong = ["--field", "tenant=forty-two", "--secret-file", &*secret];
            let did = market.keyward(&[&add[..], &wrong].concat());
            assert!(did.code != 0 && did.err.contains("tenant"), "{did:?}");
        }
        market.says(&[&add[..], more, &["--secret-file", &secret]].concat());
        market.says(&["agent", "bind", "flow", way]);
    }
    std::fs::remove_file(market.lab.gateway.folder().join("secret")).expect("it was made");
    let list = market.api("GET", "/connections?q=many", &Value::Null).await;
    for (way, ..) in ways {
        let items = list["items"].as_array().expect("a list");
        let id = items.iter().find(|it| it["name"] == way).expect(way)["id"].clone();
        let id = id.as_str().expect("an id").to_owned();
        let (ask, body): (_, &[&str]) = match way {
            "body" => {
                let said = market.keyward(&["connection", "request", &id, "/a?x=1"]);
                assert!(said.code != 0 && said.err.contains("the body"), "{said:?}");
                (
                    "POST /a?x=1\r\nContent-Type: application/json\r\nContent-Length: 0",
                    &["--body", "{\"auth\": {\"key\": \"mine\"}}"],
                )
            }
            _ => ("GET /a?x=1", &[]),
        };
        let call = format!("{ask}\r\nKeyward-Connection: {id}");
        assert_eq!(market.request("flow", CHAT, &call).await.text(), "fine", "{way}");
        let said = market.says(&[&["connection", "request", &id, "/a?x=1"], body].concat());
        assert!(said.contains("fine"), "{said}");
    }
    each_in_its_place(&market.lab.origin.received(), &ways.map(|(way, ..)| way), &canary);
    market.close().await;
}

/// C3: what is stored opens with the master key alone; answers, logs and files never show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c3_a_credential_is_sealed_and_only_the_request_that_uses_it_opens_it() {
    let mut market = Market::stocked().await;
    market.says(&["agent", "bind", "digest", "sender"]);
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await.0, 200);
    let sent = market.lab.origin.only();
    assert_eq!(sent.head.all("x-api-key"), [&*market.lab.canary.text]);
    // `keyward` looks for the canary in all that is said.
    for command in [
        &["connection", "show", "sender", "--json"][..],
        &["agent", "show", "digest", "--json"],
        &["audit", "query", "--json"],
        &["env", "--agent", "digest", "--for", "json"],
    ] {
        market.says(command);
    }
    // Another install's key opens nothing of it.
    let other = Market::open().await;
    let foreign = std::fs::read(other.lab.gateway.data().join("master.key")).expect("a key");
    other.close().await;
    let key = market.lab.gateway.data().join("master.key");
    let own = std::fs::read(&key).expect("a key");
    market.lab.gateway.stop().await;
    std::fs::write(&key, foreign).expect("written");
    let did = market.keyward(&["connection", "list"]);
    assert!(did.code == 1 && did.err.contains("key"), "{did:?}");
    std::fs::write(&key, own).expect("written");
    market.lab.gateway.restart().await;
    assert_eq!(market.gets("digest", STRANGER, "GET /a").await.0, 200);
    market.close().await;
}

/// C6: one simple call tells whether a connection works, or why not.
#[tokio::test]
async fn c6_a_test_of_a_connection_is_one_call_and_says_why_it_failed() {
    let (good, bad) = (Canary::new("good"), Canary::new("badk"));
    let key = good.text.clone();
    let origin = Origin::answering(move |request| match request.head.one("x-api-key") {
        Some(sent) if sent == key => ok("{\"login\":\"alice\"}"),
        _ => "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let plan = Plan::api_key().test("{ url: 'https://api.acme.test/me', account: [login] }");
    let plan = plan.secret("GOOD", &good).secret("BAD", &bad);
    let platform = Platform { lab: plan.start(origin).await };
    let add = |name: &str| format!("connection add acme --name {name} --secret-stdin api_key");
    platform.keyward(None, &add("works"), &good.text).await.json();
    let before = platform.lab.origin.received().len();
    let told = platform.operator("connection test works").await;
    assert_eq!((&told["outcome"], &told["account"]), (&json!("ok"), &json!("alice")), "{told}");
    let sent = platform.lab.origin.received();
    assert_eq!(sent.len(), before + 1, "one call");
    assert_eq!((sent[before].head.target(), platform.last_key()), ("/me", good.text.clone()));
    let said = platform.keyward(None, &add("fails"), &bad.text).await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!((said.out + &said.err).contains("rejected this key (401)"));
    let shown = platform.operator("connection show fails").await;
    assert_eq!(shown["state"], "draft", "nobody uses it");
    platform.lab.finish().await;
}

/// C7: a token that has ended is refreshed before the call: the API never sees the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c7_an_expired_token_is_refreshed_before_the_call() {
    let mut market = Market::open().await;
    market.server.issuer().change(|rules| rules.access_ttl = Some(1.0));
    market.consented("work").await;
    market.lab.add_agent("flow").await;
    market.says(&["agent", "bind", "flow", "work"]);
    market.server.issuer().change(|rules| rules.access_ttl = Some(3_600.0));
    let before = market.lab.origin.received().len();
    let first = market.server.only_call().issued.expect("tokens");
    until("the end of the token", async || !market.server.issuer().is_live(&first.access)).await;
    assert_eq!(market.request("flow", HOST, "GET /a").await.text(), "fine");
    let second = market.server.calls()[1].issued.clone().expect("tokens");
    let sent: Vec<_> = market.lab.origin.received().split_off(before);
    let bearers: Vec<_> = sent.iter().map(|it| it.head.all("authorization")[0]).collect();
    assert_eq!(bearers, [format!("Bearer {}", second.access)], "one call, with the new one");
    market.close().await;
}

/// C8: a connection that is deleted leaves nothing behind; at the provider only where that is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c8_a_deleted_connection_is_gone_with_its_credentials() {
    let mut market = Market::stocked().await;
    market.consented("other").await;
    market.says(&["agent", "bind", "digest", "work-crm"]);
    assert_eq!(market.request("digest", HOST, "GET /a").await.text(), "fine");
    let shown = market.api("GET", "/connections/work-crm", &Value::Null).await;
    let id = shown["id"].as_str().expect("an id").to_owned();
    let bound = market.api("GET", "/agents/digest/bindings", &Value::Null).await;
    let placeholder = bound["items"][0]["placeholders"]["access_token"].as_str().expect("a text");
    market.says(&["connection", "remove", "work-crm"]);
    assert!(market.server.issuer().revoked().is_empty(), "the provider was not told");
    for sent in ["GET /a".to_owned(), format!("GET /a\r\nAuthorization: Bearer {placeholder}")] {
        let refused = market.request("digest", HOST, &sent).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.head.status(), &error["code"]), (424, &json!("connection_missing")));
        assert_eq!(error["message"], "connection `work-crm` was removed");
    }
    // Another placeholder at its host is none of its own.
    let foreign = keyward_rules::inject::placeholder::Placeholder::issue("", None);
    let sent = format!("GET /a\r\nAuthorization: Bearer {}", foreign.as_str());
    let refused = market.request("digest", HOST, &sent).await;
    let code = refused.json()["error"]["code"].clone();
    assert_eq!((refused.head.status(), code), (403, json!("placeholder_foreign")));
    for named in ["work-crm", &*id] {
        assert_eq!(market.keyward(&["connection", "show", named]).code, 5);
    }
    let grants = |market: &Market| {
        let vault = &market.lab.gateway.running().services().directory.view();
        vault.connections().filter(|it| it.provider == "svc").count()
    };
    assert_eq!(grants(&market), 1);
    market.lab.gateway.restart().await;
    let sent = format!("GET /a\r\nAuthorization: Bearer {placeholder}");
    let refused = market.request("digest", HOST, &sent).await;
    assert_eq!(refused.json()["error"]["message"], "connection `work-crm` was removed");
    assert_eq!(market.keyward(&["connection", "show", &id]).code, 5, "also after a restart");
    let said = market.says(&["connection", "remove", "other", "--revoke"]);
    assert!(said.contains("the access is revoked at the provider"), "{said}");
    let revoked = market.server.issuer().revoked();
    let pair = market.server.calls()[1].issued.clone().expect("tokens");
    let told: Vec<_> = revoked.iter().map(|asked| asked.form["token"].clone()).collect();
    assert!(told.contains(&pair.access) && told.contains(&pair.refresh.expect("one")), "{told:?}");
    market.close().await;
}
