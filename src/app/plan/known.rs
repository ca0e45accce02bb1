//! [`NamedResources`]: the agents and connections that an item of the file may name.

use std::collections::HashSet;

use super::planning::{Planning, named};
use super::problem::problem;
use crate::config::DeclaredPlugin;
use keyward_base::id::OrgId;
use keyward_model::{Agent, Connection};
use keyward_rules::provider::decode::nearest;
use keyward_rules::provider::document::Problem;
use keyward_state::directory::{AgentRecord, ConnectionRecord, ManagedBy};

/// What an item of the file may name. What the file manages and no longer names does not count: another machine
/// would not have it.
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
    pub(super) fn agent(&self, declared: &DeclaredPlugin) -> Result<&AgentRecord, Problem> {
        let (org, name) = (&declared.org, &declared.agent);
        let counts = |it: &AgentRecord| {
            it.managed_by == ManagedBy::Store || self.agents.contains(&(&it.org, it.name.as_str()))
        };
        let found = self.planning.to_come.find_agent(org, name).filter(|it| counts(it));
        found.map(|agent| &**agent).ok_or_else(|| {
            let others = self.planning.to_come.all::<Agent>(org).filter(|it| counts(it));
            let remedy = match nearest(name, others.map(|agent| agent.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under `agents:`, or add it with `keyward agent add`".to_owned(),
            };
            let place = format!("{}.agent", declared.place);
            problem(&place, format!("there is no agent `{name}`"), remedy)
        })
    }

    pub(super) fn connection(
        &self,
        org: &OrgId,
        name: &str,
    ) -> Result<&ConnectionRecord, (String, String)> {
        let counts = |it: &ConnectionRecord| {
            it.managed_by == ManagedBy::Store
                || self.connections.contains(&(&it.org, it.name.as_str()))
        };
        let found = self.planning.to_come.find_connection(org, name).filter(|it| counts(it));
        found.map(|connection| &**connection).ok_or_else(|| {
            let others = self.planning.to_come.all::<Connection>(org).filter(|it| counts(it));
            let remedy = match nearest(name, others.map(|it| it.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "declare it under `connections:`, or add it with `keyward connection add`"
                    .to_owned(),
            };
            (format!("there is no connection `{name}`"), remedy)
        })
    }
}
