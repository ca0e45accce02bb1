//! [`Referred`]: a grant with fields whose values are kept in secret sources. It holds the fields that were given as
//! text, and the grant that the last fetched values make. The references to these values are in the connection's
//! record.

use std::collections::BTreeMap;

use jiff::Timestamp;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::app_secret::FetchedFacts;
use super::oauth::OAuthGrant;
use super::{Grant, MintError, codec};
use keyward_base::secret::Secret;
use keyward_rules::provider::oauth::GrantText;
use keyward_rules::provider::{AuthKind, AuthMethod};

/// The name of the fetched grant among the stored fields; fields of a provider begin with [`GIVEN`].
const GRANT: &str = "grant";

/// The name of its facts.
const FACTS: &str = "facts";

/// Prefix of the names of given fields.
const GIVEN: &str = "=";

/// Given fields, and the last fetched grant.
#[derive(Debug)]
pub struct Referred {
    given: BTreeMap<String, Secret>,
    fetched: Option<Fetched>,
}

/// A grant of fetched values.
#[derive(Debug)]
pub struct Fetched {
    /// Never a [`Grant::Referred`].
    pub grant: Box<Grant>,
    /// When its values were fetched, and for which references.
    pub facts: FetchedFacts,
}

impl Fetched {
    /// Whether `newer` is made of the same values. Tokens that were issued since are not compared.
    pub fn is_of(&self, newer: &Grant) -> bool {
        let own = self.grant.fields();
        newer.fields().iter().all(|(name, value)| own.get(name).is_some_and(|it| same(it, value)))
    }
}

impl Referred {
    /// A grant whose values are not fetched yet.
    pub(super) fn new(given: BTreeMap<String, Secret>) -> Self {
        Self { given, fetched: None }
    }

    /// The same fields with newer values.
    pub fn with(&self, fetched: Fetched) -> Self {
        Self { given: self.given.clone(), fetched: Some(fetched) }
    }

    /// The fields that were given as text.
    pub fn given(&self) -> &BTreeMap<String, Secret> {
        &self.given
    }

    /// The last fetched values, if they are those of these references and not too old.
    pub fn fetched(&self, references: &str, now: Timestamp) -> Option<&Fetched> {
        self.of(references).filter(|fetched| fetched.facts.may_be_used(references, now))
    }

    /// The last fetched values, if they are those of these references.
    pub fn of(&self, references: &str) -> Option<&Fetched> {
        self.fetched.as_ref().filter(|fetched| fetched.facts.references == references)
    }

    /// The tokens that were minted from fetched values.
    pub fn tokens(&self) -> Option<&OAuthGrant> {
        self.fetched.as_ref()?.grant.tokens()
    }

    /// The fields that are known.
    pub(super) fn fields(&self) -> &BTreeMap<String, Secret> {
        self.fetched.as_ref().map_or(&self.given, |fetched| fetched.grant.fields())
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let given =
            self.given.iter().map(|(name, value)| (format!("{GIVEN}{name}"), value.clone()));
        let mut fields: BTreeMap<String, Secret> = given.collect();
        if let Some(Fetched { grant, facts }) = &self.fetched {
            let facts = serde_json::to_vec(facts).expect("times and digests serialise");
            fields.insert(GRANT.to_owned(), Secret::new(grant.encode().as_slice()));
            fields.insert(FACTS.to_owned(), Secret::new(facts));
        }
        codec::encode(codec::StoredKind::Referred, &fields)
    }

    pub(super) fn stored(mut fields: BTreeMap<String, Secret>) -> Result<Self, MintError> {
        let malformed =
            || MintError::Malformed { what: "its fetched values are damaged".to_owned() };
        let fetched = match (fields.remove(GRANT), fields.remove(FACTS)) {
            (Some(grant), Some(facts)) => {
                let facts = serde_json::from_slice(facts.expose()).map_err(|_| malformed())?;
                match Grant::decode(grant.expose())? {
                    Grant::Referred(_) => return Err(malformed()),
                    grant => Some(Fetched { grant: Box::new(grant), facts }),
                }
            }
            (None, None) => None,
            _ => return Err(malformed()),
        };
        let given = fields.into_iter().map(|(name, value)| {
            let name = name.strip_prefix(GIVEN).ok_or_else(malformed)?.to_owned();
            Ok::<_, MintError>((name, value))
        });
        Ok(Self { given: given.collect::<Result<_, _>>()?, fetched })
    }
}

/// Whether both have the same names and values.
pub fn same_values(one: &BTreeMap<String, Secret>, other: &BTreeMap<String, Secret>) -> bool {
    one.len() == other.len() && includes(other, one)
}

/// Whether `all` has the names and values of `some`.
pub(super) fn includes(all: &BTreeMap<String, Secret>, some: &BTreeMap<String, Secret>) -> bool {
    some.iter().all(|(name, value)| all.get(name).is_some_and(|it| same(it, value)))
}

fn same(one: &Secret, other: &Secret) -> bool {
    one.expose().ct_eq(other.expose()).into()
}

/// Whether fields of this method may be references. The tokens of a person's consent are replaced by their server, which a
/// source cannot follow.
pub(super) fn may_refer(auth: &AuthMethod) -> bool {
    auth.kind != AuthKind::Oauth2
        || auth.oauth.as_ref().is_some_and(|oauth| {
            !matches!(oauth.grant, GrantText::AuthorizationCode | GrantText::DeviceCode)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    fn facts() -> FetchedFacts {
        FetchedFacts {
            at: Timestamp::UNIX_EPOCH,
            until: Timestamp::from_second(60).unwrap(),
            kept_until: Timestamp::from_second(120).unwrap(),
            references: "r".to_owned(),
            sources: "s".to_owned(),
        }
    }

    fn referred() -> Referred {
        let given = BTreeMap::from([("username".to_owned(), secret("ada"))]);
        let grant = Grant::Bearer(BTreeMap::from([("token".to_owned(), secret("canary"))]));
        Referred::new(given).with(Fetched { grant: Box::new(grant), facts: facts() })
    }

    #[test]
    fn fetched_values_of_other_references_or_too_old_ones_are_not_used() {
        let (grant, second) = (referred(), |at| Timestamp::from_second(at).unwrap());
        assert!(grant.fetched("other", second(0)).is_none());
        assert!(grant.fetched("r", second(120)).is_none());
        assert!(grant.fetched("r", second(119)).is_some());
        assert!(Referred::new(BTreeMap::new()).fetched("r", second(0)).is_none());
    }

    #[test]
    fn is_of_ignores_issued_tokens_and_compares_the_values_of_the_newer_grant() {
        let of = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), secret(text)));
            Grant::Bearer(fields.collect())
        };
        let grant = Box::new(of(&[("key", "canary"), ("access_token", "issued")]));
        let fetched = Fetched { grant, facts: facts() };
        for (newer, same) in [("canary", true), ("canary2", false), ("", false)] {
            assert_eq!(fetched.is_of(&of(&[("key", newer)])), same, "{newer}");
        }
        assert!(!fetched.is_of(&of(&[("key", "canary"), ("id", "1")])), "a further value");
    }

    #[test]
    fn a_referred_grant_reads_back_unchanged_and_a_nested_one_is_refused() {
        let bytes = Grant::Referred(referred()).encode();
        let Grant::Referred(read) = Grant::decode(&bytes).unwrap() else { panic!("it is one") };
        assert_eq!(read.given().len(), 1);
        assert_eq!(read.fetched.as_ref().unwrap().facts, facts());
        assert_eq!(Grant::Referred(read).encode(), bytes);
        let inner = Box::new(Grant::Referred(referred()));
        let nested = referred().with(Fetched { grant: inner, facts: facts() });
        assert!(Grant::decode(&nested.encode()).is_err());
    }
}
