//! Sections that are refused, and the exact lines that say so.

use super::said;

/// YAML and what is said of it.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        "lisen: { proxy: 127.0.0.1:1 }",
        &["keyward.yaml:1: lisen: unknown key `lisen`; did you mean `listen`?"],
    ),
    (
        "zzz: 1",
        &[
            "keyward.yaml:1: zzz: unknown key `zzz`; known here: listen, public_url, store, master_key, ca, default, upstream, providers, apps, sources, connections, agents, plugins, rules, limits, oauth, rotation, backup, connect, webhooks, hooks, events, honeytokens, sign_in, log, audit, telemetry, insecure_inline",
        ],
    ),
    ("- a", &["keyward.yaml: this is a list; write a map"]),
    ("just text", &["keyward.yaml: this is text; write a map"]),
    (
        "default: deny\ndefault: pass",
        &["keyward.yaml:2: default: key `default` is given twice; keep one"],
    ),
    (
        "default: allow",
        &["keyward.yaml:1: default: `allow` is not one of the choices; write deny, tunnel, pass"],
    ),
    ("apps: {}", &["keyward.yaml:1: apps: this is not a list; write `- …` items"]),
    (
        "telemetry: { otlp: 'http://localhost:4318' }",
        &["keyward.yaml:1: telemetry.otlp: this is text; write a map"],
    ),
    (
        "telemetry: { otlp: {} }",
        &["keyward.yaml:1: telemetry.otlp: `endpoint` is missing; add `endpoint:`"],
    ),
    (
        "telemetry: { otlp: { endpoint: 'collector:4318', sample: 1.5, timeout: 0s, schedule_delay: 2m, max_queue_size: 0, max_export_batch_size: 513, traces: false, logs: false, service_name: '' } }",
        &[
            "keyward.yaml:1: telemetry.otlp.sample: this is not a share; write a number from 0 to 1, such as 0.1",
            "keyward.yaml:1: telemetry.otlp.service_name: the name is empty; write a name, or remove the key",
            "keyward.yaml:1: telemetry.otlp.timeout: the time is out of bounds; write 100ms to 60s, such as 10s",
            "keyward.yaml:1: telemetry.otlp.schedule_delay: the time is out of bounds; write 10ms to 60s, such as 5s",
            "keyward.yaml:1: telemetry.otlp.max_queue_size: the number is out of bounds; write 16 to 1000000, such as 2048",
            "keyward.yaml:1: telemetry.otlp.max_export_batch_size: the number is out of bounds; write 1 to the number of `max_queue_size`",
            "keyward.yaml:1: telemetry.otlp.traces: neither traces nor logs are exported; turn one of them on, or remove `otlp`",
            "keyward.yaml:1: telemetry.otlp.endpoint: this is not the URL of a collector; write `https://HOST:PORT` or `http://HOST:PORT`, such as https://collector.example:4318",
        ],
    ),
    (
        "telemetry: { otlp: { endpoint: 'http://localhost:4318/v1/traces/' } }",
        &[
            "keyward.yaml:1: telemetry.otlp.endpoint: this is the URL of one signal; write it without `/v1/traces` or `/v1/logs`, which are appended",
        ],
    ),
    (
        "telemetry: { otlp: { endpoint: 'http://collector:4318', headers: { Host: { env: A }, 'a b': { env: A }, api-key: text } } }",
        &[
            "keyward.yaml:1: telemetry.otlp.headers: these header fields would cross the network in cleartext; write `https://` in `endpoint`, or remove `headers`",
            "keyward.yaml:1: telemetry.otlp.headers.Host: Keyward sets this header field itself; remove it",
            "keyward.yaml:1: telemetry.otlp.headers.a b: this is not the name of a header field; write letters, digits and `-`",
            "keyward.yaml:1: telemetry.otlp.headers.api-key: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        r#"listen: { admin_tls: { cert: a } }"#,
        &[
            "keyward.yaml:1: listen.admin_tls: a certificate and its key belong together; name `cert` and `key`, or omit both for one of Keyward's own CA",
        ],
    ),
    (
        r#"listen: { admin_proxies: ["10.0.0.5/24", "0.0.0.0/0", lb, "10.0.0.5", "10.0.0.0/24", "fd00::/8"] }"#,
        &[
            "keyward.yaml:1: listen.admin_proxies[0]: `10.0.0.5/24` is not an address or a network; write `10.0.0.5` or `10.0.0.0/24`",
            "keyward.yaml:1: listen.admin_proxies[1]: `0.0.0.0/0` is not an address or a network; write `10.0.0.5` or `10.0.0.0/24`",
            "keyward.yaml:1: listen.admin_proxies[2]: `lb` is not an address or a network; write `10.0.0.5` or `10.0.0.0/24`",
        ],
    ),
    (
        r#"listen: { admin_cors: ["*", "https://*.example", "null", "http://a.example", "https://a.example/", "http://localhost:3000"] }"#,
        &[
            "keyward.yaml:1: listen.admin_cors[0]: `*` is not the origin of a site; write `https://console.example.com`, without a path and without `*`",
            "keyward.yaml:1: listen.admin_cors[1]: `https://*.example` is not the origin of a site; write `https://console.example.com`, without a path and without `*`",
            "keyward.yaml:1: listen.admin_cors[2]: `null` is not the origin of a site; write `https://console.example.com`, without a path and without `*`",
            "keyward.yaml:1: listen.admin_cors[3]: `http://a.example` is not the origin of a site; write `https://console.example.com`, without a path and without `*`",
            "keyward.yaml:1: listen.admin_cors[4]: `https://a.example/` is not the origin of a site; write `https://console.example.com`, without a path and without `*`",
        ],
    ),
    (
        r#"listen: { proxy: localhost:8080, admin: "unix:/x" }"#,
        &[
            "keyward.yaml:1: listen.admin: `unix:/x` is not an address with a port; write numbers, such as `127.0.0.1:8080`",
            "keyward.yaml:1: listen.proxy: `localhost:8080` is not an address with a port; write numbers, such as `127.0.0.1:8080`",
        ],
    ),
    (
        r#"listen: { agents: [{ agent: a, at: "127.0.0.1:8090" }, { agent: b }, { agent: c, at: "0.0.0.0:8091", unsafe_no_auth: true }] }"#,
        &[
            "keyward.yaml:1: listen.agents[0]: every program of this machine can act as the agent over TCP; use a `unix:` socket, or add `unsafe_no_auth: true` when that is meant",
            "keyward.yaml:1: listen.agents[1]: `at` is missing; add `at: \"unix:ci.sock\"`, or a loopback address",
            "keyward.yaml:1: listen.agents[2].at: 0.0.0.0:8091 is not loopback: others could act as the agent; write `127.0.0.1:PORT`, or a `unix:` socket",
        ],
    ),
    (
        r#"listen: { agents: [{ agent: "a b", at: "unix:a" }, { agent: "..", at: "unix:b" }, { agent: kwa_x, at: "unix:c" }, { at: "unix:d" }, { agent: "a~b", at: "unix:e" }] }"#,
        &[
            "keyward.yaml:1: listen.agents[0].agent: this is not the name of an agent; write 1 to 64 letters, digits or `-._~`, and not only dots",
            "keyward.yaml:1: listen.agents[1].agent: this is not the name of an agent; write 1 to 64 letters, digits or `-._~`, and not only dots",
            "keyward.yaml:1: listen.agents[2].agent: the name looks like an id or a token; choose another beginning",
            "keyward.yaml:1: listen.agents[3].agent: the name is missing; name an agent",
        ],
    ),
    (
        r#"listen: { proxy: "unix:a", agents: [{ agent: a, at: "unix:a" }, { agent: b, at: "127.0.0.1:8081", unsafe_no_auth: true }] }"#,
        &[
            "keyward.yaml:1: listen.agents[0].at: another listener is at unix:a as well; choose another place for one of them",
            "keyward.yaml:1: listen.agents[1].at: another listener is at 127.0.0.1:8081 as well; choose another place for one of them",
        ],
    ),
    (
        r#"listen: { databases: [{ at: "127.0.0.1:1", server_version: 8.0.36 }, { at: "127.0.0.1:2", protocol: mysql, server_version: MariaDB }] }"#,
        &[
            "keyward.yaml:1: listen.databases[0].server_version: only listeners for MySQL have a version; add `protocol: mysql`, or remove it",
            "keyward.yaml:1: listen.databases[1].server_version: this is not the version of a server; write what `SELECT VERSION()` says, such as 10.11.6-MariaDB",
        ],
    ),
    (
        r#"listen: { metrics: 9464 }"#,
        &["keyward.yaml:1: listen.metrics: this is a number; write text"],
    ),
    (
        r#"listen: { metrics: "unix:m.sock" }"#,
        &[
            "keyward.yaml:1: listen.metrics: `unix:m.sock` is not an address with a port; write numbers, such as `127.0.0.1:8080`",
        ],
    ),
    (
        r#"listen: { metrics: "127.0.0.1:8081", agents: [{ agent: a, at: "127.0.0.1:8081", unsafe_no_auth: true }] }"#,
        &[
            "keyward.yaml:1: listen.metrics: another listener is at 127.0.0.1:8081 as well; choose another port for one of them",
            "keyward.yaml:1: listen.agents[0].at: another listener is at 127.0.0.1:8081 as well; choose another place for one of them",
        ],
    ),
    (
        r#"listen: { proxy: "0.0.0.0:9464", metrics: "127.0.0.1:9464" }"#,
        &[
            "keyward.yaml:1: listen.metrics: another listener is at 0.0.0.0:9464 as well; choose another port for one of them",
        ],
    ),
    (
        r#"listen: { hooks: { url: "ftp://x" } }"#,
        &["keyward.yaml:1: listen.hooks: `at` is missing; add `at:`"],
    ),
    (
        r#"listen: { hooks: { at: "127.0.0.1:8081", url: "ftp://x", tls: { key: k } } }"#,
        &[
            "keyward.yaml:1: listen.hooks.tls: a certificate and its key belong together; name `cert` and `key`, or omit both for one of Keyward's own CA",
            "keyward.yaml:1: listen.hooks.url: this is not the URL of a server; write `https://keyward.example.com`, without user, query and fragment",
            "keyward.yaml:1: listen.hooks: another listener is at 127.0.0.1:8081 as well; choose another port for one of them",
        ],
    ),
    (
        "listen: { proxy: [] }",
        &["keyward.yaml:1: listen.proxy: there is no listener for agents; name at least one"],
    ),
    (
        "listen: { proxy: 8080 }",
        &[
            "keyward.yaml:1: listen.proxy: this is not an address; write `127.0.0.1:8080` or `unix:/run/keyward.sock`",
        ],
    ),
    (
        "listen: { proxy: [127.0.0.1:8080, 127.0.0.1:8080], admin: 0.0.0.0:8080 }",
        &[
            "keyward.yaml:1: listen.proxy: two listeners are at 127.0.0.1:8080; remove one",
            "keyward.yaml:1: listen.proxy: the admin listener is at 127.0.0.1:8080 as well; choose another port for one of them",
        ],
    ),
    (
        r#"listen: { proxy: "unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }"#,
        &[
            "keyward.yaml:1: listen.proxy: a socket's path has at most 103 bytes; choose a shorter one, such as `unix:/run/keyward.sock`",
        ],
    ),
    (
        "listen: { proxy: 127.0.0.1:80800 }",
        &[
            "keyward.yaml:1: listen.proxy: `127.0.0.1:80800` is not an address with a port; write numbers, such as `127.0.0.1:8080`",
        ],
    ),
    (
        "public_url: https://user:pw@keyward.example.com",
        &[
            "keyward.yaml:1: public_url: this is not the URL of a server; write `https://keyward.example.com`, without user, query and fragment",
        ],
    ),
    (
        "public_url: keyward.example.com",
        &[
            "keyward.yaml:1: public_url: this is not the URL of a server; write `https://keyward.example.com`, without user, query and fragment",
        ],
    ),
    (
        r#"store: { postgres: { url: "postgres://u:canary@h/db" } }"#,
        &[
            "keyward.yaml:1: store.postgres.url: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "store: { postgres: { url: { env: D } } }",
        &[
            "keyward.yaml:1: store.postgres: a shared store needs a shared `master_key`; name the key that all replicas have, as in `master_key: { env: KEYWARD_KEY }`",
        ],
    ),
    (
        "store: { postgres: { tls: off } }",
        &[
            "keyward.yaml:1: store.postgres: `url` is missing; write `{ postgres: { url: { env: DATABASE_URL } } }`",
        ],
    ),
    (
        "master_key: { env: K }\nstore: { postgres: { url: { env: D }, streams_max: 1, timeout: 1ms } }",
        &[
            "keyward.yaml:2: store.postgres.streams_max: 1 streams cannot serve a replica; write 2 or more",
            "keyward.yaml:2: store.postgres.timeout: the time is too short for a commit; write 500ms or more, such as 5s",
        ],
    ),
    (
        "store: { sled: {}, memory: {} }",
        &[
            "keyward.yaml:1: store: this does not name one store; write `{ sled: { path: store } }`, `{ postgres: { url: { env: DATABASE_URL } } }` or `{ memory: {} }`",
        ],
    ),
    ("store: sled", &["keyward.yaml:1: store: this is text; write a map"]),
    (
        "store: { sledd: { path: x } }",
        &[
            "keyward.yaml:1: store.sledd: unknown key `sledd`; did you mean `sled`?",
            "keyward.yaml:1: store: this does not name one store; write `{ sled: { path: store } }`, `{ postgres: { url: { env: DATABASE_URL } } }` or `{ memory: {} }`",
        ],
    ),
    (
        r#"store: { sled: { path: "" } }"#,
        &["keyward.yaml:1: store.sled.path: the path is empty; name a file"],
    ),
    (
        "master_key: 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        &[
            "keyward.yaml:1: master_key: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "master_key: []",
        &["keyward.yaml:1: master_key: the list is empty; name one, or omit the key"],
    ),
    (
        "master_key: [{ file: a }, canary]",
        &[
            "keyward.yaml:1: master_key[1]: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "master_key: { file: ~/master.key }",
        &["keyward.yaml:1: master_key.file: `~` is not expanded; write the whole path"],
    ),
    (
        r#"master_key: { env: "sk-live-canary" }"#,
        &[
            "keyward.yaml:1: master_key.env: this is not the name of an environment variable; write letters, digits and `_`, as in `{ env: NAME }`",
        ],
    ),
    (
        "master_key: { env: A, file: b }",
        &[
            "keyward.yaml:1: master_key: this names more than one source of the secret; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        r#"master_key: { command: "pass show x" }"#,
        &[
            "keyward.yaml:1: master_key.command: this is not a program with arguments; write `{ command: [PROGRAM, ARGUMENT] }`, each in quotes where needed",
        ],
    ),
    (
        "master_key: { canary }",
        &[
            "keyward.yaml:1: master_key: this is not the source of a secret; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
        ],
    ),
    (
        "ca: { cert: a.pem }",
        &[
            "keyward.yaml:1: ca: a certificate and its key belong together; name `cert` and `key`, or omit both",
        ],
    ),
    (
        "ca: { cert: a.pem, key: a.pem }",
        &["keyward.yaml:1: ca: certificate and key are one file; give the key a file of its own"],
    ),
    (
        r#"listen: { proxy: [{ tls: {} }, { at: "127.0.0.1:1" }, { at: "unix:x.sock", tls: {} }] }"#,
        &[
            "keyward.yaml:1: listen.proxy[0]: `at` is missing; add `at:`",
            "keyward.yaml:1: listen.proxy[1]: `tls` is missing; add `tls: {}`, or write the address alone",
            "keyward.yaml:1: listen.proxy[2].at: `unix:x.sock` is not an address with a port; write numbers, such as `127.0.0.1:8080`",
        ],
    ),
    (
        r#"listen: { proxy: [{ at: "0.0.0.0:1", tls: { cert: a.pem } }, { at: "0.0.0.0:2", tls: { cert: a.pem, key: b.pem, names: [a.test] } }, { at: "0.0.0.0:3", tls: { names: ["a b"] } }] }"#,
        &[
            "keyward.yaml:1: listen.proxy[0].tls: a certificate and its key belong together; name `cert` and `key`, or omit both for one of Keyward's own CA",
            "keyward.yaml:1: listen.proxy[1].tls: `names` are those of the certificate that is given; remove `names`",
            "keyward.yaml:1: listen.proxy[2].tls.names[0]: this is not a host; write `keyward.example.com`",
        ],
    ),
    (
        r#"listen: { proxy: ["127.0.0.1:8443", { at: "0.0.0.0:8443", tls: {} }] }"#,
        &["keyward.yaml:1: listen.proxy: two listeners are at https://0.0.0.0:8443; remove one"],
    ),
    (
        r#"upstream: { proxy: { url: "http://svc:canary@corp:3128" } }"#,
        &[
            "keyward.yaml:1: upstream.proxy.url: the URL holds a user or a password; remove them, and add `user: NAME` and `password: { env: NAME }` beside `url`",
        ],
    ),
    (
        r#"upstream: { proxy: { url: "socks5://corp:1080", user: svc, except: ["*.corp", 10.1.2.3/8] } }"#,
        &[
            "keyward.yaml:1: upstream.proxy.except[0]: `*.corp` is no host, domain or network; write `.corp.example`, `git.corp.example` or `10.0.0.0/8`",
            "keyward.yaml:1: upstream.proxy.except[1]: `10.1.2.3/8` is no host, domain or network; write `.corp.example`, `git.corp.example` or `10.0.0.0/8`",
            "keyward.yaml:1: upstream.proxy: `user` and `password` belong together; name both, or omit both",
            "keyward.yaml:1: upstream.proxy.url: this is not the URL of a proxy; write `http://proxy.example:3128` or `https://proxy.example:3129`",
        ],
    ),
    (
        r#"upstream: { proxy: { user: svc, password: canary } }"#,
        &[
            "keyward.yaml:1: upstream.proxy.password: a secret is written here as text; write `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`",
            "keyward.yaml:1: upstream.proxy: `url` is missing; add `url:`",
        ],
    ),
    (
        r#"upstream: { allow_private: ["10.1.2.0/24", "10.1.2.3/24:443"] }"#,
        &[
            "keyward.yaml:1: upstream.allow_private[0]: `10.1.2.0/24` is not a network with ports: write 10.1.2.0/24:443 or 127.0.0.1:8000-9000, and IPv6 in brackets: [fd00::]/8:443",
            "keyward.yaml:1: upstream.allow_private[1]: `10.1.2.3/24:443` is not a network with ports: write 10.1.2.0/24:443 or 127.0.0.1:8000-9000, and IPv6 in brackets: [fd00::]/8:443",
        ],
    ),
    (
        r#"upstream: { resolve: { "a b": "127.0.0.1:9", api.test: 127.0.0.1, "x.test:99999": "1.1.1.1:0" } }"#,
        &[
            "keyward.yaml:1: upstream.resolve.a b: this is not a host; write `api.example.com` or `api.example.com:8443`",
            "keyward.yaml:1: upstream.resolve.api.test: the value is not an address with a port; write numbers, such as `127.0.0.1:9443`",
            "keyward.yaml:1: upstream.resolve.x.test:99999: this is not a host; write `api.example.com` or `api.example.com:8443`",
            "keyward.yaml:1: upstream.resolve.x.test:99999: the value is not an address with a port; write numbers, such as `127.0.0.1:9443`",
        ],
    ),
    (
        r#"upstream: { resolve: { A.test: "127.0.0.1:9", a.test: "127.0.0.1:8" } }"#,
        &["keyward.yaml:1: upstream.resolve.a.test: the host is given twice; keep one"],
    ),
    (
        "upstream: { trust: roots.pem }",
        &["keyward.yaml:1: upstream.trust: this is text; write a list"],
    ),
    (
        "limits: { head_timeout: 30, idle_timeout: 5 parsecs, streams_max: 0, head_bytes_max: 4096 }",
        &[
            "keyward.yaml:1: limits.head_timeout: the time has no unit; write number and unit, such as 500ms, 30s or 2m",
            "keyward.yaml:1: limits.idle_timeout: `5 parsecs` is not a duration: write a number and a unit, such as 500ms, 0.5s, 2m, 8h or 30d",
            "keyward.yaml:1: limits.head_bytes_max: 4096 leaves no room for any exchange; write 8192 or more",
            "keyward.yaml:1: limits.streams_max: 0 leaves no room for any exchange; write 1 or more",
        ],
    ),
    (
        "limits: { head_timeout: 0s, heads_max: 3, leaves_max: many }",
        &[
            "keyward.yaml:1: limits.heads_max: unknown key `heads_max`; did you mean `leaves_max`?",
            "keyward.yaml:1: limits.leaves_max: this is text; write a whole number",
            "keyward.yaml:1: limits.head_timeout: the time must be longer than zero; write a longer time, such as 30s",
        ],
    ),
    (
        "rotation: { keep_old: 24 }\nevents: { retries: [5m, 5] }\nsources: [{ name: a, env: { names: [A] }, ttl: 5 }]",
        &[
            "keyward.yaml:1: rotation.keep_old: this is a number; write a time with its unit, such as 30s",
            "keyward.yaml:2: events.retries[1]: this is a number; write a time with its unit, such as 30s",
            "keyward.yaml:3: sources[0].ttl: this is a number; write a time with its unit, such as 30s",
        ],
    ),
    (
        "default: [deny]\ntelemetry: { otlp: { endpoint: \"https://c.test\", sample: 10% } }",
        &[
            "keyward.yaml:1: default: this is a list; write one word as text",
            "keyward.yaml:2: telemetry.otlp.sample: this is text; write a number",
        ],
    ),
    (
        "log: { level: verbose, format: xml, colour: true }",
        &[
            "keyward.yaml:1: log.level: `verbose` is not one of the choices; write error, warn, info, debug, trace",
            "keyward.yaml:1: log.colour: unknown key `colour`; known here: format, level",
            "keyward.yaml:1: log.format: `xml` is not one of the choices; write text, json",
        ],
    ),
    (
        "audit: { file: ~, stdout: 1 }",
        &["keyward.yaml:1: audit.stdout: this is a number; write true or false"],
    ),
    (
        "audit: { file_bytes_max: 100, files_max: 1 }",
        &[
            "keyward.yaml:1: audit.file_bytes_max: 100 bytes are too few for a record; write 4096 or more",
            "keyward.yaml:1: audit.files_max: the records before the file that is written would be lost at once; write 2 or more",
        ],
    ),
    ("audit: { file: [a] }", &["keyward.yaml:1: audit.file: this is a list; write text"]),
    (
        "insecure_inline: yes please",
        &["keyward.yaml:1: insecure_inline: this is text; write true or false"],
    ),
    (
        "a: [1",
        &[
            "keyward.yaml:2: not YAML: while parsing a flow sequence, expected ',' or ']'; correct the syntax",
        ],
    ),
    ("a: &x 1", &["keyward.yaml:1: a: unknown key `a`; did you mean `ca`?"]),
    ("log: !!str x", &["keyward.yaml:1: log: this is text; write a map"]),
    (
        "limits: { head_timeout: 0s, heads_max: 3, leaves_max: many, streams_max: 0 }",
        &[
            "keyward.yaml:1: limits.heads_max: unknown key `heads_max`; did you mean `leaves_max`?",
            "keyward.yaml:1: limits.leaves_max: this is text; write a whole number",
            "keyward.yaml:1: limits.streams_max: 0 leaves no room for any exchange; write 1 or more",
            "keyward.yaml:1: limits.head_timeout: the time must be longer than zero; write a longer time, such as 30s",
        ],
    ),
    (
        "oauth: { exchange_timeout: 30s, lease: 20s, head_bytes_max: 4096, backoff_first: 0s, circuit_failures_max: 0, backoff_jitter_percent: 91 }",
        &[
            "keyward.yaml:1: oauth.head_bytes_max: 4096 leaves no room for any token; write 8192 or more",
            "keyward.yaml:1: oauth.circuit_failures_max: 0 leaves no room for any token; write 1 or more",
            "keyward.yaml:1: oauth.backoff_first: the time must be longer than zero; write a longer time, such as 30s",
            "keyward.yaml:1: oauth.lease: a second replica would ask while the first still waits for its answer; write a longer time than `oauth.exchange_timeout`",
            "keyward.yaml:1: oauth.backoff_jitter_percent: a pause could be none, or twice as long; write 0 to 90",
        ],
    ),
    ("limits: 5", &["keyward.yaml:1: limits: this is a number; write a map"]),
];

#[test]
fn an_invalid_section_is_refused_with_its_exact_messages() {
    for (yaml, expected) in SECTIONS {
        assert_eq!(said(yaml, &[]).lines().collect::<Vec<_>>(), *expected, "{yaml}");
    }
}
