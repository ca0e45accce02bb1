//! `keyward connection add`: a new connection, tested before it is active; or a draft that is
//! gone on with.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::form::FilledForm;
use super::options::ConnectionArguments;
use super::options::New;
use super::shape::Shapes;
use super::state::note_warnings;
use super::state::path;
use super::{Add, connected, import};
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::settings::Global;
use crate::cli::terminal::secret::Typed;
use crate::cli::terminal::wait;
use crate::cli::{consent, output, provider};
use keyward_api::wire::{self, ConnectionCreated, ConnectionTested, ProviderView, TestOutcome};
use keyward_model::{Connection, Shown};
use keyward_state::directory::ConnectionState;

/// A draft is to become active.
#[derive(Serialize)]
struct Activation {
    fields: BTreeMap<String, Typed>,
    test: bool,
}

impl Add {
    pub(super) async fn run(self, global: &Global, client: &Client) -> Result<(), Failure> {
        if self.is_by_url() {
            self.fits_url()?;
        }
        if self.resume.is_some() {
            self.fits_draft()?;
        }
        match self.resume.clone() {
            Some(name) => self.resumed(global, client, &name).await,
            None => Box::pin(self.added(global, client)).await,
        }
    }

    async fn added(self, global: &Global, client: &Client) -> Result<(), Failure> {
        let (how, tests) = (self.how.clone(), !self.no_test);
        let provider = self.provider.clone().unwrap_or_default();
        let new = match self.is_by_url() {
            true => self.of_url(provider)?,
            false => self.of_provider(client, &provider).await?,
        };
        let name = new.name.clone();
        let asked = client.post("/api/v1/connections", &new);
        let made: ConnectionCreated = wait::during(&format!("adding {name}"), asked).await?;
        let ends = consent::follow(global, client, &made, &how).await?;
        let test = made.test.clone();
        let made: Shown<Connection> = client.get(&path(made.connection.id.as_str())).await?;
        is_active(global, &made, test.as_ref())?;
        note_warnings(&made);
        output::show(global.json, &made, |made| {
            let keyward = global.keyward();
            let next = format!("let an agent use it: {keyward} agent bind AGENT {}", made.name);
            let (name, id, told) = (&made.name, &made.id, connected(made, ends));
            let tested = tested(test.as_ref(), tests && made.facts.token.is_none());
            format!("connection {name} added ({id})\n{tested}{told}{next}\n")
        })
    }

    /// Completes a draft: given values stay, missing ones are prompted for, then the draft is
    /// tested.
    async fn resumed(self, global: &Global, client: &Client, name: &str) -> Result<(), Failure> {
        let draft: Shown<Connection> = client.get(&path(name)).await?;
        let provider = provider::of(client, &draft.provider).await?;
        let given = self.options.given()?;
        let fields = match given.names_some() {
            true => self.filled(client, given, &draft, &provider).await?.fields,
            false => BTreeMap::new(),
        };
        let ask = Activation { fields, test: !self.no_test };
        let at = format!("{}/activate", path(name));
        let asked = client.post(&at, &ask);
        let made: ConnectionCreated = wait::during(&format!("testing {name}"), asked).await?;
        is_active(global, &made.connection, made.test.as_ref())?;
        note_warnings(&made.connection);
        output::show(global.json, &made.connection, |made_now| {
            let tested = tested(made.test.as_ref(), ask.test);
            format!("connection {} is active\n{tested}", made_now.name)
        })
    }

    async fn filled(
        &self,
        client: &Client,
        given: ConnectionArguments,
        draft: &Shown<Connection>,
        provider: &ProviderView,
    ) -> Result<FilledForm, Failure> {
        let auth = draft.auth.clone();
        let given = ConnectionArguments { auth, variables: draft.variables.clone(), ..given };
        let filled = given.complete(provider)?;
        if !self.options.secrets.any_shape {
            let shapes = Shapes::load(client).await?;
            filled.check(provider, &shapes)?.iter().for_each(|remark| output::note(remark));
        }
        Ok(filled)
    }

    async fn of_provider(self, client: &Client, provider: &str) -> Result<New, Failure> {
        let provider = provider::of(client, provider).await?;
        let members = self.members()?;
        let options = self.options;
        let references = self.references.into_iter().collect();
        let auth = options.auth_of(&provider);
        let given = ConnectionArguments { auth, references, ..options.given()? };
        let mut filled = given.complete(&provider)?;
        let imported = self.import.as_deref().map(import::tokens).transpose()?;
        let imported = imported.unwrap_or_default();
        filled.fields.extend(imported.tokens.clone());
        if !options.secrets.any_shape {
            let shapes = Shapes::load(client).await?;
            filled.check(&provider, &shapes)?.iter().for_each(|remark| output::note(remark));
        }
        imported.fill(&mut filled.fields)?;
        Ok(New {
            name: options.name.unwrap_or_else(|| provider.id.clone()),
            provider: provider.id,
            auth: filled.auth,
            url: None,
            device: self.how.device,
            test: !self.no_test,
            visibility: options.seen.word(),
            variables: filled.variables,
            fields: filled.fields,
            references: filled.references,
            members,
        })
    }

    /// The members of its spec.
    fn members(&self) -> Result<Map<String, Value>, Failure> {
        let mut members = self.options.members()?;
        members.extend(self.settings.body()?);
        Ok(members)
    }

    /// Whether an MCP server is given by its URL.
    fn is_by_url(&self) -> bool {
        self.provider.as_deref().is_some_and(|provider| provider.contains("://"))
    }

    /// Refuses options that have no meaning beside the URL of an MCP server, which says itself how a client gets access.
    fn fits_url(&self) -> Result<(), Failure> {
        let (options, secrets) = (&self.options, &self.options.secrets);
        let given = options.given()?;
        let unfit = [
            ("--auth", given.auth.is_some_and(|auth| auth != "oauth")),
            ("--field", !given.fields.is_empty()),
            ("--secret-stdin", secrets.secret_stdin.is_some()),
            ("--secret-file", !secrets.secret_files.is_empty()),
            ("--secret-env", !secrets.secret_envs.is_empty()),
            ("--secret-from", !self.references.is_empty()),
            ("--skip-format-check", secrets.any_shape),
            ("--import", self.import.is_some()),
            ("--var", !given.variables.is_empty()),
            ("--app", options.app().is_some()),
        ];
        let why = "beside the URL of an MCP server, which is connected by a consent";
        let hint = "omit it; with a key: keyward connect URL --bearer; with an app of your own: declare the server as \
                    a provider, see keyward provider add --help";
        refuse(&unfit, why, hint)
    }

    /// Refuses options that do not change a draft, whose spec stays as it was added.
    fn fits_draft(&self) -> Result<(), Failure> {
        let (options, how) = (&self.options, &self.how);
        let given = options.given()?;
        let first = options.members.first().or(self.settings.first());
        let first = first.map(|option| format!("--{option}")).unwrap_or_default();
        let unfit = [
            ("--auth", given.auth.is_some()),
            ("--name", options.name.is_some()),
            ("--var", !given.variables.is_empty()),
            ("--private or --shared", options.seen.word().is_some()),
            ("--secret-from", !self.references.is_empty()),
            ("--import", self.import.is_some()),
            ("--device", how.device),
            ("--no-browser", how.no_browser),
            ("--accept-account", how.accept_account),
            (&*first, !first.is_empty()),
        ];
        let why = "with --resume, which takes secrets and --no-test";
        let hint = "omit it; afterwards: keyward connection set and assign; for another provider, auth, app or \
                    source: remove the draft and add it again";
        refuse(&unfit, why, hint)
    }

    /// Everything else is the server's to say.
    fn of_url(self, url: String) -> Result<New, Failure> {
        Ok(New {
            provider: "mcp".to_owned(),
            members: self.members()?,
            visibility: self.options.seen.word(),
            name: self.options.name.unwrap_or_default(),
            url: Some(url),
            device: self.how.device,
            ..New::default()
        })
    }
}

/// Refuses the first of these options that is given.
fn refuse(options: &[(&str, bool)], why: &str, hint: &str) -> Result<(), Failure> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(Failure::usage(format!("{option} has no meaning {why}")).hint(hint))
        }
        None => Ok(()),
    }
}

/// Fails if the test failed: the connection is then kept as a draft.
fn is_active(
    global: &Global,
    made: &Shown<Connection>,
    test: Option<&ConnectionTested>,
) -> Result<(), Failure> {
    let (ConnectionState::Draft { .. }, Some(test)) = (&made.facts.state, test) else {
        return Ok(());
    };
    if global.json {
        output::print_json(made)?;
        return Err(Failure::silent(Exit::Failed));
    }
    let (name, keyward) = (&made.name, global.keyward());
    let wire::ConnectionTested { message, hint, outcome, .. } = test;
    // That of a wrong key is what follows.
    let hint = hint.as_ref().filter(|_| *outcome != TestOutcome::WrongKey);
    let hint = hint.map(|hint| format!("{hint}; ")).unwrap_or_default();
    Err(Failure::new(Exit::Failed, format!("{name}: {message}")).hint(format!(
        "{hint}it is kept as a draft: {keyward} connection add --resume {name}, with another secret, \
         when the provider answers, or with --no-test, which stores it untested"
    )))
}

/// The result of the test, or that there was none.
fn tested(test: Option<&ConnectionTested>, wanted: bool) -> String {
    match test {
        Some(test) => format!("{}\n", test.message),
        None if wanted => {
            "it was not tested: no test request is known for its provider\n".to_owned()
        }
        None => String::new(),
    }
}
