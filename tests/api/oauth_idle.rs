//! Unused connections: their refresh tokens are kept alive if the connection asks for that.

use std::time::Duration;

use keyward_vault::KeepAliveCursor;
use serde_json::json;

use test_support::tokens::*;
use test_support::*;

async fn step(lab: &Lab) -> usize {
    lab.gateway
        .running()
        .services()
        .vault
        .refresh()
        .keep_alive_step(&mut KeepAliveCursor::default())
        .await
}

/// oauth 7.keep-alive
#[tokio::test]
async fn an_idle_connection_is_refreshed_and_shows_when_if_keep_alive_is_set() {
    let (authorization, lab) = bank_of(&method(", keep_alive: 1s"), rules(), usual).await;
    let shown = async || lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown().await["token"]["keep_alive"], json!(null), "nobody wants it");
    assert_eq!(step(&lab).await, 0);
    set(&lab, |it| it.keep_alive = true);
    assert!(shown().await["token"]["keep_alive"].is_string(), "{:#}", shown().await);
    until("a refresh", async || step(&lab).await != 0).await;
    landed(&lab).await;
    let calls = authorization.calls();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].form.get("grant_type").map(String::as_str), Some("refresh_token"));
    assert!(lab.origin.received().is_empty(), "nobody asked for anything");
    assert!(shown().await["token"]["refreshed"].is_string());
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 1, "the token that it brought is the one that is used");
    lab.finish().await;
}

/// oauth 8.9: what stops being kept alive may end in the middle of a refresh
#[tokio::test]
async fn a_keep_alive_refresh_in_progress_is_not_started_again() {
    let (authorization, lab) = bank_of(&method(", keep_alive: 1s"), rules(), |it| {
        it.keep_alive = true;
        it.exchange_timeout = Duration::from_secs(10);
    })
    .await;
    let gate = authorization.hold_next();
    until("a refresh", async || step(&lab).await != 0).await;
    authorization.asked(1).await;
    assert_eq!(step(&lab).await, 0, "one flight");
    gate.add_permits(1);
    lab.finish().await;
    assert_eq!(authorization.calls().len(), 1);
}
