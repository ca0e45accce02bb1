//! Honeytokens: placeholders that are bound to nothing. No program has a reason to send one, so one that is sent
//! raises an alarm.

use keyward_base::id::HoneytokenId;
use keyward_base::keys::section;
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::provider::Provider;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name;
use super::refusal::{Refusal, failed};
use super::resource::{Kind, NoMembers, Resource};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Honeytoken {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct HoneytokenSpec {
        /// Unique: where it is left. 1 to 64 letters, digits or `-_.`. `keyward honeytoken show` shows the
        /// text. Another name in the file makes another text.
        #[key("text", required)]
        pub name: String,
        /// Its text is in the shape of this provider's keys. Another provider makes another text.
        #[key("id of a [provider](providers.md)")]
        #[option("provider", "ID", "in the shape of this provider's keys")]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub provider: Option<String>,
        /// Whether the token of the agent that sends it is revoked. An agent whose token is in this file
        /// is paused, until a person resumes it.
        #[key(one of ["true", "false"], "false")]
        #[option("revoke", "", "revoke the token of the agent that sends it")]
        #[serde(default)]
        pub revokes: bool,
    }
}

/// What the gateway adds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoneytokenFacts {
    /// The placeholder that programs find. It gives access to nothing.
    pub placeholder: Placeholder,
}

impl HoneytokenFacts {
    /// A new placeholder, in the shape of the provider's keys if there is one.
    pub fn issue(provider: Option<&Provider>) -> Self {
        let shaped = provider.and_then(Provider::placeholder);
        Self { placeholder: shaped.unwrap_or_else(|| Placeholder::issue("", None)) }
    }
}

/// What is shown of it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct HoneytokenShown {
    /// What is left there.
    pub text: String,
}

impl Resource for Honeytoken {
    type Id = HoneytokenId;
    type Spec = HoneytokenSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = HoneytokenFacts;
    type Shown = HoneytokenShown;

    const KIND: Kind =
        Kind { one: "honeytoken", article: "a honeytoken", many: "honeytokens", max: 1_000 };

    const OLD_KEYS: &[(&str, &str)] = &[("revoke", "revokes")];

    fn name(spec: &HoneytokenSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &HoneytokenSpec) -> Vec<Refusal> {
        failed([name::plain(&spec.name)])
    }

    fn provider(spec: &HoneytokenSpec) -> Option<&str> {
        spec.provider.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Record;

    /// As version 0.1 wrote it.
    const STORED: &str = r#"{"id":"hny_00000000000000000000","org":"org_default","name":"readme",
        "placeholder":"kwp_x","provider":"openai","revokes":true,"managed_by":"file","created":"2026-01-02T03:04:05Z"}"#;

    #[test]
    fn the_stored_row_is_flat_and_its_members_are_those_of_the_spec() {
        let mut stored: serde_json::Value = serde_json::from_str(STORED).unwrap();
        stored["placeholder"] = serde_json::to_value(Placeholder::issue("", None)).unwrap();
        let record: Record<Honeytoken> = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(record.spec.provider.as_deref(), Some("openai"));
        assert_eq!(serde_json::to_value(&record).unwrap(), stored);
    }

    #[test]
    fn unknown_and_missing_members_of_a_honeytoken_are_refused() {
        for bad in
            [r#"{"name":"a","text":"x"}"#, r#"{"name":"a","id":"hny_1"}"#, r#"{"provider":"x"}"#]
        {
            assert!(serde_json::from_str::<HoneytokenSpec>(bad).is_err(), "{bad}");
        }
    }
}
