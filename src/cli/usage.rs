//! Wrong usage, as clap reports it: its exit code, and its text as a [`Failure`] for `--json`.

use std::ffi::OsString;

use clap::error::{Error, ErrorKind};

use super::failure::{Exit, Failure};

/// Reports the error, as JSON if one of `words` is `--json`. Help and version are such "errors" too, with exit
/// code 0.
pub(super) fn report(error: &Error, words: &[OsString]) -> std::process::ExitCode {
    let exit = usage_exit(error.exit_code(), words.iter().cloned());
    // What follows belongs to the program of `run`.
    let own = words.iter().take_while(|word| *word != "--");
    if exit != 0 && own.into_iter().any(|word| word == "--json") {
        let failure = failure(error);
        return match exit == Exit::RunFailed as u8 {
            true => failure.with(Exit::RunFailed).report(true),
            false => failure.report(true),
        };
    }
    // A closed pipe is no reason to fail.
    let _ = error.print();
    std::process::ExitCode::from(exit)
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
        let wanted =
            "the following required arguments were not provided: --agent <NAME> <REQUEST>...";
        assert_eq!(message, wanted);
        assert!(hint.is_some_and(|hint| hint.starts_with("Usage: keyward explain ")));
        assert_eq!(told("keyward").0, "a command or an argument is missing");
    }

    #[test]
    fn usage_errors_of_run_are_told_from_its_programs() {
        let exit = |line: &str| usage_exit(2, line.split(' ').map(OsString::from));
        assert_eq!(exit("keyward run"), 125);
        assert_eq!(exit("keyward --json run x"), 125);
        assert_eq!(exit("keyward --data run run x"), 125);
        assert_eq!(exit("keyward --org run run x"), 125);
        assert_eq!(exit("keyward --data run agent"), 2);
        assert_eq!(exit("keyward agent run"), 2);
        assert_eq!(usage_exit(0, ["keyward", "run", "--help"].map(OsString::from).into_iter()), 0);
    }
}
