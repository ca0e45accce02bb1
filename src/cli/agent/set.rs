//! `keyward agent set`: changes the labels, the environment and the permissions of an agent.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::allow::{self, Allow};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::resource::path;
use crate::cli::resource::{pair, unique};
use keyward_model::{Agent, Shown};

pub(super) const EXAMPLES: &str = "\
examples:
  keyward agent set claude --allow packages --allow github-read
  keyward agent set claude --allow none
  keyward agent set claude --require-selection true
  keyward agent set claude --label team=build --env production
  keyward agent set claude --clear env --clear label=team
  keyward agent set support --user-provider github --user-provider slack

The sets replace the previous ones. packages: package registries, to read; or a
single one: pip, npm, yarn, cargo, apt, go, rubygems, maven, docker.
github-read: public repositories, to read. web: every host. Rules that deny take
precedence.";

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// name or id
    name: String,
    /// add or change a label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// environment: connections of another one cannot be used
    #[arg(long = "env", value_name = "ENV")]
    environment: Option<String>,
    /// remove the environment (env) or a label (label=KEY); several times
    #[arg(long, value_name = "WHAT", value_parser = cleared)]
    clear: Vec<Cleared>,
    #[command(flatten)]
    allow: Allow,
    /// provider at which it acts for end users, in sessions; *: all; none: none
    #[arg(long = "user-provider", value_name = "ID", value_delimiter = ',')]
    user_providers: Vec<String>,
    /// refuse requests that match several connections and select none
    #[arg(long, value_name = "BOOL")]
    require_selection: Option<bool>,
}

/// What is removed.
#[derive(Clone, Debug)]
enum Cleared {
    Environment,
    Label(String),
}

fn cleared(text: &str) -> Result<Cleared, String> {
    match text.split_once('=') {
        None if text == "env" => Ok(Cleared::Environment),
        Some(("label", key)) if !key.is_empty() => Ok(Cleared::Label(key.to_owned())),
        _ => Err("write env or label=KEY".to_owned()),
    }
}

impl Set {
    pub(super) async fn run(mut self, client: &Client) -> Result<Shown<Agent>, Failure> {
        let allow = std::mem::take(&mut self.allow).given()?;
        let Self { name, .. } = &self;
        let at = path::<Agent>(name);
        let patch = self.patch()?;
        if allow.is_none() && patch.is_empty() {
            return Err(Failure::usage("nothing to change")
                .hint(format!("name what is to change: keyward agent set {name} --allow SET")));
        }
        let mut now: Shown<Agent> = client.get(&at).await?;
        if let Some(allow) = allow {
            now = allow::store(client, &now, allow).await?;
        }
        if !patch.is_empty() {
            now = client.patch(&path::<Agent>(now.id.as_str()), &patch).await?;
        }
        Ok(now)
    }

    /// The merge patch of all but `--allow`.
    fn patch(&self) -> Result<Map<String, Value>, Failure> {
        let mut patch = Map::new();
        let mut labels: Map<String, Value> = unique(self.labels.clone())?
            .into_iter()
            .map(|(key, value)| (key, value.into()))
            .collect();
        if let Some(environment) = &self.environment {
            patch.insert("environment".to_owned(), json!(environment));
        }
        for what in &self.clear {
            let before = match what {
                Cleared::Environment => patch.insert("environment".to_owned(), Value::Null),
                Cleared::Label(key) => labels.insert(key.clone(), Value::Null),
            };
            if before.is_some_and(|before| !before.is_null()) {
                return Err(Failure::usage("the environment or a label is both set and cleared"));
            }
        }
        if !labels.is_empty() {
            patch.insert("labels".to_owned(), labels.into());
        }
        if let Some(selection) = self.require_selection {
            patch.insert("require_selection".to_owned(), json!(selection));
        }
        let providers = match &*self.user_providers {
            [] => return Ok(patch),
            [none] if none == "none" => json!([]),
            ids => json!(ids),
        };
        patch.insert("user_providers".to_owned(), providers);
        Ok(patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[(&str, &str)], environment: Option<&str>, clear: &[&str]) -> Set {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Set {
            name: "claude".to_owned(),
            labels: labels.collect(),
            environment: environment.map(str::to_owned),
            clear: clear.iter().map(|what| cleared(what).unwrap()).collect(),
            allow: Allow::default(),
            user_providers: Vec::new(),
            require_selection: None,
        }
    }

    #[test]
    fn only_the_labels_that_are_named_change_and_what_is_cleared_cannot_be_set_as_well() {
        assert!(set(&[], Some("prod"), &["env"]).patch().is_err());
        assert!(set(&[("team", "a")], None, &["label=team"]).patch().is_err());
        assert!(set(&[("team", "a"), ("team", "b")], None, &[]).patch().is_err());
        for bad in ["", "label", "label=", "environment", "allow"] {
            assert!(cleared(bad).is_err(), "{bad}");
        }
        assert_eq!(set(&[], None, &[]).patch(), Ok(Map::new()));
        let patch = set(&[("team", "a")], None, &["env", "label=old"]).patch().unwrap();
        let wanted = json!({"environment": null, "labels": {"team": "a", "old": null}});
        assert_eq!(Value::from(patch), wanted);
    }
}
