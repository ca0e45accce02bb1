//! The built-in providers, compiled in from `catalogue/*.yaml`.

use std::sync::LazyLock;

use super::catalogue::Catalogue;
use super::check;

/// The built-in provider files, one provider each.
const FILES: &[(&str, &str)] = &[
    ("activecampaign.yaml", include_str!("catalogue/activecampaign.yaml")),
    ("airtable.yaml", include_str!("catalogue/airtable.yaml")),
    ("anthropic.yaml", include_str!("catalogue/anthropic.yaml")),
    ("asana.yaml", include_str!("catalogue/asana.yaml")),
    ("atlassian.yaml", include_str!("catalogue/atlassian.yaml")),
    ("box.yaml", include_str!("catalogue/box.yaml")),
    ("brave-search.yaml", include_str!("catalogue/brave-search.yaml")),
    ("clickup.yaml", include_str!("catalogue/clickup.yaml")),
    ("cloudflare.yaml", include_str!("catalogue/cloudflare.yaml")),
    ("discord.yaml", include_str!("catalogue/discord.yaml")),
    ("dropbox.yaml", include_str!("catalogue/dropbox.yaml")),
    ("exa.yaml", include_str!("catalogue/exa.yaml")),
    ("github.yaml", include_str!("catalogue/github.yaml")),
    ("gitlab.yaml", include_str!("catalogue/gitlab.yaml")),
    ("gmail.yaml", include_str!("catalogue/gmail.yaml")),
    ("google-calendar.yaml", include_str!("catalogue/google-calendar.yaml")),
    ("google-docs.yaml", include_str!("catalogue/google-docs.yaml")),
    ("google-drive.yaml", include_str!("catalogue/google-drive.yaml")),
    ("google-gemini.yaml", include_str!("catalogue/google-gemini.yaml")),
    ("google-sheets.yaml", include_str!("catalogue/google-sheets.yaml")),
    ("google.yaml", include_str!("catalogue/google.yaml")),
    ("groq.yaml", include_str!("catalogue/groq.yaml")),
    ("hubspot.yaml", include_str!("catalogue/hubspot.yaml")),
    ("hugging-face.yaml", include_str!("catalogue/hugging-face.yaml")),
    ("intuit.yaml", include_str!("catalogue/intuit.yaml")),
    ("linear.yaml", include_str!("catalogue/linear.yaml")),
    ("linkedin.yaml", include_str!("catalogue/linkedin.yaml")),
    ("mcp.yaml", include_str!("catalogue/mcp.yaml")),
    ("microsoft.yaml", include_str!("catalogue/microsoft.yaml")),
    ("mistral.yaml", include_str!("catalogue/mistral.yaml")),
    ("mysql.yaml", include_str!("catalogue/mysql.yaml")),
    ("notion.yaml", include_str!("catalogue/notion.yaml")),
    ("openai.yaml", include_str!("catalogue/openai.yaml")),
    ("openrouter.yaml", include_str!("catalogue/openrouter.yaml")),
    ("postgres.yaml", include_str!("catalogue/postgres.yaml")),
    ("redis.yaml", include_str!("catalogue/redis.yaml")),
    ("resend.yaml", include_str!("catalogue/resend.yaml")),
    ("salesforce.yaml", include_str!("catalogue/salesforce.yaml")),
    ("sendgrid.yaml", include_str!("catalogue/sendgrid.yaml")),
    ("sentry-self-hosted.yaml", include_str!("catalogue/sentry-self-hosted.yaml")),
    ("sentry.yaml", include_str!("catalogue/sentry.yaml")),
    ("shopify.yaml", include_str!("catalogue/shopify.yaml")),
    ("slack.yaml", include_str!("catalogue/slack.yaml")),
    ("spotify.yaml", include_str!("catalogue/spotify.yaml")),
    ("ssh.yaml", include_str!("catalogue/ssh.yaml")),
    ("stripe.yaml", include_str!("catalogue/stripe.yaml")),
    ("telegram-bot.yaml", include_str!("catalogue/telegram-bot.yaml")),
    ("twilio.yaml", include_str!("catalogue/twilio.yaml")),
    ("whatsapp.yaml", include_str!("catalogue/whatsapp.yaml")),
    ("x.yaml", include_str!("catalogue/x.yaml")),
    ("xero.yaml", include_str!("catalogue/xero.yaml")),
    ("zoom.yaml", include_str!("catalogue/zoom.yaml")),
];

impl Catalogue {
    /// The built-in providers.
    pub fn built_in() -> Self {
        // Parsed once: each configuration that is read requests them several times.
        static READ: LazyLock<Catalogue> = LazyLock::new(Catalogue::read);
        READ.clone()
    }

    fn read() -> Self {
        let none = Self::default();
        let read = |(name, text): &(&str, &str)| {
            check::file(name, text, &none).expect("built-in files are sound: a test reads them all")
        };
        none.with(FILES.iter().flat_map(read))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inject::path_prefix::PathPrefix;
    use crate::inject::placement::{Location, Place};
    use crate::inject::template::{Encoding, Template};
    use crate::provider::{AuthMethod, FormError, Instance};
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
        Place { at, value: Template::parse(template, Encoding::Plain).unwrap() }
    }

    #[test]
    fn every_built_in_file_is_sound_and_named_after_its_id() {
        let catalogue = Catalogue::built_in();
        assert_eq!(catalogue.all().count(), FILES.len());
        for (name, _) in FILES {
            let id = name.strip_suffix(".yaml").unwrap();
            let provider = catalogue.get(id).unwrap();
            // Self-hosted servers have no common key page, and no request that is harmless on all of them.
            let is_service = !["mcp", "ssh"].contains(&id) && provider.protocol.is_none();
            assert_eq!(provider.about.key_url.is_some(), is_service, "{id}");
            assert!(provider.about.docs_url.is_some(), "{id}");
            assert!(!provider.about.sources.is_empty(), "{id}");
            assert!(provider.about.confidence.is_some() && provider.category.is_some(), "{id}");
            assert_eq!(provider.test(&provider.auth[0]).is_some(), is_service, "{id}");
            assert!(provider.auth[0].later.is_none(), "{id}: the default method works now");
            let given = |auth: &&AuthMethod| auth.later.is_none() && auth.minted.is_none();
            // `run` sets the variables of databases, whose values depend on the listener.
            let methods =
                provider.auth.iter().filter(given).filter(|_| provider.protocol.is_none());
            for field in methods.flat_map(AuthMethod::carried) {
                assert!(!field.env.is_empty(), "{id}.{}", field.name);
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_compiled_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/provider/catalogue");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        assert!(names.iter().map(String::as_str).eq(FILES.iter().map(|(name, _)| *name)));
    }

    #[test]
    fn a_length_leaves_room_behind_every_prefix() {
        for provider in Catalogue::built_in().all() {
            for field in provider.auth.iter().flat_map(|auth| &auth.fields) {
                let longest = field.prefixes.iter().map(String::len).max().unwrap_or(0);
                assert!(field.length.is_none_or(|length| length > longest), "{}", field.name);
            }
        }
    }

    #[test]
    fn what_the_test_request_is_filled_with_is_a_variable_or_a_field() {
        for provider in Catalogue::built_in().all() {
            for auth in provider.auth.iter().filter(|auth| auth.later.is_none()) {
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
    fn a_token_of_an_own_gitlab_goes_nowhere_else() {
        let own = instance("gitlab", "token", &[("host", "git.acme.test:8443")]);
        let hosts: Vec<String> = own.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["git.acme.test:8443"]);
        assert_eq!(own.oauth_endpoints.len(), 2);
        let usual = instance("gitlab", "token", &[]);
        assert_eq!(usual.hosts[0].to_string(), "gitlab.com");
    }

    #[test]
    fn gitlab_takes_the_header_in_the_api_and_basic_for_git_and_registries() {
        let gitlab = instance("gitlab", "token", &[]);
        let basic = |text| {
            let value = Template::parse(text, Encoding::Basic).unwrap();
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
    fn hosts_with_defaults_are_known_and_their_token_endpoints_carved() {
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
    fn anthropic_empties_both_fields_whichever_is_used() {
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
    fn github_sends_bearer_to_the_api_and_basic_to_git_and_nothing_to_the_website() {
        let github = instance("github", "pat", &[]);
        let bearer = [header("authorization", "Bearer {token}")];
        assert_eq!(places(&github, "api.github.com", "/user"), Some(&bearer[..]));
        assert_eq!(places(&github, "uploads.github.com", "/repos/a/b"), Some(&bearer[..]));
        let value = Template::parse("x-access-token:{token}", Encoding::Basic).unwrap();
        let basic = [Place { at: Location::Header(http::header::AUTHORIZATION), value }];
        for path in
            ["/o/r.git/info/refs", "/o/r/git-upload-pack", "/o/r.git/info/lfs/objects/batch"]
        {
            assert_eq!(places(&github, "github.com", path), Some(&basic[..]), "{path}");
        }
        for path in ["/", "/login", "/o/r/settings", "/settings/tokens"] {
            assert_eq!(places(&github, "github.com", path), None, "{path}");
        }
    }

    #[test]
    fn github_token_endpoints_are_carved_out() {
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
    fn telegram_writes_the_path_of_calls_and_of_files() {
        let telegram = instance("telegram-bot", "token", &[]);
        let path = |text| {
            let value = Template::parse(text, Encoding::Plain).unwrap();
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

    #[test]
    fn a_kind_that_comes_later_is_not_supported_yet() {
        let text =
            "id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{ id: o, kind: oauth1 }]\n";
        let acme = check::file("p", text, &Catalogue::default()).unwrap().remove(0);
        let error = acme.instantiate(&acme.auth[0], &BTreeMap::new());
        let said = error.map(|_| ()).unwrap_err().to_string();
        assert!(said.ends_with("is not supported yet"), "{said}");
    }
}
