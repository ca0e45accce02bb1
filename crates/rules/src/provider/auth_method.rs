//! [`AuthMethod`]: one way to authenticate at a provider, with its fields and the placements of the credential; whether
//! it needs the consent of a person, and which apps it accepts.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use super::field::Field;
use super::file::FileText;
use super::host_template::HostTemplate;
use super::keys::TlsFields;
use super::kinds::AuthKind;
use super::oauth::{GrantText, OAuth};
use super::schema::{AppSourceText, TestText};
use crate::inject::own_authorization::Signs;
use crate::inject::placement::{Location, Place};
use crate::inject::sign::jwt::JwtTemplate;
use crate::inject::sign::request_signer::SigningScheme;
use keyward_base::pattern::PathPattern;

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
    /// Of kind `file`: what is known of its files.
    pub file: Option<FileText>,
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

impl AuthMethod {
    /// The secrets that requests carry; agents hold a placeholder of each. Keys of SSH and secrets of database logins
    /// are in no request: an agent's token is the password of its sessions.
    pub fn carried(&self) -> impl Iterator<Item = &Field> {
        let is_of_requests = self.kind.is_of_requests() && !self.is_database_login();
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
