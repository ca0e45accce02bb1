//! `keyward connect https://…`: any API by its URL and the place of its key. The provider is stored first, so
//! that its errors come before the question for the key, and is removed again if nothing was connected.

use http::{HeaderName, Uri};
use keyward_base::host::{Scheme, Target};
use serde_json::{Value, json};

use super::questions;
use crate::cli::client::{Client, segment};
use crate::cli::connection::shape::Shapes;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use keyward_api::wire::{ProviderSource, ProviderView};

/// Longest id of a provider.
const ID_CHARS_MAX: usize = 64;

/// Where an API expects its key.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(super) struct KeyPlaceArgs {
    /// for a URL: send the key as `Authorization: Bearer`
    #[arg(long)]
    bearer: bool,
    /// for a URL: send the key in this header field
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// for a URL: send the key in this query parameter
    #[arg(long, value_name = "NAME")]
    query: Option<String>,
    /// for a URL: send user name and password as `Authorization: Basic`
    #[arg(long)]
    basic: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum KeyPlace {
    Bearer,
    Header(String),
    Query(String),
    Basic,
}

/// An API as the user describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct OwnApi {
    /// Host, with a port that is not 443.
    authority: String,
    /// What a test requests.
    url: String,
    place: KeyPlace,
}

/// The provider of an API.
pub(super) struct Chosen {
    pub(super) provider: ProviderView,
    /// The auth method.
    pub(super) auth: String,
    /// Whether it was stored for this connection.
    pub(super) is_new: bool,
}

/// Whether the argument is a URL instead of a provider's id.
pub(super) fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// The failure where the place is neither given nor can be asked.
pub(super) fn no_place() -> Failure {
    Failure::usage("how the API expects its key is missing").hint(
        "--bearer, --header NAME, --query NAME or --basic; an MCP server: keyward connection add URL",
    )
}

impl KeyPlaceArgs {
    /// The place that the options name.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub(super) fn place(&self) -> Result<Option<KeyPlace>, Failure> {
        Ok(match self {
            Self { bearer: true, .. } => Some(KeyPlace::Bearer),
            Self { basic: true, .. } => Some(KeyPlace::Basic),
            Self { header: Some(name), .. } => Some(KeyPlace::header(name)?),
            Self { query: Some(name), .. } => Some(KeyPlace::query(name)?),
            _ => None,
        })
    }
}

impl KeyPlace {
    fn header(name: &str) -> Result<Self, Failure> {
        let refused = |_| {
            Failure::usage(format!("`{name}` cannot be the name of a header field"))
                .hint("give its name alone, such as --header X-Api-Key")
        };
        HeaderName::from_bytes(name.as_bytes())
            .map(|_| Self::Header(name.to_owned()))
            .map_err(refused)
    }

    fn query(name: &str) -> Result<Self, Failure> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        match !name.is_empty() && name.bytes().all(is_plain) {
            true => Ok(Self::Query(name.to_owned())),
            false => Err(Failure::usage(format!("`{name}` cannot be the name of a parameter"))
                .hint("give its name alone, such as --query api_key")),
        }
    }

    /// Asks for the place.
    ///
    /// # Errors
    /// When the user stops, or the name cannot be one.
    pub(super) fn ask() -> Result<Self, Failure> {
        let ways = [
            "Authorization: Bearer KEY",
            "another header field",
            "a query parameter",
            "user name and password",
        ];
        match questions::choose("how the API expects its key", &ways)? {
            0 => Ok(Self::Bearer),
            1 => Self::header(&crate::cli::terminal::secret::ask("name of the header field")?),
            2 => Self::query(&crate::cli::terminal::secret::ask("name of the parameter")?),
            _ => Ok(Self::Basic),
        }
    }

    /// The id of the auth method; tells the places of one host apart.
    fn id(&self) -> String {
        match self {
            Self::Bearer => "bearer".to_owned(),
            Self::Basic => "basic".to_owned(),
            Self::Header(name) => format!("header-{}", dashed(name)),
            Self::Query(name) => format!("query-{}", dashed(name)),
        }
    }

    fn definition(&self, variable: &str) -> Value {
        let (kind, end, placement) = match self {
            Self::Bearer => ("bearer", "TOKEN", None),
            Self::Basic => ("basic", "PASSWORD", None),
            Self::Header(name) => ("api_key", "KEY", Some(json!({"header": name}))),
            Self::Query(name) => ("api_key", "KEY", Some(json!({"query": name}))),
        };
        let env = format!("{variable}_{end}");
        let mut method = json!({"id": self.id(), "kind": kind, "env": [env]});
        if let Some(placement) = placement {
            method["placement"] = placement;
        }
        method
    }
}

impl OwnApi {
    /// Checks the URL.
    ///
    /// # Errors
    /// When it is not the https URL of an API.
    pub(super) fn parse(url: &str, place: KeyPlace) -> Result<Self, Failure> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            "https" => {}
            "http" => {
                return Err(Failure::usage(
                    "http:// is not encrypted: anyone on the way reads the key",
                )
                .hint("give the API's https:// URL; Keyward sends a key only over TLS"));
            }
            _ => {
                return Err(
                    Failure::usage("this is not the URL of an API").hint("write https://HOST/PATH")
                );
            }
        }
        let refused = |what: &str, hint: &str| {
            // The URL is not repeated: it may contain a key.
            Failure::usage(what).hint(hint.to_owned())
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(refused(
                "the URL contains a user name or a password",
                "remove them and add --basic: then Keyward asks for them, or reads --secret-stdin",
            ));
        }
        let target = Target::parse(Scheme::Https, authority).map_err(|error| {
            refused(&format!("the host of the URL is invalid: {error}"), "write https://HOST/PATH")
        })?;
        let uri = rest.split('#').next().unwrap_or_default();
        let uri: Uri = format!("https://{uri}").parse().map_err(|_| {
            refused("this is not a URL", "write https://HOST/PATH, with special characters encoded")
        })?;
        let tail = uri.path_and_query().map_or("/", |tail| tail.as_str());
        if tail.contains(['{', '}']) {
            return Err(refused("the URL contains braces", "write a complete path without `{…}`"));
        }
        if let (KeyPlace::Query(name), Some(query)) = (&place, uri.query())
            && query.split('&').any(|pair| pair.split('=').next() == Some(name))
        {
            return Err(refused(
                &format!("the URL contains the parameter `{name}` already"),
                "remove it: Keyward asks for the key, or reads it from --secret-stdin",
            ));
        }
        let authority = match target.port() {
            443 => target.host().to_string(),
            port => format!("{}:{port}", target.host()),
        };
        Ok(Self { url: format!("https://{authority}{tail}"), authority, place })
    }

    /// The own provider of this API; stores one if there is none.
    ///
    /// # Errors
    /// When the host belongs to a provider with other ways to send a key, or the provider is refused.
    pub(super) async fn provider(
        &self,
        client: &Client,
        shapes: &Shapes,
    ) -> Result<Chosen, Failure> {
        let auth = self.place.id();
        let has_host = |it: &&ProviderView| {
            it.managed_by != Some(ProviderSource::Catalogue) && it.hosts.contains(&self.authority)
        };
        let Some(known) = shapes.providers().iter().find(has_host) else {
            let provider = client.post("/api/v1/providers", &self.definition(shapes)).await?;
            return Ok(Chosen { provider, auth, is_new: true });
        };
        if known.auth.iter().any(|it| it.id == auth) {
            return Ok(Chosen { provider: known.clone(), auth, is_new: false });
        }
        let ways: Vec<_> = known.auth.iter().map(|it| it.id.as_str()).collect();
        let message = format!("{} belongs to your provider `{}`", self.authority, known.id);
        Err(Failure::new(Exit::Failed, message).hint(format!(
            "keyward connect {id} --auth {}; for another way: keyward provider remove {id} first",
            ways.join("|"),
            id = known.id
        )))
    }

    fn definition(&self, shapes: &Shapes) -> Value {
        let mut id: String = dashed(&self.authority);
        id.truncate(ID_CHARS_MAX - 4);
        let is_taken = |id: &str| shapes.providers().iter().any(|it| it.id == id);
        if is_taken(&id) {
            let numbered = (2..).map(|number| format!("{id}-{number}"));
            id = numbered.take(100).find(|id| !is_taken(id)).unwrap_or(id);
        }
        let mut variable = dashed(&self.authority).replace('-', "_").to_ascii_uppercase();
        if variable.starts_with(|c: char| c.is_ascii_digit()) {
            variable.insert_str(0, "API_");
        }
        json!({
            "id": id,
            "name": self.authority,
            "hosts": [self.authority],
            "auth": [self.place.definition(&variable)],
            "test": {"method": "GET", "url": self.url, "rejects": [401, 403]},
        })
    }
}

impl Chosen {
    /// Removes a provider that was stored for a connection which was not made.
    pub(super) async fn undo(&self, client: &Client) {
        if !self.is_new {
            return;
        }
        let id = &self.provider.id;
        if client.delete(&format!("/api/v1/providers/{}", segment(id))).await.is_err() {
            output::note(&format!("note: provider {id} stays: keyward provider remove {id}"));
        }
    }
}

/// `api.corp.example:8443` → `api-corp-example-8443`.
fn dashed(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let dash = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    lower.chars().map(dash).collect::<String>().trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Result<OwnApi, Failure> {
        OwnApi::parse(url, KeyPlace::Query("key".to_owned()))
    }

    #[test]
    fn an_unusable_api_url_is_refused_with_a_hint_and_without_its_secrets() {
        for (url, says) in [
            ("http://api.corp.example/canary", "http:// is not encrypted"),
            ("ftp://api.corp.example/canary", "not the URL of an API"),
            ("https://", "the host of the URL is invalid"),
            ("https:///canary", "the host of the URL is invalid"),
            ("https://user:canary@api.corp.example/", "a user name or a password"),
            ("https://api.corp.example:0/canary", "the host of the URL is invalid"),
            ("https://*.corp.example/canary", "the host of the URL is invalid"),
            ("https://api.corp.example/a b?x=canary", "this is not a URL"),
            ("https://api.corp.example/{canary}", "braces"),
            ("https://api.corp.example/me?a=b&key=canary", "the parameter `key` already"),
        ] {
            let message = parsed(url).unwrap_err().to_string();
            assert!(message.contains(says), "{url}: {message}");
            assert!(message.contains("\nhint: ") && !message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn host_port_path_and_query_are_kept_and_the_fragment_is_not() {
        for (url, authority, asked) in [
            ("https://API.corp.example", "api.corp.example", "https://api.corp.example/"),
            ("HTTPS://a.test:443/me", "a.test", "https://a.test/me"),
            ("https://a.test:8443/v1/me?x=1#top", "a.test:8443", "https://a.test:8443/v1/me?x=1"),
            ("https://10.0.0.5/me", "10.0.0.5", "https://10.0.0.5/me"),
        ] {
            let api = parsed(url).unwrap();
            assert_eq!((&*api.authority, &*api.url), (authority, asked), "{url}");
        }
    }

    #[test]
    fn every_key_place_makes_a_valid_provider_definition() {
        use keyward_model::OwnProviderSpec;
        use keyward_rules::provider::Catalogue;
        let places = [
            KeyPlace::Bearer,
            KeyPlace::Basic,
            KeyPlace::header("X-Api-Key").unwrap(),
            KeyPlace::query("api_key").unwrap(),
        ];
        for place in places {
            for url in ["https://api.corp.example:8443/v1/me?x=1", "https://10.0.0.5/"] {
                let api = OwnApi::parse(url, place.clone()).unwrap();
                let Value::Object(definition) = api.definition(&Shapes::none()) else { panic!() };
                let provider = OwnProviderSpec::new(definition).provider(&Catalogue::built_in());
                let provider = provider.unwrap_or_else(|problems| panic!("{problems:?}"));
                assert!(provider.auth(Some(&place.id())).is_some(), "{place:?}");
            }
        }
    }

    #[test]
    fn an_invalid_name_of_a_header_or_query_parameter_is_refused() {
        for bad in ["X-Key: abc", "", "a b"] {
            assert!(KeyPlace::header(bad).is_err() && KeyPlace::query(bad).is_err(), "{bad}");
        }
    }
}
