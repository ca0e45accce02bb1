//! The agents, connections and providers that the configuration names, each with its place.

use super::Config;
use keyward_base::id::OrgId;
use keyward_model::{Agent, Connection, OwnProvider};
use keyward_state::rulebook::{ConfigMention, PlacedRule};

impl Config {
    /// The names of what it needs, of its own resources and of stored ones. Listeners are omitted: a gateway starts
    /// without their agents and connections.
    pub fn mentions(&self) -> Vec<ConfigMention> {
        let mut all: Vec<_> = self.rules.iter().flat_map(of_rule).collect();
        for agent in &self.agents {
            let (org, place, used) = (&agent.org, &agent.place, agent.with.uses.iter());
            all.extend(used.map(|item| of_connection(org, &item.connection, place)));
        }
        for plugin in &self.plugins {
            let (org, slots) = (&plugin.org, plugin.slots.values());
            all.push(ConfigMention::new::<Agent>(org, &plugin.agent, &plugin.place));
            all.extend(slots.map(|(name, place)| of_connection(org, name, place)));
        }
        for hook in &self.hooks {
            let (org, place, named) = (&hook.org, &hook.place, hook.spec.connection.iter());
            all.extend(named.map(|it| of_connection(org, it.as_str(), place)));
        }
        all
    }
}

fn of_rule(PlacedRule { org, spec, place }: &PlacedRule) -> Vec<ConfigMention> {
    let agents = spec.agents.iter().flatten();
    let agents = agents.map(|name| ConfigMention::new::<Agent>(org, name, place));
    let used = spec.use_connection.iter().map(|name| of_connection(org, name, place));
    // An action is written as `ACTION` or `PROVIDER:ACTION`.
    let providers = spec.actions.iter().filter_map(|action| action.split_once(':'));
    let providers = providers.map(|(id, _)| ConfigMention::new::<OwnProvider>(org, id, place));
    agents.chain(used).chain(providers).collect()
}

fn of_connection(org: &OrgId, name: &str, place: &str) -> ConfigMention {
    ConfigMention::new::<Connection>(org, name, place)
}
