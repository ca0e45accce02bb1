//! Failed refreshes: who must act, what the agent and the owner see, whether the refresh is tried again, and that all of
//! it survives a restart.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use test_support::authorization::{CLIENT, CLIENT_SECRET, Fault, Rules, answer};
use test_support::fleet::Fleet;
use test_support::oauth::{self, AGENT, World};
use test_support::tokens::{bank, fast, landed, rules, set};
use test_support::*;

/// One failure, and what it means.
struct Row {
    /// The rule, and the failure.
    label: String,
    fault: Fault,
    means: Means,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Means {
    /// Broken for this reason, with the server's code as detail.
    Over(&'static str),
    /// It passes.
    Passes,
}

use Means::{Over, Passes};

/// A code in each of these statuses. Which codes mean what, the crate's own tests say.
fn code(rule: &str, code: &str, statuses: &[u16], means: Means) -> Vec<Row> {
    let row = |status: &u16| Row {
        label: format!("{rule}: {code} with {status}"),
        fault: Fault::error(*status, code),
        means,
    };
    statuses.iter().map(row).collect()
}

fn passing(label: &str, fault: Fault) -> Row {
    Row { label: label.to_owned(), fault, means: Passes }
}

const STATUSES: &[u16] = &[200, 400, 401, 403];

/// An error whose code is not in `error`.
fn elsewhere(label: &str, body: &Value, means: Means) -> Row {
    Row { label: label.to_owned(), fault: Fault::json(400, body), means }
}

/// oauth 9.1, 9.2, 9.place, 9.quiet, 9.said
#[tokio::test]
async fn a_permanent_refresh_error_breaks_the_connection_and_is_not_retried() {
    let (revoked, rejected) = (Over("revoked"), Over("client_rejected"));
    let mut rows = code("9.1", "invalid_grant", STATUSES, revoked);
    rows.extend(code("9.1", "token_revoked", &[400], revoked));
    rows.extend(code("9.2", "invalid_client", STATUSES, rejected));
    rows.extend(code("9.2", "invalid_scope", &[400], rejected));
    let body = json!({ "status": "BAD_REFRESH_TOKEN", "message": "<b>no</b>" });
    rows.push(elsewhere("9.place: BAD_REFRESH_TOKEN in status", &body, revoked));
    let body = json!({ "error": { "type": "OAuthException", "code": "token_revoked" } });
    rows.push(elsewhere("9.place: token_revoked in an object", &body, revoked));
    plays(rows, ", rejected_backoff_first: 1h").await;
}

/// oauth 9.3, 9.status, 5.redirects, 5.coded, 5.body, 5.head, 5.whole
#[tokio::test]
async fn server_and_network_faults_are_temporary_and_a_later_refresh_heals_them() {
    let elsewhere = format!("https://{STRANGER}/token");
    let head = format!("X: {}\r\n", "x".repeat(40 * 1024));
    let code = json!({ "error": "invalid_grant" }).to_string();
    let rows = vec![
        passing("9.3: 500", Fault::status(500, "", "oops")),
        passing("9.3: 502 in HTML", Fault::bad_gateway()),
        passing("9.3: 503", Fault::status(503, "", "")),
        passing("9.3: 504", Fault::status(504, "", "")),
        passing("9.3: 599", Fault::status(599, "", "")),
        passing("9.3: 408", Fault::status(408, "", "")),
        passing("9.status: 500 with a code", Fault::status(500, "", &code)),
        passing("9.status: 503 with a code", Fault::status(503, "", &code)),
        passing("9.3: reset, nothing done", Fault::ResetBefore),
        passing("9.3: reset, all done", Fault::ResetAfter),
        passing("9.3: silence, nothing done", Fault::HangsBefore),
        passing("9.3: silence, all done", Fault::HangsAfter),
        passing("9.3: the stream ends", Fault::ClosesAfter),
        passing("9.3: half an answer", Fault::Truncates),
        passing("5.whole: a byte at a time", Fault::Drips(Duration::from_millis(50))),
        passing("5.body: too much", Fault::huge(256 * 1024)),
        passing("5.coded: gzip of too much", Fault::gzip_bomb(64 * 1024 * 1024)),
        passing("5.coded: not gzip", Fault::status(200, "Content-Encoding: gzip\r\n", "{}")),
        passing("5.redirects: 307", Fault::redirect(&elsewhere)),
        passing("5.redirects: 302", Fault::status(302, "Location: /token\r\n", "")),
        passing("5.head: too much", Fault::status(200, &head, "{}")),
        passing("9.3: no answer of a token endpoint", Fault::status(200, "", "<html>")),
    ];
    plays(rows, ", exchange_timeout: 2s, answer_timeout: 2s").await;
}

/// oauth 9.4, 9.5, 9.7, 9.place
#[tokio::test]
async fn temporary_and_unknown_error_codes_do_not_break_a_connection_at_once() {
    let mut rows = code("9.4", "server_error", STATUSES, Passes);
    rows.extend(code("9.4", "slow_down", &[200], Passes));
    rows.extend(code("9.5", "quux", &[400, 401, 403], Passes));
    rows.extend(code("9.7", "expired_token", &[400], Passes));
    rows.push(passing("9.5: 404 without a code", Fault::status(404, "", "<html>gone</html>")));
    rows.push(passing("9.5: 400 without a body", Fault::status(400, "", "")));
    let body = json!({ "status": "error", "code": "400", "message": "invalid_grant" });
    rows.push(elsewhere("9.place: the status in other words", &body, Passes));
    let body = json!({ "error": { "type": "OAuthException", "code": 4 } });
    rows.push(elsewhere("9.place: a number without a meaning", &body, Passes));
    plays(rows, "").await;
}

/// Each row at a connection of its own, before and after a restart.
async fn plays(rows: Vec<Row>, oauth: &str) {
    let rules = Rules { grace: Duration::from_secs(3_600), ..rules() };
    let mut fleet = Fleet::of(rows.len(), rules, oauth).await;
    for (number, row) in rows.iter().enumerate() {
        fails(&fleet, number, row).await;
    }
    fleet.restart().await;
    for (number, Row { label, means, .. }) in rows.iter().enumerate() {
        match means {
            Passes => {
                let before = fleet.authorization.calls().len();
                fleet.healed(number).await;
                let next = fleet.authorization.calls().swap_remove(before);
                assert_eq!(next.form["refresh_token"], fleet.refresh[number], "{label}");
                assert_eq!(fleet.shown(number).await["token"]["failing"], Value::Null, "{label}");
            }
            Over(reason) => is_over(&fleet, number, label, reason).await,
        }
    }
    assert!(fleet.lab.origin.received().iter().all(|it| it.head.target() == "/row"));
    fleet.finish().await;
}

async fn fails(fleet: &Fleet, number: usize, Row { label, fault, means }: &Row) {
    let sent = fleet.lab.origin.received().len();
    let (answer, calls) = fleet.ask_at(number, fault).await;
    assert_eq!(calls.len(), 1, "{label}: asked once");
    assert_eq!(calls[0].form["refresh_token"], fleet.refresh[number], "{label}");
    assert_eq!(fleet.lab.origin.received().len(), sent, "{label}: something went out");
    let (status, error) = answer.refusal();
    assert!(!answer.text().contains("<b>"), "{label}: the server's words: {}", answer.text());
    match means {
        Passes => {
            assert_eq!((status, error), (503, Some("refresh_unavailable")), "{label}");
            assert!(answer.head.has("retry-after"), "{label}");
            let shown = fleet.shown(number).await;
            assert_eq!(shown["state"], "active", "{label}");
            assert_eq!(shown["token"]["failing"]["count"], 1, "{label}: {shown:#}");
        }
        Over(reason) => is_over(fleet, number, label, reason).await,
    }
}

/// Told with who must act, and nobody is asked.
async fn is_over(fleet: &Fleet, number: usize, label: &str, reason: &str) {
    let code = label.split_whitespace().nth(1).expect("a code");
    let before = fleet.authorization.calls().len();
    for _ in 0..2 {
        let answer = fleet.ask(number).await;
        assert_eq!(answer.refusal(), (424, Some("connection_broken")), "{label}");
        let said = answer.text();
        let again = "put a new secret where the configuration file reads it";
        assert!(said.contains(code) && said.contains(again), "{label}: {said}");
    }
    assert_eq!(fleet.authorization.calls().len(), before, "{label}: asked again");
    let shown = fleet.shown(number).await;
    assert_eq!(
        (&shown["state"], &shown["reason"], &shown["detail"]),
        (&json!("broken"), &json!(reason), &json!(code)),
        "{label}"
    );
}

/// oauth 9.3: nobody there, and somebody who does not prove to be the server.
#[tokio::test]
async fn an_unreachable_or_impersonated_server_is_a_temporary_failure_and_gets_nothing() {
    let impostor = Origin::named(&["impostor.test"], |mut stream: Stream| async move {
        while stream.request().await.is_some() {}
    });
    let away = test_support::process::reserved_address();
    for addr in [impostor.addr, away] {
        let pair = "rt-of-a-server-that-is-away";
        let plan =
            Plan::new(&test_support::tokens::method(""), "{ refresh_token: { env: REFRESH } }");
        let lab = plan
            .variable("REFRESH", pair)
            .resolve(&format!("auth.acme.test: \"{addr}\""))
            .allow(&addr.to_string())
            .start(Origin::saying("fine"))
            .await;
        let refused = lab.ask("GET /a").await;
        assert_eq!(refused.head.one("keyward-error"), Some("refresh_unavailable"), "{addr}");
        let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
        assert_eq!(shown["state"], "active", "{shown:#}");
        assert!(lab.origin.received().is_empty());
        lab.finish().await;
    }
    assert!(impostor.received().is_empty());
}

/// oauth 9.5: what nobody knows is believed when it is said often enough for long enough, and another
/// answer in between begins anew.
#[tokio::test]
async fn an_unknown_error_code_that_repeats_breaks_the_connection() {
    let (authorization, lab) = bank(rules(), fast).await;
    set(&lab, |it| {
        (it.unknown_answers_max, it.unknown_answers_for) = (3, Duration::from_millis(1));
        it.backoff_max = it.backoff_first;
    });
    for code in ["quux", "quux", "other", "quux", "quux", "quux"] {
        authorization.fail_next(Fault::error(400, code));
    }
    let broken = async {
        loop {
            let answer = lab.ask("GET /a").await;
            match answer.head.one("keyward-error") {
                Some("refresh_unavailable") => {}
                _ => return answer,
            }
        }
    };
    patiently("the end of the connection", broken).await.is(424).says("quux");
    assert_eq!(authorization.calls().len(), 6);
    landed(&lab).await;
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!((&shown["state"], &shown["detail"]), (&json!("broken"), &json!("quux")));
    assert_eq!(shown["token"], Value::Null, "no request gets it: {shown:#}");
    let metrics = lab.gateway.metrics().await;
    assert!(metrics.contains("\nkeyward_connections_failing 0\n"), "{metrics}");
    lab.finish().await;
}

/// oauth 9.said: a code and a description that repeat what was sent, or would be markup.
#[tokio::test]
async fn error_texts_of_a_server_are_sanitised_and_reach_no_agent_and_no_log() {
    let (authorization, lab) = bank(rules(), fast).await;
    let echo = |status: u16, code: &str, said: &str| {
        Fault::Says(answer(status, &json!({ "error": code, "error_description": said })))
    };
    let code = format!("inv<al>id grant\u{7} {}", "y".repeat(100));
    authorization.fail_next(echo(400, &code, "canary-said <script>"));
    let told = lab.ask("GET /a").await;
    assert!(!told.text().contains("canary-said"), "{}", told.text());
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    let kept = shown["token"]["failing"]["code"].as_str().expect("a code").to_owned();
    assert!(kept.starts_with("invalidgranty") && kept.len() == 64, "{kept}");
    // The code is the refresh token itself.
    let sent = authorization.only_call().form["refresh_token"].clone();
    authorization.fail_always(echo(400, &sent, &sent));
    authorization.asked(1).await;
    let again = async {
        while authorization.calls().len() < 2 {
            lab.ask("GET /a").await;
        }
    };
    patiently("another refresh", again).await;
    landed_code(&lab).await;
    // That it is nowhere is what `finish` looks for.
    lab.finish().await;
}

async fn landed_code(lab: &Lab) {
    landed(lab).await;
    let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
    assert_eq!(shown["token"]["failing"]["code"], "error", "{shown:#}");
}

/// oauth 9.quiet, 8.1: without a person and without a refresh token, of a client that is refused.
#[tokio::test]
async fn client_credentials_with_a_wrong_secret_are_tried_once() {
    for secret in ["not-the-secret", CLIENT_SECRET] {
        let mut world = machine(secret).await;
        let right = secret == CLIENT_SECRET;
        for _ in 0..4 {
            let told = world.request().await;
            let error = told.head.one("keyward-error");
            assert_eq!(error.is_none(), right, "{}", told.text());
            assert!(right || told.text().contains("invalid_client"), "{}", told.text());
        }
        let call = world.server.only_call();
        assert_eq!(call.form["grant_type"], "client_credentials");
        world.lab.gateway.restart().await;
        assert_eq!(world.request().await.head.status(), if right { 200 } else { 424 });
        assert_eq!(world.server.calls().len(), 1, "after a restart neither");
        world.finish().await;
    }
}

/// oauth 9.5: as Glewlwyd refuses a client. The hint was that no action is needed.
#[tokio::test]
async fn a_refusal_without_a_code_names_what_to_check() {
    let world = machine(CLIENT_SECRET).await;
    world.server.fail_next(Fault::status(403, "", ""));
    let told = world.request().await;
    assert_eq!(told.refusal(), (503, Some("refresh_unavailable")), "{}", told.text());
    let told = told.json();
    let hint = told["error"]["hint"].as_str().expect("a hint");
    assert!(hint.contains("check the client id, the secret, the scopes"), "{hint}");
    assert!(hint.contains("it is tried again in"), "{hint}");
    assert_eq!(world.server.only_call().form["grant_type"], "client_credentials");
    world.finish().await;
}

/// A connection without a person.
async fn machine(secret: &str) -> World {
    let provider = oauth::provider("").replace("authorization_code", "client_credentials");
    let provider = provider.replace(&authorize(), "").replace(&device(), "");
    let world = World::with(Rules::default(), |plan| plan.provider(&provider)).await;
    oauth::app(&world.lab, "machine", (CLIENT, secret)).await;
    let new = json!({ "provider": "svc", "auth": "oauth", "name": "work", "app": "machine" });
    world.api("POST", "/connections", &new).await;
    let bind = json!({ "connection": "work" });
    world.api("POST", &format!("/agents/{AGENT}/bindings"), &bind).await;
    world
}

fn authorize() -> String {
    format!("authorize: \"https://{}/authorize\", ", test_support::authorization::AUTH_HOST)
}

fn device() -> String {
    format!("device: \"https://{}/device\", ", test_support::authorization::AUTH_HOST)
}

/// oauth 10.4, 10.2: the server means the client, and not one of its connections.
#[tokio::test]
async fn a_429_pauses_the_other_connections_of_the_same_client() {
    let fleet = Fleet::of(3, rules(), "").await;
    let (told, calls) = fleet.ask_at(0, &Fault::too_many("7")).await;
    assert_eq!((told.head.one("keyward-error"), calls.len()), (Some("refresh_unavailable"), 1));
    for row in [1, 2, 0] {
        let began = Instant::now();
        let told = fleet.ask(row).await;
        assert_eq!(told.head.one("keyward-error"), Some("refresh_unavailable"), "c{row}");
        let seconds: u64 = told.head.one("retry-after").expect("a time").parse().expect("seconds");
        assert!((3..=7).contains(&seconds), "c{row}: {seconds}");
        assert!(began.elapsed() < Duration::from_secs(5), "c{row}: it waited");
        let shown = fleet.shown(row).await;
        assert!(shown["token"]["client_paused"].is_string(), "c{row}: {shown:#}");
        assert_eq!(shown["token"]["failing"].is_object(), row == 0, "c{row}: {shown:#}");
    }
    assert_eq!(fleet.authorization.calls().len(), 1, "nobody asked meanwhile");
    fleet.finish().await;
}

/// oauth 10.3: garbage is no pause, and neither is what another status says.
#[tokio::test]
async fn an_invalid_or_irrelevant_retry_after_does_not_lengthen_the_pause() {
    let says = |status: u16, value: &str| {
        Fault::status(status, &format!("Retry-After: {value}\r\n"), "{}")
    };
    let faults = [
        says(429, "soon"),
        says(429, "-5"),
        says(503, "1.5 h"),
        says(503, "Fri, 01 Jan 1999 00:00:00 GMT"),
        says(500, "900"),
        says(400, "900"),
    ];
    let fleet = Fleet::of(faults.len(), rules(), "").await;
    for (row, fault) in faults.iter().enumerate() {
        let before = fleet.authorization.calls().len();
        fleet.authorization.fail_next(fault.clone());
        let failure = async {
            // A 429 before it may still pause this one.
            while fleet.authorization.calls().len() == before {
                fleet.ask(row).await;
            }
        };
        patiently("the failure", failure).await;
        let (now, began) = (fleet.authorization.calls().len(), Instant::now());
        assert_eq!(now, before + 1, "{row}");
        fleet.healed(row).await;
        assert!(began.elapsed() < Duration::from_secs(60), "{row}: {:?}", began.elapsed());
    }
    fleet.finish().await;
}

/// oauth 10.1: success ends what had grown.
#[tokio::test]
async fn a_successful_refresh_resets_the_count_of_failures() {
    let fleet = Fleet::of(1, rules(), "").await;
    for _ in 0..2 {
        let down = async {
            for count in 1..=4 {
                fleet.authorization.fail_next(Fault::bad_gateway());
                while fleet.shown(0).await["token"]["failing"]["count"] != json!(count) {
                    fleet.ask(0).await;
                }
            }
        };
        patiently("four failures", down).await;
        fleet.healed(0).await;
        assert_eq!(fleet.shown(0).await["token"]["failing"], Value::Null);
        fleet.authorization.issuer().expire_all();
    }
    fleet.finish().await;
}
