//! Sets the variables that providers' SDKs read to the placeholders of an agent's bindings.

use std::collections::BTreeMap;

use super::table::TABLE;
use keyward_model::BindingShown;

/// What an agent's bindings put where.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Placeholders {
    /// By variable.
    pub(crate) variables: BTreeMap<String, String>,
    /// What could not be set, for the person.
    pub(crate) notes: Vec<String>,
}

/// The first binding, by when it was made, has a variable; a later one that wants it is named.
pub(crate) fn of(agent: &str, bindings: &[BindingShown]) -> Placeholders {
    let mut sorted: Vec<_> = bindings.iter().collect();
    sorted.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut holders: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut notes = Vec::new();
    for binding in sorted {
        let (mut lost, mut winner) = (Vec::new(), "");
        for (variable, placeholder) in &binding.env {
            match holders.get(variable.as_str()) {
                // One of ours, such as the proxy: a provider does not get to redirect it.
                _ if is_ours(variable) => {}
                Some((_, first)) => {
                    lost.push(variable.as_str());
                    winner = first;
                }
                None => drop(holders.insert(variable, (placeholder, &binding.name))),
            }
        }
        if !lost.is_empty() {
            notes.push(format!(
                "note: in {}, programs get the placeholder of {winner}; `keyward agent show {agent}` shows the placeholder of {}",
                lost.join(", "),
                binding.name
            ));
        }
    }
    let owned = |(variable, (text, _)): (&str, (&str, &str))| (variable.into(), text.into());
    Placeholders { variables: holders.into_iter().map(owned).collect(), notes }
}

fn is_ours(variable: &str) -> bool {
    TABLE.iter().any(|ours| ours.name.eq_ignore_ascii_case(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str, second: u32, env: &[(&str, &str)]) -> BindingShown {
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "connection": "con_1", "name": name, "provider": "github", "managed_by": "store",
            "created": format!("2025-01-02T03:04:{second:02}Z"), "placeholders": {}, "env": env,
        }))
        .unwrap()
    }

    #[test]
    fn a_later_binding_does_not_take_a_variable_and_is_named() {
        let late = binding("personal", 9, &[("GH_TOKEN", "b"), ("GITHUB_TOKEN", "b")]);
        let early = binding("work", 1, &[("GH_TOKEN", "a")]);
        let found = of("claude", &[late, early]);
        assert_eq!(found.variables["GH_TOKEN"], "a");
        assert_eq!(found.variables["GITHUB_TOKEN"], "b");
        assert_eq!(
            found.notes,
            [
                "note: in GH_TOKEN, programs get the placeholder of work; `keyward agent show claude` shows the placeholder of personal"
            ]
        );
    }

    #[test]
    fn a_provider_cannot_redirect_what_leads_to_the_gateway() {
        let found = of("a", &[binding("x", 1, &[("https_PROXY", "x"), ("NODE_OPTIONS", "x")])]);
        assert_eq!(found, Placeholders::default());
    }
}
