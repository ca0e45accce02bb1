//! Providers, connections, agents and rules that are refused, and the exact lines that say so.

use super::said;

/// YAML and what is said of it.
const CONNECTIONS: &[(&str, &[&str])] = &[
    (
        "connections: { name: a }",
        &["keyward.yaml:1: connections: this is not a list; write `- …` items"],
    ),
    (
        "connections: [{ provider: githb }]",
        &[
            "keyward.yaml:1: connections[0]: `name` is missing; add `name:`",
            "keyward.yaml:1: connections[0].provider: there is no provider `githb`; did you mean `github`?",
        ],
    ),
    (
        "connections:\n  - { name: a, provider: githb }\n  - { name: a, provider: github, auth: pta }\n  - { name: b, provider: github, auth: app }\n  - { name: con_x, provider: not-a-service }",
        &[
            "keyward.yaml:2: connections[0].provider: there is no provider `githb`; did you mean `github`?",
            "keyward.yaml:3: connections[1].name: the name `a` is used twice; rename or remove one",
            "keyward.yaml:3: connections[1].auth: provider `github` has no auth method `pta`; write pat or oauth_app or app_user or app",
            "keyward.yaml:4: connections[2].fields: field `app_id` is missing; add `fields: { app_id: … }`",
            "keyward.yaml:4: connections[2].fields: field `installation_id` is missing; add `fields: { installation_id: … }`",
            "keyward.yaml:4: connections[2].fields: field `private_key` is missing; add `fields: { private_key: { env: NAME } }`",
            "keyward.yaml:5: connections[3].name: `name` must be 1 to 64 letters, digits or `-_.`, not an id and not only dots; write another one",
            "keyward.yaml:5: connections[3].provider: there is no provider `not-a-service`; define it under `providers:`, or see `keyward provider list`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: ghp_canary } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: 123456 } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { ghp_canary } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token: this is not the source of a secret; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { file: x, env: Y } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token: this names more than one source of the secret; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { envv: X } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token: this is not the source of a secret; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token: the secret is missing; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github }]",
        &[
            "keyward.yaml:1: connections[0].fields: field `token` is missing; add `fields: { token: { env: NAME } }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { tokn: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.tokn: auth method `pat` has no such field; did you mean `token`?",
            "keyward.yaml:1: connections[0].fields: field `token` is missing; add `fields: { token: { env: NAME } }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: ghp_canary }]",
        &["keyward.yaml:1: connections[0].fields: this is text; write a map"],
    ),
    (
        r#"connections: [{ name: a b, provider: github, fields: { token: { env: X } }, org: Acme, environment: "", settings: { timeout: 30s } }]"#,
        &[
            "keyward.yaml:1: connections[0].org: this is not the name of an organisation; write 2 to 40 lower-case letters, digits or inner hyphens",
            "keyward.yaml:1: connections[0].name: `name` must be 1 to 64 letters, digits or `-_.`, not an id and not only dots; write another one",
            "keyward.yaml:1: connections[0].environment: `environment` must be 1 to 64 printable characters; write another one",
        ],
    ),
    (
        "connections:\n  - { name: kwa_x, provider: github, fields: { token: { env: X } } }\n  - { name: kwp_x, provider: github, fields: { token: { env: X } } }",
        &[
            "keyward.yaml:2: connections[0].name: the name looks like an id or a token; choose another beginning",
            "keyward.yaml:3: connections[1].name: the name looks like an id or a token; choose another beginning",
        ],
    ),
    // All parts of an item are searched for the nearest key.
    (
        "connections: [{ name: a, provider: github, feilds: { token: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0].feilds: unknown key `feilds`; did you mean `fields`?",
            "keyward.yaml:1: connections[0].fields: field `token` is missing; add `fields: { token: { env: NAME } }`",
        ],
    ),
    (
        "hooks: [{ name: a, to: \"https://a.test/\" }]",
        &[
            "keyward.yaml:1: hooks[0].scheme: `scheme` is required without `connection`; add `scheme:`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { env: X } }, expires: 90d }]",
        &[
            "keyward.yaml:1: connections[0].expires: `expires` must be a day or a time: a time span would end later at each start; write 2026-01-31",
        ],
    ),
    (
        "connections: [{ name: a, provider: shopify, fields: { access_token: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0].variables: variable `shop` is missing; add `variables: { shop: … }`",
            "keyward.yaml:1: connections[0].fields.access_token: auth method `access_token` has no such field; known here: api_key",
            "keyward.yaml:1: connections[0].fields: field `api_key` is missing; add `fields: { api_key: { env: NAME } }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: shopify, variables: { shop: a.b }, fields: { access_token: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0].variables.shop: `shop` must be one label of letters, digits and hyphens, such as `my-company`",
            "keyward.yaml:1: connections[0].fields.access_token: auth method `access_token` has no such field; known here: api_key",
            "keyward.yaml:1: connections[0].fields: field `api_key` is missing; add `fields: { api_key: { env: NAME } }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: shopify, variables: { shp: a }, fields: { access_token: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0].variables.shp: provider `shopify` has no variable `shp`; did you mean `shop`?",
            "keyward.yaml:1: connections[0].fields.access_token: auth method `access_token` has no such field; known here: api_key",
            "keyward.yaml:1: connections[0].fields: field `api_key` is missing; add `fields: { api_key: { env: NAME } }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, variables: { shop: a }, fields: { token: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0].variables.shop: provider `github` has no variable `shop`; remove it: there is none",
        ],
    ),
    (
        "insecure_inline: true\nconnections: [{ name: a, provider: telegram-bot, fields: { api_key: canary } }]",
        &[
            "keyward.yaml:2: connections[0].fields.api_key: this does not look like a `api_key`; copy it again, whole",
        ],
    ),
    (
        "insecure_inline: true\nconnections: [{ name: a, provider: github, fields: { token: 12345 } }]",
        &["keyward.yaml:2: connections[0].fields.token: this is not text; put it in quotes"],
    ),
    (
        "providers:\n  - { id: acme, name: Acme, hosts: [api.acme.test], auth: [{ id: k, kind: api_key }] }\nconnections: [{ name: a, provider: acme, fields: { api_key: { env: X } } }]",
        &[
            "keyward.yaml:2: providers[0].auth[0]: kind `api_key` needs a placement; add `placement: { header: … }`",
        ],
    ),
    (
        "providers:\n  - { id: github, name: Acme, hosts: [api.acme.test], auth: [{ id: k, kind: api_key, placement: { header: X-K } }] }",
        &["keyward.yaml:2: providers[0].id: `github` is a built-in provider; choose another id"],
    ),
    (
        "connections: [{ provider: githb, fields: { token: x } }]",
        &[
            "keyward.yaml:1: connections[0]: `name` is missing; add `name:`",
            "keyward.yaml:1: connections[0].provider: there is no provider `githb`; did you mean `github`?",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { ghp_canary } }]",
        &[
            "keyward.yaml:1: connections[0].fields: a field has no value; write `fields: { NAME: { env: VARIABLE } }`",
            "keyward.yaml:1: connections[0].fields: field `token` is missing; add `fields: { token: { env: NAME } }`",
        ],
    ),
    (
        "connections: [{ name: a }, { provider: github, fields: { token: { env: X } } }]",
        &[
            "keyward.yaml:1: connections[0]: `provider` is missing; add `provider:`",
            "keyward.yaml:1: connections[1]: `name` is missing; add `name:`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { env: 1X } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token.env: this is not the name of an environment variable; write letters, digits and `_`, as in `{ env: NAME }`",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { env: [X] } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token.env: this is not the name of an environment variable; write letters, digits and `_`, as in `{ env: NAME }`",
        ],
    ),
    (
        r#"connections: [{ name: a, provider: github, fields: { token: { file: "" } } }]"#,
        &["keyward.yaml:1: connections[0].fields.token.file: the path is empty; name a file"],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { command: [] } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token.command: this is not a program with arguments; write `{ command: [PROGRAM, ARGUMENT] }`, each in quotes where needed",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, fields: { token: { command: [cat, 1] } } }]",
        &[
            "keyward.yaml:1: connections[0].fields.token.command: this is not a program with arguments; write `{ command: [PROGRAM, ARGUMENT] }`, each in quotes where needed",
        ],
    ),
    (
        "connections: [{ name: a, provider: github, app: x, fields: { token: [ghp_canary] } }]",
        &[
            "keyward.yaml:1: connections[0].app: auth method `pat` is not OAuth: it needs no app; remove it",
            "keyward.yaml:1: connections[0].fields.token: this is a list, not the source of a secret; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        r#"insecure_inline: true
connections: [{ name: a, provider: github, fields: { token: "" } }]"#,
        &[
            "keyward.yaml:2: connections[0].fields.token: the secret is empty; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
];

/// YAML and what is said of it.
const AGENTS_AND_RULES: &[(&str, &[&str])] = &[
    (
        "agents: [{ name: a, token: kwa_canary }, { name: a/b }, { name: a, use: x }]",
        &[
            "keyward.yaml:1: agents[0].token: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
            "keyward.yaml:1: agents[1].name: `name` must be 1 to 64 letters, digits or `-._~`, not an id and not only dots; write another one",
            "keyward.yaml:1: agents[2].use: this is text; write a list",
        ],
    ),
    (
        "insecure_inline: true\nagents: [{ name: a, token: shortcanary }]",
        &[
            "keyward.yaml:2: agents[0].token: this is not a token; choose at least 20 letters, digits or `-._~`, or omit it for an issued one",
        ],
    ),
    (
        r#"connections: [{ name: gh, provider: github, environment: production, fields: { token: { env: X } } }]
agents: [{ name: a, environment: dev, use: [gh, gh, ""] }]"#,
        &[
            "keyward.yaml:2: agents[0].use[0]: the agent is in environment `dev`, `gh` is in `production`; use a connection of the same environment",
            "keyward.yaml:2: agents[0].use[1]: `gh` is named twice; remove one",
            "keyward.yaml:2: agents[0].use[2]: the name is empty; name a connection",
        ],
    ),
    (
        r#"agents: [{ name: "a:b", labels: { team: "" } }]"#,
        &[
            "keyward.yaml:1: agents[0].name: `name` must be 1 to 64 letters, digits or `-._~`, not an id and not only dots; write another one",
            "keyward.yaml:1: agents[0].labels.team: `labels.team` must be 1 to 64 printable bytes; write another one",
        ],
    ),
    (
        "rules: [{ name: a }]",
        &[
            "keyward.yaml:1: rules[0]: the rule has neither `use` nor `action`; add `use: CONNECTION` or `action: deny`",
        ],
    ),
    (
        r#"rules:
  - { name: a, action: dney, hosts: [a.test] }
  - { name: a, action: deny, use: x, hosts: [a.test] }
  - { action: tunnel, hosts: [a.test], methods: [GET] }
  - { action: deny, hosts: ["*.com", "a b", "*"], paths: [x], methods: ["G ET", GTE] }
  - { action: deny, agents: [], hosts: [] }
  - { action: deny, hots: [a] }
  - { action: explode }
  - { use: x, host: a, org: "a/b" }"#,
        &[
            "keyward.yaml:2: rules[0].action: there is no action `dney`; did you mean `deny`?",
            "keyward.yaml:3: rules[1].name: the name `a` is used twice; rename or remove one",
            "keyward.yaml:3: rules[1].action: `deny` injects nothing, but `use` names a connection; omit `use` or `action`",
            "keyward.yaml:4: rules[2].action: methods, paths and actions cannot be seen in a tunnel; omit them, or write `action: pass`",
            "keyward.yaml:5: rules[3].hosts[0]: `*.com` covers a public suffix: name a registrable domain, such as `*.example.com`",
            "keyward.yaml:5: rules[3].hosts[1]: `a b` is not a host pattern: write `api.example.com`, `*.example.com` or `api.example.com:8443`",
            "keyward.yaml:5: rules[3].hosts[2]: `*` is not a host pattern: write `api.example.com`, `*.example.com` or `api.example.com:8443`; omit `hosts` to mean all",
            "keyward.yaml:5: rules[3].paths[0]: `x` is not a path pattern: begin with `/`; `*` \
             means one segment or a part of it, and `**`, as a whole segment, any number of them",
            "keyward.yaml:5: rules[3].methods[0]: this is not a method; write GET, POST or another",
            "keyward.yaml:5: rules[3].methods[1]: `GTE` is no usual method; did you mean `GET`?",
            "keyward.yaml:6: rules[4].agents: the list is empty; name one, or omit `agents`",
            "keyward.yaml:6: rules[4].hosts: the list is empty; name one, or omit `hosts`",
            "keyward.yaml:7: rules[5].hots: unknown key `hots`; did you mean `hosts`?",
            "keyward.yaml:8: rules[6].action: there is no action `explode`; write inject, deny, pass, tunnel",
            "keyward.yaml:9: rules[7].host: unknown key `host`; did you mean `hosts`?",
            "keyward.yaml:9: rules[7].org: this is not the name of an organisation; write 2 to 40 lower-case letters, digits or inner hyphens",
        ],
    ),
    // YAML reads a key whose items are all commented out as `null`.
    (
        r#"rules:
  - { action: pass, agents: , hosts: , methods: , paths:  }
  - { use: x, actions: , branches: [] }"#,
        &[
            "keyward.yaml:2: rules[0].agents: the list is empty; name one, or omit `agents`",
            "keyward.yaml:2: rules[0].hosts: the list is empty; name one, or omit `hosts`",
            "keyward.yaml:2: rules[0].methods: the list is empty; name one, or omit `methods`",
            "keyward.yaml:2: rules[0].paths: the list is empty; name one, or omit `paths`",
            "keyward.yaml:3: rules[1].actions: the list is empty; name one, or omit `actions`",
            "keyward.yaml:3: rules[1].branches: the list is empty; name one, or omit `branches`",
        ],
    ),
    (
        "agents: [{ name: a, use: [{ connection: x, allow: }, { connection: y, deny: [] }] }]",
        &[
            "keyward.yaml:1: agents[0].use[0].allow: the list is empty; name one, or omit `allow`",
            "keyward.yaml:1: agents[0].use[1].deny: the list is empty; name one, or omit `deny`",
        ],
    ),
    (
        r#"connections: [{ name: a, provider: postgres, variables: { host: db.test, database: app }, fields: { username: u, password: { env: X } }, settings: { statements: , tables: [], functions: [] } }]"#,
        &[
            "keyward.yaml:1: connections[0].settings.statements: the list is empty; name one, or omit `statements`",
            "keyward.yaml:1: connections[0].settings.tables: the list is empty; name one, or omit `tables`",
            "keyward.yaml:1: connections[0].settings.functions: the list is empty; name one, or omit `functions`",
        ],
    ),
    ("rules: nothing", &["keyward.yaml:1: rules: this is not a list; write `- …` items"]),
    (
        "rules: [ *x ]",
        &["keyward.yaml:1: not YAML: while parsing node, found unknown anchor; correct the syntax"],
    ),
    (
        "agents: [{ name: kwa_x }]",
        &[
            "keyward.yaml:1: agents[0].name: the name looks like an id or a token; choose another beginning",
        ],
    ),
    ("agents: [x]", &["keyward.yaml:1: agents[0]: this is text; write a map"]),
    (
        "agents: [{ token: { env: X } }]",
        &["keyward.yaml:1: agents[0]: `name` is missing; add `name:`"],
    ),
];

#[test]
fn an_invalid_connection_is_refused_with_its_exact_messages() {
    for (yaml, expected) in CONNECTIONS {
        assert_eq!(said(yaml, &[]).lines().collect::<Vec<_>>(), *expected, "{yaml}");
    }
}

#[test]
fn an_invalid_agent_or_rule_is_refused_with_its_exact_messages() {
    for (yaml, expected) in AGENTS_AND_RULES {
        assert_eq!(said(yaml, &[]).lines().collect::<Vec<_>>(), *expected, "{yaml}");
    }
}
