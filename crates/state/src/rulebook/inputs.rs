//! The parts of agents and connections that policies depend on. A change of other parts recompiles nothing.

use crate::directory::{
    AgentRecord, AppRecord, BindingRecord, ConnectionRecord, ConnectionState, View, Visibility,
};
use keyward_base::id::UserId;
use keyward_model::LostConnection;
use keyward_rules::policy::AllowedSets;

/// The parts of an agent that determine its bindings and sets of hosts, apart from the connections.
#[derive(PartialEq)]
pub(super) struct BindingInputs<'a> {
    is_paused: bool,
    owner: Option<&'a UserId>,
    bindings: &'a [BindingRecord],
    lost: &'a [LostConnection],
    require_selection: bool,
    allow: Option<&'a [String]>,
    environment: Option<&'a str>,
    user_providers: &'a [String],
}

pub(super) fn binding_inputs(agent: &AgentRecord) -> BindingInputs<'_> {
    BindingInputs {
        is_paused: agent.facts.is_paused(),
        owner: agent.facts.owner.as_ref(),
        bindings: &agent.facts.bindings,
        lost: &agent.facts.lost,
        require_selection: agent.require_selection,
        allow: agent.spec.allow.as_deref(),
        environment: agent.environment.as_deref(),
        user_providers: &agent.user_providers,
    }
}

/// The parts of an agent that determine which rules apply to it.
pub(super) fn rule_inputs(agent: &AgentRecord) -> (&str, Option<&UserId>, Option<&str>) {
    (agent.name(), agent.facts.owner.as_ref(), agent.spec.environment.as_deref())
}

/// The parts of a connection that rules, bindings and slots depend on, apart from its account.
pub(super) fn connection_inputs(
    it: &ConnectionRecord,
) -> (&str, &ConnectionState, Option<&UserId>, Visibility, Option<&str>) {
    (
        &it.name,
        &it.facts.state,
        it.facts.owner.as_ref(),
        it.facts.visibility,
        it.environment.as_deref(),
    )
}

/// The sets of hosts that the agent may reach without a credential.
pub(super) fn allowed_sets(agent: &AgentRecord) -> AllowedSets {
    AllowedSets::named(agent.spec.allow.iter().flatten().map(String::as_str))
}

/// The app through which a connection gets its tokens.
pub(super) fn app_of<'a>(view: &'a View, connection: &ConnectionRecord) -> Option<&'a AppRecord> {
    view.app(&connection.org, connection.app_id()?).map(|app| &**app)
}
