//! `keyward agent set`: changes the labels, the environment and the permissions of an agent.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::allow::{self, Allow};
use crate::cli::client::Client;
use crate::cli::derive::{SetArgs, something};
use crate::cli::failure::Failure;
use crate::cli::resource::path;
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
    #[command(flatten)]
    allow: Allow,
    #[command(flatten)]
    given: SetArgs<Agent>,
}

impl Set {
    pub(super) async fn run(self, client: &Client) -> Result<Shown<Agent>, Failure> {
        let allow = self.allow.given()?;
        let SetArgs { name, members } = self.given;
        let patch = with_providers(members.body()?);
        let patch = if allow.is_some() { patch } else { something(patch)? };
        let at = path::<Agent>(&name);
        let mut now: Shown<Agent> = client.get(&at).await?;
        if let Some(allow) = allow {
            now = allow::store(client, &now, allow).await?;
        }
        if !patch.is_empty() {
            now = client.patch(&path::<Agent>(now.id.as_str()), &patch).await?;
        }
        Ok(now)
    }
}

/// The word `none` means no provider, and not one of this name.
pub(super) fn with_providers(mut body: Map<String, Value>) -> Map<String, Value> {
    if let Some(providers) = body.get_mut("user_providers")
        && *providers == json!(["none"])
    {
        *providers = json!([]);
    }
    body
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct SetLine {
        #[command(flatten)]
        given: SetArgs<Agent>,
    }

    fn set(line: &str) -> Result<Map<String, Value>, Failure> {
        let words = ["set", "claude"].into_iter().chain(line.split_whitespace());
        SetLine::try_parse_from(words).expect("it is parsed").given.members.body()
    }

    #[test]
    fn only_the_labels_that_are_named_change_and_what_is_cleared_cannot_be_set_as_well() {
        assert!(set("--env prod --clear env").is_err());
        assert!(set("--label team=a --clear label=team").is_err());
        assert!(set("--label team=a --label team=b").is_err());
        for bad in ["", "label=", "environment", "allow", "name"] {
            let parsed = SetLine::try_parse_from(["set", "claude", "--clear", bad]);
            assert!(parsed.is_err(), "{bad}");
        }
        assert_eq!(set(""), Ok(Map::new()));
        let patch = set("--label team=a --clear env --clear label=old").unwrap();
        let wanted = json!({"environment": null, "labels": {"team": "a", "old": null}});
        assert_eq!(Value::from(patch), wanted);
    }
}
