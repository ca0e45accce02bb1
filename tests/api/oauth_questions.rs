//! What a consent asks a provider, and what it takes from the answer besides tokens.

use serde_json::{Value, json};

use test_support::HOST;
use test_support::authorization::{AUTH_HOST, CLIENT_SECRET, Fault, Rules, answer, query};
use test_support::canary::Canary;
use test_support::oauth::{World, provider};

/// The provider of consents with something else in place of a part.
fn with(part: &str, other: &str) -> String {
    let text = provider("");
    assert!(text.contains(part), "{text}");
    text.replace(part, other)
}

async fn world(provider: String) -> World {
    World::with(Rules::default(), |plan| plan.provider(&provider)).await
}

/// What the browser is sent to ask.
async fn asked(world: &World) -> std::collections::BTreeMap<String, String> {
    let made = world.draft().await;
    query(&world.browser().begin(made["authorize_url"].as_str().expect("a page")).await)
}

/// oauth 2.scope: some servers refuse an empty one.
#[tokio::test]
async fn a_provider_without_scopes_gets_no_scope_parameter() {
    let world = world(with("scopes: [read], ", "")).await;
    let (mut browser, url) = world.begun().await;
    assert!(!url.contains("scope"), "{url}");
    assert_eq!(browser.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    assert!(!world.server.only_call().form.contains_key("scope"));
    world.finish().await;
}

/// oauth 2.start, 2.response-mode: what a provider and an app add, and what neither may.
#[tokio::test]
async fn authorize_params_are_added_and_cannot_replace_protocol_parameters() {
    let more = "scopes: [read], authorize_params: { access_type: offline, prompt: none }, ";
    let world = world(with("scopes: [read], ", more)).await;
    let add =
        |name: &str, value: &str| json!({ "settings": { "authorize_params": { name: value } } });
    world.api("PATCH", "/apps/svc-app", &add("prompt", "consent")).await;
    let question = asked(&world).await;
    assert_eq!((&*question["access_type"], &*question["prompt"]), ("offline", "consent"));
    for (name, value) in [
        ("state", "fixed"),
        ("redirect_uri", "https://evil.test/"),
        ("response_type", "token"),
        ("code_challenge_method", "plain"),
        ("client_id", "other"),
        ("response_mode", "form_post"),
    ] {
        let path = "/apps/svc-app";
        let set = world.lab.gateway.api("PATCH", path, &add(name, value).to_string()).await;
        // Refused there, or when it would be asked.
        if set.head.status() == 200 {
            let again = world.lab.gateway.api("POST", "/connections/work/reconnect", "{}").await;
            assert_eq!(again.head.status(), 422, "{name}: {}", again.text());
            let back = json!({ "settings": { "authorize_params": null } }).to_string();
            world.lab.gateway.api("PATCH", path, &back).await.is(200);
        } else {
            assert_eq!(set.head.status(), 422, "{name}: {}", set.text());
        }
    }
    assert!(world.server.calls().is_empty());
    world.finish().await;
}

/// oauth 2.start: RFC 6749 §3.1
#[tokio::test]
async fn an_authorization_url_with_a_protocol_parameter_is_refused_by_name() {
    let world = world(provider("")).await;
    let made = world.draft().await;
    let start = made["authorize_url"].as_str().expect("a page");
    let mut browser = world.browser();
    let set = async |url: &str| {
        let secrets = json!({ "client_secret": CLIENT_SECRET });
        let change = json!({ "urls": { "authorize": url }, "secrets": secrets });
        world.api("PATCH", "/apps/svc-app", &change).await;
    };
    for name in ["state", "redirect_uri", "response_type", "code_challenge", "client_id"] {
        set(&format!("https://{AUTH_HOST}/authorize?tenant=t&{name}=x")).await;
        browser.get(start).await.is(200);
        let told = browser.post(start).await.is(409).text();
        assert!(
            told.contains(&format!("<code>{name}</code>"))
                && told.contains("remove it from the URL"),
            "{told}"
        );
    }
    set(&format!("https://{AUTH_HOST}/authorize?tenant=t")).await;
    let url = browser.begin(start).await;
    assert_eq!(query(&url)["tenant"], "t");
    assert_eq!(browser.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    world.finish().await;
}

#[tokio::test]
async fn null_in_a_patch_of_an_app_restores_the_scopes_of_the_provider_and_keeps_the_secret() {
    let world = world(provider("")).await;
    for (scopes, left) in [(json!(["write"]), json!(["write"])), (Value::Null, json!([]))] {
        let changed = world.api("PATCH", "/apps/svc-app", &json!({ "scopes": scopes })).await;
        assert_eq!(changed["scopes"], left, "{changed}");
    }
    let (mut browser, url) = world.begun().await;
    assert_eq!(query(&url)["scope"], "read");
    // The server refuses a client without the secret.
    assert_eq!(browser.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    assert!(world.server.only_call().issued.is_some());
    assert_eq!(world.request().await.text(), "fine");
    world.finish().await;
}

/// Its authorization server has paths for regions, one of which is usual.
fn regional() -> String {
    let at = |path: &str| format!("https://{AUTH_HOST}/{path}");
    let text = with("hosts: [", "variables: [{ name: region, default: eu }], hosts: [");
    text.replace(&at("authorize"), &at("{region}/authorize"))
        .replace(&at("device"), &at("{region}/device"))
        .replace(&at("revoke"), &at("{region}/revoke"))
}

/// oauth 2.start: at each endpoint of a consent, as at those of refreshes.
#[tokio::test]
async fn an_endpoint_has_the_default_of_a_variable_that_was_not_given() {
    let world = world(regional()).await;
    let made = world.draft().await;
    let (mut browser, url) = world.begins(&made).await;
    assert!(url.starts_with(&format!("https://{AUTH_HOST}/eu/authorize?")), "{url}");
    assert_eq!(browser.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    assert_eq!(world.request().await.text(), "fine");

    let given = json!({ "provider": "svc", "auth": "oauth", "name": "given", "app": "svc-app",
                        "variables": { "region": "us" } });
    let made = world.api("POST", "/connections", &given).await;
    let url = world.browser().begin(made["authorize_url"].as_str().expect("a page")).await;
    assert!(url.starts_with(&format!("https://{AUTH_HOST}/us/authorize?")), "{url}");

    let told = json!({ "device_code": "d", "user_code": "ABCD-0001", "expires_in": 600,
                       "verification_uri": format!("https://{AUTH_HOST}/activate") });
    world.server.issuer().script("/eu/device", answer(200, &told));
    let device = json!({ "provider": "svc", "auth": "oauth", "name": "device", "app": "svc-app",
                         "device": true });
    let made = world.api("POST", "/connections", &device).await;
    assert_eq!(made["user_code"], "ABCD-0001", "{made}");
    world.finish().await;
}

/// Tokens of another tool, whose connection names no region.
#[tokio::test]
async fn imported_tokens_are_revoked_at_the_url_with_the_default_of_a_variable() {
    let world = world(regional()).await;
    world.server.issuer().script("/eu/revoke", answer(200, &json!({})));
    let pair = world.server.issuer().issue();
    let fields = json!({ "access_token": pair.access, "refresh_token": pair.refresh });
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "svc-app",
                      "fields": fields });
    world.api("POST", "/connections", &new).await;
    let told = world.api("DELETE", "/connections/work?revoke=true", &Value::Null).await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    world.finish().await;
}

/// oauth 2.pkce, 2.start: fresh for each flow, with a secret and without.
#[tokio::test]
async fn state_and_code_challenge_differ_for_each_consent() {
    let world = World::start().await;
    let first = asked(&world).await;
    let again = world.api("POST", "/connections/work/reconnect", &json!({})).await;
    let page = again["authorize_url"].as_str().expect("a page");
    let second = query(&world.browser().begin(page).await);
    for name in ["state", "code_challenge"] {
        assert_ne!(first[name], second[name], "{name}");
        assert_eq!((first[name].len(), second[name].len()), (43, 43), "{name}");
    }
    world.finish().await;
}

/// oauth 2.pkce-avoid: the provider's file says so, and nothing else.
#[tokio::test]
async fn a_provider_with_pkce_avoid_gets_no_code_challenge() {
    let provider = with("scopes: [read], ", "scopes: [read], pkce: avoid, ");
    let rules = Rules { pkce: false, ..Rules::default() };
    let world = World::with(rules, |plan| plan.provider(&provider)).await;
    let (mut browser, url) = world.begun().await;
    assert!(!url.contains("code_challenge"), "{url}");
    assert_eq!(browser.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    assert!(!world.server.only_call().form.contains_key("code_verifier"));
    world.finish().await;
}

/// oauth 2.id-token
#[tokio::test]
async fn openid_is_not_requested_by_default_and_an_unexpected_id_token_is_ignored() {
    let world = World::start().await;
    let (mut browser, url) = world.begun().await;
    let question = query(&url);
    assert_eq!((question.get("nonce"), &*question["scope"]), (None, "read"));
    // Of `mallory`, signed by nobody.
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWxsb3J5In0.c2lnbmVk";
    world.server.fail_next(Fault::with("id_token", json!(token)));
    assert_eq!(browser.get(&world.server.issuer().consent(&url)).await.head.status(), 303);
    assert_eq!(world.connection().await["account"], "alice@acme.test");
    Canary::of(token.to_owned()).assert_absent_below(world.lab.gateway.folder());
    world.finish().await;
}

/// oauth 2.redirect-uri: each app has its own.
#[tokio::test]
async fn each_app_has_its_own_redirect_uri() {
    let world = World::start().await;
    let other = test_support::oauth::app(&world.lab, "other-app", ("other", "of-another")).await;
    let uri = async |name: &str| {
        let app = world.api("GET", &format!("/apps/{name}"), &Value::Null).await;
        app["redirect_uri"].as_str().expect("a redirect URI").to_owned()
    };
    let (own, others) = (uri("svc-app").await, uri("other-app").await);
    assert!(own.ends_with(&format!("/oauth/callback/{}", world.app)), "{own}");
    assert!(others.ends_with(&format!("/oauth/callback/{other}")), "{others}");
    assert_eq!(asked(&world).await["redirect_uri"], own);
    world.finish().await;
}

/// oauth 6.10, 6.11: what is shown of an answer.
#[tokio::test]
async fn granted_scopes_and_the_end_of_the_grant_are_shown() {
    for scope in [json!("read write"), json!("read,write"), json!(["read", "write"])] {
        let world = World::start().await;
        let made = world.draft().await;
        let told = scope.clone();
        world.server.fail_next(Fault::Bends(std::sync::Arc::new(move |mut honest| {
            honest["scope"] = told.clone();
            honest["refresh_token_expires_in"] = json!(86_400);
            test_support::authorization::answer(200, &honest)
        })));
        world.consent(&mut world.browser(), &made).await;
        let shown = world.connection().await;
        assert_eq!(shown["granted"], json!(["read", "write"]), "{scope}");
        let ends: jiff::Timestamp = shown["ends"].as_str().expect("an end").parse().expect("one");
        let left = ends.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((86_280..=86_400).contains(&left), "{left}");
        assert_eq!(world.request().await.text(), "fine");
        assert_eq!(world.server.calls().len(), 1, "it triggers nothing");
        world.finish().await;
    }
}

/// oauth 6.10, 6.11: and of the answer to a refresh.
#[tokio::test]
async fn granted_scopes_and_the_end_of_the_grant_follow_a_refresh() {
    let world = World::start().await;
    let tells = |scope: Option<&'static str>, ends: Option<i64>| {
        Fault::Bends(std::sync::Arc::new(move |mut honest| {
            honest["scope"] = json!(scope);
            honest["refresh_token_expires_in"] = json!(ends);
            test_support::authorization::answer(200, &honest)
        }))
    };
    world.server.fail_next(tells(Some("read write"), Some(3_600)));
    world.connected().await;
    let first = world.connection().await;
    for (scope, ends, granted) in [
        (Some("read"), Some(86_400), json!(["read"])),
        // What is not named is as it was; a new refresh token without an end has none that is known.
        (None, None, json!(["read"])),
    ] {
        world.server.fail_next(tells(scope, ends));
        world.api("POST", "/connections/work/refresh", &json!({})).await;
        let shown = world.connection().await;
        assert_eq!(shown["granted"], granted, "{scope:?}");
        match ends {
            None => assert_eq!(shown["ends"], Value::Null),
            Some(_) => {
                let of = |shown: &Value| {
                    let ends = shown["ends"].as_str().expect("an end");
                    ends.parse::<jiff::Timestamp>().expect("a time")
                };
                let later = of(&shown).duration_since(of(&first)).as_secs();
                assert!((82_000..=83_000).contains(&later), "{later}");
            }
        }
        assert_eq!(shown["account"], first["account"]);
    }
    world.finish().await;
}

/// A provider whose host comes from its answers.
fn answering(more: &str) -> String {
    let text = with("scopes: [read], ", &format!("scopes: [read], {more}, "));
    let (before, rest) = text.split_once(", test: {").expect("a test");
    let (_, after) = rest.split_once('}').expect("its end");
    let own = "variables: [{ name: instance, captured: true, within: \"https://{}.acme.test\" }]";
    format!("{before}{after}").replace(
        &format!("hosts: [{HOST}]"),
        &format!("{own}, hosts: [\"{{instance}}.acme.test\"]"),
    )
}

/// oauth 6.13: a host from the token's answer, and members that are kept for nothing.
#[tokio::test]
async fn a_consent_whose_answer_names_a_host_outside_the_provider_connects_nothing() {
    let provider = answering("capture: { instance: instance_url, team: team.id }");
    for (told, fits) in [
        ("https://api.acme.test", true),
        ("https://evil.test", false),
        ("https://evil.test/.acme.test", false),
        ("https://a.b.acme.test", false),
        ("http://api.acme.test", false),
        ("api", false),
    ] {
        let world = world(provider.clone()).await;
        let made = world.draft().await;
        world.server.fail_next(Fault::Bends(std::sync::Arc::new(move |mut honest| {
            honest["instance_url"] = json!(told);
            honest["team"] = json!({ "id": "T 1/2" });
            test_support::authorization::answer(200, &honest)
        })));
        let back = world.consent(&mut world.browser(), &made).await;
        assert_eq!(back.head.status(), if fits { 303 } else { 502 }, "{told}: {}", back.text());
        let shown = world.connection().await;
        assert_eq!(shown["state"], if fits { "active" } else { "draft" }, "{told}: {shown:#}");
        if fits {
            assert_eq!(shown["hosts"], json!([HOST]));
            assert_eq!(world.request().await.text(), "fine");
        } else {
            assert!(world.lab.origin.received().is_empty(), "{told}");
        }
        world.finish().await;
    }
}

/// oauth 2.token-host: one that the callback names.
#[tokio::test]
async fn a_callback_that_names_a_host_outside_the_provider_sends_no_token_request() {
    let provider = answering("callback_capture: { instance: accounts-server }")
        .replace(&format!("https://{AUTH_HOST}/token"), "https://{instance}.acme.test/token");
    for (told, fits) in [
        ("https://auth.acme.test", true),
        ("https://evil.test", false),
        ("https://evil.test%23.acme.test", false),
        ("https://auth.acme.test&accounts-server=https://evil.test", false),
    ] {
        let world = world(provider.clone()).await;
        let (mut browser, url) = world.begun().await;
        let back = world.server.issuer().consent(&url);
        let answer = browser.get(&format!("{back}&accounts-server={told}")).await;
        let status = answer.head.status();
        match fits {
            true => {
                assert_eq!(status, 303, "{}", answer.text());
                assert_eq!(world.server.calls().len(), 1);
                assert_eq!(world.connection().await["hosts"], json!([AUTH_HOST]));
            }
            false => {
                assert!((400..500).contains(&status) || status == 502, "{told}: {status}");
                assert!(world.server.calls().is_empty(), "{told}");
                assert_eq!(world.connection().await["state"], "draft", "{told}");
            }
        }
        world.finish().await;
    }
}
