//! What a token endpoint may answer to a refresh, oddity by oddity: what the agent gets, how the connection
//! stands, which refresh token is presented next, and all of it once more after a restart.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use test_support::authorization::{Fault, Rules, TokenCall, answer, encoded};
use test_support::fleet::Fleet;
use test_support::tokens::{bank_of, method, rules, usual};

/// One answer, and what follows.
struct Row {
    /// The rule, and what is odd.
    label: &'static str,
    fault: Fault,
    then: Then,
}

/// What follows.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The token is used, for so many seconds where that is known.
    Taken(Option<i64>),
    /// The same, and the old refresh token stays.
    TakenBeside(Option<i64>),
    /// It is tried again.
    Passes,
    /// The same, with the refresh token of the answer.
    PassesWithNext,
    /// The connection is broken, with this code.
    Breaks(&'static str),
    /// The client is rejected with this code, and not asked again.
    Rejected(&'static str),
}

use Then::{Breaks, Passes, PassesWithNext, Rejected, Taken, TakenBeside};

const HOUR: Option<i64> = Some(3_600);

fn row(label: &'static str, fault: Fault, then: Then) -> Row {
    Row { label, fault, then }
}

/// The honest answer with another life, as it would be written.
fn life(written: &'static str) -> Fault {
    bent("expires_in", written)
}

/// The honest answer with a member as it would be written.
fn bent(name: &'static str, written: &'static str) -> Fault {
    Fault::with(name, serde_json::from_str(written).expect("JSON"))
}

/// The honest answer as text of a kind.
fn text(kind: Option<&'static str>, around: (&'static str, &'static str)) -> Fault {
    Fault::worded(move |honest| (200, kind, format!("{}{honest}{}", around.0, around.1).into()))
}

/// The honest answer as a form.
fn form(kind: &'static str) -> Fault {
    Fault::worded(move |honest| {
        let pair = |name: &str| {
            let value = &honest[name];
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            format!("{name}={}", encoded(&value))
        };
        let names = ["access_token", "refresh_token", "expires_in", "token_type"];
        (200, Some(kind), names.map(pair).join("&").into())
    })
}

/// The honest answer with another status.
fn status(status: u16) -> Fault {
    Fault::Bends(Arc::new(move |honest| answer(status, &honest)))
}

/// Half of the honest answer, in a body that is whole as HTTP goes.
fn half() -> Fault {
    Fault::worded(|honest| {
        let text = honest.to_string();
        (200, Some("application/json"), text[..text.len() / 2].into())
    })
}

/// Not the honest answer, with status 200.
fn body(body: &'static str) -> Fault {
    Fault::worded(move |_| (200, Some("application/json"), body.into()))
}

fn notations() -> Vec<Row> {
    vec![
        row("6.form: text/plain", text(Some("text/plain"), ("", "")), Taken(HOUR)),
        row("6.form: javascript", text(Some("text/javascript; charset=x"), ("", "")), Taken(HOUR)),
        row("6.form: no type", text(None, ("", "")), Taken(HOUR)),
        row("6.form: mark and blanks", text(None, ("\u{feff}\r\n ", " \n")), Taken(HOUR)),
        row("6.form: a form", form("application/x-www-form-urlencoded"), Taken(HOUR)),
        row("6.form: a form called JSON", form("application/json"), Taken(HOUR)),
        row("5.coded: gzip", Fault::gzip(), Taken(HOUR)),
        row("6.form: 201", status(201), Taken(HOUR)),
        row("6.form: 202", status(202), Taken(HOUR)),
        row("6.14: HTML", body("<html><body>log in</body></html>"), Passes),
        row("6.14: nothing", body(""), Passes),
        row("6.14: a list", text(None, ("[", "]")), Passes),
        row("6.14: half of it", half(), Passes),
        row("6.14: more behind it", text(None, ("", " x")), Passes),
        row("6.14: too much", Fault::huge(256 * 1024), Passes),
        row("6.14: 303", Fault::status(303, "Location: /token\r\n", ""), Passes),
    ]
}

fn tokens() -> Vec<Row> {
    let long = "x".repeat(16 * 1024 + 1);
    vec![
        row(
            "6.1: an error beside a token",
            bent("error", "\"invalid_grant\""),
            Breaks("invalid_grant"),
        ),
        row(
            "6.1: not ok, with a code",
            Fault::Bends(Arc::new(|mut honest| {
                honest["ok"] = json!(false);
                honest["error"] = json!("token_revoked");
                answer(200, &honest)
            })),
            Breaks("token_revoked"),
        ),
        row("6.1: not ok", bent("ok", "false"), PassesWithNext),
        row("6.1: an unknown error", bent("error", "\"quux\""), PassesWithNext),
        row("9.status: 500 with tokens", status(500), PassesWithNext),
        row("6.1: ok", bent("ok", "true"), Taken(HOUR)),
        row("6.2: missing", Fault::without("access_token"), PassesWithNext),
        row("6.2: null", bent("access_token", "null"), PassesWithNext),
        row("6.2: empty", bent("access_token", "\"\""), PassesWithNext),
        row("6.2: a number", bent("access_token", "7"), PassesWithNext),
        row("6.2: an object", bent("access_token", "{\"a\":\"b\"}"), PassesWithNext),
        row("6.3: a blank", bent("access_token", "\"a evil-in-token\""), PassesWithNext),
        row(
            "6.3: a field",
            bent("access_token", "\"a\\r\\nX-Evil: evil-in-token\""),
            PassesWithNext,
        ),
        row("6.3: not ASCII", bent("access_token", "\"evil-in-token\\u00e9\""), PassesWithNext),
        row("6.3: too long", Fault::with("access_token", json!(long)), PassesWithNext),
        row("6.4: missing", Fault::without("token_type"), Taken(HOUR)),
        row("6.4: BEARER", bent("token_type", "\"BEARER\""), Taken(HOUR)),
        row("6.4: bot", bent("token_type", "\"bot\""), Taken(HOUR)),
        row("6.4: user", bent("token_type", "\"user\""), Taken(HOUR)),
        row("6.4: mac", bent("token_type", "\"mac\""), Rejected("not_bearer")),
        row("6.4: DPoP", bent("token_type", "\"DPoP\""), Rejected("not_bearer")),
        row("6.4: N_A", bent("token_type", "\"N_A\""), Rejected("not_bearer")),
        row("6.4: a number", bent("token_type", "7"), Rejected("not_bearer")),
        row("6.8: missing", Fault::without("refresh_token"), TakenBeside(HOUR)),
        row("6.8: null", bent("refresh_token", "null"), TakenBeside(HOUR)),
        row("6.8: empty", bent("refresh_token", "\"\""), TakenBeside(HOUR)),
        row("6.9: another", bent("x", "1"), Taken(HOUR)),
        row("6.10: its end", bent("refresh_token_expires_in", "1"), Taken(HOUR)),
        row("6.10: Intuit's", bent("x_refresh_token_expires_in", "1"), Taken(HOUR)),
        row("6.11: a list", bent("scope", "[\"a\",\"b\"]"), Taken(HOUR)),
        row("6.11: commas", bent("scope", "\"a,b\""), Taken(HOUR)),
        row("6.11: a number", bent("scope", "7"), Taken(HOUR)),
        row("6.12: nested", bent("authed_user", "{\"id\":\"U1\",\"x\":[1]}"), Taken(HOUR)),
        row("5.token: a refresh token", Fault::with("refresh_token", json!(long)), Passes),
    ]
}

fn lives() -> Vec<Row> {
    vec![
        row("6.5: an integer", life("3600"), Taken(HOUR)),
        row("6.5: a fraction", life("3600.7"), Taken(HOUR)),
        row("6.5: text", life("\"3600\""), Taken(HOUR)),
        row("6.6: missing", Fault::without("expires_in"), Taken(None)),
        row("6.6: null", life("null"), Taken(None)),
        row("6.6: 0", life("0"), Taken(None)),
        row("6.6: negative", life("-1"), Taken(None)),
        row("6.6: words", life("\"soon\""), Taken(None)),
        row("6.6: a bool", life("true"), Taken(None)),
        row("6.6: endless", life("1e300"), Taken(None)),
        row("6.6: over ten years", life("315576001"), Taken(None)),
        row(
            "6.7: a moment that nobody asked for",
            Fault::Bends(Arc::new(|mut honest| {
                honest.as_object_mut().expect("an object").remove("expires_in");
                honest["expires_at"] = json!("2020-01-01T00:00:00Z");
                answer(200, &honest)
            })),
            Taken(None),
        ),
    ]
}

/// oauth 6.form, 6.14, 5.body
#[tokio::test]
async fn token_answers_in_odd_formats_have_the_outcome_that_the_table_says() {
    plays(notations()).await;
}

/// oauth 6.1, 6.2, 6.3, 6.4, 6.8, 6.9, 6.10, 6.11, 6.12, 5.token
#[tokio::test]
async fn odd_members_of_a_token_answer_have_the_outcome_that_the_table_says() {
    plays(tokens()).await;
}

/// oauth 6.5, 6.6, 6.7
#[tokio::test]
async fn odd_expires_in_values_are_read_or_treated_as_unknown() {
    plays(lives()).await;
}

/// Each row at a connection of its own; a server that takes a spent token again shows which is presented.
async fn plays(rows: Vec<Row>) {
    let rules = Rules { grace: Duration::from_secs(3_600), ..rules() };
    let mut fleet = Fleet::of(rows.len(), rules, "").await;
    let mut first = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        first.push(begins(&fleet, number, row).await);
    }
    fleet.restart().await;
    for (number, (row, call)) in rows.iter().zip(first).enumerate() {
        goes_on(&fleet, number, row, &call).await;
    }
    let seen = fleet.lab.origin.bytes();
    assert!(test_support::wire::find(&seen, b"evil-in-token").is_none(), "it became a field");
    fleet.finish().await;
}

/// What the agent and the owner see of the answer itself.
async fn begins(fleet: &Fleet, number: usize, row: &Row) -> TokenCall {
    let Row { label, fault, then } = row;
    let before = fleet.lab.origin.received().len();
    let (answer, calls) = fleet.ask_at(number, fault).await;
    let [call] = &calls[..] else { panic!("{label}: {} calls", calls.len()) };
    let form = &call.form;
    assert_eq!(form["grant_type"], "refresh_token", "{label}");
    assert_eq!(form["refresh_token"], fleet.refresh[number], "{label}");
    let sent = fleet.lab.origin.received().split_off(before);
    let shown = fleet.shown(number).await;
    let error = answer.head.one("keyward-error");
    match then {
        Taken(life) | TakenBeside(life) => {
            assert_eq!((answer.head.status(), error), (200, None), "{label}: {}", answer.text());
            let access = &call.issued.as_ref().expect("tokens").access;
            let field = format!("Bearer {access}");
            assert_eq!(sent.len(), 1, "{label}");
            assert_eq!(sent[0].head.one("authorization"), Some(&*field), "{label}");
            assert_eq!(shown["state"], "active", "{label}");
            assert_life(label, &shown, *life);
        }
        Passes | PassesWithNext => {
            assert_eq!(error, Some("refresh_unavailable"), "{label}: {}", answer.text());
            assert_eq!((answer.head.status(), sent.len()), (503, 0), "{label}");
            assert!(answer.head.has("retry-after"), "{label}");
            assert_eq!(shown["state"], "active", "{label}");
            assert_eq!(shown["token"]["failing"]["count"], 1, "{label}: {shown:#}");
        }
        Breaks(code) | Rejected(code) => {
            assert_eq!(error, Some("connection_broken"), "{label}: {}", answer.text());
            assert_eq!((answer.head.status(), sent.len()), (424, 0), "{label}");
            let reason = if matches!(then, Breaks(_)) { "revoked" } else { "client_rejected" };
            assert_eq!(
                (&shown["state"], &shown["reason"], &shown["detail"]),
                (&json!("broken"), &json!(reason), &json!(code)),
                "{label}"
            );
        }
    }
    call.clone()
}

/// And after a restart, with a server that is well.
async fn goes_on(fleet: &Fleet, number: usize, row: &Row, first: &TokenCall) {
    let Row { label, then, .. } = row;
    let before = fleet.authorization.calls().len();
    let presented = || fleet.authorization.calls()[before].form["refresh_token"].clone();
    match then {
        Taken(life) | TakenBeside(life) => {
            let answer = fleet.ask(number).await;
            assert_eq!(answer.head.status(), 200, "{label}: {}", answer.text());
            assert_eq!(fleet.authorization.calls().len(), before, "{label}: refreshed needlessly");
            assert_life(label, &fleet.shown(number).await, *life);
            let path = format!("/connections/c{number}/refresh");
            let by_hand = fleet.lab.gateway.api("POST", &path, "{}").await;
            assert_eq!(by_hand.head.status(), 200, "{label}: {}", by_hand.text());
            let newer = first.issued.as_ref().and_then(|pair| pair.refresh.clone());
            let next = match then {
                TakenBeside(_) => fleet.refresh[number].clone(),
                _ => newer.expect("a refresh token"),
            };
            assert_eq!(presented(), next, "{label}: the refresh token that was kept");
        }
        Passes | PassesWithNext => {
            fleet.healed(number).await;
            let newer = first.issued.as_ref().and_then(|pair| pair.refresh.clone());
            let next = match then {
                PassesWithNext => newer.expect("a refresh token"),
                _ => fleet.refresh[number].clone(),
            };
            assert_eq!(presented(), next, "{label}: the refresh token that was kept");
            let shown = fleet.shown(number).await;
            assert_eq!(shown["token"]["failing"], Value::Null, "{label}: {shown:#}");
        }
        Rejected(_) => {
            let answer = fleet.ask(number).await;
            assert_eq!(answer.head.one("keyward-error"), Some("connection_broken"), "{label}");
            assert_eq!(fleet.authorization.calls().len(), before, "{label}: asked again");
            let remedy = answer.json()["error"]["hint"].as_str().expect("a remedy").to_owned();
            assert!(remedy.contains("DPoP") && !remedy.contains("secret"), "{label}: {remedy}");
            // When the server no longer binds its tokens.
            let path = format!("/connections/c{number}/refresh");
            let by_hand = fleet.lab.gateway.api("POST", &path, "{}").await;
            assert_eq!(by_hand.head.status(), 200, "{label}: {}", by_hand.text());
            let newer = first.issued.as_ref().and_then(|pair| pair.refresh.clone());
            assert_eq!(presented(), newer.expect("a refresh token"), "{label}");
        }
        Breaks(_) => {
            let answer = fleet.ask(number).await;
            assert_eq!(answer.head.one("keyward-error"), Some("connection_broken"), "{label}");
            assert_eq!(fleet.authorization.calls().len(), before, "{label}: asked again");
        }
    }
}

/// oauth 6.9: until the newer one is accepted, the one before it may be valid.
#[tokio::test]
async fn a_refused_refresh_token_of_an_error_answer_is_followed_by_the_one_before_it() {
    let rules = Rules { grace: Duration::from_secs(3_600), ..rules() };
    let mut fleet = Fleet::of(1, rules, "").await;
    let sent = fleet.refresh[0].clone();
    let odd = Fault::Bends(Arc::new(|mut honest| {
        honest["refresh_token"] = json!("unknown-to-the-server");
        answer(500, &honest)
    }));
    let (first, _) = fleet.ask_at(0, &odd).await;
    assert_eq!(first.head.one("keyward-error"), Some("refresh_unavailable"), "{}", first.text());
    fleet.restart().await;
    fleet.healed(0).await;
    let calls = fleet.authorization.calls();
    let presented: Vec<_> = calls.iter().map(|call| &call.form["refresh_token"]).collect();
    assert_eq!(presented, [&sent, "unknown-to-the-server", &sent]);
    // The one before it is not tried twice.
    fleet.authorization.issuer().end_all();
    fleet.lab.gateway.api("POST", "/connections/c0/refresh", "{}").await;
    assert_eq!(fleet.shown(0).await["state"], "broken");
    assert_eq!(fleet.authorization.calls().len(), 4);
    fleet.finish().await;
}

fn assert_life(label: &str, shown: &Value, life: Option<i64>) {
    let end = shown["token"]["expires"].as_str().map(|end| end.parse::<Timestamp>());
    let left = end.map(|end| end.expect("a moment").duration_since(Timestamp::now()).as_secs());
    match (left, life) {
        (None, None) => {}
        (Some(left), Some(life)) if (life - 120..=life).contains(&left) => {}
        _ => panic!("{label}: {left:?} s are left, of {life:?}"),
    }
}

/// oauth 6.7: by the provider's own notation.
#[tokio::test]
async fn an_absolute_expiry_time_is_read_where_the_provider_declares_its_format() {
    type Written = fn(Timestamp) -> Value;
    let notations: [(&str, Written); 2] =
        [("rfc3339", |end| json!(end.to_string())), ("unix", |end| json!(end.as_second()))];
    for (format, written) in notations {
        let method = method(&format!(", expires_path: expires_at, expires_format: {format}"));
        let (authorization, lab) = bank_of(&method, rules(), usual).await;
        let end = Timestamp::now() + Duration::from_secs(1_800);
        authorization.fail_next(Fault::with("expires_at", written(end)));
        assert_eq!(lab.ask("GET /a").await.text(), "fine");
        let shown = lab.gateway.api("GET", "/connections/acme", "").await.json();
        assert_life(format, &shown, Some(1_800));
        lab.finish().await;
    }
}
