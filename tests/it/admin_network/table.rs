//! Every route of the API × everything that is wrong with who asks or how: refused with the same status everywhere,
//! and nothing is changed or sent.

use serde_json::{Value, json};

use super::{ask_at, bearer};
use crate::people::routes::{Route, routes};
use crate::people::world::{Ask, Person, World};
use crate::support::*;

/// One row of the table: what is wrong, the fields that say so, and the expected status.
struct Wrong {
    what: &'static str,
    fields: String,
    status: u16,
    code: &'static str,
}

/// The tokens of the table.
struct Tokens {
    admin: String,
    auditor: String,
    member: String,
    expired: String,
    revoked: String,
    agent: String,
    /// May read webhooks and apps respectively, and nothing else.
    webhooks: String,
    apps: String,
    foreign: String,
}

/// The routes of the API that the sources name with their whole path.
const WHOLE: &[&str] = &["", "/status", "/caller"];

/// What a member may not read.
const OF_ADMINS: &[&str] =
    &["/audit", "/keys", "/upstreams", "/webhooks", "/events", "/honeytokens"];

async fn made(world: &World, by: &Person, new: Value) -> (String, String) {
    let made = world.ask(Some(by), Ask::post("/tokens", new)).await;
    assert_eq!(made.head.status(), 201, "{}", made.text());
    let text = |key: &str| made.json()[key].as_str().expect("text").to_owned();
    (text("id"), text("token"))
}

impl Tokens {
    async fn of(world: &World) -> Self {
        let admin = world.person("default", "admin");
        let (revoked_id, revoked) = made(world, &admin, json!({"label": "gone"})).await;
        let gone = Ask::new("DELETE", &format!("/tokens/{revoked_id}"), None);
        assert_eq!(world.ask(Some(&admin), gone).await.head.status(), 204);
        let (_, expired) = made(world, &admin, json!({"ttl": "1ms"})).await;
        let scoped = |scope: &str| json!({"scopes": [scope]});
        Self {
            auditor: world.person("default", "auditor").token,
            member: world.person("default", "member").token,
            expired,
            revoked,
            agent: world.working_agents()[0].token.clone(),
            webhooks: made(world, &admin, scoped("webhooks:read")).await.1,
            apps: made(world, &admin, scoped("apps:read")).await.1,
            foreign: world.person("acme", "admin").token,
            admin: admin.token,
        }
    }

    fn wrongs(&self, world: &World, method: &str, path: &str, route: Option<&Route>) -> Vec<Wrong> {
        let (own, admin) = (world.lab.gateway.admin, bearer(&self.admin));
        let other = if self.admin.ends_with('x') { 'y' } else { 'x' };
        let typo = format!("{}{other}", &self.admin[..self.admin.len() - 1]);
        let wrong = |what, fields: String, status, code| Wrong { what, fields, status, code };
        let unauthenticated =
            |what, authorization: String| wrong(what, authorization, 401, "unauthenticated");
        let mut all = vec![
            unauthenticated("no auth", String::new()),
            unauthenticated("malformed", "Authorization: kwp\r\n".to_owned()),
            unauthenticated("another scheme", format!("Authorization: Basic {}\r\n", self.admin)),
            unauthenticated("two tokens", format!("{admin}{admin}")),
            unauthenticated("unknown", bearer(&typo)),
            unauthenticated("expired", bearer(&self.expired)),
            unauthenticated("revoked", bearer(&self.revoked)),
            unauthenticated("of an agent", bearer(&self.agent)),
            wrong(
                "wrong org",
                format!("{}Keyward-Org: globex\r\n", bearer(&self.foreign)),
                404,
                "not_found",
            ),
            wrong(
                "foreign origin",
                format!("Origin: https://evil.example\r\n{admin}"),
                403,
                "cross_site_refused",
            ),
            wrong(
                "rebinding",
                format!("Host: evil.example:{}\r\n{admin}", own.port()),
                421,
                "host_mismatch",
            ),
            wrong(
                "cleartext",
                format!("X-Forwarded-For: 203.0.113.9\r\n{admin}"),
                403,
                "cleartext_refused",
            ),
        ];
        // Every token may ask for these.
        if WHOLE.contains(&path) && path != "/status" {
            return all;
        }
        let reads = method == "GET";
        let is_hook =
            ["/webhooks", "/events", "/honeytokens"].iter().any(|at| path.starts_with(at));
        let scoped = if is_hook { &self.apps } else { &self.webhooks };
        all.push(wrong("missing scope", bearer(scoped), 403, "scope_missing"));
        if !reads && route.is_none_or(Route::writes_something) {
            all.push(wrong("role auditor", bearer(&self.auditor), 403, "not_allowed"));
        }
        if reads && OF_ADMINS.iter().any(|of| path.starts_with(of)) {
            all.push(wrong("role member", bearer(&self.member), 403, "not_allowed"));
        }
        all
    }
}

#[tokio::test]
async fn every_route_refuses_whoever_may_not_ask_and_however_it_must_not_be_asked() {
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 1000000");
    let world = World::of(plan).await;
    let tokens = Tokens::of(&world).await;
    patiently("the token expires", async {
        let fields = bearer(&tokens.expired);
        while ask_at(&world.lab, "GET /api/v1/agents", &fields, "").await.head.status() != 401 {}
    })
    .await;
    let (own, before) = (world.own(&world.person("default", "admin")), world.everything());
    let named = routes().iter().flat_map(|route| {
        route.methods.iter().map(move |method| (*method, route.path.as_str(), Some(route)))
    });
    let whole = WHOLE.iter().map(|path| ("GET", *path, None));
    let mut count = 0;
    for (method, path, route) in named.chain(whole) {
        let line = format!("{method} /api/v1{}", own.fill(path));
        let body = own.body(method, path).map(|body| body.to_string()).unwrap_or_default();
        for Wrong { what, fields, status, code } in tokens.wrongs(&world, method, path, route) {
            let answer = ask_at(&world.lab, &line, &fields, &body).await;
            let said = (answer.head.status(), answer.json()["error"]["code"].clone());
            assert_eq!(said, (status, json!(code)), "{what}: {line}");
            assert!(
                answer.head.has("keyward-request")
                    && !answer.head.has("access-control-allow-origin")
            );
            assert_eq!(answer.head.has("www-authenticate"), status == 401, "{what}: {line}");
            count += 1;
        }
        let options = line.replacen(method, "OPTIONS", 1);
        let answer = ask_at(&world.lab, &options, &bearer(&tokens.admin), "").await;
        assert_eq!(answer.head.status(), 405, "{options}");
        // Without anything wrong the route exists: a list that no longer fits the API is noticed.
        let is_safe = method == "GET" && !path.contains('{') && path != "/probes";
        if is_safe {
            let answer = ask_at(&world.lab, &line, &bearer(&tokens.admin), "").await;
            assert!([200, 422].contains(&answer.head.status()), "{line}: {}", answer.text());
        }
    }
    assert!(count > 800, "only {count} attempts");
    assert_eq!(world.everything(), before, "nothing was changed");
    assert_eq!(world.lab.origin.received().len(), 0, "nothing was sent");
    world.finish().await;
}
