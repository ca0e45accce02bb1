//! Requests that a bound connection does not take: those where its credential has no place, and those with an
//! authorization of their own. What the origin receives, what the agent sees, and what audit and `explain` say.

use serde_json::{Value, json};
use test_support::*;

/// A URL that another key has signed.
const SIGNED: &str = "/f?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAOTHER%2F20261129%2Feu-west-1%2Fs3%2F\
                      aws4_request&X-Amz-Signature=abab";

/// A lab whose agent `dev` has the connection and may reach every host.
async fn lab(plan: Plan) -> Lab {
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.add_agent("dev").await;
    lab.gateway.api("PATCH", "/agents/dev", r#"{"allow":["web"]}"#).await.is(200);
    lab.bind("dev", "acme").await;
    lab
}

/// A credential that has a place below `/git` only.
fn placed() -> Plan {
    let auth = "{ id: key, kind: api_key, placements: [{ paths: [/git/**], place: { header: X-Api-Key } }] }";
    Plan::new(auth, "{ api_key: { env: CANARY } }")
}

fn signing() -> Plan {
    let fields =
        "[{ name: access_key_id, secret: true }, { name: secret_access_key, secret: true }]";
    let auth =
        format!("{{ id: key, kind: aws_sigv4, service: s3, region: eu-west-1, fields: {fields} }}");
    Plan::new(&auth, "{ access_key_id: AKIAOWNER, secret_access_key: { env: CANARY } }")
        .top("insecure_inline: true")
}

/// The code of a refusal, or the status.
async fn said(lab: &Lab, request: &str) -> String {
    let answer = lab.ask_as("dev", HOST, request).await;
    let code = answer.head.all("keyward-error").first().map(ToString::to_string);
    code.unwrap_or_else(|| answer.head.status().to_string())
}

async fn explained(lab: &Lab, method: &str, path: &str) -> Value {
    let url = format!("https://{HOST}{path}");
    let ask = json!({ "agent": "dev", "method": method, "url": url });
    lab.gateway.api("POST", "/rules/explain", &ask.to_string()).await.json()
}

/// `own_authorization` of each record that has one.
fn outcomes(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|it| it["own_authorization"].as_str()).collect()
}

#[tokio::test]
async fn a_placeholder_is_refused_where_the_connection_has_no_place_and_nothing_reaches_the_origin()
{
    let lab = lab(placed()).await;
    let held = lab.gateway.placeholder("dev", "acme", "api_key");
    for field in [format!("X-Api-Key: {held}"), "Keyward-Connection: acme".to_owned()] {
        let answer = lab.ask_as("dev", HOST, &format!("GET /page\r\n{field}")).await;
        assert_eq!(answer.head.status(), 400, "{}", answer.text());
        assert!(answer.text().contains("/git/**"), "it says where: {}", answer.text());
    }
    lab.finish_unreached().await;
}

#[tokio::test]
async fn a_request_where_the_connection_has_no_place_carries_nothing_and_needs_a_set_or_a_rule() {
    let lab = lab(placed()).await;
    assert_eq!(said(&lab, "GET /git/x").await, "200");
    assert_eq!(said(&lab, "GET /page").await, "200");
    let told = explained(&lab, "GET", "/page").await;
    assert_eq!((&told["action"], &told["rule"]), (&json!("pass"), &json!("allow:web")), "{told:#}");
    assert_eq!(told["considered"][0]["fit"], "no_place", "{told:#}");
    lab.gateway.api("PATCH", "/agents/dev", r#"{"allow":[]}"#).await.is(200);
    assert_eq!(said(&lab, "GET /page").await, "default_deny");
    let received = lab.origin.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].head.all("x-api-key"), [&*lab.canary.text]);
    assert!(received[1].head.all("x-api-key").is_empty(), "{:?}", received[1].head);
    let records = lab.finish().await;
    let rules: Vec<_> = records.iter().filter_map(|it| it["rule"].as_str()).collect();
    assert_eq!(&rules[1..], ["allow:web", "default"]);
}

#[tokio::test]
async fn a_write_with_an_authorization_of_its_own_is_refused_until_the_binding_lets_it_pass() {
    let lab = lab(signing()).await;
    let bearer = "PUT /f\r\nAuthorization: Bearer alien\r\nContent-Length: 0";
    let signed = format!("PUT {SIGNED}\r\nContent-Length: 0");
    for request in [bearer, &signed] {
        assert_eq!(said(&lab, request).await, "own_authorization", "{request}");
    }
    assert!(lab.origin.received().is_empty());
    let told = explained(&lab, "PUT", SIGNED).await;
    assert_eq!(told["stopped_by"][0]["code"], "own_authorization", "{told:#}");
    let binding = "/agents/dev/bindings/acme";
    let bound = lab.gateway.api("PATCH", binding, r#"{"own_authorization":"pass"}"#).await;
    assert_eq!(bound.json()["own_authorization"], "pass");
    for request in [bearer, &signed] {
        assert_eq!(said(&lab, request).await, "200", "{request}");
    }
    let received = lab.origin.received();
    assert_eq!(received[0].head.all("authorization"), ["Bearer alien"]);
    assert_eq!(received[1].head.target(), SIGNED);
    let records = lab.finish().await;
    assert_eq!(outcomes(&records), ["refused", "refused", "passed", "passed"]);
}

#[tokio::test]
async fn a_read_with_an_authorization_of_its_own_is_sent_as_it_is_where_a_set_allows_it() {
    let lab = lab(signing()).await;
    let held = lab.gateway.placeholder("dev", "acme", "access_key_id");
    let own = SIGNED.replace("AKIAOTHER", &held)
        + "&X-Amz-Date=20261129T120000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host";
    for path in
        [SIGNED, "/f?sv=2022-11-02&sig=ab", "/f?AWSAccessKeyId=A&Signature=b&Expires=1", &own, "/f"]
    {
        assert_eq!(said(&lab, &format!("GET {path}")).await, "200", "{path}");
    }
    lab.gateway.api("PATCH", "/agents/dev", r#"{"allow":[]}"#).await.is(200);
    assert_eq!(said(&lab, &format!("GET {SIGNED}")).await, "default_deny");
    let received = lab.origin.received();
    let target = |at: usize| received[at].head.target().to_owned();
    assert_eq!([target(0), target(1)], [SIGNED, "/f?sv=2022-11-02&sig=ab"]);
    assert!(received[..3].iter().all(|it| it.head.all("authorization").is_empty()));
    assert!(target(3).contains("AKIAOWNER"), "the agent's own is signed again: {}", target(3));
    assert!(received[4].head.all("authorization")[0].contains("AKIAOWNER"), "unsigned is signed");
    let records = lab.finish().await;
    assert_eq!(outcomes(&records), ["passed"; 3]);
}

#[tokio::test]
async fn an_alien_authorization_is_replaced_where_the_credential_is_written_as_it_is() {
    let lab = lab(Plan::bearer()).await;
    assert_eq!(said(&lab, "GET /f\r\nAuthorization: Bearer alien").await, "200");
    let sent = lab.origin.only();
    assert_eq!(sent.head.all("authorization"), [&*format!("Bearer {}", lab.canary.text)]);
    let records = lab.finish().await;
    assert_eq!(outcomes(&records), ["replaced"]);
}

#[tokio::test]
async fn an_encoded_slash_is_part_of_a_segment_only_where_the_provider_says_so() {
    let actions = "actions: [{ name: read, label: Read, requests: [{ methods: [GET], paths: [\"/p/*/issues\"] }] }]";
    for (encoded, code) in [("", "bad_target"), ("encoded_slash: segment, ", "200")] {
        let mut plan = Plan::api_key();
        plan.provider_more = format!(", {encoded}{actions}");
        let lab = lab(
            plan.rule("{ name: no, hosts: [api.acme.test], paths: [/admin/**], action: deny }")
        )
        .await;
        lab.gateway
            .api("PATCH", "/agents/dev/bindings/acme", r#"{"allow":["read"]}"#)
            .await
            .is(200);
        assert_eq!(said(&lab, "GET /p/g%2Fn/issues").await, code);
        if code == "200" {
            assert_eq!(lab.origin.only().head.target(), "/p/g%2Fn/issues");
            assert_eq!(said(&lab, "GET /p/g%2Fn/other").await, "denied");
            assert_eq!(said(&lab, "GET /p//g%2Fn/issues").await, "bad_target");
            assert_eq!(said(&lab, "GET /p/g/n/issues").await, "denied");
        }
        lab.finish().await;
    }
}
