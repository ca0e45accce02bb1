//! Fields that name another resource than the path: what a rule says about that resource decides too.

use test_support::*;

const HOST: &str = "api.acme.test";

fn no_secrets() -> Plan {
    Plan::api_key()
        .rule("{ name: no-secrets, hosts: [api.acme.test], paths: [\"/secret/**\"], action: deny }")
}

/// Rules by which agents write to `/mine` only, and read from `/public` too.
fn mine_only() -> Plan {
    let paths = "paths: [\"/mine/**\"]";
    Plan::api_key()
        .rule(&format!("{{ name: mine, agents: [ci], hosts: [{HOST}], {paths}, use: acme }}"))
        .rule(&format!(
            "{{ name: public, agents: [ci], hosts: [{HOST}], methods: [GET], paths: [\"/public/**\"], use: acme }}"
        ))
}

#[tokio::test]
async fn a_copy_or_move_to_a_denied_path_is_refused_and_not_sent() {
    let mut lab = no_secrets().start(Origin::saying("fine")).await;
    for destination in [
        "/secret/a",
        "https://api.acme.test/secret/a",
        "http://other.test/secret/a",
        "/SECRET/%61",
        "/mine/b\r\nDestination: /secret/a",
    ] {
        for line in ["MOVE /mine/a", "copy /mine/a", "POST /mine/a\r\nX-HTTP-Method: MOVE"] {
            let request = format!("{line}\r\nDestination: {destination}\r\nContent-Length: 0");
            let answer = lab.ask(&request).await;
            assert_eq!(answer.refusal(), (403, Some("denied")), "{request}: {answer:?}");
            assert!(answer.text().contains("no-secrets"), "names the rule: {}", answer.text());
        }
    }
    let unclear = lab.ask("MOVE /mine/a\r\nDestination: secret/a\r\nContent-Length: 0").await;
    assert_eq!(unclear.refusal(), (400, Some("bad_target")), "relative to what: {unclear:?}");
    let dots = lab.ask("MOVE /mine/a\r\nDestination: /mine/../secret\r\nContent-Length: 0").await;
    assert_eq!(dots.refusal(), (400, Some("bad_request")), "{dots:?}");
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    for request in [
        "MOVE /mine/a\r\nDestination: https://api.acme.test/mine/b\r\nContent-Length: 0",
        "PUT /mine/a\r\nDestination: /secret/a\r\nContent-Length: 0",
    ] {
        let head = lab.delivered(request).await;
        assert_eq!(head.target(), "/mine/a");
        assert!(head.has("destination"), "the field stays: {head:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_put_that_copies_needs_a_rule_that_reads_the_source() {
    let mut lab = mine_only().start(Origin::saying("fine")).await;
    for field in ["x-amz-copy-source", "X_Amz_Copy-Source", "x-goog-copy-source"] {
        for source in ["secret/a", "/secret/a?versionId=1", "%73ecret/a", "mine%2Fa"] {
            let request = format!("PUT /mine/b\r\n{field}: {source}\r\nContent-Length: 0");
            let answer = lab.ask(&request).await;
            assert!([400, 403].contains(&answer.head.status()), "{request}: {answer:?}");
        }
    }
    let renamed = "PUT /mine/b\r\nx-ms-rename-source: /public/a\r\nContent-Length: 0";
    let answer = lab.ask(renamed).await;
    assert_eq!(answer.refusal(), (403, Some("denied")), "it is gone afterwards: {answer:?}");
    let moved = "MOVE /mine/a\r\nDestination: /public/a\r\nContent-Length: 0";
    assert_eq!(lab.ask(moved).await.refusal(), (403, Some("denied")));
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    for source in ["public/a", "/mine/a"] {
        let request = format!("PUT /mine/b\r\nx-amz-copy-source: {source}\r\nContent-Length: 0");
        let head = lab.delivered(&request).await;
        assert_eq!(head.one("x-amz-copy-source"), Some(source));
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    }
    lab.finish().await;
}

/// Without rules on paths, what a field names is allowed as the host is.
#[tokio::test]
async fn a_copy_at_a_host_without_rules_is_sent() {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    for fields in ["Destination: b/c", "Destination: //x/;y", "x-amz-copy-source: a%2Fb"] {
        let head = lab.delivered(&format!("COPY /a\r\n{fields}\r\nContent-Length: 0")).await;
        assert_eq!(head.target(), "/a", "{fields}");
    }
    lab.finish().await;
}
