//! Base URLs: origin-form requests of programs that cannot use a proxy, by `/to/CONNECTION/…` and by
//! `CONNECTION.localhost`.

mod refused;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use test_support::canary::Canary;
use test_support::*;

/// Where clients believe the gateway to be: the port in `Host` need not be ours.
const AT: &str = "127.0.0.1:8080";

/// One request on a stream of its own: `GET /path`, then further lines, without `Host`.
async fn ask(lab: &Lab, host: &str, request: &str) -> Message {
    let mut wire = lab.client().await;
    wire.ask(request_text(request, host)).await
}

/// `Authorization: Bearer TOKEN` of `ci`: how an SDK sends its API key.
fn bearer(lab: &Lab) -> String {
    format!("Authorization: Bearer {}", lab.token("ci"))
}

fn code(answer: &Message) -> Option<&str> {
    answer.head.one("keyward-error")
}

// === the request that goes on ===

#[tokio::test]
async fn the_agent_s_token_is_accepted_in_any_api_key_field_and_is_not_forwarded() {
    let mut lab = Lab::simple().await;
    let (token, placeholder) = (lab.token("ci").to_owned(), lab.placeholder("api_key"));
    let basic = BASE64_STANDARD.encode(format!("ci:{token}"));
    let key_as_user = BASE64_STANDARD.encode(format!("{token}:"));
    let user_of_the_api = BASE64_STANDARD.encode(format!("AC0123:{token}"));
    for lines in [
        format!("Authorization: Bearer {token}"),
        format!("Authorization: Basic {basic}"),
        format!("Authorization: Basic {key_as_user}"),
        format!("Authorization: Basic {user_of_the_api}"),
        format!("Authorization: token {token}"),
        format!("X-Api-Key: {token}"),
        format!("X-Other: {token}"),
        format!("Keyward-Token: {token}"),
        format!("Keyward-Token: ci:{token}\r\nX-Api-Key: {placeholder}"),
        format!("Proxy-Authorization: Basic {basic}\r\nAuthorization: Bearer {placeholder}"),
        format!("Keyward-Token: {token}\r\nX-Copy: {token}\r\nX-Pair: Basic {basic}"),
    ] {
        let answer = ask(&lab, AT, &format!("GET /to/acme/v1/me\r\n{lines}")).await;
        assert_eq!((answer.head.status(), &*answer.text()), (200, "fine"), "{lines}: {answer:?}");
        let head = lab.origin.arrival().await.head;
        assert_eq!(head.start, "GET /v1/me HTTP/1.1");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{lines}");
        for name in ["authorization", "keyward-token", "proxy-authorization", "x-copy", "x-pair"] {
            assert!(!head.has(name), "{name}: {head:?}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_path_after_the_connection_is_forwarded_byte_for_byte() {
    let mut lab = Lab::simple().await;
    let key = bearer(&lab);
    for (sent, received) in [
        ("/to/acme", "/"),
        ("/to/acme?a=1", "/?a=1"),
        ("/to/acme/", "/"),
        (
            "/to/acme/@scope%2fname/a%20b/%C3%BC+1?x=%2F&y=/to/acme",
            "/@scope%2fname/a%20b/%C3%BC+1?x=%2F&y=/to/acme",
        ),
        ("/to/acme/to/acme/", "/to/acme/"),
        ("/to/acme//twice", "//twice"),
        ("/to/acme@api.acme.test/v1", "/v1"),
    ] {
        let answer = ask(&lab, AT, &format!("GET {sent}\r\n{key}")).await;
        assert_eq!(answer.head.status(), 200, "{sent}: {answer:?}");
        let head = lab.origin.arrival().await.head;
        assert_eq!(head.target(), received, "{sent}");
        assert_eq!(head.all("host"), [HOST]);
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_s_name_as_a_subdomain_of_localhost_is_its_base_url() {
    let mut lab = Lab::simple().await;
    let key = bearer(&lab);
    for (host, sent) in [
        ("acme.localhost:8080", "/v1/a%2fb?c"),
        ("ACME.localhost", "/to/other/x"),
        ("acme.localhost.:8080", "/"),
    ] {
        let answer = ask(&lab, host, &format!("GET {sent}\r\n{key}")).await;
        assert_eq!(answer.head.status(), 200, "{host}: {answer:?}");
        let head = lab.origin.arrival().await.head;
        assert_eq!((head.target(), head.one("host")), (sent, Some(HOST)));
        assert_eq!(head.one("x-api-key"), Some(&*lab.canary.text));
    }
    lab.finish().await;
}

#[tokio::test]
async fn any_ip_address_localhost_and_every_name_in_base_url_hosts_are_accepted_as_host() {
    let lab = Plan::api_key().listen("base_url_hosts: [keyward, Gate.Example]");
    let lab = lab.start(Origin::saying("fine")).await;
    let key = bearer(&lab);
    for host in ["10.1.2.3:8080", "[::1]:8080", "localhost", "keyward:8080", "gate.example"] {
        let answer = ask(&lab, host, &format!("GET /to/acme/\r\n{key}")).await;
        assert_eq!(answer.head.status(), 200, "{host}: {answer:?}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_id_of_a_connection_and_an_equal_keyward_connection_field_are_accepted() {
    let lab = Lab::simple().await;
    let id = lab.gateway.api("GET", "/connections/acme", "").await.json()["id"].clone();
    let key = bearer(&lab);
    for request in [
        format!("GET /to/{}/\r\n{key}", id.as_str().expect("an id")),
        format!("GET /to/acme/\r\n{key}\r\nKeyward-Connection: acme"),
    ] {
        assert_eq!(ask(&lab, AT, &request).await.text(), "fine", "{request}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn the_url_chooses_between_connections_of_one_host() {
    let secret = Canary::new("second");
    let lab = Plan::api_key()
        .secret("SECOND", &secret)
        .connection("{ name: spare, provider: acme, fields: { api_key: { env: SECOND } } }")
        .no_agents()
        .agent("ci", "acme, spare");
    let mut lab = lab.start(Origin::saying("fine")).await;
    let key = bearer(&lab);
    let canary = lab.canary.text.clone();
    for (name, text) in [("acme", &canary), ("spare", &secret.text)] {
        assert_eq!(ask(&lab, AT, &format!("GET /to/{name}/\r\n{key}")).await.head.status(), 200);
        assert_eq!(lab.origin.arrival().await.head.all("x-api-key"), [&**text]);
    }
    lab.finish().await;
}

#[tokio::test]
async fn one_stream_serves_base_urls_and_proxy_requests_and_each_must_authenticate() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    let mut wire = lab.client().await;
    let body = "POST /to/acme/a\r\nTransfer-Encoding: chunked";
    wire.send(request_text(&format!("{body}\r\n{key}"), AT)).await;
    wire.send("3\r\nabc\r\n0\r\n\r\n").await;
    assert_eq!(wire.answer("POST").await.text(), "fine");
    assert_eq!(lab.origin.only().body, b"abc");
    wire.ask(request_text("GET /to/acme/a", AT)).await.is(401);
    wire.send(request_text(&format!("GET /a\r\n{key}"), "acme.localhost")).await;
    assert_eq!(wire.answer("GET").await.text(), "fine");
    // The same port is still a proxy.
    let proxied = format!("GET https://{HOST}/a\r\n{}", lab.authorization("ci").trim_end());
    assert_eq!(wire.ask(request_text(&proxied, HOST)).await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn origin_and_referer_fields_that_name_the_gateway_are_not_forwarded() {
    let mut lab = Lab::simple().await;
    let key = bearer(&lab);
    let own = format!("Origin: http://{AT}\r\nReferer: http://{AT}/to/acme/page");
    let request = format!("GET /to/acme/\r\n{key}\r\n{own}\r\nSec-Fetch-Site: same-origin");
    assert_eq!(ask(&lab, AT, &request).await.head.status(), 200);
    let head = lab.origin.arrival().await.head;
    assert!(!head.has("origin") && !head.has("referer"), "{head:?}");
    assert!(!String::from_utf8_lossy(&head.raw).contains("127.0.0.1"), "{head:?}");
    let request = format!("GET /to/acme/\r\n{key}\r\nReferer: https://docs.example/");
    assert_eq!(ask(&lab, AT, &request).await.head.status(), 200);
    assert_eq!(lab.origin.arrival().await.head.one("referer"), Some("https://docs.example/"));
    lab.finish().await;
}

// === the same spine ===

#[tokio::test]
async fn a_request_by_base_url_has_the_same_audit_record_as_one_by_tunnel() {
    let lab = Lab::simple().await;
    let key = bearer(&lab);
    assert_eq!(ask(&lab, AT, &format!("GET /to/acme/a?b\r\n{key}")).await.text(), "fine");
    assert_eq!(lab.ask("GET /a?b").await.text(), "fine");
    let records = lab.finish().await;
    let told = |record: &Value| {
        let mut record = record.clone();
        let fields = record.as_object_mut().expect("a map");
        for own in ["exchange", "seq", "prev", "time", "duration_ms"] {
            fields.remove(own);
        }
        record
    };
    assert_eq!(records.len(), 2);
    assert_eq!(told(&records[0]), told(&records[1]));
    assert_eq!(records[0]["path"], "/a");
    assert_eq!(records[0]["target"], format!("https://{HOST}"));
}

#[tokio::test]
async fn rules_decide_as_for_a_request_that_names_its_connection() {
    let lab = Plan::api_key()
        .rule(&format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}"))
        .rule(&format!("{{ name: open, hosts: [{HOST}], paths: [/open/**], action: pass }}"))
        .start(Origin::saying("fine"))
        .await;
    let key = bearer(&lab);
    let refused = ask(&lab, AT, &format!("DELETE /to/acme/a\r\n{key}")).await;
    assert_eq!((refused.head.status(), code(&refused)), (403, Some("denied")));
    assert!(refused.text().contains("no-deletes"), "{}", refused.text());
    // Without a credential nobody goes where one was named.
    let passed = ask(&lab, AT, &format!("GET /to/acme/open/a\r\n{key}")).await;
    assert_eq!((passed.head.status(), code(&passed)), (403, Some("denied")));
    ask(&lab, AT, &format!("TRACE /to/acme/a\r\n{key}")).await.is(405);
    assert_eq!(lab.origin.streams(), 0);
    assert_eq!(ask(&lab, AT, &format!("GET /to/acme/a\r\n{key}")).await.text(), "fine");
    lab.finish().await;
}

#[tokio::test]
async fn a_rule_that_names_the_agent_grants_its_connection_without_a_binding() {
    let rule =
        format!("{{ name: read, agents: [reader], hosts: [{HOST}], methods: [GET], use: acme }}");
    let lab = Plan::api_key().agent("reader", "").rule(&rule);
    let lab = lab.start(Origin::saying("fine")).await;
    let key = format!("Authorization: Bearer {}", lab.token("reader"));
    assert_eq!(ask(&lab, AT, &format!("GET /to/acme/a\r\n{key}")).await.text(), "fine");
    ask(&lab, AT, &format!("POST /to/acme/a\r\nContent-Length: 0\r\n{key}")).await.is(424);
    lab.finish_after(1).await;
}

#[tokio::test]
async fn an_echoed_credential_is_masked() {
    let origin = Origin::answering(|request: &Message| {
        ok(&format!("you sent {}", request.head.one("x-api-key").unwrap_or("nothing")))
    });
    let lab = Plan::api_key().start(origin).await;
    let key = bearer(&lab);
    let answer = ask(&lab, AT, &format!("GET /to/acme/\r\n{key}")).await;
    assert!(answer.text().starts_with("you sent *"), "{}", answer.text());
    lab.finish().await;
}

#[tokio::test]
async fn a_websocket_opens_by_a_base_url() {
    const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send(SWITCHING).await;
        loop {
            let bytes = stream.some().await;
            if bytes.is_empty() || stream.try_send(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut lab = Plan::api_key().start(origin).await;
    for (host, path) in [(AT, "/to/acme/chat"), ("acme.localhost:8080", "/chat")] {
        let mut wire = lab.client().await;
        // websocket-client for Python sends the origin of its URL.
        let request = format!(
            "GET {path}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\
             \r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://{host}\r\n{}",
            bearer(&lab)
        );
        assert_eq!(wire.ask(request_text(&request, host)).await.head.status(), 101, "{host}");
        let head = lab.origin.arrival().await.head;
        assert_eq!(head.target(), "/chat");
        assert_eq!((head.one("x-api-key"), head.has("origin")), (Some(&*lab.canary.text), false));
        wire.send(b"\x82\x03abc").await;
        assert_eq!(wire.exactly(5).await, b"\x82\x03abc");
    }
    lab.finish().await;
}

#[tokio::test]
async fn pausing_the_agent_cuts_its_open_answer_and_refuses_its_next_request() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
        stream.rest().await;
    });
    let lab = Plan::api_key().start(origin).await;
    let mut wire = lab.client().await;
    wire.send(request_text(&format!("GET /to/acme/events\r\n{}", bearer(&lab)), AT)).await;
    assert_eq!(wire.head().await.expect("a head").status(), 200);
    let services = lab.gateway.running().services();
    let view = services.directory.view();
    let agent = view.agents().find(|agent| agent.name() == "ci").expect("the agent");
    services
        .directory
        .change::<keyward_model::Agent>(&agent.org, &agent.id, |it| it.facts.paused = true)
        .await
        .expect("paused");
    assert!(!wire.rest().await.ends_with(b"0\r\n\r\n"), "cut, not ended");
    ask(&lab, AT, &format!("GET /to/acme/\r\n{}", bearer(&lab))).await.is(401);
    lab.finish().await;
}

// === the answer ===

#[tokio::test]
async fn a_redirect_to_the_upstream_itself_leads_through_the_gateway() {
    let origin = Origin::answering(|request: &Message| {
        let to = request.head.one("x-to").unwrap_or("/").to_owned();
        format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    });
    let lab = Plan::api_key().start(origin).await;
    let key = bearer(&lab);
    for (to, by_path, by_host) in [
        ("/next", "/to/acme/next", "/next"),
        ("https://api.acme.test/next?a", "/to/acme/next?a", "/next?a"),
        ("https://evil.test/next", "https://evil.test/next", "https://evil.test/next"),
        ("//evil.test/next", "https://evil.test/next", "https://evil.test/next"),
    ] {
        let request = format!("GET /to/acme/a\r\n{key}\r\nX-To: {to}");
        assert_eq!(ask(&lab, AT, &request).await.head.all("location"), [by_path], "{to}");
        let request = format!("GET /a\r\n{key}\r\nX-To: {to}");
        let answer = ask(&lab, "acme.localhost", &request).await;
        assert_eq!(answer.head.all("location"), [by_host], "{to}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn cookies_stay_with_the_connection_that_set_them() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/; HttpOnly; Secure\r\n\
         Set-Cookie: b=2; Domain=api.acme.test\r\nContent-Length: 0\r\n\r\n"
    });
    let lab = Plan::api_key().start(origin).await;
    let key = bearer(&lab);
    let answer = ask(&lab, AT, &format!("GET /to/acme/a\r\n{key}")).await;
    let confined = ["a=1; HttpOnly; Path=/to/acme/", "b=2; Path=/to/acme"];
    assert_eq!(answer.head.all("set-cookie"), confined);
    let answer = ask(&lab, "acme.localhost", &format!("GET /a\r\n{key}")).await;
    assert_eq!(answer.head.all("set-cookie"), ["a=1; Path=/; HttpOnly", "b=2"]);
    lab.finish().await;
}

// === explain ===

#[tokio::test]
async fn explain_takes_a_base_url_as_a_program_would_send_it() {
    let rule = format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let port = lab.gateway.proxy.port();
    let explain = async |method: &str, url: &str| {
        let ask = format!(r#"{{"agent":"ci","method":"{method}","url":"{url}"}}"#);
        let answer = lab.gateway.api("POST", "/rules/explain", &ask).await;
        (answer.head.status(), answer.json())
    };
    for url in [
        format!("http://127.0.0.1:{port}/to/acme/v1/a?b"),
        format!("http://localhost:{port}/to/acme@{HOST}/v1/a"),
        format!("http://acme.localhost:{port}/v1/a"),
    ] {
        let (status, told) = explain("GET", &url).await;
        assert_eq!((status, &told["allowed"]), (200, &true.into()), "{url}: {told}");
        assert_eq!(
            (&told["target"], &told["path"]),
            (&format!("https://{HOST}").into(), &"/v1/a".into())
        );
        assert_eq!(told["connection"]["name"], "acme");
        let (_, told) = explain("DELETE", &url).await;
        assert_eq!(told["stopped_by"][0]["code"], "denied", "{told}");
    }
    let (status, told) = explain("GET", &format!("http://127.0.0.1:{port}/to/acem/")).await;
    assert_eq!(status, 422);
    assert!(told.to_string().contains("did you mean `acme`?"), "{told}");
    // Another server's URL of the same form.
    let (_, told) = explain("GET", "http://127.0.0.1:1/to/acme/").await;
    assert_eq!(told["target"], "http://127.0.0.1:1");
    lab.finish().await;
}
