//! Disconnecting: here at once, at the provider as soon as it can be told, and the truth about both. OAuth
//! rules 13.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use test_support::authorization::{CLIENT, Fault, Pair, Rules, TokenCall, answer, form};
use test_support::oauth::{AGENT, World};
use test_support::{HOST, Plan, canary, request_text, until, until_some};

async fn removed(world: &World, query: &str) -> Value {
    world.api("DELETE", &format!("/connections/work{query}"), &Value::Null).await
}

#[tokio::test]
async fn a_removal_revokes_both_tokens_with_client_authentication() {
    let world = World::with_connection().await;
    let pair = world.server.only_call().issued.expect("tokens");
    assert_eq!(removed(&world, "?revoke=true").await["revoked_upstream"], true);
    let revoked = world.server.issuer().revoked();
    let asked: Vec<_> = revoked
        .iter()
        .map(|asked| (asked.form["token"].as_str(), asked.form["token_type_hint"].as_str()))
        .collect();
    let refresh = pair.refresh.as_deref().expect("a refresh token");
    assert_eq!(asked, [(refresh, "refresh_token"), (&*pair.access, "access_token")]);
    assert!(revoked.iter().all(|asked| asked.head.has("authorization")));
    assert!(!world.server.issuer().is_live(&pair.access));
    world.finish().await;
}

/// GitHub has the app's client id in the path.
#[tokio::test]
async fn the_revocation_url_may_contain_the_client_id() {
    let world = World::with(Rules::default(), |plan| {
        let provider = test_support::oauth::provider("");
        plan.provider(&provider.replace("/revoke\"", "/revoke/{client_id}\""))
    })
    .await;
    world.connected().await;
    let answers = answer(200, &json!({}));
    world.server.issuer().script(&format!("/revoke/{CLIENT}"), answers);
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    world.finish().await;
}

#[tokio::test]
async fn a_removal_without_revoke_sends_nothing_to_the_provider() {
    let world = World::with_connection().await;
    assert_eq!(removed(&world, "").await["revoked_upstream"], Value::Null);
    assert!(world.server.issuer().revoked().is_empty());
    let here = world.request().await;
    let error = here.json()["error"].clone();
    assert_eq!((here.head.status(), &error["code"]), (424, &json!("connection_missing")));
    assert_eq!(error["message"], "connection `work` was removed");
    world.finish().await;
}

#[tokio::test]
async fn a_removal_names_the_access_page_of_a_provider_without_revocation() {
    let world = World::with(Rules::default(), |plan| {
        plan.provider(&test_support::oauth::provider(
            ", revoke_via: none, access_page: \"https://auth.acme.test/apps\"",
        ))
    })
    .await;
    world.connected().await;
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], Value::Null);
    assert_eq!(told["by_hand"], "https://auth.acme.test/apps");
    world.finish().await;
}

#[tokio::test]
async fn a_revocation_at_a_server_that_is_down_is_retried_also_after_a_restart() {
    let mut world = World::start().await;
    world.connected().await;
    let pair = world.server.only_call().issued.expect("tokens");
    world.server.issuer().script("/revoke", answer(503, &json!({ "error": "down" })));
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], false);
    assert!(told["until"].is_string(), "{told}");
    assert_eq!(world.request().await.head.status(), 424, "here it ended at once");
    world.lab.gateway.restart().await;
    assert!(world.server.issuer().is_live(&pair.access));
    world.server.issuer().unscript("/revoke");
    until("the revocation", async || !world.server.issuer().is_live(&pair.access)).await;
    world.finish().await;
}

/// oauth 13.outbox: a provider that refuses in the end was not told, and the log does not say so.
#[tokio::test]
async fn a_pending_revocation_that_is_refused_is_logged_as_failed() {
    let world = World::start().await;
    let made = world.connected().await;
    let id = made["id"].as_str().expect("an id").to_owned();
    world.server.issuer().script("/revoke", answer(503, &json!({ "error": "down" })));
    assert_eq!(removed(&world, "?revoke=true").await["revoked_upstream"], false);
    world.server.issuer().script("/revoke", answer(401, &json!({ "error": "invalid_client" })));
    let failed = given_up(&id).await;
    assert!(failed.contains(" WARN ") && failed.contains("invalid_client"), "{failed}");
    assert!(logged("a pending revocation is complete", &id).is_none(), "{failed}");
    world.finish().await;
}

/// The first line of the log with these words about a connection. Other tests write into the same log.
fn logged(words: &str, id: &str) -> Option<String> {
    let log = canary::log().lock().expect("not poisoned").clone();
    let log = String::from_utf8_lossy(&log);
    log.lines().find(|line| line.contains(words) && line.contains(id)).map(str::to_owned)
}

/// The line that says that the revocation is given up.
async fn given_up(id: &str) -> String {
    let failed = "a pending revocation has failed";
    until_some("the end of the revocation", async || logged(failed, id)).await
}

/// oauth 13.outbox: an unknown code may be a passing fault, but not for a day.
#[tokio::test]
async fn a_revocation_that_is_refused_with_an_unknown_code_is_reported_with_it_and_given_up() {
    let world = World::with(Rules::default(), |plan| {
        plan.top("oauth: { revoke_timeout: 25s, unknown_answers_max: 1, unknown_answers_for: 0s }")
    })
    .await;
    let made = world.connected().await;
    world.server.issuer().script("/revoke", answer(400, &json!({ "error": "strange" })));
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], false, "{told}");
    assert!(told["until"].is_string(), "{told}");
    assert_eq!(told["why"], "the authorization server refused (strange)");
    let failed = given_up(made["id"].as_str().expect("an id")).await;
    assert!(failed.contains("strange"), "{failed}");
    world.finish().await;
}

/// oauth 13.gone: the person has removed the access at the provider before. Google's answer.
#[tokio::test]
async fn the_removal_of_a_grant_that_the_provider_does_not_know_is_reported_as_revoked() {
    let world = World::with_connection().await;
    let refresh = world.server.only_call().issued.expect("tokens").refresh.expect("one");
    world.server.issuer().script("/revoke", answer(400, &json!({ "error": "invalid_token" })));
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    let received = world.server.origin.received();
    let asked = received.iter().find(|it| it.head.target() == "/revoke").expect("a revocation");
    assert_eq!(form(&asked.text())["token"], refresh);
    world.finish().await;
}

/// oauth 5.revoke, 5.settings
#[tokio::test]
async fn a_removal_waits_for_a_hanging_revocation_endpoint_only_for_its_timeout() {
    let world =
        World::with(Rules::default(), |plan| plan.top("oauth: { revoke_timeout: 0.2s }")).await;
    world.connected().await;
    // A head that never ends.
    world.server.issuer().script("/revoke", "HTTP/1.1 200 OK\r\n");
    let began = std::time::Instant::now();
    assert_eq!(removed(&world, "?revoke=true").await["revoked_upstream"], false);
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    world.finish().await;
}

/// A server where revoking a refresh token that was used ends nothing else.
fn strict() -> Rules {
    Rules { spent_revokes: false, ..Rules::default() }
}

/// Longer than a busy machine takes.
fn patient(plan: Plan) -> Plan {
    plan.top("oauth: { revoke_timeout: 25s }")
}

/// The connection is removed while its refresh, which `fault` befalls, is under way. When the provider has been
/// told of the old tokens, `gate` opens; what the removal answers.
async fn removed_during_a_refresh(world: &World, fault: Fault, gate: &Arc<Semaphore>) -> Value {
    world.connected().await;
    world.server.issuer().expire_all();
    world.server.fail_next(fault);
    let mut agent = world.lab.tunnel_as(AGENT, HOST).await;
    agent.send(request_text("GET /early", HOST)).await;
    world.server.asked(2).await;
    let told = async {
        let revoked = async || world.server.issuer().revoked().len() >= 2;
        until("the revocation of the old tokens", revoked).await;
        gate.add_permits(1);
    };
    let (removed, ()) = tokio::join!(removed(world, "?revoke=true"), told);
    removed
}

#[tokio::test]
async fn tokens_of_a_refresh_during_the_removal_of_its_connection_are_revoked_too() {
    let world = World::with(strict(), patient).await;
    let gate = Arc::new(Semaphore::new(0));
    let told = removed_during_a_refresh(&world, Fault::Held(gate.clone()), &gate).await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    let newer = world.server.calls()[1].issued.clone().expect("tokens");
    let issuer = world.server.issuer();
    assert!(!issuer.is_live(&newer.access), "the token of the late answer");
    assert!(!issuer.is_fresh(newer.refresh.as_deref().expect("one")), "and what renews it");
    world.finish().await;
}

#[tokio::test]
async fn a_refresh_that_outlasts_the_removal_is_reported_pending_and_revoked_later() {
    let world = World::with(strict(), |plan| plan.top("oauth: { revoke_timeout: 0.3s }")).await;
    let (gate, never) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let told = removed_during_a_refresh(&world, Fault::Held(gate.clone()), &never).await;
    assert_eq!(told["revoked_upstream"], false, "{told}");
    assert!(told["until"].is_string(), "{told}");
    let newer = world.server.calls()[1].issued.clone().expect("tokens");
    assert!(world.server.issuer().is_live(&newer.access), "nobody has it yet");
    // Nothing uses the app any more: what is owed is revoked with its secret all the same.
    world.lab.gateway.api("DELETE", "/apps/svc-app", "").await.is(204);
    gate.add_permits(1);
    let refresh = newer.refresh.expect("one");
    until("the revocation of the late answer", async || {
        !(world.server.issuer().is_live(&newer.access) || world.server.issuer().is_fresh(&refresh))
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn tokens_of_an_answer_that_was_lost_are_not_said_to_be_revoked() {
    let world = World::with(strict(), patient).await;
    let gate = Arc::new(Semaphore::new(0));
    let told = removed_during_a_refresh(&world, Fault::HeldAndLost(gate.clone()), &gate).await;
    assert_eq!(told["revoked_upstream"], false, "{told}");
    let why = told["why"].as_str().expect("why");
    assert!(why.contains("response to a refresh was lost"), "{why}");
    world.finish().await;
}

/// oauth 2.settled: neither its tokens stay alive nor is it called a fault of ours
#[tokio::test]
async fn a_connection_that_is_removed_during_the_exchange_leaves_no_grant_at_its_provider() {
    let world = World::with(Rules::default(), patient).await;
    let made = world.draft().await;
    let gate = world.server.hold_next();
    let mut browser = world.browser();
    let back = world.consent(&mut browser, &made);
    let remove = async {
        world.server.asked(1).await;
        removed(&world, "").await;
        gate.add_permits(1);
    };
    let (back, ()) = tokio::join!(back, remove);
    assert_eq!(back.head.status(), 410, "{}", back.text());
    assert!(back.text().contains("was removed meanwhile"), "{}", back.text());
    let pair = world.server.only_call().issued.expect("tokens");
    assert!(!world.server.issuer().is_live(&pair.access));
    let view = world.flow(&made).await;
    assert_eq!(view["state"], "failed");
    assert!(view["why"].as_str().expect("why").contains("has revoked its access"), "{view}");
    world.finish().await;
}

/// oauth 13.outbox: the app goes, and what is owed with it is still asked of the provider.
#[tokio::test]
async fn a_pending_revocation_outlives_the_removal_of_its_app() {
    let mut world = World::start().await;
    world.connected().await;
    let pair = world.server.only_call().issued.expect("tokens");
    world.server.issuer().script("/revoke", answer(503, &json!({ "error": "down" })));
    assert_eq!(removed(&world, "?revoke=true").await["revoked_upstream"], false);
    world.lab.gateway.api("DELETE", "/apps/svc-app", "").await.is(204);
    world.lab.gateway.restart().await;
    assert!(world.server.issuer().is_live(&pair.access));
    world.server.issuer().unscript("/revoke");
    until("the revocation", async || !world.server.issuer().is_live(&pair.access)).await;
    let asked = world.server.issuer().revoked();
    assert!(asked.iter().all(|asked| asked.head.has("authorization")), "with the client's proof");
    world.finish().await;
}

/// oauth 13.outbox: an app that left the configuration file is paused; its secret still proves the client.
#[tokio::test]
async fn a_connection_of_a_paused_app_is_revoked_with_the_app_s_secret() {
    let world = World::with_connection().await;
    let pair = world.server.only_call().issued.expect("tokens");
    let directory = &world.lab.gateway.running().services().directory;
    let pause = |app: &mut keyward_state::directory::AppRecord| app.facts.paused = true;
    directory
        .change::<keyward_model::App>(&keyward_base::id::OrgId::default_org(), &world.app, pause)
        .await
        .expect("the app is there");
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    assert!(!world.server.issuer().is_live(&pair.access));
    world.finish().await;
}

/// A provider that revokes by a valid access token, as Dropbox does.
async fn by_bearer(rules: Rules, change: impl FnOnce(Plan) -> Plan) -> World {
    let more = ", revoke_via: bearer, access_page: \"https://auth.acme.test/apps\"";
    let provider = test_support::oauth::provider(more);
    World::with(rules, |plan| change(plan.provider(&provider))).await
}

/// Access tokens expire at once.
fn brief() -> Rules {
    Rules { access_ttl: Some(0.05), ..strict() }
}

/// The tokens of the consent, after the access token has expired. Newer ones last.
async fn expired(world: &World) -> Pair {
    let pair = world.server.only_call().issued.expect("tokens");
    world.server.issuer().change(|rules| rules.access_ttl = Some(3600.0));
    until("the expiry", async || !world.server.issuer().is_live(&pair.access)).await;
    pair
}

/// The access tokens that the revocation endpoint got.
fn sent_to_revoke(world: &World) -> Vec<String> {
    let received = world.server.origin.received();
    let asked = received.iter().filter(|it| it.head.target() == "/revoke");
    let token = |it: &str| it.strip_prefix("Bearer ").expect("a bearer token").to_owned();
    asked.map(|it| token(it.head.one("authorization").expect("a field"))).collect()
}

/// The one refresh, which sent this refresh token.
fn only_refresh(world: &World, of: &Pair) -> TokenCall {
    let calls = world.server.calls();
    assert_eq!(calls.len(), 2, "the consent, and one refresh: {calls:#?}");
    assert_eq!(Some(&calls[1].form["refresh_token"]), of.refresh.as_ref());
    calls[1].clone()
}

fn is_ended(world: &World, pair: &Pair) -> bool {
    let issuer = world.server.issuer();
    !issuer.is_live(&pair.access) && !issuer.is_fresh(pair.refresh.as_ref().expect("one"))
}

/// oauth 13.renewed: the refresh token, which may last for ever, would stay valid.
#[tokio::test]
async fn an_expired_access_token_is_renewed_for_a_revocation_that_needs_a_valid_one() {
    let world = by_bearer(brief(), patient).await;
    world.connected().await;
    let old = expired(&world).await;
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    let newer = only_refresh(&world, &old).issued.expect("tokens");
    assert_eq!(sent_to_revoke(&world), [&*newer.access]);
    assert!(is_ended(&world, &newer));
    world.finish().await;
}

/// oauth 13.renewed: the provider has ended it before its time.
#[tokio::test]
async fn an_access_token_that_the_revocation_endpoint_rejects_is_renewed_once() {
    let world = by_bearer(strict(), patient).await;
    world.connected().await;
    let old = world.server.only_call().issued.expect("tokens");
    world.server.issuer().expire_all();
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], true, "{told}");
    let newer = only_refresh(&world, &old).issued.expect("tokens");
    assert_eq!(sent_to_revoke(&world), [old.access, newer.access.clone()]);
    assert!(is_ended(&world, &newer));
    world.finish().await;
}

/// oauth 13.gone: the person has removed the access at the provider before.
#[tokio::test]
async fn a_grant_whose_refresh_token_is_rejected_is_reported_as_revoked() {
    for (rules, rejected) in [(brief(), 0), (strict(), 1)] {
        let has_expired = rejected == 0;
        let world = by_bearer(rules, patient).await;
        world.connected().await;
        let old = match has_expired {
            true => expired(&world).await,
            false => world.server.only_call().issued.expect("tokens"),
        };
        world.server.issuer().end_all();
        let told = removed(&world, "?revoke=true").await;
        assert_eq!(told["revoked_upstream"], true, "{told}");
        assert_eq!(only_refresh(&world, &old).error.as_deref(), Some("invalid_grant"));
        assert_eq!(sent_to_revoke(&world).len(), rejected);
        world.finish().await;
    }
}

/// oauth 13.renewed
#[tokio::test]
async fn an_expired_access_token_without_a_refresh_token_names_the_page_to_revoke_at() {
    let world = by_bearer(Rules { refreshes: false, ..brief() }, patient).await;
    world.connected().await;
    expired(&world).await;
    let told = removed(&world, "?revoke=true").await;
    assert_eq!((&told["revoked_upstream"], &told["until"]), (&json!(false), &Value::Null));
    let why = "the access token has expired and cannot be renewed: revoke the access at \
               https://auth.acme.test/apps";
    assert_eq!(told["why"], why);
    assert!(sent_to_revoke(&world).is_empty());
    assert_eq!(world.server.calls().len(), 1);
    world.finish().await;
}

/// oauth 13.renewed: the server has spent the refresh token of the consent.
#[tokio::test]
async fn tokens_that_were_renewed_for_a_revocation_are_used_after_a_restart() {
    let mut world = by_bearer(brief(), patient).await;
    world.connected().await;
    let old = expired(&world).await;
    world.server.issuer().script("/revoke", answer(503, &json!({ "error": "down" })));
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], false, "{told}");
    assert_eq!(told["why"], "the authorization server reports a server error (down)");
    world.lab.gateway.restart().await;
    world.server.issuer().unscript("/revoke");
    let newer = only_refresh(&world, &old).issued.expect("tokens");
    until("the revocation", async || is_ended(&world, &newer)).await;
    only_refresh(&world, &old);
    assert!(sent_to_revoke(&world).iter().all(|sent| *sent == newer.access));
    world.finish().await;
}

/// oauth 13.renewed: the removal does not wait for the refresh, and does not cancel it.
#[tokio::test]
async fn a_renewal_that_outlasts_the_removal_of_its_connection_is_stored_and_used() {
    let world = by_bearer(brief(), |plan| plan.top("oauth: { revoke_timeout: 0.3s }")).await;
    world.connected().await;
    let old = expired(&world).await;
    let gate = world.server.hold_next();
    let told = removed(&world, "?revoke=true").await;
    assert_eq!(told["revoked_upstream"], false, "{told}");
    assert!(told["until"].is_string(), "{told}");
    world.server.asked(2).await;
    let newer = only_refresh(&world, &old).issued.expect("tokens");
    gate.add_permits(1);
    until("the revocation", async || is_ended(&world, &newer)).await;
    only_refresh(&world, &old);
    assert_eq!(sent_to_revoke(&world), [newer.access]);
    world.finish().await;
}

/// oauth 13.renewed: the second answer is `invalid_grant`, because the first refresh spent the token.
#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_not_said_to_be_revoked() {
    let half = Fault::worded(|honest| {
        let text = honest.to_string();
        (200, Some("application/json"), text[..text.len() / 2].into())
    });
    for lost in [Fault::ClosesAfter, half] {
        let world = by_bearer(brief(), patient).await;
        let made = world.connected().await;
        expired(&world).await;
        world.server.fail_next(lost);
        let told = removed(&world, "?revoke=true").await;
        assert_eq!(told["revoked_upstream"], false, "{told}");
        assert!(told["until"].is_string(), "{told}");
        let failed = given_up(made["id"].as_str().expect("an id")).await;
        assert!(failed.contains("response to a refresh was lost"), "{failed}");
        assert_eq!(world.server.calls().len(), 3);
        assert!(sent_to_revoke(&world).is_empty());
        world.finish().await;
    }
}
