//! [`RulebookError`]: errors in rules; each names the place, the resource and the remedy.

use keyward_base::pattern::PatternError;
use keyward_rules::policy::CompileError;

/// Why a rule is invalid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RulebookError {
    /// `agents` names an agent that does not exist.
    #[error("{place}: there is no agent `{name}`: {}", remedy(nearest, ADD_AGENT))]
    UnknownAgent {
        /// The rule's place in the configuration.
        place: String,
        /// The name as written.
        name: String,
        /// The most similar existing name.
        nearest: Option<String>,
    },
    /// `use` names a connection that does not exist.
    #[error("{place}: there is no connection `{name}`: {}", remedy(nearest, ADD_CONNECTION))]
    UnknownConnection {
        /// The rule's place in the configuration.
        place: String,
        /// The name as written.
        name: String,
        /// The most similar existing name.
        nearest: Option<String>,
    },
    /// Agent and connection of a rule belong to different environments.
    #[error(
        "{place}: agent `{agent}` is of environment `{agent_environment}`, connection \
         `{connection}` of `{connection_environment}`: use a connection of the agent's environment"
    )]
    Environments {
        /// The rule's place in the configuration.
        place: String,
        /// The agent's name.
        agent: String,
        /// The agent's environment.
        agent_environment: String,
        /// The connection's name.
        connection: String,
        /// The connection's environment.
        connection_environment: String,
    },
    /// The connection is private, and the agent has another owner.
    #[error(
        "{place}: connection `{connection}` is private, and agent `{agent}` is not its owner's: share it, or name another agent"
    )]
    Private {
        /// The rule's place in the configuration.
        place: String,
        /// The agent's name.
        agent: String,
        /// The connection's name.
        connection: String,
    },
    /// A host or path is not a valid pattern.
    #[error("{place}: {source}")]
    Pattern {
        /// The rule's place in the configuration.
        place: String,
        /// The error of the pattern.
        source: PatternError,
    },
    /// The method is invalid.
    #[error("{place}: `{text}` is not a method: write names such as `GET` or `PROPFIND`")]
    Method {
        /// The rule's place in the configuration.
        place: String,
        /// The text as written.
        text: String,
    },
    /// `actions` names an action that the provider does not have.
    #[error(
        "{place}: provider `{provider}` has no action `{name}`: {}",
        remedy(nearest, SHOW_PROVIDER)
    )]
    UnknownAction {
        /// The rule's place in the configuration.
        place: String,
        /// The provider's id.
        provider: String,
        /// The name as written.
        name: String,
        /// The most similar existing name.
        nearest: Option<String>,
    },
    /// `actions` names an action of a provider that does not exist.
    #[error("{place}: there is no provider `{provider}`: `keyward provider list` shows all")]
    UnknownProvider {
        /// The rule's place in the configuration.
        place: String,
        /// The provider as written.
        provider: String,
    },
    /// `actions` names an action of another provider than the connection's.
    #[error("{place}: `{name}` is not an action of `{provider}`, the provider of the connection")]
    ForeignAction {
        /// The rule's place in the configuration.
        place: String,
        /// The action as written.
        name: String,
        /// The id of the connection's provider.
        provider: String,
    },
    /// The hosts of the action depend on the connection, and the rule names neither.
    #[error(
        "{place}: the hosts of `{name}` depend on the connection: name `hosts`, or a connection with `use`"
    )]
    ActionWithoutHosts {
        /// The rule's place in the configuration.
        place: String,
        /// The action as written.
        name: String,
    },
    /// `use` is combined with an action that does not inject.
    #[error("{place}: `action: {action}` injects nothing: omit `use` or `action`")]
    UseWithAction {
        /// The rule's place in the configuration.
        place: String,
        /// The action as written.
        action: &'static str,
    },
    /// The rule has neither `use` nor `action`.
    #[error(
        "{place}: the rule has neither `use` nor `action`: add `use: CONNECTION` or `action: deny`"
    )]
    SaysNothing {
        /// The rule's place in the configuration.
        place: String,
    },
    /// A newer version of Keyward has stored the rule with a condition that this version does not know.
    #[error("{place}: {name}: {}", Self::UNKNOWN_MEMBER)]
    UnknownMember {
        /// The rule's name.
        place: String,
        /// The member of its row.
        name: String,
    },
    /// Rules contradict themselves or each other.
    #[error("{place}: {source}")]
    Compile {
        /// The place of the first rule of the configuration that the error is about, or `stored rules`.
        place: String,
        /// The contradiction.
        source: CompileError,
    },
}

impl RulebookError {
    /// Why a rule with a condition of a newer version refuses, and the remedy.
    pub const UNKNOWN_MEMBER: &str = "a newer version of keyward has set this, and this one does not know it, so the \
                                      rule refuses its requests: upgrade this replica, or remove the rule";
}

const SHOW_PROVIDER: &str = "`keyward provider show` lists its actions";
const ADD_AGENT: &str = "add it with `keyward agent add`";
const ADD_CONNECTION: &str = "add it with `keyward connection add`";

/// Suggests the most similar name, or `otherwise` if there is none.
fn remedy(nearest: &Option<String>, otherwise: &str) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => otherwise.to_owned(),
    }
}
