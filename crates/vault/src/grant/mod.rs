//! Grants, and how a credential is minted from one. A renewal takes the old grant and returns the newer one; nothing is
//! stored or cached here.
//!
//! `fields.rs` checks the given fields; `codec.rs` is the plaintext that the vault seals.

mod app_secret;
mod codec;
mod connection_tls;
mod error;
mod fields;
mod file;
mod kinds;
pub mod oauth;
mod referred;
mod signing_key;
mod ssh_key;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use keyward_base::id::ConnectionId;
use keyward_base::secret::Secret;
use keyward_rules::inject::credential::{
    Clears, ConnectionTls, Credential, RenewalConditions, Write,
};
use keyward_rules::inject::placement::{Location, Place, Scoped};
use keyward_rules::inject::scrub::Needles;
use keyward_rules::inject::sign::CredentialSigner;
use keyward_rules::inject::write;
use keyward_rules::provider::{AuthKind, AuthMethod, Instance, TlsFields};

pub use app_secret::{AppSecret, FetchedAppSecret, FetchedFacts, StoredAppSecret};
pub use error::{Dead, GrantError, MintError};
pub use file::PrivatePaths;
use oauth::{OAuthGrant, RequestContext, Revocable, TokenFailure, TokenPair};
pub use referred::{Fetched, Referred, same_values};
use signing_key::{Consumer, SigningKey};
pub use ssh_key::OpenedSshKey;
use ssh_key::SshKey;

/// The grant of an owner. Wiped when dropped, since its fields are [`Secret`]s.
#[derive(Debug)]
pub enum Grant {
    /// One key, under the name of its field, as the values of the other kinds.
    ApiKey(BTreeMap<String, Secret>),
    /// A bearer token that does not expire.
    Bearer(BTreeMap<String, Secret>),
    /// User name and password.
    Basic(BTreeMap<String, Secret>),
    /// Declared fields.
    Custom(BTreeMap<String, Secret>),
    /// Expiring tokens, or the data that they are minted from.
    OAuth(OAuthGrant),
    /// A private key that signs logins.
    SshKey(SshKey),
    /// An AWS access key, which signs requests.
    AwsKey(BTreeMap<String, Secret>),
    /// Fields whose values are kept in secret sources.
    Referred(Referred),
    /// Keys that sign requests by a scheme of the provider's file.
    SigningKey(SigningKey),
    /// User name and password that answer challenges.
    Digest(BTreeMap<String, Secret>),
}

pub struct MintContext<'a> {
    /// The connection of the credential.
    pub connection: &'a ConnectionId,
    /// The generation of the credential.
    pub generation: u64,
    /// Hosts and placements.
    pub instance: &'a Instance,
    /// The context of token requests; absent for kinds without them.
    pub ask: Option<RequestContext<'a>>,
    /// The client secret of the tokens' app: the API may know it, and must not reveal it in a response.
    pub client_secret: Option<&'a Secret>,
    /// The client id of that app, which signs requests in OAuth 1.0a.
    pub client_id: Option<&'a str>,
}

/// The result of minting.
pub struct Minted {
    pub credential: Credential,
    /// The newer grant, to be stored before the credential is used.
    pub rotated: Option<Grant>,
    /// The lifetime of the credential.
    pub life: CredentialLife,
}

/// How long a credential lasts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CredentialLife {
    /// When it was requested; `None`: the owner gave it, and it does not expire.
    pub sent: Option<Timestamp>,
    /// When it expires; `None`: unknown, used until the API rejects it.
    pub expires: Option<Timestamp>,
    /// Whether another one can be minted without a person.
    pub renewable: bool,
    /// When the refresh token expires, if the server says so: the connection must be reconnected before.
    pub refresh_expires: Option<Timestamp>,
}

impl Grant {
    /// Creates a grant from an owner's fields.
    ///
    /// # Errors
    /// When a field is missing, unknown, empty, too long, unsendable or malformed.
    pub fn from_fields(
        auth: &AuthMethod,
        given: BTreeMap<String, Secret>,
    ) -> Result<Self, GrantError> {
        let values = fields::check(auth, given, &BTreeSet::new())?;
        fields::check_places(auth, &values)?;
        if let Some(tls) = &auth.tls {
            connection_tls::check(tls, &values)?;
        }
        match auth.kind {
            AuthKind::ApiKey => Ok(Self::ApiKey(values)),
            AuthKind::Bearer => Ok(Self::Bearer(values)),
            AuthKind::Basic => {
                kinds::check_basic(auth, &values)?;
                Ok(Self::Basic(values))
            }
            AuthKind::Custom | AuthKind::Mtls => Ok(Self::Custom(values)),
            AuthKind::SshKey => SshKey::from_fields(values).map(Self::SshKey),
            AuthKind::File => file::checked(values).map(Self::Custom),
            AuthKind::AwsSigv4 => Ok(Self::AwsKey(values)),
            AuthKind::Digest => Ok(Self::Digest(values)),
            AuthKind::Hmac | AuthKind::Oauth1 => {
                SigningKey::new(auth, values).map(Self::SigningKey)
            }
            AuthKind::SignedJwt if auth.oauth.is_none() => {
                SigningKey::new(auth, values).map(Self::SigningKey)
            }
            AuthKind::Oauth2
            | AuthKind::ServiceAccount
            | AuthKind::GithubApp
            | AuthKind::SignedJwt
            | AuthKind::Session
            | AuthKind::AwsRole => OAuthGrant::from_fields(auth, values).map(Self::OAuth),
        }
    }

    /// Creates a grant without values from an owner's fields, of which those in `referred` are kept in secret sources.
    ///
    /// # Errors
    /// As [`Grant::from_fields`]; when the kind replaces its own secret.
    pub fn referring(
        auth: &AuthMethod,
        given: BTreeMap<String, Secret>,
        referred: &BTreeSet<&str>,
    ) -> Result<Self, GrantError> {
        if auth.kind == AuthKind::File {
            return Err(file::refused("is no secret: give it as text"));
        }
        if !referred::may_refer(auth) {
            return Err(GrantError::NoReferences { auth: auth.id.clone() });
        }
        let values = fields::check(auth, given, referred)?;
        Ok(Self::Referred(Referred::new(values)))
    }

    /// Encodes it for sealing.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let kind = match self {
            Self::ApiKey(_) => codec::StoredKind::ApiKey,
            Self::Bearer(_) => codec::StoredKind::Bearer,
            Self::Basic(_) => codec::StoredKind::Basic,
            Self::Custom(_) => codec::StoredKind::Custom,
            Self::SshKey(_) => codec::StoredKind::SshKey,
            Self::AwsKey(_) => codec::StoredKind::AwsKey,
            Self::SigningKey(_) => codec::StoredKind::SigningKey,
            Self::Digest(_) => codec::StoredKind::Digest,
            Self::OAuth(grant) => {
                return codec::encode(codec::StoredKind::OAuth, &grant.to_fields());
            }
            Self::Referred(grant) => return grant.encode(),
        };
        codec::encode(kind, self.fields())
    }

    /// Decodes opened bytes.
    ///
    /// # Errors
    /// When they are not the complete output of [`Grant::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MintError> {
        let (kind, values) = codec::decode(bytes)?;
        Ok(match kind {
            codec::StoredKind::ApiKey => Self::ApiKey(values),
            codec::StoredKind::Bearer => Self::Bearer(values),
            codec::StoredKind::Basic => Self::Basic(values),
            codec::StoredKind::Custom => Self::Custom(values),
            codec::StoredKind::OAuth => Self::OAuth(OAuthGrant::stored(values)?),
            codec::StoredKind::SshKey => Self::SshKey(SshKey::stored(values)),
            codec::StoredKind::AwsKey => Self::AwsKey(values),
            codec::StoredKind::Referred => Self::Referred(Referred::stored(values)?),
            codec::StoredKind::SigningKey => Self::SigningKey(SigningKey::stored(values)),
            codec::StoredKind::Digest => Self::Digest(values),
            codec::StoredKind::App => {
                return Err(MintError::Malformed { what: "this is an app's secret".to_owned() });
            }
        })
    }

    /// The credential of the stored data, without a request; `None`: [`Grant::mint`] is needed.
    ///
    /// # Errors
    /// When a placement needs a field that the grant does not have.
    pub fn ready(&self, ctx: &MintContext<'_>) -> Result<Option<Minted>, MintError> {
        match self {
            // The vault fetches the values and mints from them.
            Self::Referred(_) => Ok(None),
            Self::OAuth(grant) if !grant.is_live(asking(ctx.ask.as_ref())?.now) => Ok(None),
            _ => self.minted(ctx).map(Some),
        }
    }

    /// Mints a credential. Kinds with tokens send one token request; the others use the stored data.
    ///
    /// # Errors
    /// When the server issues no token, or a placement needs a field that the grant does not have.
    pub async fn mint(&self, ctx: &MintContext<'_>) -> Result<Minted, MintError> {
        match self.renewed(ctx.ask.as_ref()).await? {
            None => self.minted(ctx),
            Some(newer) => {
                let minted = newer.minted(ctx)?;
                Ok(Minted { rotated: Some(newer), ..minted })
            }
        }
    }

    /// The next grant, by one token request; `None`: no request is needed. It must be stored before it is
    /// used.
    ///
    /// # Errors
    /// When the server issues no token, or the grant cannot be renewed.
    pub async fn renewed(
        &self,
        ask: Option<&RequestContext<'_>>,
    ) -> Result<Option<Self>, MintError> {
        match self {
            Self::OAuth(grant) => Ok(Some(Self::OAuth(grant.renewed(asking(ask)?).await?))),
            _ => Ok(None),
        }
    }

    /// Whether [`Grant::renewed`] can send a request.
    pub fn is_renewable(&self, ask: Option<&RequestContext<'_>>) -> bool {
        match (self, ask) {
            (Self::OAuth(grant), Some(ask)) => grant.is_renewable(ask),
            _ => false,
        }
    }

    /// See [`OAuthGrant::unusable_answer`].
    pub fn unusable_answer(&self) -> Option<&TokenFailure> {
        self.tokens()?.unusable_answer()
    }

    /// The tokens that the provider can revoke.
    pub fn revocable(&self) -> Option<Revocable> {
        self.tokens()?.revocable()
    }

    /// The grant of a consent of OAuth 1.0a.
    pub fn of_oauth1(pair: &TokenPair) -> Self {
        Self::SigningKey(SigningKey::consented(pair))
    }

    /// The token of a consent of OAuth 1.0a.
    pub fn oauth1_token(&self) -> Option<TokenPair> {
        match self {
            Self::SigningKey(grant) => grant.consented_token(),
            _ => None,
        }
    }

    /// Tokens with their facts, also those that were minted from fetched values.
    pub fn tokens(&self) -> Option<&OAuthGrant> {
        match self {
            Self::OAuth(grant) => Some(grant),
            Self::Referred(grant) => grant.tokens(),
            _ => None,
        }
    }

    fn minted(&self, ctx: &MintContext<'_>) -> Result<Minted, MintError> {
        let writes = self.writes(ctx.instance)?;
        let life = self.life(ctx);
        let tls = ctx.instance.tls.as_ref().and_then(|names| self.tls(ctx.connection, names));
        let credential = Credential {
            connection: ctx.connection.clone(),
            generation: ctx.generation,
            expires: life.expires,
            needles: Arc::new(self.needles(ctx.instance, &writes, ctx.client_secret)),
            renews: self.renews(ctx, life.renewable),
            writes,
            clears: self.clears(ctx.instance),
            rate_limit: ctx.instance.rate_limit.clone(),
            signer: self.signer(ctx)?,
            tls: tls.map(Arc::new),
        };
        Ok(Minted { credential, rotated: None, life })
    }

    /// The client certificate and the CA of the connection, if it has any.
    pub fn tls(&self, connection: &ConnectionId, names: &TlsFields) -> Option<ConnectionTls> {
        connection_tls::of_connection(connection, names, self.fields())
    }

    fn writes(&self, instance: &Instance) -> Result<Vec<Scoped<Vec<Write>>>, MintError> {
        let values = self.fields();
        let mut writes = Vec::with_capacity(instance.placements.len());
        for scope in &instance.placements {
            let before = |place: &&Place| match &instance.scheme {
                Some(scheme) => !scheme.writes(place),
                None => true,
            };
            let places = scope.what.iter().filter(before);
            let what = places.filter_map(|place| self.write(place, values).transpose());
            writes.push(Scoped {
                hosts: scope.hosts.clone(),
                paths: scope.paths.clone(),
                what: what.collect::<Result<Vec<Write>, _>>()?,
            });
        }
        Ok(writes)
    }

    /// The signer of requests; `None` for kinds that do not sign them.
    fn signer(&self, ctx: &MintContext<'_>) -> Result<Option<CredentialSigner>, MintError> {
        let instance = ctx.instance;
        match self {
            Self::AwsKey(fields) => kinds::aws_signer(fields, &instance.aws).map(Some),
            Self::OAuth(grant) => {
                grant.role_keys().map(|keys| kinds::aws_signer(&keys, &instance.aws)).transpose()
            }
            Self::Digest(fields) => kinds::digest_signer(fields).map(Some),
            Self::SigningKey(grant) => {
                let app = ctx.client_id.zip(ctx.client_secret);
                let consumer = app.map(|(key, secret)| Consumer { key, secret });
                grant.signer(instance, consumer).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The texts that must not appear in a response, even if nothing can be injected yet.
    pub fn needles_at(&self, instance: &Instance) -> Needles {
        self.needles(instance, &self.writes(instance).unwrap_or_default(), None)
    }

    fn life(&self, ctx: &MintContext<'_>) -> CredentialLife {
        let Self::OAuth(grant) = self else { return CredentialLife::default() };
        let facts = grant.facts();
        CredentialLife {
            sent: facts.sent,
            expires: facts.expires,
            renewable: self.is_renewable(ctx.ask.as_ref()),
            refresh_expires: facts.refresh_expires,
        }
    }

    /// The handling of responses that reject the credential as expired; `None`: it is not renewed.
    fn renews(&self, ctx: &MintContext<'_>, renewable: bool) -> Option<RenewalConditions> {
        if let Self::Digest(_) = self {
            // The server has not processed a request that it answers with a challenge, so the request may be repeated.
            return Some(RenewalConditions { unsafe_too: true, expired_status: None });
        }
        let says = &ctx.ask.as_ref().filter(|_| renewable)?.oauth.says;
        let expired_status = says.expired.as_ref().map(|expired| expired.status);
        Some(RenewalConditions { unsafe_too: !says.keeps_unsafe, expired_status })
    }

    /// The secret texts of this grant, and `also`. Fields that are not secret, such as an account's name,
    /// are ordinary words in many responses.
    fn needles(
        &self,
        instance: &Instance,
        writes: &[Scoped<Vec<Write>>],
        also: Option<&Secret>,
    ) -> Needles {
        let is_secret = |name: &str| !instance.shown.iter().any(|shown| shown == name);
        let may_come_back = |name: &str| match self {
            Self::OAuth(grant) => {
                OAuthGrant::may_come_back(name) || grant.logs_in() && is_secret(name)
            }
            _ => is_secret(name),
        };
        let secrets = self.fields().iter().filter(|(name, _)| may_come_back(name));
        let secrets: Vec<&Secret> = secrets.map(|(_, value)| value).chain(also).collect();
        let mut written = Vec::new();
        for (scope, places) in writes.iter().zip(&instance.placements) {
            let secret_places: Vec<&Location> = places
                .what
                .iter()
                .filter(|place| place.value.fields().any(is_secret))
                .map(|place| &place.at)
                .collect();
            let holds_secret = |write: &&Write| secret_places.contains(&&write.at);
            written.extend(scope.what.iter().filter(holds_secret));
        }
        let parameters: Vec<Secret> =
            written.iter().flat_map(|write| write::secret_parameters(write)).collect();
        let secrets = secrets.into_iter().chain(&parameters);
        Needles::new(secrets, written.iter().map(|write| &write.value))
    }

    /// The fields that `auth` declares as not secret.
    pub fn shown_fields(&self, auth: &AuthMethod) -> BTreeMap<String, String> {
        let shown = auth.fields.iter().filter(|field| !field.secret);
        shown
            .filter_map(|field| {
                let text = self.fields().get(&field.name)?.expose_text()?;
                Some((field.name.clone(), text.to_owned()))
            })
            .collect()
    }

    /// Whether it has all values of the other, which may have fewer.
    pub fn has_values_of(&self, other: &Self) -> bool {
        let (own, wanted) = (self.fields(), other.fields());
        !wanted.is_empty() && referred::includes(own, wanted)
    }

    /// The value of a field, if it has one.
    pub fn value(&self, field: &str) -> Option<&Secret> {
        self.fields().get(field)
    }

    /// The address of the account that a service account's key acts as.
    pub fn account(&self) -> Option<String> {
        let mut names = ["subject", "impersonate", "client_email"].into_iter();
        names.find_map(|name| self.value(name))?.expose_text().map(str::to_owned)
    }

    fn fields(&self) -> &BTreeMap<String, Secret> {
        match self {
            Self::ApiKey(fields)
            | Self::Bearer(fields)
            | Self::Basic(fields)
            | Self::Custom(fields)
            | Self::AwsKey(fields)
            | Self::Digest(fields) => fields,
            Self::OAuth(grant) => grant.fields(),
            Self::Referred(grant) => grant.fields(),
            Self::SshKey(grant) => grant.fields(),
            Self::SigningKey(grant) => grant.fields(),
        }
    }

    /// Whether a place is omitted, because its optional fields are. That of a token never is.
    fn leaves_out(&self, place: &Place) -> bool {
        let may_omit = match self {
            Self::Custom(_) => true,
            Self::OAuth(_) => {
                place.at != Location::Signature
                    && !place.value.fields().any(|name| name == oauth::ACCESS)
            }
            _ => false,
        };
        may_omit && kinds::leaves_out(self.fields(), &place.value)
    }

    /// What is removed before writing. A second secret that a connection with tokens does not have, its client may send.
    fn clears(&self, instance: &Instance) -> Clears {
        let mut clears = instance.clears.clone();
        let places = instance.placements.iter().flat_map(|scope| &scope.what);
        let is_left = |place: &&Place| matches!(self, Self::OAuth(_)) && self.leaves_out(place);
        for place in places.filter(is_left) {
            clears.headers.retain(|name| place.at != Location::Header(name.clone()));
        }
        clears
    }

    /// One rendered write; `None` if its optional fields are omitted.
    fn write(
        &self,
        place: &Place,
        values: &BTreeMap<String, Secret>,
    ) -> Result<Option<Write>, MintError> {
        if self.leaves_out(place) {
            return Ok(None);
        }
        match place.value.render(values) {
            Ok(value) => Ok(Some(Write { at: place.at.clone(), value })),
            Err(error) => Err(MintError::Malformed { what: error.to_string() }),
        }
    }
}

fn asking<'c, 'a>(
    ask: Option<&'c RequestContext<'a>>,
) -> Result<&'c RequestContext<'a>, MintError> {
    let what = || MintError::Malformed { what: "the provider's method has no OAuth".to_owned() };
    ask.ok_or_else(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::host::{Scheme, Target};
    use keyward_base::pattern::DecodedPath;
    use keyward_rules::provider::{Catalogue, Provider, check};

    fn provider(auth: &str) -> Provider {
        let text = format!("id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{auth}]\n");
        check::file("p", &text, &Catalogue::default()).unwrap().remove(0)
    }

    fn given(fields: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        let pair =
            |(name, value): &(&str, &str)| ((*name).to_owned(), Secret::from((*value).to_owned()));
        fields.iter().map(pair).collect()
    }

    fn refused(auth: &str, fields: &[(&str, &str)]) -> String {
        let provider = provider(auth);
        let error = Grant::from_fields(&provider.auth[0], given(fields)).map(|_| ());
        error.unwrap_err().to_string()
    }

    /// Location and value of each write for this test's host and path.
    fn minted(provider: &Provider, auth: &str, fields: &[(&str, &str)]) -> Vec<(Location, String)> {
        let auth = provider.auth(Some(auth)).unwrap();
        let grant = Grant::from_fields(auth, given(fields)).unwrap();
        let grant = Grant::decode(&grant.encode()).unwrap();
        let instance = provider.instantiate(auth, &BTreeMap::new()).unwrap();
        let connection = ConnectionId::random();
        let ctx = MintContext {
            connection: &connection,
            generation: 7,
            instance: &instance,
            ask: None,
            client_secret: None,
            client_id: None,
        };
        let minted = futures_util::FutureExt::now_or_never(grant.mint(&ctx)).unwrap().unwrap();
        assert_eq!(minted.credential.generation, 7);
        assert!(minted.rotated.is_none());
        let literal = instance.hosts[0].literal().unwrap().to_string();
        let target = Target::parse(Scheme::Https, &literal).unwrap();
        let path = DecodedPath::parse("/a").unwrap();
        let writes = minted.credential.writes.iter().find(|scope| scope.matches(&target, &path));
        let text = |write: &Write| write.value.expose_text().unwrap().to_owned();
        writes.unwrap().what.iter().map(|write| (write.at.clone(), text(write))).collect()
    }

    const KEY: &str =
        "{ id: k, kind: api_key, placement: { header: X-Key }, key: { prefixes: [ak_] } }";

    #[test]
    fn a_value_that_cannot_be_a_secret_is_refused_by_field_name() {
        let long = "a".repeat(16 * 1024 + 1);
        let table: &[(&str, &str)] = &[
            ("", "field `api_key` is empty"),
            (" \n", "field `api_key` is empty"),
            (&long, "field `api_key` is longer than 16 KiB; is this the right file?"),
            (
                "canary\u{e9}",
                "field `api_key` holds a line break, control or non-ASCII character; give the value alone, on one line",
            ),
            (
                "a\r\nX-Evil: 1",
                "field `api_key` holds a line break, control or non-ASCII character; give the value alone, on one line",
            ),
            (
                "a\0b",
                "field `api_key` holds a line break, control or non-ASCII character; give the value alone, on one line",
            ),
            (
                "canary\n\n",
                "field `api_key` holds a line break, control or non-ASCII character; give the value alone, on one line",
            ),
            ("canary ", "field `api_key` begins or ends with a blank; remove it"),
            (
                "<YOUR KEY>",
                "field `api_key` looks like a placeholder, not a secret; give the real value (it looks like `ak_…`)",
            ),
            (
                "${API_KEY}",
                "field `api_key` looks like a placeholder, not a secret; give the real value (it looks like `ak_…`)",
            ),
            (
                "ak_your_key",
                "field `api_key` looks like a placeholder, not a secret; give the real value (it looks like `ak_…`)",
            ),
            (
                "ak_...",
                "field `api_key` looks like a placeholder, not a secret; give the real value (it looks like `ak_…`)",
            ),
            (
                "ak_",
                "field `api_key` looks like a placeholder, not a secret; give the real value (it looks like `ak_…`)",
            ),
        ];
        for (value, expected) in table {
            let said = refused(KEY, &[("api_key", value)]);
            assert_eq!(said, *expected);
            assert!(!said.contains("canary"));
        }
    }

    #[test]
    fn a_placeholder_of_keyward_is_refused_as_a_key() {
        let ours = placeholder("ak_");
        let said = refused(KEY, &[("api_key", &ours)]);
        assert!(said.contains("looks like a placeholder"), "{said}");
    }

    fn placeholder(prefix: &str) -> String {
        keyward_rules::inject::placeholder::Placeholder::issue(prefix, None).as_str().to_owned()
    }

    #[test]
    fn fields_are_exactly_those_of_the_auth_method() {
        assert_eq!(refused(KEY, &[]), "field `api_key` (API key) is missing");
        assert_eq!(
            refused(KEY, &[("api_key", "ak_1"), ("token", "canary")]),
            "auth `k` has no field `token`; its fields are api_key"
        );
        assert_eq!(
            refused("{ id: b, kind: basic }", &[("username", "u")]),
            "field `password` (Password) is missing"
        );
        assert_eq!(
            refused("{ id: b, kind: basic }", &[("username", "u:v"), ("password", "p")]),
            "field `username` holds a colon, which a user name of Basic authentication cannot have"
        );
    }

    #[test]
    fn the_pattern_of_a_key_is_enforced_and_its_prefix_is_not() {
        let auth = "{ id: b, kind: bearer, key: { prefixes: [t_], pattern: 't_[0-9]+' } }";
        let said = refused(auth, &[("token", "t_canary")]);
        assert_eq!(
            said,
            "field `token` does not have the shape of a token: the provider's pattern is `t_[0-9]+`"
        );
        let auth =
            "{ id: b, kind: api_key, placement: { header: X }, key: { pattern: 'k[0-9]+' } }";
        let said = refused(auth, &[("api_key", "canary")]);
        assert_eq!(
            said,
            "field `api_key` does not have the shape of an API key: the provider's pattern is `k[0-9]+`"
        );
        assert!(Grant::from_fields(&provider(KEY).auth[0], given(&[("api_key", "new_1")])).is_ok());
    }

    #[test]
    fn a_value_that_would_end_its_path_segment_or_cookie_is_refused() {
        let path = "{ id: k, kind: api_key, placement: { path: '/bot{api_key}/' } }";
        for bad in ["a/b", "a?b", "a#b", "a%2fb", "a b", "../a"] {
            let said = refused(path, &[("api_key", bad)]);
            assert!(said.ends_with("would end its place in a path"), "{bad}: {said}");
        }
        let end = "{ id: k, kind: api_key, placement: { path: '/services/{api_key}' } }";
        assert!(refused(end, &[("api_key", "a?b")]).ends_with("would end its place in a path"));
        assert!(Grant::from_fields(&provider(end).auth[0], given(&[("api_key", "T/B/x")])).is_ok());
        let cookie = "{ id: k, kind: api_key, placement: { cookie: sid } }";
        for bad in ["a;b", "a,b", "a b", "a\"b", "a\\b"] {
            let said = refused(cookie, &[("api_key", bad)]);
            assert!(said.ends_with("would end its place in a cookie"), "{bad}: {said}");
        }
        let header = provider(KEY);
        assert!(Grant::from_fields(&header.auth[0], given(&[("api_key", "a/b;c=")])).is_ok());
    }

    #[test]
    fn each_kind_of_grant_writes_its_credential_at_its_placement() {
        let header = |name: &'static str| Location::Header(http::HeaderName::from_static(name));
        let key = provider("{ id: k, kind: api_key, placement: { query: key } }");
        assert_eq!(
            minted(&key, "k", &[("api_key", "abc\n")]),
            [(Location::Query("key".into()), "abc".to_owned())]
        );
        let bearer = provider("{ id: k, kind: bearer }");
        assert_eq!(
            minted(&bearer, "k", &[("token", "abc")]),
            [(header("authorization"), "Bearer abc".to_owned())]
        );
        let basic = provider("{ id: k, kind: basic }");
        assert_eq!(
            minted(&basic, "k", &[("username", "u"), ("password", "p:w")]),
            [(header("authorization"), "Basic dTpwOnc=".to_owned())]
        );
    }

    #[test]
    fn a_custom_method_fills_several_places_and_omits_absent_optional_fields() {
        let auth = "{ id: c, kind: custom, fields: [{ name: a }, { name: b, optional: true }], \
                    place: [{ header: X-A, value: 'k {a}' }, { query: b, value: '{b}' }] }";
        let custom = provider(auth);
        let at = Location::Header(http::HeaderName::from_static("x-a"));
        assert_eq!(minted(&custom, "c", &[("a", "1")]), [(at.clone(), "k 1".to_owned())]);
        assert_eq!(
            minted(&custom, "c", &[("a", "1"), ("b", "2")]),
            [(at, "k 1".to_owned()), (Location::Query("b".into()), "2".to_owned())]
        );
    }

    #[test]
    fn a_second_secret_beside_tokens_is_written_and_one_that_is_absent_is_left_to_the_client() {
        let auth = "{ id: o, kind: oauth2, authorize: 'https://login.acme.test/a', \
                    token: 'https://login.acme.test/t', fields: [{ name: refresh_token, optional: true }, \
                    { name: access_token, optional: true }, { name: second, optional: true }], \
                    place: [{ header: Authorization, value: 'Bearer {access_token}' }, \
                    { header: X-Second, value: '{second}' }] }";
        let provider = provider(auth);
        let instance = provider.instantiate(&provider.auth[0], &BTreeMap::new()).unwrap();
        let grant =
            |fields: &[(&str, &str)]| Grant::from_fields(&provider.auth[0], given(fields)).unwrap();
        let written = |grant: &Grant| {
            let writes = grant.writes(&instance).unwrap();
            writes
                .iter()
                .flat_map(|scope| &scope.what)
                .map(|write| write.at.clone())
                .collect::<Vec<_>>()
        };
        let at = |name: &'static str| Location::Header(http::HeaderName::from_static(name));
        let without_token = grant(&[("refresh_token", "r"), ("second", "s")]);
        assert!(without_token.writes(&instance).is_err(), "the place of a token is never left out");
        let one = grant(&[("access_token", "t")]);
        assert_eq!(written(&one), [at("authorization")]);
        assert_eq!(one.clears(&instance).headers, ["authorization"]);
        let both = grant(&[("access_token", "t"), ("second", "s3cret-canary")]);
        assert_eq!(written(&both), [at("authorization"), at("x-second")]);
        assert_eq!(both.clears(&instance).headers, ["authorization", "x-second"]);
        assert!(both.needles_at(&instance).are_in(b"s3cret-canary"));
    }

    #[test]
    fn a_long_parameter_of_a_query_string_is_searched_for_by_itself() {
        let sas = "{ id: k, kind: api_key, placement: { query_string: '{api_key}' } }";
        let provider = provider(sas);
        let signed = "sv=2022-11-02&sig=Zk9%2Bab%2FcdEFghIJklMNopQR%3D%3D";
        let grant = Grant::from_fields(&provider.auth[0], given(&[("api_key", signed)])).unwrap();
        let instance = provider.instantiate(&provider.auth[0], &BTreeMap::new()).unwrap();
        let needles = grant.needles_at(&instance);
        for echoed in [signed, "sig: Zk9+ab/cdEFghIJklMNopQR", "sig=Zk9%2Bab%2FcdEFghIJklMNopQR&"] {
            assert!(needles.are_in(echoed.as_bytes()), "{echoed}");
        }
        assert!(!needles.are_in(b"x-ms-version: 2022-11-02"));
    }

    #[test]
    fn debug_shows_no_field() {
        let grant = Grant::from_fields(&provider(KEY).auth[0], given(&[("api_key", "canary")]));
        assert!(!format!("{grant:?}").contains("canary"));
    }
}
