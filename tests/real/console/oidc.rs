//! A team signs in with a real identity provider, in a real Chromium: `oidc-provider`, which sends e-mail address and
//! groups by its userinfo endpoint only.

use serde_json::{Value, json};

use super::{at, browser};
use crate::issuer::{Program, SECRET, World, client};
use test_support::authorization::AUTH_HOST;

/// A provider that knows two people, and a gateway whose people sign in there.
async fn team() -> World {
    let section = format!(
        "sign_in: {{ oidc: {{ issuer: \"https://{AUTH_HOST}\", client_id: team, client_secret: {{ env: OIDC_SECRET }}, \
         name: Acme, scopes: [email, groups], domains: [acme.test], groups: [dev], roles: {{ ops: admin, dev: member }} }} }}"
    );
    let auth = "{ id: key, kind: bearer }";
    let mut world = World::with(Program::OidcProvider, auth, false, |plan| {
        plan.top(&section).variable("OIDC_SECRET", SECRET)
    })
    .await;
    world.guard(SECRET);
    let redirect = at(&world.lab, "/login/oidc/callback");
    let known =
        client("team", &redirect, "client_secret_basic", json!({ "client_secret": SECRET }));
    let accounts = json!({
        "ann": { "email": "ann@acme.test", "email_verified": true, "groups": ["dev", "ops"] },
        "eve": { "email": "eve@acme.test", "email_verified": true, "groups": ["sales"] },
    });
    world.issuer.settle([known], json!({ "accounts": accounts }));
    world
}

#[tokio::test]
async fn members_of_a_group_sign_in_by_oidc_and_others_get_the_reason() {
    let world = team().await;
    let mut chromium = browser(&world).await;
    let lab = &world.lab;

    // The page that was wanted is the one that appears behind the sign-in.
    let mut tab = chromium.tab("ann").await;
    tab.open(&at(lab, "/agents")).await;
    tab.is_at("/login").await;
    tab.is_accessible().await;
    tab.screenshot("login-oidc").await;
    tab.click("Sign in with Acme").await;
    tab.fill("Enter any login", "ann").await;
    tab.fill("and password", "any").await;
    tab.click("Sign-in").await;
    tab.leads("Continue", "/agents").await;
    tab.sees("ann").await;
    tab.open(&at(lab, "/settings")).await;
    tab.sees(&format!("https://{AUTH_HOST}")).await;
    tab.screenshot("settings-oidc").await;
    let users = world.api("GET", "/users", &Value::Null).await;
    assert_eq!(users["items"][0]["name"], "ann");
    assert_eq!(
        (&users["items"][0]["role"], &users["items"][0]["email"]),
        (&json!("admin"), &json!("ann@acme.test"))
    );
    // Signed out here, the person is still signed in there: one click.
    tab.leads("Sign out", "/login").await;
    tab.leads("Sign in with Acme", "/").await;

    let mut tab = chromium.tab("eve").await;
    tab.open(&at(lab, "/login")).await;
    tab.click("Sign in with Acme").await;
    tab.fill("Enter any login", "eve").await;
    tab.fill("and password", "any").await;
    tab.click("Sign-in").await;
    tab.shows("Continue", "You are in no group that may sign in here").await;
    tab.is_accessible().await;
    tab.screenshot("not-signed-in").await;
    assert!(!tab.cookies().await.to_string().contains("kwl_"));
    let users = world.api("GET", "/users", &Value::Null).await;
    assert_eq!(users["items"].as_array().map(Vec::len), Some(1));
    world.finish().await;
}
