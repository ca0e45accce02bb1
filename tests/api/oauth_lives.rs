//! The lifetime of tokens in a running gateway: when a newer one is requested, what is used meanwhile, and how lost or
//! late answers are handled.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use test_support::authorization::{Authorization, Fault, Rules};
use test_support::install::TOKEN_CI;
use test_support::process::Served;
use test_support::tokens::*;
use test_support::*;

/// oauth 7.2: a life below the buffer would else be refreshed by every request.
#[tokio::test]
async fn a_token_with_a_short_lifetime_is_not_refreshed_by_each_request() {
    let (authorization, lab) = bank(short(60.0), usual).await;
    for _ in 0..10 {
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
    }
    assert_eq!(authorization.calls().len(), 1);
    lab.finish().await;
}

/// oauth 7.3, 8.4: the old one is used while the refresh hangs, then requests wait, and a token that ended
/// never goes out.
#[tokio::test]
async fn an_expiring_token_is_used_during_its_refresh_until_requests_must_wait() {
    let (authorization, lab) = bank(short(6.0), usual).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let first = lab.origin.only().head.one("authorization").map(str::to_owned);
    let gate = authorization.hold_next();
    let ages = async {
        while authorization.calls().len() < 2 {
            assert_eq!(lab.ask("GET /a").await.text(), "fine", "at once, with the old one");
        }
    };
    patiently("the refresh", ages).await;
    let last = lab.origin.received().pop().expect("a request");
    assert_eq!(last.head.one("authorization"), first.as_deref(), "nothing newer was stored yet");
    let waits = async {
        let within = Duration::from_millis(500);
        while let Ok(answer) = tokio::time::timeout(within, lab.ask("GET /a")).await {
            assert_eq!(answer.text(), "fine");
        }
    };
    patiently("a request that waits", waits).await;
    gate.add_permits(1);
    assert_eq!(lab.ask("GET /last").await.text(), "fine");
    let newer = authorization.calls()[1].issued.clone().expect("tokens").access;
    let last = lab.origin.received().pop().expect("a request");
    assert_eq!(last.head.one("authorization"), Some(&*format!("Bearer {newer}")));
    assert_eq!(authorization.calls().len(), 2, "one for all of it");
    lab.finish().await;
}

/// oauth 7.3: the failure had no reason, and commands showed `no answer`.
#[tokio::test]
async fn a_token_that_has_expired_on_arrival_is_not_used_and_named_as_the_reason() {
    let (authorization, lab) = bank(short(1e-9), usual).await;
    let refused = lab.ask("GET /a").await;
    let code = refused.head.one("keyward-error");
    assert_eq!((refused.head.status(), code), (503, Some("refresh_unavailable")));
    assert!(lab.origin.received().is_empty());
    assert!(authorization.only_call().issued.is_some());
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    let why = &shown["token"]["failing"]["message"];
    assert_eq!(why, "the token had expired when its answer arrived", "{shown}");
    lab.finish().await;
}

/// oauth 7.5: no moment of its own, and the API's 401 is one.
#[tokio::test]
async fn a_token_of_unknown_lifetime_is_used_until_the_api_rejects_it() {
    let rules = Rules { access_ttl: None, ..rules() };
    let (authorization, mut lab) = bank(rules, usual).await;
    for _ in 0..3 {
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
    }
    lab.gateway.restart().await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 1);
    authorization.issuer().expire_all();
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 2);
    lab.finish().await;
}

/// oauth 7.6: neither starting again, nor looking, nor both.
#[tokio::test]
async fn a_restart_does_not_refresh_a_valid_token() {
    let (authorization, mut lab) = bank(rules(), usual).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    for _ in 0..2 {
        lab.gateway.restart().await;
        lab.gateway.api("GET", "/connections/acme", "").await;
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
    }
    assert_eq!(authorization.calls().len(), 1);
    lab.finish().await;
}

/// oauth 8.10: the server did it, and its answer was lost.
#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_repeated_with_the_old_token() {
    for lost in [Fault::ResetAfter, Fault::ClosesAfter, Fault::Truncates] {
        for grace in [Duration::from_secs(3_600), Duration::ZERO] {
            let (authorization, lab) = bank(Rules { grace, ..rules() }, fast).await;
            authorization.fail_next(lost.clone());
            let refused = lab.ask("GET /a").await;
            assert_eq!(refused.head.one("keyward-error"), Some("refresh_unavailable"), "{lost:?}");
            let ended = until_some("an end", async || {
                let answer = lab.ask("GET /a").await;
                (answer.head.status() != 503).then_some(answer)
            })
            .await;
            let calls = authorization.calls();
            assert_eq!(calls.len(), 2, "{lost:?}");
            assert_eq!(calls[0].form["refresh_token"], calls[1].form["refresh_token"], "{lost:?}");
            match grace.is_zero() {
                false => assert_eq!(ended.text(), "fine", "{lost:?}"),
                true => assert_eq!(ended.head.status(), 424, "{lost:?}: {}", ended.text()),
            }
            lab.finish().await;
        }
    }
}

/// oauth 8.1: for a grant without a refresh token too, and on a cold start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_after_a_restart_cost_one_refresh() {
    let (authorization, mut lab) = bank(rules(), usual).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    authorization.issuer().expire_all();
    lab.gateway.restart().await;
    let lab = Arc::new(lab);
    assert_eq!(crowd(&lab, 40, "GET /a").await, vec![200; 40]);
    assert_eq!(authorization.calls().len(), 2);
    Arc::into_inner(lab).expect("all are done").finish().await;
}

/// oauth 8.9, 8.2: a program that is asked to end waits for the answer, stores it, and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_waits_for_a_refresh_and_its_token_is_used_after_the_restart() {
    let authorization = Authorization::with(rules()).await;
    let pair = refresh_only(&authorization);
    let origin = api(&authorization);
    let plan = plan(&authorization, &pair);
    let refresh = pair.refresh.clone().expect("one");
    let variables = [("REFRESH", &*refresh)];
    let mut served = Served::start(&plan, &origin, &variables);
    let gate = authorization.hold_next();
    let agent = begins(&served).await;
    authorization.asked(1).await;
    // Nothing but the refresh is under way then: an agent that only ended its side would still get an answer.
    agent.abort();
    served.signal(rustix::process::Signal::TERM);
    refuses(&served).await;
    gate.add_permits(1);
    assert_eq!(served.exit_code(), Some(0), "{}", served.output());
    assert!(authorization.only_call().delivered, "the answer was not read");
    served.restart();
    let mut agent = begins(&served).await;
    assert_eq!(agent.answer("GET").await.text(), "fine");
    let issued = authorization.only_call().issued.expect("tokens");
    let field = format!("Bearer {}", issued.access);
    assert_eq!(origin.only().head.one("authorization"), Some(&*field), "what was stored");
}

/// A request of the agent that is sent, and not answered yet.
async fn begins(served: &Served) -> Wire {
    let mut wire = Wire::to(served.proxy).await;
    wire.send(absolute("GET /", HOST, TOKEN_CI)).await;
    wire
}

/// Waits until no one is listened to any more.
async fn refuses(served: &Served) {
    until("the end of listening", async || {
        tokio::net::TcpStream::connect(served.proxy).await.is_err()
    })
    .await;
}

/// oauth 11.1: the refusal of a token that somebody has replaced meanwhile.
#[tokio::test]
async fn a_request_with_a_late_401_is_sent_again_with_the_newer_token_and_no_refresh() {
    let authorization = Authorization::with(rules()).await;
    let gate = Arc::new(Semaphore::new(0));
    let shared = (authorization.issuer().clone(), gate.clone());
    let origin = Origin::sharing(shared, move |mut stream, (issuer, held)| async move {
        while let Some(request) = stream.request().await {
            if request.head.target() == "/slow" {
                held.acquire().await.expect("an open gate").forget();
            }
            if stream.try_send(issuer.api(&request, "fine")).await.is_err() {
                return;
            }
        }
    });
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    let mut slow = lab.sent("GET /slow").await;
    lab.origin.has_read("GET /slow").await;
    authorization.issuer().expire_all();
    assert_eq!(lab.ask("GET /b").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 2);
    gate.add_permits(2);
    assert_eq!(slow.answer("GET").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 2, "there was a newer one");
    let received = lab.origin.received();
    let slow: Vec<_> = received.iter().filter(|it| it.head.target() == "/slow").collect();
    assert_eq!(slow.len(), 2);
    assert_ne!(slow[0].head.one("authorization"), slow[1].head.one("authorization"));
    lab.finish().await;
}

/// oauth 11.methods: a 401 means that nothing was done.
#[tokio::test]
async fn every_method_is_replayed_after_a_401_but_unsafe_ones_only_if_allowed() {
    for (more, unsafe_too) in [("", true), (", replay_unsafe: false", false)] {
        let (authorization, lab) = bank_of(&method(more), rules(), usual).await;
        assert_eq!(lab.ask("GET /first").await.text(), "fine");
        for method in ["GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
            authorization.issuer().expire_all();
            let before = (lab.origin.received().len(), authorization.calls().len());
            let answer = lab.ask(&format!("{method} /x\r\nContent-Length: 0")).await;
            landed(&lab).await;
            let again = unsafe_too || matches!(method, "GET" | "OPTIONS");
            assert_eq!(answer.head.status(), if again { 200 } else { 401 }, "{method}{more}");
            let sent = lab.origin.received().len() - before.0;
            assert_eq!(sent, if again { 2 } else { 1 }, "{method}{more}");
            assert_eq!(authorization.calls().len() - before.1, 1, "{method}{more}");
            assert_eq!(lab.ask("GET /next").await.text(), "fine", "{method}{more}");
        }
        lab.finish().await;
    }
}

/// oauth 11.origins: to hosts of the connection alone, in the place of the agent's own.
#[tokio::test]
async fn a_token_goes_to_no_other_host() {
    let authorization = Authorization::with(rules()).await;
    let lab = plan(&authorization, &refresh_only(&authorization))
        .rule(&format!("{{ name: by, hosts: [{STRANGER}], action: pass }}"))
        .start(api(&authorization))
        .await;
    let own = "GET /a\r\nAuthorization: Bearer agents-own";
    assert_eq!(lab.ask(own).await.text(), "fine");
    let mut wire = lab.tunnel(STRANGER).await;
    wire.ask(request_text(own, STRANGER)).await.is(401);
    let fields: Vec<Vec<String>> = lab.origin.received().iter().map(authorizations).collect();
    let issued = authorization.only_call().issued.expect("tokens").access;
    assert_eq!(fields, [[format!("Bearer {issued}")], ["Bearer agents-own".to_owned()]]);
    lab.finish().await;
}

fn authorizations(request: &Message) -> Vec<String> {
    request.head.all("authorization").into_iter().map(str::to_owned).collect()
}

/// oauth 11.7, 9.quiet: and after that nobody is asked, also after a restart.
#[tokio::test]
async fn a_grant_that_a_401_showed_to_be_revoked_stays_broken_after_a_restart() {
    let (authorization, mut lab) = bank(rules(), fast).await;
    assert_eq!(lab.ask("GET /a").await.text(), "fine");
    authorization.issuer().end_all();
    for _ in 0..2 {
        let told = lab.ask("GET /a").await;
        assert_eq!(told.head.one("keyward-error"), Some("connection_broken"));
    }
    lab.gateway.restart().await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 424);
    assert_eq!((authorization.calls().len(), lab.origin.received().len()), (2, 2));
    let shown: Value = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!((&shown["state"], &shown["detail"]), (&"broken".into(), &"invalid_grant".into()));
    lab.finish().await;
}
