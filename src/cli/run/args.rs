//! The arguments of `keyward run`, and which other hosts its agent may reach: `--allow` stores it, and the first
//! run on a terminal asks. Without an answer they stay blocked.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args as Arguments;
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

use crate::cli::allow::Allow;
use crate::cli::client::Client;
use crate::cli::environment::DEFAULT_AGENT;
use crate::cli::failure::Failure;
use crate::cli::settings::Global;
use crate::cli::{allow, output, terminal};
use keyward_model::{Agent, ManagedBy, Shown};
use keyward_rules::policy::DefaultAction;

#[derive(Debug, Arguments)]
#[command(after_help = "examples:\n  \
        keyward run curl https://api.github.com/user\n  \
        keyward run --agent claude -- claude\n  \
        keyward run --allow packages -- pip download six\n\n\
        --allow is stored for the agent, as by `keyward agent set`. Without it, the\n\
        first run on a terminal asks; other hosts are blocked until then.\n\n\
        exit codes: the program's; 128 + the signal that ended it; 125 `keyward run`\n\
        failed, 126 the program cannot be executed, 127 the program was not found")]
pub(crate) struct Args {
    /// the agent's name or id; `default` is created if it does not exist
    #[arg(long, default_value = DEFAULT_AGENT)]
    pub(super) agent: String,
    /// the program's plugin manifest; the plugin must be installed and not blocked
    #[arg(long, value_name = "FILE")]
    pub(super) plugin: Option<PathBuf>,
    #[command(flatten)]
    pub(super) allow: Allow,
    /// print a line for each request to standard error
    #[arg(short, long, conflicts_with = "quiet")]
    pub(super) verbose: bool,
    /// no question, no notes, and no summary of what was blocked
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// the program and its arguments; `--` before a program whose name begins with `-`
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(super) program: Vec<OsString>,
}

/// The answers, with the sets that each stores.
const ANSWERS: [(&str, &[&str]); 3] =
    [("1", &[]), ("2", &["packages", "github-read"]), ("3", &["web"])];

const QUESTION: &str = "
The hosts of its connections always work. No key of yours is sent to any other.

  1  none of them: they are blocked, and listed when the program ends
  2  package registries (pip, npm, cargo, Docker, …) and public repositories
     on GitHub, to download and not to publish
  3  all of them: the program can send there whatever it can read
";

/// Stores what `--allow` gives, or asks.
pub(super) async fn store_or_ask(
    args: &Args,
    client: &Client,
    agent: &mut Shown<Agent>,
    global: &Global,
) -> Result<(), Failure> {
    match args.allow.clone().given()? {
        Some(sets) if agent.allow.as_ref() == Some(&sets) => {}
        Some(sets) => {
            *agent = allow::store(client, agent, sets).await?;
            if !args.quiet {
                output::note(&stored(agent, global));
            }
        }
        None if agent.allow.is_none() && may_ask(args, agent, global) => {
            let status = client.status().await;
            if status.is_some_and(|status| status.default == DefaultAction::Deny) {
                ask(client, agent, global).await?;
            }
        }
        None => {}
    }
    Ok(())
}

/// A script, a background job and an agent of the file are never asked.
fn may_ask(args: &Args, agent: &Shown<Agent>, global: &Global) -> bool {
    let is_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    !(args.quiet || global.json || is_ci)
        && agent.managed_by != Some(ManagedBy::File)
        && io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && !is_in_background()
}

/// Whether reading from the terminal would stop this process.
fn is_in_background() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group != getpgrp())
}

async fn ask(client: &Client, agent: &mut Shown<Agent>, global: &Global) -> Result<(), Failure> {
    output::note(&format!(
        "Which other hosts may agent {} reach? This is asked once.\n{QUESTION}",
        agent.name
    ));
    let sets = loop {
        let typed = terminal::text("1, 2 or 3 (Enter: 1)")?;
        let typed = if typed.is_empty() { "1" } else { &typed };
        match ANSWERS.iter().find(|(answer, _)| *answer == typed) {
            Some((_, sets)) => break sets,
            None => output::note("type 1, 2 or 3, then Enter"),
        }
    };
    let sets = sets.iter().map(|set| (*set).to_owned()).collect();
    match allow::store(client, agent, sets).await {
        Ok(now) => {
            *agent = now;
            output::note(&stored(agent, global));
        }
        // A user without the right to change the agent.
        Err(failure) => output::note(&format!("note: the answer was not stored\n{failure}")),
    }
    Ok(())
}

fn stored(agent: &Shown<Agent>, global: &Global) -> String {
    let (name, keyward) = (&agent.name, global.keyward());
    let sets = agent.allow.as_deref().unwrap_or_default();
    let reach = match sets {
        [] => "other hosts are blocked".to_owned(),
        sets => format!("other hosts allowed: {}", sets.join(", ")),
    };
    format!(
        "keyward: stored for agent {name}: {reach}\n\
         keyward: to change it: {keyward} agent set {name} --allow SET"
    )
}
