//! Refuses an empty name of a resource, for all commands, before one of them runs: a script gives it if a variable is
//! empty. Which arguments take a name is known from their completion.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, Error};

use super::complete;

/// Checks the arguments of a command line. `definition`: has read it.
///
/// # Errors
/// With the first argument whose name is empty.
pub(super) fn check(definition: &mut Command, matches: &ArgMatches) -> Result<(), Error> {
    check_below(definition, &[], matches)
}

/// `path`: the subcommands that lead to `command`.
fn check_below(command: &mut Command, path: &[&str], matches: &ArgMatches) -> Result<(), Error> {
    let is_empty = |argument: &&Arg| {
        let given = matches.try_get_raw(argument.get_id().as_str());
        let mut values = given.ok().flatten().into_iter().flatten();
        values.any(|value| value.is_empty()) && complete::takes_name(path, argument)
    };
    let found = command.get_arguments().find(is_empty).map(ToString::to_string);
    if let Some(argument) = found {
        let message = format!("the name is empty: give a name or an id for `{argument}`");
        return Err(command.error(ErrorKind::InvalidValue, message));
    }
    let Some((name, matches)) = matches.subcommand() else { return Ok(()) };
    match command.find_subcommand_mut(name) {
        Some(below) => check_below(below, &[path, &[name]].concat(), matches),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;

    /// The refusal of a command line; empty if it is accepted.
    fn refused(words: &[&str]) -> String {
        let words = std::iter::once("keyward").chain(words.iter().copied());
        Cli::parsed(words).map_or_else(|error| error.render().to_string(), |_| String::new())
    }

    #[test]
    fn an_empty_name_is_refused_with_its_argument() {
        for (words, argument) in [
            (&["connection", "test", ""][..], "<NAME>"),
            (&["connection", "rm", "", "--yes"], "<NAME>"),
            (&["agent", "token", "add", ""], "<NAME>"),
            (&["agent", "bind", "ci", "work", ""], "<CONNECTION>..."),
            (&["session", "show", ""], "<ID>"),
            (&["session", "add", "--agent", "", "--user", "42"], "--agent <NAME>"),
            (&["session", "add", "--agent", "ci", "--user", ""], "--user <USER>"),
            (&["explain", "https://a.test/", "--agent", ""], "--agent <NAME>"),
            (&["run", "--agent", "", "--", "true"], "--agent <AGENT>"),
            (&["agent", "assign", "ci", "--to", ""], "--to <USER>"),
            (&["connection", "assign", "work", "--to", ""], "--to <USER>"),
            (&["--org", "", "agent", "list"], "--org <NAME>"),
            (&["agent", "list", "--org", ""], "--org <NAME>"),
        ] {
            let said = refused(words);
            let wanted =
                format!("error: the name is empty: give a name or an id for `{argument}`\n");
            assert!(said.starts_with(&wanted), "{words:?}: {said}");
        }
    }

    #[test]
    fn other_values_and_arguments_of_programs_may_be_empty() {
        for words in [
            &["connection", "test", "work"][..],
            &["connection", "list", "--env", ""],
            &["run", "--", "printf", ""],
            &["complete", "zsh", "--", "agent", "show", ""],
            &["hook", "add", "ci", "--scheme", "github", "--to", ""],
            &["hook", "set", "ci", "--to", ""],
            // A new name is judged with its other rules.
            &["agent", "add", ""],
        ] {
            assert_eq!(refused(words), "", "{words:?}");
        }
        let said = refused(&["store", "copy", "--to", ""]);
        assert!(!said.contains("the name is empty"), "{said}");
    }
}
