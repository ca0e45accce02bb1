//! Connect sessions: links by which a person connects an account in a browser. `refused` has what must not work,
//! `walks` what a person sees who does it right, `links` the links in refusals, `end_users` those that are connect sessions, `headless` links without pages, `command` the command line.

mod command;
mod end_users;
mod headless;
mod links;
mod refused;
mod walks;

use serde_json::{Value, json};

use test_support::api::api;
use test_support::authorization::Rules;
use test_support::browser::Browser;
use test_support::canary::Canary;
use test_support::oauth::World;
use test_support::*;

/// The key that the API takes.
const GOOD: &str = "ak_good-0123456789abcdef0123456789";

/// Another key that it takes.
const BETTER: &str = "ak_better-0123456789abcdef0123456789";

/// What the platform is called, and where browsers may return to.
const CONNECT: &str = "connect: { return_urls: [\"https://app.acme.test\"], \
                       branding: { name: Acme Chat, colour: \"#3355ff\" } }";

/// An end user, as the platform names them.
const USER: &str = "auth0|5f7c";

/// An API that takes two keys, and an end user.
pub(super) struct Keys {
    lab: Lab,
}

/// A link and its connect session.
struct Link {
    id: String,
    url: String,
}

impl Keys {
    async fn start() -> Self {
        Self::with(|plan| plan).await
    }

    async fn with(change: impl FnOnce(Plan) -> Plan) -> Self {
        Self::connecting(CONNECT, change).await
    }

    /// With these settings of connect sessions.
    async fn connecting(connect: &str, change: impl FnOnce(Plan) -> Plan) -> Self {
        let origin = Origin::answering(|request: &Message| match request.head.one("x-api-key") {
            Some(key) if [GOOD, BETTER].contains(&key) => ok(r#"{"login": "alice@acme.test"}"#),
            _ => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
        });
        let test = format!("{{ method: GET, url: \"https://{HOST}/me\" }}");
        let plan = change(Plan::api_key().test(&test).top(connect));
        let mut lab = plan.start(origin).await;
        lab.guard(Canary::of(GOOD.to_owned()));
        lab.guard(Canary::of(BETTER.to_owned()));
        user(&lab, USER).await;
        Self { lab }
    }

    async fn link(&mut self, more: Value) -> Link {
        link(&mut self.lab, more).await
    }

    async fn state(&self, link: &Link) -> Value {
        state(&self.lab, link).await
    }

    /// The connections of end users.
    async fn connections(&self) -> Vec<Value> {
        let all = api(&self.lab, "GET", "/connections", Value::Null, 200).await;
        let all = all["items"].as_array().expect("a list").clone();
        all.into_iter().filter(|it| it["name"] != "acme").collect()
    }

    fn browser(&self) -> Browser {
        Browser::new(&self.lab.gateway)
    }

    /// A browser that has opened the link.
    async fn opened(&self, link: &Link) -> Browser {
        let mut browser = self.browser();
        opens(&mut browser, link).await;
        browser
    }
}

async fn user(lab: &Lab, name: &str) {
    api(lab, "POST", "/users", json!({"name": name, "role": "end_user"}), 201).await;
}

/// A link for [`USER`] to connect `acme`, with these members instead or beside.
async fn link(lab: &mut Lab, more: Value) -> Link {
    let mut spec = json!({"user": USER, "providers": ["acme"]});
    for (key, value) in more.as_object().expect("members") {
        spec[key] = value.clone();
    }
    if !spec["connection"].is_null() {
        spec.as_object_mut().expect("members").remove("providers");
    }
    let made = api(lab, "POST", "/connect-sessions", spec, 201).await;
    let text = |key: &str| made[key].as_str().expect("text").to_owned();
    let link = Link { id: text("id"), url: text("url") };
    assert!(link.id.starts_with("cns_") && made["state"] == "open", "{made}");
    let token = link.url.rsplit('/').next().expect("a token").to_owned();
    assert!(link.url.ends_with(&format!("/connect/{token}")) && token.starts_with("kwn_"));
    lab.guard(Canary::of(token));
    link
}

async fn state(lab: &Lab, link: &Link) -> Value {
    api(lab, "GET", &format!("/connect-sessions/{}", link.id), Value::Null, 200).await
}

/// Presses the button of a link.
async fn opens(browser: &mut Browser, link: &Link) {
    browser.get(&link.url).await.is(200);
    let sent = browser.post(&link.url).await.is(303);
    assert_eq!(sent.head.one("location"), Some("session"));
}

const SESSION: &str = "/connect/session";

/// The address to which a page's form is sent.
fn action(page: &Message) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("<form method=\"post\" action=\"").expect("a form");
    let query = rest.split('"').next().expect("an address").replace("&amp;", "&");
    format!("{SESSION}{query}")
}

/// Sends the form of a key.
async fn gives(browser: &mut Browser, key: &str) -> Message {
    let page = browser.get(SESSION).await.is(200);
    browser.submit(&action(&page), &[("field.api_key", key)]).await
}

/// Begins the consent of a link that this browser has opened: the address at the provider.
async fn begins(browser: &mut Browser) -> String {
    let page = browser.get(&format!("{SESSION}?step=choose")).await.is(200);
    let sent = browser.post(&action(&page)).await.is(200);
    test_support::browser::onward(&sent)
}

/// An authorization server, with an end user.
async fn consents() -> World {
    let world = World::with(Rules::default(), |plan| plan.top(CONNECT)).await;
    user(&world.lab, USER).await;
    world
}
