//! Error codes: what they end, and those that are not the text in `error`: in an object there, as a number, or in another
//! member.

use super::*;

/// The failure of a service of the catalogue, by its own file.
fn refused_by(id: &str, status: u16, body: &str) -> TokenFailure {
    let catalogue = Catalogue::built_in();
    let auth = catalogue.get(id).and_then(|provider| provider.auth(Some("oauth")));
    let oauth = auth.and_then(|auth| auth.oauth.clone()).expect(id);
    read_of(&oauth, &answer(status, &[], body.to_owned())).map(drop).expect_err(id)
}

/// An error of Meta (<https://developers.facebook.com/docs/graph-api/guides/error-handling>).
fn meta(code: u32) -> String {
    format!(
        r#"{{"error":{{"message":"why","type":"OAuthException","code":{code},"error_subcode":460}}}}"#
    )
}

/// oauth 9.place: the type is the same for all of them.
#[test]
fn numbers_of_meta_tell_an_expired_token_from_a_rate_limit() {
    for id in ["facebook", "instagram", "threads"] {
        for status in [200, 400, 401, 403] {
            let over = refused_by(id, status, &meta(190));
            let TokenFailure::Permanent { who, code, said } = &over else {
                panic!("{id}: {over:?}")
            };
            assert_eq!((*who, code.as_str()), (ActingParty::Person, "190"), "{id} {status}");
            assert_eq!(said.as_deref(), Some("why"), "{id} {status}");
            for number in [2, 4, 17, 32] {
                let later = refused_by(id, status, &meta(number));
                assert!(!passes(&later).unknown_code, "{id} {status} {number}");
                let code = later.code().map(|code| code.as_str());
                assert_eq!(code, Some(&*number.to_string()), "{id} {status}");
            }
            let unknown = refused_by(id, status, &meta(10));
            assert!(passes(&unknown).unknown_code, "{id} {status}");
            assert_eq!(unknown.code().map(|code| code.as_str()), Some("OAuthException"));
        }
    }
}

/// oauth 9.place: the likeliest one is `error`, then `status`, `type`, `code`.
#[test]
fn the_first_code_with_a_meaning_counts_in_an_error_of_several_members() {
    for (inner, code) in [
        (r#""type":"invalid_request_error","code":"token_expired""#, "token_expired"),
        (r#""status":"UNAUTHENTICATED","code":401,"error":"invalid_client""#, "invalid_client"),
        (r#""status":"slow_down","code":"invalid_grant""#, "slow_down"),
        (r#""status":"DENIED","type":"quux","code":7"#, "DENIED"),
        (r#""code":7"#, "7"),
        (r#""message":"why""#, "error"),
    ] {
        let failure = refused(400, &format!(r#"{{"error":{{{inner}}}}}"#));
        assert_eq!(failure.code().map(|code| code.as_str()), Some(code), "{inner}");
    }
}

/// oauth 9.place: HubSpot's older endpoint.
#[test]
fn a_code_with_a_meaning_counts_in_status_and_code_if_there_is_no_error() {
    let body = r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}"#;
    let over = refused_by("hubspot", 400, body);
    let TokenFailure::Permanent { who, code, said } = &over else { panic!("{over:?}") };
    assert_eq!((*who, code.as_str()), (ActingParty::Person, "BAD_REFRESH_TOKEN"));
    assert_eq!(said.as_deref(), Some("missing or invalid refresh token"));
    let quirks = "says: { permanent: [grant_gone] }";
    let body = r#"{"status":"error","code":"grant_gone"}"#;
    let over = read_by(quirks, &answer(401, &[], body)).expect_err("an error");
    assert_eq!(over.code().map(|code| code.as_str()), Some("grant_gone"));
    assert!(matches!(over, TokenFailure::Permanent { .. }), "{over:?}");
}

/// oauth 9.place: most servers repeat the status there, and a token's answer may have such members.
#[test]
fn status_and_code_without_a_meaning_or_in_an_answer_with_2xx_are_no_error() {
    for body in [
        r#"{"status":"error","code":"400"}"#,
        r#"{"status":400,"code":190}"#,
        r#"{"status":"Bad Request","message":"invalid_grant"}"#,
        r#"{"error":"quux","status":"invalid_grant"}"#,
    ] {
        let failure = refused(400, body);
        assert!(passes(&failure).unknown_code, "{body}: {failure:?}");
        let code = if body.contains("quux") { "quux" } else { "http_400" };
        assert_eq!(failure.code().map(|code| code.as_str()), Some(code), "{body}");
    }
    let tokens = taken(r#"{"access_token":"at","status":"invalid_grant","code":"invalid_client"}"#);
    assert_eq!(shown(&tokens.access), "at");
    for status in [429, 503] {
        let failure = refused(status, r#"{"status":"BAD_REFRESH_TOKEN"}"#);
        assert!(!passes(&failure).unknown_code, "{status}: {failure:?}");
    }
}

/// oauth 9.2: Keycloak says so of a wrong secret with 401. Without 401 the client is known (RFC 6749 §5.2).
#[test]
fn an_unauthorized_client_with_401_has_wrong_credentials_and_otherwise_a_wrong_request() {
    for (status, correction) in [
        (401, Correction::Credentials),
        (400, Correction::Request),
        (403, Correction::Request),
        (200, Correction::Request),
    ] {
        let failure = refused(status, r#"{"error":"unauthorized_client"}"#);
        let TokenFailure::Permanent { who, .. } = &failure else { panic!("{failure:?}") };
        assert_eq!(*who, ActingParty::Operator(correction), "{status}");
    }
}

/// oauth 9.said: the standard code alone decides.
#[test]
fn a_known_code_of_a_service_is_explained_and_classifies_nothing() {
    let told = |code: &str, number: &str| {
        let body = format!(
            r#"{{"error":"{code}","error_description":"{number}: Why.\r\nTrace ID: 1","error_codes":[1]}}"#
        );
        refused_by("microsoft", 400, &body)
    };
    for (code, number, meaning) in [
        ("invalid_client", "AADSTS7000222", "the client secret has expired"),
        ("invalid_grant", "AADSTS50173", "the access was revoked"),
        ("invalid_request", "AADSTS90002", "there is no such tenant"),
        ("interaction_required", "AADSTS50076", "multi-factor authentication is required"),
    ] {
        let (failure, plain) = (told(code, number), told(code, "AADSTS1"));
        let (own, of_plain) = (failure.code().expect("a code"), plain.code().expect("a code"));
        assert_eq!((own.as_str(), &*own.to_string()), (code, &*format!("{code}, {number}")));
        assert_eq!(of_plain.to_string(), code, "an unknown number");
        assert!(
            failure.to_string().contains(&format!("({code}, {number}: {meaning}")),
            "{failure}"
        );
        let who = |failure: &TokenFailure| match failure {
            TokenFailure::Permanent { who, .. } => Some(*who),
            TokenFailure::Temporary(_) => None,
        };
        assert_eq!(who(&failure), who(&plain), "{code}");
        assert_eq!(failure.is_of_invalid_client(), code == "invalid_client");
    }
}

/// oauth 9.place: HubSpot's older endpoint, for codes and clients.
#[test]
fn codes_of_hubspot_name_the_wrong_part_of_an_exchange() {
    for (code, meaning) in [
        ("BAD_AUTH_CODE", "the code is unknown or was used already"),
        ("BAD_CLIENT_ID", "the client id is unknown"),
        ("BAD_CLIENT_SECRET", "the client secret is wrong"),
        ("BAD_REDIRECT_URI", "the app has another redirect URI"),
    ] {
        let body = format!(r#"{{"status":"{code}","message":"why","correlationId":"1"}}"#);
        let failure = refused_by("hubspot", 400, &body);
        assert!(failure.to_string().contains(&format!("({code}: {meaning})")), "{failure}");
        assert_eq!(failure.is_of_invalid_client(), code.starts_with("BAD_CLIENT"), "{code}");
    }
}

/// oauth 9.1, 9.2: in any status.
#[test]
fn codes_that_end_a_grant_or_refuse_a_client_do_so_in_any_status() {
    let person = [
        "invalid_grant",
        "bad_refresh_token",
        "invalid_refresh_token",
        "token_revoked",
        "token_expired",
        "invalid_auth",
        "account_inactive",
        "interaction_required",
        "login_required",
        "consent_required",
    ];
    let client = [
        "invalid_client",
        "invalid_client_id",
        "bad_client_secret",
        "incorrect_client_credentials",
    ];
    let request = [
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "invalid_dpop_proof",
        "use_dpop_nonce",
    ];
    for (codes, acts) in [
        (&person[..], ActingParty::Person),
        (&client[..], ActingParty::Operator(Correction::Credentials)),
        (&request[..], ActingParty::Operator(Correction::Request)),
    ] {
        for code in codes {
            for status in [200, 400, 401, 403] {
                match refused(status, &format!(r#"{{"error":"{code}"}}"#)) {
                    TokenFailure::Permanent { who, code: said, .. } => {
                        assert_eq!((who, said.as_str()), (acts, *code), "{status}");
                    }
                    other => panic!("{status} {code}: {other:?}"),
                }
            }
        }
    }
}

/// oauth 9.words: the answers of services to a refresh token that has ended.
#[test]
fn the_words_of_a_service_for_an_ended_refresh_token_end_the_grant() {
    let strava = r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#;
    for (id, status, body, said) in [
        (
            "x",
            400,
            r#"{"error":"invalid_request","error_description":"Value passed for the token was invalid."}"#,
            "Value passed for the token was invalid.",
        ),
        ("strava", 400, strava, "Bad Request"),
        ("zoho-crm", 200, r#"{"error":"invalid_code"}"#, ""),
        (
            "twitch",
            400,
            r#"{"status":400,"message":"Invalid refresh token"}"#,
            "Invalid refresh token",
        ),
        (
            "fitbit",
            400,
            r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: x"}],"success":false}"#,
            "Refresh token invalid: x",
        ),
        ("reddit", 400, r#"{"message":"Bad Request","error":400}"#, "Bad Request"),
        ("zoom", 401, r#"{"reason":"Invalid Token!","error":"invalid_request"}"#, "Invalid Token!"),
    ] {
        let over = refused_by(id, status, body);
        let TokenFailure::Permanent { who, said: told, .. } = &over else {
            panic!("{id}: {over:?}")
        };
        assert_eq!(
            (*who, told.as_deref().unwrap_or_default()),
            (ActingParty::Person, said),
            "{id}"
        );
    }
}

/// oauth 9.words: the same code for another reason, another resource, a code of the client.
#[test]
fn other_answers_of_these_services_end_no_grant() {
    for (id, body) in [
        (
            "x",
            r#"{"error":"invalid_request","error_description":"Missing required parameter [grant_type]."}"#,
        ),
        (
            "strava",
            r#"{"message":"Bad Request","errors":[{"resource":"Application","field":"client_id","code":"invalid"}]}"#,
        ),
        ("twitch", r#"{"status":400,"message":"missing client id"}"#),
        ("zoom", r#"{"reason":"Bad Request","error":"invalid_request"}"#),
    ] {
        let failure = refused_by(id, 400, body);
        assert!(passes(&failure).unknown_code, "{id}: {failure:?}");
    }
    let client = r#"{"errors":[{"errorType":"invalid_client","message":"no"}],"success":false}"#;
    assert!(refused_by("fitbit", 401, client).is_of_invalid_client());
}

/// oauth 9.said: no code, and still words.
#[test]
fn the_message_of_an_answer_without_a_code_is_kept_cut_and_cleaned() {
    for (body, said) in [
        (
            r#"{"message":"This installation has been suspended","documentation_url":"https://x"}"#,
            "This installation has been suspended",
        ),
        (r#"{"detail":"a\u0007 b\n c"}"#, "a b c"),
        (r#"{"errors":[{"message":"first"},{"message":"second"}]}"#, "first"),
    ] {
        for status in [403, 404, 422] {
            assert_eq!(
                passes(&refused(status, body)).said.as_deref(),
                Some(said),
                "{status} {body}"
            );
        }
    }
    let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(1_000));
    assert_eq!(passes(&refused(422, &long)).said.as_ref().map(String::len), Some(200));
}
