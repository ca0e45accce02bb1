//! The tables of responses (OAuth 6) and of failures (OAuth 9).

mod codes;

use super::super::failure::Temporary;
use super::*;
use crate::tests::scripted_server::{answer, noon, oauth, secret, shown};
use keyward_rules::provider::Catalogue;

/// Reads an answer that was received at noon, for a provider with the facts `more`.
fn read_by(more: &str, answer: &Response<Bytes>) -> Result<Tokens, TokenFailure> {
    read_of(&oauth(more), answer)
}

/// Reads an answer that was received at noon, for a provider with these facts.
fn read_of(oauth: &OAuth, answer: &Response<Bytes>) -> Result<Tokens, TokenFailure> {
    let sent = secret("rt-canary-sent");
    let reading = ReplyContext {
        oauth,
        sent: noon(),
        ahead: SignedDuration::ZERO,
        token_bytes_max: 16 * 1024,
        secrets: vec![&sent],
        exchanged: false,
    };
    reading.tokens(answer)
}

fn read(body: &str) -> Result<Tokens, TokenFailure> {
    read_by("", &answer(200, &[], body.to_owned()))
}

fn taken(body: &str) -> Tokens {
    read(body).unwrap_or_else(|failure| panic!("{body}: {failure:?}"))
}

fn refused(status: u16, body: &str) -> TokenFailure {
    match read_by("", &answer(status, &[], body.to_owned())) {
        Err(failure) => failure,
        Ok(_) => panic!("{status} {body} was taken"),
    }
}

fn passes(failure: &TokenFailure) -> &Temporary {
    match failure {
        TokenFailure::Temporary(temporary) => temporary,
        TokenFailure::Permanent { .. } => panic!("it is permanent: {failure}"),
    }
}

fn life(body: &str) -> Option<i64> {
    let expires = taken(body).expires?;
    Some(expires.duration_since(noon()).as_secs())
}

/// oauth 6.form, 6.2, 6.14: content decides; 200 and 201 count.
#[test]
fn an_answer_without_an_object_with_a_token_is_a_temporary_failure() {
    for (status, body) in [
        (200, ""),
        (200, "   "),
        (200, "[]"),
        (200, "[{\"access_token\":\"a\"}]"),
        (200, "\"access_token\""),
        (200, "null"),
        (200, "{\"access_token\":\"a\""),
        (200, "{\"access_token\":\"a\"} x"),
        (200, "<html><body>login</body></html>"),
        (200, "token=a&expires_in=5"),
        (200, "{}"),
        (200, "{\"access_token\":null}"),
        (200, "{\"access_token\":\"\"}"),
        (200, "{\"access_token\":7}"),
        (200, "{\"access_token\":{\"a\":1}}"),
        (202, "{}"),
        (204, ""),
    ] {
        let failure = refused(status, body);
        assert!(!passes(&failure).unknown_code, "{status} {body}: {failure:?}");
    }
}

/// oauth 6.form, 6.14: a code in a link is not the server's answer.
#[test]
fn a_page_with_a_link_that_says_invalid_grant_ends_no_grant() {
    for status in [200, 400, 401, 403] {
        for body in [
            "<html><a href='/login?next=/&error=invalid_grant&hint=1'>again</a></html>",
            "<!doctype html><form action='?a=b&error=invalid_client&access_token=at'>",
            "Not allowed. See /login?a=b&error=invalid_grant",
            "&error=invalid_grant&",
        ] {
            let failure = refused(status, body);
            assert!(passes(&failure).cause.is_none(), "{status} {body}");
        }
    }
}

/// oauth 6.form: the description is in another charset; the code counts.
#[test]
fn an_answer_in_iso_8859_1_is_read() {
    let answer = |status: u16, body: &'static [u8]| {
        Response::builder().status(status).body(Bytes::from_static(body)).expect("a response")
    };
    let read = |status, body| read_by("", &answer(status, body));
    let tokens = read(200, b"{\"access_token\":\"at\",\"note\":\"caf\xe9\"}").expect("tokens");
    assert_eq!(shown(&tokens.access), "at");
    let over = read(400, b"{\"error\":\"invalid_grant\",\"error_description\":\"r\xe9voqu\xe9\"}");
    assert!(
        matches!(&over, Err(TokenFailure::Permanent { code, .. }) if code.as_str() == "invalid_grant"),
        "{over:?}"
    );
    assert!(read(200, b"{\"access_token\":\"caf\xe9\"}").is_err(), "no token of such characters");
}

/// oauth 6.form: notations of a good answer.
#[test]
fn a_token_answer_is_read_as_json_or_form_with_any_content_type() {
    let body = r#"{"access_token":"at"}"#;
    for (status, kind, body) in [
        (200, "application/json", body.to_owned()),
        (201, "application/json", body.to_owned()),
        (200, "text/plain", body.to_owned()),
        (200, "text/javascript; charset=utf-8", body.to_owned()),
        (200, "text/html", format!("\u{feff}\r\n {body}\n")),
        (200, "application/json", "access_token=at&token_type=bearer".to_owned()),
        (200, "application/x-www-form-urlencoded", "scope=a%20b&access_token=at".to_owned()),
    ] {
        let read = read_by("", &answer(status, &[("content-type", kind)], body.clone()));
        assert_eq!(shown(&read.expect("tokens").access), "at", "{kind}: {body}");
    }
    assert!(read_by("", &answer(200, &[], body.to_owned())).is_ok(), "no type at all");
}

/// oauth 6.1: an error counts with any status, and takes precedence over a token in the same answer.
#[test]
fn an_error_counts_in_any_status_and_before_a_token() {
    for status in [200, 201, 400, 401, 403] {
        for body in [
            r#"{"error":"invalid_grant","access_token":"at"}"#,
            r#"{"ok":false,"error":"invalid_grant","access_token":"at"}"#,
            "error=invalid_grant&access_token=at",
            r#"{"error":{"code":400,"status":"invalid_grant"},"access_token":"at"}"#,
        ] {
            let TokenFailure::Permanent { who, code, .. } = refused(status, body) else {
                panic!("{status} {body}")
            };
            assert_eq!(
                (who, code.as_str()),
                (ActingParty::Person, "invalid_grant"),
                "{status} {body}"
            );
        }
    }
    let failure = refused(200, r#"{"ok":false,"access_token":"at"}"#);
    assert!(passes(&failure).unknown_code, "Slack without a code: {failure:?}");
    for none in ["null", "\"\"", "false"] {
        taken(&format!(r#"{{"error":{none},"access_token":"at"}}"#));
    }
}

/// oauth 6.3: a token that cannot be sent in a header field gives no credential.
#[test]
fn an_access_token_with_other_than_visible_characters_is_refused() {
    for bad in ["a b", "a\\r\\nX: y", "a\\u0000", "a\\tb", "\\u00e9", " a", "a\\u007f"] {
        let failure = refused(200, &format!(r#"{{"access_token":"{bad}"}}"#));
        assert!(passes(&failure).what.contains("characters"), "{bad}");
    }
    let long = "x".repeat(16 * 1024);
    assert_eq!(shown(&taken(&format!(r#"{{"access_token":"{long}"}}"#)).access).len(), 16 * 1024);
    let failure = refused(200, &format!(r#"{{"access_token":"{long}x"}}"#));
    assert!(passes(&failure).what.contains("longer"));
}

/// oauth 5.token: what is accepted can be sent with its prefix, whatever the setting is.
#[test]
fn the_bound_on_an_access_token_includes_its_prefix() {
    let prefix = "x".repeat(1_100);
    let more = format!("placement: {{ header: Authorization, prefix: '{prefix} ' }}");
    let long = "x".repeat(16 * 1024);
    let failure = read_by(&more, &answer(200, &[], format!(r#"{{"access_token":"{long}"}}"#)));
    assert!(passes(&failure.expect_err("it cannot be written")).what.contains("longer"));
    let provider = crate::tests::scripted_server::provider("");
    let placed = &provider.auth[0].placements[0].places[0];
    let fields = std::collections::BTreeMap::from([("access_token".to_owned(), secret(&long))]);
    assert!(placed.value.render(&fields).is_ok(), "the longest one, with the usual prefix");
}

/// oauth 6.4
#[test]
fn only_bearer_tokens_are_accepted() {
    for good in ["\"bearer\"", "\"Bearer\"", "\"BEARER\"", "\"bot\"", "\"user\"", "null", "\"\""] {
        taken(&format!(r#"{{"access_token":"a","token_type":{good}}}"#));
    }
    for bad in ["\"mac\"", "\"DPoP\"", "\"N_A\"", "7", "[]"] {
        let failure = refused(200, &format!(r#"{{"access_token":"a","token_type":{bad}}}"#));
        let TokenFailure::Permanent { who, code, .. } = &failure else { panic!("{failure:?}") };
        assert_eq!(*who, ActingParty::Operator(Correction::Request), "{bad}");
        assert_eq!(code.as_str(), "not_bearer", "{bad}");
    }
}

/// oauth 6.5, 6.6: never "expired now", never an overflow.
#[test]
fn expires_in_is_read_as_number_or_text_and_is_unknown_if_invalid() {
    for (written, seconds) in
        [("3600", 3600), ("3600.7", 3600), ("\"3600\"", 3600), ("\" 60 \"", 60)]
    {
        let body = format!(r#"{{"access_token":"a","expires_in":{written}}}"#);
        assert_eq!(life(&body), Some(seconds), "{written}");
    }
    for unknown in [
        "null",
        "0",
        "-1",
        "\"\"",
        "\"soon\"",
        "true",
        "[]",
        "{}",
        "1e300",
        "99999999999999999999",
        "\"inf\"",
        "\"NaN\"",
        "315576001",
        "0.0",
    ] {
        let body = format!(r#"{{"access_token":"a","expires_in":{unknown}}}"#);
        assert_eq!(life(&body), None, "{unknown}");
    }
    assert_eq!(life(r#"{"access_token":"a"}"#), None);
}

/// oauth 6.6: the provider's usual lifetime applies where the answer has none and the token can be renewed; it never
/// replaces that of the answer.
#[test]
fn the_usual_lifetime_applies_only_where_the_answer_has_none() {
    let life = |more: &str, body: &str| {
        let more = format!("access_ttl: 2h{more}");
        let tokens = read_by(&more, &answer(200, &[], body.to_owned())).expect("tokens");
        tokens.expires.map(|end| end.duration_since(noon()).as_secs())
    };
    let alone = r#"{"access_token":"a"}"#;
    assert_eq!(life("", alone), None);
    assert_eq!(life("", r#"{"access_token":"a","refresh_token":"r"}"#), Some(7200));
    assert_eq!(life(", refresh: exchange_access_token", alone), Some(7200));
    assert_eq!(life(", grant: client_credentials", alone), Some(7200));
    assert_eq!(life("", r#"{"access_token":"a","refresh_token":"r","expires_in":60}"#), Some(60));
}

/// oauth 6.6, 7.5: Slack without token rotation, Miro and GitHub Apps with tokens that do not expire.
#[test]
fn slack_miro_and_github_tokens_expire_only_with_a_refresh_token() {
    let catalogue = Catalogue::built_in();
    for (id, method, hours) in
        [("slack", "oauth", 12), ("miro", "oauth", 1), ("github", "app_user", 8)]
    {
        let auth = catalogue.get(id).and_then(|provider| provider.auth(Some(method)));
        let oauth = auth.and_then(|auth| auth.oauth.clone()).expect(id);
        let life = |body: &'static str| {
            let tokens = read_of(&oauth, &answer(200, &[], body)).expect(id);
            tokens.expires.map(|end| end.duration_since(noon()).as_hours())
        };
        let (alone, renewed) =
            (r#"{"access_token":"a"}"#, r#"{"access_token":"a","refresh_token":"r"}"#);
        assert_eq!((life(alone), life(renewed)), (None, Some(hours)), "{id}");
    }
}

/// oauth 6.7: `expires_at` counts only where the provider's file says so.
#[test]
fn expires_at_counts_only_where_the_provider_file_names_it() {
    let body = r#"{"access_token":"a","expires_at":"2026-02-01T13:00:00Z"}"#;
    assert_eq!(life(body), None);
    let by = |more: &str, body: &str| {
        let tokens = read_by(more, &answer(200, &[], body.to_owned())).expect("tokens");
        tokens.expires.map(|end| end.duration_since(noon()).as_secs())
    };
    let at = "expires_path: expires_at, expires_format";
    assert_eq!(by(&format!("{at}: rfc3339"), body), Some(3600));
    let unix = noon().as_second() + 90;
    let body = format!(r#"{{"access_token":"a","expires_at":{unix}}}"#);
    assert_eq!(by(&format!("{at}: unix"), &body), Some(90));
    for bad in ["1", "\"yesterday\"", "null", "1e30", "\"2020-01-01T00:00:00Z\""] {
        let body = format!(r#"{{"access_token":"a","expires_at":{bad}}}"#);
        assert_eq!(by(&format!("{at}: rfc3339"), &body), None, "{bad}");
        assert_eq!(by(&format!("{at}: unix"), &body), None, "{bad}");
    }
}

/// oauth 6.8, 6.9. The tests of `stored` cover that an answer without a refresh token keeps the old one.
#[test]
fn an_empty_refresh_token_counts_as_none() {
    for none in ["", r#","refresh_token":null"#, r#","refresh_token":"""#, r#","refresh_token":7"#]
    {
        assert!(taken(&format!(r#"{{"access_token":"a"{none}}}"#)).refresh.is_none(), "{none}");
    }
    let tokens = taken(r#"{"access_token":"a","refresh_token":"r t/+="}"#);
    assert_eq!(tokens.refresh.as_ref().map(shown), Some("r t/+="));
    for bad in ["r\\u0000", "r\\n", "\\u00e9"] {
        passes(&refused(200, &format!(r#"{{"access_token":"a","refresh_token":"{bad}"}}"#)));
    }
}

/// oauth 6.10: shown as "reconnect before".
#[test]
fn the_expiry_of_the_refresh_token_is_read_under_both_of_its_names() {
    for name in ["refresh_token_expires_in", "x_refresh_token_expires_in"] {
        let tokens = taken(&format!(r#"{{"access_token":"a","{name}":100}}"#));
        let end = tokens.refresh_expires.expect("an end");
        assert_eq!(end.duration_since(noon()).as_secs(), 100);
    }
}

/// oauth 6.11
#[test]
fn scopes_are_read_in_any_notation_and_never_fail() {
    let scope =
        |written: &str| taken(&format!(r#"{{"access_token":"a","scope":{written}}}"#)).scope;
    let two = Some(vec!["a".to_owned(), "b".to_owned()]);
    for written in [r#""a b""#, r#""a,b""#, r#""a, b""#, r#"["a","b"]"#, r#"["a b"]"#] {
        assert_eq!(scope(written), two, "{written}");
    }
    assert_eq!(scope("7"), None);
    assert_eq!(scope("null"), None);
    assert_eq!(scope("[7]"), Some(vec![]));
}

/// oauth 6.12: Slack nests a user's token and its data in the answer.
#[test]
fn a_token_is_read_at_the_token_path_and_its_other_fields_next_to_it() {
    let body = r#"{"ok":true,"access_token":"","authed_user":{"id":"U1","access_token":"xoxp",
        "refresh_token":"xoxe","expires_in":43200,"scope":"a,b"},"x":{"deep":[1]},"token_type":"bot"}"#;
    let path = "token_path: [access_token, authed_user.access_token], account: [authed_user.id]";
    let tokens = read_by(path, &answer(200, &[], body)).expect("tokens");
    assert_eq!(shown(&tokens.access), "xoxp");
    assert_eq!(tokens.refresh.as_ref().map(shown), Some("xoxe"));
    assert_eq!(tokens.expires.map(|end| end.duration_since(noon()).as_secs()), Some(43200));
    assert_eq!(tokens.scope.map(|scope| scope.len()), Some(2));
    assert_eq!(tokens.account.as_deref(), Some("U1"));
}

/// oauth 9.3, 9.status: the status decides before the content for 5xx and 429.
#[test]
fn a_failing_server_ends_no_grant() {
    for status in [429, 500, 502, 503, 504, 599] {
        for body in [r#"{"error":"invalid_grant"}"#, "<html>", "", r#"{"access_token":"at"}"#] {
            let failure = refused(status, body);
            let passing = passes(&failure);
            assert!(!passing.unknown_code, "{status} {body}");
            assert_eq!(passing.whole_client, status == 429, "{status}");
        }
    }
    for body in ["", "busy"] {
        assert!(!passes(&refused(408, body)).unknown_code);
    }
}

/// oauth 9.4
#[test]
fn temporary_codes_are_temporary_in_any_status() {
    for code in [
        "temporarily_unavailable",
        "server_error",
        "slow_down",
        "rate_limit_exceeded",
        "rate_limited",
        "ratelimited",
    ] {
        for status in [200, 400, 401, 403] {
            let failure = refused(status, &format!(r#"{{"error":"{code}"}}"#));
            assert!(!passes(&failure).unknown_code, "{status} {code}");
        }
    }
}

/// oauth 9.5, 9.7
#[test]
fn an_unknown_code_is_a_temporary_failure_that_is_marked_as_unknown() {
    for (status, body, code) in [
        (400, r#"{"error":"quux"}"#, "quux"),
        (401, r#"{"error":"quux"}"#, "quux"),
        (403, r#"{"error":"quux"}"#, "quux"),
        (400, r#"{"error":"invalid_request"}"#, "invalid_request"),
        (400, r#"{"error":"authorization_pending"}"#, "authorization_pending"),
        (400, r#"{"error":"expired_token"}"#, "expired_token"),
        (400, r#"{"error":"access_denied"}"#, "access_denied"),
        (404, "<html>no such page</html>", "http_404"),
        (400, "", "http_400"),
        (401, "{}", "http_401"),
        (400, r#"{"error":7}"#, "7"),
    ] {
        let failure = refused(status, body);
        let passing = passes(&failure);
        assert!(passing.unknown_code, "{status} {body}");
        assert_eq!(passing.code.as_ref().map(|code| code.as_str()), Some(code), "{status} {body}");
    }
}

/// OAuth 9: the provider's own table takes precedence.
#[test]
fn error_codes_of_the_provider_file_take_precedence() {
    let quirks = "says: { permanent: [gone], rejected: [bad_app], temporary: [invalid_grant] }";
    let judged = |code: &str| {
        let body = format!(r#"{{"error":"{code}"}}"#);
        read_by(quirks, &answer(400, &[], body)).expect_err("an error")
    };
    assert!(matches!(judged("gone"), TokenFailure::Permanent { who: ActingParty::Person, .. }));
    assert!(matches!(
        judged("bad_app"),
        TokenFailure::Permanent { who: ActingParty::Operator(Correction::Credentials), .. }
    ));
    assert!(!passes(&judged("invalid_grant")).unknown_code);
}

/// oauth 9.said: codes are cleaned, descriptions are cut and masked.
#[test]
fn the_description_of_a_server_is_cleaned_cut_and_masked() {
    let long = "y".repeat(100);
    let body = format!(
        r#"{{"error":"in<va>lid grant {long}","error_subtype":"invalid_rapt",
            "error_description":"bad\u0000\r\n rt-canary-sent {} end"}}"#,
        "z".repeat(300)
    );
    let failure = refused(400, &body);
    let passing = passes(&failure);
    let code = passing.code.as_ref().expect("a code").as_str();
    assert!(code.starts_with("invalidgranty") && code.len() == 64, "{code}");
    let said = passing.said.as_ref().expect("a description");
    assert!(said.starts_with("bad *** zzz") && said.chars().count() == 200, "{said}");
    let echoed = refused(400, r#"{"error":"rt-canary-sent"}"#);
    assert_eq!(echoed.code().expect("a code").as_str(), "error");
    assert!(!format!("{failure:?}{echoed:?}").contains("rt-canary"));
}

/// oauth 10.3: both forms, only on 429 and 503, and garbage is ignored.
#[test]
fn retry_after_is_read_as_seconds_or_date_with_429_and_503_only() {
    let after = |status: u16, value: &str| {
        let answer = answer(status, &[("retry-after", value)], "");
        let failure = read_by("", &answer).expect_err("a failure");
        passes(&failure).retry_after.map(|pause| pause.as_secs())
    };
    for status in [429, 503] {
        assert_eq!(after(status, "7"), Some(7));
        assert_eq!(after(status, "Sun, 01 Feb 2026 12:01:00 GMT"), Some(60));
        assert_eq!(after(status, "Sun, 01 Feb 2026 11:00:00 GMT"), Some(0));
        assert!(after(status, "99999999999999999999").is_some(), "no overflow");
        for garbage in ["", "soon", "-5", "1.5", "7 s"] {
            assert_eq!(after(status, garbage), None, "{garbage}");
        }
    }
    assert_eq!(after(500, "7"), None);
    assert_eq!(after(400, "7"), None);
}

/// oauth 9.said: also in a description that quotes a parameter of the request.
#[test]
fn sent_secrets_are_masked_however_a_server_quotes_them() {
    let quoted = |text: &str| text.replace('-', "%2D");
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"sent {} and {}"}}"#,
        quoted("rt-canary-sent"),
        "72742d63616e6172792d73656e74",
    );
    let TokenFailure::Permanent { said: Some(said), .. } = refused(400, &body) else {
        panic!("the client is refused");
    };
    assert_eq!(said, format!("sent {} and {}", "*".repeat(18), "*".repeat(28)));
}
