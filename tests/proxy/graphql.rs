//! Actions of Linear, which has GraphQL alone, through the proxy: an agent that may read sends no mutation, however it
//! writes it, and the service receives the bytes that were judged.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use test_support::http2::{Offer, Reply};
use test_support::*;

const LINEAR: &str = "api.linear.app";
const HEAD: &str = "POST /graphql\r\nContent-Type: application/json";
const WEBSOCKET: &str = "GET /graphql\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Protocol: graphql-transport-ws\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
const CONNECTION: &str = "{ name: issues, provider: linear, fields: { api_key: { env: CANARY } } }";

fn plan(allow: &str) -> Plan {
    Plan::api_key()
        .agent("bot", &format!("{{ connection: issues, {allow} }}"))
        .connection(CONNECTION)
}

async fn lab_of(plan: Plan) -> Lab {
    let origin = Origin::answering_as(&[LINEAR], |_| ok("fine"));
    plan.resolve(&format!("{LINEAR}: \"{}\"", origin.addr)).start(origin).await
}

async fn lab(allow: &str) -> Lab {
    lab_of(plan(allow)).await
}

/// Sends a body with its length.
async fn post(lab: &Lab, head: &str, body: &[u8]) -> Message {
    let mut wire = lab.tunnel_as("bot", LINEAR).await;
    let length = body.len();
    wire.send(request_text(&format!("{head}\r\nContent-Length: {length}"), LINEAR)).await;
    // A refusal may come before it is read.
    let _ = wire.try_send(body).await;
    wire.answer(head.split(' ').next().unwrap_or_default()).await
}

/// The body of a document.
fn body(document: &str) -> String {
    json!({ "query": document }).to_string()
}

async fn ask(lab: &Lab, document: &str) -> Message {
    post(lab, HEAD, body(document).as_bytes()).await
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

/// Documents with an operation that `read` does not have.
const MUTATIONS: [&str; 21] = [
    "mutation { issueDelete(id: 1) { success } }",
    "mutation{issueDelete(id:1){success}}",
    "mutation Query { issues: issueDelete(id: 1) { success } }",
    "mutation query { viewer: issueDelete(id: 1) { success } }",
    "query A { viewer { id } } mutation B { issueDelete(id: 1) { success } }",
    "{ viewer { id } } mutation { issueDelete(id: 1) { success } }",
    "fragment F on Mutation { issueDelete(id: 1) { success } } mutation { ...F }",
    "mutation { ... on Mutation { ... { issueDelete(id: 1) { success } } } }",
    "mutation { ...F } fragment F on Mutation { ...G } fragment G on Mutation { issueDelete(id: 1) { success } ...F }",
    "mutation @skip(if: true) { issueDelete(id: 1) @include(if: true) { success } }",
    "# query { viewer { id } }\nmutation { issueDelete(id: 1) { success } }",
    "query { viewer { id } } # {\n mutation { issueDelete(id: 1) { success } }",
    "query { a(b: \"#\") } mutation { issueDelete(id: 1) { success } } # \"",
    "query { a(b: \"\"\"\n}\n\"\"\") } mutation { issueDelete(id: 1) { success } }",
    "query { a(b: \"\"\"x\\\"\"\" ) } mutation { issueDelete(id: 1) { success } } #\"\"\"",
    "query { a(b: \"\\\\\") } mutation { issueDelete(id: 1) { success } } #\"",
    "query { a } #\rmutation { issueDelete(id: 1) { success } }",
    "query { a } #\u{2028}mutation { issueDelete(id: 1) { success } }",
    "\u{feff}mutation { issueDelete(id: 1) { success } }",
    ",,,mutation,M,{,issueDelete,(id:1),{,success,},},",
    "subscription { issueCreated { id } }",
];

/// Bodies in which a service could find an operation that `read` does not have.
const BODIES: [&str; 16] = [
    r#"{"query":"{viewer{id}}","query":"mutation{issueDelete(id:1){success}}"}"#,
    r#"{"query":"mutation{issueDelete(id:1){success}}","query":"{viewer{id}}"}"#,
    r#"{"query":"{viewer{id}}","qu\u0065ry":"mutation{issueDelete(id:1){success}}"}"#,
    r#"{"query":"{viewer{id}}","Query":"mutation{issueDelete(id:1){success}}"}"#,
    r#"{"query":"\u006dutation{issueDelete(id:1){success}}"}"#,
    r#"{"query":"query A{viewer{id}} mutation B{issueDelete(id:1){success}}","operationName":"A"}"#,
    r#"{"query":"query A{viewer{id}} mutation B{issueDelete(id:1){success}}","operationName":"B"}"#,
    r#"[{"query":"{viewer{id}}"},{"query":"mutation{issueDelete(id:1){success}}"}]"#,
    r#"[{"query":"{viewer{id}}"},{"id":"persisted"}]"#,
    r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#,
    r#"{"query":"{viewer{id}}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"x"}}}"#,
    r#"{"query":"{viewer{id}}","documentId":"x"}"#,
    r#"{"query":["mutation{issueDelete(id:1){success}}"]}"#,
    "\u{feff}{\"query\":\"mutation{issueDelete(id:1){success}}\"}",
    r#"{"query":"{viewer{id}}"}{"query":"mutation{issueDelete(id:1){success}}"}"#,
    "[]",
];

/// Rack reads a POST without `Content-Type` as a form, and cheroot and PHP take `Content_Type` for it. As a form, this body has
/// a mutation.
#[tokio::test]
async fn the_service_gets_the_content_type_that_was_judged_and_no_other() {
    let mut lab = lab("allow: [read]").await;
    let form = "application/x-www-form-urlencoded";
    let body =
        r#"{"query":"{viewer{id}}","operationName":"x&query=mutation{issueDelete(id:1)}&y="}"#;
    for other in [
        "Connection: Content-Type".to_owned(),
        "Connection: keep-alive, content-type, content-length".to_owned(),
        format!("Content_Type: {form}"),
        format!("content.type: {form}"),
        format!("Content~Type: {form}\r\nContent_Encoding: gzip\r\nContent_Length: 1"),
    ] {
        let answer = post(&lab, &format!("{HEAD}\r\n{other}"), body.as_bytes()).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{other}: {answer:?}");
        let received = lab.origin.arrival().await;
        assert_eq!(received.text(), body, "{other}");
        assert_eq!(received.head.one("content-type"), Some("application/json"), "{other}");
        let head = String::from_utf8_lossy(&received.head.raw).to_lowercase();
        assert_eq!(head.matches("\r\ncontent").count(), 2, "its type and length: {head}");
        let refused =
            post(&lab, &format!("POST /graphql\r\nContent-Type: {form}\r\n{other}"), b"query=x")
                .await;
        assert_eq!(refused.head.status(), 403, "{other}: {refused:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_mutation_of_an_agent_that_may_only_read_is_refused_in_every_form() {
    let lab = lab("allow: [read]").await;
    for document in MUTATIONS {
        let answer = ask(&lab, document).await;
        assert_eq!(answer.head.status(), 403, "{document}: {answer:?}");
        assert_eq!(answer.json()["error"]["code"], "denied", "{document}");
    }
    for body in BODIES {
        let answer = post(&lab, HEAD, body.as_bytes()).await;
        assert_eq!(answer.head.status(), 403, "{body}: {answer:?}");
    }
    let mutation = body(MUTATIONS[0]);
    let read = body("{ viewer { id } }");
    for (head, body) in [
        (HEAD.replace("json", "graphql"), MUTATIONS[0].as_bytes().to_vec()),
        (HEAD.replace("json", "x-www-form-urlencoded"), b"query=mutation{a}".to_vec()),
        (HEAD.replace("application/json", "multipart/form-data; boundary=x"), b"--x--".to_vec()),
        (format!("{HEAD}; charset=utf-16"), read.clone().into()),
        (format!("{HEAD}\r\nContent-Type: application/graphql"), read.clone().into()),
        (format!("{HEAD}\r\nContent-Encoding: gzip"), gzip(&mutation)),
        (format!("{HEAD}\r\nContent-Encoding: gzip"), gzip(&read)),
        (format!("{HEAD}\r\nX-HTTP-Method-Override: GET"), read.clone().into()),
        (HEAD.replace("/graphql", "/graphql?query=mutation%7Ba%7D"), read.clone().into()),
        (HEAD.replace("/graphql", "/graphql?extensions=%7B%7D"), read.clone().into()),
        (HEAD.replace("POST", "PUT"), read.clone().into()),
        (HEAD.replace("/graphql", "/graphql/"), mutation.clone().into()),
        ("POST /graphql".to_owned(), read.into()),
        ("GET /graphql?query=%7Bviewer%7Bid%7D%7D".to_owned(), Vec::new()),
        (HEAD.to_owned(), Vec::new()),
    ] {
        let answer = post(&lab, &head, &body).await;
        assert!([400, 403].contains(&answer.head.status()), "{head}: {answer:?}");
    }
    let mut wire = lab.tunnel_as("bot", LINEAR).await;
    wire.send(request_text(WEBSOCKET, LINEAR)).await;
    assert_eq!(wire.answer("GET").await.head.status(), 403, "a subscription over a WebSocket");
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    let records = lab.finish().await;
    assert_eq!(records.len(), MUTATIONS.len() + BODIES.len() + 16);
}

#[tokio::test]
async fn an_allowed_document_reaches_the_service_unchanged() {
    let mut lab = lab("allow: [read]").await;
    let texts = [
        "{\"query\":\"{viewer{id}}\"}".to_owned(),
        " { \"variables\": {\"a\": \"mutation { b }\"} ,\r\n\"query\"\t: \"query A($a: String) { issues(filter: $a) \
         { nodes { id } } }\", \"operationName\": \"A\" }\n"
            .to_owned(),
        "[{\"query\":\"{viewer{id}}\"},{\"query\":\"query { teams { nodes { id } } }\"}]".to_owned(),
        body("{ v\u{69}ewer { id } } # mutation { issueDelete }"),
    ];
    for text in &texts {
        let answer = post(&lab, HEAD, text.as_bytes()).await;
        assert_eq!(answer.text(), "fine", "{text}: {answer:?}");
        let sent = lab.origin.arrival().await;
        assert_eq!(&sent.text(), text);
        assert_eq!(sent.head.all("content-length"), [text.len().to_string()]);
        assert_eq!(sent.head.all("authorization"), [&*lab.canary.text]);
    }
    let read = &texts[0];
    // In pieces, with a trailer, which is not judged and not sent.
    let mut wire = lab.tunnel_as("bot", LINEAR).await;
    let head = format!("{HEAD}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Query");
    wire.send(request_text(&head, LINEAR)).await;
    let (first, second) = read.split_at(9);
    wire.send(format!("9\r\n{first}\r\n{:x}\r\n{second}\r\n", second.len())).await;
    wire.send("0\r\nX-Query: mutation\r\n\r\n").await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    let sent = lab.origin.arrival().await;
    assert_eq!((&sent.text(), sent.head.has("transfer-encoding")), (read, false), "{sent:?}");
    // An agent that waits is asked for the body, because it decides.
    let mut wire = lab.tunnel_as("bot", LINEAR).await;
    let head = format!("{HEAD}\r\nContent-Length: {}\r\nExpect: 100-continue", read.len());
    wire.send(request_text(&head, LINEAR)).await;
    assert_eq!(wire.head().await.expect("an interim answer").status(), 100);
    wire.send(read.as_str()).await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    assert_eq!(&lab.origin.arrival().await.text(), read);
    lab.finish().await;
}

#[tokio::test]
async fn graphql_rules_apply_to_http2_requests_as_to_http1_requests() {
    let origin = Origin::speaking(Offer::Both, |_| Reply::ok("fine"));
    let provider = "{ id: tracker, name: Tracker, hosts: [HOST], auth: [{ id: key, kind: bearer }], actions: [{ name: \
                    look, label: Look, requests: [{ methods: [POST], paths: [/graphql], graphql: { operations: \
                    [query], fields: [issue*], without_fields: [issueSecrets] } }] }] }";
    let mut lab = Plan::api_key()
        .provider(&provider.replace("HOST", HOST))
        .connection("{ name: tracked, provider: tracker, fields: { token: { env: CANARY } } }")
        .agent("bot", "{ connection: tracked, allow: [look] }")
        .start(origin)
        .await;
    let client = lab.h2_with("bot", HOST, &h2::client::Builder::new()).await;
    for refused in
        ["mutation { issue }", "{ viewer }", "{ issueSecrets }", "{ issue __schema { a } }"]
    {
        let answer = client.post(HEAD, &body(refused)).await;
        assert_eq!(answer.head.status(), 403, "{refused}: {answer:?}");
    }
    let read = body("{ issues { id } __typename }");
    assert_eq!(client.post(HEAD, &read).await.text(), "fine");
    assert_eq!(lab.origin.arrival().await.text(), read);
    lab.finish_after(1).await;
}

#[tokio::test]
async fn allowed_actions_combine_within_one_document_and_a_denied_action_refuses_it() {
    let lab = lab("allow: [read, write-issues, comment], deny: [delete]").await;
    for (document, status) in [
        ("mutation { issueDelete(id: 1) { success } }", 403),
        ("mutation { issueCreate(input: {}) { success } issueDelete(id: 1) { success } }", 403),
        ("mutation { webhookCreate(input: {}) { success } }", 403),
        (
            "mutation { issueCreate(input: {}) { success } commentCreate(input: {}) { success } }",
            200,
        ),
        ("query Q { viewer { id } } mutation M { issueUpdate(id: 1, input: {}) { success } }", 200),
    ] {
        assert_eq!(ask(&lab, document).await.head.status(), status, "{document}");
    }
    let records = lab.finish().await;
    assert!(
        records[0]["rule"].as_str().expect("a rule").starts_with("binding:con_"),
        "{records:#?}"
    );
}

#[tokio::test]
async fn a_denied_operation_is_sent_neither_by_another_method_nor_in_another_form() {
    let denying = Plan::api_key().agent("bot", "issues").connection(CONNECTION);
    let rule = "{ name: no-deletes, action: deny, actions: [\"linear:delete\"] }";
    for plan in [plan("deny: [delete]"), denying.rule(rule)] {
        let lab = lab_of(plan).await;
        let (mutation, read) = (body(MUTATIONS[0]), body("{ viewer { id } }"));
        let (mutation, read) = (mutation.as_str(), read.as_str());
        let in_url = "/graphql?query=mutation%7BissueDelete(id:1)%7Bsuccess%7D%7D";
        for (head, body) in [
            (format!("GET {in_url}"), ""),
            (format!("HEAD {in_url}"), ""),
            (HEAD.replace("/graphql", in_url), read),
            (HEAD.replace("POST", "PUT"), mutation),
            (HEAD.replace("POST", "PATCH"), mutation),
            (format!("{HEAD}\r\nX-HTTP-Method-Override: GET"), mutation),
            (HEAD.replace("json", "graphql"), MUTATIONS[0]),
            (HEAD.to_owned(), BODIES[7]),
            (HEAD.to_owned(), BODIES[9]),
        ] {
            let answer = post(&lab, &head, body.as_bytes()).await;
            assert_eq!(answer.head.status(), 403, "{head}: {answer:?}");
        }
        let mut wire = lab.tunnel_as("bot", LINEAR).await;
        wire.send(request_text(WEBSOCKET, LINEAR)).await;
        assert_eq!(wire.answer("GET").await.head.status(), 403, "a mutation over a WebSocket");
        assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
        let answer = ask(&lab, "mutation { issueCreate(input: {}) { success } }").await;
        assert_eq!(answer.text(), "fine", "{answer:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_body_is_read_and_limited_only_if_a_rule_depends_on_it() {
    let plan = plan("allow: [graphql]").limit("written_body_bytes_max: 100");
    let lab = lab_of(plan.limit("written_body_bytes_total: 100")).await;
    let long = body(&format!("mutation {{ a }} # {}", "x".repeat(1_000)));
    assert_eq!(post(&lab, HEAD, long.as_bytes()).await.text(), "fine");
    lab.finish().await;
    let plan = self::plan("allow: [read]").limit("written_body_bytes_max: 100");
    let lab = lab_of(plan.limit("written_body_bytes_total: 100")).await;
    let answer = post(&lab, HEAD, long.as_bytes()).await;
    assert_eq!((answer.head.status(), &answer.json()["error"]["code"]), (413, &json!("too_large")));
    assert!(lab.origin.received().is_empty());
    lab.finish().await;
}

#[tokio::test]
async fn explain_and_rule_tests_accept_a_document_and_a_direct_call_obeys_the_rules() {
    let plan = Plan::api_key().agent("bot", "{ connection: issues, allow: [read] }");
    let lab = lab_of(
        plan.connection(CONNECTION)
            .rule("{ name: no-deletes, action: deny, actions: [\"linear:delete\"] }"),
    )
    .await;
    let url = format!("https://{LINEAR}/graphql");
    let explain = async |graphql: Value| -> Value {
        let ask = json!({ "agent": "bot", "method": "POST", "url": url, "graphql": graphql });
        lab.gateway.api("POST", "/rules/explain", &ask.to_string()).await.json()
    };
    for (document, allowed, says) in [
        (json!("{ viewer { id } }"), true, ""),
        (
            json!("mutation { issueCreate { id } }"),
            false,
            "these actions of connection `issues` only: read",
        ),
        (json!("mutation { a: issueDelete { id } }"), false, "rule `file:no-deletes` denies this"),
        (json!("{ viewer"), false, "a name is missing"),
        (
            Value::Null,
            false,
            "depends on the GraphQL operations or the branches in the request's body, which is not known here",
        ),
    ] {
        let told = explain(document.clone()).await;
        let message = told["stopped_by"][0]["message"].as_str().unwrap_or_default();
        assert_eq!(told["allowed"], json!(allowed), "{document}: {told}");
        assert!(message.contains(says), "{document}: {message}");
    }
    let request = format!("POST {url}");
    let cases = json!({ "cases": [
        { "agent": "bot", "request": request, "graphql": "{ viewer { id } }", "expect": "inject" },
        { "agent": "bot", "request": request, "graphql": "mutation { issueDelete }", "expect": "deny", "rule": "no-deletes" },
        { "agent": "bot", "request": request, "graphql": "mutation { issueDelete }", "expect": "inject" },
    ] });
    let report = lab.gateway.api("POST", "/rules/test", &cases.to_string()).await.json();
    let passed: Vec<_> =
        report["results"].as_array().expect("results").iter().map(|it| &it["passed"]).collect();
    assert_eq!(passed, [&json!(true), &json!(true), &json!(false)], "{report}");
    for (document, status) in
        [("mutation { a: issueDelete }", 403), ("mutation { issueCreate }", 200)]
    {
        let ask = json!({
            "path": "/graphql", "method": "POST", "headers": { "Content-Type": "application/json" },
            "body": body(document),
        });
        let answer = lab.gateway.api("POST", "/connections/issues/request", &ask.to_string()).await;
        assert_eq!(answer.head.status(), status, "{document}: {answer:?}");
    }
    lab.finish_after(1).await;
}
