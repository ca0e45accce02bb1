//! The check of the store, which is for the installation's own admins.

use super::*;

#[tokio::test]
async fn an_operator_checks_the_store_in_the_console_and_a_member_does_not() {
    let lab = Plan::api_key().start(Origin::saying("fine")).await;
    let bob = json!({ "name": "bob", "role": "member" }).to_string();
    lab.gateway.api("POST", "/users", &bob).await.is(201);
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/settings").await;
    tab.leads("Check the store", "/settings/store").await;
    tab.sees("No faults").await;
    tab.sees("0 faults").await;
    tab.is_accessible().await;
    tab.screenshot("store").await;
    let mut tab = chromium.tab("bob").await;
    sign_in(&mut tab, &link(&lab, Some("bob")).await).await;
    assert_eq!(tab.open(&at(&lab, "/settings/store")).await.0, 403);
    lab.finish().await;
}
