//! What Keyward refuses of gRPC arrives as the status of a call, and is audited as it is for others.

use test_support::{HOST, Lab, Message, Origin, Plan, STRANGER, request_text};

/// A call as HTTP/1.1 carries it through other proxies.
fn call(content_type: &str) -> String {
    format!(
        "POST /acme.Orders/List\r\nContent-Type: {content_type}\r\nTE: trailers\r\nContent-Length: 0"
    )
}

async fn asked(lab: &Lab, host: &str, content_type: &str) -> Message {
    let mut wire = lab.tunnel(host).await;
    wire.ask(request_text(&call(content_type), host)).await
}

#[tokio::test]
async fn a_refused_call_ends_with_a_grpc_status_and_is_audited_as_refused() {
    let plan = Plan::api_key().rule(
        "{ name: no-orders, hosts: [other.acme.test], paths: [\"/acme.Orders/*\"], action: deny }",
    );
    let lab = plan.start(Origin::saying("never")).await;
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let answer = asked(&lab, STRANGER, content_type).await.is(200);
        assert_eq!(answer.head.one("grpc-status"), Some("7"));
        assert_eq!(answer.head.one("content-type"), Some("application/grpc"));
        assert_eq!(answer.head.one("keyward-error"), Some("denied"));
        let status = answer.head.one("proxy-status").expect("a status");
        assert_eq!(status, "keyward; error=http_request_denied; details=\"denied\"");
        let message = answer.head.one("grpc-message").expect("words");
        assert!(message.starts_with("denied: ") && message.contains("exc_"), "{message}");
        assert!(answer.whole && answer.body.is_empty());
    }
    assert!(lab.origin.received().is_empty());
    let records = lab.finish().await;
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(record["status"], 403);
        assert_eq!(record["code"], "denied");
        assert_eq!(record["outcome"], "refused");
    }
}

#[tokio::test]
async fn requests_other_than_grpc_are_refused_with_an_http_status() {
    let lab = Lab::simple().await;
    for content_type in ["application/json", "application/grpc-web+proto"] {
        let mut wire = lab.tunnel(HOST).await;
        // The host is not the tunnel's.
        let answer = wire.ask(request_text(&call(content_type), STRANGER)).await;
        assert_eq!(answer.head.status(), 421, "{content_type}");
        assert!(!answer.head.has("grpc-status"), "{content_type}");
        assert_eq!(answer.json()["error"]["code"], "host_mismatch");
    }
    lab.finish().await;
}

#[tokio::test]
async fn an_unreachable_upstream_is_grpc_status_unavailable() {
    let origin = Origin::saying("never");
    let addr = test_support::process::reserved_address();
    let plan = Plan::api_key()
        .allow(&addr.to_string())
        .resolve(&format!("gone.acme.test: \"{addr}\""))
        .rule("{ name: gone, hosts: [gone.acme.test], action: pass }");
    let lab = plan.start(origin).await;
    let answer = asked(&lab, "gone.acme.test", "application/grpc").await.is(200);
    assert_eq!(answer.head.one("grpc-status"), Some("14"), "{answer:?}");
    assert_eq!(answer.head.one("keyward-error"), Some("upstream_unreachable"));
    let records = lab.finish().await;
    assert_eq!(records[0]["status"], 502);
}
