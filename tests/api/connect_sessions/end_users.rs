//! Links in refusals for end users: made for one of them, given again until they are opened, and bounded.

use jiff::ToSpan;
use keyward_base::id::{ConnectSessionId, OrgId};
use keyward_model::Connection;
use keyward_state::directory::{BrokenReason, ConnectionRecord, ConnectionState};
use serde_json::{Value, json};

use super::*;

const ON: &str = "connect: { links_for_end_users: true }";

/// A platform whose agent `support` serves end users at `acme`.
struct Platform {
    keys: Keys,
}

impl Platform {
    async fn start(connect: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let mut keys = Keys::connecting(connect, change).await;
        keys.lab.add_agent("support").await;
        let serves = json!({"user_providers": ["acme"]});
        api(&keys.lab, "PATCH", "/agents/support", serves, 200).await;
        Self { keys }
    }

    fn lab(&self) -> &Lab {
        &self.keys.lab
    }

    /// The token of a session, and its id.
    async fn session(&mut self, spec: Value) -> (String, String) {
        let made = api(self.lab(), "POST", "/sessions", spec, 201).await;
        let text = |key: &str| made[key].as_str().expect("text").to_owned();
        self.keys.lab.guard(Canary::of(text("token")));
        (text("token"), text("id"))
    }

    /// The token of a session of `support` and this end user.
    async fn of(&mut self, user: &str) -> String {
        self.session(json!({"agent": "support", "user": user})).await.0
    }

    async fn ask(&self, token: &str) -> Message {
        let mut wire = self.lab().client().await;
        wire.ask(absolute("GET /me", HOST, token)).await
    }

    /// `connect_url` of the refusal of a request.
    async fn connect_url(&self, token: &str) -> Value {
        let refused = self.ask(token).await;
        assert!([403, 424].contains(&refused.head.status()), "{}", refused.text());
        refused.json()["error"]["connect_url"].clone()
    }

    async fn url(&self, token: &str) -> String {
        let url = self.connect_url(token).await;
        url.as_str().unwrap_or_else(|| panic!("a link: {url}")).to_owned()
    }

    async fn links(&self) -> Vec<Value> {
        let all = api(self.lab(), "GET", "/connect-sessions", Value::Null, 200).await;
        all["items"].as_array().expect("a list").clone()
    }
}

fn link_at(url: &str) -> Link {
    Link { id: String::new(), url: url.to_owned() }
}

#[tokio::test]
async fn without_the_setting_a_refusal_makes_no_link_of_an_end_user() {
    for connect in [
        "connect: {}",
        "connect: { links_for_end_users: false }",
        "connect: { links_for_end_users: true, links_in_refusals: false }",
    ] {
        let mut platform = Platform::start(connect, |plan| plan).await;
        let token = platform.of(USER).await;
        assert_eq!(platform.connect_url(&token).await, Value::Null, "{connect}");
        assert_eq!(platform.links().await, [] as [Value; 0], "{connect}");
        platform.keys.lab.finish().await;
    }
}

#[tokio::test]
async fn no_end_user_link_is_made_where_the_session_could_not_use_the_connection() {
    let mut platform = Platform::start(ON, |plan| plan).await;
    let base = format!("http://localhost:{}", platform.lab().gateway.admin.port());
    // No session: the page of the console.
    let refused = platform.ask(platform.lab().token("support")).await.json();
    assert_eq!(
        refused["error"]["connect_url"],
        format!("{base}/connect?provider=acme&agent=support")
    );
    // A session that names its connections cannot use another one.
    let new =
        json!({"provider": "acme", "name": "of-42", "owner": USER, "fields": {"api_key": GOOD}});
    api(platform.lab(), "POST", "/connections", new, 201).await;
    let named = json!({"agent": "support", "user": USER, "connections": ["of-42"]});
    let (named, _) = platform.session(named).await;
    api(platform.lab(), "DELETE", "/connections/of-42", Value::Null, 200).await;
    assert_eq!(platform.connect_url(&named).await, Value::Null);
    // The agent does not serve end users at the provider.
    let token = platform.of(USER).await;
    let serves = json!({"user_providers": ["github"]});
    api(platform.lab(), "PATCH", "/agents/support", serves, 200).await;
    let refused = platform.ask(&token).await.json();
    assert_eq!(refused["error"]["connect_url"], Value::Null, "{refused}");
    assert_eq!(platform.links().await, [] as [Value; 0]);
    platform.keys.lab.finish().await;
}

#[tokio::test]
async fn a_link_is_given_again_until_it_is_opened_and_never_to_another_end_user() {
    let mut platform = Platform::start(ON, |plan| plan).await;
    user(platform.lab(), "42").await;
    let (own, again, other) =
        (platform.of(USER).await, platform.of(USER).await, platform.of("42").await);
    let first = platform.url(&own).await;
    for _ in 0..20 {
        assert_eq!(platform.url(&own).await, first);
    }
    assert_eq!(platform.url(&again).await, first, "another session of the same end user");
    let of_other = platform.url(&other).await;
    assert_ne!(of_other, first);
    assert_eq!(platform.links().await.len(), 2);
    let page = platform.keys.browser().get(&of_other).await;
    assert!(page.text().contains("42") && !page.text().contains(USER), "{}", page.text());

    let mut browser = platform.keys.opened(&link_at(&first)).await;
    let second = platform.url(&own).await;
    assert_ne!(second, first, "the first works in its browser alone");
    assert_eq!(platform.url(&own).await, second);
    assert_eq!(platform.keys.browser().get(&first).await.head.status(), 403);
    assert_eq!(browser.get(SESSION).await.head.status(), 200);

    // It is given no more when a person would have too little time.
    let links = platform.links().await;
    let services = platform.lab().gateway.running().services().clone();
    for link in links.iter().filter(|it| it["state"] == "open") {
        let id = ConnectSessionId::parse(link["id"].as_str().expect("an id")).expect("an id");
        let soon = services.clock.now() + 9.minutes();
        let change = |it: &mut keyward_model::Record<keyward_model::ConnectSession>| {
            it.facts.expires = soon;
        };
        services.directory.change(&OrgId::default_org(), &id, change).await.expect("it is stored");
    }
    assert_ne!(platform.url(&own).await, second);
    platform.keys.lab.finish().await;
}

#[tokio::test]
async fn refusals_may_use_half_of_the_connect_links_of_an_organisation() {
    let limits = |plan: Plan| plan.limit("connect_sessions_max: 4");
    let mut platform = Platform::start(ON, limits).await;
    let mut given = Vec::new();
    for name in ["1", "2", "3"] {
        user(platform.lab(), name).await;
        let token = platform.of(name).await;
        given.push(platform.connect_url(&token).await.is_string());
    }
    assert_eq!(given, [true, true, false]);
    let refused = platform.of("3").await;
    assert_eq!(platform.connect_url(&refused).await, Value::Null);
    // The platform's own half is left, and a link that has ended makes room.
    platform.keys.link(json!({})).await;
    let links = platform.links().await;
    let given = links.iter().find(|it| !it["for_refusal"].is_null()).expect("a link");
    let path = format!("/connect-sessions/{}", given["id"].as_str().expect("an id"));
    api(platform.lab(), "DELETE", &path, Value::Null, 204).await;
    assert!(platform.connect_url(&refused).await.is_string());
    platform.keys.lab.finish().await;
}

#[tokio::test]
async fn the_link_of_a_refusal_connects_a_missing_or_broken_account_of_the_end_user() {
    let mut platform = Platform::start(ON, |plan| plan).await;
    let (token, session) = platform.session(json!({"agent": "support", "user": USER})).await;
    let refused = platform.ask(&token).await.json();
    assert_eq!(refused["error"]["provider"], "acme", "{refused}");
    let url = refused["error"]["connect_url"].as_str().expect("a link").to_owned();
    let made = platform.links().await[0].clone();
    assert_eq!(
        (&made["user_name"], &made["for_refusal"]["session"]),
        (&json!(USER), &json!(session))
    );
    let mut browser = platform.keys.opened(&link_at(&url)).await;
    assert_eq!(gives(&mut browser, GOOD).await.head.status(), 303);
    assert_eq!(platform.ask(&token).await.head.status(), 200);
    assert_eq!(platform.links().await[0]["state"], "completed");

    let services = platform.lab().gateway.running().services().clone();
    let org = OrgId::default_org();
    let view = services.directory.view();
    let id = view.find_connection(&org, "acme-of-auth0-5f7c").expect("it").id.clone();
    let breaks = |it: &mut ConnectionRecord| {
        it.facts.state = ConnectionState::Broken { reason: BrokenReason::Rejected, detail: None };
    };
    services.directory.change::<Connection>(&org, &id, breaks).await.expect("a store");
    services.rulebook.rebuild().await.expect("rules");
    let refused = platform.ask(&token).await;
    assert_eq!(refused.refusal(), (424, Some("connection_broken")));
    let again = platform.url(&token).await;
    assert_ne!(again, url);
    let mut browser = platform.keys.opened(&link_at(&again)).await;
    assert_eq!(gives(&mut browser, BETTER).await.head.status(), 303);
    assert_eq!(platform.ask(&token).await.head.status(), 200);
    assert_eq!(platform.keys.connections().await.len(), 1, "the same connection");

    let records = platform.keys.lab.finish_with_changes().await;
    let of_gateway = |it: &&Value| {
        it["change"]["what"] == "connect session" && it["change"]["action"] == "added"
    };
    let added: Vec<_> = records.iter().filter(of_gateway).collect();
    assert_eq!(added.len(), 2, "{added:#?}");
    for record in added {
        assert_eq!(
            (&record["change"]["by"], &record["agent"]),
            (&json!("gateway"), &json!("support"))
        );
        assert_eq!((&record["session"], &record["user"]), (&json!(session), &json!(USER)));
        let why = format!("for user {USER}: a request of agent support was refused");
        assert_eq!(record["change"]["why"], why);
    }
    let tokens = [&url, &again].map(|url| url.rsplit('/').next().expect("a token").to_owned());
    let text = serde_json::to_string(&records).expect("JSON");
    assert!(tokens.iter().all(|token| !text.contains(token)));
}
