//! Tests of the specs of secret sources: kinds, bounds, what is local, and names of credentials.

use super::*;

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
        (json!({"name": "a", "command": {"run": ["./op"]}}), "`command.run` must"),
        (json!({"name": "a", "command": {"run": ["op"], "timeout": "0s"}}), "`command.timeout`"),
        (json!({"name": "a", "command": {"run": ["op"], "timeout": "61s"}}), "`command.timeout`"),
        (json!({"name": "a", "aws": {"region": "EU"}}), "`aws.region` must"),
        (
            json!({"name": "a", "vault": {"address": "https://v.test", "mount": "kv/.."}}),
            "`vault.mount` must",
        ),
        (
            json!({"name": "a", "vault": {"address": "https://v.test", "login": "kubernetes"}}),
            "`vault.role` is required",
        ),
        (
            json!({"name": "a", "vault": {"address": "https://v.test", "token_file": "/t"}}),
            "`vault.token_file` is for",
        ),
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
    for good in [
        json!({"name": "a", "vault": {"address": "http://127.0.0.1:8200"}}),
        json!({"name": "a", "vault": {"address": "https://v.test", "mount": "a/..b/c.d"}}),
        json!({"name": "a", "vault": {"address": "https://v.test", "version": "2", "role": "r"}}),
        json!({"name": "a", "command": {"run": ["op"], "timeout": "60s"}}),
        json!({"name": "a", "command": {"run": ["/bin/op", "./a"], "timeout": "1500ms"}}),
    ] {
        let found = refused(good.clone());
        assert!(found.is_empty(), "{good}: {found:?}");
    }
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
        let refusal = spec.credential_names().unwrap().refusal(given.iter().copied());
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

#[test]
fn a_setting_of_another_kind_or_type_is_refused_where_it_stands() {
    let refused = |spec: Value| {
        let error = serde_path_to_error::deserialize::<_, SourceSpec>(&spec).unwrap_err();
        (error.path().to_string(), error.inner().to_string())
    };
    for (bad, path, message) in [
        (json!({"name": "a", "vualt": {}}), "vualt", "unknown field `vualt`"),
        (json!({"name": "a", "ttl": "soon"}), "ttl", "this is not a time"),
        (json!({"name": "a", "doppler": {"projct": "web"}}), "doppler.projct", "unknown field"),
        (json!({"name": "a", "vault": {}}), "vault", "missing field `address`"),
        (json!({"name": "a", "aws": {"region": 7}}), "aws.region", "invalid type"),
        (
            json!({"name": "a", "aws": {"region": "eu-west-1", "service": "s3"}}),
            "aws.service",
            "unknown variant `s3`, expected `secrets_manager` or `parameter_store`",
        ),
        (json!({"name": "a", "command": {"run": "op"}}), "command.run", "invalid type"),
        (json!({"name": "a", "doppler": ["web"]}), "doppler", "expected a map"),
    ] {
        let (at, text) = refused(bad.clone());
        assert!(at == path && text.contains(message), "{bad}: {at}: {text}");
    }
}

#[test]
fn settings_are_stored_as_given_with_defaults_and_without_nulls() {
    let given = json!({"name": "a", "ttl": "60s", "doppler": null, "vault": {
        "address": "https://v.test", "version": 1, "mount": null
    }});
    let spec: SourceSpec = serde_json::from_value(given).unwrap();
    let stored = json!({"name": "a", "ttl": "1m", "vault": {
        "address": "https://v.test", "version": 1, "login": "token"
    }});
    assert_eq!(serde_json::to_value(&spec).unwrap(), stored);
    assert_eq!(serde_json::from_value::<SourceSpec>(stored).unwrap(), spec);
}

#[test]
fn a_reference_has_the_form_of_its_kind() {
    let parts = |kind: &str, reference: &str| {
        let pattern = SourceKind::find(kind).unwrap().reference.pattern.as_ref().unwrap();
        pattern.parts(reference).map(|parts| {
            parts.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(" ")
        })
    };
    for bad in [
        "",
        "API_KEY",
        "be8e0ad8-d545-4017-a55a-b02f014d415",
        "be8e0ad8-d545-4017-a55a-b02f014d41588",
        "be8e0ad8d5454017a55ab02f014d4158",
        "../e0ad8-d545-4017-a55a-b02f014d4158",
        "be8e0ad8-d545-4017-a55a-b02f014d4158/",
    ] {
        assert_eq!(parts("bitwarden", bad), None, "{bad}");
    }
    assert!(parts("bitwarden", "be8e0ad8-d545-4017-a55a-b02f014d4158").is_some());
    for (kind, reference, expected) in [
        ("infisical", "API_KEY", Some("name=API_KEY")),
        ("infisical", "/API_KEY", Some("folder= name=API_KEY")),
        ("infisical", "/a/b//API_KEY", Some("folder=a/b name=API_KEY")),
        ("infisical", "team/", None),
        ("gcp", "api", Some("name=api")),
        ("gcp", "api/versions/3", Some("name=api version=3")),
        ("gcp", "api/3", None),
        ("azure", "a/b/c", None),
        ("onepassword", "op://Dev/Acme/key", Some("vault=Dev item=Acme field=key")),
        ("onepassword", "op://Dev/Acme/api/key", Some("vault=Dev item=Acme section=api field=key")),
        ("onepassword", "op://Dev/key", None),
        ("onepassword", "op://Dev/\"/key", None),
    ] {
        assert_eq!(parts(kind, reference).as_deref(), expected, "{kind}: {reference}");
    }
}

#[test]
fn every_kind_has_a_form_of_references_and_a_refusal_for_each_pattern() {
    for kind in source_kinds() {
        assert!(kind.local.is_some() || !kind.reference.must.is_empty(), "{}", kind.id);
        for setting in kind.settings.iter().filter(|it| it.value != ValueForm::Url) {
            let is_judged = setting.pattern.is_some() || setting.first.is_some();
            assert_eq!(setting.must.is_some(), is_judged, "{}.{}", kind.id, setting.name);
        }
    }
}
