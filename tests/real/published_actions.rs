//! Named actions against the interfaces that services publish: each path of an action leads to an operation, what is
//! named `read` only reads, and what deletes is reviewed. Documents are in packages of npm and PyPI.

use std::path::{Path, PathBuf};

use http::Method;
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::DecodedPath;
use keyward_rules::actions::{ActionScope, ScopeKind};
use keyward_rules::provider::Catalogue;
use serde_json::Value;

use crate::stage::installed;

/// One operation of a published interface. Variables of the path are `x1`.
struct Operation {
    host: String,
    method: Method,
    path: DecodedPath,
    /// As published.
    name: String,
}

/// A provider, its interface, and what is reviewed in the comparison.
struct Published {
    provider: &'static str,
    operations: fn() -> Vec<Operation>,
    /// Fewer would be a document that was not understood.
    at_least: usize,
    /// Hosts that the interface leaves to other documents.
    elsewhere: &'static [&'static str],
    /// Paths of actions that lead to no operation, and why.
    unknown: &'static [(&'static str, &'static str)],
    /// Operations that read with another method than GET.
    reading: &'static [&'static str],
    /// Actions that cover DELETE.
    deleting: &'static [&'static str],
    /// One method serves all operations; the interface says of each what its SDK uses.
    any_method: bool,
    /// Variables of the hosts.
    variables: &'static [(&'static str, &'static str)],
}

const NONE: Published = Published {
    provider: "",
    operations: Vec::new,
    at_least: 1,
    elsewhere: &[],
    unknown: &[],
    reading: &[],
    deleting: &[],
    any_method: false,
    variables: &[],
};

const PUBLISHED: [Published; 9] = [
    Published {
        provider: "github",
        operations: github,
        at_least: 1000,
        // Git and the website.
        elsewhere: &[
            "github.com",
            "gist.github.com",
            "raw.githubusercontent.com",
            "codeload.github.com",
        ],
        unknown: &[("/graphql", "the document describes the REST API")],
        // `write-issues` takes away labels, assignees, and `write-pulls` reviewers.
        deleting: &["administer", "delete", "write-issues", "write-pulls"],
        ..NONE
    },
    Published {
        provider: "stripe",
        operations: stripe,
        at_least: 600,
        unknown: &[
            ("/v1/balance/history", "older name of /v1/balance_transactions"),
            ("/v1/charges/*/refund", "older name of /v1/refunds"),
            ("/v1/charges/*/refunds", "older name of /v1/refunds"),
            ("/v1/account", "changing one's own account is older than the SDK"),
        ],
        // `write-subscriptions` cancels them.
        deleting: &["administer", "delete", "write-subscriptions"],
        ..NONE
    },
    Published {
        provider: "slack",
        operations: slack,
        at_least: 200,
        elsewhere: &["files.slack.com"],
        // Both only read, although the SDK sends POST.
        reading: &["POST /api/auth.test", "POST /api/bookmarks.list"],
        any_method: true,
        ..NONE
    },
    Published {
        provider: "shopify",
        operations: shopify,
        at_least: 350,
        unknown: &[
            ("/admin/api/*/customers/*/addresses.json", "the SDK leaves addresses out"),
            ("/admin/api/*/customers/*/addresses/*.json", "the SDK leaves addresses out"),
            ("/admin/api/*/variants/*", "older name of /products/*/variants/*"),
            ("/admin/oauth/access_scopes.json", "no part of a version"),
            ("/admin/api/*/graphql.json", "no package of a registry carries its schema"),
        ],
        deleting: &["administer", "delete", "discounts"],
        variables: &[("shop", "shop")],
        ..NONE
    },
    Published {
        provider: "gmail",
        operations: || google(&["gmail.v1"]),
        at_least: 70,
        deleting: &["administer", "delete"],
        ..NONE
    },
    Published {
        provider: "google-calendar",
        operations: || google(&["calendar.v3"]),
        at_least: 35,
        reading: &["POST /calendar/v3/freeBusy"],
        deleting: &["administer", "delete-events", "share"],
        ..NONE
    },
    Published {
        provider: "google-drive",
        operations: || google(&["drive.v3", "drive.v2"]),
        at_least: 100,
        unknown: &[
            ("PUT /upload/drive/v3/files", "the parts of an upload that a POST began"),
            ("PUT /upload/drive/v3/files/*", "the parts of an upload that a PATCH began"),
        ],
        deleting: &["administer", "delete", "share"],
        ..NONE
    },
    Published { provider: "google-docs", operations: || google(&["docs.v1"]), at_least: 3, ..NONE },
    Published {
        provider: "google-sheets",
        operations: || google(&["sheets.v4"]),
        at_least: 15,
        reading: &[
            "POST /v4/spreadsheets/{spreadsheetId}:getByDataFilter",
            "POST /v4/spreadsheets/{spreadsheetId}/values:batchGetByDataFilter",
        ],
        ..NONE
    },
];

impl Operation {
    fn new(host: &str, method: &str, path: &str) -> Self {
        let (mut filled, mut rest) = (String::new(), path);
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before.trim_end_matches('$'));
            filled.push_str("x1");
            rest = after.split_once('}').expect("a variable ends").1;
        }
        filled.push_str(rest);
        Self {
            host: host.to_owned(),
            method: method.to_ascii_uppercase().parse().expect("a method"),
            path: DecodedPath::parse(&filled).unwrap_or_else(|error| panic!("{path}: {error}")),
            name: format!("{} {path}", method.to_ascii_uppercase()),
        }
    }

    fn is_of(&self, scope: &ActionScope, published: &Published) -> bool {
        let target = Target::parse(Scheme::Https, &self.host).expect("a host");
        let is_host = scope.hosts.iter().any(|host| host.matches(&target));
        let is_method = published.any_method
            || scope.methods.is_empty()
            || scope.methods.contains(&self.method);
        let is_path = scope.paths.is_empty() || scope.paths.iter().any(|it| it.matches(&self.path));
        is_host && is_method && is_path
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).expect("JSON")
}

fn in_python(path: &str) -> PathBuf {
    let library = installed("real-venv/lib");
    let mut found = std::fs::read_dir(library).expect("a folder").map(|it| it.expect("one").path());
    found.next().expect("a version of Python").join("site-packages").join(path)
}

fn host_of(url: &str) -> String {
    url.strip_prefix("https://").expect("https").split('/').next().expect("a host").to_owned()
}

/// OpenAPI.
fn github() -> Vec<Operation> {
    let path = "real-node/node_modules/@octokit/openapi/generated/api.github.com.json";
    let document = json(&installed(path));
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, operation) in operations.as_object().expect("operations") {
            let servers = operation.get("servers").unwrap_or(&document["servers"]);
            let host = host_of(servers[0]["url"].as_str().expect("a URL"));
            found.push(Operation::new(&host, method, path));
            let by_number = by_number(path).map(|path| Operation::new(&host, method, &path));
            found.extend(by_number);
        }
    }
    found
}

/// The path with the number of a repository, an organisation or a user, which is in links to further pages and in
/// redirects. No document has it.
fn by_number(path: &str) -> Option<String> {
    let names = [
        ("/repos/{owner}/{repo}", "/repositories/{id}"),
        ("/repos/{template_owner}/{template_repo}", "/repositories/{id}"),
        ("/orgs/{org}", "/organizations/{id}"),
        ("/users/{username}/", "/user/{id}/"),
    ];
    let mut found = names.into_iter().filter_map(|(named, numbered)| {
        let rest = path.strip_prefix(named)?;
        Some(format!("{numbered}{rest}"))
    });
    found.next()
}

/// The SDK is generated from OpenAPI: `_makeRequest('GET', '/v1/refunds', …` or a path in backticks.
fn stripe() -> Vec<Operation> {
    let mut folders = vec![installed("real-node/node_modules/stripe/esm/resources")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "js") {
                let text = read(&path);
                found.extend(text.split("_makeRequest(").skip(1).filter_map(|call| {
                    let mut quoted = call.split(['\'', '`']);
                    let is_call = call.trim_start().starts_with('\'');
                    let (method, path) = (quoted.nth(1)?, quoted.nth(1)?);
                    if !is_call || !path.starts_with('/') {
                        // The helper itself, whose arguments are names.
                        return None;
                    }
                    let own = call.split("_makeRequest(").next().unwrap_or_default();
                    let is_file = path == "/v1/files" && own.contains("apiBase: 'files'");
                    let host = if is_file { "files.stripe.com" } else { "api.stripe.com" };
                    Some(Operation::new(host, method, path))
                }));
            }
        }
    }
    found
}

/// The SDK is generated: `{ "http_method": "get", …, "path": "orders/<id>.json" }` in a class for each resource.
fn shopify() -> Vec<Operation> {
    let folder = installed("real-node/node_modules/@shopify/shopify-api/dist/esm/rest/admin");
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let newest = names(&folder).into_iter().filter(|path| path.is_dir()).max().expect("a version");
    let version = newest.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let modules =
        names(&newest).into_iter().filter(|it| it.extension().is_some_and(|it| it == "mjs"));
    let mut found = Vec::new();
    for text in modules.map(|path| read(&path)) {
        found.extend(text.split("\"http_method\": \"").skip(1).filter_map(|entry| {
            let method = entry.split('"').next()?;
            let path = entry.split("\"path\": \"").nth(1)?.split('"').next()?;
            let path = path.replace('<', "{").replace('>', "}");
            let path = format!("/admin/api/{version}/{path}");
            Some(Operation::new("shop.myshopify.com", method, &path))
        }));
    }
    found
}

/// The SDK for Python: `api_call("conversations.history", http_verb="GET", …`; POST is the default.
fn slack() -> Vec<Operation> {
    let text = read(&in_python("slack_sdk/web/client.py"));
    let calls = text.split("self.api_call(").skip(1);
    let found = calls.filter_map(|call| {
        let call = call.split(')').next()?;
        let name = call.trim_start().strip_prefix('"')?.split('"').next()?;
        let method = if call.contains("http_verb=\"GET\"") { "GET" } else { "POST" };
        Some(Operation::new("slack.com", method, &format!("/api/{name}")))
    });
    found.collect()
}

/// Discovery documents.
fn google(names: &[&str]) -> Vec<Operation> {
    let mut found = Vec::new();
    for name in names {
        let path = format!("googleapiclient/discovery_cache/documents/{name}.json");
        let document = json(&in_python(&path));
        let host = host_of(document["rootUrl"].as_str().expect("a URL"));
        let base = format!("/{}", document["servicePath"].as_str().expect("a path"));
        let mut resources = vec![&document];
        while let Some(resource) = resources.pop() {
            resources
                .extend(resource["resources"].as_object().into_iter().flat_map(|it| it.values()));
            for method in resource["methods"].as_object().into_iter().flat_map(|it| it.values()) {
                let verb = method["httpMethod"].as_str().expect("a method");
                let path = method.get("flatPath").unwrap_or(&method["path"]).as_str();
                let path = format!("{base}{}", path.expect("a path"));
                found.push(Operation::new(&host, verb, &path));
                let uploads = method["mediaUpload"]["protocols"].as_object();
                for upload in uploads.into_iter().flat_map(|it| it.values()) {
                    let path = upload["path"].as_str().expect("a path");
                    found.push(Operation::new(&host, verb, path));
                }
            }
        }
    }
    found
}

/// The scope, once for each of its paths and each method.
fn split(scope: &ActionScope) -> Vec<(String, ActionScope)> {
    let paths = scope.paths.iter().map(|path| {
        let methods: Vec<String> = scope.methods.iter().map(ToString::to_string).collect();
        let name = format!("{} {path}", methods.join(", "));
        (name, ActionScope { paths: vec![path.clone()], ..scope.clone() })
    });
    paths.collect()
}

fn compare(published: &Published) {
    let catalogue = Catalogue::built_in();
    let id = published.provider;
    let provider = catalogue.get(id).expect("a provider");
    let operations = (published.operations)();
    assert!(operations.len() >= published.at_least, "{id}: {}", operations.len());
    let (mut unknown, mut deleting, mut reading) = (vec![], vec![], vec![]);
    for action in provider.actions() {
        let variables =
            published.variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let variables = variables.collect();
        let mut scopes =
            provider.action(&action.name, &variables).expect("it is one").expect("filled");
        let is_elsewhere = |host: &dyn ToString| published.elsewhere.contains(&&*host.to_string());
        // Batches, and other forms of the interface.
        scopes.retain(|scope| scope.kind == ScopeKind::Own);
        scopes.retain(|scope| !scope.hosts.iter().all(|host| is_elsewhere(host)));
        for (name, one) in scopes.iter().flat_map(split) {
            if !operations.iter().any(|operation| operation.is_of(&one, published)) {
                unknown.push(format!("{}: {name}", action.name));
            }
        }
        let is_covered = |it: &&Operation| scopes.iter().any(|scope| it.is_of(scope, published));
        let covered: Vec<&Operation> = operations.iter().filter(is_covered).collect();
        if covered.iter().any(|it| it.method == Method::DELETE) {
            deleting.push(action.name.clone());
        }
        let writes = covered.iter().filter(|it| ![Method::GET, Method::HEAD].contains(&it.method));
        if action.name.starts_with("read") {
            reading.extend(writes.map(|it| it.name.clone()));
        }
    }
    let mut seen = Vec::new();
    unknown.retain(|found| {
        let known = published.unknown.iter().find(|(path, _)| found.ends_with(&format!(" {path}")));
        seen.extend(known);
        known.is_none()
    });
    assert!(unknown.is_empty(), "{id}: paths that lead to no operation: {unknown:#?}");
    for exception in published.unknown {
        assert!(seen.contains(exception), "{id}: {exception:?} is no exception any more");
    }
    reading.sort_unstable();
    reading.dedup();
    let mut expected = published.reading.to_vec();
    expected.sort_unstable();
    assert_eq!(reading, expected, "{id}: `read` covers what may write");
    deleting.sort_unstable();
    assert_eq!(deleting, published.deleting, "{id}: actions that delete");
}

#[test]
fn actions_cover_published_operations_and_read_actions_only_read() {
    PUBLISHED.iter().for_each(compare);
}
