//! The actions of all built-in providers, with the requests in `requests/`.

use std::collections::BTreeMap;

use super::*;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::actions::{ScopeShare, ScopedRequest, Unclear, belongs};
use crate::git_push::{PushedRefs, RequestedPush};
use crate::graphql::{OperationKind, Operations, RequestedOperations};
use crate::provider::{Catalogue, Instance, Provider, Variable};
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::{DecodedPath, PathPattern};

mod pushes;

/// Requests of a provider, by the actions that cover them (`read-code`, `clone, push`, `none`):
/// `METHOD HOST/PATH`, or `METHOD /PATH` for the first host, with a GraphQL document behind it.
type RequestTable = BTreeMap<String, Vec<String>>;

fn requests_to(provider: &Provider) -> RequestTable {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/requests");
    match std::fs::read_to_string(format!("{folder}/{}.yaml", provider.id)) {
        Ok(text) => serde_yaml::from_str(&text).unwrap(),
        Err(_) => RequestTable::new(),
    }
}

/// Examples of the provider's variables.
fn examples(provider: &Provider) -> BTreeMap<String, String> {
    let of = |it: &Variable| Some((it.name.clone(), it.example.clone()?));
    let without_default = provider.variables.iter().filter(|it| it.default.is_none());
    without_default.filter_map(of).collect()
}

fn with_host(provider: &Provider, line: &str) -> String {
    let Some((method, path)) = line.split_once(" /") else { return line.to_owned() };
    let values = provider.values(&examples(provider)).unwrap();
    let host = provider.hosts[0].fill(&values, &provider.variables).unwrap();
    format!("{method} {host}/{path}")
}

/// The actions that cover the request, sorted and separated by commas.
fn covering(provider: &Provider, line: &str) -> String {
    let line = with_host(provider, line);
    let is_in = |action: &&NamedAction| {
        let scopes = provider.action(&action.name, &examples(provider));
        covers(&scopes.unwrap().unwrap(), &line)
    };
    sorted(provider.actions().iter().filter(is_in).map(|action| &*action.name))
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn gets_credential(instance: &Instance, line: &str) -> bool {
    let Line { target, path, .. } = Line::parse(line);
    let owned = instance.hosts.iter().any(|host| host.matches(&target))
        && (instance.paths.is_empty() || instance.paths.iter().any(|it| it.matches(&path)));
    let endpoint = instance.oauth_endpoints.iter();
    let is_endpoint =
        endpoint.into_iter().any(|(host, at)| host.matches(&target) && at.matches(&path));
    // AWS signatures are written by code, not by a placement.
    let is_placed = instance.placements.is_empty()
        || instance.placements.iter().any(|scope| scope.matches(&target, &path));
    owned && !is_endpoint && is_placed
}

/// `GET host/path?query`.
struct Line<'a> {
    method: Method,
    target: Target,
    path: DecodedPath,
    query: Option<&'a str>,
    operations: Option<Operations>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let (method, url) = line.split_once(' ').unwrap();
        let (url, document) = url.split_once(' ').unwrap_or((url, ""));
        let (host, rest) = url.split_at(url.find('/').unwrap());
        let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
        Self {
            method: method.parse().unwrap(),
            target: Target::parse(Scheme::Https, host).unwrap(),
            path: DecodedPath::parse(path).unwrap(),
            query,
            operations: (!document.is_empty()).then(|| operations(document)),
        }
    }
}

fn operations(document: &str) -> Operations {
    let json = HeaderValue::from_static("application/json");
    let fields = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
    let body = serde_json::json!({ "query": document }).to_string();
    Operations::read(&fields, None, body.as_bytes()).expect(document)
}

fn covers(scopes: &[ActionScope], line: &str) -> bool {
    shares(scopes, line, ScopeShare::All) == Ok(true)
}

fn shares(scopes: &[ActionScope], line: &str, share: ScopeShare) -> Result<bool, Unclear> {
    let Line { method, target, path, query, operations } = Line::parse(line);
    let operations =
        operations.as_ref().map_or(RequestedOperations::Unread, RequestedOperations::Known);
    let (target, method, path) = (&target, &method, &path);
    let push = RequestedPush::Known(&PushedRefs::default());
    belongs(scopes, ScopedRequest { target, method, path, query, operations, push }, share)
}

/// Requests that can do what the action does although it does not list them.
const INDIRECT: [(&str, &str, &str); 102] = [
    ("gmail", "send", "POST gmail.googleapis.com/batch/gmail/v1"),
    ("gmail", "delete", "POST www.googleapis.com/batch/gmail/v1"),
    ("gmail", "send", "POST gmail.googleapis.com/Batch"),
    ("google", "send-mail", "POST gmail.googleapis.com/batch"),
    ("google", "delete-files", "POST www.googleapis.com/batch/drive/v3"),
    ("google", "delete-files", "DELETE www.googleapis.com/drive/v2/files/f"),
    ("google", "write-files", "PUT www.googleapis.com/resumable/upload/drive/v3/files"),
    ("google-calendar", "delete-events", "POST /batch/calendar/v3"),
    ("google-drive", "delete", "POST /batch/drive/v3"),
    ("google-drive", "delete", "DELETE /drive/v2/files/f"),
    ("google-drive", "delete", "POST /drive/v2internal/files/f/trash"),
    ("google-drive", "write", "PUT /upload/drive/v2/files/f"),
    ("google-drive", "administer", "DELETE /drive/v3/teamdrives/d"),
    ("google-docs", "edit", "POST /batch"),
    ("google-sheets", "clear-cells", "POST /batch"),
    ("google-gemini", "generate", "POST /v1beta/models/m:batchGenerateContent"),
    ("google-gemini", "generate", "POST /v1beta/interactions"),
    ("microsoft", "send-mail", "POST /v1.0/$batch"),
    ("microsoft", "send-mail", "POST /beta/%24BATCH"),
    ("microsoft", "send-mail", "POST /v1.0/users('u')/sendMail"),
    ("microsoft", "send-mail", "POST /v1.0/me/microsoft.graph.sendMail"),
    ("microsoft", "send-mail", "POST /v1.0/me/messages('m')/reply"),
    ("microsoft", "send-mail", "POST /v1.0/me/mailFolders/inbox/messages/m/reply"),
    ("microsoft", "read-mail", "GET /v1.0/me/messages('m')"),
    ("microsoft", "delete-events", "DELETE /v1.0/users/u/calendars/c/events/e"),
    ("microsoft", "delete-files", "DELETE /v1.0/users/u/drive/items/i"),
    ("microsoft", "write-files", "PUT /v1.0/groups/g/drive/root:/a.txt:/content"),
    ("microsoft", "share-files", "POST /v1.0/me/drive/root:/a/b.txt:/createLink"),
    ("atlassian", "delete", "POST /ex/jira/c/rest/api/3/bulk/issues/delete"),
    ("atlassian", "write-issues", "POST /ex/jira/c/rest/api/latest/bulk/issues/move"),
    ("atlassian", "delete", "DELETE /ex/confluence/c/wiki/rest/api/content/7/pageTree"),
    ("atlassian", "delete", "POST /graphql"),
    ("asana", "delete", "POST /api/1.0/batch"),
    ("intuit", "void", "POST /v3/company/1/batch"),
    ("whatsapp", "delete", "POST graph.facebook.com/v22.0?batch=%5B%5D"),
    ("whatsapp", "send", "POST graph.facebook.com/v22.0/me"),
    ("stripe", "refund", "POST /v2/core/batch_jobs"),
    ("salesforce", "delete", "POST /services/data/v62.0/composite"),
    ("salesforce", "apex", "POST /services/data/v62.0/composite/batch"),
    ("salesforce", "delete", "POST /services/data/v62.0/composite/graph"),
    ("salesforce", "delete", "POST /services/data/v62.0/jobs/ingest"),
    ("salesforce", "delete", "POST /services/data/v62.0/graphql mutation { uiapi { a } }"),
    ("cloudflare", "write-dns", "POST /client/v4/zones/z/dns_records/batch"),
    ("cloudflare", "write-dns", "POST /client/v4/zones/z/dns_records/import"),
    ("cloudflare", "delete", "POST /client/v4/accounts/a/storage/kv/namespaces/n/bulk/delete"),
    ("openai", "generate", "POST /v1/batches"),
    ("openai", "generate", "GET /v1/responses"),
    ("anthropic", "generate", "POST /v1/messages/batches"),
    ("groq", "generate", "POST /openai/v1/batches"),
    ("mistral", "embed", "POST /v1/batch/jobs"),
    ("shopify", "delete", "DELETE /admin/api/products/7.json"),
    ("shopify", "refund", "POST /admin/api/orders/7/refunds.json"),
    ("shopify", "delete", "POST /admin/api/graphql.json"),
    (
        "shopify",
        "delete",
        "POST /admin/api/2025-01/graphql.json mutation { bulkOperationRunMutation { a } }",
    ),
    ("gitlab", "merge", "POST /api/graphql mutation { mergeRequestAccept { a } }"),
    ("gitlab", "read-code", "POST /api/graphql { project { a } }"),
    ("gitlab", "graphql", "GET /api/graphql"),
    ("linear", "graphql", "GET /graphql"),
    ("monday", "graphql", "GET /v2"),
    ("github", "graphql", "GET api.github.com/graphql"),
    ("twilio", "send-messages", "POST api.twilio.com/2010-04-01/Accounts/AC1/Messages"),
    (
        "twilio",
        "send-messages",
        "POST api.dublin.us1.twilio.com/2010-04-01/Accounts/AC1/Messages.json",
    ),
    ("twilio", "call", "POST api.twilio.com/2010-04-01/Accounts/AC1/Calls.csv"),
    ("twilio", "delete", "DELETE api.twilio.com/2010-04-01/Accounts/AC1/SMS/Messages/SM1"),
    ("discord", "send", "POST /api/channels/1/messages"),
    ("discord", "send", "POST /api/v10/webhooks/1/token"),
    ("discord", "administer", "DELETE /api/guilds/1"),
    ("dropbox", "delete", "POST api.dropboxapi.com/2/files/delete"),
    ("dropbox", "write", "POST api.dropboxapi.com/2/files/move"),
    ("telegram-bot", "send", "POST /bot1:a/sendInvoice"),
    ("hubspot", "delete-records", "DELETE /contacts/v1/contact/vid/1"),
    ("hubspot", "delete-records", "DELETE /crm/objects/2025-09/contacts/1"),
    ("stripe", "write-subscriptions", "POST /v1/customers/cus_1/subscriptions"),
    ("salesforce", "delete", "DELETE /services/data/v62.0/ui-api/records/001"),
    ("salesforce", "write", "POST /services/data/v62.0/actions/standard/emailSimple"),
    ("salesforce", "delete", "GET /services/data/v62.0/tooling/executeAnonymous"),
    (
        "cloudflare",
        "deploy-workers",
        "PUT /client/v4/accounts/a/workers/services/s/environments/production",
    ),
    ("atlassian", "write-issues", "POST /ex/jira/c/rest/servicedeskapi/request"),
    ("atlassian", "comment-pages", "POST /ex/confluence/c/wiki/rest/api/content"),
    ("microsoft", "read-mail", "POST /v1.0/search/query"),
    ("microsoft", "read-chats", "POST /beta/subscriptions"),
    ("gitlab", "write-code", "PUT /api/v4/suggestions/7/apply"),
    ("gitlab", "write-code", "PUT /api/v4/projects/7/repository/submodules/a.json"),
    ("gitlab", "write-merge-requests", "POST /api/v4/projects/7/merge_requests/2/rebase"),
    ("gitlab", "write-merge-requests", "POST /api/v4/projects/7/merge_requests/2/rebase.json"),
    ("x", "post", "POST /1.1/statuses/update.json"),
    ("sendgrid", "send", "POST /api/mail.send.json"),
    ("gitlab", "merge", "POST /api/v4/projects/7/merge_requests/3/notes"),
    ("gitlab", "approve", "PUT /api/v4/projects/7/merge_requests/3"),
    ("google", "send-chat", "POST chat.googleapis.com/google.chat.v1.ChatService/CreateMessage"),
    ("gmail", "send", "POST gmail.googleapis.com/$rpc/google.a.v1.Mail/Send"),
    ("google-docs", "edit", "POST /$rpc/google.a.v1.Documents/BatchUpdate"),
    ("google-sheets", "edit", "POST /google.a.v4.Spreadsheets/BatchUpdate"),
    ("google-gemini", "delete", "POST /google.ai.generativelanguage.v1beta.FileService/DeleteFile"),
    ("gitlab", "merge", "POST /api/v4/projects/7/merge_requests/3/merge"),
    ("gitlab", "administer", "POST /api/v4/projects/7"),
    ("slack", "send", "POST slack.com/api/files.completeUploadExternal"),
    ("slack", "send", "GET slack.com/api/files.remote.share?channels=C1"),
    ("microsoft", "send-chats", "POST /v1.0/teams/t/primaryChannel/messages"),
    ("microsoft", "send-chats", "POST /beta/me/joinedTeams/t/channels/c/messages/m/replies"),
    ("microsoft", "send-chats", "POST /v1.0/groups/t/team/channels/c/messages"),
    ("microsoft", "read-chats", "GET /v1.0/users/u/chats/c/messages"),
];

#[test]
fn an_indirect_request_is_refused_where_the_action_is_denied_and_belongs_to_no_allowed_action() {
    let catalogue = Catalogue::built_in();
    for (id, action, line) in INDIRECT {
        let provider = catalogue.get(id).unwrap();
        let scopes = provider.action(action, &examples(provider)).unwrap().unwrap();
        let of = |share| shares(&scopes, &with_host(provider, line), share);
        assert_eq!(of(ScopeShare::Any), Err(Unclear::Indirect), "{id} {action}: {line}");
        assert_eq!(of(ScopeShare::All), Ok(false), "{id} {action}: {line}");
    }
}

/// <https://github.com/ruby-grape/grape#api-formats>
#[test]
fn a_format_behind_a_path_does_not_exempt_a_request_from_a_denied_action() {
    let catalogue = Catalogue::built_in();
    for (id, action, line) in [
        ("gitlab", "merge", "PUT /api/v4/projects/7/merge_requests/2/merge.json"),
        ("gitlab", "merge", "PUT /api/v4/projects/7/merge_requests/2/merge.a"),
        ("gitlab", "approve", "POST /api/v4/projects/7/merge_requests/2/approve.txt"),
        ("gitlab", "administer", "POST /api/v4/projects/7/access_tokens.json"),
        ("gitlab", "read-ci", "GET /api/v4/projects/7/jobs.json"),
    ] {
        let provider = catalogue.get(id).unwrap();
        let scopes = provider.action(action, &examples(provider)).unwrap().unwrap();
        let of = |share| shares(&scopes, &with_host(provider, line), share);
        assert_eq!(of(ScopeShare::Any), Ok(true), "{id} {action}: {line}");
        assert_eq!(of(ScopeShare::All), Ok(false), "{id} {action}: {line}");
    }
}

#[test]
fn deletion_of_objects_is_denied_in_every_form_and_at_every_host_of_s3() {
    let catalogue = Catalogue::built_in();
    let aws = catalogue.get("aws").unwrap();
    let scopes = aws.action("delete-objects", &BTreeMap::new()).unwrap().unwrap();
    let of = |line: &str| shares(&scopes, line, ScopeShare::Any);
    for line in [
        "POST b.s3.eu-west-1.amazonaws.com/?delete",
        "POST s3.amazonaws.com/b?delete=1&x-id=DeleteObjects",
        "POST s3.eu-west-1.amazonaws.com/b?uploads&%64elete=",
        "post b.s3.eu-west-1.amazonaws.com/?Delete",
        "DELETE b.s3.dualstack.xx-new-9.amazonaws.com/a//b;c",
        "DELETE b.s3-accelerate.amazonaws.com/a?newParameter",
        "DELETE ap-12.s3-accesspoint.eu-west-1.amazonaws.com/a?uploadId=x",
        "DELETE b--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com/a",
        "DELETE m1.mrap.accesspoint.s3-global.amazonaws.com/a",
        "DELETE b.s3.cn-north-1.amazonaws.com.cn/a",
    ] {
        assert_eq!(of(line), Ok(true), "{line}");
    }
    for line in [
        "POST b.s3.eu-west-1.amazonaws.com/a?uploads",
        "POST b.s3.eu-west-1.amazonaws.com/a?uploadId=delete",
        "PUT b.s3.eu-west-1.amazonaws.com/delete",
        "GET b.s3.eu-west-1.amazonaws.com/?delete",
        "DELETE lambda.eu-west-1.amazonaws.com/2015-03-31/functions/f",
        "POST dynamodb.eu-west-1.amazonaws.com/?delete",
    ] {
        assert_eq!(of(line), Ok(false), "{line}");
    }
    let separated = of("POST b.s3.eu-west-1.amazonaws.com/?uploads;delete");
    assert_eq!(separated, Err(Unclear::Query));
}

/// What is denied leaves the rest of the service usable.
#[test]
fn a_denied_action_refuses_no_indirect_requests_of_other_actions() {
    let catalogue = Catalogue::built_in();
    for (id, action, line) in [
        ("google-drive", "delete", "PATCH /drive/v3/files/f"),
        ("microsoft", "delete-files", "PUT /v1.0/sites/s/drive/root:/a.txt:/content"),
        ("microsoft", "share-files", "POST /v1.0/me/drive/root:/a.txt:/createUploadSession"),
        ("microsoft", "send-mail", "PATCH /v1.0/me/mailFolders/inbox/messages/m"),
        ("microsoft", "delete-events", "POST /v1.0/me/calendars/c/events"),
        ("microsoft", "send-mail", "GET /v1.0/me/calendarView(startDateTime='a')"),
        ("openai", "administer", "POST /v1/batches"),
        ("salesforce", "apex", "POST /services/data/v62.0/jobs/ingest"),
        ("cloudflare", "purge-cache", "POST /client/v4/zones/z/dns_records/batch"),
        ("shopify", "delete", "GET /admin/api/2025-01/products.json"),
        ("gitlab", "merge", "POST /api/graphql { project { a } }"),
        ("gitlab", "merge", "GET /api/v4/projects/group%2Fname/issues"),
        ("gitlab", "merge", "POST /api/v4/projects/7/issues/3/notes"),
        ("gitlab", "push", "GET /a/b/c/d/e/f/r.git/info/refs?service=git-upload-pack"),
        ("github", "write-issues-graphql", "GET api.github.com/repos/o/r/contents/a%2Fb"),
        ("twilio", "delete", "POST api.twilio.com/2010-04-01/Accounts/AC1/Messages"),
        ("discord", "send", "GET /api/channels/1/messages"),
        ("telegram-bot", "send", "POST /bot1:a/getUpdates"),
        ("hubspot", "delete-records", "GET /contacts/v1/contact/vid/1"),
        ("slack", "send", "POST slack.com/api/files.getUploadURLExternal"),
        ("microsoft", "send-chats", "GET /v1.0/teams/t/primaryChannel/messages"),
        ("google-gemini", "delete", "POST /v1beta/models/m:generateContent"),
    ] {
        let provider = catalogue.get(id).unwrap();
        let scopes = provider.action(action, &examples(provider)).unwrap().unwrap();
        let found = shares(&scopes, &with_host(provider, line), ScopeShare::Any);
        assert_eq!(found, Ok(false), "{id} {action}: {line}");
    }
}

#[test]
fn actions_cover_their_requests_and_no_others() {
    let mut wrong = Vec::new();
    for provider in Catalogue::built_in().all() {
        for (names, lines) in requests_to(provider) {
            let expected = sorted(names.split(", "));
            for line in lines {
                let found = covering(provider, &line);
                if found != expected {
                    wrong.push(format!("{} {line}: {found}, not {expected}", provider.id));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_action_has_requests_that_it_covers_and_requests_that_it_does_not() {
    for provider in Catalogue::built_in().all().filter(|it| !it.actions().is_empty()) {
        let requests = requests_to(provider);
        let count = |is_wanted: &dyn Fn(&str) -> bool| {
            let wanted = requests.iter().filter(|(names, _)| is_wanted(names));
            wanted.map(|(_, lines)| lines.len()).sum::<usize>()
        };
        for action in provider.actions() {
            let name = &*action.name;
            let has = |names: &str| names.split(", ").any(|other| other == name);
            let (within, beyond) = (count(&has), count(&|names| !has(names)));
            assert!(within >= 2 && beyond >= 2, "{} {name}: {within}, {beyond}", provider.id);
        }
        let beyond_all = count(&|names| names == "none");
        assert!(beyond_all >= 2, "{}: {beyond_all} requests of no action", provider.id);
    }
}

#[test]
fn an_action_covers_only_requests_that_get_the_credential() {
    for provider in Catalogue::built_in().all() {
        let instances =
            provider.auth.iter().map(|auth| provider.instantiate(auth, &examples(provider)));
        let instances: Vec<_> = instances.collect::<Result<_, _>>().unwrap();
        let requests = requests_to(provider).into_iter().filter(|(names, _)| names != "none");
        for line in requests.flat_map(|(_, lines)| lines) {
            let line = with_host(provider, &line);
            let owned = instances.iter().any(|instance| gets_credential(instance, &line));
            assert!(owned, "{}: {line}", provider.id);
        }
    }
}

/// The ends of paths where a POST only reads.
const READING_ENDS: [&str; 18] = [
    "/search",
    "/search/jql",
    "/search/approximate-count",
    "/search/emails",
    "/contacts/batch",
    "/batch/read",
    "/issue/bulkfetch",
    "/query",
    "/listRecords",
    "/contents",
    "/freeBusy",
    "/getSchedule",
    "/findMeetingTimes",
    ":getByDataFilter",
    ":batchGetByDataFilter",
    "/ocr",
    "/transcriptions",
    "/paths-info/**",
];

/// Whether the POST requests of an action that reads are GraphQL queries or have paths that only read.
fn posts_only_read(requests: &ActionRequests) -> bool {
    let reads = |path: &PathPattern| {
        let text = path.to_string();
        READING_ENDS.iter().any(|end| text.ends_with(end))
    };
    let scope = &requests.scope;
    match &scope.graphql {
        Some(scope) => scope.kinds == [OperationKind::Query],
        None if scope.any_query.iter().any(|name| **name == *"select") => true,
        None => !scope.paths.is_empty() && scope.paths.iter().all(reads),
    }
}

#[test]
fn read_actions_use_post_only_for_graphql_queries_and_paths_that_read() {
    // Their methods are named by the path.
    let by_path = ["dropbox", "slack", "telegram-bot"];
    for provider in Catalogue::built_in().all().filter(|it| !by_path.contains(&&*it.id)) {
        let read = |action: &&NamedAction| action.name.starts_with("read");
        for action in provider.actions().iter().filter(read) {
            let own = action.requests.iter().filter(|it| it.scope.kind == ScopeKind::Own);
            for requests in own {
                let reads = |it: &Method| match *it {
                    Method::GET | Method::HEAD => true,
                    Method::POST => posts_only_read(requests),
                    _ => false,
                };
                let methods = &requests.scope.methods;
                let all_read = methods.iter().all(reads);
                let named = format!("{} {}", provider.id, action.name);
                assert!(all_read && !methods.is_empty(), "{named}: {requests:?}");
            }
        }
    }
}

#[test]
fn sample_requests_are_of_known_providers_and_listed_once() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/requests");
    let catalogue = Catalogue::built_in();
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let provider = catalogue.get(name.strip_suffix(".yaml").unwrap()).expect(&name);
        let mut seen = std::collections::BTreeSet::new();
        for line in requests_to(provider).values().flatten() {
            assert!(seen.insert(line.clone()), "{name}: {line} is written twice");
        }
    }
}

#[test]
fn an_action_covers_only_the_hosts_of_its_connection() {
    let catalogue = Catalogue::built_in();
    let gitlab = catalogue.get("gitlab").unwrap();
    let own = BTreeMap::from([("host".to_owned(), "git.acme.test:8443".to_owned())]);
    let scopes = gitlab.action("clone", &own).unwrap().unwrap();
    assert!(covers(&scopes, "POST git.acme.test:8443/g/r.git/git-upload-pack"));
    assert!(!covers(&scopes, "POST gitlab.com/g/r.git/git-upload-pack"));
    assert!(gitlab.action("clones", &own).is_none());
    let any = gitlab.action_anywhere("clone").unwrap();
    assert!(covers(&any, "POST git.other.test/g/r.git/git-upload-pack"));
    let github = catalogue.get("github").unwrap().action_anywhere("clone").unwrap();
    assert!(!covers(&github, "POST git.other.test/g/r.git/git-upload-pack"));
}

#[test]
fn git_is_rewritten_only_for_hosts_where_the_method_writes_basic() {
    let hosts = |id: &str, auth: &str| -> Vec<String> {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get(id).unwrap();
        let auth = provider.auth(Some(auth)).unwrap();
        let found = provider.git_hosts(auth, &BTreeMap::new());
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(hosts("github", "pat"), ["github.com", "gist.github.com"]);
    assert_eq!(hosts("gitlab", "oauth"), ["gitlab.com"]);
    assert_eq!(hosts("hugging-face", "token"), ["huggingface.co"]);
    assert_eq!(hosts("hugging-face", "oauth"), [""; 0], "it has no place for git");
    assert_eq!(hosts("openai", "api_key"), [""; 0]);
}
