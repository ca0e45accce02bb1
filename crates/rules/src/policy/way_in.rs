//! What would let an agent reach a host that nothing allows: one remedy for the answer, `explain`, `doctor` and the last
//! lines of a run.

/// The host, and what the agent lacks there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WayIn {
    /// `HOST`, or `HOST:PORT` if it is not 443.
    pub host: String,
    /// A set of hosts that has it, after the sets that the agent has; empty without such a set.
    pub sets: Vec<String>,
}

impl WayIn {
    /// The command that allows it. `provider`: the only service of the host.
    pub fn command(&self, agent: &str, provider: Option<&str>) -> String {
        match (&self.sets[..], provider) {
            ([], Some(provider)) => format!("keyward connect {provider} --agent {agent}"),
            ([], None) => format!("keyward rule add pass {} --agent {agent}", self.host),
            (sets, _) => {
                let flags: Vec<_> = sets.iter().map(|set| format!("--allow {set}")).collect();
                format!("keyward agent set {agent} {}", flags.join(" "))
            }
        }
    }

    /// The command and its effect.
    pub fn hint(&self, agent: &str, provider: Option<&str>) -> String {
        let effect = match (&self.sets[..], provider) {
            ([], Some(_)) => "to use an account there",
            ([], None) => "to allow the host without a credential",
            _ => "to allow the set of hosts that has it",
        };
        format!("{effect}: `{}`", self.command(agent, provider))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_has_all_its_words() {
        let way = |sets: &[&str]| WayIn {
            host: "a.test:8443".to_owned(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        };
        for (way, provider, command) in [
            (way(&[]), None, "keyward rule add pass a.test:8443 --agent ci"),
            (way(&[]), Some("acme"), "keyward connect acme --agent ci"),
            (way(&["web", "pip"]), Some("acme"), "keyward agent set ci --allow web --allow pip"),
        ] {
            assert_eq!(way.command("ci", provider), command);
            assert!(way.hint("ci", provider).ends_with(&format!(": `{command}`")));
        }
    }
}
