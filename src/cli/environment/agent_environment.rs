//! [`AgentEnvironment`]: the variables and files that make a client use the gateway.

use std::collections::BTreeMap;

use super::files::EnvironmentFiles;

pub(crate) struct AgentEnvironment {
    /// Names and values; those of the proxy contain the token.
    pub(crate) variables: Vec<(String, String)>,
    /// Inherited variables that the client must not have: they hold placeholders of an earlier environment.
    pub(crate) removed: Vec<String>,
    /// The files that the variables name.
    pub(crate) files: EnvironmentFiles,
    /// Notes for people.
    pub(crate) notes: Vec<String>,
}

impl AgentEnvironment {
    /// The variables by name.
    pub(crate) fn by_name(&self) -> BTreeMap<&str, &str> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

impl std::fmt::Debug for AgentEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Environment").field("variables", &names).finish_non_exhaustive()
    }
}
