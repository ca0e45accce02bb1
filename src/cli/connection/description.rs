//! The description of a connection: its arguments, its request of the API, and its output.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::failure::Failure;
use crate::cli::resource::members;
use crate::cli::terminal::table::moment;
use keyward_model::{
    Connection, ConnectionShown, ReplacementReason, RotationState, Shown, in_days,
};
use keyward_rules::provider::scope_words::worded_scopes;

/// What `--clear` takes away beside settings: as arguments and as the API name it.
pub(super) const CLEARED: &[(&str, &str)] = &[
    ("description", "description"),
    ("purpose", "purpose"),
    ("tags", "tags"),
    ("env", "environment"),
    ("expires", "expires"),
    ("rotate-every", "rotate_every"),
];

/// For people, and of the secret.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Description")]
pub(in crate::cli) struct DescriptionArgs {
    /// what it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// what it is for
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// when its secret ends, such as 90d or 2026-01-31: you are reminded before
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// how long a secret is to be used, such as 90d: you are reminded before
    #[arg(long, value_name = "TIME")]
    rotate_every: Option<String>,
}

impl DescriptionArgs {
    /// As the API takes them; only what was given.
    pub(in crate::cli) fn to_json(&self) -> Map<String, Value> {
        members([
            ("description", self.description.clone().map(Value::from)),
            ("purpose", self.purpose.clone().map(Value::from)),
            ("expires", self.expires.clone().map(Value::from)),
            ("rotate_every", self.rotate_every.clone().map(Value::from)),
            ("tags", (!self.tags.is_empty()).then(|| json!(self.tags))),
        ])
    }

    /// A change of a connection that has `tags`: those given are added, `gone` are taken away.
    ///
    /// # Errors
    /// When something other than the tags is both set and cleared.
    pub(in crate::cli) fn patch(
        &self,
        tags: &BTreeSet<String>,
        gone: &[String],
        cleared: &[String],
    ) -> Result<Map<String, Value>, Failure> {
        let mut patch = self.to_json();
        let clears_tags = cleared.iter().any(|name| name == "tags");
        for name in cleared {
            if name != "tags" && patch.contains_key(name) {
                let word = name.replace('_', "-");
                return Err(Failure::usage(format!("{word} is both set and cleared")));
            }
            let empty = if name == "tags" { json!([]) } else { Value::Null };
            patch.insert(name.clone(), empty);
        }
        if !self.tags.is_empty() || !gone.is_empty() {
            let mut now: BTreeSet<String> = self.tags.iter().cloned().collect();
            if !clears_tags {
                now.extend(tags.iter().cloned());
            }
            now.retain(|tag| !gone.contains(tag));
            patch.insert("tags".to_owned(), json!(now));
        }
        Ok(patch)
    }

    /// Whether tags are given, so that the present tags must be read first.
    pub(in crate::cli) fn has_tags(&self) -> bool {
        !self.tags.is_empty()
    }
}

/// The rows about description, secret and rotation.
pub(in crate::cli) fn rows(connection: &Shown<Connection>) -> Vec<(&'static str, String)> {
    let facts = &connection.facts;
    let tags: Vec<_> = connection.tags.iter().map(String::as_str).collect();
    vec![
        ("description", connection.description.clone().unwrap_or_default()),
        ("purpose", connection.purpose.clone().unwrap_or_default()),
        ("tags", tags.join(", ")),
        ("not granted", worded_scopes(&facts.missing, &facts.scope_words)),
        ("secret since", facts.rotated.map(moment).unwrap_or_default()),
        ("secret ends", connection.expires_at().map(moment).unwrap_or_default()),
        ("rotate every", connection.rotate_every.map(in_days).unwrap_or_default()),
        ("due", due(facts)),
        ("rotation", rotation(facts)),
    ]
}

/// When another secret is wanted, and why.
pub(in crate::cli) fn due(facts: &ConnectionShown) -> String {
    let Some(due) = &facts.due else { return String::new() };
    let why = match due.why {
        ReplacementReason::Expires => "it ends",
        ReplacementReason::RotateEvery => "its rotation period ends",
    };
    format!("{} ({why})", moment(due.at))
}

fn rotation(facts: &ConnectionShown) -> String {
    let Some(rotation) = &facts.rotation else { return String::new() };
    match rotation.state {
        RotationState::Testing => "a new secret is being tested".to_owned(),
        RotationState::Unconfirmed => {
            format!("not confirmed; the old secret is kept until {}", moment(rotation.until))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_both_set_and_cleared_is_refused_but_tags_are_replaced() {
        let arguments = DescriptionArgs {
            rotate_every: Some("30d".to_owned()),
            tags: vec!["c".to_owned()],
            ..DescriptionArgs::default()
        };
        let has = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let patch = |cleared: &str| arguments.patch(&has, &[], &[cleared.to_owned()]);
        let refused = patch("rotate_every").unwrap_err();
        assert!(refused.message().contains("rotate-every is both set and cleared"));
        assert_eq!(patch("tags").unwrap()["tags"], json!(["c"]));
        assert_eq!(patch("purpose").unwrap()["tags"], json!(["a", "b", "c"]));
    }
}
