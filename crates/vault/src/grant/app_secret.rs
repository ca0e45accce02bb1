//! [`AppSecret`]: the credentials of an app at a token endpoint. Not a grant, but sealed like one. [`FetchedFacts`]: when values of a
//! secret source were fetched, and how long they are used.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{MintError, codec};
use keyward_base::secret::Secret;

/// The credentials of an app; empty for a public client.
#[derive(Clone, Debug, Default)]
pub struct AppSecret {
    pub client_secret: Option<Secret>,
    /// A private key in PEM, for `private_key_jwt` and `mtls`.
    pub private_key: Option<Secret>,
    /// Its certificate chain in PEM, for `mtls`.
    pub certificate: Option<Secret>,
    /// The access token of a dynamic registration, RFC 7592.
    pub registration_token: Option<Secret>,
}

/// An app's secrets as they are stored: its own, and the last values of references.
#[derive(Debug)]
pub struct StoredAppSecret {
    /// The secrets that were given as text.
    pub given: AppSecret,
    /// The last values from secret sources.
    pub fetched: Option<FetchedAppSecret>,
}

#[derive(Debug)]
pub struct FetchedAppSecret {
    pub fields: BTreeMap<String, Secret>,
    /// When they were fetched, and for which references.
    pub facts: FetchedFacts,
}

impl StoredAppSecret {
    /// Encodes it for sealing. Without fetched values it is the app's own secret.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut fields = self.given.clone().into_fields();
        if let Some(FetchedAppSecret { fields: fetched, facts }) = &self.fetched {
            let facts = serde_json::to_vec(facts).expect("times and digests serialise");
            fields.insert(FACTS.to_owned(), Secret::new(facts));
            let named =
                |(name, value): (&String, &Secret)| (format!("{FETCHED}{name}"), value.clone());
            fields.extend(fetched.iter().map(named));
        }
        codec::encode(codec::StoredKind::App, &fields)
    }

    /// Decodes opened bytes.
    ///
    /// # Errors
    /// When they are not the complete output of [`StoredAppSecret::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MintError> {
        let given = AppSecret::decode(bytes)?;
        let (_, mut fields) = codec::decode(bytes)?;
        let Some(facts) = fields.remove(FACTS) else { return Ok(Self { given, fetched: None }) };
        let damaged =
            |_| MintError::Malformed { what: "its fetched values are damaged".to_owned() };
        let facts = serde_json::from_slice(facts.expose()).map_err(damaged)?;
        let named =
            |(name, value): (String, Secret)| Some((name.strip_prefix(FETCHED)?.to_owned(), value));
        let fields = fields.into_iter().filter_map(named).collect();
        Ok(Self { given, fetched: Some(FetchedAppSecret { fields, facts }) })
    }
}

impl AppSecret {
    /// A value without the line end of a file; `None` if it is blank.
    pub fn of_file(value: &Secret) -> Option<Secret> {
        let bytes = value.expose();
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        (!text.iter().all(u8::is_ascii_whitespace)).then(|| Secret::new(text))
    }

    pub fn into_fields(self) -> BTreeMap<String, Secret> {
        self.fields().map(|(name, secret)| (name.to_owned(), secret.clone())).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.fields().next().is_none()
    }

    /// The names of the given credentials.
    pub fn names(&self) -> Vec<&'static str> {
        self.fields().map(|(name, _)| name).collect()
    }

    /// Encodes it for sealing.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        codec::encode(codec::StoredKind::App, &self.clone().into_fields())
    }

    /// Decodes opened bytes.
    ///
    /// # Errors
    /// When they are not the complete output of [`AppSecret::encode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, MintError> {
        let (kind, mut fields) = codec::decode(bytes)?;
        if kind != codec::StoredKind::App {
            return Err(MintError::Malformed { what: "this is no app's secret".to_owned() });
        }
        let mut take = |name: &str| fields.remove(name);
        Ok(Self {
            client_secret: take(CLIENT_SECRET),
            private_key: take(PRIVATE_KEY),
            certificate: take(CERTIFICATE),
            registration_token: take(REGISTRATION_TOKEN),
        })
    }

    /// From fields by name.
    ///
    /// # Errors
    /// The first unknown name.
    pub fn from_fields(mut fields: BTreeMap<String, Secret>) -> Result<Self, String> {
        let secret = Self {
            client_secret: fields.remove(CLIENT_SECRET),
            private_key: fields.remove(PRIVATE_KEY),
            certificate: fields.remove(CERTIFICATE),
            registration_token: fields.remove(REGISTRATION_TOKEN),
        };
        match fields.into_keys().next() {
            None => Ok(secret),
            Some(unknown) => Err(unknown),
        }
    }

    fn fields(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        [
            (CLIENT_SECRET, &self.client_secret),
            (PRIVATE_KEY, &self.private_key),
            (CERTIFICATE, &self.certificate),
            (REGISTRATION_TOKEN, &self.registration_token),
        ]
        .into_iter()
        .filter_map(|(name, secret)| Some((name, secret.as_ref()?)))
    }
}

/// Prefix of the names of fetched values; no name of a secret begins with it.
const FETCHED: &str = "=";

/// The name of the facts of fetched values.
const FACTS: &str = ".fetched";

const CLIENT_SECRET: &str = "client_secret";
const PRIVATE_KEY: &str = "private_key";
const CERTIFICATE: &str = "certificate";
const REGISTRATION_TOKEN: &str = "registration_token";

/// When values were fetched, and for which references.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FetchedFacts {
    /// When they were fetched.
    pub at: Timestamp,
    /// When they are fetched again.
    pub until: Timestamp,
    /// Until then they are used if the source is unavailable.
    pub kept_until: Timestamp,
    /// A digest of the references. After a change of the references, the values are not used.
    pub references: String,
    /// A digest of the sources' settings. After a change of the settings, the values are fetched again.
    pub sources: String,
}

impl FetchedFacts {
    /// The facts of values that were fetched at `at`; `references` and `sources` are digests.
    pub fn new(
        at: Timestamp,
        ttl: Duration,
        keep: Duration,
        references: String,
        sources: String,
    ) -> Self {
        let after = |from: Timestamp, rest| from.checked_add(rest).unwrap_or(Timestamp::MAX);
        let until = after(at, ttl);
        Self { at, until, kept_until: after(until, keep), references, sources }
    }

    /// Whether the values are those of these references and not too old.
    pub fn may_be_used(&self, references: &str, now: Timestamp) -> bool {
        self.references == references && now < self.kept_until
    }
}
