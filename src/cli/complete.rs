//! `keyward complete`: completes the last word of a command line. The scripts of `keyward completions` call it at each
//! press of the tab key, so it never fails, prints no error, asks no question and starts no gateway. Commands and
//! options are those of the definition; names are those that the running gateway answers with.

mod line;
mod names;

use std::ffi::OsString;
use std::io::Write;

use clap_complete::Shell;

use self::line::CommandLine;
use self::names::CompletionValues;
use self::names::CompletionWord;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// the shell that asks
    #[arg(value_enum)]
    shell: Shell,
    /// the words after the program; the last one as far as it is typed
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// Whether an argument takes the name or id of an existing resource. `path`: the command and its subcommands.
pub(super) fn takes_name(path: &[&str], argument: &clap::Arg) -> bool {
    matches!(names::source(path, argument), CompletionValues::Names(_))
}

impl Args {
    /// Prints a line for each offer: the word, and behind a tab what it is. `:files` and `:commands` mean those that
    /// the shell finds itself.
    pub(crate) fn run(&self, definition: &clap::Command) {
        let words = self.words.iter().map(|word| word.to_string_lossy().into_owned());
        let words = match self.shell {
            Shell::Bash => line::joined(words),
            _ => words.collect(),
        };
        // A closed pipe is no reason to fail.
        let _ = std::io::stdout().write_all(self.offers(definition, &words).as_bytes());
    }

    fn offers(&self, definition: &clap::Command, words: &[String]) -> String {
        let line = CommandLine::read(definition, words);
        let place = line.place();
        let offers = match place.values {
            CompletionValues::Files => return ":files\n".to_owned(),
            CompletionValues::Commands => return ":commands\n".to_owned(),
            CompletionValues::Unknown => Vec::new(),
            CompletionValues::Words(words) => words,
            CompletionValues::Names(names) => names.known(&line.global, place.typed),
        };
        let offers = place.also.iter().chain(&offers);
        // bash replaces what follows the `=` of an option, other shells the whole word.
        let before = match self.shell {
            Shell::Bash => place.before.rsplit_once('=').map_or(place.before, |(_, list)| list),
            _ => place.before,
        };
        let fits =
            |offer: &&CompletionWord| offer.word.starts_with(place.typed) && is_plain(&offer.word);
        let text = |CompletionWord { word, about }: &CompletionWord| {
            let about: String = about.chars().filter(|c| !c.is_control()).collect();
            format!("{before}{word}\t{about}\n")
        };
        offers.filter(fits).map(text).collect()
    }
}

/// Whether a shell takes the word as it is. All names are made of such characters; others would be commands to the shell.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~:/@+".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(shell: Shell, line: &str) -> Vec<String> {
        let words = line.split(' ').map(OsString::from).collect();
        let args = Args { shell, words };
        let words: Vec<_> = args.words.iter().map(|it| it.to_string_lossy().into_owned()).collect();
        let words = if shell == Shell::Bash { line::joined(words.into_iter()) } else { words };
        let offers = args.offers(&crate::cli::definition(), &words);
        offers.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    fn zsh(line: &str) -> Vec<String> {
        asked(Shell::Zsh, line)
    }

    fn has(line: &str, word: &str) -> bool {
        zsh(line).iter().any(|offer| offer == word)
    }

    #[test]
    fn commands_and_options_that_help_hides_are_not_offered() {
        for (line, hidden) in [
            ("", "version"),
            ("", "complete"),
            ("agent ", "ls"),
            ("agent ", "rm"),
            ("agent list --", "--data"),
            ("agent list --", "--json"),
            ("agent list --", "--q"),
        ] {
            assert!(!has(line, hidden), "{line}: {:?}", zsh(line));
        }
        assert!(has("--", "--data") && has("agent list --", "--search"));
    }

    #[test]
    fn an_option_is_offered_once_unless_it_may_be_repeated() {
        assert!(!has("agent add ci --env prod --", "--env"));
        assert!(has("agent add ci --label a=b --", "--label"));
    }

    #[test]
    fn commands_are_offered_at_their_places_only() {
        assert!(has("", "agent") && has("ag", "agent") && !has("ag", "app"));
        assert!(has("agent ", "show") && !has("agent show ", "show"));
        assert!(has("--data d agent ", "show") && has("--data=d --json agent ", "show"));
        assert!(has("agent token ", "add") && has("connection rotate ", "rollback"));
        assert_eq!(zsh("nope "), [""; 0]);
        assert_eq!(zsh("status "), [""; 0]);
    }

    #[test]
    fn values_of_an_option_are_offered_after_it_and_after_its_equals_sign() {
        assert_eq!(zsh("connection list --state br"), ["broken"]);
        assert_eq!(zsh("connection list --state=br"), ["--state=broken"]);
        assert_eq!(zsh("agent set ci --allow packages,github-"), ["packages,github-read"]);
        assert_eq!(zsh("agent set ci --allow=packages,github-"), ["--allow=packages,github-read"]);
        assert_eq!(zsh("webhook add u --event rule.r"), ["rule.removed"]);
        assert_eq!(zsh("audit query --code default_"), ["default_deny"]);
        assert_eq!(zsh("rule add "), ["deny", "inject", "pass", "tunnel"]);
        assert_eq!(zsh("rule edit r --action t"), ["tunnel"]);
        assert_eq!(asked(Shell::Bash, "connection list --state = br"), ["broken"]);
        assert_eq!(
            asked(Shell::Bash, "connection list --state ="),
            zsh("connection list --state ")
        );
        assert_eq!(
            asked(Shell::Bash, "agent set ci --allow = packages,github-"),
            ["packages,github-read"]
        );
    }

    #[test]
    fn files_and_programs_are_left_to_the_shell() {
        for line in ["--config ", "provider check ", "--config=", "run -- ls ", "run ls "] {
            assert_eq!(zsh(line), [":files"], "{line}");
        }
        for line in ["run -- ", "run l", "run --agent ci -- l", "doctor -- "] {
            assert_eq!(zsh(line), [":commands"], "{line}");
        }
    }

    #[test]
    fn a_new_name_and_a_free_text_get_no_offer() {
        for line in
            ["agent add ", "org add a", "agent add ci --label ", "connection add github --name "]
        {
            assert_eq!(zsh(line), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_word_that_a_shell_would_interpret_is_not_offered() {
        for bad in ["a b", "$(reboot)", "a;b", "a'b", "a`b", "a\nb", "é"] {
            assert!(!is_plain(bad), "{bad}");
        }
        assert!(is_plain("work-github_2.a~b"));
    }
}
