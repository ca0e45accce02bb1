//! Where the credential stands in what the origin receives, and that it stands nowhere else.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use test_support::canary::Canary;
use test_support::*;

async fn lab(auth: &str, fields: &str) -> Lab {
    let plan = Plan::new(auth, fields).variable("SOMEONE", "someone");
    plan.start(Origin::saying("fine")).await
}

/// How often the secret stands in a head.
fn count(head: &Head, secret: &str) -> usize {
    String::from_utf8_lossy(&head.raw).matches(secret).count()
}

#[tokio::test]
async fn all_spellings_of_the_header_name_are_replaced_by_one_field_with_the_credential() {
    let mut lab = Lab::simple().await;
    let head = lab
        .delivered(
            "GET /a\r\nX-Api-Key: one\r\nx-api-key: two\r\nX_Api_Key: three\r\nX-API_KEY: four\r\n\
             x_api_key: five\r\nX-API-KEY:",
        )
        .await;
    assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    let alias = |name: &str| name.to_ascii_lowercase().replace('_', "-") == "x-api-key";
    assert_eq!(head.fields.iter().filter(|(name, _)| alias(name)).count(), 1, "{head:?}");
    assert_eq!(count(&head, &lab.canary.text), 1);
    lab.finish().await;
}

#[tokio::test]
async fn the_connection_field_cannot_remove_the_credential_or_host() {
    let mut lab = Lab::simple().await;
    for named in ["X-Api-Key", "x-api-key, host", "Host, X_Api_Key, close", "content-length"] {
        let head = lab.delivered(&format!("GET /a\r\nConnection: {named}")).await;
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text], "{named}");
        assert_eq!(head.all("host"), [HOST], "{named}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn hop_by_hop_and_proxy_fields_are_not_forwarded() {
    let mut lab = Lab::simple().await;
    let head = lab
        .delivered(
            "GET /a\r\nConnection: keep-alive, X-Named, close\r\nX-Named: 1\r\nKeep-Alive: max=5\r\n\
             Proxy-Connection: keep-alive\r\nTE: gzip, trailers\r\nHTTP2-Settings: AAMAAABk\r\n\
             Upgrade: h2c\r\nKeyward-Connection: acme\r\nX-Kept: 2",
        )
        .await;
    for name in [
        "x-named",
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "upgrade",
        "keyward-connection",
    ] {
        assert!(!head.has(name), "{name}: {head:?}");
    }
    assert!(matches!(head.one("te"), None | Some("trailers")), "{head:?}");
    assert_eq!(head.one("x-kept"), Some("2"));
    lab.finish().await;
}

#[tokio::test]
async fn no_forwarding_field_and_no_mention_of_keyward_reaches_the_origin() {
    let mut lab = Lab::simple().await;
    let head = lab.delivered("GET /a\r\nUser-Agent: mine/1").await;
    let mut names: Vec<_> = head.fields.iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "user-agent", "x-api-key"], "{head:?}");
    let raw = String::from_utf8_lossy(&head.raw).to_lowercase();
    assert!(!raw.contains("keyward") && !raw.contains("exc_"), "{raw}");
    assert_eq!(head.one("user-agent"), Some("mine/1"));
    lab.finish().await;
}

#[tokio::test]
async fn a_credential_that_the_agent_sends_is_removed() {
    let mut lab = Plan::new(
        "{ id: key, kind: api_key, placement: { header: X-Api-Key } }, { id: token, kind: bearer }",
        "{ api_key: { env: CANARY } }",
    )
    .start(Origin::saying("fine"))
    .await;
    // The provider also takes a bearer token: both at once would be an error there.
    let head = lab.delivered("GET /a\r\nAuthorization: Bearer mine").await;
    assert!(!head.has("authorization"), "{head:?}");
    assert_eq!(head.one("x-api-key"), Some(&*lab.canary.text));
    lab.finish().await;
}

#[tokio::test]
async fn a_prefix_is_part_of_the_placement() {
    let mut lab = lab(
        "{ id: key, kind: api_key, placement: { header: Authorization, prefix: \"Token \" } }",
        "{ api_key: { env: CANARY } }",
    )
    .await;
    let head = lab.delivered("GET /a\r\nAuthorization: Bearer x").await;
    assert_eq!(head.all("authorization"), [format!("Token {}", lab.canary.text)]);
    lab.finish().await;
}

#[tokio::test]
async fn a_bearer_token_is_written_as_rfc_6750_says() {
    let mut lab = Plan::bearer().start(Origin::saying("fine")).await;
    let head = lab.delivered("GET /a\r\nauthorization: basic eDp5").await;
    assert_eq!(head.all("authorization"), [format!("Bearer {}", lab.canary.text)]);
    lab.finish().await;
}

#[tokio::test]
async fn basic_auth_is_written_as_base64_of_user_and_password() {
    let mut lab = lab(
        "{ id: login, kind: basic }",
        "{ username: { env: SOMEONE }, password: { env: CANARY } }",
    )
    .await;
    let head = lab.delivered("GET /a").await;
    let pair = BASE64_STANDARD.encode(format!("someone:{}", lab.canary.text));
    assert_eq!(head.all("authorization"), [format!("Basic {pair}")]);
    lab.finish().await;
}

#[tokio::test]
async fn the_injected_query_parameter_is_the_only_one_of_its_name() {
    let mut lab = lab(
        "{ id: key, kind: api_key, placement: { query: key } }",
        "{ api_key: { env: CANARY } }",
    )
    .await;
    for sent in [
        "/a",
        "/a?",
        "/a?key=mine",
        "/a?key=one&x=1&key=two",
        "/a?%6bey=mine",
        "/a?key",
        "/a?key=&k%65y=mine",
        "/a?x=1",
    ] {
        let head = lab.delivered(&format!("GET {sent}")).await;
        let (path, query) = head.target().split_once('?').expect("a query");
        assert_eq!(path, "/a");
        let keys: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                percent_encoding::percent_decode_str(name).eq(b"key".iter().copied())
            })
            .collect();
        assert_eq!(keys, [format!("key={}", lab.canary.text)], "{sent} became {query}");
        assert_eq!(query.contains("x=1"), sent.contains("x=1"), "{sent} became {query}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn other_parameters_keep_their_bytes_and_order() {
    let mut lab = lab(
        "{ id: key, kind: api_key, placement: { query: key } }",
        "{ api_key: { env: CANARY } }",
    )
    .await;
    let head = lab.delivered("GET /a?z=%7E&key=mine&a=b+c&z=%7e&empty=&flag&q=a%26b").await;
    let (_, query) = head.target().split_once('?').expect("a query");
    let others: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("key=")).collect();
    assert_eq!(others, ["z=%7E", "a=b+c", "z=%7e", "empty=", "flag", "q=a%26b"]);
    lab.finish().await;
}

#[tokio::test]
async fn parameters_of_an_old_aws_signature_are_removed_only_from_a_query_with_its_key_id() {
    let plan = Plan::new(
        "{ id: key, kind: aws_sigv4, service: execute-api, region: eu-west-1 }",
        "{ access_key_id: { env: AWS_ID }, secret_access_key: { env: CANARY } }",
    );
    let plan = plan.variable("AWS_ID", "AKIAKEYWARDTEST00001");
    let mut lab = plan.start(Origin::saying("fine")).await;
    let held = lab.gateway.placeholder("ci", "acme", "access_key_id");
    let signed = format!("/v?AWSAccessKeyId={held}&Expires=5&a=1&Signature=z");
    for (sent, received) in [
        ("/v?expires=5&signature=z&a=1", "/v?expires=5&signature=z&a=1"),
        ("/v?Expires=5&Signature=z&awsaccesskeyid=7", "/v?Expires=5&Signature=z&awsaccesskeyid=7"),
        (&*signed, "/v?a=1"),
    ] {
        let head = lab.delivered(&format!("GET {sent}")).await;
        assert_eq!(head.target(), received, "{sent}");
        let signed = head.one("authorization").expect("a signature");
        assert!(signed.contains("/eu-west-1/execute-api/aws4_request"), "{signed}");
    }
    lab.finish().await;
}

/// oauth 9.clock: this machine is five hours ahead of the service.
#[tokio::test]
async fn a_signature_is_dated_by_the_clock_of_its_service_after_one_refusal() {
    let plan = Plan::new(
        "{ id: key, kind: aws_sigv4, service: execute-api, region: eu-west-1 }",
        "{ access_key_id: { env: AWS_ID }, secret_access_key: { env: CANARY } }",
    );
    let plan = plan.variable("AWS_ID", "AKIAKEYWARDTEST00001");
    let there = || jiff::Timestamp::now() - jiff::SignedDuration::from_hours(5);
    let origin = Origin::answering(move |request: &Message| {
        let dated = request.head.one("x-amz-date").expect("a date");
        let dated = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", dated).expect("a date");
        let dated = dated.to_zoned(jiff::tz::TimeZone::UTC).expect("a time").timestamp();
        let status = match dated.duration_since(there()).as_secs().abs() < 60 {
            true => "200 OK",
            false => "403 Forbidden",
        };
        let date = there().strftime("%a, %d %b %Y %H:%M:%S GMT");
        format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n")
    });
    let lab = plan.start(origin).await;
    lab.ask("GET /v").await.is(403);
    lab.ask("GET /v").await.is(200);
    lab.finish().await;
}

#[tokio::test]
async fn a_request_without_aws_signature_is_signed_for_the_scope_that_its_host_names_or_refused() {
    let (search, instance) =
        ("search-x.eu-west-1.es.amazonaws.com", "ec2-192-0-2-1.compute-1.amazonaws.com");
    let origin = Origin::answering_as(&[search, instance], |_: &Message| ok("fine"));
    let connection = "{ name: live, provider: aws, fields: { access_key_id: { env: AWS_ID }, \
                      secret_access_key: { env: CANARY } } }";
    let plan = Plan::api_key().variable("AWS_ID", "AKIAIOSFODNN7KEYWARD").connection(connection);
    let at = |host: &str| format!("{host}: \"{}\"", origin.addr);
    let plan = plan.resolve(&at(search)).resolve(&at(instance)).no_agents().agent("ci", "live");
    let lab = plan.start(origin).await;
    let answer = lab.ask_as("ci", instance, "GET /").await;
    assert_eq!(answer.head.all("keyward-error"), ["default_deny"], "it is not the connection's");
    let answer = lab.ask_as("ci", instance, "GET /\r\nKeyward-Connection: live").await;
    assert_eq!(answer.head.status(), 400, "{answer:?}");
    assert!(answer.text().contains("region and service of this request are unknown"));
    let answer = lab.ask_as("ci", search, "GET /").await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    let received = lab.origin.only();
    let signed = received.head.one("authorization").expect("a signature");
    assert!(signed.contains("/eu-west-1/es/aws4_request"), "{signed}");
    lab.finish().await;
}

#[tokio::test]
async fn the_injected_cookie_replaces_the_agent_s_cookies_of_the_same_name() {
    let mut lab = lab(
        "{ id: key, kind: api_key, placement: { cookie: sid } }",
        "{ api_key: { env: CANARY } }",
    )
    .await;
    for sent in ["GET /a", "GET /a\r\nCookie: a=1; sid=mine; b=2; sid=x\r\nCookie: sid=y; c=3"] {
        let head = lab.delivered(sent).await;
        let cookies = head.all("cookie").join("; ");
        let of_sid: Vec<&str> =
            cookies.split("; ").filter(|cookie| cookie.starts_with("sid=")).collect();
        assert_eq!(of_sid, [format!("sid={}", lab.canary.text)], "{cookies}");
        for kept in ["a=1", "b=2", "c=3"] {
            assert_eq!(cookies.contains(kept), sent.contains(kept), "{cookies}");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_placeholder_in_the_path_is_replaced_by_the_credential() {
    let mut lab = lab(
        "{ id: key, kind: api_key, placement: { path: \"/bot{api_key}/\" } }",
        "{ api_key: { env: CANARY } }",
    )
    .await;
    let placeholder = lab.placeholder("api_key");
    let head = lab.delivered(&format!("GET /bot{placeholder}/getMe?x=1")).await;
    assert_eq!(head.target(), format!("/bot{}/getMe?x=1", lab.canary.text));
    lab.finish().await;
}

#[tokio::test]
async fn a_placeholder_begins_and_ends_as_its_key_does_and_is_replaced_as_a_whole() {
    let auth = "{ id: key, kind: api_key, placement: { header: X-Key }, \
                key: { prefixes: [ak_test_, ak_live_], suffixes: [\"\", \"-eu1\"] } }";
    let key = Canary::of("ak_live_0123456789canary-eu1".to_owned());
    let plan = Plan::new(auth, "{ api_key: { env: LIVE } }").secret("LIVE", &key);
    let mut lab = plan.start(Origin::saying("fine")).await;
    let placeholder = lab.placeholder("api_key");
    assert!(
        placeholder.starts_with("ak_live_kwph") && placeholder.ends_with("-eu1"),
        "{placeholder}"
    );
    assert!(!placeholder.contains("0123456789"), "{placeholder}");
    let head =
        lab.delivered(&format!("GET /\r\nX-Key: {placeholder}\r\nX-Also: {placeholder}")).await;
    assert_eq!(head.all("x-key"), [&*key.text]);
    assert!(!head.has("x-also"), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_key_with_slashes_is_written_at_the_end_of_the_path() {
    let auth = "{ id: key, kind: api_key, placement: { path: \"/services/{api_key}\" } }";
    let plan = Plan::new(auth, "{ api_key: { env: HOOK } }");
    let plan = plan.secret("HOOK", &Canary::of("T0123/B4567/canary-0123456789".to_owned()));
    let mut lab = plan.start(Origin::saying("fine")).await;
    let placeholder = lab.placeholder("api_key");
    let head = lab.delivered(&format!("POST /services/{placeholder}\r\nContent-Length: 0")).await;
    assert_eq!(head.target(), "/services/T0123/B4567/canary-0123456789");
    lab.finish().await;
}

#[tokio::test]
async fn a_custom_method_writes_all_its_placements() {
    let auth = "{ id: pair, kind: custom, fields: [{ name: a, label: A, secret: true }, \
                { name: b, label: B, secret: true }], place: [{ header: X-A, value: \"{a}\" }, \
                { header: X-Both, value: \"{b}/{a}\" }, { query: b, value: \"b-{b}\" }] }";
    let plan = Plan::new(auth, "{ a: { env: CANARY }, b: { env: SECOND } }");
    let plan = plan.secret("SECOND", &Canary::of("second-secret-0123456789".to_owned()));
    let mut lab = plan.start(Origin::saying("fine")).await;
    let head = lab.delivered("GET /a?b=mine\r\nX-A: mine\r\nX_Both: mine").await;
    let canary = &*lab.canary.text;
    assert_eq!(head.all("x-a"), [canary]);
    assert_eq!(head.all("x-both"), [format!("second-secret-0123456789/{canary}")]);
    assert!(!head.has("x_both"), "{head:?}");
    assert_eq!(head.target(), "/a?b=b-second-secret-0123456789");
    lab.finish().await;
}

#[tokio::test]
async fn every_request_of_a_tunnel_gets_the_credential() {
    let lab = Lab::simple().await;
    let mut wire = lab.tunnel(HOST).await;
    for _ in 0..5 {
        wire.ask(request_text("GET /a", HOST)).await.is(200);
    }
    let received = lab.origin.received();
    assert_eq!(received.len(), 5);
    for request in received {
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    lab.finish().await;
}

#[tokio::test]
async fn rules_decide_each_pipelined_request_separately() {
    let rule = format!("{{ name: no-deletes, hosts: [{HOST}], methods: [DELETE], action: deny }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let mut wire = lab.tunnel(HOST).await;
    let get = request_text("GET /a", HOST);
    let delete = request_text("DELETE /a", HOST);
    wire.send(format!("{get}{delete}{get}")).await;
    let mut statuses = vec![];
    for method in ["GET", "DELETE", "GET"] {
        let Some(answer) = wire.try_answer(method).await else { break };
        statuses.push(answer.head.status());
    }
    assert_eq!(statuses[..2], [200, 403]);
    assert!(lab.origin.received().iter().all(|request| request.head.method() == "GET"));
    lab.finish().await;
}

#[tokio::test]
async fn the_path_passes_byte_for_byte() {
    let mut lab = Lab::simple().await;
    for target in ["/a%20b/%C3%BC%2B1", "/a;b=c/@d:e", "/a//b", "/a?b=/../c", "/~%7E", "/a?"] {
        let answer = lab.ask(&format!("GET {target}")).await;
        if answer.head.status() == 200 {
            assert_eq!(lab.origin.arrival().await.head.target(), target);
        } else {
            assert_eq!(answer.head.one("keyward-error"), Some("bad_target"), "{target}");
            assert_eq!(target, "/a//b", "{target} has one reading");
        }
    }
    lab.finish().await;
}

#[tokio::test]
async fn header_names_keep_their_case_towards_the_origin() {
    let mut lab = Lab::simple().await;
    let head = lab.delivered("GET /a\r\nX-MiXeD-Case: 1\r\nlower: 2").await;
    let names: Vec<&str> = head.fields.iter().map(|(name, _)| &**name).collect();
    assert!(names.contains(&"X-MiXeD-Case") && names.contains(&"lower"), "{names:?}");
    lab.finish().await;
}
