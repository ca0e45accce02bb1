//! Wrong usage: as clap reports it, with its exit code and its text as a [`Failure`] for `--json`; and empty names
//! of resources, which a script gives if a variable is empty.

use std::ffi::OsString;
use std::io::Write;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::failure::{Exit, Failure};
use super::settings::quoted;
use super::{complete, output};

/// Options that people try for a key.
const KEY_OPTIONS: [&str; 5] = ["--token", "--key", "--api-key", "--secret", "--password"];

/// Reports the error, as JSON if one of `words` is `--json`. Help and version are such "errors" too, with exit
/// code 0.
pub(super) fn report(
    error: &Error,
    words: &[OsString],
    definition: &Command,
) -> std::process::ExitCode {
    let exit = usage_exit(error.exit_code(), words.iter().cloned());
    let json = is_json(words);
    if let Some(failure) = key_as_argument(error, words) {
        return failure.report(json);
    }
    if let Some(failure) = stray_argument(error, words, definition) {
        return failure.report(json);
    }
    if exit != 0 && json {
        let failure = failure(error);
        return match exit == Exit::RunFailed as u8 {
            true => failure.with(Exit::RunFailed).report(true),
            false => failure.report(true),
        };
    }
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match output::written(printed) {
        Err(failure) if !error.use_stderr() => failure.report(json),
        // A closed stderr cannot report this error.
        _ => std::process::ExitCode::from(exit),
    }
}

/// Whether `--json` is given. What follows `--` belongs to the program of `run`.
fn is_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// The failure of a command that was given a key as an argument. The argument is not repeated.
fn key_as_argument(error: &Error, words: &[OsString]) -> Option<Failure> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let has = |name: &str| words.iter().any(|word| word == name);
    let takes_key = has("connect") || has("connection") && (has("add") || has("rotate"));
    let is_key = !argument.starts_with('-') || KEY_OPTIONS.contains(&argument.as_str());
    (error.kind() == ErrorKind::UnknownArgument && takes_key && is_key).then(|| {
        Failure::usage("a key cannot be an argument, which other processes can read").hint(
            "omit it and paste it when asked; in a script: --secret-stdin, --secret-file FIELD=PATH \
             or --secret-env VARIABLE",
        )
    })
}

/// The failure of a list that was given what to find, or of `export` that was given a file.
fn stray_argument(error: &Error, words: &[OsString], definition: &Command) -> Option<Failure> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    if error.kind() != ErrorKind::UnknownArgument || argument.starts_with('-') {
        return None;
    }
    let mut command = definition;
    for word in words.iter().filter_map(|word| word.to_str()) {
        command = command.find_subcommand(word).unwrap_or(command);
    }
    let hint = match command.get_name() {
        "export" => format!("it prints to standard output: keyward export > {}", quoted(argument)),
        _ if command.get_arguments().any(|it| it.get_long() == Some("search")) => {
            format!("to find it in the list: --search {}", quoted(argument))
        }
        _ => return None,
    };
    Some(Failure::usage(format!("unexpected argument '{argument}' found")).hint(hint))
}

/// Clap's text: `error: MESSAGE`, then paragraphs with a tip and the usage.
fn failure(error: &Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command or an argument is missing")
            .hint("add `--help` to see all");
    }
    let text = error.render().to_string();
    let line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let message = line(paragraphs.next().unwrap_or_default());
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let hint = paragraphs.map(line).find(|paragraph| !paragraph.is_empty());
    let hint = hint.map(|hint| hint.trim_start_matches("tip: ").to_owned());
    let failure = Failure::usage(message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Wrong usage of `run` has the exit code of its own failures: 2 would seem to be the program's.
fn usage_exit(code: i32, words: impl Iterator<Item = OsString>) -> u8 {
    let mut words = words.skip(1);
    let mut command = words.next();
    while let Some(option) = command.take_if(|word| word.as_encoded_bytes().starts_with(b"-")) {
        let with_value = option == "--data" || option == "--config" || option == "--org";
        command = if with_value { words.nth(1) } else { words.next() };
    }
    match (u8::try_from(code).unwrap_or(2), command) {
        (2, Some(command)) if command == "run" => Exit::RunFailed as u8,
        (code, _) => code,
    }
}

/// Checks the arguments of a command line. `definition`: has read it.
///
/// # Errors
/// With the first argument whose name is empty.
pub(super) fn refuse_empty_names(
    definition: &mut Command,
    matches: &ArgMatches,
) -> Result<(), Error> {
    refuse_empty_names_below(definition, &[], matches)
}

/// `path`: the subcommands that lead to `command`.
fn refuse_empty_names_below(
    command: &mut Command,
    path: &[&str],
    matches: &ArgMatches,
) -> Result<(), Error> {
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
        Some(below) => refuse_empty_names_below(below, &[path, &[name]].concat(), matches),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn told(line: &str) -> (String, Option<String>) {
        let failure = failure(&Cli::try_parse_from(line.split(' ')).unwrap_err());
        (failure.message(), failure.advice().map(str::to_owned))
    }

    #[test]
    fn a_usage_error_is_one_message_with_the_remedy_as_its_hint() {
        let (message, hint) = told("keyward agent list --jsn");
        assert_eq!(message, "unexpected argument '--jsn' found");
        assert_eq!(hint.as_deref(), Some("a similar argument exists: '--json'"));
        let (message, hint) = told("keyward explain");
        let wanted = "the following required arguments were not provided: <REQUEST>...";
        assert_eq!(message, wanted);
        assert!(hint.is_some_and(|hint| hint.starts_with("Usage: keyward explain ")));
        assert_eq!(told("keyward").0, "a command or an argument is missing");
    }

    #[test]
    fn run_takes_a_program_from_its_first_word_that_is_no_option() {
        for line in ["keyward run claude --model opus", "keyward run --agent a -- claude --json"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["keyward", "run", "--nope", "claude"]).is_err());
    }

    #[test]
    fn a_word_after_list_gets_a_hint_to_search_and_a_file_after_export_one_to_redirect() {
        let told = |line: &str| {
            let words: Vec<_> = line.split(' ').map(OsString::from).collect();
            let error = Cli::parsed(&words).unwrap_err();
            stray_argument(&error, &words, &crate::cli::plain_definition())?
                .advice()
                .map(str::to_owned)
        };
        assert_eq!(told("keyward org list x"), None, "it has no search");
        assert_eq!(told("keyward agent list --nope"), None);
        let search = "to find it in the list: --search github";
        assert_eq!(told("keyward --data d provider ls github").as_deref(), Some(search));
        assert_eq!(told("keyward connection list github").as_deref(), Some(search));
        let hint = told("keyward export out.yaml").unwrap();
        assert_eq!(hint, "it prints to standard output: keyward export > out.yaml");
    }

    #[test]
    fn usage_errors_have_exit_code_125_for_run_and_2_for_other_commands() {
        let exit = |line: &str| usage_exit(2, line.split(' ').map(OsString::from));
        assert_eq!(exit("keyward run"), 125);
        assert_eq!(exit("keyward --json run x"), 125);
        assert_eq!(exit("keyward --data run run x"), 125);
        assert_eq!(exit("keyward --org run run x"), 125);
        assert_eq!(exit("keyward --data run agent"), 2);
        assert_eq!(exit("keyward agent run"), 2);
        assert_eq!(usage_exit(0, ["keyward", "run", "--help"].map(OsString::from).into_iter()), 0);
    }

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
