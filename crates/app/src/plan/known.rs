//! [`NamedResources`]: the agents and connections that an item of the file may name.

use std::collections::HashSet;

use super::planning::{Planning, named};
use super::problem::{AbsentName, did_you_mean, problem};
use crate::config::DeclaredPlugin;
use keyward_base::id::OrgId;
use keyward_model::{Agent, Connection};
use keyward_rules::provider::decode::nearest;
use keyward_state::directory::{AgentRecord, ConnectionRecord, ManagedBy};

/// The resources that an item of the file may name. Resources that the file manages but no longer declares are
/// excluded, because another machine would not have them.
pub(super) struct NamedResources<'a> {
    pub(super) planning: &'a Planning<'a>,
    agents: HashSet<(&'a OrgId, &'a str)>,
    connections: HashSet<(&'a OrgId, &'a str)>,
}

impl Planning<'_> {
    pub(super) fn known(&self) -> NamedResources<'_> {
        let config = self.basis.config;
        NamedResources {
            planning: self,
            agents: named(&config.agents, |it| (&it.org, &it.name)),
            connections: named(&config.connections, |it| (&it.org, &it.name)),
        }
    }
}

impl NamedResources<'_> {
    pub(super) fn agent(&self, declared: &DeclaredPlugin) -> Result<&AgentRecord, AbsentName> {
        let (org, name) = (&declared.org, &declared.agent);
        let counts = |it: &AgentRecord| {
            it.managed_by == ManagedBy::Store || self.agents.contains(&(&it.org, it.name.as_str()))
        };
        let found = self.planning.planned.find_agent(org, name).filter(|it| counts(it));
        found.map(|agent| &**agent).ok_or_else(|| {
            let others = self.planning.planned.all::<Agent>(org).filter(|it| counts(it));
            let near = nearest(name, others.map(|agent| agent.name.as_str()));
            let otherwise = "declare it under `agents:`, or add it with `keyward agent add`";
            absent("agent", name, near, &format!("{}.agent", declared.place), otherwise)
        })
    }

    pub(super) fn connection(
        &self,
        org: &OrgId,
        name: &str,
        place: &str,
    ) -> Result<&ConnectionRecord, AbsentName> {
        let counts = |it: &ConnectionRecord| {
            it.managed_by == ManagedBy::Store
                || self.connections.contains(&(&it.org, it.name.as_str()))
        };
        let found = self.planning.planned.find_connection(org, name).filter(|it| counts(it));
        found.map(|connection| &**connection).ok_or_else(|| {
            let others = self.planning.planned.all::<Connection>(org).filter(|it| counts(it));
            let near = nearest(name, others.map(|it| it.name.as_str()));
            let otherwise =
                "declare it under `connections:`, or add it with `keyward connection add`";
            absent("connection", name, near, place, otherwise)
        })
    }
}

fn absent(
    kind: &'static str,
    name: &str,
    near: Option<&str>,
    place: &str,
    otherwise: &str,
) -> AbsentName {
    let remedy = near.map_or_else(|| otherwise.to_owned(), did_you_mean);
    let problem = problem(place, format!("there is no {kind} `{name}`"), remedy);
    let problem = Box::new(problem);
    AbsentName { kind, name: name.to_owned(), nearest: near.map(str::to_owned), problem }
}
