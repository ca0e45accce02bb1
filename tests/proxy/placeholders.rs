//! What an agent holds instead of a secret: gone wherever it appears, refused where it is not its.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use keyward_rules::inject::placeholder::Placeholder;

use test_support::pki::pki;
use test_support::*;

#[tokio::test]
async fn a_placeholder_is_removed_from_every_header_field_and_query_parameter() {
    let mut lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    assert!(placeholder.contains("kwph"), "{placeholder}");
    let pair = BASE64_STANDARD.encode(format!("user:{placeholder}"));
    let reversed = BASE64_STANDARD.encode(format!("{placeholder}:"));
    for request in [
        format!("GET /a\r\nX-Api-Key: {placeholder}"),
        format!("GET /a\r\nX-Other: {placeholder}"),
        format!("GET /a\r\nX-Other: before {placeholder} after"),
        format!("GET /a\r\nAuthorization: Bearer {placeholder}"),
        format!("GET /a\r\nauthorization: token {placeholder}"),
        format!("GET /a\r\nAuthorization: Basic {pair}"),
        format!("GET /a\r\nAuthorization: Basic {reversed}"),
        format!("GET /a\r\nCookie: a=1; sid={placeholder}; b=2"),
        format!("GET /a?key={placeholder}&x=1"),
        format!("GET /a?x=1&token={placeholder}"),
        format!("GET /a?{placeholder}"),
        format!("GET /a\r\nReferer: https://{HOST}/?key={placeholder}"),
    ] {
        let answer = lab.ask(&request).await;
        assert_eq!(answer.head.status(), 200, "{request}: {}", answer.text());
        let head = lab.origin.arrival().await.head;
        let raw = String::from_utf8_lossy(&head.raw);
        assert!(!raw.contains("kwph"), "{request}\nbecame\n{raw}");
        assert!(!raw.contains(&pair) && !raw.contains(&reversed), "{request}\nbecame\n{raw}");
        assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    }
    lab.finish().await;
}

#[tokio::test]
async fn parameters_and_cookies_beside_a_placeholder_are_kept() {
    let mut lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    let head = lab
        .delivered(&format!(
            "GET /a?x=1&key={placeholder}&y=2\r\nCookie: a=1; k={placeholder}; b=2"
        ))
        .await;
    assert!(head.target().contains("x=1") && head.target().contains("y=2"), "{head:?}");
    let cookies = head.all("cookie").join("; ");
    assert!(cookies.contains("a=1") && cookies.contains("b=2"), "{cookies}");
    lab.finish().await;
}

#[tokio::test]
async fn a_placeholder_in_a_path_is_removed_or_refused() {
    let lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    let encoded = placeholder.replacen("kwph", "%6bwph", 1);
    for path in [format!("/bot{placeholder}/x"), format!("/{encoded}"), format!("/x/{placeholder}")]
    {
        lab.ask(&format!("GET {path}")).await;
    }
    for request in lab.origin.received() {
        assert!(!request.head.target().contains(&placeholder[placeholder.len() - 12..]));
    }
    lab.finish().await;
}

#[tokio::test]
async fn another_agent_s_placeholder_is_refused() {
    let plan = Plan::api_key().agent("other", "acme");
    let lab = plan.start(Origin::saying("fine")).await;
    let foreign = lab.gateway.placeholder("other", "acme", "api_key");
    assert_ne!(foreign, lab.placeholder("api_key"), "each binding has its own");
    for request in [
        format!("GET /a\r\nX-Api-Key: {foreign}"),
        format!("GET /a?x={foreign}"),
        format!("GET /a\r\nCookie: a={foreign}"),
    ] {
        let answer = lab.ask(&request).await;
        assert_eq!(answer.refusal(), (403, Some("placeholder_foreign")), "{request}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_placeholder_that_was_never_issued_is_refused() {
    let lab = Lab::simple().await;
    let never = Placeholder::issue("", None);
    for request in ["GET /a\r\nX-Api-Key: KEY", "GET /a\r\nX-Other: KEY", "GET /a?x=KEY"] {
        let answer = lab.ask(&request.replace("KEY", never.as_str())).await;
        assert_eq!(answer.refusal(), (403, Some("placeholder_foreign")), "{request}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_placeholder_with_a_wrong_checksum_is_replaced_by_the_credential() {
    let mut lab = Lab::simple().await;
    let real = lab.placeholder("api_key");
    let at = real.find("kwph").expect("the mark") + 4;
    // Another random part has another checksum: text that only looks like one is not a placeholder.
    let mut altered = real.clone();
    let swapped = if &real[at..=at] == "x" { "y" } else { "x" };
    altered.replace_range(at..=at, swapped);
    let head = lab.delivered(&format!("GET /a\r\nX-Api-Key: {altered}")).await;
    assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    assert!(!String::from_utf8_lossy(&head.raw).contains(&altered), "{head:?}");
    lab.finish().await;
}

#[tokio::test]
async fn a_placeholder_is_refused_at_a_host_that_is_not_its_provider_s() {
    let rule = format!("{{ name: open, hosts: [{STRANGER}], action: pass }}");
    let lab = Plan::api_key().rule(&rule).start(Origin::saying("fine")).await;
    let placeholder = lab.placeholder("api_key");
    let mut wire = lab.tunnel(STRANGER).await;
    wire.send(request_text(&format!("GET /a\r\nAuthorization: Bearer {placeholder}"), STRANGER))
        .await;
    let answer = wire.answer("GET").await;
    assert_eq!(answer.refusal(), (403, Some("placeholder_foreign")), "{answer:?}");
    lab.finish_after(0).await;
}

#[tokio::test]
async fn bodies_are_neither_searched_nor_changed() {
    let mut lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    let mut wire = lab.tunnel(HOST).await;
    let body = format!("{{\"key\":\"{placeholder}\"}}");
    let head =
        format!("POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len());
    wire.send(format!("{head}{body}")).await;
    assert_eq!(wire.answer("POST").await.head.status(), 200);
    let received = lab.origin.arrival().await;
    assert_eq!(received.text(), body, "a placeholder is not a secret; bodies stream");
    lab.finish().await;
}

#[tokio::test]
async fn the_placeholder_of_a_binding_stays_the_same_after_a_reload_and_a_restart() {
    let mut lab = Lab::simple().await;
    let placeholder = lab.placeholder("api_key");
    let view = patiently("reloading", lab.gateway.running().reloads().reload()).await;
    assert_eq!(view.expect("it runs").errors, [""; 0]);
    assert_eq!(lab.placeholder("api_key"), placeholder);
    lab.gateway.restart().await;
    assert_eq!(lab.placeholder("api_key"), placeholder);
    let head = lab.delivered(&format!("GET /a\r\nX-Api-Key: {placeholder}")).await;
    assert_eq!(head.all("x-api-key"), [&*lab.canary.text]);
    lab.finish().await;
}

#[tokio::test]
async fn a_custom_provider_sets_no_environment_variable_from_a_non_secret_field() {
    let provider = "{ id: own, name: Own, hosts: [HOST], auth: [{ id: key, kind: custom, fields: [{ name: account, \
                    label: Account, secret: false, env: [OWN_ACCOUNT] }, { name: token, label: Token, env: \
                    [OWN_TOKEN] }], placement: { header: X-Key, value: \"{account}:{token}\" } }] }";
    let jira = "{ name: issues, provider: jira, auth: api_token, variables: { site: acme }, fields: { email: \
                ada@acme.test, api_token: { env: CANARY } } }";
    let lab = Plan::api_key()
        .provider(&provider.replace("HOST", HOST))
        .connection("{ name: mine, provider: own, fields: { account: /tmp/evil.so, token: { env: CANARY } } }")
        .connection(jira)
        .agent("bot", "mine, issues")
        .start(Origin::saying("fine"))
        .await;
    let shown = lab.gateway.api("GET", "/agents/bot/bindings", "").await.json();
    let env = |name: &str| {
        let items = shown["items"].as_array().expect("bindings");
        items.iter().find(|it| it["name"] == name).expect(name)["env"].clone()
    };
    assert_eq!(env("mine").as_object().expect("a map").keys().collect::<Vec<_>>(), ["OWN_TOKEN"]);
    assert_eq!(env("issues")["JIRA_EMAIL"], "ada@acme.test", "{shown}");
    lab.finish().await;
}

/// A request for a token, as Google's libraries send it.
fn token_request(path: &str, form: &str) -> String {
    let content = format!(
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}",
        form.len()
    );
    format!("POST {path}\r\n{content}\r\n\r\n{form}")
}

/// A request for a token with an assertion that has these claims.
fn assertion_form(claims: &str) -> String {
    let [head, claims] = [r#"{"alg":"RS256"}"#, claims].map(|it| BASE64_URL_SAFE_NO_PAD.encode(it));
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    format!("{grant}&assertion={head}.{claims}.c2ln")
}

/// Claims of assertions that somebody else signed, or that say nothing of who did.
const ASSERTIONS_OF_OTHERS: [&str; 6] = [
    r#"{"iss":"robot@project.iam.gserviceaccount.com","sub":"keyward-placeholder"}"#,
    r#"{"iss":"robot@keyward-placeholder"}"#,
    r#"{"iss":"keyward-placeholders@keyward.invalid"}"#,
    r#"{"iss":["keyward-placeholder"]}"#,
    r#"{"sub":"keyward-placeholder"}"#,
    "keyward-placeholder",
];

#[tokio::test]
async fn googles_token_endpoint_is_answered_only_for_the_placeholder_of_the_credentials_file() {
    const GOOGLE: &str = "oauth2.googleapis.com";
    const OLDER: &str = "www.googleapis.com";
    const FORM: &str =
        "grant_type=refresh_token&refresh_token=keyward-placeholder&client_id=keyward";
    const ROBOT: &str = r#"{"iss":"keyward-placeholder@keyward.invalid","scope":"a b"}"#;
    for (default, refused) in [("deny", 403), ("pass", 200)] {
        let origin = Origin::serving(Some(pki().any_name()), |_| ok("upstream"));
        let lab = Plan::api_key()
            .resolve(&format!("\"{GOOGLE}\": \"{}\"", origin.addr))
            .resolve(&format!("\"{OLDER}\": \"{}\"", origin.addr))
            .resolve(&format!("\"accounts.google.com\": \"{}\"", origin.addr))
            .top(&format!("default: {default}"))
            .start(origin)
            .await;
        let real = FORM.replace("keyward-placeholder", "1//canary");
        let mut forms = vec![real, "grant_type=refresh_token&x=keyward-placeholder".to_owned()];
        forms.extend(ASSERTIONS_OF_OTHERS.map(assertion_form));
        forms.push("assertion=keyward-placeholder".to_owned());
        for form in &forms {
            let answer = lab.ask_as("ci", GOOGLE, &token_request("/token", form)).await;
            assert_eq!(answer.head.status(), refused, "{default}: {form}");
            assert!(!answer.text().contains("access_token"), "{}", answer.text());
        }
        let path = token_request("/oauth2/v4/tokens", &assertion_form(ROBOT));
        let answer = lab.ask_as("ci", OLDER, &path).await;
        assert!(!answer.text().contains("access_token"), "{}", answer.text());
        let elsewhere = lab.ask_as("ci", GOOGLE, &token_request("/revoke", FORM)).await;
        assert!(!elsewhere.text().contains("access_token"), "{}", elsewhere.text());
        let before = lab.origin.received().len();
        for (host, path, form) in [
            (OLDER, "/oauth2/v4/token", assertion_form(ROBOT)),
            (GOOGLE, "/token", assertion_form(r#"{"iss":"keyward-placeholder"}"#)),
            (GOOGLE, "/token", assertion_form(ROBOT)),
            (GOOGLE, "/token", FORM.to_owned()),
        ] {
            let answer = lab.ask_as("ci", host, &token_request(path, &form)).await;
            assert_eq!(answer.head.status(), 200, "{default}: {form}");
            let token: serde_json::Value = serde_json::from_str(&answer.text()).expect("JSON");
            assert_eq!(token["access_token"], "keyward-placeholder");
            let of = (&token["token_type"], &token["expires_in"]);
            assert_eq!(of, (&"Bearer".into(), &3600.into()));
        }
        assert_eq!(lab.origin.received().len(), before, "{default}: the upstream got a request");
        let records = lab.finish().await;
        let last = records.iter().rfind(|it| it["path"] == "/token").expect("a record");
        assert_eq!((&last["outcome"], &last["attempts"]), (&"completed".into(), &0.into()));
    }
}
