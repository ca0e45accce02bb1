//! Services over HTTPS. Their answers are those of their documents, since no server of them can run here; real servers of
//! Vault's and AWS' interfaces are in `tests/real`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::*;

/// The service's host.
pub(super) const KEEPER: &str = "keeper.acme.test";

/// A service that answers as `answer` says.
pub(super) fn keeper<F>(answer: F) -> Origin
where
    F: Fn(&Message) -> String + Send + Sync + 'static,
{
    Origin::answering_as(&[KEEPER], answer)
}

pub(super) fn reached(plan: Plan, keeper: &Origin) -> Plan {
    let addr = keeper.addr;
    plan.resolve(&format!("{KEEPER}: \"{addr}\"")).allow(&addr.to_string())
}

pub(super) fn absent() -> String {
    "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_owned()
}

/// The value arrives at the provider, and requests to the service are these; `credentials` are searched for.
pub(super) async fn gives(
    (source, reference): (&str, &str),
    credentials: &[(&str, &Canary)],
    answer: impl Fn(&Message, &str) -> String + Send + Sync + 'static,
) -> Vec<String> {
    let value = Canary::new("cnry");
    let text = value.text.clone();
    let keeper = keeper(move |request: &Message| answer(request, &text));
    let source = source.replace("KEEPER", &format!("https://{KEEPER}"));
    let names: Vec<_> = credentials
        .iter()
        .map(|(name, _)| format!("{name}: {{ env: {} }}", name.to_uppercase()))
        .collect();
    let source = match names.is_empty() {
        true => source,
        false => format!("{source}, credentials: {{ {} }}", names.join(", ")),
    };
    let mut plan = reached(planned(&source, reference), &keeper);
    for (name, secret) in credentials {
        plan = plan.secret(&name.to_uppercase(), secret);
    }
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*value.text));
    let tested = api(&lab, "POST", "/sources/kept/test", json!({}), 200).await;
    assert_eq!(tested["ok"], true, "{tested}");
    let absent =
        api(&lab, "POST", "/sources/kept/test", json!({"ref": "op://a/b/absent"}), 200).await;
    assert_eq!(absent["ok"], false, "{absent}");
    lab.finish().await;
    let received = keeper.received();
    received.iter().map(|it| format!("{} {}", it.head.method(), it.head.target())).collect()
}

/// <https://docs.doppler.com/reference/secrets-get>
#[tokio::test]
async fn doppler_gives_the_computed_value() {
    let token = Canary::new("dp.st.");
    let bearer = format!("Bearer {}", token.text);
    let credentials = [("token", &token)];
    let sent = gives(
        ("doppler: { address: KEEPER, project: web, config: prd }", "API_KEY"),
        &credentials,
        move |request, value| match request.head.target().contains("name=API_KEY") {
            true if request.head.one("authorization") == Some(&*bearer) => ok(&json!({
                "name": "API_KEY", "value": {"raw": "${OTHER}", "computed": value, "note": ""}
            })
            .to_string()),
            _ => absent(),
        },
    );
    let sent = sent.await;
    assert_eq!(sent[0], "GET /v3/configs/config/secret?name=API_KEY&project=web&config=prd");
}

/// <https://infisical.com/docs/api-reference/endpoints/secrets/read>
#[tokio::test]
async fn infisical_logs_in_once_and_again_when_its_token_is_refused() {
    let (id, secret) = (Canary::new("id-"), Canary::new("st-"));
    let (login, tokens) = (
        [id.text.clone(), secret.text.clone()],
        std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)),
    );
    let credentials = [("client_id", &id), ("client_secret", &secret)];
    let sent = gives(
        ("infisical: { address: KEEPER, project: p-1, environment: prod }", "team/API_KEY"),
        &credentials,
        move |request, value| {
            use std::sync::atomic::Ordering::SeqCst;
            if request.head.target() == "/api/v1/auth/universal-auth/login" {
                let body = request.json();
                assert_eq!([&body["clientId"], &body["clientSecret"]], [&login[0], &login[1]]);
                let number = tokens.fetch_add(1, SeqCst) + 1;
                return ok(&json!({
                    "accessToken": format!("token-{number}"), "expiresIn": 7200, "accessTokenMaxTTL": 43244,
                    "tokenType": "Bearer"
                })
                .to_string());
            }
            // The first token is over before its time.
            if request.head.one("authorization") == Some("Bearer token-1")
                && tokens.load(SeqCst) == 1
                && request.head.target().contains("absent")
            {
                return "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}".to_owned();
            }
            match request.head.target().starts_with("/api/v3/secrets/raw/API_KEY?") {
                true => {
                    ok(&json!({"secret": {"secretKey": "API_KEY", "secretValue": value}})
                        .to_string())
                }
                false => absent(),
            }
        },
    );
    let sent = sent.await;
    assert_eq!(
        sent[1],
        "GET /api/v3/secrets/raw/API_KEY?workspaceId=p-1&environment=prod&secretPath=%2Fteam"
    );
    let logins = sent.iter().filter(|it| it.contains("universal-auth")).count();
    assert_eq!(logins, 2, "{sent:?}");
}

/// <https://developer.1password.com/docs/connect/api-reference/>
#[tokio::test]
async fn onepassword_connect_finds_vault_and_item_by_name() {
    let token = Canary::new("eyJ");
    let credentials = [("token", &token)];
    let sent = gives(
        ("onepassword: { address: KEEPER }", "op://Dev tools/Acme/api/credential"),
        &credentials,
        |request, value| {
            match request.head.target() {
            "/v1/vaults?filter=name%20eq%20%22Dev%20tools%22" => {
                ok(&json!([{"id": "v0000000000000000000000001", "name": "Dev tools"}]).to_string())
            }
            "/v1/vaults/v0000000000000000000000001/items?filter=title%20eq%20%22Acme%22" => {
                ok(&json!([{"id": "i0000000000000000000000001", "title": "Acme"}]).to_string())
            }
            "/v1/vaults/v0000000000000000000000001/items/i0000000000000000000000001" => ok(&json!({
                "id": "i0000000000000000000000001",
                "sections": [{"id": "s1", "label": "api"}, {"id": "s2", "label": "old"}],
                "fields": [
                    {"id": "username", "type": "STRING", "purpose": "USERNAME", "label": "username", "value": "ada"},
                    {"id": "f1", "label": "credential", "value": "stale", "section": {"id": "s2"}},
                    {"id": "f2", "label": "credential", "value": value, "section": {"id": "s1"}},
                ]
            })
            .to_string()),
            _ => ok("[]"),
        }
        },
    );
    assert!(sent.await.iter().all(|it| it.starts_with("GET /v1/vaults")));
}

/// <https://learn.microsoft.com/en-us/rest/api/keyvault/secrets/get-secret/get-secret>
#[tokio::test]
async fn azure_gives_a_secret_after_the_login_of_an_application() {
    let (id, secret) = (Canary::new("app-"), Canary::new("s+/="));
    let client_secret = secret.text.clone();
    let credentials = [("client_id", &id), ("client_secret", &secret)];
    let sent = gives(
        ("azure: { address: KEEPER, tenant: acme.test, login_address: KEEPER }", "api-key"),
        &credentials,
        move |request, value| {
            match request.head.target() {
            "/acme.test/oauth2/v2.0/token" => {
                let body = request.text();
                assert!(body.contains("scope=https%3A%2F%2Fvault.azure.net%2F.default"), "{body}");
                assert!(!body.contains(&client_secret), "the form is encoded");
                ok(&json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "at"}).to_string())
            }
            "/secrets/api-key?api-version=7.4" if request.head.one("authorization") == Some("Bearer at") => ok(&json!({
                "value": value, "id": "https://keeper/secrets/api-key/4387", "attributes": {"enabled": true}
            })
            .to_string()),
            _ => absent(),
        }
        },
    );
    let sent = sent.await;
    assert_eq!(sent[0], "POST /acme.test/oauth2/v2.0/token");
    assert_eq!(sent.iter().filter(|it| it.contains("oauth2")).count(), 1, "{sent:?}");
}

/// <https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access>
#[tokio::test]
async fn gcp_sends_the_token_of_a_connection_and_reads_a_member_of_the_json_value() {
    let (value, token) = (Canary::new("cnry"), Canary::new("ya29."));
    let (text, bearer) = (value.text.clone(), format!("Bearer {}", token.text));
    let keeper = keeper(move |request: &Message| {
        let data = BASE64_STANDARD.encode(json!({"key": text, "user": "ada"}).to_string());
        let is_it = request.head.target() == "/v1/projects/acme/secrets/api/versions/latest:access";
        match is_it && request.head.one("authorization") == Some(&*bearer) {
            true => {
                ok(&json!({"name": "projects/1/secrets/api/versions/3", "payload": {"data": data}})
                    .to_string())
            }
            false => absent(),
        }
    });
    let source =
        format!("gcp: {{ project: acme, connection: google, address: 'https://{KEEPER}' }}");
    let plan = reached(planned(&source, "api#key"), &keeper)
        .provider("{ id: cloud, name: Cloud, hosts: [cloud.acme.test], auth: [{ id: token, kind: bearer }] }")
        .connection("{ name: google, provider: cloud, fields: { token: { env: GOOGLE } } }")
        .secret("GOOGLE", &token);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(value.clone());
    assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*value.text));
    lab.finish().await;
}

#[tokio::test]
async fn concurrent_requests_fetch_a_value_once_and_a_source_test_reports_an_outage() {
    let token = Canary::new("dp.st.");
    let value = Canary::new("cnry");
    let text = value.text.clone();
    let keeper = keeper(move |request: &Message| match request.head.target().contains("API_KEY") {
        true => ok(&json!({"value": {"computed": text}}).to_string()),
        false => "HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\ncanary".to_owned(),
    });
    let source = format!(
        "doppler: {{ address: 'https://{KEEPER}' }}, credentials: {{ token: {{ env: TOKEN }} }}"
    );
    let plan = reached(planned(&source, "API_KEY"), &keeper).secret("TOKEN", &token);
    let lab = plan.start(Origin::saying("fine")).await;
    let asked = (0..20).map(|_| lab.ask("GET /a"));
    for answer in futures_util::future::join_all(asked).await {
        assert_eq!(answer.head.status(), 200, "{}", answer.text());
    }
    assert_eq!(keeper.received().len(), 1);
    assert!(lab.origin.received().iter().all(|it| it.head.one("x-api-key") == Some(&*value.text)));

    let other = json!({"references": {"api_key": {"from": "kept", "ref": "BROKEN"}}});
    // The file manages it.
    api(&lab, "PATCH", "/connections/acme", other, 409).await;
    let tested = api(&lab, "POST", "/sources/kept/test", json!({"ref": "BROKEN"}), 200).await;
    assert_eq!(tested["tested"][0]["error"], "it answered 500 Internal Server Error");
    let source = api(&lab, "GET", "/sources/kept", Value::Null, 200).await;
    assert!(source.get("failing").is_none(), "a test says nothing of connections: {source}");
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_of_the_api_follows_another_reference_and_never_sends_the_old_value() {
    let token = Canary::new("dp.st.");
    let (one, two) = (Canary::new("cnry"), Canary::new("cnry"));
    let texts = [one.text.clone(), two.text.clone()];
    let keeper = keeper(move |request: &Message| match request.head.target() {
        target if target.contains("name=ONE") => {
            ok(&json!({"value": {"computed": texts[0]}}).to_string())
        }
        target if target.contains("name=TWO") => {
            ok(&json!({"value": {"computed": texts[1]}}).to_string())
        }
        _ => absent(),
    });
    let plan = reached(Plan::api_key().no_agents(), &keeper);
    let mut lab = plan.start(Origin::saying("fine")).await;
    for secret in [&token, &one, &two] {
        lab.guard(secret.clone());
    }
    let source = json!({"name": "kept", "doppler": {"address": format!("https://{KEEPER}")}, "credentials": {"token": token.text}});
    api(&lab, "POST", "/sources", source, 201).await;
    let new = json!({"name": "b", "provider": "acme", "fields": {"api_key": {"from": "kept", "ref": "ONE"}}});
    api(&lab, "POST", "/connections", new, 201).await;
    lab.add_agent("bot").await;
    api(&lab, "POST", "/agents/bot/bindings", json!({"connection": "b"}), 201).await;
    let sent = async |lab: &mut Lab| {
        (lab.ask_as("bot", HOST, "GET /a").await.head.status(), lab.origin.received().pop())
    };
    let (status, request) = sent(&mut lab).await;
    assert_eq!((status, request.expect("one").head.one("x-api-key")), (200, Some(&*one.text)));
    let patch = |name: &str| json!({"references": {"api_key": {"from": "kept", "ref": name}}});
    api(&lab, "PATCH", "/connections/b", patch("TWO"), 200).await;
    let (status, request) = sent(&mut lab).await;
    assert_eq!((status, request.expect("one").head.one("x-api-key")), (200, Some(&*two.text)));
    let before = lab.origin.received().len();
    api(&lab, "PATCH", "/connections/b", patch("ABSENT"), 200).await;
    let (status, _) = sent(&mut lab).await;
    assert_eq!(
        (status, lab.origin.received().len()),
        (503, before),
        "a value of another reference is not sent"
    );
    lab.finish().await;
}

/// <https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#login>
#[tokio::test]
async fn vault_login_uses_the_service_account_token_of_the_pod() {
    let pod = Canary::new("eyJ");
    let folder = folder("token", &pod);
    let source = format!(
        "vault: {{ address: KEEPER, namespace: team, login: kubernetes, role: keyward, token_file: '{}' }}",
        folder.path().join("token").display()
    );
    let jwt = pod.text.clone();
    let sent = gives((&source, "apps/acme#key"), &[], move |request, value| {
        assert_eq!(request.head.one("x-vault-namespace"), Some("team"));
        match request.head.target() {
            "/v1/auth/kubernetes/login" => {
                assert_eq!(request.json(), json!({"role": "keyward", "jwt": jwt}));
                ok(&json!({"auth": {
                    "client_token": "hvs.t", "lease_duration": 2764800, "renewable": true
                }})
                .to_string())
            }
            "/v1/secret/data/apps/acme" if request.head.one("x-vault-token") == Some("hvs.t") => {
                ok(&json!({"data": {"data": {"key": value}, "metadata": {"version": 1}}})
                    .to_string())
            }
            _ => absent(),
        }
    });
    let sent = sent.await;
    assert_eq!(sent[..2], ["POST /v1/auth/kubernetes/login", "GET /v1/secret/data/apps/acme"]);
}

/// <https://developer.hashicorp.com/vault/docs/concepts/ha#client-redirection>
#[tokio::test]
async fn a_redirect_of_a_vault_standby_is_followed_once_with_the_token_and_only_to_https() {
    const ACTIVE: &str = "active.acme.test";
    for (scheme, redirects, is_given) in
        [("https", 1, true), ("http", 1, false), ("https", 2, false)]
    {
        let (token, value) = (Canary::new("hvs."), Canary::new("cnry"));
        let (sent, text) = (token.text.clone(), value.text.clone());
        let keeper = Origin::answering_as(&[KEEPER, ACTIVE], move |request: &Message| {
            let is_active = request.head.one("host").is_some_and(|host| host.starts_with(ACTIVE));
            if !is_active || redirects > 1 {
                let target = request.head.target();
                return format!(
                    "HTTP/1.1 307 Temporary Redirect\r\nLocation: {scheme}://{ACTIVE}{target}\r\nContent-Length: 0\r\n\r\n"
                );
            }
            match request.head.one("x-vault-token") == Some(&*sent) {
                true => ok(&json!({"data": {"data": {"key": text}}}).to_string()),
                false => absent(),
            }
        });
        let source = format!(
            "vault: {{ address: 'https://{KEEPER}' }}, credentials: {{ token: {{ env: TOKEN }} }}"
        );
        let plan = reached(planned(&source, "apps/acme#key"), &keeper);
        let plan = plan.resolve(&format!("{ACTIVE}: \"{}\"", keeper.addr)).secret("TOKEN", &token);
        let mut lab = plan.start(Origin::saying("fine")).await;
        lab.guard(value.clone());
        match is_given {
            true => assert_eq!(lab.delivered("GET /a").await.one("x-api-key"), Some(&*value.text)),
            false => drop(is_refused(&lab).await),
        }
        lab.finish().await;
    }
}
