//! Index rows, which make a name or a token unique: the store accepts each only once. A name is unique within
//! its org and kind, a token within the whole store, because a token alone identifies its holder.
//!
//! Their keys are hashes under a key that is sealed in the sentinel row: an editor or thief of
//! the database reads no name there and can check no guessed token.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::DirectoryError;
use super::rows::RowId;
use crate::crypto::token::TokenHash;
use crate::store::Table;
use keyward_base::id::OrgId;
use keyward_base::names::labelled_enum;

/// Computes the keys of index rows.
#[derive(Clone)]
pub struct Index(Arc<Zeroizing<[u8; 32]>>);

/// The owner of a name or token: its id.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    pub owner: String,
}

/// A value that only one record may have: its index row, and the refusal of a second record.
#[derive(Clone, Debug)]
pub struct Unique {
    pub at: RowId,
    /// `name`, for the error about two rows that claim the same value.
    pub what: &'static str,
    pub refusal: TakenReason,
}

/// The refusal if another record has the value.
#[derive(Clone, Debug)]
pub enum TakenReason {
    Name { kind: NameKind, name: String },
    Token,
}

labelled_enum! {
    /// Kinds of names; each has its own namespace.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub enum NameKind by as_str {
        Agent = "agent",
        App = "app",
        Connection = "connection",
        /// Names of plugins, unique per agent.
        Plugin = "plugin",
        User = "user",
        Email = "e-mail address",
        /// Accounts of users at an identity provider.
        Identity = "account",
        Webhook = "webhook",
        Honeytoken = "honeytoken",
        Provider = "provider",
        Rule = "rule",
        Hook = "hook",
        DatabaseListener = "database listener",
        Source = "source",
        /// Unused: sessions and connect sessions have no names.
        Session = "session",
        /// Unused: logins have no names.
        Login = "login",
    }
}

/// The org of rows that belong to the whole store. No organisation has it: a random id has 20
/// characters after its prefix.
pub(super) fn everyone() -> OrgId {
    OrgId::parse("org_0").expect("the text is an org's id")
}

impl Index {
    pub(super) fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(Arc::new(key))
    }

    /// A key for a new store.
    pub(super) fn random_key() -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).expect("the operating system has randomness");
        key
    }

    /// A key for another purpose, which all processes with this store can compute.
    pub(super) fn derived(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        let tag = hmac::sign(&key, format!("derived key: {purpose}").as_bytes());
        let mut derived = Zeroizing::new([0; 32]);
        derived.copy_from_slice(tag.as_ref());
        derived
    }

    /// The row of a name.
    pub(super) fn name(&self, org: &OrgId, kind: NameKind, name: &str) -> RowId {
        RowId::new(Table::Names, org, self.hash(kind.as_str(), name.as_bytes()))
    }

    /// A name that only one of its kind may have.
    pub(super) fn unique_name(&self, org: &OrgId, kind: NameKind, name: &str) -> Unique {
        let refusal = TakenReason::Name { kind, name: name.to_owned() };
        Unique { at: self.name(org, kind, name), what: "name", refusal }
    }

    /// An address; its case is ignored.
    pub(super) fn unique_email(&self, org: &OrgId, email: &str) -> Unique {
        let at = self.name(org, NameKind::Email, &email.to_lowercase());
        let refusal = TakenReason::Name { kind: NameKind::Email, name: email.to_owned() };
        Unique { at, what: NameKind::Email.as_str(), refusal }
    }

    /// A token, by the hex of its hash; `None` if the text is not a hash.
    pub(super) fn unique_token(&self, hash: &str) -> Option<Unique> {
        let at = self.token(&TokenHash::from_hex(hash)?);
        Some(Unique { at, what: "token", refusal: TakenReason::Token })
    }

    /// The row of a token.
    pub(super) fn token(&self, hash: &TokenHash) -> RowId {
        RowId::new(Table::Tokens, &everyone(), self.hash("token", &hash.0))
    }

    /// `SHA-256(key ‖ SHA-256(label ‖ 0 ‖ text))` in hex: the part after the key has a fixed length, so that nothing
    /// can be appended to it.
    fn hash(&self, label: &str, text: &[u8]) -> String {
        let inner =
            Sha256::new().chain_update(label).chain_update([0]).chain_update(text).finalize();
        let outer = Sha256::new().chain_update(**self.0).chain_update(inner).finalize();
        HEXLOWER.encode(&outer)
    }
}

impl From<TakenReason> for DirectoryError {
    fn from(reason: TakenReason) -> Self {
        match reason {
            TakenReason::Name { kind, name } => Self::NameTaken { what: kind.as_str(), name },
            TakenReason::Token => Self::TokenTaken,
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Index(…)")
    }
}

impl Claim {
    pub(super) fn of(owner: impl ToString) -> Self {
        Self { owner: owner.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_rows_reveal_no_name_and_differ_by_key_org_and_kind() {
        let (one, two) = (Index::new(Index::random_key()), Index::new(Index::random_key()));
        let (org, other) = (OrgId::default_org(), OrgId::random());
        let at = one.name(&org, NameKind::Agent, "ci");
        assert_eq!(at, one.name(&org, NameKind::Agent, "ci"));
        assert!(!at.key().contains("ci/") && at.id.len() == 64);
        assert_ne!(at, two.name(&org, NameKind::Agent, "ci"));
        assert_ne!(at, one.name(&other, NameKind::Agent, "ci"));
        assert_ne!(at.id, one.name(&org, NameKind::Connection, "ci").id);
        assert_ne!(at.id, one.name(&org, NameKind::Agent, "cI").id);
    }

    #[test]
    fn a_token_has_one_index_row_of_the_whole_store_that_does_not_reveal_its_hash() {
        let (index, other) = (Index::new(Index::random_key()), Index::new(Index::random_key()));
        let hash = TokenHash::of("twenty-characters-ok");
        let at = index.token(&hash);
        assert_eq!(at, index.token(&hash));
        assert_eq!(index.unique_token(&hash.to_hex()).map(|unique| unique.at), Some(at.clone()));
        assert_eq!((at.table, &at.org), (Table::Tokens, &everyone()));
        assert_ne!(at.id, index.token(&TokenHash::of("twenty-characters-no")).id);
        assert_ne!(at.id, other.token(&hash).id, "without the key, no guess can be checked");
        assert!(!at.key().contains(&hash.to_hex()));
    }
}
