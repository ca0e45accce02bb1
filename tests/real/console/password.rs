//! A password and one-time codes in a real Chromium: set up on one's own page, and asked for one after the other.

use keyward_base::secret::TotpKey;
use keyward_state::crypto::totp;
use serde_json::json;

use super::{link, opened, own_origin_only, sign_in, signed_in_lab};

const PASSWORD: &str = "correct horse battery staple";

#[tokio::test]
async fn a_password_and_one_time_codes_are_set_up_and_required_one_after_the_other() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/people/admin").await;
    tab.tab_to("Set password").await;
    tab.press(&["Enter"]).await;
    tab.fill("New password", PASSWORD).await;
    tab.press(&["Enter"]).await;
    tab.sees("A password is set").await;
    tab.screenshot("means").await;
    tab.tab_to("Set up codes").await;
    tab.press(&["Enter"]).await;
    tab.shows("Show key", "Set up one-time codes").await;
    tab.screenshot("totp-key").await;
    tab.is_accessible().await;
    let secret = tab.value("document.querySelector('[data-cell=secret]').textContent").await;
    let key: TotpKey = serde_json::from_value(secret).expect("base 32");
    let code = |later: u64| totp::code(&key, totp::step_at(jiff::Timestamp::now()) + later);
    tab.fill("Code that it shows now", &code(0)).await;
    tab.press(&["Enter"]).await;
    tab.sees("A code is required beside the password").await;

    tab.leads("Sign out", "/login").await;
    tab.fill("User", "admin").await;
    tab.fill("Password", "not the password").await;
    tab.press(&["Enter"]).await;
    tab.sees("password is wrong").await;
    tab.fill("Password", PASSWORD).await;
    tab.press(&["Enter"]).await;
    tab.sees("Six digits").await;
    tab.screenshot("login-code").await;
    tab.is_accessible().await;
    tab.fill("One-time code", &code(1)).await;
    tab.press(&["Enter"]).await;
    tab.is_at("/").await;
    let said = tab.value("fetch('/api/v1/session').then((answer) => answer.json())").await;
    assert_eq!((&said["user"], &said["method"]), (&json!("admin"), &json!("password_totp")));
    own_origin_only(&mut tab, &lab).await;
    lab.finish().await;
}

/// The answer to the first click, with the cookie, would be lost, and the link be used up.
#[tokio::test]
async fn a_double_click_sends_the_form_of_a_sign_in_link_once() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = chromium.tab("ann").await;
    let url = link(&lab, None).await;
    tab.open(&url).await;
    // What the script makes of two clicks; nothing is sent.
    let twice = "(() => {
        const stopped = [];
        addEventListener('submit', (event) => {
            stopped.push(event.defaultPrevented);
            event.preventDefault();
        });
        const button = document.querySelector('form button');
        button.click();
        button.click();
        return stopped;
    })()";
    assert_eq!(tab.value(twice).await, json!([false, true]));
    sign_in(&mut tab, &url).await;
    lab.finish().await;
}
