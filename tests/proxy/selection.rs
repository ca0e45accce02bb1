//! Which connection a request uses, and which rule decides.

use test_support::canary::Canary;
use test_support::*;

/// The credential of another connection.
const SECOND: &str = "second-secret-0123456789";

/// Two connections of one provider, both the agent's.
async fn two() -> Lab {
    two_of("acme, spare").await
}

/// `uses`: the list of `use`, and what follows it.
async fn two_of(uses: &str) -> Lab {
    Plan::api_key()
        .secret("SECOND", &Canary::of(SECOND.to_owned()))
        .connection("{ name: spare, provider: acme, fields: { api_key: { env: SECOND } } }")
        .no_agents()
        .agent("ci", uses)
        .start(Origin::saying("fine"))
        .await
}

#[tokio::test]
async fn the_first_of_two_candidates_is_used_if_the_request_selects_none() {
    let mut lab = two().await;
    let canary = lab.canary.text.clone();
    assert_eq!(lab.delivered("GET /a").await.all("x-api-key"), [&*canary]);
    lab.finish().await;
}

#[tokio::test]
async fn with_require_selection_an_ambiguous_request_gets_424_and_the_candidates() {
    let lab = two_of("acme, spare], require_selection: true, defaults: [").await;
    let answer = lab.ask("GET /a").await;
    assert_eq!(answer.refusal(), (424, Some("connection_ambiguous")), "{answer:?}");
    let text = answer.text();
    assert!(text.contains("acme") && text.contains("spare"), "lists them: {text}");
    assert!(text.contains("Keyward-Connection"), "says how to choose: {text}");
    lab.finish_after(0).await;
}

#[tokio::test]
async fn the_keyward_connection_field_selects_the_connection_and_is_not_forwarded() {
    let mut lab = two().await;
    let canary = lab.canary.text.clone();
    for (name, secret) in [("acme", &*canary), ("spare", SECOND)] {
        let head = lab.delivered(&format!("GET /a\r\nKeyward-Connection: {name}")).await;
        assert_eq!(head.all("x-api-key"), [secret]);
        assert!(!head.has("keyward-connection"), "{head:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_placeholder_selects_the_connection() {
    let mut lab = two().await;
    let spare = lab.gateway.placeholder("ci", "spare", "api_key");
    let head = lab.delivered(&format!("GET /a\r\nX-Api-Key: {spare}")).await;
    assert_eq!(head.all("x-api-key"), [SECOND]);
    lab.finish().await;
}

#[tokio::test]
async fn a_request_that_selects_two_connections_is_refused() {
    let lab = two().await;
    let spare = lab.gateway.placeholder("ci", "spare", "api_key");
    let acme = lab.placeholder("api_key");
    for request in [
        format!("GET /a\r\nX-Api-Key: {spare}\r\nKeyward-Connection: acme"),
        format!("GET /a\r\nX-Api-Key: {spare}\r\nX-Other: {acme}"),
        "GET /a\r\nKeyward-Connection: acme\r\nKeyward-Connection: spare".to_owned(),
    ] {
        let status = lab.ask(&request).await.head.status();
        assert!(matches!(status, 400 | 403), "{request}: {status}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn an_unbound_connection_is_answered_like_a_missing_one() {
    let plan = Plan::api_key()
        .secret("SECOND", &Canary::of(SECOND.to_owned()))
        .connection("{ name: secret-one, provider: acme, fields: { api_key: { env: SECOND } } }");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut answers = vec![];
    for name in ["secret-one", "no-such-one"] {
        let answer = lab.ask(&format!("GET /a\r\nKeyward-Connection: {name}")).await;
        assert_eq!(answer.refusal(), (424, Some("connection_missing")), "{answer:?}");
        let exchange = answer.json()["error"]["exchange"].as_str().expect("an id").to_owned();
        let said = answer.text().replace(name, "NAME").replace(&exchange, "ID");
        let mut fields = answer.head.fields;
        // It tells the length of the name.
        fields.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        answers.push((fields, said));
    }
    assert_eq!(answers[0], answers[1], "existing and missing look the same");
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_connection_of_another_provider_is_refused_for_this_host() {
    let plan = Plan::api_key()
        .secret("SECOND", &Canary::of(SECOND.to_owned()))
        .provider(&format!(
            "{{ id: other, name: Other, hosts: [{STRANGER}], auth: [{{ id: token, kind: bearer }}] }}"
        ))
        .connection("{ name: elsewhere, provider: other, fields: { token: { env: SECOND } } }")
        .no_agents()
        .agent("ci", "acme, elsewhere");
    let lab = plan.start(Origin::saying("fine")).await;
    let answer = lab.ask("GET /a\r\nKeyward-Connection: elsewhere").await;
    assert!(matches!(answer.head.status(), 403 | 424), "{answer:?}");
    let foreign = lab.gateway.placeholder("ci", "elsewhere", "token");
    let answer = lab.ask(&format!("GET /a\r\nX-Api-Key: {foreign}")).await;
    assert_eq!(answer.head.one("keyward-error"), Some("placeholder_foreign"), "{answer:?}");
    lab.finish_after(0).await;
}

#[tokio::test]
async fn deny_rules_match_by_method_and_by_decoded_path() {
    let origin = Origin::saying("fine");
    let lab = Plan::api_key()
        .rule(&format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}"))
        .rule(&format!(
            "{{ name: no-admin, hosts: [{HOST}], paths: [\"/admin/**\"], action: deny }}"
        ))
        .start(origin)
        .await;
    for (request, status) in [
        ("GET /a", 200),
        ("DELETE /a", 403),
        ("GET /admin/x", 403),
        ("GET /%61dmin/x", 403),
        ("GET /administrator", 200),
        ("POST /a\r\nContent-Length: 0", 200),
    ] {
        let answer = lab.ask(request).await;
        assert_eq!(answer.head.status(), status, "{request}: {}", answer.text());
    }
    lab.finish_after(3).await;
}

#[tokio::test]
async fn an_earlier_rule_decides_before_a_later_one_that_also_matches() {
    let open = format!("{{ name: open, hosts: [{HOST}], paths: [/open/**], action: pass }}");
    let shut = format!("{{ name: shut, hosts: [{HOST}], methods: [GET], action: deny }}");
    for (rules, status, code) in
        [([&open, &shut], 200, None), ([&shut, &open], 403, Some("denied"))]
    {
        let plan = Plan::api_key().rule(rules[0]).rule(rules[1]);
        let lab = plan.start(Origin::saying("fine")).await;
        let answer = lab.ask("GET /open/a").await;
        assert_eq!(answer.refusal(), (status, code));
        assert_eq!(lab.ask("GET /a").await.head.one("keyward-error"), Some("denied"));
        let received = lab.origin.received();
        assert_eq!(received.len(), usize::from(status == 200));
        assert!(received.iter().all(|request| !request.head.has("x-api-key")), "{received:?}");
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_rule_that_uses_a_connection_takes_the_place_of_its_binding() {
    let rule = format!(
        "{{ name: read-only, agents: [ci], hosts: [{HOST}], methods: [GET, HEAD], use: acme }}"
    );
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    assert_eq!(lab.ask("GET /a").await.head.status(), 200);
    let refused = lab.ask("POST /a\r\nContent-Length: 0").await;
    assert_eq!(refused.head.status(), 403, "GET only means GET only");
    lab.finish_after(1).await;
}

#[tokio::test]
async fn a_path_with_parent_or_encoded_dot_segments_is_refused() {
    let lab = Lab::simple().await;
    for path in ["/a/../b", "/a/%2e%2e/b", "/..", "/a/.%2E/b", "/a/%2e/b", "/a%2fb/../c", "/a\\b"] {
        let answer = lab.ask(&format!("GET {path}")).await;
        assert_eq!(answer.head.status(), 400, "{path}: {answer:?}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_single_dot_segment_is_forwarded_unless_a_rule_depends_on_the_path() {
    let lab = Lab::simple().await;
    assert_eq!(lab.ask("GET /debian/./Packages").await.head.status(), 200);
    let request = lab.origin.only();
    assert_eq!(request.head.target(), "/debian/./Packages");
    assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    lab.finish().await;
    let rule = format!("{{ name: closed, hosts: [{HOST}], paths: [/admin/**], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    for path in ["/./admin/a", "/admin/./a", "/a/./b", "/."] {
        assert_eq!(lab.ask(&format!("GET {path}")).await.head.status(), 400, "{path}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn pass_forwards_without_a_credential() {
    let rule = format!("{{ name: open, hosts: [{STRANGER}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(STRANGER).await;
    wire.send(request_text("GET /a\r\nAuthorization: Bearer own-one", STRANGER)).await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    let head = lab.origin.only().head;
    assert_eq!(head.all("authorization"), ["Bearer own-one"], "the agent's own stays");
    assert!(!head.has("x-api-key"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_host_with_a_similar_name_gets_no_credential() {
    let names = ["api.acme.test", "notapi.acme.test", "api.acme.test.evil.test", "xapi.acme.test"];
    let mut plan = Plan::api_key().top("default: pass");
    let origin = Origin::answering_as(&names, |_| ok("fine"));
    for name in &names[1..] {
        plan = plan.resolve(&format!("{name}: \"{}\"", origin.addr));
    }
    let lab = plan.start(origin).await;
    for name in &names[1..] {
        let mut wire = lab.tunnel(name).await;
        assert_eq!(wire.ask(request_text("GET /a", name)).await.text(), "fine", "{name}");
    }
    for request in lab.origin.received() {
        assert!(!request.head.has("x-api-key"), "{request:?}");
    }
    lab.finish().await;
}
