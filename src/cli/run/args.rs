//! The arguments of `keyward run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as Arguments;

use crate::cli::allow::Allow;
use crate::cli::environment::DEFAULT_AGENT;

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
