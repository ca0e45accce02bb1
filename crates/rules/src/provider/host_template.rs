//! [`HostTemplate`]: a host pattern with variables, such as `{shop}.myshopify.com`.

use std::collections::BTreeMap;
use std::fmt;

use super::variable::{FormError, Variable, VariableKind};
use keyward_base::pattern::{HostPattern, PatternError};

/// A host pattern with variables, such as `{shop}.myshopify.com` or `{host}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostTemplate {
    parts: Vec<HostPart>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum HostPart {
    Text(String),
    Variable(String),
}

/// Why text is not a host pattern with variables.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostTemplateError {
    /// Unbalanced braces, or an empty name.
    #[error("`{0}` has unbalanced braces: write variables as `{{shop}}.example.com`")]
    Braces(String),
    /// A variable of kind `host` with other text around it.
    #[error("`{0}`: a variable of kind `host` stands alone, without prefix, suffix or port")]
    NotAlone(String),
    /// The variable determines the registrable domain: `{x}.com`.
    #[error(
        "`{0}`: a variable may not choose the registrable domain; list `choices`, or use kind `host`"
    )]
    Domain(String),
    /// A variable of kind `text` or `hosts` in a host.
    #[error("`{0}`: a variable of kind `text` or `hosts` cannot be used in a host")]
    TextKind(String),
    /// The variable is not declared.
    #[error("`{template}` uses variable `{name}`, which is not declared under `variables`")]
    Undeclared {
        /// The host pattern.
        template: String,
        name: String,
    },
    /// The filled-in text is not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl HostTemplate {
    /// Splits `text` at its variables.
    ///
    /// # Errors
    /// When braces are unbalanced.
    pub fn parse(text: &str) -> Result<Self, HostTemplateError> {
        let error = || HostTemplateError::Braces(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, tail)) = rest.split_once('{') {
            let (name, after) = tail.split_once('}').ok_or_else(error)?;
            if name.is_empty() || name.contains('{') || before.contains('}') {
                return Err(error());
            }
            if !before.is_empty() {
                parts.push(HostPart::Text(before.to_owned()));
            }
            parts.push(HostPart::Variable(name.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(error());
        }
        if !rest.is_empty() {
            parts.push(HostPart::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Checks the template against declared variables, and that it yields a pattern.
    ///
    /// # Errors
    /// When a variable is undeclared or misplaced, or the result is not a pattern.
    pub fn check(&self, variables: &[Variable]) -> Result<(), HostTemplateError> {
        let text = self.to_string();
        for name in self.variables() {
            let variable =
                variables.iter().find(|variable| variable.name == name).ok_or_else(|| {
                    HostTemplateError::Undeclared { template: text.clone(), name: name.to_owned() }
                })?;
            match variable.kind {
                VariableKind::Text | VariableKind::Hosts => {
                    return Err(HostTemplateError::TextKind(text));
                }
                VariableKind::Host if self.parts.len() > 1 => {
                    return Err(HostTemplateError::NotAlone(text));
                }
                VariableKind::Label | VariableKind::Labels
                    if variable.choices.is_empty() && self.ends_too_early(name) =>
                {
                    return Err(HostTemplateError::Domain(text));
                }
                VariableKind::Host | VariableKind::Label | VariableKind::Labels => {}
            }
        }
        HostPattern::parse(&self.sample(variables))?;
        Ok(())
    }

    /// The text with a sample value for each variable, used to check its form.
    pub fn sample(&self, variables: &[Variable]) -> String {
        let sample = |variable: &Variable| match (variable.choices.first(), variable.kind) {
            (Some(choice), _) => choice.clone(),
            (None, VariableKind::Host) => "host.example.com".to_owned(),
            (None, _) => "x".to_owned(),
        };
        let samples = variables.iter().map(|variable| (variable.name.clone(), sample(variable)));
        self.filled(&samples.collect())
    }

    /// The pattern, if it has no variables.
    pub fn literal(&self) -> Option<HostPattern> {
        match self.variables().next() {
            None => HostPattern::parse(&self.to_string()).ok(),
            Some(_) => None,
        }
    }

    /// The pattern, if all its variables have defaults.
    pub fn usual(&self, variables: &[Variable]) -> Option<HostPattern> {
        let default =
            |variable: &Variable| Some((variable.name.clone(), variable.default.clone()?));
        let values: BTreeMap<String, String> = variables.iter().filter_map(default).collect();
        match self.variables().all(|name| values.contains_key(name)) {
            true => HostPattern::parse(&self.filled(&values)).ok(),
            false => None,
        }
    }

    /// The text with each value that the variables may have; a label that the owner chooses freely stays as `{name}`.
    pub(super) fn expanded(&self, variables: &[Variable]) -> Vec<String> {
        let values = |part: &HostPart| match part {
            HostPart::Text(text) => vec![text.clone()],
            HostPart::Variable(name) => match variables.iter().find(|it| it.name == *name) {
                Some(it) if !it.choices.is_empty() => it.choices.clone(),
                Some(it) if it.kind == VariableKind::Host => it.default.iter().cloned().collect(),
                _ => vec![format!("{{{name}}}")],
            },
        };
        self.parts.iter().fold(vec![String::new()], |texts, part| {
            let values = values(part);
            let with =
                |text: &String| values.iter().map(|it| format!("{text}{it}")).collect::<Vec<_>>();
            texts.iter().flat_map(with).collect()
        })
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            HostPart::Variable(name) => Some(name.as_str()),
            HostPart::Text(_) => None,
        })
    }

    /// Whether fewer than two whole labels follow the variable.
    fn ends_too_early(&self, name: &str) -> bool {
        let after = self
            .parts
            .iter()
            .skip_while(|part| !matches!(part, HostPart::Variable(n) if n == name));
        let text: String = after
            .skip(1)
            .map(|part| match part {
                HostPart::Text(text) => text.as_str(),
                HostPart::Variable(_) => "x",
            })
            .collect();
        let host = text.split(':').next().unwrap_or_default();
        host.split('.').skip(1).count() < 2
    }

    /// The text with `values`, which are already checked.
    fn filled(&self, values: &BTreeMap<String, String>) -> String {
        let value = |part: &HostPart| match part {
            HostPart::Text(text) => text.clone(),
            HostPart::Variable(name) => values.get(name).cloned().unwrap_or_default(),
        };
        self.parts.iter().map(value).collect()
    }

    /// The pattern, or the name of the missing variable.
    pub(super) fn fill(
        &self,
        values: &BTreeMap<String, String>,
        all: &[Variable],
    ) -> Result<HostPattern, FormError> {
        for name in self.variables() {
            if !values.contains_key(name) {
                let label = all.iter().find(|variable| variable.name == name);
                return Err(FormError::Missing {
                    name: name.to_owned(),
                    label: label.map_or_else(|| name.to_owned(), |variable| variable.label.clone()),
                });
            }
        }
        Ok(HostPattern::parse(&self.filled(values))?)
    }
}

impl fmt::Display for HostTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            HostPart::Text(text) => f.write_str(text),
            HostPart::Variable(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_with_unpaired_braces_is_refused() {
        for bad in ["{", "}", "a}b", "{a", "a{}b", "{a{b}}", "{a}}"] {
            assert!(HostTemplate::parse(bad).is_err(), "{bad}");
        }
        for good in ["a.test", "{a}", "{a}-{b}.x.test", "*.{a}.x.test:8443"] {
            assert_eq!(HostTemplate::parse(good).unwrap().to_string(), good);
        }
    }
}
