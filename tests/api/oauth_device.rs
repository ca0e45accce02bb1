//! Device authorization: the person enters a code elsewhere, and the poller keeps to the server's pace,
//! also after a restart. OAuth rules 3.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use test_support::authorization::{CLIENT_SECRET, Fault, ISSUER, Rules, TokenCall, answer};
use test_support::oauth::World;
use test_support::{HOST, patiently, until};

/// Polls so often that a test need not wait.
fn quick() -> Rules {
    Rules { interval: Some(0.05), ..Rules::default() }
}

/// A connection by a code.
fn by_code(name: &str) -> Value {
    json!({ "provider": "svc", "auth": "oauth", "name": name, "app": "svc-app", "device": true })
}

async fn begun(world: &World) -> Value {
    let made = world.api("POST", "/connections", &by_code("work")).await;
    assert_eq!(made["state"], "draft");
    assert!(made["authorize_url"].is_null() && made["verification_uri"].is_string(), "{made}");
    made
}

fn code(made: &Value) -> &str {
    made["user_code"].as_str().expect("a code")
}

/// How many codes the server was asked for, also if it has not answered.
fn codes_requested(world: &World) -> usize {
    let all = world.server.origin.received();
    all.iter().filter(|request| request.head.target() == "/device").count()
}

fn pauses(calls: &[TokenCall]) -> Vec<Duration> {
    calls.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect()
}

/// oauth 3, device: pending goes on, also with status 200.
#[tokio::test]
async fn a_code_that_is_entered_connects() {
    let world = World::with(quick(), |plan| plan).await;
    let made = begun(&world).await;
    world.server.fail_next(Fault::error(200, "authorization_pending"));
    world.server.asked(3).await;
    assert_eq!(world.flow(&made).await["state"], "open");
    world.server.issuer().decide(code(&made), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    assert_eq!(world.connection().await["state"], "active");
    let form = world.server.calls().pop().expect("a poll").form;
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    world.finish().await;
}

/// oauth 3, device: the interval is waited for before the first poll and between all.
#[tokio::test]
async fn polls_keep_the_interval_and_slow_down_for_good() {
    let world = World::with(Rules { interval: Some(0.2), ..quick() }, |plan| plan).await;
    let before = std::time::Instant::now();
    let made = begun(&world).await;
    world.server.asked(3).await;
    let calls = world.server.calls();
    assert!(calls[0].at.duration_since(before) >= Duration::from_millis(200));
    for pause in pauses(&calls) {
        assert!(pause >= Duration::from_millis(200), "{pause:?}");
    }
    world.server.issuer().poll_says(code(&made), &["slow_down"]);
    let told = world.server.calls().len() + 1;
    world.server.asked(told + 1).await;
    let last = pauses(&world.server.calls()).pop().expect("two polls");
    assert!(last >= Duration::from_millis(5_200), "5 s more: {last:?}");
    world.server.issuer().decide(code(&made), true);
    world.finish().await;
}

/// oauth 3, device: errors of the way are no end.
#[tokio::test]
async fn temporary_failures_do_not_end_the_polling() {
    let world = World::with(quick(), |plan| plan).await;
    let made = begun(&world).await;
    for fault in [
        Fault::bad_gateway(),
        Fault::too_many("1"),
        Fault::ResetBefore,
        Fault::status(503, "", "down"),
        Fault::ClosesAfter,
    ] {
        world.server.fail_next(fault);
    }
    world.server.asked(5).await;
    assert_eq!(world.flow(&made).await["state"], "open");
    world.server.issuer().decide(code(&made), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.finish().await;
}

/// oauth 3, device: what ends it.
#[tokio::test]
async fn a_refusal_an_expired_code_and_other_oauth_errors_end_the_polling() {
    let ends = [
        ("access_denied", "the consent was declined"),
        ("authorization_declined", "the consent was declined"),
        ("expired_token", "the code was not entered in time"),
        ("invalid_grant", "invalid_grant"),
        ("invalid_client", "invalid_client"),
    ];
    for (error, why) in ends {
        let world = World::with(quick(), |plan| plan).await;
        let made = begun(&world).await;
        world.server.issuer().poll_says(code(&made), &[error]);
        let view = world.settled(&made).await;
        assert_eq!(view["state"], "failed");
        assert!(view["why"].as_str().expect("why").contains(why), "{view}");
        let connection = world.connection().await;
        assert_eq!(connection["state"], "draft");
        assert_eq!(connection["failure"], view["why"]);
        let polls = world.server.calls().len();
        world.api("GET", "/connections/work", &Value::Null).await;
        assert_eq!(world.server.calls().len(), polls, "nobody polls any more");
        world.finish().await;
    }
}

/// oauth 2.client: the code was polled for with the other client id, and the server's refusal named no cause.
#[tokio::test]
async fn a_client_id_that_changes_during_the_polling_is_named_and_the_code_is_not_sent() {
    let world = World::with(quick(), |plan| plan).await;
    let made = begun(&world).await;
    world.server.asked(1).await;
    let secrets = json!({ "client_secret": CLIENT_SECRET });
    let other = json!({ "client_id": "another", "secrets": secrets });
    world.api("PATCH", "/apps/svc-app", &other).await;
    let view = world.settled(&made).await;
    let why = view["why"].as_str().expect("a reason");
    assert!(why.contains("client id of app `svc-app` was changed"), "{why}");
    assert_eq!(world.connection().await["failure"], view["why"]);
    let calls = world.server.calls();
    let client = |call: &TokenCall| call.head.one("authorization").map(str::to_owned);
    assert!(calls.iter().all(|call| client(call) == client(&calls[0])), "{calls:#?}");
    world.finish().await;
}

/// oauth 3, device: the poller is durable.
#[tokio::test]
async fn polling_continues_after_a_restart() {
    let mut world = World::with(quick(), |plan| plan).await;
    let made = begun(&world).await;
    world.server.asked(1).await;
    world.lab.gateway.restart().await;
    let polls = world.server.calls().len();
    world.server.asked(polls + 1).await;
    world.server.issuer().decide(code(&made), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    let winners = world.server.calls().into_iter().filter(|call| call.issued.is_some()).count();
    assert_eq!(winners, 1);
    world.finish().await;
}

/// oauth 2.settled, 5.flows: the person cancels while the answer with the tokens is on its way.
#[tokio::test]
async fn tokens_of_a_consent_that_was_cancelled_connect_nothing_and_are_revoked() {
    let patient = "oauth: { revoke_timeout: 25s }";
    let world = World::with(quick(), |plan| plan.top(patient)).await;
    let gate = Arc::new(Semaphore::new(0));
    world.server.fail_always(Fault::Held(gate.clone()));
    let made = begun(&world).await;
    // The first poll is pending, and the next one is answered with tokens.
    world.server.asked(1).await;
    world.server.issuer().decide(code(&made), true);
    gate.add_permits(1);
    world.server.asked(2).await;
    let issued = world.server.calls()[1].issued.clone().expect("tokens").access;
    let path = format!("/flows/{}/cancel", made["flow"].as_str().expect("a flow"));
    let cancelled = world.api("POST", &path, &json!({})).await;
    assert_eq!(
        (&cancelled["state"], &cancelled["why"]),
        (&json!("failed"), &json!("it was cancelled"))
    );
    gate.add_permits(1);
    until("the revocation", async || !world.server.issuer().is_live(&issued)).await;
    let view = world.settled(&made).await;
    assert_eq!(view["state"], "failed", "{view}");
    let why = view["why"].as_str().expect("why");
    assert!(why.contains("it was cancelled") && why.contains("has revoked its access"), "{why}");
    assert_eq!(world.connection().await["state"], "draft");
    assert_eq!(world.server.calls().len(), 2, "and it is not polled any more");
    world.finish().await;
}

#[tokio::test]
async fn polling_ends_when_its_connection_is_removed() {
    let world = World::with(quick(), |plan| plan).await;
    begun(&world).await;
    world.server.asked(1).await;
    world.api("DELETE", "/connections/work", &Value::Null).await;
    let gone = async {
        let mut polls = world.server.calls().len();
        loop {
            tokio::time::timeout(Duration::from_millis(300), world.server.asked(polls + 1))
                .await
                .ok();
            let now = world.server.calls().len();
            if now == polls {
                return;
            }
            polls = now;
        }
    };
    patiently("the end of polling", gone).await;
    world.finish().await;
}

/// oauth 3, device: metadata that cannot be read is no end either.
#[tokio::test]
async fn polling_resumes_after_a_restart_once_the_metadata_can_be_read() {
    let provider = format!(
        "{{ id: svc, name: Service, hosts: [{HOST}], auth: [{{ id: oauth, kind: oauth2, \
         grant: device_code, issuer: \"{ISSUER}\", client_auth: basic, scopes: [read] }}] }}"
    );
    let mut world = World::with(quick(), |plan| plan.provider(&provider)).await;
    let made = begun(&world).await;
    world.server.asked(1).await;
    let well_known = "/.well-known/oauth-authorization-server";
    world.server.issuer().script(well_known, answer(503, &json!({ "error": "down" })));
    world.lab.gateway.restart().await;
    let looked = |world: &World| {
        let all = world.server.origin.received();
        all.iter().filter(|request| request.head.target() == well_known).count()
    };
    let before = looked(&world);
    until("metadata that is asked for again", async || looked(&world) >= before + 2).await;
    assert_eq!(world.flow(&made).await["state"], "open");
    world.server.issuer().unscript(well_known);
    world.server.issuer().decide(code(&made), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.finish().await;
}

/// oauth 3, device: the consents of all organisations waited for the answer, one after the other.
#[tokio::test]
async fn a_device_endpoint_that_does_not_answer_delays_no_other_consent() {
    let patient = "oauth: { exchange_timeout: 40s, lease: 60s }";
    let world = World::with(quick(), |plan| plan.top(patient)).await;
    let gate = world.server.hold("/device");
    let another = async {
        until("the request for a code", async || codes_requested(&world) == 1).await;
        let new = json!({ "provider": "svc", "auth": "oauth", "name": "other", "app": "svc-app" });
        let other = world.api("POST", "/connections", &new).await;
        world.consent(&mut world.browser(), &other).await.is(303);
        gate.add_permits(1);
        other
    };
    let (made, other) = tokio::join!(begun(&world), another);
    assert_eq!(world.flow(&other).await["state"], "connected");
    world.server.issuer().decide(code(&made), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    assert_eq!(codes_requested(&world), 1);
    world.finish().await;
}

/// oauth 5.flows
#[tokio::test]
async fn codes_that_are_requested_at_once_keep_to_the_limit_of_open_consents() {
    let one = "oauth: { flows_per_person_max: 1, exchange_timeout: 40s, lease: 60s }";
    let world = World::with(quick(), |plan| plan.top(one)).await;
    let gate = world.server.hold("/device");
    let adds =
        async |name: &str| world.lab.gateway.api_json("POST", "/connections", &by_code(name)).await;
    let answered = async {
        until("both requests for a code", async || codes_requested(&world) == 2).await;
        gate.add_permits(2);
    };
    let (first, second, ()) = tokio::join!(adds("first"), adds("second"), answered);
    let (made, refused) = match first.head.status() {
        201 => (first, second),
        _ => (second, first),
    };
    let made = made.is(201).json();
    let text = refused.is(422).text();
    assert!(text.contains("1 consents are open"), "{text}");
    let third = adds("third").await.is(422).text();
    assert!(third.contains("1 consents are open"), "{third}");
    assert_eq!(codes_requested(&world), 2, "over the limit, no code is requested");
    world.server.issuer().decide(code(&made), true);
    assert_eq!(world.settled(&made).await["state"], "connected");
    world.finish().await;
}
