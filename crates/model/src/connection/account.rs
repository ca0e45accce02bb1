//! [`Account`]: the account that a connection uses at its provider, and its identifier; the public part of an SSH key;
//! a file; and whose agents may use the connection ([`Visibility`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An account, as its provider names it. Shown to people and compared; it authenticates no user.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Account {
    /// For people: an address, a login, a workspace.
    pub name: String,
    /// What identifies it.
    #[serde(flatten)]
    pub id: AccountId,
}

/// An account's identifier. Identifiers of two sources do not compare.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AccountId {
    /// Where it is from.
    pub source: AccountSource,
    /// As the source gives it.
    pub id: String,
}

/// Where a provider says whose account a grant is, in the order in which they are asked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountSource {
    /// Members of the token endpoint's answer, or parameters of the callback.
    Answer,
    /// The ID token of that answer (OpenID Connect Core §2).
    IdToken,
    /// The userinfo endpoint (OpenID Connect Core §5.3).
    Userinfo,
    /// The provider's test request.
    Test,
}

impl Account {
    /// An account that is identified by the name it is shown with.
    pub fn named(name: impl Into<String>, source: AccountSource) -> Self {
        let name = name.into();
        Self { id: AccountId { source, id: name.clone() }, name }
    }

    /// Whether both are one account. Where the sources differ only the names compare.
    pub fn is_same(&self, other: &Self) -> bool {
        match self.id.source == other.id.source {
            true => self.id == other.id,
            false => self.name == other.name,
        }
    }

    /// Whether both are certainly two accounts: the same source gives different identifiers.
    pub fn differs(&self, other: &Self) -> bool {
        self.id.source == other.id.source && self.id != other.id
    }
}

/// Whose agents may use a connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Those of its owner.
    Private,
    /// All of its organisation.
    #[default]
    Shared,
}

impl Visibility {
    /// Whether all of the organisation may use it.
    pub fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

/// An SSH key.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SshKeyShown {
    /// As a line of `authorized_keys`.
    pub public_key: String,
    /// Accounts at the servers.
    pub users: Vec<String>,
    /// The servers, as `HOST:PORT`.
    pub servers: Vec<String>,
    /// Whether it may be used through a forwarded agent.
    pub forwarding: bool,
}

/// A file or folder on the machine of the agent.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct FileShown {
    pub path: String,
    /// Whether programs are asked to only read it.
    pub read_only: bool,
    /// Whether only the rights of the agent's user on the file enforce that.
    pub advisory: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, source: AccountSource, id: &str) -> Account {
        Account { name: name.to_owned(), id: AccountId { source, id: id.to_owned() } }
    }

    #[test]
    fn accounts_are_compared_by_identifier_where_one_source_names_both() {
        use AccountSource::{Answer, IdToken, Test};
        let alice = account("alice@acme.test", IdToken, "1");
        for (other, same) in [
            (account("alice@acme.test", IdToken, "2"), false),
            (account("alice@new.test", IdToken, "1"), true),
            (Account::named("alice@acme.test", Test), true),
            (Account::named("bob@acme.test", Test), false),
            (Account::named("1", Answer), false),
        ] {
            assert_eq!(alice.is_same(&other), same, "{other:?}");
            assert_eq!(other.is_same(&alice), same, "{other:?}");
        }
    }
}
