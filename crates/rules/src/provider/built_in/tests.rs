//! Tests of the built-in files: each is valid, and single services have what they need.

use std::collections::BTreeMap;

use super::*;
use crate::inject::path_prefix::PathPrefix;
use crate::inject::placement::{Location, Place};
use crate::inject::template::{Encoding, ValueTemplate};
use crate::provider::{AuthMethod, Catalogue, Confidence, FormError, Instance, check};
use keyward_base::host::{Scheme, Target};
use keyward_base::pattern::DecodedPath;

fn instance(provider: &str, auth: &str, variables: &[(&str, &str)]) -> Instance {
    let catalogue = Catalogue::built_in();
    let provider = catalogue.get(provider).unwrap();
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    provider.instantiate(provider.auth(Some(auth)).unwrap(), &variables).unwrap()
}

fn places<'i>(instance: &'i Instance, host: &str, path: &str) -> Option<&'i [Place]> {
    let target = Target::parse(Scheme::Https, host).unwrap();
    let path = DecodedPath::parse(path).unwrap();
    assert!(instance.hosts.iter().any(|own| own.matches(&target)), "{host} is not owned");
    let scope = instance.placements.iter().find(|scope| scope.matches(&target, &path));
    scope.map(|scope| &*scope.what)
}

fn header(name: &'static str, template: &str) -> Place {
    let at = Location::Header(http::HeaderName::from_static(name));
    Place { at, value: ValueTemplate::parse(template, Encoding::Plain).unwrap() }
}

/// Providers that have no page with keys, and no request that is harmless at all of their servers.
const ANYWHERE: [&str; 3] = ["mcp", "sqlite", "ssh"];

/// Providers with a wildcard. Each label below it is the service's own: what is stored there is read back only by the
/// owner of the credential, so that none of its customers can collect the credentials of others. To the hosts of AWS and
/// of storage with buckets goes a signature over the host and the request, which is of use nowhere else.
const WILDCARDS: [(&str, &str); 8] = [
    ("aws", "*.amazonaws.com"),
    ("aws", "*.api.aws"),
    ("aws", "*.amazonaws.com.cn"),
    ("backblaze-b2", "*.s3.{region}.backblazeb2.com"),
    ("cloudflare-r2", "*.{account_id}.r2.cloudflarestorage.com"),
    ("pinecone", "*.pinecone.io"),
    ("sentry", "*.sentry.io"),
    ("twilio", "*.twilio.com"),
];

#[test]
fn actions_that_are_parsed_later_are_those_of_the_whole_file() {
    let catalogue = Catalogue::built_in();
    for file in FILES {
        let whole = check::file(file.id, file.text, &Catalogue::default()).unwrap().remove(0);
        let later = catalogue.get(&whole.id).unwrap().actions();
        assert_eq!(format!("{later:?}"), format!("{:?}", whole.actions()), "{}", file.id);
    }
}

#[test]
fn every_built_in_file_is_sound_and_named_after_its_id() {
    let catalogue = Catalogue::built_in();
    assert!(FILES.len() >= 300, "{}", FILES.len());
    for file in FILES {
        let provider = catalogue.get(file.id).unwrap_or_else(|| panic!("{}", file.id));
        let id = &*provider.id;
        assert_eq!(id, file.id);
        let is_service = !ANYWHERE.contains(&id)
            && provider.protocol.is_none()
            && provider.category.as_deref() != Some("mcp");
        assert_eq!(provider.about.key_url.is_some(), is_service, "{id}");
        assert!(provider.about.docs_url.is_some(), "{id}");
        assert!(!provider.about.sources.is_empty(), "{id}");
        assert!(
            provider.about.checked.is_some(),
            "{id}: the day on which its facts were confirmed"
        );
        assert!(provider.category.is_some(), "{id}");
        let confidence = provider.about.confidence;
        let is_confirmed = matches!(confidence, Some(Confidence::High | Confidence::Medium));
        assert!(is_confirmed, "{id}: {confidence:?}; confirm it, or omit the provider");
        let says_why = provider.about.quirks.iter().any(|it| it.starts_with("no request is known"));
        let is_tested = provider.test(&provider.auth[0]).is_some();
        assert_eq!(is_tested, is_service && !says_why, "{id}: a test, or the reason for none");
        let given = |auth: &&AuthMethod| auth.minted.is_empty();
        for field in provider.auth.iter().filter(given).flat_map(AuthMethod::carried) {
            assert!(!field.env.is_empty(), "{id}.{}", field.name);
        }
    }
}

#[test]
fn agents_hold_no_placeholder_of_ssh_keys_files_and_database_logins() {
    let catalogue = Catalogue::built_in();
    for provider in catalogue.all() {
        for auth in &provider.auth {
            let is_sent = provider.protocol.is_none() && auth.kind.is_of_requests();
            let is_carried = auth.carried().next().is_some();
            assert!(is_sent || !is_carried, "{}/{}", provider.id, auth.id);
        }
    }
}

#[test]
fn app_steps_of_every_provider_cite_their_source() {
    let catalogue = Catalogue::built_in();
    let without = catalogue.all().flat_map(|provider| {
        let steps = provider.auth.iter().filter(|auth| !auth.app_steps.is_empty());
        let none = steps.filter(|auth| auth.app_source.is_none());
        none.map(|auth| format!("{}/{}", provider.id, auth.id)).collect::<Vec<_>>()
    });
    let without: Vec<_> = without.collect();
    assert!(without.is_empty(), "cite the page that has the steps: {without:?}");
}

#[test]
fn every_file_of_the_folder_is_compiled_in_under_its_name() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/catalogue");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort_unstable();
    let mut listed: Vec<String> = FILES.iter().map(|file| format!("{}.yaml", file.id)).collect();
    assert!(FILES.is_sorted_by_key(|file| file.id), "providers are searched by id");
    listed.sort_unstable();
    assert_eq!(names, listed);
}

#[test]
fn the_compiled_list_agrees_with_every_provider_file() {
    for entry in Catalogue::built_in().entries() {
        let (id, provider) = (&**entry.id(), entry.provider());
        assert_eq!(
            (entry.name(), entry.category()),
            (&*provider.name, provider.category.as_deref())
        );
        assert_eq!(entry.known_hosts(), provider.known_hosts().collect::<Vec<_>>(), "{id}");
        let listed = entry.oauth_endpoints();
        assert!(provider.oauth_endpoints.iter().all(|it| listed.contains(it)), "{id}: {listed:?}");
        assert!(listed.iter().all(|it| provider.oauth_endpoints.contains(it)), "{id}: {listed:?}");
        for host in &provider.hosts {
            let sample = HostPattern::parse(&host.sample(&provider.variables)).unwrap();
            assert_eq!(entry.has_host(&sample), provider.has_host(&sample), "{id}: {sample}");
        }
    }
}

#[test]
fn the_look_ups_at_gateway_start_parse_no_provider_file() {
    let all: &'static [BuiltIn] =
        BuiltIn::all(|name, text| check::file(name, text, &Catalogue::default())).leak();
    let text = "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{ id: k, kind: bearer }]\n";
    let acme = check::file("p", text, &Catalogue::default()).unwrap().remove(0);
    let catalogue = Catalogue::of(all).with([acme.clone()]);
    let catalogue = catalogue.with_org_providers([&Arc::new(acme)]);
    assert!(catalogue.known_hosts().count() > 200 && catalogue.oauth_endpoints().count() > 50);
    assert_eq!(catalogue.owner_of("api.openai.com").map(|id| &**id), Some("openai"));
    assert_eq!(catalogue.owner_of("api.acme.test").map(|id| &**id), Some("acme"));
    assert_eq!(catalogue.owner_of("api.github.com").map(|id| &**id), Some("github"));
    assert_eq!(catalogue.owner_of("graph.microsoft.com"), None, "of several services");
    assert_eq!(catalogue.ids().count(), FILES.len() + 1);
    let hosts = [HostTemplate::parse("x.myshopify.com").unwrap()];
    assert_eq!(catalogue.host_owner(&hosts).map(|(it, _)| it.name()), Some("Shopify Admin"));
    let found = catalogue.entries().filter(|it| it.category() == Some("llm")).count();
    assert!(found > 10, "{found}");
    assert_eq!(all.iter().filter(|it| it.is_parsed()).count(), 0);
    assert!(catalogue.get("openai").is_some() && catalogue.get("no-such").is_none());
    assert_eq!(all.iter().filter(|it| it.is_parsed()).count(), 1, "the one that is used");
}

#[test]
fn every_wildcard_host_is_in_the_reviewed_list() {
    let catalogue = Catalogue::built_in();
    let mut found = Vec::new();
    for provider in catalogue.all() {
        let hosts = provider.hosts.iter().map(ToString::to_string);
        found.extend(hosts.filter(|it| it.contains('*')).map(|it| (provider.id.to_string(), it)));
    }
    let found: Vec<_> = found.iter().map(|(id, host)| (&**id, &**host)).collect();
    assert_eq!(found, WILDCARDS);
}

/// Hosts below names of services that have other hosts in the catalogue: anyone may have such a name, or reads there what others
/// uploaded.
const OF_ANYONE: [&str; 24] = [
    "a.github.io",
    "user-images.githubusercontent.com",
    "gist.githubusercontent.com",
    "a.gitlab.io",
    "a.bitbucket.io",
    "a.vercel.app",
    "a.netlify.app",
    "a.pages.dev",
    "a.workers.dev",
    "a.r2.dev",
    "a.herokuapp.com",
    "a.fly.dev",
    "a.onrender.com",
    "a.railway.app",
    "a.ngrok.io",
    "a.myshopify.com",
    "a.zendesk.com",
    "a.notion.site",
    "a.webflow.io",
    "a.wordpress.com",
    "a.storage.googleapis.com",
    "a.blob.core.windows.net",
    "a.sharepoint.com",
    "a.twil.io",
];

#[test]
fn no_provider_owns_a_host_that_anyone_can_register_or_upload_to() {
    let catalogue = Catalogue::built_in();
    for host in OF_ANYONE {
        let host = HostPattern::parse(host).unwrap();
        let owner = |pattern: &HostPattern| pattern.overlaps(&host);
        assert_eq!(catalogue.known_hosts().find(owner), None, "{host}");
    }
    let api = HostPattern::parse("api.github.com").unwrap();
    assert!(catalogue.known_hosts().any(|pattern| pattern.overlaps(&api)));
}

#[test]
fn a_service_with_public_pages_on_its_api_host_does_not_own_their_paths() {
    for (id, path) in [
        ("anthropic", "/docs/en/home"),
        ("discord", "/channels/1"),
        ("jira", "/browse/A-1"),
        ("coda", "/d/x"),
        ("kagi", "/search"),
    ] {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get(id).unwrap();
        let path = DecodedPath::parse(path).unwrap();
        assert!(!provider.paths.is_empty(), "{id}");
        assert!(!provider.paths.iter().any(|own| own.matches(&path)), "{id}");
    }
}

#[test]
fn the_length_of_every_key_is_greater_than_its_longest_prefix() {
    for provider in Catalogue::built_in().all() {
        for field in provider.auth.iter().flat_map(|auth| &auth.fields) {
            let longest = field.prefixes.iter().map(String::len).max().unwrap_or(0);
            assert!(field.length.is_none_or(|length| length > longest), "{}", field.name);
        }
    }
}

#[test]
fn every_name_in_a_test_url_is_a_variable_or_a_field() {
    for provider in Catalogue::built_in().all() {
        for auth in &provider.auth {
            let Some(test) = provider.test(auth) else { continue };
            let names = test.url.split('{').skip(1).filter_map(|rest| rest.split('}').next());
            for name in names {
                let known = provider.variable(name).is_some() || auth.field(name).is_some();
                assert!(known, "{}.{}: {name}", provider.id, auth.id);
            }
        }
    }
}

#[test]
fn a_token_of_a_self_hosted_gitlab_is_only_for_its_host() {
    let own = instance("gitlab", "token", &[("host", "git.acme.test:8443")]);
    let hosts: Vec<String> = own.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["git.acme.test:8443"]);
    assert_eq!(own.oauth_endpoints.len(), 2);
    let usual = instance("gitlab", "token", &[]);
    assert_eq!(usual.hosts[0].to_string(), "gitlab.com");
}

#[test]
fn gitlab_gets_private_token_or_bearer_in_its_apis_and_basic_for_git_and_pypi() {
    let gitlab = instance("gitlab", "token", &[]);
    let basic = |text| {
        let value = ValueTemplate::parse(text, Encoding::Basic).unwrap();
        vec![Place { at: Location::Header(http::header::AUTHORIZATION), value }]
    };
    let bearer = vec![header("authorization", "Bearer {api_key}")];
    for (path, expected) in [
        ("/api/v4/projects/a%2Fb", Some(vec![header("private-token", "{api_key}")])),
        ("/api/graphql", Some(bearer.clone())),
        ("/api/v4/projects/1/packages/npm/x", Some(bearer)),
        ("/api/v4/projects/1/packages/pypi/simple/x", Some(basic("__token__:{api_key}"))),
        ("/g/s/p.git/git-receive-pack", Some(basic("oauth2:{api_key}"))),
        ("/g/p/info/refs", Some(basic("oauth2:{api_key}"))),
        ("/g/p.git/info/lfs/objects/batch", Some(basic("oauth2:{api_key}"))),
        ("/users/sign_in", None),
        ("/g/p/-/settings/ci_cd", None),
    ] {
        assert_eq!(places(&gitlab, "gitlab.com", path), expected.as_deref(), "{path}");
    }
}

#[test]
fn hosts_with_default_variables_are_known_and_have_oauth_endpoints() {
    let catalogue = Catalogue::built_in();
    let known: Vec<String> = catalogue.known_hosts().map(|host| host.to_string()).collect();
    assert!(known.contains(&"gitlab.com".to_owned()));
    assert!(!catalogue.get("gitlab").unwrap().oauth_endpoints.is_empty());
    assert_eq!(catalogue.get("sentry-self-hosted").unwrap().known_hosts().count(), 0);
}

/// For itself, for a user of the domain, and as another account.
#[test]
fn a_service_account_of_google_reaches_each_of_its_services_with_their_scopes() {
    let catalogue = Catalogue::built_in();
    for (id, host, scope) in [
        ("google", "people.googleapis.com", "userinfo.email"),
        ("gmail", "gmail.googleapis.com", "gmail.modify"),
        ("google-calendar", "www.googleapis.com", "calendar"),
        ("google-docs", "docs.googleapis.com", "documents"),
        ("google-drive", "www.googleapis.com", "drive"),
        ("google-sheets", "sheets.googleapis.com", "spreadsheets"),
    ] {
        let auth = catalogue.get(id).unwrap().auth(Some("service_account")).unwrap();
        let fields: Vec<_> = auth.fields.iter().map(|it| (&*it.name, it.secret)).collect();
        let expected = [("service_account", true), ("subject", false), ("impersonate", false)];
        assert_eq!(fields, expected, "{id}");
        let oauth = auth.oauth.as_ref().unwrap();
        assert_eq!(oauth.scopes, [format!("https://www.googleapis.com/auth/{scope}")], "{id}");
        let token = oauth.token.as_ref().unwrap().as_str();
        assert_eq!(token, "https://oauth2.googleapis.com/token", "{id}");
        let other = BTreeMap::from([("impersonate".to_owned(), "a@p.test".to_owned())]);
        let renew = oauth.renew().unwrap().fill(&other).unwrap();
        let of_other = "/v1/projects/-/serviceAccounts/a%40p.test:generateAccessToken";
        assert_eq!(renew, format!("https://iamcredentials.googleapis.com{of_other}"), "{id}");
        let instance = instance(id, "service_account", &[]);
        let path = match id {
            "gmail" => "/gmail/v1/users/me/profile",
            "google-calendar" => "/calendar/v3/users/me/calendarList",
            "google-drive" => "/drive/v3/about",
            _ => "/v1/x",
        };
        let written = places(&instance, host, path).unwrap();
        assert_eq!(written, [header("authorization", "Bearer {access_token}")], "{id}");
    }
}

#[test]
fn own_providers_never_replace_built_in_ones() {
    let built_in = Catalogue::built_in();
    let mut other = (**built_in.get("openai").unwrap()).clone();
    other.name = "Not OpenAI".into();
    assert_eq!(built_in.with([other]).get("openai").unwrap().name, "OpenAI");
}

#[test]
fn anthropic_clears_both_credential_fields_for_every_auth_method() {
    for auth in ["api_key", "oauth_token"] {
        let clears = instance("anthropic", auth, &[]).clears;
        let names: Vec<&str> = clears.headers.iter().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-api-key", "authorization"]);
    }
    let key = instance("anthropic", "api_key", &[]);
    let written = places(&key, "api.anthropic.com", "/v1/messages");
    assert_eq!(written, Some(&[header("x-api-key", "{api_key}")][..]));
}

#[test]
fn the_website_of_claude_is_reached_without_a_credential_and_only_at_the_page_that_claude_code_checks()
 {
    for auth in ["api_key", "oauth_token"] {
        let anthropic = instance("anthropic", auth, &[]);
        for path in ["/", "/v1/oauth/token", "/v1/messages", "/v1/oauth/hello/x"] {
            assert_eq!(places(&anthropic, "platform.claude.com", path), None, "{path}");
        }
        assert_eq!(places(&anthropic, "platform.claude.com", "/v1/oauth/hello"), Some(&[][..]));
    }
}

#[test]
fn a_token_of_copilot_leaves_the_api_of_github_to_connections_of_github() {
    let catalogue = Catalogue::built_in();
    let copilot = catalogue.get("github-copilot").unwrap();
    let covers = |path: &str| {
        let path = DecodedPath::parse(path).unwrap();
        copilot.paths.iter().any(|own| own.matches(&path))
    };
    for path in ["/user", "/repos/a/b", "/graphql", "/"] {
        assert!(!covers(path), "{path}");
    }
    for path in ["/copilot_internal/user", "/models", "/chat/completions", "/mcp/readonly"] {
        assert!(covers(path), "{path}");
    }
}

#[test]
fn github_gets_bearer_at_the_api_basic_at_git_and_nothing_at_the_website() {
    let github = instance("github", "pat", &[]);
    let bearer = [header("authorization", "Bearer {token}")];
    assert_eq!(places(&github, "api.github.com", "/user"), Some(&bearer[..]));
    assert_eq!(places(&github, "uploads.github.com", "/repos/a/b"), Some(&bearer[..]));
    let value = ValueTemplate::parse("x-access-token:{token}", Encoding::Basic).unwrap();
    let basic = [Place { at: Location::Header(http::header::AUTHORIZATION), value }];
    for path in ["/o/r.git/info/refs", "/o/r/git-upload-pack", "/o/r.git/info/lfs/objects/batch"] {
        assert_eq!(places(&github, "github.com", path), Some(&basic[..]), "{path}");
    }
    for path in ["/", "/login", "/o/r/settings", "/settings/tokens"] {
        assert_eq!(places(&github, "github.com", path), None, "{path}");
    }
}

#[test]
fn github_token_endpoints_are_listed_as_oauth_endpoints() {
    let github = instance("github", "pat", &[]);
    let is_endpoint = |host: &str, path: &str| {
        let target = Target::parse(Scheme::Https, host).unwrap();
        let path = DecodedPath::parse(path).unwrap();
        github.oauth_endpoints.iter().any(|(h, p)| h.matches(&target) && p.matches(&path))
    };
    assert!(is_endpoint("github.com", "/login/oauth/access_token"));
    assert!(is_endpoint("api.github.com", "/applications/abc/token"));
    assert!(is_endpoint("api.github.com", "/app/installations/1/access_tokens"));
    assert!(!is_endpoint("api.github.com", "/user"));
}

#[test]
fn telegram_credentials_are_written_into_the_paths_of_calls_and_files() {
    let telegram = instance("telegram-bot", "token", &[]);
    let path = |text| {
        let value = ValueTemplate::parse(text, Encoding::Plain).unwrap();
        [Place { at: Location::Path(PathPrefix::of(&value, |_| true)), value }]
    };
    let written = places(&telegram, "api.telegram.org", "/botX/getMe");
    assert_eq!(written, Some(&path("/bot{api_key}/")[..]));
    let written = places(&telegram, "api.telegram.org", "/file/botX/a.jpg");
    assert_eq!(written, Some(&path("/file/bot{api_key}/")[..]));
}

#[test]
fn a_shop_is_one_label_of_myshopify() {
    let catalogue = Catalogue::built_in();
    let shopify = catalogue.get("shopify").unwrap();
    let auth = shopify.auth(None).unwrap();
    let fill = |shop: &str| {
        shopify.instantiate(auth, &BTreeMap::from([("shop".to_owned(), shop.to_owned())]))
    };
    for bad in ["", "a.b", "evil.test/", "a:1", "*", "-a", "a-", "a b", "é", "{shop}"] {
        assert!(matches!(fill(bad), Err(FormError::Label { .. })), "{bad}");
    }
    let found = fill("My-Shop").unwrap();
    assert_eq!(found.hosts[0].to_string(), "my-shop.myshopify.com");
    assert_eq!(found.oauth_endpoints.len(), 1);
    assert!(
        shopify.oauth_endpoints.is_empty(),
        "a host with a variable has its endpoints per connection"
    );
    let missing = shopify.instantiate(auth, &BTreeMap::new());
    assert!(matches!(missing, Err(FormError::Missing { .. })));
    let unknown = BTreeMap::from([("shopp".to_owned(), "a".to_owned())]);
    assert!(matches!(shopify.instantiate(auth, &unknown), Err(FormError::Unknown { .. })));
}
