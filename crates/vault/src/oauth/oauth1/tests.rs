//! The check of a callback of OAuth 1.0a.

use super::*;

fn checked(query: &str) -> Result<String, CallbackRefusal> {
    let temporary = TemporaryCredentials {
        token: SealedText::new("token-1"),
        secret: SealedText::new("secret-1"),
    };
    let callback = CallbackQuery::read(query)?;
    verifier(&temporary, &callback).map(|verifier| verifier.text().to_owned())
}

/// oauth 2.oauth1-token
#[test]
fn a_callback_for_other_temporary_credentials_is_refused() {
    for query in [
        "oauth_token=token-2&oauth_verifier=v",
        "oauth_token=&oauth_verifier=v",
        "oauth_verifier=v",
        "oauth_token=TOKEN-1&oauth_verifier=v",
        "oauth_token=secret-1&oauth_verifier=v",
    ] {
        assert!(matches!(checked(query), Err(CallbackRefusal::OtherToken)), "{query}");
    }
}

/// oauth 2.oauth1-token, 2.oauth1-denied
#[test]
fn a_callback_without_a_verifier_is_refused() {
    for query in ["oauth_token=token-1", "oauth_token=token-1&oauth_verifier="] {
        assert!(matches!(checked(query), Err(CallbackRefusal::NoVerifier)), "{query}");
    }
    assert_eq!(checked("oauth_token=token-1&oauth_verifier=v").ok().as_deref(), Some("v"));
}

/// oauth 2.oauth1-denied
#[test]
fn a_denial_wins_over_a_verifier_and_is_shown_in_the_words_of_keyward() {
    for query in [
        "denied=token-1",
        "denied=token-1&oauth_token=token-1&oauth_verifier=v",
        "oauth_problem=permission_denied&oauth_token=token-1&oauth_verifier=v",
        "oauth_problem=user_refused",
    ] {
        let refused = checked(query).err();
        let told = refused.map(|it| it.to_string());
        assert_eq!(told.as_deref(), Some("the consent was declined"), "{query}");
    }
    let odd = checked("oauth_problem=%3Cscript%3E").err().map(|it| it.to_string());
    assert_eq!(odd.as_deref(), Some("the provider refused the consent (script)"));
}
