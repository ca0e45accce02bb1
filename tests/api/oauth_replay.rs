//! Requests that are sent again with a newer token: calls of gRPC, and bodies that were waited for.

use test_support::authorization::Authorization;
use test_support::http2::{Offer, Reply};
use test_support::tokens::*;
use test_support::*;

const CALL: &str = "POST /acme.Orders/List\r\nContent-Type: application/grpc\r\nTE: trailers";

/// A service whose status 16 is the end of its calls, in the head or in trailers.
fn service(authorization: &Authorization, in_head: bool) -> Origin {
    let issuer = authorization.issuer().clone();
    Origin::speaking(Offer::Both, move |request: &Message| {
        let field = request.head.one("authorization").unwrap_or_default();
        let live = field.strip_prefix("Bearer ").is_some_and(|token| issuer.is_live(token));
        let kind = ("content-type", "application/grpc");
        let status = if live { ("grpc-status", "0") } else { ("grpc-status", "16") };
        match (live, in_head) {
            (false, true) => Reply { fields: vec![kind, status], ..Reply::ok("") },
            _ => Reply { fields: vec![kind], trailers: vec![status], ..Reply::ok("message") },
        }
    })
}

/// oauth 11.grpc: UNAUTHENTICATED of a call that ended before it began is a 401
#[tokio::test]
async fn a_call_that_ends_unauthenticated_in_its_head_is_sent_again_with_a_newer_token() {
    let authorization = Authorization::with(rules()).await;
    let origin = service(&authorization, true);
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.post(CALL, "one").await.text(), "message");
    authorization.issuer().expire_all();
    let answer = client.post(CALL, "two").await;
    assert_eq!((answer.head.status(), answer.text()), (200, "message".to_owned()));
    assert_eq!(answer.head.one("grpc-status"), None, "the first answer is not seen");
    let bodies: Vec<_> = lab.origin.received().iter().map(Message::text).collect();
    assert_eq!(bodies, ["one", "two", "two"]);
    assert_eq!(authorization.calls().len(), 2);
    lab.finish().await;
}

/// oauth 11.grpc, 11.streams: only where nothing was delivered
#[tokio::test]
async fn a_call_that_ends_unauthenticated_after_a_message_is_passed_on() {
    let authorization = Authorization::with(rules()).await;
    let origin = service(&authorization, false);
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.post(CALL, "one").await.text(), "message");
    authorization.issuer().expire_all();
    assert_eq!(client.post(CALL, "two").await.text(), "message");
    assert_eq!(lab.origin.received().len(), 2, "sent once");
    lab.finish().await;
}

/// oauth 11.grpc: what says 16 to one who did not call says nothing about a credential
#[tokio::test]
async fn a_grpc_status_in_an_answer_to_a_request_that_is_not_grpc_is_ignored() {
    let authorization = Authorization::with(rules()).await;
    let origin = service(&authorization, true);
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let client = lab.h2(HOST).await;
    assert_eq!(client.post("POST /a", "one").await.text(), "message");
    authorization.issuer().expire_all();
    assert_eq!(client.post("POST /a", "two").await.head.one("grpc-status"), Some("16"));
    assert_eq!((lab.origin.received().len(), authorization.calls().len()), (2, 1));
    lab.finish().await;
}

/// oauth 11.3, 11.9: a body that was waited for and has come is kept like any other
#[tokio::test]
async fn a_request_with_expect_100_continue_is_sent_again_whole() {
    let authorization = Authorization::with(rules()).await;
    let issuer = authorization.issuer().clone();
    let origin = Origin::sharing(issuer, |mut stream, issuer| async move {
        while let Some(head) = stream.head().await {
            if head.has("expect") {
                stream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            }
            if head.one("content-length").is_some() {
                assert_eq!(stream.exactly(5).await, b"hello");
            }
            let field = head.one("authorization").unwrap_or_default();
            let live = field.strip_prefix("Bearer ").is_some_and(|it| issuer.is_live(it));
            match live {
                true => stream.send(ok("thanks")).await,
                false => {
                    let refused = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
                    stream.send(refused).await;
                }
            }
        }
    });
    let lab = plan(&authorization, &refresh_only(&authorization)).start(origin).await;
    let put = async || {
        let mut wire = lab.tunnel(HOST).await;
        let request = "PUT /a\r\nContent-Length: 5\r\nExpect: 100-continue";
        wire.send(request_text(request, HOST)).await;
        assert_eq!(wire.head().await.expect("an interim answer").status(), 100);
        wire.send("hello").await;
        wire.answer("PUT").await.text()
    };
    assert_eq!(put().await, "thanks");
    authorization.issuer().expire_all();
    assert_eq!(put().await, "thanks", "the agent sees the second answer only");
    assert_eq!(authorization.calls().len(), 2);
    lab.finish().await;
}

/// oauth 11.3: a body that was not even asked for is asked for by the second request
#[tokio::test]
async fn a_request_refused_before_its_100_continue_is_sent_again_with_its_body() {
    let authorization = Authorization::with(rules()).await;
    let heads = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::atomic::Ordering::SeqCst;
    let shared = (authorization.issuer().clone(), heads.clone());
    let origin = Origin::sharing(shared, move |mut stream, (issuer, asked)| async move {
        while let Some(head) = stream.head().await {
            asked.fetch_add(1, seen);
            let field = head.one("authorization").unwrap_or_default();
            if !field.strip_prefix("Bearer ").is_some_and(|it| issuer.is_live(it)) {
                stream.send("HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno").await;
                stream.finish().await;
                return;
            }
            assert_eq!(head.one("expect"), Some("100-continue"));
            stream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            assert_eq!(stream.exactly(5).await, b"hello");
            stream.send(ok("thanks")).await;
        }
    });
    let plan = plan(&authorization, &refresh_only(&authorization));
    let lab = plan.limit("continue_timeout: 20s").start(origin).await;
    let put = async || {
        let mut wire = lab.tunnel(HOST).await;
        let request = "PUT /a\r\nContent-Length: 5\r\nExpect: 100-continue";
        wire.send(request_text(request, HOST)).await;
        assert_eq!(wire.head().await.expect("an interim answer").status(), 100);
        wire.send("hello").await;
        wire.answer("PUT").await.text()
    };
    assert_eq!(put().await, "thanks");
    authorization.issuer().expire_all();
    assert_eq!(put().await, "thanks");
    assert_eq!((heads.load(seen), authorization.calls().len()), (3, 2));

    // Where no newer token can be had, the refusal itself comes, whole.
    authorization.issuer().expire_all();
    authorization.fail_always(test_support::authorization::Fault::bad_gateway());
    let mut wire = lab.sent("PUT /a\r\nContent-Length: 5\r\nExpect: 100-continue").await;
    let refused = wire.answer("PUT").await;
    assert_eq!((refused.head.status(), refused.text()), (401, "no".to_owned()));
    lab.finish().await;
}
