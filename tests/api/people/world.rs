//! Three organisations with the same people in each, and one of everything that somebody can have.

use std::borrow::Borrow;

use keyward_model::User;
use keyward_rules::inject::placeholder::Placeholder;
use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::*;

const ORGS: [&str; 3] = ["default", "acme", "globex"];

/// A person and a token of theirs.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) org: String,
    pub(crate) name: String,
    pub(crate) role: &'static str,
    pub(crate) token: String,
}

/// Something that has an id or a name.
#[derive(Clone, Debug)]
pub(crate) struct Thing {
    pub(crate) kind: &'static str,
    pub(crate) org: String,
    pub(crate) owner: Option<String>,
    pub(crate) shared: bool,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
}

/// An agent that works: its own connection, what it holds for it, and what is sent in its place.
#[derive(Clone, Debug)]
pub(crate) struct Working {
    pub(crate) org: String,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) connection: String,
    pub(crate) placeholder: String,
    pub(crate) secret: String,
}

/// What somebody may name as their own.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) agent: String,
    pub(crate) connection: String,
    user: String,
    org: String,
}

/// A request of the admin API.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    body: Option<Value>,
    org: Option<String>,
}

pub(crate) struct World {
    pub(crate) lab: Lab,
    people: Vec<Person>,
    things: Vec<Thing>,
    working: Vec<Working>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str, body: Option<Value>) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { method, path, body, org: None }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path, None)
    }

    pub(crate) fn post(path: &str, body: Value) -> Self {
        Self::new("POST", path, Some(body))
    }

    pub(crate) fn in_org(mut self, org: &str) -> Self {
        self.org = Some(org.to_owned());
        self
    }

    pub(crate) fn line(&self) -> (&str, &str) {
        (&self.method, &self.path)
    }

    pub(crate) fn text(&self) -> String {
        self.body.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

impl Own {
    /// The variables that are left, with what is one's own.
    pub(crate) fn fill(&self, path: &str) -> String {
        let parts = path.split('/').map(|part| match part {
            "{agent}" => self.agent.clone(),
            "{connection}" => self.connection.clone(),
            "{user}" => self.user.clone(),
            "{org}" => self.org.clone(),
            "{token}" => "tok_00000000000000000000".to_owned(),
            part if part.starts_with('{') => "nothing".to_owned(),
            part => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// A body that the route takes.
    pub(crate) fn body(&self, method: &str, route: &str) -> Option<Value> {
        let new = "new-one";
        Some(match (method, route) {
            ("GET", _) => return None,
            ("POST", "/agents" | "/orgs") => json!({"name": "newone"}),
            ("POST", "/users") => json!({"name": new, "role": "member"}),
            ("POST", "/apps") => json!({"provider": "google", "name": new, "client_id": "c"}),
            ("POST", "/connections") => {
                json!({"provider": "acme", "name": new, "fields": {"api_key": "twenty-characters-ok"}})
            }
            ("POST", "/runs") => json!({"agent": self.agent, "label": "run 1"}),
            ("POST", "/agents/{agent}/bindings") => json!({"connection": self.connection}),
            ("POST", "/connections/{connection}/rotate" | "/connections/{connection}/compare") => {
                json!({"fields": {"api_key": "twenty-characters-ok"}})
            }
            ("PUT", "/users/{user}/password") => json!({"password": "a password of some length"}),
            ("POST", "/session/passkeys") => {
                let response = json!({"clientDataJSON": "", "authenticatorData": "", "publicKeyAlgorithm": -7});
                json!({"name": new, "credential": {"response": response}})
            }
            ("PATCH", "/session/passkeys/{passkey}") => json!({"name": new}),
            ("PUT", "/users/{user}/totp") => json!({"code": "123456"}),
            ("POST", "/flows/{flow}/confirm") => json!({"accept": true}),
            _ => json!({}),
        })
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::of(Plan::api_key()).await
    }

    /// In a gateway of this plan.
    pub(crate) async fn of(mut plan: Plan) -> Self {
        let canaries: Vec<Canary> = (0..ORGS.len() * 4).map(|_| Canary::new("cnry")).collect();
        for (at, canary) in canaries.iter().enumerate() {
            plan = plan.secret(&format!("SECRET_{at}"), canary);
        }
        let lab = plan.start(Origin::saying("fine")).await;
        let mut world = Self { lab, people: vec![], things: vec![], working: vec![] };
        for (org, canaries) in ORGS.iter().zip(canaries.chunks(4)) {
            world.settle(org, canaries).await;
        }
        world
    }

    async fn settle(&mut self, org: &str, canaries: &[Canary]) {
        if org != "default" {
            self.made(None, Ask::post("/orgs", json!({"name": org}))).await;
        }
        let id = (org != "default").then(|| format!("org_{org}"));
        self.keep("org", (org, None, true), (id, Some(org.to_owned())));
        for role in ["admin", "member", "member", "auditor"] {
            self.person_in(org, role).await;
        }
        let of_org = self.people.iter().filter(|person| person.org == org);
        let [admin, one, two, _] = &of_org.cloned().collect::<Vec<_>>()[..] else { panic!("four") };
        let app = json!({"provider": "google", "name": name(), "client_id": "c",
                         "secrets": {"client_secret": canaries[3].text}});
        let app = self.made(Some(admin), Ask::post("/apps", app)).await;
        self.keep("app", (org, None, true), named(&app));
        for (by, secret) in [(one, &canaries[0]), (two, &canaries[1])] {
            let connection = self.connection(by, secret, json!({})).await;
            self.keep("connection", (org, Some(by), false), named(&connection));
            self.agent(by, &connection, secret).await;
        }
        let shared = self.connection(admin, &canaries[2], json!({"visibility": "shared"})).await;
        self.keep("connection", (org, Some(admin), true), named(&shared));
    }

    async fn person_in(&mut self, org: &str, role: &'static str) {
        let user = json!({"name": name(), "role": role, "email": format!("{}@{org}.test", name())});
        let user = self.made(None, Ask::post("/users", user).in_org(org)).await;
        let (id, name) = named(&user);
        let name = name.expect("a name");
        let token = json!({"user": name, "label": "first"});
        let token = self.made(None, Ask::post("/tokens", token).in_org(org)).await;
        let text = token["token"].as_str().expect("shown once").to_owned();
        self.lab.guard(Canary::of(text.clone()));
        let person = Person { org: org.to_owned(), name: name.clone(), role, token: text };
        self.keep("user", (org, Some(&person), false), (id, Some(name)));
        self.keep("token", (org, Some(&person), false), (named(&token).0, None));
        self.people.push(person);
    }

    async fn connection(&self, by: &Person, secret: &Canary, more: Value) -> Value {
        let mut new =
            json!({"provider": "acme", "name": name(), "fields": {"api_key": secret.text}});
        let more = more.as_object().expect("an object").clone();
        new.as_object_mut().expect("an object").extend(more);
        self.made(Some(by), Ask::post("/connections", new)).await
    }

    /// An agent of somebody, with a token and bound to a connection of theirs.
    async fn agent(&mut self, by: &Person, connection: &Value, secret: &Canary) {
        let agent = self.made(Some(by), Ask::post("/agents", json!({"name": name()}))).await;
        self.keep("agent", (&by.org, Some(by), false), named(&agent));
        let (agent, connection) =
            (named(&agent).1.expect("an owner"), named(connection).1.expect("an owner"));
        let at = format!("/agents/{agent}");
        let token = self.made(Some(by), Ask::post(&format!("{at}/tokens"), json!({}))).await;
        self.keep("token", (&by.org, Some(by), false), (named(&token).0, None));
        let bind = Ask::post(&format!("{at}/bindings"), json!({"connection": connection}));
        let bound = self.made(Some(by), bind).await;
        self.working.push(Working {
            org: by.org.clone(),
            name: agent,
            token: token["token"].as_str().expect("shown once").to_owned(),
            connection,
            placeholder: bound["placeholders"]["api_key"].as_str().expect("one").to_owned(),
            secret: secret.text.clone(),
        });
    }

    fn keep(
        &mut self,
        kind: &'static str,
        (org, owner, shared): (&str, Option<&Person>, bool),
        (id, name): (Option<String>, Option<String>),
    ) {
        let (org, owner) = (org.to_owned(), owner.map(|owner| owner.name.clone()));
        self.things.push(Thing { kind, org, owner, shared, id, name });
    }

    async fn made(&self, by: Option<&Person>, ask: Ask) -> Value {
        let answer = self.ask(by, &ask).await;
        assert_eq!(answer.head.status(), 201, "{ask:?}: {}", answer.text());
        answer.json()
    }

    /// As somebody, or as the operator.
    pub(crate) async fn ask(&self, by: Option<&Person>, ask: impl Borrow<Ask>) -> Message {
        let ask = ask.borrow();
        let mut fields = String::new();
        if let Some(by) = by {
            fields += &format!("Authorization: Bearer {}\r\n", by.token);
        }
        if let Some(org) = &ask.org {
            fields += &format!("Keyward-Org: {org}\r\n");
        }
        self.lab.gateway.api_with(&fields, ask.line(), &ask.text()).await
    }

    pub(crate) fn people(&self) -> Vec<Person> {
        self.people.clone()
    }

    /// The first of this role.
    pub(crate) fn person(&self, org: &str, role: &str) -> Person {
        let mut found = self.people.iter().filter(|one| one.org == org && one.role == role);
        found.next().expect("there is one").clone()
    }

    pub(crate) fn member(&self, org: &str, at: usize) -> Person {
        let mut found = self.people.iter().filter(|one| one.org == org && one.role == "member");
        found.nth(at).expect("there is one").clone()
    }

    /// What is theirs to name, or what they may see.
    pub(crate) fn own(&self, by: &Person) -> Own {
        let of = |kind: &str| {
            let visible = self.things.iter().filter(|it| it.kind == kind && sees(by, it));
            let mut visible: Vec<_> = visible.collect();
            visible.sort_by_key(|it| it.owner.as_ref() != Some(&by.name));
            visible[0].name.clone().expect("a name")
        };
        let (agent, connection) = (of("agent"), of("connection"));
        Own { agent, connection, user: by.name.clone(), org: by.org.clone() }
    }

    /// The connection of an organisation that its admin shares.
    pub(crate) fn shared(&self, org: &str) -> String {
        let is_it = |it: &&Thing| it.kind == "connection" && it.org == org && it.shared;
        self.things.iter().find(is_it).and_then(|it| it.name.clone()).expect("there is one")
    }

    /// What does not exist for them: of each kind one of another organisation, and one of their own.
    pub(crate) fn things_hidden_from(&self, by: &Person) -> Vec<Thing> {
        let mut found: Vec<Thing> = Vec::new();
        for thing in self.things.iter().filter(|thing| !sees(by, thing)) {
            let same =
                |it: &Thing| it.kind == thing.kind && (it.org == by.org) == (thing.org == by.org);
            if !found.iter().any(same) {
                found.push(thing.clone());
            }
        }
        found
    }

    /// Names and ids of what does not exist for them.
    pub(crate) fn hidden_from(&self, by: &Person) -> Vec<String> {
        let hidden = self.things.iter().filter(|thing| !sees(by, thing) && thing.kind != "org");
        // Whose a shared connection is may be read: as an id.
        let is_colleague = |thing: &Thing| thing.kind == "user" && thing.org == by.org;
        let texts = |thing: &Thing| {
            let id = thing.id.clone().filter(|_| !is_colleague(thing));
            id.into_iter().chain(thing.name.clone()).collect::<Vec<_>>()
        };
        hidden.flat_map(texts).collect()
    }

    /// Names of what does.
    pub(crate) fn visible_to(&self, by: &Person) -> Vec<String> {
        let seen = self.things.iter().filter(|thing| sees(by, thing));
        seen.filter_map(|thing| thing.name.clone()).collect()
    }

    pub(crate) fn working_agents(&self) -> Vec<Working> {
        let mut first: Vec<Working> = Vec::new();
        for agent in &self.working {
            if !first.iter().any(|known| known.org == agent.org) {
                first.push(agent.clone());
            }
        }
        first
    }

    /// What looks like `real`, and is nothing.
    pub(crate) fn unknown(&self, kind: &str, real: &str) -> String {
        let (prefix, rest) = match real.split_once('_') {
            Some((prefix, rest)) => (format!("{prefix}_"), rest),
            None => (String::new(), real),
        };
        let random = match kind {
            // Names of organisations are letters.
            "org" => letters(rest.len()),
            _ => format!("n{}", &name()[1..]),
        };
        let random: String = random.chars().cycle().take(rest.len()).collect();
        format!("{prefix}{random}")
    }

    /// A placeholder that was never given to anybody.
    pub(crate) fn unissued(&self) -> String {
        Placeholder::issue("", None).as_str().to_owned()
    }

    /// All that stands in the directory.
    pub(crate) fn everything(&self) -> Vec<String> {
        let view = self.lab.gateway.running().services().directory.view();
        let orgs = view.orgs().map(|org| format!("{org:?}"));
        let users =
            view.orgs().flat_map(|org| view.all::<User>(&org.id)).map(|user| format!("{user:?}"));
        let agents = view.agents().map(|agent| format!("{agent:?}"));
        let connections = view.connections().map(|connection| format!("{connection:?}"));
        let apps = view.apps().map(|app| format!("{app:?}"));
        let mut all: Vec<_> =
            orgs.chain(users).chain(agents).chain(connections).chain(apps).collect();
        all.sort();
        all
    }

    fn authorization(agent: &Working) -> String {
        use base64::Engine;
        let pair = format!("{}:{}", agent.name, agent.token);
        let pair = base64::prelude::BASE64_STANDARD.encode(pair);
        format!("Proxy-Authorization: Basic {pair}\r\n")
    }

    async fn asked_to_connect(&self, agent: &Working) -> (u16, Wire) {
        let mut wire = self.lab.client().await;
        let authorization = Self::authorization(agent);
        wire.send(format!(
            "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{authorization}\r\n"
        ))
        .await;
        (wire.answer("CONNECT").await.head.status(), wire)
    }

    /// The status of a CONNECT.
    pub(crate) async fn connect(&self, agent: &Working) -> u16 {
        self.asked_to_connect(agent).await.0
    }

    /// An intercepted tunnel.
    pub(crate) async fn tunnel(&self, agent: &Working) -> Wire {
        let (status, wire) = self.asked_to_connect(agent).await;
        assert_eq!(status, 200);
        self.lab.secure(wire, HOST).await
    }

    /// A request through the proxy with another line.
    pub(crate) async fn through(&self, agent: &Working, line: &str) -> Message {
        let mut wire = self.tunnel(agent).await;
        wire.ask(request_text(&format!("GET /a\r\n{line}"), HOST)).await
    }

    /// A request by a base URL of this connection.
    pub(crate) async fn base_url(&self, agent: &Working, connection: &str) -> Message {
        let mut wire = self.lab.client().await;
        let line = format!("Authorization: Bearer {}", agent.token);
        wire.ask(request_text(&format!("GET /to/{connection}/a\r\n{line}"), "127.0.0.1:8080")).await
    }

    /// Stops, looks for secrets, and gives the records of changes.
    pub(crate) async fn finish(self) -> Vec<Value> {
        let all = self.lab.finish_with_changes().await;
        all.into_iter().filter(|record| record.get("change").is_some()).collect()
    }
}

fn sees(by: &Person, thing: &Thing) -> bool {
    let theirs = thing.shared || thing.owner.as_ref() == Some(&by.name);
    thing.org == by.org && (by.role != "member" || theirs)
}

/// What an answer of the proxy says apart from the exchange's id and what was named.
pub(crate) fn without_exchange(answer: &Message, named: &str) -> String {
    let text = without_ids(&answer.text().replace(named, "NAMED"));
    format!("{} {:?} {text}", answer.head.status(), answer.head.one("keyward-error"))
}

/// A text without the ids of exchanges and requests.
pub(crate) fn without_ids(text: &str) -> String {
    let mut parts = text.split("exc_");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text += "EXC";
        text += part.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    }
    text
}

fn named(of: &Value) -> (Option<String>, Option<String>) {
    let text = |key: &str| of[key].as_str().map(str::to_owned);
    (text("id"), text("name"))
}

fn name() -> String {
    let mut bytes = [0; 9];
    getrandom::fill(&mut bytes).expect("randomness");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("n{hex}")
}

fn letters(count: usize) -> String {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).expect("randomness");
    bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}
