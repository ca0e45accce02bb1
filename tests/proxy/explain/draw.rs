//! Drawn configurations and requests: the same seed, the same draw.

use test_support::canary::Canary;
use test_support::*;

/// Agents: the first may use most connections, the last none.
pub(super) const AGENTS: [&str; 3] = ["ci", "dev", "bare"];

/// Connections, at least one for each kind of placement.
pub(super) const CONNECTIONS: [Drawn; 7] = [
    Drawn {
        name: "acme",
        provider: "acme",
        hosts: &ACME,
        more: "",
        field: "api_key",
        shape: "cnry",
    },
    Drawn {
        name: "spare",
        provider: "acme",
        hosts: &ACME,
        more: "",
        field: "api_key",
        shape: "spare-",
    },
    Drawn {
        name: "other",
        provider: "other",
        hosts: &OTHER,
        more: "",
        field: "token",
        shape: "other-",
    },
    Drawn {
        name: "query",
        provider: "query",
        hosts: &["q.acme.test", "api.other.test"],
        more: "",
        field: "api_key",
        shape: "query-",
    },
    Drawn {
        name: "pair",
        provider: "pair",
        hosts: &["pair.acme.test", "\"pair.acme.test:8080\""],
        more: "username: { env: SOMEONE }, ",
        field: "password",
        shape: "pair-",
    },
    Drawn {
        name: "hub",
        provider: "github",
        hosts: &["github.com", "api.github.com"],
        more: "",
        field: "token",
        shape: "ghp_0000",
    },
    Drawn {
        name: "bot",
        provider: "telegram-bot",
        hosts: &["api.telegram.org"],
        more: "",
        field: "api_key",
        shape: "1234567890:AAA",
    },
];

/// A connection that may be drawn.
pub(super) struct Drawn {
    pub(super) name: &'static str,
    provider: &'static str,
    /// What rules may name for it.
    hosts: &'static [&'static str],
    /// Fields beside the secret.
    more: &'static str,
    /// The secret's field.
    pub(super) field: &'static str,
    /// How the secret begins.
    shape: &'static str,
}

const PROVIDERS: [&str; 3] = [
    "{ id: other, name: Other, hosts: [api.other.test, \"api.other.test:8443\"], \
       paths: [\"/v1/**\"], auth: [{ id: token, kind: bearer }] }",
    "{ id: query, name: Query, hosts: [q.acme.test, api.other.test], \
       auth: [{ id: key, kind: api_key, placement: { query: key } }] }",
    "{ id: pair, name: Pair, hosts: [pair.acme.test, \"pair.acme.test:8080\"], \
       auth: [{ id: pair, kind: basic }] }",
];

const ACME: [&str; 4] =
    ["api.acme.test", "\"*.acme.test\"", "\"api.acme.test:8443\"", "\"api.acme.test:8080\""];

const OTHER: [&str; 2] = ["api.other.test", "\"api.other.test:8443\""];

/// Every host that is asked for. All but the last lead to the origins.
pub(super) const HOSTS: [&str; 10] = [
    "api.acme.test",
    "q.acme.test",
    "pair.acme.test",
    "deep.er.acme.test",
    "api.other.test",
    "stranger.test",
    "github.com",
    "api.github.com",
    "api.telegram.org",
    INSIDE,
];

/// A name of an address that may not be dialled.
const INSIDE: &str = "inside.acme.test";

const RULED: [&str; 10] = [
    "api.acme.test",
    "\"*.acme.test\"",
    "\"*.er.acme.test\"",
    "\"api.acme.test:8443\"",
    "\"api.acme.test:8080\"",
    "api.other.test",
    "stranger.test",
    "\"stranger.test:9443\"",
    "github.com",
    "api.telegram.org",
];

const METHODS: [&str; 9] =
    ["GET", "GET", "GET", "GET", "POST", "DELETE", "HEAD", "delete", "TRACE"];

const PATHS: [&str; 12] = [
    "/",
    "/v1/items",
    "/v1/items?q=1",
    "/v1/admin/x",
    "/v1/%61dmin/x",
    "/v1//admin",
    "/v1/a%2Fb",
    "/v1;x/admin/y",
    "/v2/things/",
    "/me/repo/info/refs?service=git-upload-pack",
    "/login/oauth/access_token",
    "/botTOKEN/getMe",
];

/// git's, and one of OAuth's.
const HUB_PATHS: [&str; 3] = ["/me/repo/info/refs", "/me/repo/git-upload-pack", PATHS[10]];

const RULED_PATHS: [&str; 5] = ["/v1/**", "/v1/admin/**", "/v1/*", "/me/**", "/v2/things/"];

/// SplitMix64: short, and good enough to draw from lists.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % bound
    }

    /// True in `percent` of 100 cases.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of a list.
    pub(super) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Each of a list with `percent`.
    fn some<'a>(&mut self, of: &[&'a str], percent: usize) -> Vec<&'a str> {
        of.iter().copied().filter(|_| self.chance(percent)).collect()
    }
}

/// Draws a plan before a TLS and a cleartext origin, and the secrets in it by connection.
pub(super) fn plan(dice: &mut Dice, tls: &str, clear: &str) -> (Plan, Vec<(&'static str, Canary)>) {
    let mut plan = Plan::api_key().hosts(&ACME.join(", ")).no_agents().allow(clear);
    let mut secrets = vec![("acme", plan.canary().clone())];
    plan = plan.variable("SOMEONE", "someone");
    for provider in PROVIDERS {
        plan = plan.provider(provider);
    }
    for Drawn { name, provider, more, field, shape, .. } in &CONNECTIONS[1..] {
        let (secret, variable) = (Canary::new(shape), name.to_ascii_uppercase());
        plan = plan.secret(&variable, &secret).connection(&format!(
            "{{ name: {name}, provider: {provider}, fields: {{ {more}{field}: {{ env: {variable} }} }} }}"
        ));
        secrets.push((name, secret));
    }
    for host in HOSTS {
        let (tls, clear) = match host {
            INSIDE => ("127.0.0.1:9", "127.0.0.1:9"),
            _ => (tls, clear),
        };
        for (at, addr) in [("", tls), (":80", clear), (":8080", clear)] {
            if at.is_empty() && host == HOST {
                continue; // The plan resolves it already.
            }
            plan = plan.resolve(&format!("\"{host}{at}\": \"{addr}\""));
        }
    }
    let names = CONNECTIONS.map(|connection| connection.name);
    for (agent, percent) in AGENTS.into_iter().zip([90, 70, 0]) {
        let uses = dice.some(&names, percent).join(", ");
        // One of them has no default.
        let more = if agent == "dev" { "], require_selection: true, defaults: [" } else { "" };
        plan = plan.agent(agent, &format!("{uses}{more}"));
    }
    for number in 0..dice.below(7) {
        plan = plan.rule(&rule(dice, number));
    }
    let default = *dice.one(&["deny", "deny", "tunnel", "pass"]);
    (plan.top(&format!("default: {default}\nstore: {{ memory: {{}} }}")), secrets)
}

fn rule(dice: &mut Dice, number: usize) -> String {
    let mut rule = format!("{{ name: r{number}");
    let action = *dice.one(&["deny", "pass", "tunnel", "inject", "use", "use", "use"]);
    let uses = dice.one(&CONNECTIONS);
    let hosts = match action {
        "use" if dice.chance(20) => vec![],
        "use" => vec![*dice.one(uses.hosts)],
        "inject" | "deny" if dice.chance(10) => vec![],
        _ => vec![*dice.one(&RULED), *dice.one(&RULED)],
    };
    let looks = action != "tunnel";
    let methods = if looks { dice.some(&["GET", "POST", "DELETE"], 30) } else { vec![] };
    let paths = if looks { dice.some(&RULED_PATHS, 15) } else { vec![] };
    let agents = if dice.chance(40) { vec![*dice.one(&AGENTS)] } else { vec![] };
    for (key, list) in [("hosts", &hosts), ("methods", &methods), ("agents", &agents)] {
        if !list.is_empty() {
            rule += &format!(", {key}: [{}]", list.join(", "));
        }
    }
    if !paths.is_empty() {
        rule += &format!(", paths: [\"{}\"]", paths.join("\", \""));
    }
    match action {
        "use" => {
            rule += &format!(", use: {}", uses.name);
            if dice.chance(40) {
                rule += ", allow_plaintext: true";
            }
        }
        action => rule += &format!(", action: {action}"),
    }
    rule + " }"
}

/// A drawn request.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) agent: String,
    pub(super) method: String,
    pub(super) secure: bool,
    /// As it stands in `Host`.
    pub(super) authority: String,
    pub(super) host: String,
    /// With query.
    pub(super) path: String,
    /// Without `Host`.
    pub(super) fields: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }
}

/// Draws a request; `placeholders` are those of all bindings: agent, connection, text.
pub(super) fn request(dice: &mut Dice, placeholders: &[(String, String, String)]) -> Asked {
    match dice.chance(40) && !placeholders.is_empty() {
        true => sound(dice, placeholders),
        false => wild(dice, placeholders),
    }
}

/// One that uses a binding as its owner would.
fn sound(dice: &mut Dice, placeholders: &[(String, String, String)]) -> Asked {
    let (agent, connection, text) = dice.one(placeholders).clone();
    let drawn = CONNECTIONS.iter().find(|drawn| drawn.name == connection);
    let hosts = drawn.expect("it was drawn from these").hosts;
    let authority = dice.one(hosts).trim_matches('"').replace('*', "deep.er");
    let host = authority.split(':').next().unwrap_or_default().to_owned();
    let secure = !authority.ends_with(":8080");
    let (mut path, mut fields) = (dice.one(&["/v1/items", "/v1/items?q=1"]).to_string(), vec![]);
    match &*connection {
        "bot" => path = format!("/bot{text}/getMe"),
        "hub" if host == "github.com" => path = (*dice.one(&HUB_PATHS)).to_owned(),
        _ if dice.chance(60) => fields.push(("Authorization".to_owned(), format!("Bearer {text}"))),
        _ => fields.push(("Keyward-Connection".to_owned(), connection)),
    }
    let method = dice.one(&["GET", "POST", "HEAD"]).to_string();
    Asked { agent, method, secure, authority, host, path, fields }
}

/// One where nothing need fit.
fn wild(dice: &mut Dice, placeholders: &[(String, String, String)]) -> Asked {
    let agent = (*dice.one(&["ci", "ci", "ci", "dev", "bare"])).to_owned();
    let host = (*dice.one(&HOSTS)).to_owned();
    let secure = dice.chance(80);
    let odd: &[&str] = if secure { &[":8443", ":9443"] } else { &[":8080"] };
    let port = if dice.chance(20) { *dice.one(odd) } else { "" };
    let spelled = if dice.chance(10) { host.to_ascii_uppercase() } else { host.clone() };
    let authority = format!("{spelled}{port}");
    let method = (*dice.one(&METHODS)).to_owned();
    let mut path = (*dice.one(&PATHS)).to_owned();
    let mut fields = vec![];
    let held = placeholder(dice, &agent, placeholders);
    if path.contains("TOKEN") {
        path = path.replace("TOKEN", held.as_deref().unwrap_or("123:none"));
    } else if let Some(held) = held {
        place(dice, &held, &mut path, &mut fields);
    }
    if dice.chance(20) {
        let connection = dice.one(&CONNECTIONS).name;
        let name = if dice.chance(15) { "no-such" } else { connection };
        fields.push(("Keyward-Connection".to_owned(), name.to_owned()));
    }
    Asked { agent, method, secure, authority, host, path, fields }
}

/// One of the agent's own mostly; another's, a damaged one, or none.
fn placeholder(dice: &mut Dice, agent: &str, all: &[(String, String, String)]) -> Option<String> {
    let own: Vec<&String> =
        all.iter().filter(|(of, ..)| of == agent).map(|(_, _, text)| text).collect();
    match dice.below(10) {
        0..=2 if !own.is_empty() => Some((*dice.one(&own)).clone()),
        4 if !all.is_empty() => Some(dice.one(all).2.clone()),
        5 if !own.is_empty() => {
            let mut text = (*dice.one(&own)).clone();
            let last = text.pop();
            text.push(if last == Some('x') { 'y' } else { 'x' });
            Some(text)
        }
        _ => None,
    }
}

fn place(dice: &mut Dice, text: &str, path: &mut String, fields: &mut Vec<(String, String)>) {
    use base64::Engine;
    let mut field = |name: &str, value| fields.push((name.to_owned(), value));
    match dice.below(5) {
        0 => field("Authorization", format!("Bearer {text}")),
        1 => field("X-Api-Key", text.to_owned()),
        2 => {
            let pair = base64::prelude::BASE64_STANDARD.encode(format!("someone:{text}"));
            field("Authorization", format!("Basic {pair}"));
        }
        3 => {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("key={text}"));
        }
        _ => *path = format!("/v1/{text}"),
    }
}
