//! `keyward completions` and `keyward man`: shell completions and manual pages, made of the same definition as the help.
//! The scripts of bash, zsh and fish ask `keyward complete`, which knows names too; those of other shells are generated
//! and have commands and options only.

use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Arg, Args, Command, Id};
use clap_complete::Shell;
use clap_mangen::Man;

use super::failure::Failure;
use super::output;

const BASH: &str = include_str!("completions/keyward.bash");
const ZSH: &str = include_str!("completions/_keyward");
const FISH: &str = include_str!("completions/keyward.fish");

#[derive(Debug, Args)]
#[command(after_help = "put it where the shell looks for it:\n  \
    keyward completions bash > ~/.local/share/bash-completion/completions/keyward\n  \
    keyward completions zsh > ~/.zfunc/_keyward\n      \
    with fpath+=~/.zfunc before compinit\n  \
    keyward completions fish > ~/.config/fish/completions/keyward.fish")]
pub(crate) struct Completions {
    /// the shell to print them for
    #[arg(value_enum, required_unless_present = "named", conflicts_with = "named")]
    shell: Option<Shell>,
    /// the same, as an option
    #[arg(id = "named", long = "for", value_enum, value_name = "SHELL")]
    named: Option<Shell>,
}

#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// write the pages of all commands to this directory; default: print keyward(1)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Completions {
    /// Prints the script.
    pub(crate) fn run(&self, definition: &clap::Command) -> Result<(), Failure> {
        let Some(shell) = self.shell.or(self.named) else { return Ok(()) };
        match shell {
            Shell::Bash => output::print(BASH),
            Shell::Zsh => output::print(ZSH),
            Shell::Fish => output::print(FISH),
            shell => {
                let mut script = Vec::new();
                let mut visible = visible(definition);
                clap_complete::generate(shell, &mut visible, "keyward", &mut script);
                output::print(&String::from_utf8_lossy(&script))
            }
        }
    }
}

impl Manual {
    /// Prints or writes the pages.
    pub(crate) fn run(&self, mut keyward: clap::Command) -> Result<(), Failure> {
        keyward.build();
        match &self.dir {
            None => output::print(&page(keyward).map_err(|error| cannot_write("it", &error))?),
            Some(dir) => {
                let shown = dir.display().to_string();
                std::fs::create_dir_all(dir).map_err(|error| cannot_write(&shown, &error))?;
                write(&keyward, dir).map_err(|error| cannot_write(&shown, &error))
            }
        }
    }
}

/// The definition without what help does not list: clap's generators offer hidden commands and options.
fn visible(command: &Command) -> Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    let about = command.get_about().cloned().unwrap_or_default();
    // Names of commands are static; this process prints one script and ends.
    let name: &'static str = command.get_name().to_owned().leak();
    Command::new(name)
        // It is in no script, but clap demands it where `--version` is an argument.
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .args(arguments.map(alone))
        .subcommands(below.map(visible))
}

/// The argument without those that it excludes or needs: they may be hidden, and clap demands that they exist.
fn alone(argument: &Arg) -> Arg {
    argument
        .clone()
        // Global options are those of the program alone: below it, they are hidden.
        .global(false)
        .conflicts_with(Resettable::<Id>::Reset)
        .requires(Resettable::<Id>::Reset)
        .required_unless_present(Resettable::<Id>::Reset)
}

fn cannot_write(what: &str, error: &std::io::Error) -> Failure {
    Failure::failed(&format!("cannot write {what}"), error)
}

/// A page for the command, and one for each that is listed below it: `keyward-agent-add.1`.
fn write(command: &Command, dir: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write(below, dir)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(dir.join(format!("{name}.1")), page(command.clone())?)
}

/// With the usage of the help: clap's own synopsis has no `--` before a program, and no values of required options.
fn page(mut command: Command) -> std::io::Result<String> {
    let usage = command.render_usage().to_string();
    let command = command.override_usage(usage.trim_start_matches("Usage: ").to_owned());
    let mut page = Vec::new();
    let version = concat!("keyward ", env!("CARGO_PKG_VERSION"));
    Man::new(command).source(version).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
