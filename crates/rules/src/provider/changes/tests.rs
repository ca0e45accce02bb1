//! Tests that change each key of a definition.

use super::*;
use serde_json::json;

fn map(value: Value) -> Map<String, Value> {
    value.as_object().expect("a map").clone()
}

/// A definition with most keys.
fn whole() -> Value {
    json!({
        "id": "acme", "name": "Acme", "category": "dev", "protocol": null,
        "hosts": ["{region}.acme.test", "upload.acme.test"], "paths": ["/v1/**"],
        "variables": [{
            "name": "region", "kind": "label", "choices": ["eu", "us"], "default": "eu",
            "label": "Region", "captured": false,
        }],
        "auth": [
            {
                "id": "key", "kind": "api_key", "label": "Key", "env": ["ACME_KEY"],
                "placement": {"header": "X-Key"}, "key": {"prefixes": ["ak_"], "length": 20},
            },
            {
                "id": "two", "kind": "custom",
                "fields": [
                    {"name": "account", "secret": false, "label": "Account"},
                    {"name": "token", "env": ["ACME_TOKEN"]},
                ],
                "placements": [{"hosts": ["upload.acme.test"], "paths": ["/v1/up"],
                    "place": {"basic": "{account}:{token}"}}],
            },
            {
                "id": "oauth", "kind": "oauth2", "authorize": "https://upload.acme.test/a",
                "token": "https://upload.acme.test/t", "scopes": ["read"], "client_auth": "body",
                "token_params": {"a": "b"}, "capture": {"pod": "pod"}, "account": ["login"],
            },
        ],
        "git": ["upload.acme.test"], "clears": {"headers": ["X-Old"]},
        "default_headers": {"X-Version": "1"}, "webhook_scheme": "acme",
        "test": {"url": "https://upload.acme.test/v1/me", "account": ["login"]},
        "actions": [{"name": "read", "label": "Read", "requests": [{"methods": ["GET"]}]}],
    })
}

fn changed(change: impl FnOnce(&mut Value)) -> Option<String> {
    let mut after = whole();
    change(&mut after);
    assert_ne!(after, whole(), "the change changes something");
    first_fixed_change(&map(whole()), &map(after), TestChange::Reading)
}

#[test]
fn hosts_variables_placements_and_oauth_endpoints_cannot_change() {
    let table: &[(&str, Value, &str)] = &[
        ("/id", json!("other"), "id"),
        ("/hosts/0", json!("evil.test"), "hosts"),
        ("/hosts", json!(["{region}.acme.test"]), "hosts"),
        ("/paths", json!([]), "paths"),
        ("/protocol", json!("postgres"), "protocol"),
        ("/variables/0/name", json!("other"), "variables[0].name"),
        ("/variables/0/kind", json!("host"), "variables[0].kind"),
        ("/variables/0/choices", json!(["eu", "us", "evil"]), "variables[0].choices"),
        ("/variables/0/default", json!("us"), "variables[0].default"),
        ("/variables/0/captured", json!(true), "variables[0].captured"),
        ("/variables", json!([]), "variables[0]"),
        ("/auth/0/id", json!("other"), "auth[0].id"),
        ("/auth/0/kind", json!("bearer"), "auth[0].kind"),
        ("/auth/0/placement/header", json!("X-Echoed"), "auth[0].placement"),
        // A placeholder shows which of them the key has.
        ("/auth/0/key/prefixes", json!(["ak_a", "ak_b"]), "auth[0].key.prefixes"),
        ("/auth/0/key", json!({"prefixes": ["ak_"], "suffixes": ["a"]}), "auth[0].key.suffixes"),
        ("/auth/0/key", Value::Null, "auth[0].key.prefixes"),
        ("/auth/0/placement", json!({"query": "key"}), "auth[0].placement"),
        ("/auth/1/fields/0/secret", json!(true), "auth[1].fields[0].secret"),
        ("/auth/1/fields/1/name", json!("other"), "auth[1].fields[1].name"),
        ("/auth/1/fields", json!([]), "auth[1].fields[0]"),
        ("/auth/1/placements/0/hosts/0", json!("evil.test"), "auth[1].placements"),
        ("/auth/1/placements/0/paths/0", json!("/**"), "auth[1].placements"),
        ("/auth/1/placements/0/place", json!({"query": "k"}), "auth[1].placements"),
        ("/auth/2/authorize", json!("https://evil.test/a"), "auth[2].authorize"),
        ("/auth/2/token", json!("https://evil.test/t"), "auth[2].token"),
        ("/auth/2/client_auth", json!("basic"), "auth[2].client_auth"),
        ("/auth/2/token_params/a", json!("c"), "auth[2].token_params"),
        ("/auth/2/capture/pod", json!("evil"), "auth[2].capture"),
        // Of the token's answer: it could be the token.
        ("/auth/2/account", json!(["access_token"]), "auth[2].account"),
        ("/git", json!([]), "git"),
        ("/clears/headers", json!([]), "clears"),
        ("/default_headers/X-Version", json!("{token}"), "default_headers"),
        ("/webhook_scheme", json!("other"), "webhook_scheme"),
    ];
    for (at, value, field) in table {
        let told = changed(|all| *all.pointer_mut(at).expect(at) = value.clone());
        assert_eq!(told.as_deref(), Some(*field), "{at}");
    }
}

#[test]
fn fixed_keys_and_auth_methods_cannot_be_added_or_removed() {
    let added: &[(&str, &str, Value, &str)] = &[
        ("", "extends", json!("github"), "extends"),
        ("", "mcp", json!("https://upload.acme.test/mcp"), "mcp"),
        ("", "templates", json!([]), "templates"),
        ("", "one_host", json!({}), "one_host"),
        ("", "a_later_key", json!(1), "a_later_key"),
        ("/auth/0", "tls", json!({"ca": "ca"}), "auth[0].tls"),
        ("/auth/0", "extra_headers", json!({"X-A": "{api_key}"}), "auth[0].extra_headers"),
        ("/auth/0", "signature", json!({"key": "api_key"}), "auth[0].signature"),
        ("/auth/0", "login", json!({"url": "https://evil.test/"}), "auth[0].login"),
        ("/auth/0", "fields", json!([{"name": "api_key", "secret": false}]), "auth[0].fields"),
        ("/auth/0", "a_later_key", json!(1), "auth[0].a_later_key"),
        ("/auth/1/fields/1", "prefixes", json!(["a"]), "auth[1].fields[1].prefixes"),
        ("/auth/1/fields/1", "secret", json!(false), "auth[1].fields[1].secret"),
        ("/auth/1/fields/1", "optional", json!(true), "auth[1].fields[1].optional"),
        ("/auth/2", "revoke", json!("https://evil.test/r"), "auth[2].revoke"),
        ("/auth/2", "userinfo", json!("https://evil.test/u"), "auth[2].userinfo"),
        ("/auth/2", "issuer", json!("https://evil.test"), "auth[2].issuer"),
        ("/variables/0", "within", json!("https://{}.evil.test"), "variables[0].within"),
    ];
    for (at, key, value, field) in added {
        let add = |all: &mut Value| {
            all.pointer_mut(at).expect(at)[*key] = value.clone();
        };
        assert_eq!(changed(add).as_deref(), Some(*field), "{at}/{key}");
        // The same change backwards.
        let mut with = whole();
        add(&mut with);
        let without = first_fixed_change(&map(with), &map(whole()), TestChange::Reading);
        assert_eq!(without.as_deref(), Some(*field), "{at}/{key} removed");
    }
    let method = json!({"id": "more", "kind": "bearer"});
    let more = changed(|all| all["auth"].as_array_mut().expect("a list").push(method));
    assert_eq!(more.as_deref(), Some("auth[3]"));
    let fewer = changed(|all| drop(all["auth"].as_array_mut().expect("a list").pop()));
    assert_eq!(fewer.as_deref(), Some("auth[2]"));
    let swapped = changed(|all| all["auth"].as_array_mut().expect("a list").swap(0, 1));
    assert_eq!(swapped.as_deref(), Some("auth[0].fields"), "another method is no longer that one");
}

#[test]
fn labels_key_shapes_environment_variables_actions_and_scopes_may_change() {
    for (at, value) in [
        ("/name", json!("Other")),
        ("/category", json!("crm")),
        ("/variables/0/label", json!("Where")),
        ("/auth/0/label", json!("Secret key")),
        ("/auth/0/env", json!(["OTHER_KEY"])),
        ("/auth/0/key", json!({"prefixes": ["ak_"], "pattern": "ak_[a-z]+", "letters": "hex"})),
        ("/auth/1/fields/0/label", json!("Number")),
        ("/auth/1/fields/1/env", json!([])),
        ("/auth/2/scopes", json!(["read", "write"])),
        ("/actions", json!([])),
        ("/test", Value::Null),
    ] {
        let told = changed(|all| *all.pointer_mut(at).expect(at) = value.clone());
        assert_eq!(told, None, "{at}");
    }
    for key in ["key_url", "docs_url", "quirks", "sources", "checked", "scope_words"] {
        assert_eq!(changed(|all| all[key] = json!("x")), None, "{key}");
    }
    assert_eq!(changed(|all| all["auth"][0]["note"] = json!("x")), None);
    assert_eq!(first_fixed_change(&map(whole()), &map(whole()), TestChange::Same), None);
}

#[test]
fn a_test_may_change_to_another_reading_one_but_not_for_private_connections() {
    let me = json!({"url": "https://upload.acme.test/v1/me", "account": ["login"]});
    let post = json!({"url": "https://upload.acme.test/q", "method": "POST", "json": {"q": 1}});
    let other = |url: &str| json!({"url": url, "account": ["key"]});
    let table = [
        // before, after, what stays for shared connections, and for private ones
        (me.clone(), json!({"url": me["url"], "account": ["mail"]}), None, None),
        (me.clone(), json!({"url": me["url"], "expect_status": 204}), None, None),
        (me.clone(), other("https://upload.acme.test/v1/keys"), None, Some("test.url")),
        (Value::Null, me.clone(), None, Some("test.url")),
        (Value::Null, post.clone(), Some("test.json"), Some("test.json")),
        (me.clone(), post.clone(), Some("test.json"), Some("test.json")),
        (post.clone(), me.clone(), None, Some("test.json")),
        (post.clone(), Value::Null, None, None),
        (
            post.clone(),
            json!({"url": "https://upload.acme.test/keys", "method": "POST", "json": {"q": 1}}),
            Some("test.url"),
            Some("test.url"),
        ),
        (
            me.clone(),
            json!({"url": me["url"], "method": "DELETE"}),
            Some("test.method"),
            Some("test.method"),
        ),
        (
            me.clone(),
            json!({"url": me["url"], "headers": {"X-A": "b"}}),
            Some("test.headers"),
            Some("test.headers"),
        ),
        (me.clone(), json!({"url": me["url"], "later": 1}), Some("test.later"), Some("test.later")),
        (me.clone(), json!([me]), Some("test"), Some("test")),
    ];
    for (before, after, shared, private) in table {
        for (tests, field) in [(TestChange::Reading, shared), (TestChange::Same, private)] {
            let at = |test: &Value| map(json!({"id": "acme", "test": test}));
            assert_eq!(
                first_fixed_change(&at(&before), &at(&after), tests).as_deref(),
                field,
                "{before} {after}"
            );
            let at = |test: &Value| map(json!({"auth": [{"id": "key", "test": test}]}));
            let told = first_fixed_change(&at(&before), &at(&after), tests);
            assert_eq!(told, field.map(|field| format!("auth[0].{field}")), "{before} {after}");
        }
    }
}
