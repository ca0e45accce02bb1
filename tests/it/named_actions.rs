//! Named actions of a built-in provider through the proxy: `read` and `charge` of Stripe let no refund through.

use std::sync::Arc;

use crate::support::origin::{ok, serve};
use crate::support::*;

const STRIPE: &str = "api.stripe.com";

async fn lab() -> Lab {
    let answer = Arc::new(|_: &Message| ok("fine"));
    let origin = Origin::named(&[STRIPE], move |stream| serve(stream, Arc::clone(&answer))).await;
    Plan::api_key()
        .connection("{ name: shop, provider: stripe, fields: { api_key: { env: CANARY } } }")
        .agent("till", "")
        .rule("{ name: till, agents: [till], use: shop, actions: [read, charge] }")
        .resolve(&format!("{STRIPE}: \"{}\"", origin.addr))
        .start(origin)
        .await
}

async fn ask(lab: &Lab, request: &str) -> Message {
    let mut wire = lab.tunnel_as("till", &format!("{STRIPE}:443"), STRIPE).await;
    wire.send(request_text(request, STRIPE)).await;
    wire.answer(request.split(' ').next().unwrap_or_default()).await
}

#[tokio::test]
async fn a_till_reads_and_charges_and_does_not_refund() {
    let lab = lab().await;
    for request in [
        "POST /v1/refunds",
        "POST /v1/charges/ch_1/refund",
        "POST /v1/payouts",
        "DELETE /v1/customers/cus_1",
        "GET /v1/webhook_endpoints",
        // Rails would read another method.
        "GET /v1/customers/cus_1?_method=delete",
        "POST /v1/charges/../refunds",
    ] {
        let answer = ask(&lab, &format!("{request}\r\nContent-Length: 0")).await;
        assert!([400, 403].contains(&answer.head.status()), "{request}: {answer:?}");
    }
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    for request in ["GET /v1/charges/ch_1", "POST /v1/charges", "GET /v1/refunds"] {
        let answer = ask(&lab, &format!("{request}\r\nContent-Length: 0")).await;
        assert_eq!(answer.head.status(), 200, "{request}: {answer:?}");
    }
    let sent = lab.origin.received();
    let credential = format!("Bearer {}", lab.canary.text);
    assert_eq!(sent.len(), 3);
    for message in &sent {
        assert_eq!(message.head.one("authorization"), Some(&*credential));
    }
    lab.finish().await;
}
