//! The agents and connections that an item of the file may name. Resources that the file manages but no longer declares
//! are excluded, because another machine would not have them.

use super::planning::Planning;
use super::problem::{AbsentName, did_you_mean, problem};
use crate::config::DeclaredPlugin;
use keyward_base::id::OrgId;
use keyward_model::{Agent, Connection};
use keyward_rules::provider::decode::nearest;
use keyward_state::directory::{AgentRecord, ConnectionRecord, ManagedBy};

impl Planning<'_> {
    pub(super) fn named_agent(
        &self,
        declared: &DeclaredPlugin,
    ) -> Result<&AgentRecord, AbsentName> {
        let (org, name) = (&declared.org, &declared.agent);
        let counts = |it: &AgentRecord| {
            it.managed_by == ManagedBy::Store
                || self.declared_agents.contains(&(&it.org, it.name.as_str()))
        };
        let found = self.planned.find_agent(org, name).filter(|it| counts(it));
        found.map(|agent| &**agent).ok_or_else(|| {
            let others = self.planned.all::<Agent>(org).filter(|it| counts(it));
            let near = nearest(name, others.map(|agent| agent.name.as_str()));
            let otherwise = "declare it under `agents:`, or add it with `keyward agent add`";
            absent("agent", name, near, &format!("{}.agent", declared.place), otherwise)
        })
    }

    pub(super) fn named_connection(
        &self,
        org: &OrgId,
        name: &str,
        place: &str,
    ) -> Result<&ConnectionRecord, AbsentName> {
        let counts = |it: &ConnectionRecord| {
            it.managed_by == ManagedBy::Store
                || self.declared_connections.contains(&(&it.org, it.name.as_str()))
        };
        let found = self.planned.find_connection(org, name).filter(|it| counts(it));
        found.map(|connection| &**connection).ok_or_else(|| {
            let others = self.planned.all::<Connection>(org).filter(|it| counts(it));
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
