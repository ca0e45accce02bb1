//! Webhooks that the services' libraries for Python sign, verified by `keyward-hooks`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use keyward_base::secret::Secret;
use keyward_hooks::{Incoming, Rejection};

use crate::stage::installed;

/// What `sign.py` prints for each request.
#[derive(Deserialize)]
struct Signed {
    scheme: String,
    secret: String,
    headers: BTreeMap<String, String>,
    body: String,
    url: String,
}

impl Signed {
    fn verify(&self, body: &str, now: Timestamp) -> Result<String, Rejection> {
        let header = |(name, value): (&String, &String)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (name.parse::<HeaderName>().expect("a name"), value)
        };
        let headers: HeaderMap = self.headers.iter().map(header).collect();
        let (method, url, body) = (&Method::POST, self.url.as_str(), body.as_bytes());
        let incoming = Incoming { method, url, headers: &headers, body };
        let scheme = keyward_hooks::get(&self.scheme).expect("a scheme");
        let secret = Secret::from(self.secret.clone());
        scheme.check_secret(&secret).expect("the form of the service's secrets");
        scheme.verify(&incoming, &[secret], now).map(|verified| verified.id)
    }
}

/// Requests that were signed at `now`.
fn signed(now: Timestamp) -> Vec<Signed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/programs/webhooks/sign.py");
    let mut command = Command::new(installed("real-venv/bin/python"));
    let output = command.arg(script).arg(now.as_second().to_string()).output();
    let output = output.expect("`tests/run` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn signatures_of_the_services_libraries_are_verified_and_changed_bodies_refused() {
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let all = signed(now);
    assert_eq!(all.len(), 41);
    for request in &all {
        let label = &request.scheme;
        let id = request.verify(&request.body, now).unwrap_or_else(|why| panic!("{label}: {why}"));
        assert!(!id.is_empty(), "{label}");
        let altered = request.body.replace("100", "900").replace("8005551212", "8005551213");
        assert_ne!(altered, request.body);
        let refused = request.verify(&altered, now);
        assert_eq!(refused, Err(Rejection::SignatureWrong), "{label}");
        let late = request.verify(&request.body, now + SignedDuration::from_hours(1));
        let is_timed = request.headers.iter().any(|(name, value)| {
            let says = |text: &str| value.contains(text);
            name.to_lowercase().contains("timestamp") || says("1800000000")
        });
        assert_eq!(late.err(), is_timed.then_some(Rejection::TooOld), "{label}");
    }
}
