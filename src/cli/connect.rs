//! `keyward connect`: connects an account step by step (provider, key, test, binding) and prints the command
//! to run. An unfinished attempt is rolled back.

pub(super) mod created;
mod own_api;
pub(super) mod questions;
pub(super) mod registration;
mod several;
pub(super) mod tools;

use std::path::PathBuf;

use serde::Serialize;

use self::created::CreatedResources;
use self::own_api::{KeyPlace, KeyPlaceArgs, OwnApi};
use self::questions::{AnswerSource, FixedAnswers, Questions};
use self::tools::Tool;
use super::client::{Client, segment};
use super::connection::options::{New, Options};
use super::connection::request;
use super::connection::shape::Shapes;
use super::connection::state::note_warnings;
use super::connection::state::path;
use super::environment::DEFAULT_AGENT;
use super::failure::{Exit, Failure};
use super::settings::Global;
use super::signals::Signals;
use super::terminal::{self, secret};
use super::{consent, output, provider};
use keyward_api::wire::{ConnectionCreated, ConnectionTested, ProviderView, TestOutcome};
use keyward_model::{Agent, BindingShown, Connection, Shown};
use keyward_rules::provider::AuthKind;
use keyward_state::directory::ManagedBy;

pub(crate) const EXAMPLES: &str = "\
examples:
  keyward connect
  keyward connect github --name work --agent claude
  keyward connect github --from gh
  keyward connect --key deploy_key --field users=deploy \\
      --secret-file known_hosts=hosts.txt
  keyward connect https://api.corp.example/v1/me --bearer
  keyward connect https://api.corp.example:8443 --header X-Api-Key --name corp
  keyward connect github --name work --secret-stdin token \\
      --agent claude --no-test < token.txt

On a terminal it asks for what is missing. Without one, everything must be
given, and a connection whose test fails is not kept.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// a provider's id (see `keyward provider list`), or the https URL of any API
    provider: Option<String>,
    #[command(flatten)]
    place: KeyPlaceArgs,
    /// use the token of another command line: gh
    #[arg(long, value_name = "TOOL", conflicts_with_all = ["secret_stdin", "secret_files", "secret_envs"])]
    from: Option<String>,
    /// read the private key of an SSH connection from this file
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    key: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// the agent that may use it; created if it does not exist
    #[arg(long, default_value = DEFAULT_AGENT, value_name = "NAME")]
    pub(super) agent: String,
    /// make it the default among the agent's accounts of the provider
    #[arg(long)]
    default: bool,
    /// do not test the key at the provider
    #[arg(long)]
    no_test: bool,
    #[command(flatten)]
    how: consent::ConsentOptions,
}

/// The result of `connect`.
#[derive(Debug, Serialize)]
pub(super) struct ConnectResult {
    pub(super) connection: Shown<Connection>,
    test: Option<ConnectionTested>,
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<BindingShown>,
    /// The command to run.
    run: String,
}

/// The data from before the questions.
struct ConnectStart {
    provider: ProviderView,
    shapes: Shapes,
    agent: Option<Shown<Agent>>,
    asks: bool,
}

/// The context for creating connections.
#[derive(Clone, Copy)]
pub(super) struct ConnectContext<'a> {
    pub(super) global: &'a Global,
    pub(super) client: &'a Client,
    /// How a consent is followed.
    pub(super) how: &'a consent::ConsentOptions,
    /// Whether a key is tested at the provider.
    pub(super) tests: bool,
}

/// The context of the following steps.
pub(super) struct ConnectWizard<'a> {
    context: ConnectContext<'a>,
    /// The agent to bind; `None` if no agent is bound yet.
    agent: Option<&'a str>,
    /// Whether there is a terminal to ask on.
    asks: bool,
    /// Whether the connection becomes the agent's default.
    default: bool,
    signals: Signals,
    /// The command that continues after a failed consent.
    again: Option<String>,
}

/// What to do with a connection after its test.
enum AfterTest {
    Keep(Option<Box<ConnectionTested>>),
    /// Ask for another key.
    Again,
}

impl Args {
    pub(crate) async fn run(mut self, global: &Global) -> Result<(), Failure> {
        let asks = secret::can_ask() && self.options.secrets.secret_stdin.is_none();
        if let Some(path) = self.key.take() {
            tools::take_ssh_key(&mut self.provider, &mut self.options.secrets, &path)?;
        }
        if self.provider.is_none() && self.from.is_none() && !asks {
            return Err(Failure::usage("name a provider: there is no terminal to ask on").hint(
                "keyward connect PROVIDER --secret-stdin FIELD; see `keyward provider list`",
            ));
        }
        if let Some(tool) = &self.from {
            let tool = Tool::named(tool, self.provider.as_deref())?;
            self.options.secrets.held = Some(tool.token()?);
            self.options.auth.get_or_insert_with(|| tool.auth.to_owned());
            self.provider = Some(tool.provider.to_owned());
        }
        let own = self.own_api(asks)?;
        let client = Client::open_to_add(global).await?;
        let shapes = Shapes::load(&client).await?;
        let agent = agent(&client, &self.agent, IN_ITS_USE).await?;
        let Some(own) = own else {
            let provider = match &self.provider {
                Some(id) => provider::of(&client, id).await?,
                None => questions::provider(&shapes)?,
            };
            return self
                .connect(global, &client, ConnectStart { provider, shapes, agent, asks })
                .await;
        };
        let chosen = own.provider(&client, &shapes).await?;
        self.options.auth = Some(chosen.auth.clone());
        let provider = chosen.provider.clone();
        let start = ConnectStart { provider, shapes, agent, asks };
        let connected = self.connect(global, &client, start).await;
        if connected.is_err() {
            chosen.undo(&client).await;
        }
        connected
    }

    /// The API that a URL and the place of its key describe.
    fn own_api(&self, asks: bool) -> Result<Option<OwnApi>, Failure> {
        let place = self.place.place()?;
        let url = self.provider.as_deref().filter(|text| own_api::is_url(text));
        let place = match (url, place) {
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                return Err(Failure::usage(
                    "--bearer, --header, --query and --basic describe a URL",
                )
                .hint("keyward connect https://HOST/PATH --bearer"));
            }
            (Some(_), _) if self.options.auth.is_some() => {
                return Err(Failure::usage("--auth selects an auth method of a known provider")
                    .hint("for a URL, give --bearer, --header NAME, --query NAME or --basic"));
            }
            (Some(_), Some(place)) => place,
            // A wrong URL comes before a question.
            (Some(url), None) => {
                OwnApi::parse(url, KeyPlace::Bearer)?;
                if asks { KeyPlace::ask()? } else { return Err(own_api::no_place()) }
            }
        };
        url.map(|url| OwnApi::parse(url, place)).transpose()
    }

    async fn connect(
        self,
        global: &Global,
        client: &Client,
        ConnectStart { provider, shapes, agent, asks }: ConnectStart,
    ) -> Result<(), Failure> {
        let stored = client.list::<Shown<Connection>>("/api/v1/connections", &[]).await?.items;
        several::unusable_note(global, &stored, &provider, asks);
        let taken = stored.into_iter().map(|one| one.spec.name).collect();
        let way = if asks { AnswerSource::Asking } else { AnswerSource::Given };
        let questions = Questions { options: self.options, provider, shapes, taken, way };
        let context = ConnectContext { global, client, how: &self.how, tests: !self.no_test };
        let mut wizard = ConnectWizard::new(context, Some(&self.agent), asks)?;
        wizard.default = self.default;
        let connected = Box::pin(wizard.until_connected(&questions, agent.as_ref())).await?;
        output::show(global.json, &connected, |connected| {
            told(connected, &questions.provider, agent.as_ref())
        })
    }
}

impl<'a> ConnectWizard<'a> {
    /// From here on, a signal rolls back the created resources before the process ends. `asks`: there is a terminal to ask
    /// on.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub(super) fn new(
        context: ConnectContext<'a>,
        agent: Option<&'a str>,
        asks: bool,
    ) -> Result<Self, Failure> {
        let signals = Signals::ending();
        let signals =
            signals.map_err(|error| Failure::failed("cannot wait for signals", &error))?;
        let (default, again) = (false, None);
        Ok(Self { context, agent, asks, default, signals, again })
    }

    /// Stores, tests and binds, and repeats this until the user accepts the result.
    ///
    /// # Errors
    /// When it fails; then nothing stays but an agent that the configuration names.
    pub(super) async fn until_connected(
        &mut self,
        questions: &Questions,
        agent: Option<&Shown<Agent>>,
    ) -> Result<ConnectResult, Failure> {
        let mut named = questions.named()?;
        named.app = registration::app(self.context.client, questions, &named.auth).await?;
        let consents = named.auth.consents && !questions.gives_tokens();
        self.again = consents.then(|| self.again(questions, &named));
        let mut created = CreatedResources::default();
        loop {
            let device = self.context.how.device;
            let new = New { device, ..questions.filled(&named)? };
            // The next key comes from the terminal, not again from the options.
            named.is_retry = true;
            match Box::pin(self.connected(new, agent, &mut created)).await {
                Ok(Some(connected)) => return Ok(connected),
                Ok(None) => created.undo(self.context.client).await?,
                Err(failure) => {
                    created.undo(self.context.client).await?;
                    if !self.asks || failure.exit() != Exit::Failed {
                        return Err(failure);
                    }
                    output::note(failure.to_string().trim_end());
                    let first = match self.again {
                        Some(_) => "open the consent page again",
                        None => "enter the key again",
                    };
                    if questions::choose("now", &[first, "stop"])? == 1 {
                        return Err(match self.again {
                            // The failure says how to continue.
                            Some(_) => Failure::silent(Exit::Interrupted),
                            None => terminal::interrupted(),
                        });
                    }
                }
            }
        }
    }

    /// Stores, tests and binds; `None` if another key is needed. `created` lists the created resources.
    async fn connected(
        &mut self,
        new: New,
        agent: Option<&Shown<Agent>>,
        created: &mut CreatedResources,
    ) -> Result<Option<ConnectResult>, Failure> {
        let environment = new.members.get("environment").cloned();
        let added: ConnectionCreated =
            self.context.client.post("/api/v1/connections", &new).await?;
        created.connection = Some(added.connection.id.clone());
        let connection = match (Box::pin(self.consented(added)).await, &self.again) {
            (Err(failure), Some(again)) => {
                return Err(registration::not_consented(failure, again));
            }
            (consented, _) => consented?,
        };
        let test = match self.judged(&connection).await? {
            AfterTest::Keep(test) => test.map(|test| *test),
            AfterTest::Again => return Ok(None),
        };
        let connection = self.kept(connection, test.as_ref()).await?;
        note_warnings(&connection);
        let name = self.agent.unwrap_or_default().to_owned();
        let run = self.line(test.as_ref());
        if self.agent.is_none() {
            return Ok(Some(ConnectResult { connection, test, agent: name, binding: None, run }));
        }
        if agent.is_none() && !created.agent_stays {
            let new = serde_json::json!({"name": name, "environment": environment});
            let agent: Shown<Agent> = self.context.client.post("/api/v1/agents", &new).await?;
            created.agent = Some(agent.id);
        }
        let at = format!("/api/v1/agents/{}/bindings", segment(&name));
        let default = self.default || self.asks && several::becomes_default(agent, &connection)?;
        let new = serde_json::json!({"connection": connection.id, "default": default});
        let binding = Some(self.context.client.post(&at, &new).await?);
        Ok(Some(ConnectResult { connection, test, agent: name, binding, run }))
    }

    /// Activates a connection that is kept despite a failed test: tests may have marked it broken.
    async fn kept(
        &self,
        connection: Shown<Connection>,
        test: Option<&ConnectionTested>,
    ) -> Result<Shown<Connection>, Failure> {
        if test.is_none_or(|test| test.outcome != TestOutcome::WrongKey) {
            return Ok(connection);
        }
        let at = format!("{}/resume", path(connection.id.as_str()));
        self.context.client.post(&at, &serde_json::json!({})).await
    }

    /// Waits for the consent, where one is needed.
    async fn consented(&mut self, added: ConnectionCreated) -> Result<Shown<Connection>, Failure> {
        tokio::select! {
            biased;
            Ok(_) = self.signals.next() => return Err(terminal::interrupted()),
            ended = consent::follow(self.context.global, self.context.client, &added, self.context.how) => ended?,
        };
        self.context.client.get(&path(added.connection.id.as_str())).await
    }

    /// Tests until the provider accepts the key or the user stops.
    async fn judged(&mut self, connection: &Shown<Connection>) -> Result<AfterTest, Failure> {
        if !self.context.tests {
            return Ok(AfterTest::Keep(None));
        }
        loop {
            let found = tokio::select! {
                biased;
                Ok(_) = self.signals.next() => return Err(terminal::interrupted()),
                found = request::ask_for_test(self.context.client, &connection.name) => found?,
            };
            match found.outcome {
                TestOutcome::Ok | TestOutcome::NoTest => {
                    return Ok(AfterTest::Keep(Some(Box::new(found))));
                }
                _ if !self.asks => {
                    let kept = "nothing was stored; --no-test stores the key without a test";
                    let hint = format!("{}; {kept}", remedy(&found, connection));
                    return Err(request::test_failure(self.context.global, found).hint(hint));
                }
                _ => {}
            }
            let failure = request::test_failure(self.context.global, found.clone())
                .hint(remedy(&found, connection));
            output::note(failure.to_string().trim_end());
            const PASTE: &str = "paste it again";
            let ways = match found.outcome {
                TestOutcome::WrongKey => [PASTE, "test it again", "keep it anyway", "discard it"],
                _ => ["test it again", PASTE, "keep it anyway", "discard it"],
            };
            match questions::choose("now", &ways)? {
                first @ (0 | 1) if ways[first] == PASTE => return Ok(AfterTest::Again),
                0 | 1 => {}
                2 => return Ok(AfterTest::Keep(Some(Box::new(found)))),
                _ => return Err(terminal::interrupted()),
            }
        }
    }

    /// The command that repeats the consent.
    fn again(&self, questions: &Questions, named: &FixedAnswers) -> String {
        let provider = &questions.provider;
        let mut line = format!("{} connect {}", self.context.global.keyward(), provider.id);
        let mut add = |option: &str, value: &str| line.push_str(&format!(" {option} {value}"));
        if provider.auth.first().is_none_or(|first| first.id != named.auth.id) {
            add("--auth", &named.auth.id);
        }
        if named.name != provider.id {
            add("--name", &named.name);
        }
        for app in named.app.as_deref().into_iter().chain(questions.options.app()) {
            add("--app", app);
        }
        match self.agent {
            None | Some(DEFAULT_AGENT) => {}
            Some(agent) => add("--agent", agent),
        }
        if self.context.how.device {
            line.push_str(" --device");
        }
        line
    }

    /// `keyward run -- curl https://…`
    fn line(&self, test: Option<&ConnectionTested>) -> String {
        let agent = match self.agent {
            None | Some(DEFAULT_AGENT) => String::new(),
            Some(agent) => format!("--agent {agent} "),
        };
        let asked = test.and_then(|test| test.request.as_deref());
        let program = match asked.and_then(|asked| asked.strip_prefix("GET ")) {
            Some(url) if !url.contains('…') => format!("curl {url}"),
            _ => "PROGRAM".to_owned(),
        };
        format!("{} run {agent}-- {program}", self.context.global.keyward())
    }
}

/// What to do where the configuration file manages the agent.
const IN_ITS_USE: &str = "name the connection in its `use` there, or another agent with --agent";

/// The agent, unless it is to be made; `remedy`: what to do where the configuration file manages it.
pub(super) async fn agent(
    client: &Client,
    name: &str,
    remedy: &str,
) -> Result<Option<Shown<Agent>>, Failure> {
    match client.get::<Shown<Agent>>(&format!("/api/v1/agents/{}", segment(name))).await {
        Ok(agent) if agent.managed_by == Some(ManagedBy::File) => {
            let message = format!("agent `{name}` is managed by the configuration file");
            Err(Failure::new(Exit::Failed, message).hint(remedy))
        }
        Ok(agent) => Ok(Some(agent)),
        Err(failure) if failure.exit() == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The remedy where an API rejects the token of a consent, which no one could mistype.
const NEW_TOKEN_REJECTED: &str = "the authorization server gave this token just now: check the scopes and the address of \
     the API; tokens that are bound to a certificate are not supported";

/// What to do about a test that failed, where the key is still at hand.
fn remedy(found: &ConnectionTested, connection: &Shown<Connection>) -> String {
    match (found.outcome, &found.hint) {
        (TestOutcome::WrongKey, _) if connection.app.is_some() => NEW_TOKEN_REJECTED.to_owned(),
        (TestOutcome::WrongKey, _) | (_, None) => "compare the key with the original".to_owned(),
        (_, Some(hint)) => hint.clone(),
    }
}

fn told(
    connected: &ConnectResult,
    provider: &ProviderView,
    before: Option<&Shown<Agent>>,
) -> String {
    let ConnectResult { connection, test, agent, binding, run } = connected;
    let mut text = format!("connection {} added ({})\n", connection.name, connection.id);
    if let Some(test) = test {
        text += &format!("{}\n", test.message);
    }
    let tested = test.as_ref().and_then(|test| test.account.as_ref());
    if let (None, Some(account)) = (tested, &connection.facts.account) {
        text += &format!("account: {account}\n");
    }
    let made = if before.is_none() { " (created)" } else { "" };
    text += &format!("agent {agent}{made} may use it\n");
    let variables = connected.binding.iter().flat_map(|binding| binding.env.keys());
    let variables: Vec<_> = variables.map(String::as_str).collect();
    if !variables.is_empty() {
        let what =
            if connection.facts.kind == Some(AuthKind::File) { "it" } else { "a placeholder" };
        text += &format!("its programs find {what} in {}\n", variables.join(", "));
    }
    let bound = before.map_or(&[][..], |agent| &agent.facts.bindings);
    let is_second = bound.iter().any(|binding| binding.provider == provider.id);
    if let Some(binding) = binding.as_ref().filter(|_| is_second) {
        text += &several::note(before, agent, binding, &several::selected(connection, provider));
    }
    text + &format!("\nrun a program that uses it:\n  {run}\n")
}
