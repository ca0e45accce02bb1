//! Every `keyward …` that is written down is understood by the command line.

use clap::error::ErrorKind;

use super::{Page, files, pages};

/// Why the command line does not take the words, if so.
pub(super) fn refusal(words: &[String]) -> Option<clap::Error> {
    let refused = keyward::cli::definition().try_get_matches_from(words).err()?;
    let is_help = matches!(refused.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!is_help).then_some(refused)
}

/// The commands of a script: the words from each `keyward` that begins one to where it ends.
fn of_script(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    joined.lines().flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<Vec<String>> {
    let begins = |at: &usize| {
        let before = line[..*at].trim_end_matches([' ', '"']);
        let word = before.rsplit([' ', '\t']).next().unwrap_or_default();
        let is_free =
            !line[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || "-/.".contains(c));
        let starts = before.is_empty() || before == "$" || before.ends_with(['|', '(', ';', '&']);
        // Behind assignments, and behind a program that runs another.
        is_free && (starts || word.contains('=') || word == "exec")
    };
    let found = line.match_indices("keyward ").map(|(at, _)| at).filter(begins);
    found.map(|at| words(&line[at..])).collect()
}

/// Splits as a shell does, up to the end of the command.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '|' | ';' | '&' | ')' | '<' | '>' | '#') => break,
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (_, c) => words.last_mut().expect("never empty").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The commands in prose: spans of code that begin with `keyward`.
fn of_prose(text: &str) -> Vec<Vec<String>> {
    let joined = text.replace("\n# ", " ").replace('\n', " ");
    let spans = joined.split('`').skip(1).step_by(2);
    let commands = spans.filter(|span| span.starts_with("keyward "));
    // Brackets and dots stand for what is not written out.
    commands.filter(|span| !span.contains(['[', '…'])).map(words).collect()
}

/// In prose a command may be named without its arguments, and a word in capitals stands for one.
fn is_named(command: &[String], error: &clap::Error) -> bool {
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand => true,
        ErrorKind::InvalidValue => {
            command.iter().any(|word| word.bytes().all(|b| b.is_ascii_uppercase()))
        }
        _ => false,
    }
}

#[test]
fn scripts_hold_only_commands_that_exist() {
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|b| matches!(b.language, "sh" | "console")) {
            for command in of_script(block.text) {
                if let Some(refused) = refusal(&command) {
                    panic!("{}:{}: {command:?}: {refused}", page.path, block.line);
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn prose_names_only_commands_that_exist() {
    let mut checked = 0;
    let mut prose: Vec<(String, String)> =
        pages().iter().map(|page| (page.path.clone(), page.prose())).collect();
    let deployed = files("deploy", "yaml").into_iter().chain([Page::read("Dockerfile")]);
    prose.extend(deployed.chain([Page::read("config.example.yaml")]).map(|p| (p.path, p.text)));
    for (path, text) in prose {
        for command in of_prose(&text) {
            if let Some(refused) = refusal(&command).filter(|error| !is_named(&command, error)) {
                panic!("{path}: {command:?}: {refused}");
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

/// All remedies stand in the snapshot of the test that lists them.
#[test]
fn every_command_in_a_remedy_exists() {
    let mut checked = 0;
    let folder = "crates/state/src/directory/remedy/snapshots";
    for page in files(folder, "snap") {
        for command in page.text.split('`').filter(|words| words.starts_with("keyward ")) {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            let refused = refusal(&words);
            assert!(refused.is_none(), "{command}: {refused:?}");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn commands_are_found_where_a_shell_would_run_them() {
    let script = "A=1 keyward serve # now\neval \"$(keyward env --agent ci)\"\n$ keyward a 'b c' | x\n\
                  sudo keyward no\n/x/keyward no\ncurl | keyward d \\\n  e > f\nkeyward-x no\n";
    let found: Vec<String> = of_script(script).iter().map(|words| words.join("_")).collect();
    assert_eq!(found, ["keyward_serve", "keyward_env_--agent_ci", "keyward_a_b c", "keyward_d_e"]);
    assert_eq!(of_prose("see `keyward a\nb`, not `keyward [x]` or `x keyward y`").len(), 1);
}

#[test]
fn a_command_that_does_not_exist_is_refused() {
    for line in ["keyward frobnicate", "keyward run --nope -- x", "keyward env --for cobol"] {
        let command = words(line);
        assert!(refusal(&command).is_some_and(|error| !is_named(&command, &error)), "{line}");
    }
    assert!(refusal(&words("keyward agent add ci --help")).is_none());
}
