//! [`AuthMethod`]: one way to authenticate at a provider, with its fields and the placements of the credential; whether
//! it needs the consent of a person, and which apps it accepts.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::AUTHORIZATION;

use super::host_template::HostTemplate;
use super::keys::TlsFields;
use super::kinds::AuthKind;
use super::oauth::{GrantText, OAuth};
use super::schema::{AppSourceText, TestText};
use crate::inject::own_authorization::Signs;
use crate::inject::placeholder::{Letters, Placeholder, PlaceholderShape, longest};
use crate::inject::placement::{Location, Place};
use crate::inject::sign::jwt::JwtTemplate;
use crate::inject::sign::request_signer::SigningScheme;
use keyward_base::pattern::PathPattern;
use keyward_base::secret::Secret;

/// One way to authenticate at a provider.
#[derive(Clone, Debug)]
pub struct AuthMethod {
    /// The id, unique in the provider.
    pub id: String,
    /// The kind of credential.
    pub kind: AuthKind,
    pub label: String,
    /// A note for people.
    pub note: Option<String>,
    /// The fields that the owner enters.
    pub fields: Vec<Field>,
    /// Placements of the credential; the first match by host and path applies.
    pub placements: Vec<ScopedPlaces>,
    /// A test request for this method, if the provider's is not suitable.
    pub test: Option<TestText>,
    /// What is injected, if it is minted and not entered.
    pub minted: Vec<Field>,
    /// The token endpoint and related data, for kinds that have one.
    pub oauth: Option<Arc<OAuth>>,
    /// URL of the page where apps are registered.
    pub app_url: Option<String>,
    /// What to do on that page; `{redirect_uri}` is replaced by the app's.
    pub app_steps: Vec<String>,
    /// The page that has these steps.
    pub app_source: Option<AppSourceText>,
    /// What AWS signatures name for requests that the agent does not sign.
    pub aws: AwsScope,
    /// What signs requests with the owner's fields, for kinds that are data.
    pub scheme: Option<Arc<SigningScheme>>,
    /// Fields that are used in TLS handshakes and sent in no request.
    pub tls: Option<TlsFields>,
}

/// Region and service of an AWS signature.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AwsScope {
    /// The region; `None`: the host or the connection names it.
    pub region: Option<String>,
    /// The name of the service in signatures; `None`: the host or the connection names it.
    pub service: Option<String>,
}

/// Placements for some hosts and paths, before variables are filled in.
#[derive(Clone, Debug)]
pub struct ScopedPlaces {
    /// Hosts; empty means all of the provider's.
    pub hosts: Vec<HostTemplate>,
    /// Paths; empty means all.
    pub paths: Vec<PathPattern>,
    /// The places and templates.
    pub places: Vec<Place>,
}

/// A field that the owner enters.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name, as in `--field NAME=…`.
    pub name: String,
    pub label: String,
    pub help: Option<String>,
    /// Whether the value is sealed and never shown; then agents get a placeholder of it.
    pub secret: bool,
    /// Whether the field may be omitted.
    pub optional: bool,
    /// Whether its value must be kept in a secret source: it expires, and the source has the next one.
    pub from_source: bool,
    /// Known prefixes of values. Not enforced, because services add new ones.
    pub prefixes: Vec<String>,
    /// Ends of values that programs read, with variables as `{name}`.
    pub suffixes: Vec<String>,
    /// How placeholders begin, if not as the first of the prefixes: for SDKs that check more of a key.
    pub placeholder: Option<Box<str>>,
    /// The length of values in characters, if all have the same; placeholders get it. Not enforced.
    pub length: Option<usize>,
    /// The letters of placeholders after their beginning.
    pub letters: Letters,
    /// A pattern that whole values must match; enforced.
    pub pattern: Option<KeyPattern>,
    /// Environment variables that SDKs read this field from.
    pub env: Vec<String>,
}

const ANCHOR_BEGIN: &str = "^(?:";
const ANCHOR_END: &str = ")$";

/// Maximum compiled size: 64 KiB, ample for the shape of a key.
const SHAPE_BYTES_MAX: usize = 64 * 1024;

/// A regular expression that must match a whole value.
#[derive(Clone, Debug)]
pub struct KeyPattern(regex_lite::Regex);

impl AuthMethod {
    /// The secrets that requests carry; agents hold a placeholder of each. Keys of SSH and secrets of database logins
    /// are in no request: an agent's token is the password of its sessions.
    pub fn carried(&self) -> impl Iterator<Item = &Field> {
        let is_of_requests = self.kind != AuthKind::SshKey && !self.is_database_login();
        let is_sent = move |field: &&Field| {
            let tls = self.tls.as_ref();
            field.secret && self.minted.is_empty() && !tls.is_some_and(|tls| tls.names(&field.name))
        };
        let given = self.fields.iter().filter(is_sent);
        given.chain(&self.minted).filter(move |_| is_of_requests)
    }

    /// How requests are signed, if that of an agent is known by a placeholder in it.
    pub(super) fn signs(&self) -> Option<Signs> {
        let is_secret = |name: &str| self.field(name).is_some_and(|field| field.secret);
        let mut places = self.placements.iter().flat_map(|scoped| &scoped.places);
        // One that names no secret cannot be told from that of somebody else.
        let is_unknown = |place: &Place| {
            place.at == Location::Header(AUTHORIZATION) && !place.value.fields().any(is_secret)
        };
        match self.kind {
            AuthKind::AwsSigv4 | AuthKind::AwsRole => Some(Signs::Aws),
            AuthKind::Oauth1 => Some(Signs::Scheme),
            AuthKind::Hmac => (!places.any(is_unknown)).then_some(Signs::Scheme),
            _ => None,
        }
    }

    /// Whether the credential is for logins at a database.
    fn is_database_login(&self) -> bool {
        let mut places = self.placements.iter().flat_map(|scoped| &scoped.places);
        places.any(|place| matches!(place.at, Location::Login(_)))
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The token that the owner's key signs, for all requests or for each.
    fn signed_token(&self) -> Option<&JwtTemplate> {
        let of_requests = match self.scheme.as_deref() {
            Some(SigningScheme::Jwt(token)) => Some(token),
            _ => None,
        };
        of_requests.or_else(|| self.oauth.as_ref()?.signed.as_deref())
    }

    /// Whether values of the field may have several lines, which an input of one line would lose: keys and
    /// certificates in PEM, key files, and the lines of `known_hosts`.
    pub fn is_multiline(&self, field: &Field) -> bool {
        let is_of_tls = || self.tls.as_ref().is_some_and(|tls| tls.names(&field.name));
        match self.kind {
            AuthKind::SshKey => matches!(&*field.name, "private_key" | "known_hosts"),
            AuthKind::SignedJwt => self
                .signed_token()
                .is_some_and(|token| *token.key == *field.name && !token.has_shared_key()),
            kind => kind.has_documents() && field.secret || is_of_tls(),
        }
    }
}

impl Field {
    /// A new placeholder. It begins and ends as `key` does, of what the provider declares; without a key, as the first
    /// declared texts. Nothing else of the key is in it.
    pub fn placeholder(
        &self,
        key: Option<&Secret>,
        variables: &BTreeMap<String, String>,
    ) -> Placeholder {
        let first = self.prefixes.first().map_or("", String::as_str);
        let begins = longest(key, &self.prefixes, |key, it| key.starts_with(it)).unwrap_or(first);
        let rest = self.placeholder.as_deref().map(|it| it.strip_prefix(first).unwrap_or(it));
        let filled = |suffix: &String| {
            let fill = |text: String, (name, value): (&String, &String)| {
                text.replace(&format!("{{{name}}}"), value)
            };
            variables.iter().fold(suffix.clone(), fill)
        };
        let suffixes: Vec<String> = self.suffixes.iter().map(filled).collect();
        let suffix = longest(key, &suffixes, |key, it| key.ends_with(it));
        let suffix = suffix.or(suffixes.first().map(String::as_str));
        Placeholder::in_shape(PlaceholderShape {
            prefix: &format!("{begins}{}", rest.unwrap_or_default()),
            // A variable without a value.
            suffix: suffix.filter(|it| !it.contains('{')).unwrap_or_default(),
            length: self.length,
            letters: self.letters,
        })
    }

    /// Whether anything is known of what values look like.
    pub fn has_shape(&self) -> bool {
        !self.prefixes.is_empty() || self.length.is_some() || self.pattern.is_some()
    }

    /// Whether not all keys begin and end alike.
    pub fn has_variants(&self) -> bool {
        self.prefixes.len() > 1 || self.suffixes.len() > 1
    }

    /// The only required secret field; `None` if there are none or several.
    pub(super) fn only_secret(fields: &[Self]) -> Option<&Self> {
        let mut secrets = fields.iter().filter(|field| field.secret && !field.optional);
        secrets.next().filter(|_| secrets.next().is_none())
    }
}

impl KeyPattern {
    /// Compiles `pattern`, anchored at both ends.
    ///
    /// # Errors
    /// When it is not a regular expression, with the reason.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        regex_lite::RegexBuilder::new(&format!("{ANCHOR_BEGIN}{pattern}{ANCHOR_END}"))
            .size_limit(SHAPE_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The expression as a provider's file has it.
    pub fn written(&self) -> &str {
        let anchored = self.0.as_str();
        &anchored[ANCHOR_BEGIN.len()..anchored.len() - ANCHOR_END.len()]
    }

    /// The anchored expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl AuthMethod {
    /// Whether the grant results from a person's consent at the provider.
    pub fn is_consented_to(&self) -> bool {
        let grant = self.oauth.as_ref().map(|oauth| oauth.grant);
        let by_hand = [GrantText::AuthorizationCode, GrantText::DeviceCode];
        self.kind.asks_people() && grant.is_some_and(|grant| by_hand.contains(&grant))
    }

    /// Whether its credential is a token from a token endpoint, which may renew it. Not for OAuth 1.0a, whose tokens
    /// sign requests like keys.
    pub fn has_tokens(&self) -> bool {
        self.oauth.is_some() && self.kind != AuthKind::Oauth1
    }

    /// Whether an app may request its tokens.
    pub fn takes_app(&self) -> bool {
        let is_of_owner = |oauth: &OAuth| oauth.session.is_some() || oauth.signed.is_some();
        self.oauth.as_ref().is_some_and(|oauth| !is_of_owner(oauth))
    }

    /// Whether an app of the provider is for this method; `named`: the method that the app names. An app of OAuth 1.0a
    /// names it, because a service with OAuth 2.0 too has another client id for that.
    pub fn is_for_app(&self, named: Option<&str>) -> bool {
        let is_meant = match named {
            Some(named) => named == self.id,
            None => self.kind != AuthKind::Oauth1,
        };
        is_meant && self.takes_app()
    }

    /// Whether connections need an app, unless their owner provides tokens.
    pub fn needs_app(&self) -> bool {
        let grant = self.oauth.as_ref().map(|oauth| oauth.grant);
        let without = [GrantText::JwtBearer];
        self.kind.asks_people() && grant.is_some_and(|grant| !without.contains(&grant))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Catalogue;
    use super::*;

    /// The placeholder of the first secret of a method, without its core and filler.
    fn shape(provider: &str, key: Option<&str>, variables: &[(&str, &str)]) -> String {
        let catalogue = Catalogue::built_in();
        let provider = catalogue.get(provider).unwrap();
        let mut values = provider.defaults();
        values.extend(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let field = provider.auth[0].carried().next().unwrap();
        let key = key.map(|key| Secret::from(key.to_owned()));
        let text = field.placeholder(key.as_ref(), &values).as_str().to_owned();
        let mark = if text.contains("kwph") { "kwph" } else { "0b17" };
        let (begins, rest) = text.split_once(mark).unwrap();
        format!("{begins}…{}", rest[22..].trim_start_matches('0'))
    }

    #[test]
    fn nothing_of_a_key_is_in_a_placeholder_but_what_its_provider_declares() {
        for (provider, key) in [
            ("github", "canary_ghp_canary"),
            ("mailchimp", "canary-us6canary"),
            ("stripe", "xsk_live_canary"),
        ] {
            let text = shape(provider, Some(key), &[("dc", "us6")]);
            assert!(!text.contains("canary"), "{text}");
            assert_eq!(text, shape(provider, None, &[("dc", "us6")]), "as without a key");
        }
    }

    #[test]
    fn a_placeholder_begins_and_ends_as_its_key_does() {
        for (provider, key, expected) in [
            ("github", Some("github_pat_11AA"), "github_pat_…"),
            ("github", Some("gho_x"), "gho_…"),
            ("github", None, "ghp_…"),
            ("slack", Some("xoxp-1-2"), "xoxp-…"),
            ("slack", Some("xoxe.xoxb-1-2"), "xoxe.xoxb-…"),
            ("stripe", Some("sk_live_x"), "sk_live_…"),
            ("stripe", Some("rk_live_x"), "rk_live_…"),
            ("mapbox", Some("pk.eyJ1x"), "pk.eyJ1Ijoia2V5d2FyZCJ9.…"),
            ("mailchimp", Some("0123-us6"), "…-us6"),
            ("mailchimp", None, "…-us6"),
            ("deepl", Some("0123:fx"), "…:fx"),
            ("deepl", Some("0123"), "…"),
        ] {
            assert_eq!(shape(provider, key, &[("dc", "us6")]), expected, "{provider} {key:?}");
        }
    }
}
