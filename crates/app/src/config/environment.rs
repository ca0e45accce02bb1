//! [`VariableSource`]: where variables are looked up: in the process, or in a map that a test gives.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use keyward_base::secret::Secret;

/// Begins every variable that is laid over the file.
pub(super) const PREFIX: &str = "KEYWARD__";

/// Where environment variables come from. Cheap to clone.
#[derive(Clone, Default)]
pub enum VariableSource {
    #[default]
    Process,
    /// Exactly these.
    Fixed(Arc<BTreeMap<String, String>>),
}

/// A variable with the prefix that was asked for.
#[derive(Debug)]
pub(super) struct PrefixedVariable {
    pub(super) name: String,
    /// `None` when it is not UTF-8.
    pub(super) value: Option<String>,
}

impl VariableSource {
    /// Exactly these variables.
    pub fn fixed(variables: &BTreeMap<String, String>) -> Self {
        Self::Fixed(Arc::new(variables.clone()))
    }

    /// A variable as a secret; `None` when it is not set.
    pub fn secret(&self, name: &str) -> Option<Secret> {
        match self {
            Self::Process => Some(Secret::new(std::env::var_os(name)?.into_encoded_bytes())),
            Self::Fixed(variables) => Some(Secret::from(variables.get(name)?.clone())),
        }
    }

    /// A variable as a path; an empty one counts as not set.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = match self {
            Self::Process => PathBuf::from(std::env::var_os(name)?),
            Self::Fixed(variables) => PathBuf::from(variables.get(name)?),
        };
        (!value.as_os_str().is_empty()).then_some(value)
    }

    /// Variables whose names begin with `prefix`, by name. Empty ones count as not set.
    pub(super) fn beginning_with(&self, prefix: &str) -> Vec<PrefixedVariable> {
        let mut found: Vec<PrefixedVariable> = match self {
            Self::Process => std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
                .map(|(name, value)| PrefixedVariable { name, value: value.into_string().ok() })
                .collect(),
            Self::Fixed(variables) => variables
                .iter()
                .map(|(name, value)| PrefixedVariable {
                    name: name.clone(),
                    value: Some(value.clone()),
                })
                .collect(),
        };
        found.retain(|variable| {
            variable.name.starts_with(prefix) && variable.value.as_deref() != Some("")
        });
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }
}

impl fmt::Debug for VariableSource {
    /// Values are omitted: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("Process"),
            Self::Fixed(variables) => f.debug_set().entries(variables.keys()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_names_and_no_values() {
        let variables = BTreeMap::from([("TOKEN".to_owned(), "canary".to_owned())]);
        assert_eq!(format!("{:?}", VariableSource::fixed(&variables)), r#"{"TOKEN"}"#);
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let variables =
            BTreeMap::from([("A_X".to_owned(), String::new()), ("A_Y".to_owned(), "1".to_owned())]);
        let environment = VariableSource::fixed(&variables);
        assert_eq!(environment.path("A_X"), None);
        let found = environment.beginning_with("A_");
        assert_eq!(found.iter().map(|v| &*v.name).collect::<Vec<_>>(), ["A_Y"]);
    }
}
