//! The reference of the command line: it is generated from the definition that also makes the help, the
//! completions and the manual pages.

use std::fmt::Write;

use clap::{Arg, Command};

use crate::generated_page::GeneratedPage;

const PAGE: GeneratedPage = GeneratedPage {
    file: "cli.md",
    text: include_str!("../../docs/reference/cli.md"),
    marks: ["<!-- made from the code: begin -->\n", "<!-- end -->\n"],
};

fn sections() -> String {
    let mut keyward = keyward::cli::definition();
    keyward.build();
    let mut text = String::from("\n## Options of every command\n\n");
    rows(keyward.get_arguments().filter(|it| !it.is_hide_set()), &mut text);
    if let Some(last) = keyward.get_after_help().map(ToString::to_string) {
        let codes = last.lines().rfind(|line| line.starts_with("exit codes:"));
        let _ = write!(
            text,
            "\n{}.\n",
            codes.expect("the help has the exit codes").replacen('e', "E", 1)
        );
    }
    for command in listed(&keyward) {
        section(command, "keyward", &mut text);
    }
    text
}

/// Commands that the help lists.
fn listed(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|it| !it.is_hide_set())
}

fn section(command: &Command, above: &str, text: &mut String) {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(|it| sentence(&it.to_string())).unwrap_or_default();
    let level = if above == "keyward" { "##" } else { "###" };
    let _ = write!(text, "\n{level} {name}\n\n{about}\n\n");
    let _ = writeln!(text, "```text\n{}\n```", usage(command));
    let own = |argument: &&Arg| !argument.is_global_set() && !argument.is_hide_set();
    if command.get_arguments().any(|argument| own(&argument)) {
        text.push('\n');
        rows(command.get_arguments().filter(own), text);
    }
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(text, "\n```text\n{}\n```", after.to_string().trim_end());
    }
    for below in listed(command) {
        section(below, &name, text);
    }
}

/// Without the options of every command, which each usage would repeat.
fn usage(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    usage.trim_start_matches("Usage: ").trim_end().to_owned()
}

fn sentence(text: &str) -> String {
    let text = cell(text);
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', ':']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// Text of a cell: on one line, without what Markdown would read.
fn cell(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn rows<'a>(arguments: impl Iterator<Item = &'a Arg>, text: &mut String) {
    text.push_str("| argument | meaning |\n|---|---|\n");
    for argument in arguments {
        let mut meaning = argument.get_help().map(|it| cell(&it.to_string())).unwrap_or_default();
        let values = argument.get_possible_values();
        if !values.is_empty() && argument.get_action().takes_values() {
            let names: Vec<_> = values.iter().map(|it| format!("`{}`", it.get_name())).collect();
            let _ = write!(meaning, "; {}", names.join(", "));
        }
        let defaults = argument.get_default_values();
        if let (Some(default), true) = (defaults.first(), argument.get_action().takes_values()) {
            let _ = write!(meaning, "; default: `{}`", default.to_string_lossy());
        }
        let _ = writeln!(text, "| `{}` | {meaning} |", shown(argument));
    }
}

/// `--name <NAME>`, `-H, --header <NAME: VALUE>` or `<NAME>`.
fn shown(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let values: Vec<_> = names.iter().map(|name| format!("<{name}>")).collect();
    let value = match argument.get_action().takes_values() {
        true => values.join(" "),
        false => String::new(),
    };
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<_> = short.into_iter().chain(long).collect();
    format!("{} {value}", flags.join(", ")).trim().replace('|', "\\|")
}

#[test]
fn the_page_has_every_command_and_nothing_else() {
    PAGE.check(&sections());
}

#[test]
fn commands_of_each_depth_have_a_heading() {
    for command in
        ["## keyward run", "### keyward agent bind", "### keyward connection rotate confirm"]
    {
        assert!(PAGE.text.lines().any(|line| line == command), "{command}");
    }
}
