//! Attempts to send a credential along a second one, elsewhere, or not at all.

use test_support::*;

#[tokio::test]
async fn every_spelling_of_the_query_parameter_is_replaced_by_the_credential() {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { query: api_key } }",
        "{ api_key: { env: CANARY } }",
    );
    let mut lab = plan.start(Origin::saying("fine")).await;
    for query in [
        "api_key=evil",
        "%61pi_key=evil",
        "api%5fkey=evil",
        "API_KEY=evil",
        "x=1;api_key=evil",
        "api_key=evil;x=1",
        "x;%61pi_key=evil",
        "api_key=evil&api_key=evil",
        "api_key",
        "=&api_key=evil&",
    ] {
        let target = lab.delivered(&format!("GET /a?{query}&b=2")).await.target().to_owned();
        assert!(!target.contains("evil"), "{query} became {target}");
        assert!(target.contains("b=2"), "{query} became {target}");
        assert!(target.ends_with(&format!("api_key={}", lab.canary.text)), "{query}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn every_spelling_of_the_cookie_is_replaced_by_the_credential() {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { cookie: sid } }",
        "{ api_key: { env: CANARY } }",
    );
    let mut lab = plan.start(Origin::saying("fine")).await;
    for cookie in ["sid=evil", "sid =evil", "\tsid\t=evil", "a=1;sid= evil", ";;sid=evil;", "sid"] {
        let head = lab.delivered(&format!("GET /a\r\nCookie: {cookie}\r\nCookie: b=2")).await;
        let cookies = head.all("cookie");
        assert_eq!(cookies.len(), 1, "{cookie}: {cookies:?}");
        assert!(!cookies[0].contains("evil"), "{cookie}: {cookies:?}");
        assert_eq!(cookies[0].matches("sid").count(), 1, "{cookie}: {cookies:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_header_placement_with_underscores_replaces_spellings_with_hyphens_too() {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { header: x_api_key } }",
        "{ api_key: { env: CANARY } }",
    );
    let mut lab = plan.start(Origin::saying("fine")).await;
    for name in ["X-Api-Key", "x_api-key", "X_API_KEY", "x-api_key"] {
        let head = lab.delivered(&format!("GET /a\r\n{name}: evil")).await;
        assert!(!String::from_utf8_lossy(&head.raw).contains("evil"), "{name}: {head:?}");
        assert_eq!(head.all("x_api_key"), [&*lab.canary.text], "{name}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_credential_in_the_path_is_sent_only_as_its_first_segment_and_to_its_host() {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placement: { path: '/bot{api_key}/' } }",
        "{ api_key: { env: CANARY } }",
    );
    let mut lab = plan.start(Origin::saying("fine")).await;
    let held = format!("/bot{}", lab.placeholder("api_key"));
    // What is sent behind the segment of the credential, or the status of the refusal.
    for (path, sent) in [
        ("//evil.test/getMe".to_owned(), Ok("/evil.test/getMe")),
        ("/@evil.test/getMe".to_owned(), Ok("@evil.test/getMe")),
        (format!("{held}//evil.test"), Ok("/evil.test")),
        (format!("{held}/../../x"), Err(400)),
        (format!("{held}/%2e%2e/x"), Err(400)),
        (format!("/x{held}/getMe"), Err(400)),
        (format!("{held}{held}/getMe"), Err(400)),
        (format!("{held}?next={held}/"), Ok("")),
        (held.clone(), Ok("")),
        (format!("https://evil.test{held}/getMe"), Err(421)),
        ("*".to_owned(), Err(400)),
        ("/".to_owned(), Ok("")),
        ("?/bot".to_owned(), Err(400)),
    ] {
        let mut wire = lab.tunnel(HOST).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let status = wire.answer("GET").await.head.status();
        assert_eq!(status, sent.err().unwrap_or(200), "{path}");
        let Ok(rest) = sent else { continue };
        let head = lab.origin.arrival().await.head;
        assert_eq!(head.target(), format!("/bot{}/{rest}", lab.canary.text), "{path}");
        assert_eq!(head.all("host"), [HOST], "{path}");
    }
    lab.finish_after(6).await;
}

#[tokio::test]
async fn a_request_to_a_path_without_a_placement_is_refused() {
    let plan = Plan::new(
        "{ id: key, kind: api_key, placements: [{ paths: [/v1/**], place: { header: X-Key } }] }",
        "{ api_key: { env: CANARY } }",
    );
    let lab = plan.start(Origin::saying("fine")).await;
    assert_eq!(lab.ask("GET /v1/a").await.head.status(), 200);
    let answer = lab.ask("GET /v2/a").await;
    assert_eq!(answer.head.status(), 403, "{answer:?}");
    let held = lab.placeholder("api_key");
    let answer = lab.ask(&format!("GET /v2/a\r\nX-Key: {held}")).await;
    assert_eq!(answer.head.status(), 400, "{answer:?}");
    lab.finish_after(1).await;
}

#[tokio::test]
async fn placeholders_in_odd_syntax_reach_no_origin() {
    let mut lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    let encoded: String = placeholder.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for request in [
        format!("GET /a?{encoded}"),
        format!("GET /a?x={encoded}&b=2"),
        format!("GET /a?x=1;y={placeholder}"),
        format!("GET /a?{placeholder}=1"),
        format!("GET /a\r\nCookie: {placeholder}"),
        format!("GET /a\r\nCookie: a=\"{placeholder}\"; b=2"),
        format!("GET /a\r\nCookie: a=1,b={placeholder}"),
        format!("GET /a\r\nX-A: {placeholder}{placeholder}"),
        format!("GET /a\r\nConnection: x-api-key\r\nX-B: {placeholder}"),
        format!("GET /a\r\nUser-Agent: x/{placeholder}"),
    ] {
        let head = lab.delivered(&request).await;
        let raw = String::from_utf8_lossy(&head.raw).to_ascii_lowercase();
        assert!(!raw.contains("kwph") && !raw.contains(&encoded), "{request}: {raw}");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{request}");
    }
    // A name that no connection has.
    let answer = lab.ask(&format!("GET /a\r\nKeyward-Connection: {placeholder}")).await;
    assert_eq!(answer.head.one("keyward-error"), Some("connection_missing"), "{answer:?}");
    lab.finish_after(10).await;
}

/// Rules that let `ci` read but not delete.
fn reading() -> Plan {
    Plan::api_key().rule(&format!(
        "{{ name: read, agents: [ci], hosts: [{HOST}], methods: [GET, POST], use: acme }}"
    ))
}

async fn sent(lab: &Lab, request: &str) -> Message {
    let mut wire = lab.tunnel(HOST).await;
    wire.ask(request).await
}

#[tokio::test]
async fn a_method_override_field_is_subject_to_the_rules_for_that_method() {
    let lab = reading().start(Origin::saying("fine")).await;
    for field in ["X-HTTP-Method-Override", "x-http-method", "X-METHOD-OVERRIDE"] {
        for (method, status) in [("delete", 403), ("DELETE", 403), ("PATCH", 403), ("GET, x", 400)]
        {
            let request = format!(
                "POST /a HTTP/1.1\r\nHost: {HOST}\r\n{field}: {method}\r\nContent-Length: 0\r\n\r\n"
            );
            let answer = sent(&lab, &request).await;
            assert_eq!(answer.head.status(), status, "{field}: {method}: {}", answer.text());
        }
    }
    assert_eq!(lab.origin.received().len(), 0);
    // What is permitted by itself may also stand in the field: Google's clients send long queries so.
    let request = format!(
        "POST /a HTTP/1.1\r\nHost: {HOST}\r\nX-HTTP-Method-Override: GET\r\n\
         Content-Length: 0\r\n\r\n"
    );
    assert_eq!(sent(&lab, &request).await.head.status(), 200);
    assert_eq!(lab.origin.only().head.one("x-http-method-override"), Some("GET"));
    lab.finish().await;
}

#[tokio::test]
async fn a_denied_path_in_another_case_is_refused_and_not_sent() {
    let paths = "[\"/repos/acme/secret/**\"]";
    let rule = format!("{{ name: no-secret, hosts: [{HOST}], paths: {paths}, action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    for path in ["/repos/ACME/secret/x", "/REPOS/acme/%53ecret", "/repos/acme/secret/x"] {
        let answer = lab.ask(&format!("GET {path}")).await;
        assert_eq!(answer.refusal(), (403, Some("denied")), "{path}: {answer:?}");
        assert!(answer.text().contains("no-secret"), "names the rule: {}", answer.text());
    }
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    let answer = lab.ask("GET /repos/acme/Public").await;
    assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"));
    let sent = lab.origin.only().head;
    assert_eq!(
        (sent.target(), sent.all("x-api-key")),
        ("/repos/acme/Public", vec![&*lab.canary.text])
    );
    lab.finish().await;
}

#[tokio::test]
async fn x_original_url_and_x_rewrite_url_are_not_forwarded() {
    let lab = reading().start(Origin::saying("fine")).await;
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: {HOST}\r\nX-Original-URL: /admin\r\nX-Rewrite-Url: /admin\r\n\r\n"
    );
    assert_eq!(sent(&lab, &request).await.head.status(), 200);
    let received = lab.origin.only();
    assert!(!received.head.has("x-original-url") && !received.head.has("x-rewrite-url"));
    lab.finish().await;
}

#[tokio::test]
async fn override_fields_with_underscores_are_treated_like_those_with_hyphens() {
    let plan = Plan::api_key()
        .rule("{ name: no-deletes, hosts: [api.acme.test], methods: [DELETE], action: deny }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    for field in [
        "X_HTTP_Method_Override",
        "X-HTTP_Method-Override",
        "x_http_method",
        "X_METHOD_OVERRIDE",
        "x_method-override",
    ] {
        let answer = lab.ask(&format!("POST /a\r\n{field}: delete\r\nContent-Length: 0")).await;
        assert_eq!(answer.refusal(), (403, Some("denied")));
        let answer = lab.ask(&format!("POST /a\r\n{field}: DE LETE\r\nContent-Length: 0")).await;
        assert_eq!(answer.head.status(), 400, "{field} names no method");
    }
    assert_eq!(lab.origin.received().len(), 0);
    let head = lab
        .delivered(
            "GET /a\r\nX_Original_URL: /admin\r\nx_rewrite-url: /admin\r\nX-Original_Url: /admin\r\n\
             Proxy_Authorization: Basic eDp5\r\nKeyward_Token: x\r\nX_Mine: 1",
        )
        .await;
    for name in ["x_original_url", "x_rewrite-url", "x-original_url", "proxy_authorization"] {
        assert!(!head.has(name), "{name}: {head:?}");
    }
    assert!(!head.has("keyward_token"), "{head:?}");
    assert_eq!(head.one("x_mine"), Some("1"), "other fields stay");
    lab.finish().await;
}

/// lighttpd passes all characters of a field's name that are no letters or digits as `_`, PHP dots.
#[tokio::test]
async fn fields_with_any_character_in_place_of_hyphens_are_treated_like_those_with_hyphens() {
    let plan = Plan::api_key()
        .rule("{ name: no-deletes, hosts: [api.acme.test], methods: [DELETE], action: deny }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let spellings = "!#$%&'*+.^_`|~".chars().map(String::from);
    for mapped in spellings.clone() {
        for field in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
            let field = field.replace('-', &mapped);
            let request = format!("POST /a\r\n{field}: DELETE\r\nContent-Length: 0");
            let refused = lab.ask(&request).await.head;
            let code = refused.one("keyward-error");
            assert_eq!((refused.status(), code), (403, Some("denied")), "{field}");
        }
    }
    assert!(lab.origin.received().is_empty(), "{:?}", lab.origin.received());
    for mapped in spellings {
        let spelt = |name: &str| name.replace('-', &mapped);
        let removed = ["X-Api-Key", "X-Original-URL", "Proxy-Authorization", "Keyward-Token"];
        let sent = removed.map(|name| format!("\r\n{}: evil", spelt(name))).concat();
        let head = lab.delivered(&format!("GET /a{sent}\r\n{}: 1", spelt("X-Mine"))).await;
        assert!(!String::from_utf8_lossy(&head.raw).contains("evil"), "{mapped}: {head:?}");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{mapped}");
        assert_eq!(head.one(&spelt("x-mine")), Some("1"), "other fields stay");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_method_override_in_the_query_is_subject_to_the_rules() {
    let plan = Plan::api_key()
        .rule("{ name: no-deletes, hosts: [api.acme.test], methods: [DELETE], action: deny }");
    let mut lab = plan.start(Origin::saying("fine")).await;
    for query in [
        "_method=DELETE",
        "a=1&_method=delete",
        "%5fmethod=DELETE",
        "_METHOD=DELETE",
        "a=1;_method=DELETE",
        "_method=GET&_method=DELETE",
        "$httpMethod=DELETE",
        "%24httpMethod=DELETE",
        "x-http-method-override=DELETE",
        // PHP reads these names as `_method`.
        ".method=DELETE",
        "+_method=DELETE",
        "%20%2emethod=DELETE",
        "[method=DELETE",
        "_method%00x=DELETE",
        "_method=%44ELETE",
        // Meta's Graph API reads it.
        "method=delete",
    ] {
        let answer = lab.ask(&format!("POST /a?{query}\r\nContent-Length: 0")).await;
        assert_eq!(answer.head.one("keyward-error"), Some("denied"), "{query}: {answer:?}");
    }
    let answer = lab.ask("POST /a?_method=DE+LETE\r\nContent-Length: 0").await;
    assert_eq!(answer.refusal(), (400, Some("bad_request")));
    assert_eq!(lab.origin.received().len(), 0);
    for query in ["_method=PUT&x=1", "method=photos.search", "my_method=DELETE", "a=_method"] {
        let head = lab.delivered(&format!("POST /a?{query}\r\nContent-Length: 0")).await;
        assert_eq!(head.target(), format!("/a?{query}"));
    }
    lab.finish().await;
}
