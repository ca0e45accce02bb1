//! Further names of commands and options: those that users of other tools type, and those of earlier versions.
//! Help does not show them.

use clap::Command;

/// Names of subcommands, each with its further names.
const COMMANDS: &[(&str, &[&str])] = &[("list", &["ls"]), ("remove", &["rm", "delete"])];

/// Adds the further names to a command and its subcommands.
pub(super) fn add_to(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_id().as_str() {
        // Its first name was that of the API's parameter.
        "q" => arg.long("search").alias("q"),
        _ => arg,
    });
    command.mut_subcommands(|subcommand| {
        let known = COMMANDS.iter().find(|(name, _)| *name == subcommand.get_name());
        let more = known.map_or(&[][..], |(_, more)| more);
        add_to(subcommand.aliases(more.iter().copied()))
    })
}
