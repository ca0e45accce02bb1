//! `--allow`: the sets of hosts that an agent may reach without a credential, as flags give them and as people read
//! them.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::client::Client;
use super::failure::{Exit, Failure};
use super::resource::path;
use keyward_model::{Agent, ManagedBy, Shown};
use keyward_rules::host_sets::HostSets;

/// The word for no set.
const NONE: &str = "none";

/// The flag.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Allow {
    /// other hosts it may reach without a credential; may be given several times
    #[arg(long = "allow", value_name = "SET", value_delimiter = ',', value_parser = names())]
    sets: Vec<String>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(HostSets::built_in().names().chain([NONE]))
}

impl Allow {
    /// The sets; `None` if the flag is not given.
    pub(crate) fn given(self) -> Result<Option<Vec<String>>, Failure> {
        let mut sets = self.sets;
        if sets.is_empty() {
            return Ok(None);
        }
        if sets.iter().any(|set| set == NONE) {
            return match sets.len() {
                1 => Ok(Some(Vec::new())),
                _ => Err(Failure::usage("`--allow none` cannot be combined with other sets")
                    .hint("omit `none`, or the others")),
            };
        }
        let mut seen = Vec::new();
        sets.retain(|set| {
            !seen.contains(set) && {
                seen.push(set.clone());
                true
            }
        });
        Ok(Some(sets))
    }
}

/// Stores the sets of an agent.
///
/// # Errors
/// When the configuration file manages it; the hint names the key.
pub(crate) async fn store(
    client: &Client,
    agent: &Shown<Agent>,
    sets: Vec<String>,
) -> Result<Shown<Agent>, Failure> {
    if agent.managed_by == Some(ManagedBy::File) {
        let name = agent.name();
        let message = format!("agent {name} is managed by the configuration file");
        let list = sets.join(", ");
        return Err(Failure::new(Exit::Failed, message).hint(format!(
            "write `allow: [{list}]` to its item under `agents:` there, then: keyward reload"
        )));
    }
    client.patch(&path::<Agent>(agent.id.as_str()), &serde_json::json!({ "allow": sets })).await
}

/// The sets, for people.
pub(crate) fn text(sets: Option<&[String]>) -> String {
    match sets {
        None => String::new(),
        Some([]) => NONE.to_owned(),
        Some(sets) => sets.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(sets: &[&str]) -> Result<Option<Vec<String>>, Failure> {
        Allow { sets: sets.iter().map(|set| (*set).to_owned()).collect() }.given()
    }

    #[test]
    fn allow_none_is_refused_beside_other_sets_and_differs_from_no_flag() {
        assert!(given(&["none", "pip"]).is_err());
        assert_eq!(given(&[]), Ok(None));
        assert_eq!(given(&["none"]), Ok(Some(Vec::new())));
        assert_eq!(given(&["pip", "web", "pip"]), Ok(Some(vec!["pip".into(), "web".into()])));
    }
}
