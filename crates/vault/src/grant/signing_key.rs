//! Keys that sign requests by a scheme of the provider's file: an HMAC, a token for each request, or OAuth 1.0a. They are
//! sent nowhere, except those fields that placements name. A consent of OAuth 1.0a gives the token alone; the consumer
//! is the connection's app, so that a new consumer secret is used at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::oauth::{TokenPair, check_key};
use super::{GrantError, MintError};
use keyward_base::secret::Secret;
use keyward_rules::inject::sign::request_signer::{RequestSigner, SigningScheme};
use keyward_rules::inject::sign::{CredentialSigner, SignError};
use keyward_rules::provider::{AuthMethod, Instance};

/// Fields of OAuth 1.0a, which [`OAuth1Scheme`](keyward_rules::inject::sign::oauth1::OAuth1Scheme) reads.
const CONSUMER_KEY: &str = "consumer_key";
const CONSUMER_SECRET: &str = "consumer_secret";
const TOKEN: &str = "token";
const TOKEN_SECRET: &str = "token_secret";

/// How many fields a consent gives.
const CONSENTED: usize = 2;

/// The consumer of OAuth 1.0a: the app of a consent.
#[derive(Clone, Copy, Debug)]
pub struct Consumer<'a> {
    /// Its client id.
    pub key: &'a str,
    /// Its client secret.
    pub secret: &'a Secret,
}

/// Keys, under the names of their fields.
#[derive(Debug)]
pub struct SigningKey(BTreeMap<String, Secret>);

impl SigningKey {
    /// From checked fields.
    ///
    /// # Errors
    /// When the key is not one of the scheme.
    pub(super) fn new(
        auth: &AuthMethod,
        fields: BTreeMap<String, Secret>,
    ) -> Result<Self, GrantError> {
        match auth.scheme.as_deref() {
            Some(SigningScheme::Jwt(token)) => check_key(token, &fields)?,
            Some(SigningScheme::Hmac(scheme)) => {
                let key = fields.get(&*scheme.key).map(Secret::expose).unwrap_or_default();
                if scheme.key_encoding.decode(key).is_err() {
                    let (field, why) = (scheme.key.to_string(), SignError::Key.to_string());
                    return Err(GrantError::Refused { field, why });
                }
            }
            // Tokens are optional where a consent may give them.
            Some(SigningScheme::OAuth1(_)) => {
                for name in [CONSUMER_KEY, CONSUMER_SECRET, TOKEN, TOKEN_SECRET] {
                    if let Some(field) = auth.field(name).filter(|_| !fields.contains_key(name)) {
                        let (field, label) = (field.name.clone(), field.label.clone());
                        return Err(GrantError::Missing { field, label });
                    }
                }
            }
            None => {}
        }
        Ok(Self(fields))
    }

    pub(super) fn consented(pair: &TokenPair) -> Self {
        let fields = [(TOKEN, &pair.token), (TOKEN_SECRET, &pair.secret)];
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
    }

    /// The token of a consent; `None` if the owner gave it with the keys of a consumer.
    pub(super) fn consented_token(&self) -> Option<TokenPair> {
        let field = |name: &str| self.0.get(name).cloned();
        match self.0.len() == CONSENTED {
            true => Some(TokenPair { token: field(TOKEN)?, secret: field(TOKEN_SECRET)? }),
            false => None,
        }
    }

    pub(super) fn stored(fields: BTreeMap<String, Secret>) -> Self {
        Self(fields)
    }

    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        &self.0
    }

    /// The signer of requests. `consumer` is needed for the token of a consent.
    ///
    /// # Errors
    /// When the provider no longer has the scheme, or there is no consumer.
    pub(super) fn signer(
        &self,
        instance: &Instance,
        consumer: Option<Consumer<'_>>,
    ) -> Result<CredentialSigner, MintError> {
        let missing =
            || MintError::Malformed { what: "the provider's method signs no requests".to_owned() };
        let scheme = instance.scheme.clone().ok_or_else(missing)?;
        let mut fields = self.0.clone();
        if self.consented_token().is_some() && matches!(&*scheme, SigningScheme::OAuth1(_)) {
            let what = || MintError::Malformed { what: NO_CONSUMER.to_owned() };
            let Consumer { key, secret } = consumer.ok_or_else(what)?;
            fields.insert(CONSUMER_KEY.to_owned(), Secret::from(key.to_owned()));
            fields.insert(CONSUMER_SECRET.to_owned(), secret.clone());
        }
        for (name, value) in &instance.variables {
            fields.entry(name.clone()).or_insert_with(|| Secret::from(value.clone()));
        }
        let signer = RequestSigner::new(scheme, fields, instance.placements.clone());
        Ok(CredentialSigner::Request(Arc::new(signer)))
    }
}

/// Why the token of a consent signs nothing.
const NO_CONSUMER: &str =
    "the consumer secret of its app cannot be read: give it again, as client_secret of the app";

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::provider::{Catalogue, Provider, check};

    const CONSENT: &str = "{ id: o, kind: oauth1, request_token: 'https://api.acme.test/r', \
        authorize: 'https://acme.test/a', token: 'https://api.acme.test/t' }";

    fn provider() -> Provider {
        let text = format!("id: acme\nname: Acme\nhosts: [api.acme.test]\nauth: [{CONSENT}]\n");
        check::file("p", &text, &Catalogue::default()).unwrap().remove(0)
    }

    fn fields(names: &[&str]) -> BTreeMap<String, Secret> {
        names.iter().map(|name| ((*name).to_owned(), Secret::from("value".to_owned()))).collect()
    }

    #[test]
    fn a_given_oauth1_key_needs_all_fields_although_a_consent_could_give_them() {
        let provider = provider();
        let given = |names: &[&str]| SigningKey::new(&provider.auth[0], fields(names)).map(drop);
        let all = [CONSUMER_KEY, CONSUMER_SECRET, TOKEN, TOKEN_SECRET];
        for (missing, label) in [
            (CONSUMER_KEY, "Consumer key"),
            (CONSUMER_SECRET, "Consumer secret"),
            (TOKEN, "Access token"),
            (TOKEN_SECRET, "Access token secret"),
        ] {
            let others: Vec<_> = all.into_iter().filter(|name| *name != missing).collect();
            let refused = given(&others).unwrap_err().to_string();
            assert_eq!(refused, format!("field `{missing}` ({label}) is missing"));
        }
        assert!(given(&all).is_ok());
    }

    /// oauth 2.oauth1-signed
    #[test]
    fn the_token_of_a_consent_signs_nothing_without_its_app() {
        let provider = provider();
        let instance = provider.instantiate(&provider.auth[0], &BTreeMap::new()).unwrap();
        let secret = Secret::from("value".to_owned());
        let token = TokenPair { token: secret.clone(), secret: secret.clone() };
        let consented = SigningKey::stored(SigningKey::consented(&token).0);
        assert!(consented.consented_token().is_some());
        let refused = consented.signer(&instance, None).map(drop).unwrap_err().to_string();
        assert!(refused.contains("consumer secret of its app"), "{refused}");
        let app = Consumer { key: "consumer", secret: &secret };
        assert!(consented.signer(&instance, Some(app)).is_ok());
        let given = [CONSUMER_KEY, CONSUMER_SECRET, TOKEN, TOKEN_SECRET];
        let given = SigningKey::stored(fields(&given));
        assert!(given.consented_token().is_none(), "its consumer is its own");
        assert!(given.signer(&instance, None).is_ok());
    }
}
