//! [`AppSecret`]: the credentials of an app at a token endpoint. Not a grant, but sealed like one.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{MintError, codec};
use keyward_base::secret::Secret;

/// The credentials of an app; empty for a public client.
#[derive(Clone, Debug, Default)]
pub struct AppSecret {
    /// The client secret.
    pub client_secret: Option<Secret>,
    /// A private key in PEM, for `private_key_jwt` and `mtls`.
    pub private_key: Option<Secret>,
    /// Its certificate chain in PEM, for `mtls`.
    pub certificate: Option<Secret>,
    /// The access token of a dynamic registration, RFC 7592.
    pub registration_token: Option<Secret>,
}

impl AppSecret {
    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.fields().next().is_none()
    }

    /// The names of the given credentials.
    pub fn names(&self) -> Vec<&'static str> {
        self.fields().map(|(name, _)| name).collect()
    }

    /// Encodes it for sealing.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let fields = self.fields().map(|(name, secret)| (name.to_owned(), secret.clone()));
        codec::encode(codec::StoredKind::App, &fields.collect())
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

const CLIENT_SECRET: &str = "client_secret";
const PRIVATE_KEY: &str = "private_key";
const CERTIFICATE: &str = "certificate";
const REGISTRATION_TOKEN: &str = "registration_token";
