//! `explain` and the data path agree: random configurations and requests are explained by the admin API and then sent
//! over real sockets. The explanation must be what happens.

mod draw;

use std::collections::BTreeMap;

use keyward_base::id::OrgId;
use keyward_state::directory::ManagedBy;
use serde_json::Value;

use self::draw::{Asked, Dice};
use test_support::canary::Canary;
use test_support::*;

const WORLDS: u64 = 25;
const REQUESTS: u64 = 20;

/// What becomes of a request.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fate {
    /// An answer of Keyward's with this code; the origin got nothing.
    Refused(String),
    /// The origin got the credential of this connection, and of no other.
    Injected(String),
    /// The origin got the request without a credential of ours.
    Passed,
    /// The origin got it as the agent sent it.
    Tunnelled,
}

/// A drawn configuration at work.
struct World {
    lab: Lab,
    clear: Origin,
    secrets: Vec<(&'static str, Canary)>,
    placeholders: Vec<(String, String, String)>,
}

#[tokio::test]
async fn explain_predicts_the_outcome_of_random_requests() {
    let mut fates: BTreeMap<Fate, usize> = BTreeMap::new();
    for seed in 0..WORLDS {
        let mut dice = Dice(seed);
        let world = World::draw(&mut dice).await;
        for number in 0..REQUESTS {
            let asked = draw::request(&mut dice, &world.placeholders);
            let told = world.told(&asked).await;
            let fate = world.fate(&asked).await;
            assert_eq!(told.0, fate, "world {seed}, request {number}: {asked:#?}\n{}", told.1);
            *fates.entry(fate).or_default() += 1;
        }
        world.lab.finish().await;
    }
    assert_eq!(fates.values().sum::<usize>(), 500);
    assert_varied(&fates);
}

#[tokio::test]
async fn the_comparison_with_explain_detects_a_different_outcome() {
    let origin = Origin::saying("fine");
    let lab = Plan::api_key().start(origin).await;
    let secrets = vec![("acme", lab.canary.clone())];
    let world = World { lab, clear: Origin::saying("fine"), secrets, placeholders: vec![] };
    let asked = Asked {
        agent: "ci".to_owned(),
        method: "GET".to_owned(),
        secure: true,
        authority: HOST.to_owned(),
        host: HOST.to_owned(),
        path: "/".to_owned(),
        fields: vec![],
    };
    let (told, _) = world.told(&asked).await;
    assert_eq!(
        (&told, world.fate(&asked).await),
        (&Fate::Injected("acme".to_owned()), told.clone())
    );
    world.pause("acme").await;
    assert_eq!(world.fate(&asked).await, Fate::Refused("connection_paused".to_owned()));
    assert_ne!(told, world.fate(&asked).await);
    assert_eq!(world.told(&asked).await.0, world.fate(&asked).await);
    world.lab.finish().await;
}

/// The list may name public addresses: what counts is whether the address is on it.
#[tokio::test]
async fn cleartext_to_a_public_address_depends_on_the_private_list() {
    let rule =
        "{ name: lan, agents: [ci], hosts: [\"nas.test:80\"], use: acme, allow_plaintext: true }";
    let plan = || {
        let plan = Plan::api_key().hosts("\"nas.test:80\"").rule(rule);
        plan.resolve("\"nas.test:80\": \"9.9.9.9:80\"")
    };
    for (plan, code) in [(plan(), Some("plaintext_refused")), (plan().allow("9.9.9.9/32:80"), None)]
    {
        let lab = plan.start(Origin::saying("fine")).await;
        let ask = r#"{"agent":"ci","method":"GET","url":"http://nas.test/"}"#;
        let told = lab.gateway.api("POST", "/rules/explain", ask).await.json();
        assert_eq!(told["addresses"][0]["address"], "9.9.9.9:80", "{told:#}");
        assert_eq!(told["stopped_by"][0]["code"].as_str(), code, "{told:#}");
        assert_eq!(told["addresses"][0]["allowed"], code.is_none(), "{told:#}");
        assert_eq!(told["allowed"], code.is_none(), "{told:#}");
        lab.finish().await;
    }
}

/// Its bindings are left out, so that other reasons would ask for a binding that is there.
#[tokio::test]
async fn explain_names_only_the_pause_for_a_paused_agent() {
    let lab = Lab::simple().await;
    lab.gateway.api("POST", "/agents/ci/pause", "").await.is(200);
    let url = format!("https://{HOST}/user");
    let ask = serde_json::json!({"agent": "ci", "url": url}).to_string();
    let told = lab.gateway.api("POST", "/rules/explain", &ask).await.json();
    let stops = told["stopped_by"].as_array().expect("a list");
    let codes: Vec<_> = stops.iter().map(|stop| stop["code"].clone()).collect();
    assert_eq!(codes, ["agent_unauthenticated"], "{told}");
    let case = serde_json::json!({"agent": "ci", "request": url, "expect": "inject"});
    let cases = serde_json::json!({"cases": [case]}).to_string();
    let report = lab.gateway.api("POST", "/rules/test", &cases).await.json();
    let wrong = report["results"][0]["wrong"][0].as_str().unwrap_or_default();
    assert!(wrong.contains("agent `ci` is paused"), "{report}");
    lab.finish().await;
}

/// The draw reaches what it is for.
fn assert_varied(fates: &BTreeMap<Fate, usize>) {
    let codes: Vec<&str> = fates
        .keys()
        .filter_map(|fate| match fate {
            Fate::Refused(code) => Some(&**code),
            _ => None,
        })
        .collect();
    for code in [
        "address_refused",
        "agent_unauthenticated",
        "bad_request",
        "bad_target",
        "connection_ambiguous",
        "connection_missing",
        "connection_paused",
        "default_deny",
        "denied",
        "method_refused",
        "placeholder_foreign",
        "plaintext_refused",
        "port_refused",
        "token_endpoint_refused",
    ] {
        assert!(codes.contains(&code), "no request met {code}: {fates:#?}");
    }
    for connection in draw::CONNECTIONS {
        let injected = Fate::Injected(connection.name.to_owned());
        assert!(fates.contains_key(&injected), "{} was never used: {fates:#?}", connection.name);
    }
    assert!(
        fates.contains_key(&Fate::Passed) && fates.contains_key(&Fate::Tunnelled),
        "{fates:#?}"
    );
}

impl World {
    async fn draw(dice: &mut Dice) -> Self {
        let names = &draw::HOSTS[..draw::HOSTS.len() - 1];
        let tls = Origin::named(names, |mut stream: Stream| async move {
            while stream.request().await.is_some() && stream.try_send(ok("fine")).await.is_ok() {}
        });
        let clear = Origin::with_tls(None, |mut stream: Stream| async move {
            while stream.request().await.is_some() && stream.try_send(ok("fine")).await.is_ok() {}
        });
        let (plan, secrets) = draw::plan(dice, &tls.addr.to_string(), &clear.addr.to_string());
        let lab = plan.start_consistent(tls).await;
        let world = Self { placeholders: placeholders(&lab), lab, clear, secrets };
        if dice.chance(50) {
            world.pause(dice.one(&draw::CONNECTIONS).name).await;
        }
        if dice.chance(20) {
            let agent: &&str = dice.one(&draw::AGENTS);
            world.pause_agent(agent).await;
        }
        world
    }

    async fn pause(&self, connection: &str) {
        let services = self.lab.gateway.running().services();
        let org = OrgId::default_org();
        let id =
            services.directory.view().find_connection(&org, connection).expect("it").id.clone();
        let paused = services.directory.set_connection_paused(&org, &id, true, ManagedBy::File);
        paused.await.expect("it can be paused");
        services.rulebook.rebuild().await.expect("the rules compile");
    }

    async fn pause_agent(&self, agent: &str) {
        let services = self.lab.gateway.running().services();
        let org = OrgId::default_org();
        let id = services.directory.view().find_agent(&org, agent).expect("it").id.clone();
        services
            .directory
            .change::<keyward_model::Agent>(&org, &id, |it| it.facts.paused = true)
            .await
            .expect("it can be paused");
        services.rulebook.rebuild().await.expect("the rules compile");
    }

    /// What `explain` says, in our words and its own.
    async fn told(&self, asked: &Asked) -> (Fate, Value) {
        let fields: BTreeMap<_, _> = asked.fields.iter().cloned().collect();
        let body = serde_json::json!({
            "agent": asked.agent, "method": asked.method, "url": asked.url(), "headers": fields,
        });
        let answer = self.lab.gateway.api("POST", "/rules/explain", &body.to_string()).await;
        assert_eq!(answer.head.status(), 200, "{asked:?}: {}", answer.text());
        let told = answer.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fate = match (told["allowed"] == true, told["action"].as_str()) {
            (false, _) => Fate::Refused(first_code(&told)),
            (true, Some("inject")) => Fate::Injected(text(&told["connection"]["name"])),
            (true, Some("pass")) => Fate::Passed,
            (true, Some("tunnel")) => Fate::Tunnelled,
            _ => panic!("neither allowed nor stopped: {told}"),
        };
        (fate, told)
    }

    /// What happens.
    async fn fate(&self, asked: &Asked) -> Fate {
        let origin = if asked.secure { &self.lab.origin } else { &self.clear };
        let before = origin.received().len();
        let code = match asked.secure {
            true => self.by_tunnel(asked).await,
            false => self.by_uri(asked).await,
        };
        let received = origin.received().split_off(before);
        match (code, &received[..]) {
            (Some(code), []) => Fate::Refused(code),
            (None, [request]) => self.arrived(request),
            (code, _) => panic!("{asked:?}: answer {code:?}, origin {received:?}"),
        }
    }

    /// By CONNECT; the code when Keyward answers itself.
    async fn by_tunnel(&self, asked: &Asked) -> Option<String> {
        let mut wire = self.lab.client().await;
        let target = match asked.authority.contains(':') {
            true => asked.authority.clone(),
            false => format!("{}:443", asked.authority),
        };
        let authorization = self.lab.authorization(&asked.agent);
        wire.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n"))
            .await;
        let opened = wire.answer("CONNECT").await;
        if opened.head.status() != 200 {
            return Some(opened.head.one("keyward-error").expect("a code").to_owned());
        }
        // A tunnel ends at the origin, which has another authority.
        let roots = format!("{}\n{}", self.lab.gateway.ca_pem, pki::pki().pem);
        let secure = self.lab.secure_trusting(&roots, wire, &asked.host).await;
        self.asks(secure.expect("the handshake"), asked, &asked.path).await
    }

    /// By the whole URI; the code when Keyward answers itself.
    async fn by_uri(&self, asked: &Asked) -> Option<String> {
        let mut named = asked.clone();
        let authorization = self.lab.authorization(&asked.agent);
        let (name, value) = authorization.trim_end().split_once(": ").expect("a field");
        named.fields.push((name.to_owned(), value.to_owned()));
        self.asks(self.lab.client().await, &named, &asked.url()).await
    }

    async fn asks(&self, mut wire: Wire, asked: &Asked, target: &str) -> Option<String> {
        let mut head = format!("{} {target}\r\nContent-Length: 0\r\n{MARK}: 1", asked.method);
        for (name, value) in &asked.fields {
            head += &format!("\r\n{name}: {value}");
        }
        wire.send(request_text(&head, &asked.authority)).await;
        let answer = wire.answer(&asked.method).await;
        answer.head.one("keyward-error").map(str::to_owned)
    }

    fn arrived(&self, request: &Message) -> Fate {
        let used = self.secrets.iter().filter(|(_, secret)| secret.is_in(&request.head.raw));
        match used.map(|(name, _)| *name).collect::<Vec<_>>()[..] {
            [] if request.head.has(MARK) => Fate::Tunnelled,
            [] => Fate::Passed,
            [name] => Fate::Injected(name.to_owned()),
            ref several => panic!("several credentials in one request: {several:?}"),
        }
    }
}

/// A field that no proxy forwards: where it arrives, nobody looked.
const MARK: &str = "Proxy-Connection";

/// The one that the agent meets: authentication comes first, wherever it is told.
fn first_code(told: &Value) -> String {
    let stops = told["stopped_by"].as_array().expect("a list");
    let codes: Vec<&str> = stops.iter().filter_map(|stop| stop["code"].as_str()).collect();
    match codes.contains(&"agent_unauthenticated") {
        true => "agent_unauthenticated".to_owned(),
        false => (*codes.first().expect("a stop")).to_owned(),
    }
}

fn placeholders(lab: &Lab) -> Vec<(String, String, String)> {
    let view = lab.gateway.running().services().directory.view();
    let org = OrgId::default_org();
    let mut all = vec![];
    for agent in draw::AGENTS {
        let record = view.find_agent(&org, agent).expect("it was drawn");
        for drawn in &draw::CONNECTIONS {
            let id = &view.find_connection(&org, drawn.name).expect("it was drawn").id;
            if record.facts.bindings.iter().any(|bound| bound.connection == *id) {
                let text = lab.gateway.placeholder(agent, drawn.name, drawn.field);
                all.push((agent.to_owned(), drawn.name.to_owned(), text));
            }
        }
    }
    all
}
