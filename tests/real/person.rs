//! A user at the pages of `oidc-provider`, without a browser: signs in, agrees, and is redirected back. `consent.rs`
//! tests a real browser.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use test_support::authorization::{AUTH_HOST, ask_at};

/// Pages and redirects that a consent takes, and some.
const STEPS_MAX: usize = 20;

/// From the address of the question to the address that the person is sent back to.
///
/// # Panics
/// When the server does not ask for a consent.
pub(crate) async fn consents(server: SocketAddr, question: &str) -> String {
    consents_as(server, question, "alice").await
}

/// The same of somebody.
///
/// # Panics
/// As there.
pub(crate) async fn consents_as(server: SocketAddr, question: &str, login: &str) -> String {
    let own = format!("https://{AUTH_HOST}");
    let mut cookies: BTreeMap<String, String> = BTreeMap::new();
    let (mut to, mut form) = (question.to_owned(), String::new());
    for _ in 0..STEPS_MAX {
        let path = to.strip_prefix(&own).unwrap_or(&to);
        let kept: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let method = if form.is_empty() { "GET" } else { "POST" };
        let (cookie, length) = (kept.join("; "), form.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {AUTH_HOST}\r\nCookie: {cookie}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        );
        let answer = ask_at(server, request).await;
        for cookie in answer.head.all("set-cookie") {
            let (name, value) =
                cookie.split(';').next().expect("a pair").split_once('=').expect("=");
            match value.is_empty() {
                true => drop(cookies.remove(name)),
                false => drop(cookies.insert(name.to_owned(), value.to_owned())),
            }
        }
        if let Some(location) = answer.head.one("location") {
            if !location.starts_with(&own) && !location.starts_with('/') {
                return location.to_owned();
            }
            (to, form) = (location.to_owned(), String::new());
            continue;
        }
        let page = answer.text();
        assert_eq!(answer.head.status(), 200, "{page}");
        let (_, rest) = page.split_once("action=\"").expect("a form");
        to = rest.split('"').next().expect("an address").to_owned();
        let signs_in = page.contains("name=\"login\"");
        form = match signs_in {
            true => format!("prompt=login&login={login}&password=any"),
            false => "prompt=consent".to_owned(),
        };
    }
    panic!("no end after {STEPS_MAX} pages: {to}");
}
