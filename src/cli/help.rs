//! Help of all commands: `keyward --help` lists the commands in groups, and only it lists the global options.
//! Further names of commands and options, which users of other tools or earlier versions type, are in no help.

use super::terminal::fold;
use clap::Command;

/// The commands in the order in which people meet them.
const GROUPS: &[(&str, &[&str])] = &[
    ("Start", &["connect", "import", "run", "env", "status", "init", "serve", "service"]),
    ("Accounts", &["connection", "connect-link", "app", "provider", "source", "plugin"]),
    ("Policy", &["agent", "session", "rule", "explain", "honeytoken"]),
    (
        "Operate",
        &[
            "doctor",
            "audit",
            "logs",
            "stream",
            "usage",
            "webhook",
            "hook",
            "database-listener",
            "plan",
            "apply",
            "reload",
            "config",
            "backup",
            "restore",
            "store",
            "export",
            "health",
            "whoami",
        ],
    ),
    (
        "Administer",
        &["user", "token", "login-link", "login", "org", "ca", "key", "completions", "man"],
    ),
];

/// Options that `keyward --help` explains for all commands.
const GLOBAL: &[&str] = &["data", "config", "gateway", "org", "json", "wide"];

/// Columns of all help, whatever the terminal has: people paste it, and pages quote it.
pub(super) const WIDTH: usize = 80;

/// Blanks before a line, and between its two columns.
const GAP: usize = 2;

const TOP: &str =
    "{about}\n\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}\n";

const BELOW: &str = "{about}\n\n{usage-heading} {usage}\n\n{all-args}{after-help}\n\n\
    global options: see `keyward --help`\n";

/// The definition with this help. `definition` is not built.
pub(super) fn arranged(mut definition: Command) -> Command {
    let groups = groups(&definition);
    // The global options become arguments of each command here, so that they can be hidden there.
    definition.build();
    let names: Vec<String> =
        definition.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names
        .into_iter()
        .fold(definition, |definition, name| definition.mut_subcommand(name, below))
        .help_template(TOP)
        .before_help(groups)
}

fn below(command: Command) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let command =
        names.into_iter().fold(command, |command, name| command.mut_subcommand(name, below));
    let is_hidden = |id: &str| GLOBAL.contains(&id) || id == "help";
    command
        .mut_args(|argument| match is_hidden(argument.get_id().as_str()) {
            true => argument.hide(true),
            false => argument,
        })
        .help_template(BELOW)
}

fn groups(definition: &Command) -> String {
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max();
    let width = width.unwrap_or(0) + GAP;
    let line = |name: &&str| {
        let about = definition.find_subcommand(name)?.get_about()?.to_string();
        let about =
            fold::words(&about, WIDTH - GAP - width).join(&format!("\n{:1$}", "", GAP + width));
        Some(format!("  {name:width$}{about}\n"))
    };
    let group = |(title, names): &(&str, &[&str])| -> String {
        format!("{title}:\n{}\n", names.iter().filter_map(line).collect::<String>())
    };
    GROUPS.iter().map(group).collect::<String>().trim_end().to_owned()
}

/// Names of subcommands, each with its further names.
const COMMANDS: &[(&str, &[&str])] = &[("list", &["ls"]), ("remove", &["rm", "delete"])];

/// Adds the further names to a command and its subcommands.
pub(super) fn add_aliases(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_id().as_str() {
        // Its first name was that of the API's parameter.
        "q" => arg.long("search").alias("q"),
        _ => arg,
    });
    command.mut_subcommands(|subcommand| {
        let known = COMMANDS.iter().find(|(name, _)| *name == subcommand.get_name());
        let more = known.map_or(&[][..], |(_, more)| more);
        add_aliases(subcommand.aliases(more.iter().copied()))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_is_in_one_group() {
        let mut listed: Vec<_> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        listed.sort_unstable();
        let definition = Cli::command();
        let visible = definition.get_subcommands().filter(|command| !command.is_hide_set());
        let mut commands: Vec<_> = visible.map(Command::get_name).collect();
        commands.sort_unstable();
        assert_eq!(listed, commands);
    }

    #[test]
    fn global_options_are_hidden_in_the_help_of_commands() {
        let definition = Cli::command();
        let global = definition.get_arguments().filter(|argument| argument.is_global_set());
        let mut ids: Vec<_> = global.map(|argument| argument.get_id().as_str()).collect();
        ids.retain(|id| *id != "help");
        assert_eq!(ids, GLOBAL);
        let mut agent = arranged(definition).find_subcommand("agent").unwrap().clone();
        let help = agent.render_help().to_string();
        assert!(!help.contains("--data"), "{help}");
        assert!(help.contains("global options: see `keyward --help`"), "{help}");
    }
}
