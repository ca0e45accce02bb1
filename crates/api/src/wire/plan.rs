//! The JSON of configurations: plans, which are what one would change, and exports.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which configuration is planned.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Another file, to be planned instead of the gateway's own; an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `POST /api/v1/plan`: the steps from what the gateway holds to what a configuration declares. With a problem there
/// are no steps.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PlanView {
    /// One for each resource, in the order of their execution. Those of rules need a running gateway, which compares them
    /// with the rules in force.
    pub steps: Vec<PlanStep>,
    /// All that is wrong: it would be refused.
    pub problems: Vec<PlanProblem>,
    /// What waits for a restart, and what is accepted but most likely means something else.
    pub warnings: Vec<String>,
}

/// What a plan does with a resource.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PlanStep {
    /// `make`, `change`, `replace`, `pause`, `resume`, `remove` or `nothing`.
    pub action: String,
    /// `organisation`, `webhook`, `honeytoken`, `source`, `app`, `connection`, `hook`, `agent`, `plugin` or `rule`.
    pub kind: String,
    /// The name of its organisation.
    pub org: String,
    /// Its name.
    pub name: String,
    /// The agent of a plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The keys of the file whose values differ from the stored ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What is known of its secret; absent where it has none, or none that would replace the stored one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretCheck>,
    /// Where it is in the file: `keyward.yaml:12: connections[0]`; absent where the file does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// What a plan knows of a secret.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretCheck {
    /// It is compared with the stored one when the plan is applied; another one replaces it then.
    CheckedWhenApplied,
}

/// Something wrong with a configuration.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct PlanProblem {
    /// Everything in one line: `keyward.yaml:12: agents[0].use: message; remedy`.
    pub text: String,
    /// The file; absent where an environment variable or another file is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The YAML path: `agents[0].use`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What is wrong. Never quotes a secret.
    pub message: String,
    /// What to do; absent where the message says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The resources of an organisation as a configuration without secrets.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExportView {
    /// The sections, as in the configuration file.
    pub configuration: Map<String, Value>,
    /// The environment variables that it refers to instead of secrets.
    pub variables: Vec<ExportVariable>,
    /// What a configuration cannot say, for people.
    pub notes: Vec<String>,
}

/// A variable that has to be set.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ExportVariable {
    /// Its name.
    pub name: String,
    /// What its value is, for people.
    pub secret_of: String,
}
