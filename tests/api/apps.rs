//! Apps, the OAuth clients that are registered at providers: made, shown with the redirect URI to
//! register, changed and removed by API, command line and configuration. Their secrets go in and never
//! come out.

use test_support::cli::Cli;
use test_support::*;

/// A provider whose OAuth is at hosts of its own.
const PROVIDERS: &str = "\
providers:
  - id: acme
    name: Acme
    hosts: [api.acme.test]
    auth:
      - id: oauth
        kind: oauth2
        authorize: https://login.acme.test/authorize
        token: https://api.acme.test/token
        client_auth: basic
      - { id: key, kind: api_key, placement: { header: X-Api-Key } }
";

/// A provider that names neither a token endpoint nor an issuer: its apps do.
const BARE: &str = "{ id: bare, name: Bare, hosts: [bare.acme.test], auth: [{ id: oauth, kind: oauth2, \
                    client_auth: none }] }";

async fn lab() -> Lab {
    Plan::api_key().no_agents().provider(BARE).start(Origin::saying("fine")).await
}

async fn api(lab: &Lab, method: &str, path: &str, body: &str) -> Message {
    lab.gateway.api(method, path, body).await
}

fn new(name: &str, more: &str) -> String {
    format!(
        r#"{{"provider":"github","auth":"oauth_app","name":"{name}","client_id":"Iv1.x"{more}}}"#
    )
}

#[tokio::test]
async fn an_app_with_invalid_settings_is_refused_by_field_and_not_stored() {
    let lab = lab().await;
    let canary = &lab.canary.text;
    for (body, field) in [
        (new("a b", ""), "name"),
        (new("app_x", ""), "name"),
        (new("a", r#","urls":{"token":"http://a.test/"}"#), "urls.token"),
        (new("a", r#","scopes":["repo gist"]"#), "scopes"),
        (
            new("a", r#","settings":{"token_params":{"client_secret":"x"}}"#),
            "settings.token_params",
        ),
        (new("a", r#","settings":{"client_auth":"body"}"#), "client_secret"),
        (new("a", r#","variables":{"x":"y"}"#), "variables"),
        (new("a", &format!(r#","secrets":{{"password":"{canary}"}}"#)), "secrets"),
        (r#"{"provider":"openai","name":"a","client_id":"x"}"#.to_owned(), "provider"),
        // Neither the provider nor the app says where tokens are asked for.
        (r#"{"provider":"bare","name":"a","client_id":"x"}"#.to_owned(), "urls.token"),
        (r#"{"provider":"github","auth":"pat","name":"a","client_id":"x"}"#.to_owned(), "auth"),
    ] {
        let answer = api(&lab, "POST", "/apps", &body).await;
        assert_eq!(answer.head.status(), 422, "{body}: {}", answer.text());
        assert_eq!(answer.json()["error"]["field"], field, "{body}: {}", answer.text());
    }
    assert_eq!(api(&lab, "GET", "/apps", "").await.json()["items"], serde_json::json!([]));
    assert_eq!(api(&lab, "GET", "/apps/a", "").await.head.status(), 404);
    lab.finish().await;
}

/// Such a key was found unusable when a token was needed, and the remedy named another secret.
#[tokio::test]
async fn an_app_whose_private_key_cannot_be_used_is_refused_and_not_changed() {
    let lab = lab().await;
    let key = rcgen::KeyPair::generate().expect("a key").serialize_pem();
    let secrets = |key: &str| serde_json::json!({ "private_key": key });
    let more = |key: &str| {
        format!(r#","settings":{{"client_auth":"private_key_jwt"}},"secrets":{}"#, secrets(key))
    };
    let made = api(&lab, "POST", "/apps", &new("hub", &more(&key))).await.is(201).json();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for unusable in ["no key", &*encrypted] {
        let change = serde_json::json!({ "secrets": secrets(unusable) }).to_string();
        for (method, path, body) in
            [("POST", "/apps", new("other", &more(unusable))), ("PATCH", "/apps/hub", change)]
        {
            let refused = api(&lab, method, path, &body).await.is(422);
            assert_eq!(refused.json()["error"]["field"], "private_key", "{}", refused.text());
            assert!(refused.text().contains("without a passphrase"), "{}", refused.text());
        }
    }
    assert_eq!(api(&lab, "GET", "/apps/hub", "").await.json(), made);
    assert_eq!(api(&lab, "GET", "/apps/other", "").await.head.status(), 404);
    lab.finish().await;
}

#[tokio::test]
async fn an_app_shows_its_redirect_uri_and_never_its_secret() {
    let lab = lab().await;
    let canary = &lab.canary.text;
    let more = format!(r#","secrets":{{"client_secret":"{canary}"}},"scopes":["repo"]"#);
    let made = api(&lab, "POST", "/apps", &new("hub", &more)).await.is(201).json();
    let id = made["id"].as_str().expect("an id");
    let uri = made["redirect_uri"].as_str().expect("a redirect URI");
    assert!(uri.starts_with("http://localhost:"), "{uri}");
    assert!(uri.ends_with(&format!("/oauth/callback/{id}")), "{uri}");
    assert_eq!(made["secrets"], serde_json::json!(["client_secret"]));
    let shown = api(&lab, "GET", "/apps/hub", "").await;
    assert_eq!(shown.json(), made);
    assert_eq!(api(&lab, "GET", &format!("/apps/{id}"), "").await.json(), made);
    let taken = api(&lab, "POST", "/apps", &new("hub", "")).await;
    assert_eq!((taken.head.status(), &taken.json()["error"]["code"]), (409, &"name_taken".into()));
    lab.finish().await;
}

#[tokio::test]
async fn changed_endpoints_or_client_ids_of_an_app_require_the_secret_again() {
    let lab = lab().await;
    let canary = &lab.canary.text;
    let more = format!(r#","secrets":{{"client_secret":"{canary}"}}"#);
    assert_eq!(api(&lab, "POST", "/apps", &new("hub", &more)).await.head.status(), 201);
    for moved in [
        r#"{"urls":{"token":"https://evil.test/token"}}"#,
        r#"{"urls":{"revoke":"https://evil.test/token"}}"#,
        r#"{"client_id":"other"}"#,
    ] {
        let refused = api(&lab, "PATCH", "/apps/hub", moved).await;
        assert_eq!(refused.head.status(), 422, "{moved}: {}", refused.text());
        assert_eq!(refused.json()["error"]["field"], "secrets");
    }
    let again = format!(
        r#"{{"urls":{{"token":"https://git.acme.test/token"}},"secrets":{{"client_secret":"{canary}"}}}}"#
    );
    let moved = api(&lab, "PATCH", "/apps/hub", &again).await.is(200);
    assert_eq!(moved.json()["urls"]["token"], "https://git.acme.test/token");
    let public = api(&lab, "PATCH", "/apps/hub", r#"{"secrets":{}}"#).await;
    assert_eq!(public.json()["secrets"], serde_json::json!([]), "{}", public.text());
    lab.finish().await;
}

#[tokio::test]
async fn a_patch_of_settings_is_merged_and_null_removes_a_setting() {
    let lab = lab().await;
    let more = r#","settings":{"refresh_buffer":"2m","authorize_params":{"prompt":"consent"}}"#;
    assert_eq!(api(&lab, "POST", "/apps", &new("hub", more)).await.head.status(), 201);
    let patch = r#"{"settings":{"refresh_buffer":null,"auto_refresh":false},"scopes":["gist"]}"#;
    let changed = api(&lab, "PATCH", "/apps/hub", patch).await.json();
    let expected =
        serde_json::json!({"auto_refresh": false, "authorize_params": {"prompt": "consent"}});
    assert_eq!(changed["settings"], expected, "{changed}");
    assert_eq!(changed["scopes"], serde_json::json!(["gist"]));
    for bad in [r#"{"settings":{"refresh_bufer":"2m"}}"#, r#"{"settings":{"refresh_buffer":"2"}}"#]
    {
        assert_eq!(api(&lab, "PATCH", "/apps/hub", bad).await.head.status(), 422, "{bad}");
    }
    api(&lab, "DELETE", "/apps/hub", "").await.is(204);
    assert_eq!(api(&lab, "GET", "/apps/hub", "").await.head.status(), 404);
    lab.finish().await;
}

#[test]
fn the_command_line_adds_shows_changes_and_removes_an_app() {
    let cli = Cli::new();
    let config = cli.file("keyward.yaml", PROVIDERS);
    let config = config.to_str().expect("UTF-8").to_owned();
    let run = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(["--config", &config]).collect();
        cli.run(&words)
    };
    let secret = cli.file("secret", "canary-7fa9\n");
    let secret = format!("client_secret={}", secret.display());
    let made = run(&[
        "app",
        "add",
        "acme",
        "--client-id",
        "abc",
        "--name",
        "prod",
        "--secret-file",
        &secret,
    ])
    .ok();
    assert!(made.contains("/oauth/callback/app_") && made.contains("register this"), "{made}");
    let shown = run(&["app", "show", "prod"]).ok();
    assert!(shown.contains("redirect URI") && shown.contains("client_secret"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    assert!(
        run(&["app", "set", "prod", "--scope", "read", "--refresh-buffer", "2m"])
            .ok()
            .contains("2m")
    );
    assert!(run(&["app", "list"]).ok().contains("prod"));
    for (bad, code, says) in [
        (vec!["app", "add", "acme", "--name", "b"], 2, "--client-id"),
        (vec!["app", "add", "acme", "--client-id", "x", "--name", "b"], 2, "--secret-stdin"),
        (vec!["app", "set", "prod"], 2, "nothing to change"),
        (
            vec!["app", "set", "prod", "--url", "token=https://evil.test/"],
            1,
            "give the secret again",
        ),
        (vec!["app", "remove", "prd"], 5, "did you mean `prod`?"),
    ] {
        let said = run(&bad).failed(code);
        assert!(said.contains(says), "{bad:?}: {said}");
    }
    assert_eq!(run(&["app", "remove", "prod"]).ok(), "app prod removed\n");
}

#[test]
fn a_declared_app_is_paused_while_the_file_does_not_declare_it() {
    let cli = Cli::new();
    let secret = cli.file("secret", "canary-7fa9\n");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("permissions");
    let apps = format!(
        "apps: [{{ name: prod, provider: acme, client_id: abc, client_secret: {{ file: {} }} }}]\n",
        secret.display()
    );
    let connections = "connections: [{ name: work, provider: acme, auth: oauth, app: prod }]\n";
    let _serving = cli.serve_with(&format!("{PROVIDERS}{apps}{connections}"));
    let app = cli.run(&["app", "show", "prod", "--json"]).json();
    assert_eq!(app["managed_by"], "file");
    assert_eq!(app["connections"], serde_json::json!(["work"]));
    let work = cli.run(&["connection", "show", "work", "--json"]).json();
    assert_eq!(work["state"], "draft", "{work}");
    assert!(cli.run(&["app", "remove", "prod"]).failed(1).contains("managed by the configuration"));
    let set = cli.run(&["app", "set", "prod", "--scope", "x"]).failed(1);
    assert!(set.contains("managed by the configuration file"), "{set}");

    let listen = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    let rewrite = |more: &str| cli.file("keyward.yaml", &format!("{listen}{PROVIDERS}{more}"));
    rewrite(connections);
    assert_eq!(cli.run(&["reload"]).code, 0, "the app is still in the store");
    let paused = cli.run(&["app", "show", "prod", "--json"]).json();
    assert_eq!((&paused["paused"], &paused["id"]), (&true.into(), &app["id"]));
    rewrite("connections: [{ name: work, provider: acme, auth: oauth, app: gone }]\n");
    let refused = cli.run(&["reload"]);
    assert!(
        refused.code != 0 && refused.err.contains("`gone`, which does not exist"),
        "{refused:?}"
    );
    rewrite(&format!("{apps}{connections}"));
    assert_eq!(cli.run(&["reload"]).code, 0);
    let back = cli.run(&["app", "show", "prod", "--json"]).json();
    assert_eq!((&back["paused"], &back["redirect_uri"]), (&false.into(), &app["redirect_uri"]));
}

#[tokio::test]
async fn an_app_of_google_serves_gmail_and_no_provider_outside_google() {
    let lab = lab().await;
    let draft = r#"{"provider":"gmail","name":"mail"}"#;
    let missing = api(&lab, "POST", "/connections", draft).await.is(422);
    let hint = missing.json()["error"]["hint"].to_string();
    assert!(hint.contains("keyward app add google "), "{hint}");
    let app = r#"{"provider":"google","name":"google","client_id":"x.apps.googleusercontent.com"}"#;
    let google = api(&lab, "POST", "/apps", app).await.is(201);
    let made = api(&lab, "POST", "/connections", draft).await.is(201);
    assert_eq!(made.json()["app"], google.json()["id"]);
    let other = r#"{"provider":"spotify","name":"music"}"#;
    assert_eq!(api(&lab, "POST", "/connections", other).await.head.status(), 422);
    // What is pasted needs no client, until it has to be renewed.
    let pasted = format!(
        r#"{{"provider":"spotify","name":"music","fields":{{"access_token":"{}"}}}}"#,
        lab.canary.text
    );
    api(&lab, "POST", "/connections", &pasted).await.is(201);
    lab.finish().await;
}
