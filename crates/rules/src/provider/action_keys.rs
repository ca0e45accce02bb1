//! The keys of `actions:` in the YAML schema of providers. `actions.rs` checks them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::graphql::OperationKind;

/// An action of a provider file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionText {
    /// The name, such as `read-code`.
    pub name: String,
    /// What it allows, for people.
    pub label: String,
    /// The requests that belong to it.
    pub requests: Vec<RequestsText>,
}

/// Requests of an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsText {
    /// The hosts, a subset of the provider's; empty means all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The services of AWS whose hosts these are, in any region; empty means all hosts.
    #[serde(default)]
    pub aws_services: Vec<String>,
    /// The methods; empty means all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The paths; empty means all.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Parameters that the query has.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Parameters of which the query has one, with any value.
    #[serde(default)]
    pub any_query: Vec<String>,
    /// Parameters that the query does not have.
    #[serde(default)]
    pub without_query: Vec<String>,
    /// All parameters that the query may have; empty means any.
    #[serde(default)]
    pub only_query: Vec<String>,
    /// Whether pushes by git with options (`git push -o`) do not belong to it.
    #[serde(default)]
    pub without_push_options: bool,
    /// The GraphQL operations of the body.
    pub graphql: Option<OperationsText>,
}

/// Requests that can do what actions do, although those do not list them: batches, and other forms of the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndirectText {
    /// The actions that they can do; empty means all.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The requests.
    #[serde(default)]
    pub requests: Vec<RequestsText>,
    /// Whether pushes by git with options can do them.
    #[serde(default)]
    pub push_options: bool,
}

/// The GraphQL operations of an action.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsText {
    /// `query`, `mutation` or `subscription`.
    pub operations: Vec<OperationKind>,
    /// The fields at which they begin, such as `issueCreate` or `issue*`; empty means all.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Fields at which none of them begins.
    #[serde(default)]
    pub without_fields: Vec<String>,
}
