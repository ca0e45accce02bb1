//! No secret that is in the file by mistake, or by `insecure_inline`, is ever repeated.

use proptest::prelude::*;

use super::said;

/// Ways in which a secret gets into a file; `SECRET` marks its place.
const MISTAKES: &[&str] = &[
    "agents: [{ name: a, token: SECRET }]",
    "agents: [{ name: a, token: 'SECRET' }]",
    "agents: [{ name: a, token: [SECRET] }]",
    "agents: [{ name: a, token: { SECRET } }]",
    "agents: [{ name: a, token: { SECRET: x } }]",
    "agents: [{ name: a, token: { value: SECRET } }]",
    "agents: [{ name: a, token: { env: '-SECRET' } }]",
    "agents: [{ name: a, token: { env: A, value: SECRET } }]",
    "agents: [{ name: a, token: { command: SECRET } }]",
    "agents: [{ name: a, token: { file: [SECRET] } }]",
    "agents: [{ name: a, token: SECRET",
    "agents: [{ name: a, token: 'SECRET }]",
    "agents: [{ name: a, token: *SECRET }]",
    "agents: [{ name: a, token: !SECRET x }]",
    "agents: [{ name: a, token: SECRET: x: y }]",
    "agents:\n  - name: a\n    token: SECRET\n   - name: b\n",
    "agents:\n  - name: a\n\ttoken: SECRET\n",
    "agents: SECRET",
    "agents: [SECRET]",
    "insecure_inline: true\nagents: [{ name: a, token: 'SECRET:' }]",
    "insecure_inline: true\nzzz: 1\nagents: [{ name: a, token: SECRET }]",
    "master_key: SECRET",
    "master_key: [SECRET]",
    "master_key: { SECRET }",
    "insecure_inline: true\nmaster_key: SECRET",
    "store: { postgres: { url: 'postgres://u:SECRET@db/k' } }",
    "store: SECRET",
    "upstream: { proxy: { url: 'http://u:SECRET@corp:3128' } }",
    "upstream: { proxy: { url: 'http://SECRET/corp' } }",
    "upstream: { proxy: { url: 'http://corp:3128', user: u, password: SECRET } }",
    "public_url: 'https://u:SECRET@keyward.example.com'",
    "apps: [{ name: a, client_secret: SECRET }]",
    "apps: [{ name: a, provider: github, client_id: x, client_secret: SECRET }]",
    "apps: [{ name: a, provider: github, client_id: x, private_key: [SECRET] }]",
    "apps: [{ name: a, provider: github, client_id: x, settings: SECRET }]",
    "apps: [{ name: a, provider: github, client_id: x, settings: { refresh_buffer: SECRET } }]",
    "apps: [{ name: a, provider: github, client_id: x, settings: { token_params: { client_secret: SECRET } } }]",
    "apps: [{ name: a, provider: github, client_id: x, urls: { token: 'https://u:SECRET@a.test/t' } }]",
    "sign_in: { oidc: { issuer: 'https://a.test', client_id: x, client_secret: SECRET, groups: [a], default_role: member } }",
    "sign_in: { oidc: { issuer: 'https://a.test', client_id: x, client_secret: { SECRET }, groups: [a], default_role: member } }",
    "sign_in: { oidc: { issuer: 'https://u:SECRET@a.test', client_id: x, client_secret: { env: S }, groups: [a], default_role: member } }",
    "telemetry: { otlp: { endpoint: 'https://u:SECRET@collector.test' } }",
    "telemetry: { otlp: { endpoint: 'https://collector.test/?key=SECRET' } }",
    "telemetry: { otlp: { endpoint: 'https://collector.test', headers: { api-key: SECRET } } }",
    "telemetry: { otlp: { endpoint: 'https://collector.test', headers: SECRET } }",
    "connections: [{ name: a, provider: github, fields: { token: SECRET } }]",
    "connections: [{ name: a, provider: github, fields: { SECRET } }]",
    "connections: [{ name: a, provider: github, fields: SECRET }]",
    "connections: [{ name: a, provider: github, fields: [SECRET] }]",
    "connections: [{ name: a, provider: githb, fields: { token: SECRET } }]",
    "connections: [{ name: a, provider: github, auth: app, fields: { token: SECRET } }]",
    "insecure_inline: true\nconnections: [{ name: a, provider: telegram-bot, fields: { api_key: SECRET } }]",
    "connections: [{ name: a, provider: shopify, variables: { shop: 'SECRET.' }, fields: { api_key: SECRET } }]",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn messages_about_an_invalid_file_never_contain_its_secret(body in "[A-Za-z0-9_]{16,40}", digits in "[1-9][0-9]{15}") {
        for secret in [format!("sk-live-{body}"), format!("kwa_{body}"), digits] {
            for mistake in MISTAKES {
                let yaml = mistake.replace("SECRET", &secret);
                let said = said(&yaml, &[]);
                prop_assert!(!said.is_empty(), "{mistake}");
                prop_assert!(!said.contains(&secret), "{mistake}: {said}");
            }
        }
    }

    #[test]
    fn messages_about_an_invalid_variable_never_contain_its_secret(body in "[A-Za-z0-9_]{16,40}") {
        for (name, value) in [
            ("KEYWARD__AGENTS", "[{ name: a, token: SECRET }]"),
            ("KEYWARD__AGENTS", "[{ name: a, token: SECRET"),
            ("KEYWARD__MASTER_KEY", "SECRET"),
            ("KEYWARD__MASTER_KEY__VALUE", "SECRET"),
        ] {
            let said = said("", &[(name, &value.replace("SECRET", &body))]);
            prop_assert!(!said.is_empty() && !said.contains(&body), "{name}: {said}");
        }
    }
}
