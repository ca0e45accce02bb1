//! [`Inputs`]: secrets and manifests that the configuration refers to. They are read before a plan is made, so that
//! a missing one changes nothing; secrets that look like something else than the keys of their provider are warned
//! of.

use std::collections::BTreeMap;
use std::error::Error;

use super::problem::{caused_by, problem};
use crate::config::{
    Config, Declared, DeclaredPlugin, HookSecrets, InFile, ManifestError, ManifestSource,
    SecretSource, SecretSourceError, manifest_file,
};
use keyward_base::secret::Secret;
use keyward_inbox::NewKeys;
use keyward_model::{Agent, Connection};
use keyward_rules::provider::document::Problem;
use keyward_rules::provider::{Catalogue, pasted};
use keyward_state::crypto::token;
use keyward_state::directory::Manifest;
use keyward_vault::events::WebhookSigningKey;

/// Secrets by name.
pub(crate) type Fields = BTreeMap<String, Secret>;

/// The secrets and manifests of the declared resources, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// `None`, here and below: its secrets were not read. It is checked without them.
    pub(super) apps: Vec<Option<Fields>>,
    pub(super) sources: Vec<Option<Fields>>,
    /// `None`: it is made without a grant.
    pub(super) connections: Vec<Option<Fields>>,
    pub(super) tokens: Vec<Option<Secret>>,
    pub(super) webhooks: Vec<Option<WebhookSigningKey>>,
    pub(super) hooks: Vec<Option<NewKeys>>,
    pub(super) manifests: Vec<Manifest>,
    /// Of the client at the identity provider.
    pub(crate) oidc: Option<Secret>,
}

/// Reads inputs and collects what cannot be read.
struct InputReader<'a> {
    config: &'a Config,
    /// Whether this process serves already, with the environment of its start.
    serves: bool,
    /// The variables that commands do not see.
    hidden: Vec<&'a str>,
    problems: Vec<Problem>,
}

impl Inputs {
    /// Reads all of them. Blocks, for a command up to 10 s.
    ///
    /// # Errors
    /// All that cannot be read.
    pub(crate) fn load(config: &Config) -> Result<Self, Vec<Problem>> {
        InputReader::new(config, false).all()
    }

    /// The same in a gateway that serves.
    ///
    /// # Errors
    /// All that cannot be read.
    pub(crate) fn load_again(config: &Config) -> Result<Self, Vec<Problem>> {
        InputReader::new(config, true).all()
    }

    /// Reads manifests only: apps, sources, webhooks and hooks are checked without their secrets and have no step in the
    /// plan; agents and connections are made without secrets.
    ///
    /// # Errors
    /// All that cannot be read.
    pub(crate) fn without_secrets(config: &Config) -> Result<Self, Vec<Problem>> {
        let mut reader = InputReader::new(config, false);
        let manifests = reader.manifests();
        reader.done(Self {
            apps: config.apps.iter().map(|_| None).collect(),
            sources: config.sources.iter().map(|_| None).collect(),
            connections: config.connections.iter().map(|_| None).collect(),
            tokens: config.agents.iter().map(|_| None).collect(),
            webhooks: config.webhooks.iter().map(|_| None).collect(),
            hooks: config.hooks.iter().map(|_| None).collect(),
            manifests,
            oidc: None,
        })
    }

    /// Only what rules can name: without apps, sources, webhooks and hooks.
    pub(crate) fn of_rules(self) -> Self {
        let (apps, sources) = (Vec::new(), Vec::new());
        Self { apps, sources, webhooks: Vec::new(), hooks: Vec::new(), ..self }
    }
}

impl<'a> InputReader<'a> {
    fn new(config: &'a Config, serves: bool) -> Self {
        Self { config, serves, hidden: config.secret_variables(), problems: Vec::new() }
    }
}

impl InputReader<'_> {
    fn all(mut self) -> Result<Inputs, Vec<Problem>> {
        let config = self.config;
        let apps = config.apps.iter().map(|app| {
            let subject = format!("app `{}`: ", app.name);
            Some(self.fields(&app.with.sources, &app.place, &subject))
        });
        let apps = apps.collect();
        let sources = config.sources.iter().map(|source| {
            let subject = format!("source `{}`: credential ", source.name);
            Some(self.fields(&source.with.sources, &source.place, &subject))
        });
        let sources = sources.collect();
        let connections = config.connections.iter().map(|connection| {
            let subject = format!("connection `{}`: field ", connection.name);
            Some(self.fields(&connection.with.sources, &connection.place, &subject))
        });
        let connections = connections.collect();
        let tokens = config.agents.iter().map(|agent| self.token(agent)).collect();
        let webhooks = self.signing_keys();
        let hooks = self.hook_keys();
        let manifests = self.manifests();
        let oidc = self.oidc();
        self.done(Inputs { apps, sources, connections, tokens, webhooks, hooks, manifests, oidc })
    }

    fn done(self, inputs: Inputs) -> Result<Inputs, Vec<Problem>> {
        if self.problems.is_empty() { Ok(inputs) } else { Err(self.problems) }
    }

    fn secret(&self, source: &SecretSource) -> Result<Secret, SecretSourceError> {
        let read = source.load(&self.config.environment, &self.hidden);
        read.map_err(|error| match error {
            SecretSourceError::EnvMissing(name) if self.serves => {
                SecretSourceError::EnvOfGatewayMissing(name)
            }
            error => error,
        })
    }

    fn fields(
        &mut self,
        sources: &BTreeMap<String, SecretSource>,
        place: &str,
        subject: &str,
    ) -> Fields {
        let mut fields = Fields::new();
        for (name, source) in sources {
            match self.secret(source) {
                Ok(secret) => drop(fields.insert(name.clone(), secret)),
                Err(error) => {
                    let told = problem(place, format!("{subject}`{name}`: {error}"), "");
                    self.problems.push(caused_by(&error, told));
                }
            }
        }
        fields
    }

    fn token(&mut self, agent: &Declared<Agent>) -> Option<Secret> {
        let told =
            |message| problem(&agent.place, format!("agent `{}`: {message}", agent.name()), "");
        self.problems.push(match self.secret(agent.with.token.as_ref()?) {
            Ok(token) if token::is_acceptable_secret(&token) => return Some(token),
            Ok(_) => told("its token needs 20 to 512 letters, digits or `-._~`".to_owned()),
            Err(error) => caused_by(&error, told(format!("its token: {error}"))),
        });
        None
    }

    fn signing_keys(&mut self) -> Vec<Option<WebhookSigningKey>> {
        let webhooks = self.config.webhooks.iter();
        webhooks.map(|it| self.signing_key(it, &it.with)).collect()
    }

    fn signing_key<R: InFile>(
        &mut self,
        declared: &Declared<R>,
        source: &SecretSource,
    ) -> Option<WebhookSigningKey> {
        let text = self.secret(source);
        let text = text.map_err(|error| self.unreadable(declared, "signing_key", &error)).ok()?;
        let key = WebhookSigningKey::parse(&text);
        key.map_err(|error| self.unreadable(declared, "signing_key", &error)).ok()
    }

    fn hook_keys(&mut self) -> Vec<Option<NewKeys>> {
        let mut keys = Vec::new();
        for hook in &self.config.hooks {
            let HookSecrets { secret, signing_key } = &hook.with;
            let secret = secret.as_ref().map(|source| self.secret(source)).transpose();
            let secret = secret.map_err(|why| self.unreadable(hook, "secret", &why));
            let signing_key = signing_key.as_ref().and_then(|it| self.signing_key(hook, it));
            let secret = secret.unwrap_or_default();
            keys.push(Some(NewKeys { secret, signing_key, no_overlap: false }));
        }
        keys
    }

    fn unreadable<R: InFile>(
        &mut self,
        declared: &Declared<R>,
        key: &str,
        why: &(dyn Error + 'static),
    ) {
        let message = format!("{} `{}`: `{key}`: {why}", R::KIND.one, declared.name());
        self.problems.push(caused_by(why, problem(&declared.place, message, "")));
    }

    fn oidc(&mut self) -> Option<Secret> {
        let sources = self.config.sign_in.oidc.as_ref()?;
        match self.secret(&sources.client_secret) {
            Ok(secret) => Some(secret),
            Err(error) => {
                let message = format!("`client_secret`: {error}");
                self.problems.push(caused_by(&error, problem(&sources.place, message, "")));
                None
            }
        }
    }

    fn manifests(&mut self) -> Vec<Manifest> {
        if self.config.plugins.is_empty() {
            return Vec::new();
        }
        let catalogue = self.config.catalogue();
        let providers: Vec<&str> = catalogue.ids().collect();
        let mut found = Vec::new();
        for declared in &self.config.plugins {
            match manifest(declared, &providers) {
                Ok(manifest) => {
                    let unknown = manifest.unknown_actions(&catalogue).into_iter().map(|fault| {
                        let message = format!("{}: {}", fault.path, fault.message);
                        problem(&format!("{}.manifest", declared.place), message, &fault.remedy)
                    });
                    self.problems.extend(unknown);
                    found.push(manifest);
                }
                Err(problems) => self.problems.extend(problems),
            }
        }
        found
    }
}

fn manifest(declared: &DeclaredPlugin, providers: &[&str]) -> Result<Manifest, Vec<Problem>> {
    let path = match &declared.manifest {
        ManifestSource::Inline(manifest) => return Ok((**manifest).clone()),
        ManifestSource::File(path) => path,
    };
    manifest_file(path, providers).map_err(|error| match error {
        // Each names the file and its line.
        ManifestError::Problems(problems) => problems,
        error => vec![problem(&format!("{}.manifest", declared.place), error.to_string(), "")],
    })
}

/// Warnings in the words of `keyward connection add`, which refuses such a value. A file has no option to accept one, so
/// they are no problems: services introduce new formats. Parses the files of all providers.
pub(crate) fn unusual_keys(config: &Config, catalogue: &Catalogue, inputs: &Inputs) -> Vec<String> {
    let read = config.connections.iter().zip(&inputs.connections);
    let read = read.filter_map(|(declared, fields)| Some((declared, fields.as_ref()?)));
    let found = read.flat_map(|(declared, fields)| of_connection(declared, fields, catalogue));
    found.map(|problem| problem.to_string()).collect()
}

fn of_connection(
    declared: &Declared<Connection>,
    fields: &Fields,
    catalogue: &Catalogue,
) -> Vec<Problem> {
    let Some(provider) = catalogue.get(&declared.provider) else { return Vec::new() };
    let Some(auth) = provider.auth(declared.auth.as_deref()) else { return Vec::new() };
    let judged = fields.iter().filter_map(|(name, value)| {
        let field = auth.field(name).filter(|field| field.secret)?;
        let wanted = pasted::KeyShapes::of(provider, auth, field);
        let misfit = pasted::judge_secret(catalogue, value, &wanted).err()?;
        let message = format!("connection `{}`: `{name}` {}", declared.name(), misfit.says);
        Some(problem(&declared.place, message, misfit.remedy))
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use keyward_base::shared_map;

    /// Reads the secrets of so many connections, and returns how often a source was looked at.
    fn looks(count: usize) -> u64 {
        let item = |index| {
            format!(
                "  - {{ name: c-{index}, provider: openai, fields: {{ api_key: {{ env: KEY }} }} }}\n"
            )
        };
        let items: String = (0..count).map(item).collect();
        let variables = BTreeMap::from([("KEY".to_owned(), "canary".to_owned())]);
        let yaml = format!("connections:\n{items}");
        let config = Config::parse(&yaml, Path::new("/keyward.yaml"), &variables).unwrap();
        let (inputs, looks) = shared_map::count(|| Inputs::load(&config).unwrap());
        let read = |fields: &Option<Fields>| fields.as_ref().is_some_and(|it| it.len() == 1);
        assert_eq!(inputs.connections.iter().filter(|fields| read(fields)).count(), count);
        looks
    }

    /// Whether each secret of these sources that cannot be read was away.
    fn away(sources: &[&str]) -> Vec<bool> {
        let items: String = (0..)
            .zip(sources)
            .map(|(at, source)| {
                format!(
                    "  - {{ name: c-{at}, provider: openai, fields: {{ api_key: {source} }} }}\n"
                )
            })
            .collect();
        let yaml = format!("connections:\n{items}");
        let config = Config::parse(&yaml, Path::new("/keyward.yaml"), &BTreeMap::new()).unwrap();
        let problems = Inputs::load_again(&config).unwrap_err();
        problems.iter().map(|problem| problem.is_away).collect()
    }

    #[test]
    fn a_command_that_fails_was_away_and_a_missing_secret_is_wrong() {
        let fails = "{ command: [sh, -c, 'exit 3'] }";
        assert_eq!(away(&[fails]), [true]);
        let absent = "{ command: [/nothing/there] }";
        assert_eq!(away(&[fails, "{ env: UNSET }", absent]), [true, false, false]);
    }

    #[test]
    fn twice_as_many_secrets_are_looked_at_twice_as_often() {
        let (few, many) = (looks(100), looks(200));
        assert!(few > 0 && many <= 2 * few, "{few} looks, then {many}");
    }
}
