//! [`DatabaseFacts`]: facts about a login that the test of a connection reads from the server.

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
    /// Where it is, if the connection has several servers: `b.example.com:5433`.
    pub server: Option<String>,
}

/// Shown if the server does not report its version.
pub(crate) const UNKNOWN_VERSION: &str = "(of unknown version)";

/// A text of the server without control characters, for people.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
