//! Bindings: which connections an agent may use, and what it holds instead of their secret fields ([`Placeholders`]).
//! They are in the agent's row.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::given::also_null;
use super::reference::Reference;
use super::resource::ManagedBy;
use keyward_base::id::ConnectionId;
use keyward_base::keys::section;
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::provider::Provider;
use keyward_rules::provider::decode::nearest;

/// Bindings of one agent: its row must stay under the store's limit.
pub const BINDINGS_MAX: usize = 5_000;

/// Removed connections that one agent's row remembers, the newest.
pub const LOST_CONNECTIONS_MAX: usize = 20;

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct BindingSpec {
        /// What the agent may use.
        #[key("name or id of a connection", required)]
        pub connection: Reference<ConnectionId>,
        /// Make it the default: requests that select no connection use it, where several of the agent fit.
        #[key(one of ["true", "false"], "false")]
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        pub default: bool,
        /// [Named actions](../guides/rules.md#named-actions) of the connection's provider that the agent may use.
        /// Default: all requests, or for a connection that is bound already, what it allowed.
        #[key("list of names of actions")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub allow: Option<Vec<String>>,
        /// Named actions that the agent may not use. Default: none, or for a connection that is bound already, what it
        /// denied.
        #[key("list of names of actions")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub deny: Option<Vec<String>>,
        /// What is done with requests that have an
        /// [authorization of their own](../guides/rules.md#requests-with-an-authorization-of-their-own), which the
        /// connection would replace. Default: `refuse`, or for a connection that is bound already, what was done.
        #[key(one of ["refuse", "pass"])]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub own_authorization: Option<OwnAuthorization>,
    }
}

/// The named actions that a binding is limited to, and what it does with authorizations of requests' own. They hold for
/// what the agent itself does; what it denies, it denies the agent's plugins too.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct BindingLimits {
    /// Actions that it allows; empty means all requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Actions that it denies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// What is done with requests that have an authorization of their own; absent: `refuse`.
    #[serde(skip_serializing_if = "OwnAuthorization::is_default")]
    pub own_authorization: OwnAuthorization,
}

impl BindingLimits {
    /// Whether it is as a binding is without any.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `allow read-code, clone; deny administer`. Empty if it has none.
    pub fn text(&self) -> String {
        let lists = [("allow", &self.allow), ("deny", &self.deny)].into_iter();
        let lists = lists.filter(|(_, names)| !names.is_empty());
        let lists = lists.map(|(verb, names)| format!("{verb} {}", names.join(", ")));
        let own = Some(self.own_authorization).filter(|own| !own.is_default());
        let own = own.map(|own| format!("own authorization: {}", own.as_str()));
        lists.chain(own).collect::<Vec<_>>().join("; ")
    }

    /// The limits after `change`: lists that it does not set stay.
    pub fn changed(&self, change: &LimitsChange) -> Self {
        let list =
            |given: &Option<Vec<String>>, now: &Vec<String>| given.as_ref().unwrap_or(now).clone();
        Self {
            allow: list(&change.allow, &self.allow),
            deny: list(&change.deny, &self.deny),
            own_authorization: change.own_authorization.unwrap_or(self.own_authorization),
        }
    }

    /// Each action that `provider` does not have, with the most similar that it has.
    pub fn unknown<'a>(&'a self, provider: &'a Provider) -> Vec<(&'a str, Option<&'a str>)> {
        let names = || provider.actions().iter().map(|action| &*action.name);
        let given = self.allow.iter().chain(&self.deny).map(String::as_str);
        let unknown = given.filter(|name| !names().any(|known| known == *name));
        unknown.map(|name| (name, nearest(name, names()))).collect()
    }
}

/// Other limits of a binding, as the API gets them. An absent list stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BindingPatch {
    /// Named actions that the agent may use; `null`: all requests.
    #[serde(deserialize_with = "also_null", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub allow: Option<Option<Vec<String>>>,
    /// Named actions that the agent may not use; `null`: none.
    #[serde(deserialize_with = "also_null", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub deny: Option<Option<Vec<String>>>,
    /// What is done with requests that have an authorization of their own; `null`: `refuse`.
    #[serde(deserialize_with = "also_null", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OwnAuthorization>")]
    pub own_authorization: Option<Option<OwnAuthorization>>,
}

impl From<BindingPatch> for LimitsChange {
    fn from(patch: BindingPatch) -> Self {
        let list = |given: Option<Option<Vec<String>>>| given.map(Option::unwrap_or_default);
        let own_authorization = patch.own_authorization.map(Option::unwrap_or_default);
        Self { allow: list(patch.allow), deny: list(patch.deny), own_authorization }
    }
}

/// Other limits of a binding. `None` leaves a list as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LimitsChange {
    /// Actions that it allows; empty means all requests.
    pub allow: Option<Vec<String>>,
    /// Actions that it denies.
    pub deny: Option<Vec<String>>,
    /// What is done with authorizations of requests' own.
    pub own_authorization: Option<OwnAuthorization>,
}

impl From<BindingLimits> for LimitsChange {
    fn from(limits: BindingLimits) -> Self {
        let BindingLimits { allow, deny, own_authorization } = limits;
        let own_authorization = Some(own_authorization);
        Self { allow: Some(allow), deny: Some(deny), own_authorization }
    }
}

/// Who binds, and with which limits.
#[derive(Clone, Debug)]
pub struct BindTerms {
    /// Who may edit the binding.
    pub managed_by: ManagedBy,
    /// The actions that it is limited to.
    pub limits: LimitsChange,
}

impl From<ManagedBy> for BindTerms {
    fn from(managed_by: ManagedBy) -> Self {
        Self { managed_by, limits: LimitsChange::default() }
    }
}

/// A binding as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BindingRecord {
    /// What may be used.
    pub connection: ConnectionId,
    /// When it was bound.
    pub created: Timestamp,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// By secret field.
    pub placeholders: Placeholders,
    /// Whether a person or the file made it. Otherwise it exists only for slots of the agent's plugins, and allows
    /// what they allow.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub direct: bool,
    /// When it was made the default. Of several, the latest is; without any, the oldest binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<Timestamp>,
    /// The actions that it is limited to.
    #[serde(default, skip_serializing_if = "BindingLimits::is_empty")]
    pub limits: BindingLimits,
}

/// A connection that was removed while the agent could use it: refusals of requests to its hosts name it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LostConnection {
    pub name: String,
    pub provider: String,
    /// Its auth method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// The variables of its hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The agent's placeholders for its secrets; `None` if an older version of Keyward removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholders: Option<Placeholders>,
}

/// A binding as the API answers with it. Placeholders are text here: what reads an answer does not check them.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BindingShown {
    /// The connection's id.
    #[schemars(with = "String")]
    pub connection: ConnectionId,
    /// The connection's name.
    pub name: String,
    /// The connection's provider.
    pub provider: String,
    /// Who may edit the binding.
    pub managed_by: ManagedBy,
    /// When it was bound.
    pub created: Timestamp,
    /// What the agent holds instead of each secret field.
    pub placeholders: BTreeMap<String, String>,
    /// Variables that the provider's SDKs read: with placeholders, or with the values of built-in
    /// providers' fields that are no secrets.
    pub env: BTreeMap<String, String>,
    /// Slots of the agent's plugins that it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<BoundSlot>,
    /// `false`: it allows what its slots do, and nothing more.
    #[serde(default = "yes")]
    pub direct: bool,
    /// Requests that select no connection use it, at least for one of its hosts.
    #[serde(default)]
    pub default: bool,
    /// The named actions that it is limited to.
    #[serde(flatten)]
    pub limits: BindingLimits,
}

/// A slot that a binding is in.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BoundSlot {
    /// The plugin's name.
    pub plugin: String,
    /// The slot's name.
    pub slot: String,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_yes(direct: &bool) -> bool {
    *direct
}

/// Placeholders by secret field. A large installation has millions, nearly all with one field: a tree would take ten times
/// the memory.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(from = "BTreeMap<String, Placeholder>")]
pub struct Placeholders(Box<[(Box<str>, Placeholder)]>);

impl Placeholders {
    pub fn get(&self, field: &str) -> Option<&Placeholder> {
        self.iter().find(|(name, _)| *name == field).map(|(_, placeholder)| placeholder)
    }

    /// Fields and placeholders, in the order of the fields.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Placeholder)> {
        self.0.iter().map(|(field, placeholder)| (&**field, placeholder))
    }

    /// The placeholders, in the order of their fields.
    pub fn values(&self) -> impl Iterator<Item = &Placeholder> {
        self.iter().map(|(_, placeholder)| placeholder)
    }
}

impl From<BTreeMap<String, Placeholder>> for Placeholders {
    fn from(all: BTreeMap<String, Placeholder>) -> Self {
        Self(all.into_iter().map(|(field, placeholder)| (field.into(), placeholder)).collect())
    }
}

impl FromIterator<(String, Placeholder)> for Placeholders {
    fn from_iter<I: IntoIterator<Item = (String, Placeholder)>>(all: I) -> Self {
        BTreeMap::from_iter(all).into()
    }
}

impl<const N: usize> From<[(String, Placeholder); N]> for Placeholders {
    fn from(all: [(String, Placeholder); N]) -> Self {
        BTreeMap::from(all).into()
    }
}

impl Serialize for Placeholders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_are_stored_as_an_object_and_listed_in_the_order_of_fields() {
        let [one, two] = [(); 2].map(|()| Placeholder::issue("sk-", Some(40)));
        let all =
            Placeholders::from([("b".to_owned(), one.clone()), ("a".to_owned(), two.clone())]);
        let row = json!({ "b": one.as_str(), "a": two.as_str() });
        assert_eq!(serde_json::to_value(&all).unwrap(), row);
        assert_eq!(serde_json::from_value::<Placeholders>(row).unwrap(), all);
        assert_eq!(all.values().collect::<Vec<_>>(), [&two, &one]);
        assert_eq!((all.get("b"), all.get("c")), (Some(&one), None));
        assert!(serde_json::from_value::<Placeholders>(json!({ "a": "sk-1" })).is_err());
    }
}
