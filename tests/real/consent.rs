//! Third-party authorization servers and a user in Chromium: consent by page and by code, with rotation and PKCE;
//! then requests, refreshes and revocation. `oauth_grants.rs` has the other flows.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::issuer::{Program, SECRET, World, client};
use crate::person;
use crate::stage::{installed, said, succeeded};
use test_support::authorization::AUTH_HOST;
use test_support::browser::Browser;
use test_support::pki::pki;
use test_support::until_some;

const CLIENT: &str = "keyward-client";

/// A way to authenticate, as a user would write it, with `more`; the rest is discovered where it can be.
fn auth(program: Program, more: &str) -> String {
    let at = |path: &str| format!("\"https://{AUTH_HOST}/{path}\"");
    match program {
        Program::OidcProvider => format!(
            "{{ id: oauth, kind: oauth2, grant: authorization_code, issuer: \"https://{AUTH_HOST}\", \
             authorize: {}, token: {}, device: {}, revoke: {}, client_auth: basic, scopes: [openid]{more} }}",
            at("auth"),
            at("token"),
            at("device/auth"),
            at("token/revocation"),
        ),
        _ => format!(
            "{{ id: oauth, kind: oauth2, grant: authorization_code, authorize: {}, token: {}, \
             device: {}, revoke: {}, client_auth: basic, scopes: [read]{more} }}",
            at("authorize"),
            at("token"),
            at("device"),
            at("revoke"),
        ),
    }
}

/// The server knows the client, and nobody has consented.
pub(crate) async fn world(program: Program, more: &str) -> World {
    let mut world = World::of(program, &auth(program, more)).await;
    let redirect = world.app(CLIENT, json!({ "secrets": { "client_secret": SECRET } })).await;
    let known = match program {
        Program::OidcProvider => {
            let secret = json!({ "client_secret": SECRET });
            client(CLIENT, &redirect, "client_secret_basic", secret)
        }
        _ => json!({ "client_id": CLIENT, "method": "client_secret_basic", "secret": SECRET,
                     "redirect_uri": redirect }),
    };
    world.issuer.settle([known], json!({}));
    world
}

/// Chromium, until a page says `word`.
async fn browse(world: &World, url: &str, word: &str) -> String {
    let folder = world.folder();
    trust(&folder).await;
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/consent/browser.mjs");
    let mut browser = Command::new(installed("real-node/node_modules/node24/bin/node"));
    browser.current_dir(&folder).env("HOME", &folder).arg(script);
    browser.args(["chromium", &format!("{AUTH_HOST}={}", world.issuer.addr), url, word]);
    let output = succeeded(browser).await;
    said(&output)
}

async fn settled(world: &World, made: &Value) -> Value {
    let flow = made["flow"].as_str().expect("a flow");
    until_some("the end of a consent", async || {
        let view = world.api("GET", &format!("/flows/{flow}"), &Value::Null).await;
        (view["state"] != "open").then_some(view)
    })
    .await
}

/// Requests, refreshes with rotation, and the end: the server knows none of its tokens any more.
async fn lives_and_ends(world: World) {
    assert_eq!(world.works("work").await.1["sub"], "alice");
    for _ in 0..3 {
        world.refreshes("work").await;
        assert_eq!(world.works("work").await.1["sub"], "alice");
    }
    assert_eq!(world.issuer.log("rotated").len(), 3);
    world.ends("work").await;
    world.finish().await;
}

/// The servers' authority into the database that Chromium reads.
pub(crate) async fn trust(folder: &Path) {
    let database = folder.join(".pki/nssdb");
    std::fs::create_dir_all(&database).expect("a directory");
    std::fs::write(folder.join("servers.pem"), &pki().pem).expect("a file");
    let add = ["-A", "-t", "C,,", "-n", "servers", "-i", "servers.pem"];
    for arguments in [&["-N", "--empty-password"][..], &add] {
        let mut certutil = Command::new("certutil");
        certutil.current_dir(folder).args(["-d", "sql:.pki/nssdb"]).args(arguments);
        succeeded(certutil).await;
    }
}

async fn by_page(program: Program, more: &str) {
    let world = world(program, more).await;
    let made = world.connection("work", &json!({ "app": CLIENT })).await;
    let url = made["authorize_url"].as_str().expect("a page").to_owned();
    let page = browse(&world, &url, "You can close this window").await;
    assert!(page.contains("Connected") && page.contains("/oauth/done/"), "{page}");
    assert_eq!(settled(&world, &made).await["state"], "connected");
    lives_and_ends(world).await;
}

async fn by_code(program: Program, word: &str) {
    let world = world(program, "").await;
    let made = world.connection("work", &json!({ "app": CLIENT, "device": true })).await;
    let url = made["verification_uri_complete"].as_str().expect("a page").to_owned();
    browse(&world, &url, word).await;
    assert_eq!(settled(&world, &made).await["state"], "connected");
    lives_and_ends(world).await;
}

#[tokio::test]
async fn a_person_consents_at_oidc_provider_in_chromium() {
    by_page(Program::OidcProvider, "").await;
}

/// oauth 2.form-post: the POST of another site brings no `SameSite=Lax` cookie, the page after it does.
#[tokio::test]
async fn a_callback_that_oidc_provider_has_chromium_post_connects() {
    by_page(Program::OidcProvider, ", response_mode: form_post").await;
}

/// oauth 2.account, 2.account-source: by the ID token of a server that others wrote.
#[tokio::test]
async fn another_account_at_oidc_provider_waits_for_a_person() {
    let world = world(Program::OidcProvider, "").await;
    let made = world.connection("work", &json!({ "app": CLIENT })).await;
    world.consented(&made).await;
    assert_eq!(world.shown("work").await["account"], "alice");
    for (login, accept, state) in [("bob", false, "failed"), ("bob", true, "connected")] {
        let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
        let mut browser = Browser::new(&world.lab.gateway);
        let url = browser.begin(again["authorize_url"].as_str().expect("a page")).await;
        let back = person::consents_as(world.issuer.addr, &url, login).await;
        assert_eq!(browser.get(&back).await.head.status(), 303);
        let view = settled(&world, &again).await;
        assert_eq!((&view["before"], &view["account"]), (&json!("alice"), &json!(login)), "{view}");
        assert_eq!(world.works("work").await.1["sub"], "alice", "until somebody decides");
        let path = format!("/flows/{}/confirm", again["flow"].as_str().expect("a flow"));
        let decided = world.api("POST", &path, &json!({ "accept": accept })).await;
        assert_eq!(decided["state"], state, "{decided}");
        let revoked = world.issuer.log("revoked").len();
        assert_eq!(revoked, 1, "the grant that was declined");
    }
    assert_eq!(world.works("work").await.1["sub"], "bob");
    assert_eq!(world.shown("work").await["account"], "bob");
    world.finish().await;
}

#[tokio::test]
async fn a_person_consents_at_authlib_in_chromium() {
    by_page(Program::Authlib, "").await;
}

#[tokio::test]
async fn a_code_of_oidc_provider_is_entered_in_chromium() {
    by_code(Program::OidcProvider, "Sign-in Success").await;
}

#[tokio::test]
async fn a_code_of_authlib_is_entered_in_chromium() {
    by_code(Program::Authlib, "allowed").await;
}
