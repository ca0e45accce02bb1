//! The command line: parses arguments, runs one command, and reports a failure as a message and an exit code.
//!
//! Each command has one file with its arguments and its code. Commands use only the admin API;
//! `client` decides whether a running gateway or a private one answers it.

mod agent;
mod allow;
mod app;
mod apply;
mod audit;
mod backup;
mod ca;
mod check;
mod client;
mod complete;
mod completions;
mod connect;
mod connect_link;
mod connection;
mod consent;
mod database_listener;
mod derive;
mod doctor;
mod env;
mod environment;
pub(super) mod escape_controls;
mod explain;
mod export;
mod failure;
mod files;
mod harden;
mod health;
mod help;
mod honeytoken;
mod hook;
mod import;
mod init;
mod key;
mod login;
mod org;
mod output;
mod ownership;
mod personal;
mod plan;
mod plugin;
mod provider;
pub(super) mod proxy_at;
mod resource;
mod restore;
mod rule;
mod run;
mod serve;
mod service;
mod session;
mod settings;
mod signals;
mod source;
mod status;
mod store;
mod stream;
mod terminal;
mod usage;
mod usage_history;
mod user;
mod webhook;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::failure::{Exit, Failure};
use self::settings::Global;

/// A forward proxy that gives agents API access without giving them credentials.
#[derive(Debug, Parser)]
#[command(
    name = "keyward",
    version,
    about = "gives agents API access without giving them credentials",
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true,
    term_width = help::WIDTH,
    after_help = FIRST_STEPS
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    /// print help
    #[arg(short, long, global = true, action = ArgAction::Help, help_heading = "Global options")]
    help: Option<bool>,
    /// print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
examples:
  keyward connect github --name work --agent claude
  keyward run --agent claude -- curl https://api.github.com/user
  keyward explain https://api.github.com/user --agent claude

exit codes: 0 success, 1 failure, 2 wrong usage, 3 gateway not reached, 4 not allowed, 5 not found";

#[derive(Debug, Subcommand)]
enum Command {
    /// run the gateway; creates the data directory if it is missing
    Serve(serve::Args),
    /// write a commented configuration and create the data directory
    Init,
    /// run a program through the gateway, with a token that ends with the program
    Run(run::args::Args),
    /// print an agent's environment variables, with a new token
    Env(env::Args),
    /// manage agents: programs that use the proxy, their tokens and bindings
    #[command(subcommand)]
    Agent(agent::Command),
    /// connect an account step by step: key, test, agent
    #[command(after_help = connect::EXAMPLES)]
    Connect(Box<connect::Args>),
    /// connect accounts by the keys in .env, the environment or files of other tools
    #[command(after_help = import::EXAMPLES)]
    Import(import::Args),
    /// make a link by which a person connects an account in a browser
    #[command(after_help = connect_link::EXAMPLES)]
    ConnectLink(connect_link::Command),
    /// manage apps: OAuth clients that are registered at providers
    #[command(subcommand)]
    App(app::Command),
    /// manage connections: accounts at providers
    #[command(subcommand)]
    Connection(connection::Command),
    /// manage plugins: software that declares the connections it needs
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// show providers, check a provider file, add and remove own ones
    #[command(subcommand)]
    Provider(provider::Command),
    /// manage sessions: short-lived tokens of an agent for one end user
    #[command(subcommand)]
    Session(session::Command),
    /// list and cut requests, WebSockets and tunnels that are open now
    #[command(subcommand)]
    Stream(stream::Command),
    /// manage rules, which decide what agents may reach, and test them
    #[command(subcommand)]
    Rule(rule::Command),
    /// show what the gateway would do with a request, and why
    Explain(explain::Args),
    /// diagnose the installation, or one program
    Doctor(doctor::Args),
    /// manage users and their roles
    #[command(subcommand)]
    User(user::Command),
    /// manage personal access tokens of users, for scripts and this command line
    #[command(subcommand)]
    Token(personal::Command),
    /// print a link that signs a user in to the console once
    #[command(after_help = login::EXAMPLES)]
    LoginLink(login::LoginLinkArgs),
    /// list and end logins: browsers in which users are signed in
    Login {
        #[command(subcommand)]
        command: Option<login::Command>,
    },
    /// manage organisations, which are isolated from each other
    #[command(subcommand)]
    Org(org::Command),
    /// manage webhooks, which report events of connections, bindings and plugins
    #[command(subcommand)]
    Webhook(webhook::Command),
    /// receive verified webhooks of services for programs
    #[command(subcommand)]
    Hook(hook::Command),
    /// open and close ports for sessions with databases
    #[command(subcommand)]
    DatabaseListener(database_listener::Command),
    /// manage secret sources, where values of connections' fields are kept
    #[command(subcommand)]
    Source(source::Command),
    /// manage honeytokens: bait that raises an alarm when a program sends it
    #[command(subcommand)]
    Honeytoken(honeytoken::Command),
    /// manage the certificate authority (CA) that agents must trust
    #[command(subcommand)]
    Ca(ca::Command),
    /// list and rotate the master keys that seal the store
    #[command(subcommand)]
    Key(key::Command),
    /// write an encrypted backup of the state into one file
    #[command(after_help = backup::EXAMPLES)]
    Backup(backup::Args),
    /// replace the state by that of a backup, while no gateway runs
    #[command(after_help = restore::EXAMPLES)]
    Restore(restore::Args),
    /// move the state to another store, such as a database that several gateways share
    #[command(subcommand)]
    Store(store::Command),
    /// print all resources as a configuration without secrets
    #[command(after_help = export::EXAMPLES)]
    Export(export::Args),
    /// search, follow and verify the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// check a configuration file, without secrets and without a gateway
    #[command(subcommand)]
    Config(check::Command),
    /// print a line for each request; -f follows new ones
    Logs(Box<audit::Logs>),
    /// show requests, errors and latencies over time
    #[command(after_help = usage_history::EXAMPLES)]
    Usage(usage_history::Args),
    /// print what a configuration would make, change, pause and remove
    #[command(after_help = plan::EXAMPLES)]
    Plan(plan::Args),
    /// make a file the configuration of the gateway, after its plan
    #[command(after_help = apply::EXAMPLES)]
    Apply(apply::Args),
    /// make the gateway read its configuration again, and report errors in it
    Reload(plan::ReloadArgs),
    /// show the gateway, connections, agents, and the last refusals on one screen
    Status,
    /// install the gateway as a service of systemd or launchd
    #[command(subcommand)]
    Service(service::Command),
    /// exit with 0 if the gateway is ready
    Health(health::Args),
    /// show as which user, and in which organisation, commands run
    Whoami,
    /// print the completions of a shell
    Completions(completions::Completions),
    /// print the completions of a command line
    #[command(hide = true)]
    Complete(complete::Args),
    /// print help, also of a command: `keyward help connection add`
    #[command(hide = true)]
    Help {
        /// a command
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
    },
    /// print the version
    #[command(hide = true)]
    Version,
    /// print the manual page, or write the pages of all commands
    Man(completions::Manual),
}

/// The definition of the command line, for tests that check commands in documentation.
pub fn definition() -> clap::Command {
    help::arranged(plain_definition())
}

/// The definition without its help. It is quicker to make: the help needs all commands built.
fn plain_definition() -> clap::Command {
    help::add_aliases(Cli::command())
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::parsed(&words) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &words, &plain_definition()),
    };
    let json = cli.global.json;
    if let Some(command) = cli.command.of_this_machine()
        && let Err(failure) = cli.global.require_local_gateway(command)
    {
        let exit = if command == "run" { Exit::RunFailed } else { failure.exit() };
        return failure.with(exit).report(json);
    }
    if let Command::Run(args) = cli.command {
        return match harden::memory() {
            Ok(()) => args.run(&cli.global),
            Err(failure) => failure.with(Exit::RunFailed).report(json),
        };
    }
    if let Command::Complete(args) = cli.command {
        args.run(&definition());
        return ExitCode::SUCCESS;
    }
    let hardened = match &cli.command {
        Command::Doctor(args) if args.has_program() => harden::memory(),
        Command::Hook(command) if command.has_program() => harden::memory(),
        _ => harden::process(),
    };
    match hardened.and_then(|()| cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}

/// Prints the help of the command that `words` name.
fn help(words: &[String]) -> Result<(), Failure> {
    let mut command = definition();
    command.build();
    for word in words {
        let known = command.find_subcommand(word).cloned();
        command = known.ok_or_else(|| {
            Failure::usage(format!("`{}` is not a command", words.join(" ")))
                .hint("keyward --help lists the commands")
        })?;
    }
    output::print(&command.render_help().to_string())
}

impl Cli {
    /// # Errors
    /// Also with help and version, which clap returns as errors. Errors show the usage of the arranged definition.
    fn parsed<T: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = T> + Clone,
    ) -> Result<Self, clap::Error> {
        Self::parsed_by(plain_definition(), words.clone())
            .or_else(|_| Self::parsed_by(definition(), words))
    }

    fn parsed_by<T: Into<OsString> + Clone>(
        mut command: clap::Command,
        words: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let mut matches = command.try_get_matches_from_mut(words)?;
        usage::refuse_empty_names(&mut command, &matches)?;
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }

    fn run(self) -> Result<(), Failure> {
        if let Command::Serve(args) = &self.command {
            return serve::run(&self.global, args);
        }
        output::log_warnings();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed("cannot start", &error))?;
        runtime.block_on(Box::pin(self.command.run(&self.global)))
    }
}

impl Command {
    /// The name of a command that works with a gateway of this machine only.
    fn of_this_machine(&self) -> Option<&'static str> {
        match self {
            Self::Serve(_) => Some("serve"),
            Self::Init => Some("init"),
            Self::Run(_) => Some("run"),
            Self::Doctor(_) => Some("doctor"),
            Self::Restore(_) => Some("restore"),
            Self::Store(command) => command.of_this_machine(),
            Self::Apply(_) => Some("apply"),
            Self::Service(_) => Some("service"),
            _ => None,
        }
    }

    async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            // These start their own runtime.
            Self::Serve(_) | Self::Run(_) | Self::Complete(_) => Ok(()),
            Self::Env(args) => args.run(global).await,
            Self::Init => init::run(global).await,
            Self::Agent(command) => command.run(global).await,
            Self::Connect(args) => Box::pin(args.run(global)).await,
            Self::Import(args) => Box::pin(args.run(global)).await,
            Self::App(command) => command.run(global).await,
            Self::Connection(command) => Box::pin(command.run(global)).await,
            Self::Plugin(command) => Box::pin(command.run(global)).await,
            Self::Provider(command) => command.run(global).await,
            Self::Session(command) => command.run(global).await,
            Self::Stream(command) => command.run(global).await,
            Self::ConnectLink(command) => command.run(global).await,
            Self::Rule(command) => command.run(global).await,
            Self::Explain(args) => args.run(global).await,
            Self::Doctor(args) => Box::pin(args.run(global)).await,
            Self::User(command) => command.run(global).await,
            Self::Token(command) => command.run(global).await,
            Self::Org(command) => command.run(global).await,
            Self::Webhook(command) => command.run(global).await,
            Self::Hook(command) => command.run(global).await,
            Self::DatabaseListener(command) => command.run(global).await,
            Self::Source(command) => command.run(global).await,
            Self::Honeytoken(command) => command.run(global).await,
            Self::Ca(command) => command.run(global).await,
            Self::Key(command) => command.run(global).await,
            Self::Backup(args) => args.run(global).await,
            Self::Export(args) => args.run(global).await,
            Self::Restore(args) => Box::pin(args.run(global)).await,
            Self::Store(command) => Box::pin(command.run(global)).await,
            Self::Audit(command) => command.run(global).await,
            Self::Logs(logs) => logs.run(global).await,
            Self::Usage(args) => args.run(global).await,
            Self::Plan(args) => args.run(global).await,
            Self::Apply(args) => Box::pin(args.run(global)).await,
            Self::Reload(args) => args.run(global).await,
            Self::Config(command) => command.run(global).await,
            Self::Status => status::run(global).await,
            Self::Service(command) => command.run(global),
            Self::Health(args) => health::run(args, global).await,
            Self::Whoami => login::am_i(global).await,
            Self::Help { words } => help(&words),
            Self::Version => {
                let version = BTreeMap::from([("version", env!("CARGO_PKG_VERSION"))]);
                output::show(global.json, &version, |it| format!("keyward {}\n", it["version"]))
            }
            Self::LoginLink(link) => link.run(global).await,
            Self::Login { command: Some(command) } => command.run(global).await,
            Self::Login { command: None } => login::login(global),
            Self::Completions(args) => args.run(&definition()),
            Self::Man(args) => args.run(definition()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::parsed(line.split(' '))
    }

    #[test]
    fn the_command_line_definition_passes_the_assertions_of_clap() {
        definition().debug_assert();
    }

    #[test]
    fn secrets_are_not_accepted_as_arguments() {
        let lines = [
            "keyward connection add github --secret token=abc",
            "keyward connection add github --token abc",
            "keyward agent token add ci --token abc",
            "keyward agent add ci --token abc",
            "keyward agent token add ci --token-stdin abc",
            "keyward agent list --token kwp_abc",
            "keyward token add ann --token abc",
        ];
        for line in lines {
            assert_eq!(parse(line).unwrap_err().kind(), ErrorKind::UnknownArgument, "{line}");
        }
    }

    #[test]
    fn global_options_are_taken_before_and_after_the_command() {
        for line in ["keyward --json agent list", "keyward agent list --json --data d"] {
            assert!(parse(line).unwrap().global.json, "{line}");
        }
    }

    #[test]
    fn every_help_text_is_short_and_in_lower_case() {
        fn check(command: &clap::Command) {
            let texts = command.get_arguments().filter_map(|argument| argument.get_help());
            for text in texts.chain(command.get_about()).map(ToString::to_string) {
                let first = text.chars().next().unwrap();
                assert!(!first.is_uppercase() && !text.ends_with('.'), "{text}");
                assert!(text.len() <= 80, "{text}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&definition());
    }
}
