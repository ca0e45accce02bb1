//! `/summary`: numbers of what the caller may see, for overviews and filters.

use std::collections::BTreeMap;

use axum::Json;

use super::context::Context;
use super::error::ApiError;
use super::openapi::Routes;
use super::plugins;
use super::wire::{AgentNumbers, ConnectionNumbers, ProviderCount, Summary};
use keyward_model::{Agent, Connection};
use keyward_state::directory::{ConnectionRecord, ConnectionState};

pub(super) fn routes() -> Routes {
    Routes::new().get(
        "/summary",
        ["getSummary", "Count connections, agents and plugins by state"],
        summary,
    )
}

async fn summary(context: Context) -> Result<Json<Summary>, ApiError> {
    let (view, caller) = (context.view(), &context.caller);
    let catalogue = context.deps().vault.catalogue(caller.org());
    let now = context.deps().clock.now();
    let mut summary = Summary::default();
    for connection in view.all::<Connection>(caller.org()).filter(|it| caller.sees_connection(it)) {
        summary.connections.count(connection);
        if connection.due().is_some_and(|due| due.is_near(now)) {
            summary.connections.due += 1;
        }
        let used = provider(&mut summary.providers, &connection.provider, || {
            let known = catalogue.get(&connection.provider);
            known.map_or(&connection.provider, |provider| &provider.name).clone()
        });
        used.connections += 1;
        if let Some(environment) = &connection.environment {
            *summary.environments.entry(environment.clone()).or_default() += 1;
        }
        for tag in &connection.tags {
            *summary.tags.entry(tag.clone()).or_default() += 1;
        }
    }
    let agents = view.all::<Agent>(caller.org()).filter(|agent| caller.sees_agent(agent));
    summary.agents = agents.fold(AgentNumbers::default(), |sum, agent| AgentNumbers {
        total: sum.total + 1,
        paused: sum.paused + usize::from(agent.facts.is_paused()),
    });
    summary.plugins = plugins::numbers(&context);
    Ok(Json(summary))
}

fn provider<'a>(
    all: &'a mut BTreeMap<String, ProviderCount>,
    id: &str,
    name: impl FnOnce() -> String,
) -> &'a mut ProviderCount {
    all.entry(id.to_owned()).or_insert_with(|| ProviderCount { name: name(), connections: 0 })
}

impl ConnectionNumbers {
    fn count(&mut self, connection: &ConnectionRecord) {
        self.total += 1;
        let of_state = match connection.facts.state {
            ConnectionState::Draft { .. } => &mut self.draft,
            ConnectionState::Testing => &mut self.testing,
            ConnectionState::Active => &mut self.active,
            ConnectionState::Paused => &mut self.paused,
            ConnectionState::Broken { .. } => &mut self.broken,
        };
        *of_state += 1;
    }
}
