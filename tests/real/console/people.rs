//! The page of a person: their browsers, the link that signs them in, and links by which they connect accounts.

use serde_json::json;

use super::*;

async fn posted(lab: &Lab, path: &str, body: serde_json::Value) {
    lab.gateway.api("POST", path, &body.to_string()).await.is(201);
}

/// The link counts once, and the browser that it signed in is signed out on the page of the person.
#[tokio::test]
async fn an_admin_makes_a_sign_in_link_for_a_person_and_signs_their_browser_out() {
    let (lab, mut chromium) = signed_in_lab().await;
    posted(&lab, "/users", json!({ "name": "bea", "role": "member" })).await;
    let mut tab = opened(&lab, &mut chromium, "/people/bea").await;
    tab.sees("Not signed in.").await;
    tab.shows("Make sign-in link", "within 10 minutes").await;
    tab.is_accessible().await;
    tab.screenshot("sign-in-link").await;
    let link = shown_once(&mut tab).await;
    let mut bea = chromium.tab("bea").await;
    sign_in(&mut bea, &link).await;
    // Members make no links, not even for themselves.
    bea.open(&at(&lab, "/people/bea")).await;
    bea.sees("this browser").await;
    bea.does_not_see("Make sign-in link").await;
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.open(&at(&lab, "/people/bea")).await;
    tab.shows("Sign browser out", "is not sent").await;
    tab.value("document.querySelector('dialog[open] button.danger').click()").await;
    tab.sees("Not signed in.").await;
    let mut bea = chromium.again("bea");
    bea.open(&at(&lab, "/agents")).await;
    bea.is_at("/login").await;
    lab.finish().await;
}

#[tokio::test]
async fn a_connect_link_is_made_used_and_shown_with_its_account_on_the_page_of_the_person() {
    let (lab, mut chromium) = signed_in_lab().await;
    posted(&lab, "/users", json!({ "name": "cust-1", "role": "end_user" })).await;
    let mut tab = opened(&lab, &mut chromium, "/people/cust-1").await;
    tab.sees("None in the last day").await;
    tab.click("Make connect link").await;
    tab.fill("Services to choose from (optional)", "no-such").await;
    tab.press(&["Enter"]).await;
    tab.sees("no provider is named `no-such`").await;
    tab.is_accessible().await;
    tab.fill("Services to choose from (optional)", "acme").await;
    tab.fill("Label (optional)", "onboarding").await;
    tab.press(&["Enter"]).await;
    let link = shown_once(&mut tab).await;
    tab.sees("not opened").await;
    tab.screenshot("connect-links").await;
    let mut person = chromium.tab("cust-1").await;
    person.open(&link).await;
    person.click_button("Continue").await;
    person.fill("API key", "a-key-of-a-test-0123").await;
    person.click_button("Connect").await;
    person.sees("connected").await;
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.open(&at(&lab, "/people/cust-1")).await;
    let [states, links, ends] = [".state.ok", "a[href]", "button"]
        .map(|part| format!("document.querySelectorAll('#connect-links li {part}').length"));
    assert_eq!(tab.value(&links).await, 1, "the link leads to the account");
    assert_eq!(tab.value(&ends).await, 0, "a used link is over");
    assert_eq!(tab.value(&states).await, 1);
    lab.finish().await;
}

/// What a link may reconnect is on offer where the person has accounts.
#[tokio::test]
async fn a_connect_link_is_ended_on_the_page_of_the_person() {
    let (lab, mut chromium) = signed_in_lab().await;
    posted(&lab, "/users", json!({ "name": "bea", "role": "member" })).await;
    let new = json!({ "provider": "acme", "name": "of-bea", "owner": "bea",
                      "fields": { "api_key": "a-key-of-a-test-0123" } });
    posted(&lab, "/connections", new).await;
    let mut tab = opened(&lab, &mut chromium, "/people/bea").await;
    tab.click("Make connect link").await;
    tab.choose("Account", "of-bea").await;
    tab.value("document.querySelector('#add-connect-link button.first').click()").await;
    let link = shown_once(&mut tab).await;
    tab.sees("of-bea, again").await;
    tab.shows("End link", "It stops working").await;
    tab.value("document.querySelector('dialog[open] button.danger').click()").await;
    tab.sees("None in the last day").await;
    let mut person = chromium.tab("bea").await;
    assert_eq!(person.open(&link).await.0, 410);
    lab.finish().await;
}

/// That is all that the page offers an auditor.
#[tokio::test]
async fn an_auditor_signs_their_other_browser_out() {
    let (lab, mut chromium) = signed_in_lab().await;
    posted(&lab, "/users", json!({ "name": "ann", "role": "admin" })).await;
    posted(&lab, "/users", json!({ "name": "bea", "role": "auditor" })).await;
    let mut ann = chromium.tab("ann").await;
    sign_in(&mut ann, &link(&lab, Some("ann")).await).await;
    let mut other = chromium.tab("bea at home").await;
    sign_in(&mut other, &link(&lab, Some("bea")).await).await;
    let mut tab = chromium.tab("bea").await;
    sign_in(&mut tab, &link(&lab, Some("bea")).await).await;
    tab.open(&at(&lab, "/people/bea")).await;
    let count = |part: &str| format!("document.querySelectorAll('#logins {part}').length");
    assert_eq!(tab.value(&count("li")).await, 2);
    tab.does_not_see("Make connect link").await;
    tab.open(&at(&lab, "/people/ann")).await;
    assert_eq!(tab.value(&count("li")).await, 1);
    assert_eq!(tab.value(&count("button")).await, 0, "the browser of another person");
    tab.open(&at(&lab, "/people/bea")).await;
    tab.shows("Sign browser out", "is not sent").await;
    tab.value("document.querySelector('dialog[open] button.danger').click()").await;
    tab.sees("Signed out.").await;
    let mut other = chromium.again("bea at home");
    other.open(&at(&lab, "/agents")).await;
    other.is_at("/login").await;
    lab.finish().await;
}
