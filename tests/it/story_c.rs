//! An integration platform: its customers are organisations, their people connect accounts, and
//! programs act with those. Told through the command line and the proxy.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::canary::Canary;
use crate::support::*;

/// What the program printed and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// The platform: a gateway, and its command line.
struct Platform {
    lab: Lab,
}

impl Said {
    fn ok(self) -> Value {
        assert_eq!(self.code, 0, "{}", self.err);
        serde_json::from_str(&self.out).expect("JSON")
    }

    fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

impl Platform {
    async fn new(secrets: &[(&str, &Canary)]) -> Self {
        let mut plan = Plan::api_key();
        for (name, secret) in secrets {
            plan = plan.secret(name, secret);
        }
        Self { lab: plan.start(Origin::saying("fine").await).await }
    }

    /// A command as whoever has the token, or as the platform's operator.
    async fn keyward(&self, token: Option<&str>, line: &str, input: &str) -> Said {
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
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let code = output.status.code().expect("an exit code");
        Said { code, out: text(output.stdout), err: text(output.stderr) }
    }

    async fn operator(&self, line: &str) -> Value {
        self.keyward(None, line, "").await.ok()
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
        self.keyward(Some(token), &line, &key.text).await.ok()
    }

    /// An agent of a person that may use one of their connections, and its token.
    async fn agent(&self, token: &str, name: &str, connection: &str) -> String {
        let added = self.keyward(Some(token), &format!("agent add {name}"), "").await.ok();
        let bind = format!("agent bind {name} {connection}");
        self.keyward(Some(token), &bind, "").await.ok();
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
        wire.send(request_text(&format!("GET /me\r\nKeyward-Connection: {connection}"), HOST))
            .await;
        wire.answer("GET").await
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
async fn c4_a_connection_belongs_to_an_organisation_and_to_who_made_it() {
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
        platform.keyward(Some(&bob), "connection list", "").await.ok()["items"],
        Value::Array(vec![])
    );
    // Whoever works for one customer does not get into another by asking for it.
    let text = platform.keyward(Some(&eve), "--org northwind connection list", "").await.failed(5);
    let nothing =
        platform.keyward(Some(&eve), "--org northstar connection list", "").await.failed(5);
    assert_eq!(text.replace("northwind", "X"), nothing.replace("northstar", "X"));

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
        let answer = platform.call((agent, token), connection).await;
        assert_eq!(answer.head.status(), 200, "{}", answer.text());
        assert_eq!(platform.last_key(), key.text, "the account of whose agent it is");
    }
    // What the team shares is everybody's to use, and only the lead's to change.
    platform.keyward(Some(&bob), "agent bind bobs-helper team-acme", "").await.ok();
    assert_eq!(platform.call(("bobs-helper", &bobs), "team-acme").await.head.status(), 200);
    assert_eq!(platform.last_key(), keys[2].text);
    let text = platform.keyward(Some(&bob), "connection pause team-acme", "").await.failed(4);
    assert!(text.contains("yours to use, not to change"), "{text}");
    // What is somebody's alone is not lent by an admin either.
    let lent = platform.keyward(Some(&lead), "agent bind bobs-helper ann-acme", "").await.failed(1);
    assert!(lent.contains("is private"), "{lent}");

    // Bob leaves: paused, he and his agent are out at once; then Ann takes over his account.
    platform.keyward(Some(&lead), "user set bob --pause", "").await.ok();
    platform.keyward(Some(&bob), "connection list", "").await.failed(4);
    for line in
        ["agent remove bobs-helper", "connection assign bob-acme --to ann", "user remove bob"]
    {
        platform.keyward(Some(&lead), line, "").await.ok();
    }
    platform.keyward(Some(&ann), "agent bind anns-helper bob-acme", "").await.ok();
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
