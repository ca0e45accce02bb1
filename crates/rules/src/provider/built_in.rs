//! [`BuiltIn`]: a built-in provider, whose file is parsed when it is first used. The files are compiled in from
//! `catalogue/*.yaml`; `build.rs` lists them with the parts that are needed of all providers at once.

use std::sync::{Arc, OnceLock};

use super::Provider;
use super::actions::Actions;
use super::checked::Parse;
use super::host_template::HostTemplate;
use super::own_hosts::{OwnHosts, path_pattern, split_https};
use super::variable::{Variable, VariableKind};
use keyward_base::pattern::{HostPattern, PathPattern};

/// A built-in provider: its place in the lists, and the provider itself once it was used.
#[derive(Debug)]
pub(super) struct BuiltIn {
    pub(super) file: &'static BuiltInFile,
    pub(super) id: Arc<str>,
    hosts: Vec<HostTemplate>,
    variables: Vec<Variable>,
    parse: Parse,
    provider: OnceLock<Arc<Provider>>,
}

impl BuiltIn {
    /// All built-in providers, sorted by id. `parse` reads a file without its actions.
    pub(super) fn all(parse: Parse) -> Vec<Self> {
        FILES.iter().map(|file| Self::new(file, parse)).collect()
    }

    fn new(file: &'static BuiltInFile, parse: Parse) -> Self {
        let sound = "built-in files are sound: a test reads them all";
        let hosts = file.hosts.iter().map(|host| HostTemplate::parse(host).expect(sound));
        Self {
            file,
            id: file.id.into(),
            hosts: hosts.collect(),
            variables: file.variables.iter().map(variable).collect(),
            parse,
            provider: OnceLock::new(),
        }
    }

    /// The provider; its file is parsed once.
    pub(super) fn provider(&self) -> &Arc<Provider> {
        self.provider.get_or_init(|| {
            let (text, actions) = self.file.text.split_at(start_of_actions(self.file.text));
            let found = (self.parse)(self.file.id, text);
            let found = found.expect("built-in files are sound: a test reads them all");
            let provider = found.into_iter().next();
            let provider = provider.expect("a file holds one provider: a test reads it");
            Arc::new(Provider { actions: Actions::unparsed(actions), ..provider })
        })
    }

    /// As [`Provider::known_hosts`].
    pub(super) fn known_hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.hosts.iter().filter_map(|host| host.usual(&self.variables))
    }

    /// As [`Provider::has_host`].
    pub(super) fn has_host(&self, pattern: &HostPattern) -> bool {
        OwnHosts { hosts: &self.hosts, variables: &self.variables }.overlap(pattern)
    }

    /// As [`Provider::oauth_endpoints`].
    pub(super) fn oauth_endpoints(&self) -> impl Iterator<Item = (HostPattern, PathPattern)> {
        let own = OwnHosts { hosts: &self.hosts, variables: &self.variables };
        self.file.endpoints.iter().filter_map(move |url| {
            let (authority, path) = split_https(url)?;
            // Most endpoints are elsewhere, and need no more.
            let may_own = |host: &&str| *host == authority || host.starts_with("*.");
            if !self.file.hosts.iter().any(may_own) {
                return None;
            }
            let host = HostTemplate::parse(authority).ok()?;
            let is_own = own.owns(&host);
            let endpoint = (host.usual(&self.variables)?, path_pattern(path).ok()?);
            is_own.then_some(endpoint)
        })
    }

    /// Whether the file was parsed.
    #[cfg(test)]
    pub(super) fn is_parsed(&self) -> bool {
        self.provider.get().is_some()
    }
}

/// `actions:` and `indirect:` are the last keys of a built-in file, so that they can be parsed later than the rest.
fn start_of_actions(text: &str) -> usize {
    text.find("\nactions:\n").map_or(text.len(), |end_of_line| end_of_line + 1)
}

fn variable(text: &FileVariable) -> Variable {
    Variable {
        name: text.name.to_owned(),
        kind: if text.is_host { VariableKind::Host } else { VariableKind::Label },
        label: String::new(),
        help: None,
        example: None,
        default: text.default.map(str::to_owned),
        choices: text.choices.iter().map(|choice| (*choice).to_owned()).collect(),
        captured: false,
        within: None,
    }
}

/// A file of the catalogue, as `build.rs` writes it.
#[derive(Debug)]
pub(super) struct BuiltInFile {
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    /// Such as `llm`.
    pub(super) category: &'static str,
    pub(super) hosts: &'static [&'static str],
    pub(super) variables: &'static [FileVariable],
    /// URLs where nothing is injected, on any host.
    pub(super) endpoints: &'static [&'static str],
    pub(super) text: &'static str,
}

/// A variable of hosts, without its texts for people.
#[derive(Debug)]
pub(super) struct FileVariable {
    pub(super) name: &'static str,
    pub(super) is_host: bool,
    pub(super) default: Option<&'static str>,
    pub(super) choices: &'static [&'static str],
}

/// All files, sorted by id.
pub(super) static FILES: &[BuiltInFile] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

/// The file of the provider with this id.
pub(super) fn file(id: &str) -> Option<&'static BuiltInFile> {
    FILES.binary_search_by(|file| file.id.cmp(id)).ok().map(|at| &FILES[at])
}

#[cfg(test)]
mod consents;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod tests;
