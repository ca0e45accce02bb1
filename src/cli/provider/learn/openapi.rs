//! OpenAPI 3 and Swagger 2: servers, security schemes, flows and tags of a document.

use std::collections::BTreeMap;

use serde_json::Value;

use super::proposal::{Proposal, ProposedAction, ProposedVariable, plain, quoted, slug};
use crate::cli::failure::Failure;

/// Servers, schemes and paths that are looked at: a hostile document has any number of them.
const SERVERS_MAX: usize = 50;
const SCHEMES_MAX: usize = 20;
const PATHS_MAX: usize = 5_000;

/// Ends of paths that answer with the account of the caller.
const OWN: &[&str] =
    &["/me", "/users/me", "/user", "/whoami", "/account", "/profile", "/users/@me"];

/// # Errors
/// When it is no such document, or names no host.
pub(super) fn proposal(file: &str, document: &Value) -> Result<Proposal, Failure> {
    let version = ["openapi", "swagger"].iter().find_map(|key| document.get(*key)?.as_str());
    if version.is_none_or(|it| !it.starts_with("3.") && it != "2.0") {
        let failure = Failure::usage(format!("{file} is no OpenAPI document and no HAR file"));
        return Err(failure.hint("OpenAPI 3.x, Swagger 2.0, or a HAR file with one request"));
    }
    let title = document.pointer("/info/title").and_then(Value::as_str).unwrap_or_default();
    let mut found = Proposal::named(title);
    let bases = servers(document, &mut found);
    if found.hosts.is_empty() {
        let failure = Failure::usage(format!("{file}: `servers` names no https host"));
        return Err(
            failure.hint("add `servers: [{ url: https://HOST }]` to a copy of the document")
        );
    }
    schemes(document, &mut found, bases.first().map_or("", String::as_str));
    let docs = ["/externalDocs/url", "/info/contact/url"];
    let docs = docs.iter().find_map(|at| document.pointer(at)?.as_str());
    found.docs_url = docs.filter(|url| is_https(url)).map(str::to_owned);
    paths(document, &mut found, bases.first().map_or("", String::as_str));
    Ok(found)
}

/// Adds the hosts. The bases of URLs, such as `https://api.acme.example/v1`.
fn servers(document: &Value, found: &mut Proposal) -> Vec<String> {
    let mut bases = Vec::new();
    if let Some(host) = document.get("host").and_then(Value::as_str) {
        let base = document.get("basePath").and_then(Value::as_str).unwrap_or_default();
        add_server(&format!("https://{host}{base}"), &Value::Null, found, &mut bases);
    }
    let servers = document.get("servers").and_then(Value::as_array);
    for server in servers.into_iter().flatten().take(SERVERS_MAX) {
        let url = server.get("url").and_then(Value::as_str).unwrap_or_default();
        add_server(url, server.get("variables").unwrap_or(&Value::Null), found, &mut bases);
    }
    bases
}

fn add_server(url: &str, variables: &Value, found: &mut Proposal, bases: &mut Vec<String>) {
    let shown = plain(url);
    let Some(rest) = url.strip_prefix("https://") else {
        found.notes.push(format!("server `{shown}` is not an https URL: it is omitted"));
        return;
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (mut host, mut path) = (host.to_owned(), path.to_owned());
    let of = |name: &str, key: &str| variables.get(name).and_then(|it| it.get(key)).cloned();
    for name in holes(url) {
        let default = of(&name, "default").and_then(|it| it.as_str().map(str::to_owned));
        let hole = format!("{{{name}}}");
        path = path.replace(&hole, default.as_deref().unwrap_or("v1"));
        if !host.contains(&hole) {
            continue;
        }
        let label = slug(&name).replace('-', "_");
        host = host.replace(&hole, &format!("{{{label}}}"));
        let choices = of(&name, "enum").unwrap_or_default();
        let choices = choices.as_array().into_iter().flatten().filter_map(Value::as_str);
        let choices: Vec<_> = choices.take(100).map(str::to_owned).collect();
        let default = default.filter(|it| choices.is_empty() || choices.contains(it));
        if found.variables.iter().all(|it| it.name != label) {
            found.variables.push(ProposedVariable { name: label, choices, default });
        }
    }
    let plain_host = |b: u8| b.is_ascii_alphanumeric() || b".-_:{}".contains(&b);
    let is_name = host.contains('.') && host.bytes().all(plain_host) && !host.contains("..");
    let name = host.split(':').next().unwrap_or_default();
    if !is_name || name.parse::<std::net::IpAddr>().is_ok() || name.ends_with(".local") {
        found.notes.push(format!("server `{shown}` has no public host name: it is omitted"));
        return;
    }
    let host = host.strip_suffix(":443").unwrap_or(&host).to_ascii_lowercase();
    bases.push(format!("https://{host}/{path}").trim_end_matches('/').to_owned());
    found.hosts.insert(host);
}

/// The names between braces.
fn holes(text: &str) -> Vec<String> {
    let parts = text.split('{').skip(1);
    parts.filter_map(|part| Some(part.split_once('}')?.0.to_owned())).collect()
}

fn schemes(document: &Value, found: &mut Proposal, base: &str) {
    let at = ["/components/securitySchemes", "/securityDefinitions"];
    let all = at.iter().find_map(|at| document.pointer(at)?.as_object());
    for (name, scheme) in all.into_iter().flatten().take(SCHEMES_MAX) {
        let text = |key: &str| scheme.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("type"), text("scheme").to_ascii_lowercase().as_str()) {
            ("http", "bearer") => found.key(name, "bearer", None),
            ("http", "basic") | ("basic", _) => found.key(name, "basic", None),
            ("http", "digest") => found.key(name, "digest", None),
            ("apiKey", _) => found.api_key(name, text("in"), text("name")),
            ("mutualTLS", _) => found.key(name, "mtls", None),
            ("openIdConnect", _) => {
                let url = text("openIdConnectUrl");
                match url.strip_suffix("/.well-known/openid-configuration") {
                    Some(issuer) if is_https(issuer) => {
                        let lines = [
                            "kind: oauth2".to_owned(),
                            "grant: authorization_code".to_owned(),
                            format!("issuer: {}", quoted(issuer)),
                        ];
                        found.add(name, lines.to_vec(), BTreeMap::new());
                    }
                    _ => found.omit(name, "its issuer is no https URL"),
                }
            }
            ("oauth2", _) => flows(name, scheme, found, base),
            (kind, _) => found.omit(name, &format!("its type `{}` is unknown", plain(kind))),
        }
    }
    if found.auth.is_empty() {
        let note =
            "the document describes no authentication that can be used: a bearer token is proposed";
        found.notes.push(note.to_owned());
        found.key("token", "bearer", None);
    }
}

/// The flows of a scheme: an object by kind, or the one of Swagger 2.
fn flows(name: &str, scheme: &Value, found: &mut Proposal, base: &str) {
    let one = scheme.get("flow").and_then(Value::as_str).map(|kind| (kind, scheme));
    let several = scheme.get("flows").and_then(Value::as_object);
    let several = several.into_iter().flatten().map(|(kind, flow)| (kind.as_str(), flow));
    for (kind, flow) in one.into_iter().chain(several).take(8) {
        let grant = match kind {
            "authorizationCode" | "accessCode" => "authorization_code",
            "clientCredentials" | "application" => "client_credentials",
            other => {
                found.omit(name, &format!("its flow `{}` is not supported", plain(other)));
                continue;
            }
        };
        let url = |key: &str| {
            let url = flow.get(key)?.as_str()?;
            // The host of a relative URL may have a variable of the server.
            is_https(&joined("https://a.test", url)).then(|| joined(base, url))
        };
        let (authorize, token) = (url("authorizationUrl"), url("tokenUrl"));
        let (Some(token), true) = (token, authorize.is_some() || grant == "client_credentials")
        else {
            found.omit(name, "its endpoints are no https URLs");
            continue;
        };
        let mut lines = vec!["kind: oauth2".to_owned(), format!("grant: {grant}")];
        lines.extend(authorize.map(|url| format!("authorize: {}", quoted(&url))));
        lines.push(format!("token: {}", quoted(&token)));
        lines.push(
            "client_auth: basic    # or body: see the documentation of the service".to_owned(),
        );
        if grant == "authorization_code" {
            lines.push(
                "# refresh: rotating, reusable or none; revoke: the endpoint that ends access"
                    .to_owned(),
            );
        }
        let scopes = flow.get("scopes").and_then(Value::as_object).into_iter().flatten();
        let words = |(scope, words): (&String, &Value)| {
            (scope.clone(), plain(words.as_str().unwrap_or_default()))
        };
        let id =
            if grant == "client_credentials" { format!("{name}-app") } else { name.to_owned() };
        found.add(&id, lines, scopes.map(words).collect());
    }
}

/// A URL of the document, which may be relative to the server.
fn joined(base: &str, url: &str) -> String {
    match url.strip_prefix('/') {
        Some(path) => {
            let host = base.strip_prefix("https://").and_then(|rest| rest.split('/').next());
            format!("https://{}/{path}", host.unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

fn is_https(url: &str) -> bool {
    let plain = url.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\<>{}".contains(&b));
    plain && url.strip_prefix("https://").is_some_and(|rest| rest.contains('.'))
}

impl Proposal {
    /// A method with the usual fields and place of its kind.
    pub(super) fn key(&mut self, id: &str, kind: &str, placement: Option<String>) {
        let end = match kind {
            "api_key" => "API_KEY",
            "basic" | "digest" => "PASSWORD",
            _ => "TOKEN",
        };
        let mut lines = vec![format!("kind: {kind}")];
        lines.extend(placement);
        if matches!(kind, "api_key" | "bearer") {
            lines.push("# key: { prefixes: [acme_], length: 40 }    # how keys begin".to_owned());
            lines.push(format!("env: [{}]", self.variable(end)));
        }
        self.add(id, lines, BTreeMap::new());
    }

    fn api_key(&mut self, id: &str, place: &str, name: &str) {
        let is_name = !name.is_empty()
            && name.len() <= 64
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.$[]".contains(&b));
        match place {
            _ if !is_name => self.omit(id, "its name cannot be used"),
            "header" | "query" | "cookie" => {
                let placement = format!("placement: {{ {place}: {} }}", quoted(name));
                self.key(id, "api_key", Some(placement));
            }
            _ => self.omit(id, "its place is unknown"),
        }
    }

    fn omit(&mut self, scheme: &str, why: &str) {
        self.notes.push(format!("security scheme `{}` is omitted: {why}", plain(scheme)));
    }
}

/// Proposes actions by tags, and a test request.
fn paths(document: &Value, found: &mut Proposal, base: &str) {
    let prefix = base.strip_prefix("https://").and_then(|rest| rest.split_once('/'));
    let prefix = prefix.map_or(String::new(), |(_, path)| format!("/{path}"));
    let all = document.get("paths").and_then(Value::as_object).into_iter().flatten();
    let mut test: Option<(usize, String)> = None;
    for (path, item) in all.take(PATHS_MAX) {
        let full = format!("{prefix}{path}");
        let Some(pattern) = pattern(&full) else { continue };
        for (method, writes) in METHODS {
            let Some(operation) = item.get(method.to_ascii_lowercase()) else { continue };
            let tag = operation.pointer("/tags/0").and_then(Value::as_str);
            let tag =
                tag.or_else(|| path.split('/').find(|it| !it.is_empty() && !it.contains('{')));
            let tag = plain(tag.unwrap_or("other"));
            let (verb, word) = if *writes { ("write", "Change") } else { ("read", "Read") };
            let name = format!("{verb}-{}", slug(&tag));
            let action = found.actions.entry(name.trim_end_matches('-').to_owned()).or_default();
            let ProposedAction { label, methods, paths } = action;
            *label = format!("{word}: {tag}");
            methods.insert(method);
            paths.insert(pattern.clone());
            let rank = OWN.iter().position(|end| path.ends_with(end));
            let is_plain = *method == "GET" && !full.contains('{') && !has_required(operation);
            if let Some(rank) = rank.filter(|_| is_plain)
                && test.as_ref().is_none_or(|(best, _)| rank < *best)
            {
                test = Some((rank, format!("{base}{path}")));
            }
        }
    }
    found.test = test.map(|(_, url)| url).filter(|url| is_https(&url.replace(['{', '}'], "")));
}

/// Methods, and whether they change something.
const METHODS: &[(&str, bool)] = &[
    ("GET", false),
    ("HEAD", false),
    ("POST", true),
    ("PUT", true),
    ("PATCH", true),
    ("DELETE", true),
];

fn has_required(operation: &Value) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let is_required = |it: &Value| it.get("required").and_then(Value::as_bool).unwrap_or_default();
    parameters.into_iter().flatten().any(is_required)
}

/// A path with `*` for its parameters; `None` if it cannot be a pattern.
fn pattern(path: &str) -> Option<String> {
    let segments = path.split('/').map(|segment| match (segment.find('{'), segment.rfind('}')) {
        (Some(begin), Some(end)) if begin < end => {
            format!("{}*{}", &segment[..begin], &segment[end + 1..])
        }
        _ => segment.to_owned(),
    });
    let pattern = segments.collect::<Vec<_>>().join("/");
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~*:@".contains(&b);
    let fits = pattern.starts_with('/') && pattern.len() <= 200 && pattern.bytes().all(is_plain);
    (fits && !pattern.contains("//") && !pattern.contains("**")).then_some(pattern)
}
