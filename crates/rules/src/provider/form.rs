//! The form of a provider: parses the variables that an owner enters and inserts them into hosts, placements
//! and OAuth endpoints. The result is the [`Instance`] that a connection uses.

use std::collections::BTreeMap;
use std::fmt;

use super::database::hosts;
use super::{AuthMethod, Instance, Provider, Variable, VariableKind};
use crate::inject::credential::Clears;
use crate::inject::scoped::Scoped;
use keyward_base::agent::is_unreserved;
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
    #[error("`{0}`: a variable of kind `text` or `hosts` cannot stand in a host")]
    TextKind(String),
    /// The variable is not declared.
    #[error("`{template}` uses variable `{name}`, which is not declared under `variables`")]
    Undeclared {
        /// The host pattern.
        template: String,
        /// The variable's name.
        name: String,
    },
    /// The filled-in text is not a pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Why variables or fields are invalid.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormError {
    /// A variable of the hosts is missing.
    #[error("`{name}` ({label}) is missing: give it with the connection's `variables`")]
    Missing {
        /// The variable's name.
        name: String,
        /// The variable's label.
        label: String,
    },
    /// The provider does not have the variable.
    #[error("provider `{provider}` has no variable `{name}`")]
    Unknown {
        /// The provider's id.
        provider: String,
        /// The variable's name.
        name: String,
    },
    /// The value is not a single DNS label.
    #[error("`{name}` must be one label of letters, digits and hyphens, such as `{example}`")]
    Label {
        /// The variable's name.
        name: String,
        /// An example of a value.
        example: String,
    },
    /// The value does not name servers.
    #[error("`{name}` must be {must}")]
    Servers {
        /// The variable's name.
        name: String,
        /// The values that it accepts.
        must: &'static str,
    },
    /// The value is not a host.
    #[error("`{name}` must be a host name, optionally with port, such as `{example}`")]
    Host {
        /// The variable's name.
        name: String,
        /// An example of a value.
        example: String,
    },
    /// The value has reserved URL characters.
    #[error("`{name}` must be letters, digits, `-`, `.`, `_` or `~`, up to 255")]
    Text {
        /// The variable's name.
        name: String,
    },
    /// The value is not one of the choices.
    #[error("`{name}` must be one of {choices}")]
    Choice {
        /// The variable's name.
        name: String,
        /// The allowed values.
        choices: String,
    },
    /// The database of a protocol whose databases have numbers.
    #[error("`{name}` must be a number, such as 0")]
    Number {
        /// The variable.
        name: String,
    },
    /// A filled-in host is not a pattern.
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
                VariableKind::Label if variable.choices.is_empty() && self.ends_too_early(name) => {
                    return Err(HostTemplateError::Domain(text));
                }
                VariableKind::Host | VariableKind::Label => {}
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

impl Variable {
    /// Checks a value and returns its canonical form.
    ///
    /// # Errors
    /// When it does not match the variable's kind or choices.
    pub fn accept(&self, value: &str) -> Result<String, FormError> {
        let name = || self.name.clone();
        let example = |or: &str| self.example.clone().unwrap_or_else(|| or.to_owned());
        if !self.choices.is_empty() {
            return match self.choices.iter().any(|choice| choice == value) {
                true => Ok(value.to_owned()),
                false => Err(FormError::Choice { name: name(), choices: self.choices.join(", ") }),
            };
        }
        match self.kind {
            VariableKind::Label if is_label(value) => Ok(value.to_ascii_lowercase()),
            VariableKind::Label => {
                Err(FormError::Label { name: name(), example: example("my-company") })
            }
            VariableKind::Host => match HostPattern::parse(value) {
                Ok(pattern) if pattern.literal().is_some() => Ok(pattern.to_string()),
                _ => Err(FormError::Host { name: name(), example: example("git.example.com") }),
            },
            VariableKind::Hosts => hosts(value).ok_or_else(|| FormError::not_hosts(name())),
            VariableKind::Text if value.len() <= 255 && is_unreserved(value) => {
                Ok(value.to_owned())
            }
            VariableKind::Text => Err(FormError::Text { name: name() }),
        }
    }
}

/// Whether the value is a DNS label (RFC 1123 §2.1; also `_`, which real services use).
fn is_label(value: &str) -> bool {
    (1..=63).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && !value.starts_with('-')
        && !value.ends_with('-')
}

impl Provider {
    /// The hosts without variables.
    pub fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.hosts.iter().filter_map(|host| host.usual(&self.variables))
    }

    /// Checks the variables of a connection before its consent. Variables from the provider's responses are not known then.
    ///
    /// # Errors
    /// As [`Provider::instantiate`].
    pub fn check_before_consent(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Result<(), FormError> {
        let is_known = |it: &super::Variable| !it.captured || variables.contains_key(&it.name);
        match self.variables.iter().all(is_known) {
            true => self.instantiate(auth, variables).map(|_| ()),
            false => Ok(()),
        }
    }

    /// Fills in the variables.
    ///
    /// # Errors
    /// When a variable is missing, unknown or invalid.
    pub fn instantiate(
        &self,
        auth: &AuthMethod,
        variables: &BTreeMap<String, String>,
    ) -> Result<Instance, FormError> {
        let values = self.values(variables)?;
        let fill = |template: &HostTemplate| template.fill(&values, &self.variables);
        let hosts: Vec<HostPattern> = self.hosts.iter().map(fill).collect::<Result<_, _>>()?;
        let database = self.database(&hosts, &values)?;
        let hosts = if database.is_some() { Vec::new() } else { hosts };
        let scoped = |scope: &super::ScopedPlaces| {
            Ok(Scoped {
                hosts: scope.hosts.iter().map(fill).collect::<Result<_, FormError>>()?,
                paths: scope.paths.clone(),
                what: scope.places.clone(),
            })
        };
        let placements =
            auth.placements.iter().map(scoped).collect::<Result<Vec<_>, FormError>>()?;
        let mut oauth_endpoints = Vec::new();
        for (host, path) in &self.endpoints {
            oauth_endpoints.push((fill(host)?, path.clone()));
        }
        let clears: Clears = self.clears.clone();
        let shown = auth.fields.iter().filter(|field| !field.secret);
        let shown = shown.map(|field| field.name.clone()).collect();
        Ok(Instance {
            hosts,
            paths: self.paths.clone(),
            placements,
            clears,
            oauth_endpoints,
            shown,
            database,
            aws: auth.aws.clone(),
            scheme: auth.scheme.clone(),
            tls: auth.tls.clone(),
            variables: values,
            is_ssh: auth.kind == super::AuthKind::SshKey,
        })
    }

    /// The values of a service's response that may become part of hosts: only declared variables with valid
    /// values, so that no response can direct a credential to another domain.
    pub fn captured(&self, answered: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let taken = |variable: &Variable| {
            let value = answered.get(&variable.name)?.trim_end_matches('/');
            let value = match &variable.within {
                Some((before, after)) => value.strip_prefix(before)?.strip_suffix(after)?,
                None => value,
            };
            Some((variable.name.clone(), variable.accept(value).ok()?))
        };
        self.variables.iter().filter(|variable| variable.captured).filter_map(taken).collect()
    }

    /// Captured variables whose values were invalid.
    pub fn not_captured<'a>(
        &'a self,
        answered: &BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a str> {
        let taken = self.captured(answered);
        let given: Vec<String> = answered.keys().cloned().collect();
        let names = self.variables.iter().filter(|variable| variable.captured);
        let names = names.map(|variable| variable.name.as_str());
        names.filter(move |name| given.iter().any(|it| it == name) && !taken.contains_key(*name))
    }

    /// The given values in canonical form, and the defaults.
    pub(super) fn values(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, FormError> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let variable = self.variable(name).ok_or_else(|| FormError::Unknown {
                provider: self.id.to_string(),
                name: name.clone(),
            })?;
            values.insert(name.clone(), variable.accept(value)?);
        }
        for variable in &self.variables {
            if let (false, Some(default)) = (values.contains_key(&variable.name), &variable.default)
            {
                values.insert(variable.name.clone(), default.clone());
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(kind: VariableKind, choices: &[&str]) -> Variable {
        Variable {
            name: "v".into(),
            kind,
            label: "V".into(),
            help: None,
            example: None,
            default: None,
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            captured: false,
            within: None,
        }
    }

    #[test]
    fn a_whole_host_is_a_name_or_address_and_nothing_more() {
        let host = variable(VariableKind::Host, &[]);
        for bad in
            ["", "*.a.test", "a.test/x", "u@a.test", "a b", "https://a.test", "a.test:0", "0x7f.1"]
        {
            assert!(matches!(host.accept(bad), Err(FormError::Host { .. })), "{bad}");
        }
        assert_eq!(host.accept("Git.Example.com."), Ok("git.example.com".into()));
        assert_eq!(host.accept("git.example.com:8443"), Ok("git.example.com:8443".into()));
    }

    #[test]
    fn an_answer_leads_no_credential_out_of_the_providers_domains() {
        let text = "id: crm\nname: CRM\nhosts: ['{pod}.my.crm.test']\nauth: [{ id: k, kind: bearer }]\n\
             variables: [{ name: pod, captured: true, within: 'https://{}.my.crm.test' }, { name: own, \
             default: x }]\n";
        let found = crate::provider::check::file("p", text, &crate::provider::Catalogue::default());
        let provider = found.unwrap().remove(0);
        let captured = |pod: &str| {
            provider.captured(&BTreeMap::from([
                ("pod".to_owned(), pod.to_owned()),
                ("own".to_owned(), "evil".to_owned()),
                ("other".to_owned(), "evil".to_owned()),
            ]))
        };
        for bad in [
            "https://evil.test",
            "https://evil.test/.my.crm.test",
            "https://evil.test?.my.crm.test",
            "https://a.b.my.crm.test",
            "http://eu1.my.crm.test",
            "eu1",
            "",
        ] {
            assert!(captured(bad).is_empty(), "{bad}");
        }
        let eu = BTreeMap::from([("pod".to_owned(), "eu1".to_owned())]);
        assert_eq!(captured("https://eu1.my.crm.test"), eu);
        assert_eq!(captured("https://eu1.my.crm.test/"), eu);
    }

    #[test]
    fn choices_are_the_only_values() {
        let site = variable(VariableKind::Label, &["com", "com.au"]);
        assert!(matches!(site.accept("evil.com"), Err(FormError::Choice { .. })));
        assert_eq!(site.accept("com.au"), Ok("com.au".into()));
    }

    #[test]
    fn free_text_cannot_leave_its_url_segment() {
        let text = variable(VariableKind::Text, &[]);
        for bad in ["", "a/b", "a?b", "a%2fb", "a b", "é"] {
            assert!(matches!(text.accept(bad), Err(FormError::Text { .. })), "{bad}");
        }
        assert_eq!(text.accept("a-b.c_d~e"), Ok("a-b.c_d~e".into()));
    }

    #[test]
    fn braces_pair_or_the_template_is_refused() {
        for bad in ["{", "}", "a}b", "{a", "a{}b", "{a{b}}", "{a}}"] {
            assert!(HostTemplate::parse(bad).is_err(), "{bad}");
        }
        for good in ["a.test", "{a}", "{a}-{b}.x.test", "*.{a}.x.test:8443"] {
            assert_eq!(HostTemplate::parse(good).unwrap().to_string(), good);
        }
    }
}
