//! The JSON of rules beside the resource itself: their order, and tests of requests with their expected results and
//! the differences.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use keyward_rules::policy::explain::ActionKind;

/// The body of `/rules/test`.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTestRequest {
    /// What is expected.
    pub cases: Vec<RuleCase>,
}

/// A request, and its expected result. What is absent is not compared.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleCase {
    /// The agent's name or id.
    pub agent: String,
    /// `METHOD URL`, or a URL for GET.
    pub request: String,
    /// Fields that would be sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The GraphQL document of its body, which would be `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphql: Option<String>,
    /// The branches that git would push to; `:NAME` would be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub push: Vec<String>,
    /// `inject`, `pass`, `tunnel` or `deny`.
    pub expect: ActionKind,
    /// What decides: a rule's name, `binding`, `default`, or an id as explain and audit name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The name of the connection whose credential is injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// The code of the refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// The answer of `/rules/test`: one result per case, in their order.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleTestReport {
    /// The results.
    pub results: Vec<RuleTested>,
}

/// The result of a case.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct RuleTested {
    /// Whether everything is as expected.
    pub passed: bool,
    /// The differences, in words.
    pub wrong: Vec<String>,
    /// What the gateway would do with the request; absent when it is no valid request.
    pub became: Option<PredictedDecision>,
}

/// What the gateway would do with a request.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PredictedDecision {
    /// What would be done.
    pub action: ActionKind,
    /// What decided, as explain and audit name it.
    pub rule: Option<String>,
    /// The connection whose credential would be injected.
    pub connection: Option<String>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// The refusal in words.
    pub message: Option<String>,
}

/// Asks for an order.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleOrderRequest {
    /// All stored rules of the organisation, each once, by name or id.
    pub rules: Vec<String>,
}
