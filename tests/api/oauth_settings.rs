//! The numbers of the OAuth engine, changed while the gateway serves.

use std::fs;
use std::time::{Duration, Instant};

use keyward_api::wire::ReloadView;
use serde_json::json;

use test_support::authorization::Authorization;
use test_support::oauth::World;
use test_support::tokens::*;
use test_support::*;

/// Adds `oauth:` to the configuration, and has it read.
async fn reload_with(lab: &Lab, oauth: &str) -> ReloadView {
    let file = lab.gateway.folder().join("keyward.yaml");
    let yaml = fs::read_to_string(&file).expect("the configuration");
    let kept: String = yaml
        .lines()
        .filter(|it| !it.starts_with("oauth:"))
        .fold(String::new(), |text, line| text + line + "\n");
    fs::write(&file, format!("{kept}oauth: {oauth}\n")).expect("written");
    let asked = lab.gateway.running().reloads().reload();
    patiently("reloading", asked).await.expect("it runs")
}

fn code(answer: &Message) -> (u16, &str) {
    (answer.head.status(), answer.head.one("keyward-error").unwrap_or_default())
}

async fn start() -> (Authorization, Lab) {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let lab = plan(&authorization, &pair).start(origin).await;
    (authorization, lab)
}

/// oauth 5.settings: each is a setting
#[tokio::test]
async fn invalid_oauth_settings_in_a_reload_change_nothing() {
    let (authorization, lab) = start().await;
    let view = reload_with(&lab, "{ lease: 1s, wait_timeout: 10ms }").await;
    assert!(view.errors[0].contains("oauth.lease"), "{view:?}");
    let gate = authorization.hold_next();
    let mut wire = lab.sent("GET /a").await;
    authorization.asked(1).await;
    gate.add_permits(1);
    assert_eq!(wire.answer("GET").await.text(), "fine", "the wait is the one of before");
    lab.finish().await;
}

/// oauth 5.wait, 5.settings: how long an agent waits, from a reload on, and no restart is asked for
#[tokio::test]
async fn oauth_settings_apply_after_a_reload_without_a_restart() {
    let (authorization, lab) = start().await;
    let view = reload_with(&lab, "{ wait_timeout: 200ms }").await;
    assert_eq!((view.errors, view.warnings), (vec![], vec![]));
    let gate = authorization.hold_next();
    let began = Instant::now();
    let refused = lab.ask("GET /a").await;
    assert_eq!(code(&refused), (503, "refresh_unavailable"));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    gate.add_permits(1);
    landed(&lab).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    lab.finish().await;
}

/// oauth 11.3, 5.settings: what is kept of a body, in each and in all
#[tokio::test]
async fn replay_limits_for_bodies_apply_after_a_reload() {
    let (authorization, lab) = start().await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let post = async || {
        authorization.issuer().expire_all();
        let mut wire = lab.tunnel(HOST).await;
        let text = "POST /a HTTP/1.1\r\nHost: api.acme.test\r\nContent-Length: 5\r\n\r\nhello";
        wire.send(text).await;
        let status = wire.answer("POST").await.head.status();
        landed(&lab).await;
        status
    };
    assert_eq!(post().await, 200, "sent again");
    let view = reload_with(&lab, "{ replay_bytes_total: 4 }").await;
    assert_eq!((view.errors, view.warnings), (vec![], vec![]));
    assert_eq!(post().await, 401, "5 bytes are not kept of 4");
    reload_with(&lab, "{ replay_bytes_max: 5 }").await;
    assert_eq!(post().await, 200);
    lab.finish().await;
}

/// oauth 5.flows, 5.settings: flow lifetime
#[tokio::test]
async fn the_lifetime_and_the_limit_of_consents_apply_after_a_reload() {
    let world = World::start().await;
    let view = reload_with(&world.lab, "{ flow_lifetime: 1h, flows_per_person_max: 1 }").await;
    assert_eq!((view.errors, view.warnings), (vec![], vec![]));
    let made = world.draft().await;
    let page = world.browser().get(made["authorize_url"].as_str().expect("a page")).await;
    let cookie = page.head.one("set-cookie").expect("a cookie");
    assert!(cookie.contains("Max-Age=3600"), "{cookie}");
    let again = json!({}).to_string();
    let refused = world.lab.gateway.api("POST", "/connections/work/reconnect", &again).await;
    assert_eq!(refused.head.status(), 422, "one at a time: {}", refused.text());
    assert!(refused.text().contains("1 consents are open"), "{}", refused.text());
    world.finish().await;
}
