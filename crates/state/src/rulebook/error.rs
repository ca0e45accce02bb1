//! What is wrong with rules: each error names the place, the thing and the remedy.

use keyward_base::pattern::PatternError;
use keyward_rules::policy::CompileError;

/// Why a rule cannot be used, or a policy is not in force.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RulebookError {
    /// `agents` names none that exists.
    #[error("{place}: there is no agent `{name}`: {}", remedy(nearest, ADD_AGENT))]
    UnknownAgent {
        /// Where.
        place: String,
        /// As written.
        name: String,
        /// One that exists.
        nearest: Option<String>,
    },
    /// `use` names none that exists.
    #[error("{place}: there is no connection `{name}`: {}", remedy(nearest, ADD_CONNECTION))]
    UnknownConnection {
        /// Where.
        place: String,
        /// As written.
        name: String,
        /// One that exists.
        nearest: Option<String>,
    },
    /// `use` and `agents` across two environments.
    #[error(
        "{place}: agent `{agent}` is of environment `{agent_environment}`, connection \
         `{connection}` of `{connection_environment}`: use a connection of the agent's environment"
    )]
    Environments {
        /// Where.
        place: String,
        /// The agent.
        agent: String,
        /// Its environment.
        agent_environment: String,
        /// The connection.
        connection: String,
        /// Its environment.
        connection_environment: String,
    },
    /// A private connection, for an agent of somebody else.
    #[error(
        "{place}: connection `{connection}` is private, and agent `{agent}` is not its owner's: share it, or name another agent"
    )]
    Private {
        /// Where.
        place: String,
        /// The agent.
        agent: String,
        /// The connection.
        connection: String,
    },
    /// A host or path that is no pattern.
    #[error("{place}: {source}")]
    Pattern {
        /// Where.
        place: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// Not a method.
    #[error("{place}: `{text}` is not a method: write names such as `GET` or `PROPFIND`")]
    Method {
        /// Where.
        place: String,
        /// As written.
        text: String,
    },
    /// Not an action.
    #[error("{place}: there is no action `{text}`: {}", remedy(nearest, WRITE_ACTION))]
    Action {
        /// Where.
        place: String,
        /// As written.
        text: String,
        /// One that exists.
        nearest: Option<String>,
    },
    /// `use` beside an action that injects nothing.
    #[error("{place}: `action: {action}` injects nothing: leave `use` or `action` out")]
    UseWithAction {
        /// Where.
        place: String,
        /// The action.
        action: String,
    },
    /// Neither `use` nor `action`.
    #[error("{place}: the rule says nothing: add `use: CONNECTION` or `action: deny`")]
    SaysNothing {
        /// Where.
        place: String,
    },
    /// Rules that contradict themselves or each other.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// An older policy is in force.
    #[error("change {change} is stored but not in force: the rules do not compile, see the log")]
    NotInForce {
        /// The directory's change number.
        change: u64,
    },
}

const ADD_AGENT: &str = "add it with `keyward agent add`";
const ADD_CONNECTION: &str = "add it with `keyward connection add`";
const WRITE_ACTION: &str = "write `inject`, `deny`, `pass` or `tunnel`";

/// The name that was probably meant, or what to do when none is near.
fn remedy(nearest: &Option<String>, otherwise: &str) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => otherwise.to_owned(),
    }
}
