//! Every route of the API × everything that is wrong with who asks or how: refused with the same status everywhere,
//! and nothing is changed or sent.

use jiff::Timestamp;
use keyward_base::id::{LoginId, OrgId};
use keyward_model::Record;
use serde_json::{Value, json};

use super::{ask_at, bearer};
use crate::people::routes::{Route, routes};
use crate::people::world::{Ask, Person, World};
use test_support::login::Login;
use test_support::*;

/// One row of the table: what is wrong, the fields that say so, and the expected status.
struct Wrong {
    what: &'static str,
    fields: String,
    status: u16,
    code: &'static str,
}

fn wrong(what: &'static str, fields: String, status: u16, code: &'static str) -> Wrong {
    Wrong { what, fields, status, code }
}

impl Wrong {
    /// A sign-in needs no authentication: without a token, only its origin counts.
    fn counts_at_sign_in(&self) -> bool {
        let is_of_caller = ["unauthenticated", "not_found", "csrf_required"].contains(&self.code);
        self.fields.contains("Authorization") || !is_of_caller
    }
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
    logins: Logins,
}

/// The logins of the table.
struct Logins {
    admin: Login,
    auditor: Login,
    member: Login,
    expired: Login,
    ended: Login,
    foreign: Login,
}

/// The routes of the API that the sources name with their whole path.
const WHOLE: &[&str] = &["", "/status", "/caller"];

/// What everyone may ask for.
const OF_EVERYONE: &[&str] = &["", "/caller", "/session", "/session/challenge"];

/// What a member may not read.
const OF_ADMINS: &[&str] =
    &["/audit", "/keys", "/upstreams", "/webhooks", "/events", "/honeytokens"];

async fn made(world: &World, by: &Person, new: Value) -> (String, String) {
    let made = world.ask(Some(by), Ask::post("/tokens", new)).await.is(201);
    let text = |key: &str| made.json()[key].as_str().expect("text").to_owned();
    (text("id"), text("token"))
}

impl Logins {
    async fn of(world: &mut World) -> Self {
        let mut login = async |org: &str, role: &str| {
            let user = world.person(org, role).name;
            Login::of(&mut world.lab, org, &user).await
        };
        let logins = Self {
            admin: login("default", "admin").await,
            auditor: login("default", "auditor").await,
            member: login("default", "member").await,
            expired: login("default", "admin").await,
            ended: login("default", "admin").await,
            foreign: login("acme", "admin").await,
        };
        let gone = Ask::new("DELETE", &format!("/logins/{}", logins.ended.id), None);
        assert_eq!(world.ask(None, gone).await.head.status(), 204);
        let directory = &world.lab.gateway.running().services().directory;
        let id = LoginId::parse(&logins.expired.id).expect("an id");
        let expire = |login: &mut Record<keyward_model::Login>| {
            login.facts.expires = Timestamp::UNIX_EPOCH;
        };
        directory.change(&OrgId::default_org(), &id, expire).await.expect("it is stored");
        logins
    }

    /// What is wrong with a cookie, with how it is sent, and with the role of its user.
    fn wrongs(&self, world: &World, method: &str, path: &str, route: Option<&Route>) -> Vec<Wrong> {
        let admin = self.admin.fields();
        let mut all = self.wrong_cookies();
        all.extend(self.wrong_ways(world));
        let reads = method == "GET";
        if !reads {
            let cookie = self.admin.cookie();
            let of_another = format!("{cookie}Keyward-CSRF: {}\r\n", self.member.csrf);
            let other_site = format!("Sec-Fetch-Site: same-site\r\n{admin}");
            all.extend([
                wrong("no CSRF value", cookie, 403, "csrf_required"),
                wrong("CSRF value of another", of_another, 403, "csrf_required"),
                wrong("another site", other_site, 403, "cross_site_refused"),
            ]);
        }
        if OF_EVERYONE.contains(&path) {
            return all;
        }
        if !reads && route.is_none_or(Route::writes_something) {
            all.push(wrong("cookie of an auditor", self.auditor.fields(), 403, "not_allowed"));
        }
        if reads && OF_ADMINS.iter().any(|of| path.starts_with(of)) {
            all.push(wrong("cookie of a member", self.member.fields(), 403, "not_allowed"));
        }
        all
    }

    fn wrong_cookies(&self) -> Vec<Wrong> {
        let admin = self.admin.fields();
        let unauthenticated = |what, fields: String| wrong(what, fields, 401, "unauthenticated");
        vec![
            unauthenticated("expired login", self.expired.fields()),
            unauthenticated("ended login", self.ended.fields()),
            unauthenticated("malformed cookie", "Cookie: keyward=kwl_x\r\n".to_owned()),
            unauthenticated("two cookies", format!("{}{admin}", self.admin.cookie())),
            unauthenticated("cookie and invalid token", format!("{}{admin}", bearer("kwp_x"))),
            wrong(
                "cookie of another org",
                format!("{}Keyward-Org: globex\r\n", self.foreign.fields()),
                404,
                "not_found",
            ),
        ]
    }

    fn wrong_ways(&self, world: &World) -> Vec<Wrong> {
        let (own, admin) = (world.lab.gateway.admin, self.admin.fields());
        let origin = format!("Origin: https://evil.example\r\n{admin}");
        let host = format!("Host: evil.example:{}\r\n{admin}", own.port());
        let cleartext = format!("X-Forwarded-For: 203.0.113.9\r\n{admin}");
        vec![
            wrong("cookie and foreign origin", origin, 403, "cross_site_refused"),
            wrong("cookie and rebinding", host, 421, "host_mismatch"),
            wrong("cookie in cleartext", cleartext, 403, "cleartext_refused"),
        ]
    }
}

impl Tokens {
    async fn of(world: &mut World) -> Self {
        let logins = Logins::of(world).await;
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
            logins,
            admin: admin.token,
        }
    }

    fn wrongs(&self, world: &World, method: &str, path: &str, route: Option<&Route>) -> Vec<Wrong> {
        let (own, admin) = (world.lab.gateway.admin, bearer(&self.admin));
        let other = if self.admin.ends_with('x') { 'y' } else { 'x' };
        let typo = format!("{}{other}", &self.admin[..self.admin.len() - 1]);
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
        all.extend(self.logins.wrongs(world, method, path, route));
        if method == "POST" && ["/session", "/session/challenge"].contains(&path) {
            all.retain(Wrong::counts_at_sign_in);
        }
        if OF_EVERYONE.contains(&path) {
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
async fn every_route_refuses_wrong_credentials_roles_scopes_origins_and_cleartext() {
    let plan = Plan::api_key().limit("auth_failures_per_minute_max: 1000000");
    let mut world = World::of(plan).await;
    let tokens = Tokens::of(&mut world).await;
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
        let is_safe = method == "GET" && !path.contains('{');
        if is_safe {
            let answer = ask_at(&world.lab, &line, &bearer(&tokens.admin), "").await;
            assert!([200, 422].contains(&answer.head.status()), "{line}: {}", answer.text());
        }
    }
    assert!(count > 1_800, "only {count} attempts");
    assert_eq!(world.everything(), before, "nothing was changed");
    assert_eq!(world.lab.origin.received().len(), 0, "nothing was sent");
    world.finish().await;
}
