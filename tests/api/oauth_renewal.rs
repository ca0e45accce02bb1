//! The upstream refuses a token: one newer one, and the request once more with it, whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use test_support::authorization::{Authorization, Fault, Issuer};
use test_support::http2::{Ask, Offer, Reply};
use test_support::tokens::*;
use test_support::*;

/// With a token that was used once, and that the API does not take any more.
async fn revoked() -> (Authorization, Lab) {
    let (authorization, lab) = bank(rules(), fast).await;
    assert_eq!(lab.ask("GET /first").await.text(), "fine");
    authorization.issuer().expire_all();
    (authorization, lab)
}

fn statuses(records: &[Value]) -> Vec<(u64, u64)> {
    let pair = |record: &Value| Some((record["status"].as_u64()?, record["attempts"].as_u64()?));
    records.iter().map(|record| pair(record).expect("numbers")).collect()
}

/// oauth 11.8: other refusals are the agent's.
#[tokio::test]
async fn a_403_costs_no_refresh_and_is_not_sent_again() {
    let authorization = Authorization::with(rules()).await;
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 403 Forbidden\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\"\r\n\
         Content-Length: 2\r\n\r\nno"
            .to_owned()
    });
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let answer = lab.ask("GET /a").await;
    assert_eq!((answer.head.status(), answer.text()), (403, "no".to_owned()));
    assert_eq!((authorization.calls().len(), lab.origin.received().len()), (1, 1));
    lab.finish().await;
}

/// oauth 11.4, 11.5
#[tokio::test]
async fn a_second_401_is_passed_on_and_causes_no_refresh_for_a_while() {
    let (authorization, lab) = (Authorization::with(rules()).await, AtomicUsize::new(0));
    let origin = Origin::answering(move |_: &Message| {
        let number = lab.fetch_add(1, Ordering::SeqCst);
        format!("HTTP/1.1 401 No\r\nContent-Length: 1\r\n\r\n{number}")
    });
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let first = lab.ask("GET /a").await;
    assert_eq!((first.head.status(), first.text()), (401, "1".to_owned()), "the second answer");
    assert!(!first.head.has("keyward-error"));
    for number in 2..6 {
        let answer = lab.ask("GET /a").await;
        assert_eq!((answer.head.status(), answer.text()), (401, number.to_string()));
    }
    assert_eq!(authorization.calls().len(), 2, "one to begin with, one for the refusal");
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["state"], "active", "a refusal alone breaks nothing");
    set(&lab, |it| it.refusal_pause = Duration::ZERO);
    lab.finish().await;
}

/// oauth 11.6
#[tokio::test]
async fn while_refreshes_fail_the_401_itself_is_passed_on() {
    let (authorization, lab) = revoked().await;
    authorization.fail_always(Fault::bad_gateway());
    let answer = lab.ask("GET /a").await.is(401);
    assert!(answer.head.one("www-authenticate").expect("as it came").contains("invalid_token"));
    assert!(!answer.head.has("keyward-error"));
    lab.finish().await;
}

/// oauth 11.7
#[tokio::test]
async fn a_revoked_grant_is_reported_as_connection_broken_instead_of_the_401() {
    let (authorization, lab) = revoked().await;
    authorization.issuer().end_all();
    let answer = lab.ask("GET /a").await.is(424);
    assert_eq!(answer.head.one("keyward-error"), Some("connection_broken"));
    lab.finish().await;
}

/// oauth 11.3: never a shortened one.
#[tokio::test]
async fn a_body_over_the_limit_is_not_sent_again_and_the_next_request_has_the_new_token() {
    let (authorization, lab) = revoked().await;
    set(&lab, |it| it.replay_bytes_max = 1_000);
    let mut wire = lab.tunnel(HOST).await;
    let body = "x".repeat(1_001);
    wire.send(request_text(&format!("POST /a\r\nContent-Length: {}", body.len()), HOST)).await;
    wire.send(&body).await;
    assert_eq!(wire.answer("POST").await.head.status(), 401);
    landed(&lab).await;
    assert_eq!(authorization.calls().len(), 2, "refreshed for the next");
    assert_eq!(lab.ask("GET /b").await.text(), "fine");
    assert_eq!(authorization.calls().len(), 2);
    let bodies: Vec<usize> = lab.origin.received().iter().map(|it| it.body.len()).collect();
    assert_eq!(bodies, [0, 1_001, 0]);
    lab.finish().await;
}

/// oauth 11.2, 11.9, 11.origins: the whole request again, and only the second answer.
#[tokio::test]
async fn a_refused_request_is_sent_again_whole_with_the_new_token() {
    let (authorization, lab) = revoked().await;
    let mut wire = lab.tunnel(HOST).await;
    let body = "y".repeat(200_000);
    let head = format!(
        "POST /a?b=c\r\nX-Mine: 1\r\nAuthorization: Bearer mine\r\nContent-Length: {}",
        body.len()
    );
    wire.send(request_text(&head, HOST)).await;
    wire.send(&body).await;
    let answer = wire.answer("POST").await;
    assert_eq!((answer.head.status(), answer.text()), (200, "fine".to_owned()));
    let received = lab.origin.received();
    let [_, first, second] = &received[..] else { panic!("{}", received.len()) };
    for request in [first, second] {
        assert_eq!(request.head.start, "POST /a?b=c HTTP/1.1");
        assert_eq!(request.head.one("x-mine"), Some("1"));
        assert_eq!(request.text(), body);
        assert_eq!(request.head.all("authorization").len(), 1, "the agent's own is gone");
    }
    assert_ne!(first.head.one("authorization"), second.head.one("authorization"));
    assert_eq!(authorization.calls().len(), 2);
    let records = lab.finish().await;
    assert_eq!(statuses(&records), [(200, 1), (200, 2)]);
    assert_eq!(records[1]["generation"], 3);
}

fn has_live_token(issuer: &Issuer, head: &Head) -> bool {
    let field = head.one("authorization").unwrap_or_default();
    field.strip_prefix("Bearer ").is_some_and(|token| issuer.is_live(token))
}

/// An API that refuses a request by its head. `accepted` has a permit for each request whose body it begins to read.
fn refusing_early(
    authorization: &Authorization,
    offer: Offer,
    accepted: &Arc<Semaphore>,
) -> Origin {
    let (issuer, accepted) = (authorization.issuer().clone(), Arc::clone(accepted));
    let (by_http1, told) = (issuer.clone(), Arc::clone(&accepted));
    let http1 = move |mut stream: Stream| {
        let (issuer, accepted) = (by_http1.clone(), Arc::clone(&told));
        async move {
            while let Some(head) = stream.head().await {
                if !has_live_token(&issuer, &head) {
                    stream.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno").await;
                    return stream.hold().await;
                }
                accepted.add_permits(1);
                let length = head.one("content-length").unwrap_or("0");
                let body = stream.exactly(length.parse().expect("a length")).await;
                stream.note(Message { head, body, whole: true, ..Message::default() });
                stream.send(ok("fine")).await;
            }
        }
    };
    let http2 = move |mut ask: Ask| {
        let (issuer, accepted) = (issuer.clone(), Arc::clone(&accepted));
        async move {
            if !has_live_token(&issuer, &ask.head) {
                let mut sending = ask.begin(401, &[], false).expect("asked");
                sending.send(b"no").await;
                sending.end();
                // What does not fit into the window is not asked for.
                sending.given_up().await;
                return;
            }
            accepted.add_permits(1);
            ask.whole().await;
            ask.reply(&Reply::ok("fine")).await;
        }
    };
    Origin::either(offer, http1, http2)
}

/// oauth 11.2, 11.9: also while its body is still on the way
#[tokio::test]
async fn a_request_refused_during_its_upload_is_sent_again_whole_with_the_new_token() {
    for offer in [Offer::Http1, Offer::Http2] {
        let authorization = Authorization::with(rules()).await;
        let accepted = Arc::new(Semaphore::new(0));
        let origin = refusing_early(&authorization, offer, &accepted);
        let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
        let client = lab.h2(HOST).await;
        assert_eq!(client.ask("GET /first").await.text(), "fine");
        accepted.acquire().await.expect("it is open").forget();
        authorization.issuer().expire_all();
        let mut call = client.open("POST /a\r\ncontent-length: 300000", false).await;
        call.send(&[b'y'; 100_000]).await;
        tokio::select! {
            came = call.head() => panic!("{offer:?}: {:?}", came.map(|coming| coming.head)),
            second = patiently("the second request", accepted.acquire()) => {
                second.expect("it is open").forget();
            }
        }
        call.send(&[b'y'; 200_000]).await;
        call.end();
        let answer = call.answer().await;
        assert_eq!((answer.head.status(), answer.text()), (200, "fine".to_owned()), "{offer:?}");
        let received = lab.origin.received();
        let [first, second] = &received[..] else { panic!("{offer:?}: {}", received.len()) };
        assert!(second.whole && second.text() == "y".repeat(300_000), "{offer:?}");
        assert_eq!(second.head.one("content-length"), Some("300000"));
        assert_ne!(first.head.one("authorization"), second.head.one("authorization"));
        assert_eq!(authorization.calls().len(), 2, "{offer:?}");
        let records = lab.finish().await;
        assert_eq!(statuses(&records), [(200, 1), (200, 2)], "{offer:?}");
        assert_eq!(records[1]["bytes_in"], 300_000, "{offer:?}");
    }
}

/// oauth 11.6: also while the body is still on the way
#[tokio::test]
async fn a_401_during_an_upload_is_passed_on_whole_while_refreshes_fail() {
    for offer in [Offer::Http1, Offer::Http2] {
        let authorization = Authorization::with(rules()).await;
        let origin = refusing_early(&authorization, offer, &Arc::new(Semaphore::new(0)));
        let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
        set(&lab, fast);
        let client = lab.h2(HOST).await;
        assert_eq!(client.ask("GET /first").await.text(), "fine");
        authorization.issuer().expire_all();
        authorization.fail_always(Fault::bad_gateway());
        let mut call = client.open("POST /a\r\ncontent-length: 300000", false).await;
        call.send(&[b'y'; 100_000]).await;
        let coming = call.head().await.expect("an answer");
        assert_eq!(coming.head.status(), 401, "{offer:?}");
        let (answer, reset) = coming.rest().await;
        assert_eq!(
            (answer.text(), answer.whole, reset),
            ("no".to_owned(), true, None),
            "{offer:?}"
        );
        lab.finish().await;
    }
}

/// oauth 11.2, 8.3: many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refusals_at_once_cost_one_refresh() {
    let (authorization, lab) = revoked().await;
    let lab = Arc::new(lab);
    assert_eq!(crowd(&lab, 100, "GET /a").await, vec![200; 100]);
    assert_eq!(authorization.calls().len(), 2);
    Arc::into_inner(lab).expect("all are done").finish().await;
}

/// oauth 11.streams, over HTTP/2.
#[tokio::test]
async fn a_refused_call_over_http2_is_sent_again_too() {
    let authorization = Authorization::with(rules()).await;
    let issuer = authorization.issuer().clone();
    let origin = Origin::speaking(Offer::Both, move |request: &Message| {
        let field = request.head.one("authorization").unwrap_or_default();
        match field.strip_prefix("Bearer ").is_some_and(|token| issuer.is_live(token)) {
            true => Reply::ok("fine"),
            false => Reply { status: 401, ..Reply::ok("") },
        }
    });
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.ask("GET /a").await.text(), "fine");
    authorization.issuer().expire_all();
    assert_eq!(client.post("POST /b", "body").await.text(), "fine");
    let received = lab.origin.received();
    assert_eq!(received.iter().map(Message::text).collect::<Vec<_>>(), ["", "body", "body"]);
    assert_eq!(authorization.calls().len(), 2);
    lab.finish().await;
}

/// oauth 11.10: the provider's own way to say it.
#[tokio::test]
async fn an_answer_that_the_provider_declares_as_expired_is_handled_like_a_401() {
    let authorization = Authorization::with(rules()).await;
    let issuer = authorization.issuer().clone();
    let origin = Origin::answering(move |request: &Message| {
        assert_eq!(request.head.one("accept-encoding"), Some("identity"));
        let live = issuer.api(request, "").starts_with("HTTP/1.1 200");
        let body = match (live, request.head.target()) {
            (true, _) => r#"{"ok":true}"#,
            (false, "/other") => r#"{"ok":false,"error":"other"}"#,
            (false, _) => r#"{"ok":false,"error":"token_expired"}"#,
        };
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    });
    let method = method(
        ", says: { expired: { status: 200, json: { ok: false, error: [token_expired, gone] } } }",
    );
    let pair = refresh_only(&authorization);
    let lab = plan_of(&authorization, &pair, &method).start(origin).await;
    assert_eq!(lab.ask("GET /a\r\nAccept-Encoding: gzip").await.text(), r#"{"ok":true}"#);
    authorization.issuer().expire_all();
    assert_eq!(lab.ask("GET /other").await.text(), r#"{"ok":false,"error":"other"}"#);
    assert_eq!(authorization.calls().len(), 1);
    assert_eq!(lab.ask("POST /a\r\nContent-Length: 0").await.text(), r#"{"ok":true}"#);
    assert_eq!(authorization.calls().len(), 2);
    lab.finish().await;
}

/// oauth 11.streams: before the first byte of a WebSocket.
#[tokio::test]
async fn a_refused_websocket_handshake_is_sent_again() {
    let (authorization, lab) = revoked().await;
    let before = lab.origin.received().len();
    let handshake = "GET /chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    let answer = lab.ask(handshake).await;
    assert_eq!((answer.head.status(), answer.text()), (200, "fine".to_owned()));
    let received = lab.origin.received();
    for request in &received[before..] {
        assert_eq!(
            request.head.one("upgrade").map(str::to_lowercase).as_deref(),
            Some("websocket")
        );
    }
    assert_eq!((received.len() - before, authorization.calls().len()), (2, 2));
    lab.finish().await;
}

/// A credential that nobody can renew is refused for good.
#[tokio::test]
async fn a_key_that_is_refused_is_sent_once() {
    let origin =
        Origin::answering(|_: &Message| "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    let lab = Plan::bearer().start(origin).await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 401);
    lab.finish_after(1).await;
}
