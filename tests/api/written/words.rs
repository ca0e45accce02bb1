//! Documents and help avoid expressions that readers have to guess. `docs/internals/glossary.md` has the
//! expression to use instead.

use clap::Command;

use super::pages;

/// The expressions, in lower case. A match begins and ends at a word's edge.
const AVOIDED: [&str; 38] = [
    "access back",
    "anew",
    "are told",
    "asked for",
    "been told",
    "give it back",
    "give it to",
    "gives it back",
    "gives it to",
    "is over",
    "is told",
    "kin",
    "left out",
    "mend",
    "mended",
    "mends",
    "nobody",
    "not told",
    "opens nothing",
    "secret back",
    "stand for",
    "stand in",
    "stands for",
    "stands in",
    "take back",
    "take the credential",
    "take the key",
    "take the new",
    "takes back",
    "takes the credential",
    "takes the key",
    "takes the new",
    "takes the secret",
    "under way",
    "was told",
    "what there is",
    "whoever",
    "whose it is",
];

/// Whether a file is no document, or the list of these expressions.
fn is_free(path: &str) -> bool {
    path == "docs/internals/glossary.md" || !(path == "README.md" || path.starts_with("docs/"))
}

/// The expressions in a text.
fn avoided(text: &str) -> Vec<&'static str> {
    let text = text.to_lowercase();
    // A line break counts as a space.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let is_edge = |c: Option<char>| c.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
    let stands_alone = |at: usize, words: &str| {
        is_edge(text[..at].chars().next_back()) && is_edge(text[at + words.len()..].chars().next())
    };
    let found = AVOIDED
        .iter()
        .filter(|words| text.match_indices(**words).any(|(at, words)| stands_alone(at, words)));
    found.copied().collect()
}

/// The help of a command and of those below it, by name.
fn help(command: &Command, above: &str, found: &mut Vec<(String, String)>) {
    let name = format!("{above} {}", command.get_name()).trim().to_owned();
    let mut text = String::new();
    let about = [command.get_about(), command.get_long_about(), command.get_after_help()];
    for part in about.into_iter().flatten() {
        text += &format!("{part}\n");
    }
    for argument in command.get_arguments() {
        for part in [argument.get_help(), argument.get_long_help()].into_iter().flatten() {
            text += &format!("{part}\n");
        }
    }
    found.push((name.clone(), text));
    command.get_subcommands().for_each(|below| help(below, &name, found));
}

#[test]
fn documents_use_no_avoided_expression() {
    let pages = pages();
    let checked: Vec<_> = pages.iter().filter(|page| !is_free(&page.path)).collect();
    assert!(checked.len() > 20, "{}", checked.len());
    for page in checked {
        for (number, line) in page.text.lines().enumerate() {
            let found = avoided(line);
            assert!(found.is_empty(), "{}:{}: {found:?}: {line}", page.path, number + 1);
        }
        assert_eq!(avoided(&page.text), [""; 0], "{}, across two lines", page.path);
    }
}

#[test]
fn help_uses_no_avoided_expression() {
    let mut found = Vec::new();
    help(&keyward::cli::definition(), "", &mut found);
    assert!(found.len() > 40, "{}", found.len());
    for (name, text) in found {
        assert_eq!(avoided(&text), [""; 0], "{name} --help: {text}");
    }
}

#[test]
fn an_expression_is_found_at_the_edges_of_words_and_across_lines() {
    assert_eq!(avoided("It Takes\n  the key."), ["takes the key"]);
    assert_eq!(avoided("whoever (nobody)"), ["nobody", "whoever"]);
    assert!(avoided("recommend a kind king, is overdue").is_empty());
}
