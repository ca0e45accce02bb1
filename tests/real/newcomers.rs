//! Transcripts of users with a real client: what curl shows if a setting is missing.

use test_support::newcomer::Newcomer;
use test_support::*;

/// Of the right shape for GitHub, and canary.
const KEY: &str = "ghp_newcomerCANARYnewcomerCANARYnew12345";
const ADD: &str = "keyward connection add github --name work --no-test --secret-stdin token";
const CURL: &str = "curl -sS --max-time 20 https://api.github.com/user; echo";

macro_rules! reads {
    ($person:expr, $name:literal) => {
        insta::assert_snapshot!($name, $person.transcript())
    };
}

/// Before an origin that takes the live credential only.
fn person() -> (Newcomer, Origin) {
    let live = format!("Bearer {KEY}");
    let origin = Origin::answering_as(&["api.github.com"], move |request| {
        match request.head.all("authorization")[..] == [&*live] {
            true => ok("hello octocat"),
            false => "HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nno!".to_owned(),
        }
    });
    (Newcomer::before(&origin, &["api.github.com"]), origin)
}

/// Types in a thread that may wait: the origin lives in this one.
async fn typing(
    mut person: Newcomer,
    types: impl FnOnce(&mut Newcomer) + Send + 'static,
) -> Newcomer {
    let typed = tokio::task::spawn_blocking(move || {
        types(&mut person);
        person
    });
    typed.await.expect("nothing panics there")
}

#[tokio::test]
async fn the_first_request_takes_three_commands() {
    let (person, origin) = person();
    let person = typing(person, |person| {
        person.pastes(ADD, KEY);
        person.types("keyward agent add claude --json > /dev/null");
        person.types("keyward agent bind claude work");
        person.types(&format!("keyward run --agent claude -- {CURL}"));
    });
    let person = person.await;
    reads!(person, "first_request");
    assert_eq!(origin.only().head.all("authorization"), [format!("Bearer {KEY}")]);
}

#[tokio::test]
async fn curl_to_a_host_without_a_binding_prints_the_code_of_the_refusal() {
    let (person, origin) = person();
    let person = typing(person, |person| {
        person.pastes(ADD, KEY);
        person.types(&format!("keyward run -- {CURL} 2>&1"));
        person.types("keyward agent bind default work");
        person.types(&format!("keyward run -- {CURL}"));
    });
    let person = person.await;
    reads!(person, "host_denied");
    assert_eq!(origin.received().len(), 1);
}

#[tokio::test]
async fn curl_fails_without_the_ca_variables_of_run_and_works_with_them() {
    let (person, origin) = person();
    let person = typing(person, |person| {
        person.pastes(ADD, KEY);
        person.types("keyward agent add claude --json > /dev/null");
        person.types("keyward agent bind claude work --json > /dev/null");
        person.types(&format!(
            "keyward run --agent claude -- sh -c 'unset SSL_CERT_FILE CURL_CA_BUNDLE; {CURL}' \
             2>&1 | head -n 1"
        ));
        person.types(&format!("keyward run --agent claude -- {CURL}"));
    });
    let person = person.await;
    reads!(person, "ca_not_trusted");
    assert_eq!(origin.received().len(), 1);
}

#[tokio::test]
async fn curl_with_an_invalid_token_prints_the_407() {
    let (person, origin) = person();
    let person = typing(person, |person| {
        person.pastes(ADD, KEY);
        person.types("keyward agent add claude --json > /dev/null");
        person.types("keyward agent bind claude work --json > /dev/null");
        person.types(&format!(
            "keyward run --agent claude -- sh -c 'export https_proxy=http://claude:old@\
             ${{HTTPS_PROXY#*@}} HTTPS_PROXY=; {CURL}' 2>&1"
        ));
        person.types(&format!("keyward run --agent claude -- {CURL}"));
    });
    let person = person.await;
    reads!(person, "token_of_yesterday");
    assert_eq!(origin.received().len(), 1);
}
