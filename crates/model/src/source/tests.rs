//! Tests of the specs of secret sources: kinds, bounds, what is local, and names of credentials.

use super::*;
use serde_json::{Value, json};

fn refused(spec: Value) -> Vec<String> {
    let spec: SourceSpec = serde_json::from_value(spec).unwrap();
    Source::refusals(&spec).iter().map(ToString::to_string).collect()
}

#[test]
fn a_source_has_one_kind_and_times_within_bounds() {
    for (bad, expected) in [
        (json!({"name": "a"}), "`name` must have exactly one kind"),
        (json!({"name": "a", "env": {"names": ["A"]}, "file": {"folder": "/run"}}), "`name` must"),
        (json!({"name": "a", "ttl": "500ms", "env": {"names": ["A"]}}), "`ttl` must"),
        (json!({"name": "a", "keep": "31d", "env": {"names": ["A"]}}), "`keep` must"),
        (json!({"name": "a", "env": {"names": []}}), "`env.names` must"),
        (json!({"name": "a", "file": {"folder": "run/secrets"}}), "`file.folder` must"),
        (json!({"name": "a", "command": {"run": []}}), "`command.run` must"),
        (json!({"name": "a", "vault": {"address": "http://vault.test"}}), "`vault.address` must"),
        (
            json!({"name": "a", "vault": {"address": "https://v.test", "version": 3}}),
            "`vault.version`",
        ),
        (
            json!({"name": "a", "bitwarden": {"api": "https://b.test/api"}}),
            "`bitwarden.identity` must",
        ),
        (
            json!({"name": "a", "bitwarden": {"identity": "https://b.test/identity"}}),
            "`bitwarden.api` must",
        ),
        (
            json!({"name": "a", "bitwarden": {"api": "http://b.test", "identity": "https://b.test"}}),
            "`bitwarden.api` must",
        ),
        (
            json!({"name": "a", "keychain": {"address": "unixexec:path=/bin/sh"}}),
            "`keychain.address` must",
        ),
        (json!({"name": "a", "keychain": {"address": "unix:path=bus"}}), "`keychain.address` must"),
    ] {
        let found = refused(bad.clone());
        assert!(found.len() == 1 && found[0].starts_with(expected), "{bad}: {found:?}");
    }
    let good = json!({"name": "a", "vault": {"address": "http://127.0.0.1:8200"}});
    assert!(refused(good).is_empty());
}

#[test]
fn a_source_that_reads_from_the_gateways_machine_is_local() {
    let is_local = |spec: Value| serde_json::from_value::<SourceSpec>(spec).unwrap().is_local();
    for local in [
        json!({"name": "a", "env": {"names": ["A"]}}),
        json!({"name": "a", "file": {"folder": "/run/secrets"}}),
        json!({"name": "a", "command": {"run": ["op", "read"]}}),
        json!({"name": "a", "keychain": {}}),
        json!({"name": "a", "vault": {"address": "https://v.test", "login": "kubernetes", "role": "r"}}),
    ] {
        assert!(is_local(local.clone()), "{local}");
    }
    assert!(!is_local(json!({"name": "a", "vault": {"address": "https://v.test"}})));
    assert!(!is_local(json!({"name": "a", "aws": {"region": "eu-west-1"}})));
}

#[test]
fn the_credentials_of_a_source_must_match_its_kind() {
    let names = |spec: Value, given: &[&str]| {
        let spec: SourceSpec = serde_json::from_value(spec).unwrap();
        let refusal = spec.credential_names().refusal(given.iter().copied());
        refusal.map(|it| it.to_string())
    };
    let aws = || json!({"name": "a", "aws": {"region": "eu-west-1"}});
    let missing = names(aws(), &["access_key_id"]).unwrap();
    assert_eq!(missing, "`credentials` must have `secret_access_key`");
    let unknown = names(aws(), &["access_key_id", "secret_access_key", "token"]).unwrap();
    assert_eq!(unknown, "`credentials` must not have `token`");
    assert_eq!(names(aws(), &["access_key_id", "secret_access_key", "session_token"]), None);
    assert_eq!(names(json!({"name": "a", "command": {"run": ["op"]}}), &["OP_TOKEN"]), None);
    let file = json!({"name": "a", "file": {"folder": "/run"}});
    assert_eq!(names(file, &["token"]).unwrap(), "`credentials` must not have `token`");
}
