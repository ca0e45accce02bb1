//! Sign-in by OpenID Connect, with an issuer that a test bends: what it refuses, which users it makes, and what
//! ends their logins. `tests/real/console/oidc.rs` has a real provider and a real browser.

mod team;

use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::team::{AtIssuer, Team, ann, every, sign, with};
use test_support::authorization::{CLIENT, CLIENT_SECRET, ISSUER, Rules, answer, encoded, query};
use test_support::canary::Canary;
use test_support::*;

/// A page that says why the sign-in is refused.
fn assert_refused(answer: &Message, status: u16, why: &str) {
    let text = answer.text();
    assert_eq!(answer.head.status(), status, "{text}");
    assert!(text.contains(why), "{why} in {text}");
    for cookie in answer.head.all("set-cookie") {
        assert!(cookie.starts_with("keyward-oidc=; "), "{cookie}");
    }
}

#[tokio::test]
async fn a_person_signs_in_and_is_a_user_with_the_role_of_their_group() {
    let mut team = Team::start().await;
    let mut at = team.begin("/agents?q=x").await;
    let asked = query(&at.url);
    assert_eq!(
        asked["redirect_uri"],
        format!("http://localhost:{}/login/oidc/callback", team.lab.gateway.admin.port())
    );
    assert_eq!(
        (
            &*asked["client_id"],
            &*asked["response_type"],
            &*asked["scope"],
            &*asked["code_challenge_method"]
        ),
        (CLIENT, "code", "openid email profile", "S256")
    );
    assert!(["state", "nonce", "code_challenge"].iter().all(|name| asked[*name].len() == 43));
    assert!(!at.url.contains(&encoded(CLIENT_SECRET)));
    team.says(&at, &ann());
    let answer = team.returns(&mut at).await.is(303);
    assert_eq!(answer.head.one("location"), Some("/agents?q=x"));
    let cookies = answer.head.all("set-cookie");
    assert!(
        cookies[0].starts_with("keyward=kwl_") && cookies[0].ends_with("; HttpOnly; SameSite=Lax")
    );
    assert_eq!(cookies[1], "keyward-oidc=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    team.guard(&at.browser);
    // The issuer received the secret and the verifier.
    let call = team.server.only_call();
    assert_eq!(
        (&*call.form["grant_type"], &*call.form["redirect_uri"]),
        ("authorization_code", &*asked["redirect_uri"])
    );
    assert!(call.issued.is_some() && call.form["code_verifier"].len() == 43);
    let session = at.browser.get("/api/v1/session").await.json();
    assert_eq!((&session["user"], &session["role"]), (&json!("ann"), &json!("member")));
    let users = team.users().await;
    assert_eq!(users.len(), 1);
    assert_eq!(users[0]["email"], "ann@acme.test");
    assert_eq!(users[0]["identity"], json!({"issuer": ISSUER, "subject": "00-ann"}));
    let logins = team.lab.gateway.api("GET", "/logins", "").await.json();
    assert_eq!(logins["items"][0]["method"], "oidc");
    // The same person is the same user, also by another name and address.
    let moved = json!({"preferred_username": "anna", "email": "anna@acme.test"});
    let (session, _) = team.signed_in(&with(ann(), moved)).await;
    assert_eq!(session["user"], "ann");
    assert_eq!(team.users().await.len(), 1);
    names_sign_ins_and_the_user(&team.lab.finish_with_changes().await);
}

/// The audit log has both sign-ins, and the user that the first one added.
fn names_sign_ins_and_the_user(records: &[Value]) {
    let changes: Vec<_> =
        records.iter().filter(|it| it["path"] == "/login/oidc/callback").collect();
    assert_eq!(changes.len(), 2, "{records:?}");
    let change = &changes[0]["change"];
    assert_eq!(
        (&change["user"], &change["what"], &change["why"], &changes[0]["outcome"]),
        (&json!("ann"), &json!("login"), &json!("by identity provider"), &json!("completed"))
    );
    let added: Vec<_> = records.iter().filter(|it| it["change"]["what"] == "user").collect();
    assert_eq!(added.len(), 1, "{added:?}");
    assert_eq!(
        (&added[0]["change"]["action"], &added[0]["change"]["why"]),
        (&json!("added"), &json!("role member, by the identity provider"))
    );
}

#[tokio::test]
async fn an_id_token_with_wrong_claims_or_a_wrong_signature_is_refused() {
    let team = Team::of(Rules::default(), "groups: [dev], default_role: member", |plan| {
        plan.limit("auth_failures_per_minute_max: 100")
    })
    .await;
    let now = jiff::Timestamp::now().as_second();
    for claims in [
        json!({"nonce": "A".repeat(43)}),
        json!({"nonce": null}),
        json!({"iss": "https://evil.test"}),
        json!({"aud": "other"}),
        json!({"aud": [CLIENT, "other"]}),
        json!({"azp": "other"}),
        json!({"exp": now - 3_600}),
        json!({"iat": now + 3_600}),
        json!({"sub": null}),
    ] {
        let (answer, _) = team.sign_in(&with(ann(), claims.clone())).await;
        assert_refused(&answer, 502, "The identity provider's statement");
        assert!(!answer.text().contains("00-ann"), "{claims}");
    }
    let unsigned = |at: &AtIssuer, alg: &str| {
        let header = json!({"alg": alg}).to_string();
        let claims = with(every(at), ann()).to_string();
        format!("{}.{}.", BASE64.encode(header), BASE64.encode(claims))
    };
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    for kind in ["none", "ES256", "HS256", "other key", "unknown key"] {
        let mut at = team.begin("/").await;
        let claims = with(every(&at), ann());
        team.answers_with(match kind {
            "HS256" => hs256(&claims),
            "other key" => sign(&other, &json!({"alg": "ES256", "kid": "k1"}), &claims),
            "unknown key" => sign(&team.key, &json!({"alg": "ES256", "kid": "k2"}), &claims),
            alg => unsigned(&at, alg),
        });
        assert_refused(&team.returns(&mut at).await, 502, "is not valid");
    }
    assert_eq!((team.users().await.len(), team.logins().await), (0, 0));
    team.lab.finish().await;
}

/// Signed with the client's secret, which is known to more than the issuer.
fn hs256(claims: &Value) -> String {
    let coded = |value: &Value| BASE64.encode(value.to_string());
    let text = format!("{}.{}", coded(&json!({"alg": "HS256"})), coded(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, CLIENT_SECRET.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, text.as_bytes());
    format!("{text}.{}", BASE64.encode(tag))
}

#[tokio::test]
async fn a_callback_of_another_browser_sign_in_or_issuer_and_a_repeated_one_are_refused() {
    let mut team = Team::start().await;
    // An attacker who began a sign-in gives the address of its callback to another person's browser.
    let attacker = team.begin("/").await;
    let back = team.server.issuer().consent(&attacker.url);
    let mut fresh = team.browser();
    assert_refused(&fresh.get(&back).await, 403, "This browser did not begin this sign-in");
    let mut victim = team.begin("/").await;
    assert_refused(&victim.browser.get(&back).await, 403, "This browser did not begin");
    let state = query(&attacker.url)["state"].clone();
    for query in [
        String::new(),
        "code=x".to_owned(),
        format!("code=x&state={}", "A".repeat(43)),
        format!("code=x&state={state}&state={state}"),
    ] {
        let mut browser = attacker.browser.clone();
        let answer = browser.get(&format!("/login/oidc/callback?{query}")).await;
        assert!([400, 403].contains(&answer.head.status()), "{}", answer.text());
    }
    for (more, status, why) in [
        (
            format!("state={state}&code=x&iss=https%3A%2F%2Fevil.test"),
            400,
            "did not come from the identity provider",
        ),
        (format!("state={state}&code=x"), 400, "can be completed once"),
    ] {
        let mut browser = attacker.browser.clone();
        let answer = browser.get(&format!("/login/oidc/callback?{more}")).await;
        assert_refused(&answer, status, why);
    }
    assert!(team.server.calls().is_empty(), "no code was sent anywhere");
    // Complete, and again with the same cookie and address.
    let mut at = team.begin("/").await;
    team.says(&at, &ann());
    let (back, mut copy) = (team.server.issuer().consent(&at.url), at.browser.clone());
    at.browser.get(&back).await.is(303);
    team.guard(&at.browser);
    assert_refused(&copy.get(&back).await, 400, "can be completed once");
    assert_refused(&at.browser.get(&back).await, 403, "This browser did not begin");
    assert_eq!(team.server.calls().len(), 1);
    let mut declined = team.begin("/").await;
    let back = team.server.issuer().decline(&declined.url);
    assert_refused(&declined.browser.get(&back).await, 403, "The sign-in was declined");
    team.lab.finish().await;
}

#[tokio::test]
async fn a_person_who_misses_a_requirement_is_refused_with_the_reason_and_not_added() {
    let team = Team::start().await;
    for (claims, why) in [
        (json!({"email": null}), "does not say your e-mail address"),
        (json!({"email_verified": false}), "is verified"),
        (json!({"email_verified": null}), "is verified"),
        (json!({"email": "ann@evil.test"}), "of a domain that may not sign in"),
        (json!({"email": "ann@x.acme.test"}), "of a domain that may not sign in"),
        (json!({"groups": []}), "no group that may sign in"),
        (json!({"groups": null}), "no group that may sign in"),
    ] {
        let (answer, _) = team.sign_in(&with(ann(), claims)).await;
        assert_refused(&answer, 403, why);
        assert!(!answer.text().contains("ann@"), "{}", answer.text());
    }
    assert_eq!((team.users().await.len(), team.logins().await), (0, 0));
    let records = team.lab.finish_with_changes().await;
    let refused: Vec<_> =
        records.iter().filter(|it| it["path"] == "/login/oidc/callback").collect();
    assert_eq!(refused.len(), 7);
    for (record, why) in
        [(refused[0], "oidc: no e-mail address"), (refused[5], "oidc: no group of `groups`")]
    {
        assert_eq!(
            (&record["outcome"], &record["code"], &record["change"]["why"]),
            (&json!("refused"), &json!("not_allowed"), &json!(why))
        );
    }
}

#[tokio::test]
async fn a_lost_group_a_pause_and_another_role_end_the_logins() {
    let mut team = Team::start().await;
    let (session, mut first) = team.signed_in(&ann()).await;
    assert_eq!(session["role"], "member");
    // Another group, another role: it counts for this sign-in, and ends the logins that had the other one.
    let (session, mut second) = team.signed_in(&with(ann(), json!({"groups": ["ops"]}))).await;
    assert_eq!((&session["user"], &session["role"]), (&json!("ann"), &json!("admin")));
    assert_eq!(first.get("/api/v1/session").await.head.status(), 401);
    assert_eq!(second.get("/api/v1/session").await.head.status(), 200);
    // What an admin sets holds until the next sign-in.
    let role = json!({"role": "auditor"}).to_string();
    team.lab.gateway.api("PATCH", "/users/ann", &role).await;
    let (session, mut third) = team.signed_in(&ann()).await;
    assert_eq!(session["role"], "member");
    let (refused, _) = team.sign_in(&with(ann(), json!({"groups": ["gone"]}))).await;
    assert_refused(&refused, 403, "no group");
    assert_eq!(third.get("/api/v1/session").await.head.status(), 401);
    assert_eq!(team.logins().await, 0);
    team.lab.gateway.api("PATCH", "/users/ann", &json!({"paused": true}).to_string()).await;
    let (refused, _) = team.sign_in(&ann()).await;
    assert_refused(&refused, 403, "Your user is paused");
    assert_eq!(team.users().await.len(), 1);
    team.lab.finish().await;
}

#[tokio::test]
async fn an_equal_email_address_or_name_does_not_identify_a_user() {
    let mut team = Team::with("domains: [acme.test], default_role: member").await;
    let known = json!({"name": "ann", "email": "ann@acme.test", "role": "admin"}).to_string();
    team.lab.gateway.api("POST", "/users", &known).await.is(201);
    let (session, _) = team.signed_in(&ann()).await;
    assert_eq!((&session["user"], &session["role"]), (&json!("ann-2"), &json!("member")));
    // Another account with the same name and address.
    let (session, _) = team.signed_in(&with(ann(), json!({"sub": "01-ann"}))).await;
    assert_eq!(session["user"], "ann-3");
    let users = team.users().await;
    let addresses: Vec<_> = users.iter().filter(|user| user["email"] == "ann@acme.test").collect();
    assert_eq!((users.len(), addresses.len()), (3, 1), "{users:?}");
    // Of sign-ins that race, one adds the user.
    let bob = with(
        ann(),
        json!({"sub": "02-bob", "preferred_username": "bob", "email": "bob@acme.test"}),
    );
    let racing = futures_util::future::join_all((0..4).map(|_| team.sign_in(&bob))).await;
    for (answer, browser) in &racing {
        assert_eq!(answer.head.status(), 303, "{}", answer.text());
        team.guard(browser);
    }
    assert_eq!(team.users().await.len(), 4);
    // A restart keeps who is who, and voids what was begun.
    let begun = team.begin("/").await;
    let back = team.server.issuer().consent(&begun.url);
    team.lab.gateway.restart().await;
    let mut again = team.browser();
    again.cookies = begun.browser.cookies;
    assert_refused(&again.get(&back).await, 403, "did not begin this sign-in");
    let (session, _) = team.signed_in(&bob).await;
    assert_eq!(session["user"], "bob");
    team.lab.finish().await;
}

#[tokio::test]
async fn a_sign_in_leads_to_pages_of_this_gateway_only() {
    let mut team = Team::start().await;
    for foreign in ["//evil.example", "https://evil.example/", "/\\evil.example", "evil", ""] {
        let mut at = team.begin(foreign).await;
        team.says(&at, &ann());
        let answer = team.returns(&mut at).await;
        assert_eq!(answer.head.one("location"), Some("/"), "{foreign}");
        team.guard(&at.browser);
    }
    let mut browser = team.browser();
    for (method, path) in
        [("POST", "/login/oidc"), ("HEAD", "/login/oidc"), ("POST", "/login/oidc/callback")]
    {
        assert_eq!(browser.ask(method, path).await.head.status(), 405, "{method} {path}");
    }
    // Another name of this server: the browser goes to the one that the provider will send it back to.
    let own = team.lab.gateway.admin;
    let moved = crate::admin_network::ask_at(&team.lab, "GET /login/oidc?to=/agents", "", "").await;
    let to = format!("http://localhost:{}/login/oidc?moved=1&to=%2Fagents", own.port());
    assert_eq!((moved.head.status(), moved.head.one("location")), (303, Some(&*to)));
    let elsewhere = "X-Forwarded-For: 203.0.113.9\r\n";
    crate::admin_network::ask_at(&team.lab, "GET /login/oidc", elsewhere, "").await.is(403);
    team.lab.finish().await;
}

#[tokio::test]
async fn claims_that_the_id_token_lacks_are_read_from_the_userinfo_of_the_same_account() {
    let mut team = Team::start().await;
    team.server.issuer().tell("userinfo_endpoint", json!(format!("{ISSUER}/userinfo")));
    team.lab.gateway.restart().await;
    let thin = json!({"sub": "00-ann", "email": "ann@evil.test"});
    let mut info = ann();
    info["sub"] = json!("00-eve");
    team.server.issuer().script("/userinfo", answer(200, &info));
    let (answer_of_other, _) = team.sign_in(&thin).await;
    assert_refused(&answer_of_other, 502, "two statements of who you are differ");
    team.server.issuer().script("/userinfo", answer(200, &ann()));
    // What is signed counts, not what the userinfo says otherwise.
    let (refused, _) = team.sign_in(&thin).await;
    assert_refused(&refused, 403, "domain");
    let (session, _) = team.signed_in(&json!({"sub": "00-ann"})).await;
    assert_eq!((&session["user"], &session["role"]), (&json!("ann"), &json!("member")));
    team.server.issuer().script("/userinfo", answer(500, &json!({})));
    let (refused, _) = team.sign_in(&json!({"sub": "00-ann"})).await;
    assert_refused(&refused, 502, "did not say enough about you");
    team.lab.finish().await;
}

#[tokio::test]
async fn a_sign_in_with_a_rejected_client_secret_fails_with_the_reason() {
    let mut team = Team::start().await;
    team.signed_in(&ann()).await;
    // The issuer does not take the client's secret any more.
    team.server.issuer().change_secret("another");
    let mut at = team.begin("/").await;
    let answer = team.returns(&mut at).await;
    assert_refused(&answer, 502, "did not accept this gateway as its client");
    assert!(!answer.text().contains(CLIENT_SECRET));
    team.lab.finish().await;
}

/// Writes the file of the client's secret whole, as Kubernetes and secret agents do.
fn write_secret(folder: &Path, secret: &Canary) {
    let beside = folder.join("new-secret");
    std::fs::write(&beside, &secret.text).expect("a file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&beside, private).expect("ours");
    std::fs::rename(beside, folder.join("secret")).expect("renamed");
}

/// Replaces a text of the configuration, which the gateway then reads again. Returns its warnings.
async fn reload_with(team: &Team, from: &str, to: &str) -> Vec<String> {
    let file = team.lab.gateway.folder().join("keyward.yaml");
    let yaml = std::fs::read_to_string(&file).expect("the configuration");
    assert!(yaml.contains(from), "{from}: {yaml}");
    std::fs::write(&file, yaml.replace(from, to)).expect("written");
    let asked = team.lab.gateway.running().reloads().reload();
    let view = patiently("reloading", asked).await.expect("it runs");
    assert_eq!(view.errors, [""; 0]);
    view.warnings
}

#[tokio::test]
async fn a_rotated_client_secret_is_sent_to_the_issuer_after_a_reload() {
    let mut team = Team::start().await;
    let secrets: [Canary; 3] = std::array::from_fn(|_| Canary::new("oidc"));
    secrets.iter().for_each(|secret| team.lab.guard(Canary::of(secret.text.clone())));
    let folder = TempDir::new().expect("a directory");
    let in_file = format!("{{ file: {} }}", folder.path().join("secret").display());
    let mut named = "{ env: OIDC_SECRET }".to_owned();
    for secret in &secrets[..2] {
        team.server.issuer().change_secret(&secret.text);
        let mut at = team.begin("/").await;
        assert_refused(&team.returns(&mut at).await, 502, "did not accept this gateway");
        write_secret(folder.path(), secret);
        assert_eq!(reload_with(&team, &named, &in_file).await, [""; 0]);
        named.clone_from(&in_file);
        team.signed_in(&ann()).await;
    }
    // The secret of another client waits for the restart with which that client is used.
    write_secret(folder.path(), &secrets[2]);
    let client = format!("client_id: {CLIENT}");
    let warnings = reload_with(&team, &client, "client_id: another").await;
    assert_eq!(warnings, ["a change of `sign_in` takes effect at the next start"]);
    team.signed_in(&ann()).await;
    team.lab.finish().await;
}

#[tokio::test]
async fn an_unreachable_issuer_or_invalid_metadata_gives_an_error_page_and_no_redirect() {
    let team = Team::start().await;
    let metadata = "/.well-known/oauth-authorization-server";
    let down = b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n".to_vec();
    team.server.issuer().script(metadata, down);
    let answer = team.browser().get("/login/oidc").await;
    assert_refused(&answer, 502, "cannot be used at present");
    assert!(answer.text().contains("/login/oidc?to="), "it can be tried again");
    team.server.issuer().unscript(metadata);
    for (member, value, why) in [
        ("issuer", json!("https://evil.test"), "cannot be used at present"),
        ("authorization_endpoint", Value::Null, "where its authorization endpoint is"),
        ("authorization_endpoint", json!("http://auth.acme.test/a"), "cannot be used at present"),
        ("jwks_uri", json!("http://auth.acme.test/jwks"), "cannot be used at present"),
        ("token_endpoint", Value::Null, "where its token endpoint is"),
    ] {
        let good = team.server.issuer().metadata()[member].clone();
        team.server.issuer().tell(member, value.clone());
        let answer = team.browser().get("/login/oidc").await;
        assert_refused(&answer, 502, why);
        assert!(!answer.head.has("location"), "{member} {value}");
        team.server.issuer().tell(member, good);
    }
    // It has recovered: nothing of the failures stays.
    team.begin("/").await;
    team.lab.finish().await;
}

#[tokio::test]
async fn failed_callbacks_of_a_network_and_their_records_are_rate_limited() {
    let change = |plan: Plan| plan.limit("auth_failures_per_minute_max: 2");
    let team = Team::of(Rules::default(), "groups: [dev], default_role: member", change).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses
            .push(team.browser().get("/login/oidc/callback?code=x&state=x").await.head.status());
    }
    assert_eq!(statuses, [403, 403, 429, 429]);
    let records = team.lab.finish_with_changes().await;
    let refused = records.iter().filter(|it| it["path"] == "/login/oidc/callback").count();
    assert_eq!(refused, 2);
}
