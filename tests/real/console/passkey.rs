//! A passkey in a real Chromium, by its virtual authenticator: added on one's own page, and used to sign in.

use serde_json::json;

use super::{at, own_origin_only, signed_in_lab, signed_in_tab};

#[tokio::test]
async fn a_passkey_is_added_signs_in_and_is_removed() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    tab.authenticator().await;
    tab.open(&at(&lab, "/people/admin")).await;
    tab.tab_to("Add passkey").await;
    tab.press(&["Enter"]).await;
    tab.fill("Name", "laptop").await;
    tab.press(&["Enter"]).await;
    tab.sees("It signs in at this address").await;
    tab.sees("laptop").await;
    tab.screenshot("passkeys").await;
    let shown = lab.gateway.api("GET", "/users/admin", "").await.json();
    assert_eq!(shown["sign_in"]["passkeys"][0]["name"], "laptop", "{shown}");
    // The device has one already.
    tab.tab_to("Add passkey").await;
    tab.press(&["Enter"]).await;
    tab.fill("Name", "again").await;
    tab.press(&["Enter"]).await;
    tab.sees("has a passkey here already").await;

    tab.open(&at(&lab, "/")).await;
    tab.leads("Sign out", "/login").await;
    tab.screenshot("login").await;
    tab.leads("Sign in with a passkey", "/").await;
    let said = tab.value("fetch('/api/v1/session').then((answer) => answer.json())").await;
    assert_eq!((&said["user"], &said["method"]), (&json!("admin"), &json!("passkey")), "{said}");

    // Removed here, the device still offers it.
    tab.open(&at(&lab, "/people/admin")).await;
    lab.gateway.api("DELETE", "/users/admin/passkeys", "").await.is(204);
    tab.leads("Sign out", "/login").await;
    tab.shows("Sign in with a passkey", "not known here").await;
    tab.is_at("/login").await;
    own_origin_only(&mut tab, &lab).await;
    lab.finish().await;
}
