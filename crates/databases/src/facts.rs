//! [`DatabaseFacts`]: facts about a login that the test of a connection reads from the server.

use keyward_base::settings::Settings;

/// What a server says about a login.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DatabaseFacts {
    /// Such as `16.4`.
    pub version: String,
    /// The role.
    pub user: String,
    /// Whether transactions are read-only unless they say otherwise, or the server is a standby.
    pub read_only: bool,
    /// Whether the role is a superuser, which has all rights.
    pub superuser: bool,
    /// What the role may do at the server beyond the mode of the connection's sessions, such as `create roles`; empty where the server
    /// does not say it.
    pub rights: Vec<String>,
    /// What the login did not prove.
    pub weakness: Option<&'static str>,
    /// Where it is, if the connection has several servers: `b.example.com:5433`.
    pub server: Option<String>,
}

impl DatabaseFacts {
    /// Whether the rights to write are beyond the mode of the sessions.
    pub(crate) fn are_writes_beyond(settings: Option<&Settings>) -> bool {
        settings.is_some_and(|it| it.read_only == Some(true) || it.has_statement_rules())
    }
}

/// The rights that are shown at most.
const RIGHTS_MAX: usize = 20;

/// The rights in a list of a server.
pub(crate) fn rights(list: &[u8]) -> Vec<String> {
    let list = String::from_utf8_lossy(list);
    let all = list.split(", ").filter(|right| !right.is_empty());
    all.take(RIGHTS_MAX).map(short).collect()
}

/// Shown if the server does not report its version.
pub(crate) const UNKNOWN_VERSION: &str = "(of unknown version)";

/// A text of the server without control characters, for people.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
