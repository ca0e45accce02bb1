//! [`CommandLine`]: a command line as far as it is typed, read by the definition of the commands: where its last word stands.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use super::names::CompletionWord;
use super::names::{CompletionValues, source};
use crate::cli::settings::Global;

/// A command line as far as it is typed.
pub(super) struct CommandLine<'a> {
    /// The command and its subcommands, without the program.
    path: Vec<&'a str>,
    command: &'a Command,
    /// How many positional arguments there are.
    positionals: usize,
    /// The option whose value follows.
    pending: Option<&'a Arg>,
    /// The options that are given.
    given: Vec<&'a str>,
    /// Whether only arguments follow: there was a `--`.
    is_escaped: bool,
    /// The last word.
    current: &'a str,
    /// The global options that are given.
    pub(super) global: Global,
}

/// The words that may replace the last one.
pub(super) struct WordPlace<'a> {
    pub(super) values: CompletionValues,
    /// The commands that may stand there too.
    pub(super) also: Vec<CompletionWord>,
    /// The part of the word that is no part of the value: an option with its `=`, and earlier items of a list.
    pub(super) before: &'a str,
    /// The value as far as it is typed.
    pub(super) typed: &'a str,
}

/// The words of bash, which takes `--option=value` for three.
pub(super) fn joined(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in words {
        match all.last_mut().filter(|last| last.starts_with("--") && last.len() > 2) {
            Some(last) if word == "=" && !last.contains('=') => last.push('='),
            Some(last) if last.ends_with('=') => last.push_str(&word),
            _ => all.push(word),
        }
    }
    all
}

impl<'a> CommandLine<'a> {
    /// Reads the words after the program.
    pub(super) fn read(definition: &'a Command, words: &'a [String]) -> Self {
        let (current, before) =
            words.split_last().map_or(("", words), |(last, before)| (last, before));
        let mut line = Self {
            path: Vec::new(),
            command: definition,
            positionals: 0,
            pending: None,
            given: Vec::new(),
            is_escaped: false,
            current,
            global: Global::default(),
        };
        before.iter().for_each(|word| line.take(word));
        line.pending = line.pending.filter(|option| !may_lack_value(option) || !is_option(current));
        line
    }

    fn take(&mut self, word: &'a str) {
        let value_of = self.pending.take();
        if let Some(option) = value_of.filter(|it| !may_lack_value(it) || !is_option(word)) {
            return self.give(option, word);
        }
        match word.strip_prefix("--") {
            _ if self.is_escaped => self.positionals += 1,
            Some("") => {
                self.is_escaped = true;
                if self.trailing().is_some() {
                    self.positionals = 0;
                }
            }
            Some(long) => {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(a, b)| (a, Some(b)));
                let Some(option) = self.option(name) else { return };
                self.given.push(option.get_id().as_str());
                match value {
                    Some(value) => self.give(option, value),
                    None => self.pending = Some(option).filter(|it| takes_value(it)),
                }
            }
            None if is_option(word) => {
                // Of `-n5` the value is part of the word.
                let mut letters = word.chars().skip(1);
                let (first, rest) = (letters.next(), letters.next());
                let option = self.command.get_arguments().find(|it| it.get_short() == first);
                self.pending = option.filter(|it| takes_value(it) && rest.is_none());
            }
            None => match self.command.find_subcommand(word).filter(|_| self.positionals == 0) {
                Some(below) => {
                    self.path.push(below.get_name());
                    self.command = below;
                }
                None => self.positionals += 1,
            },
        }
    }

    /// Records options that select the gateway.
    fn give(&mut self, option: &Arg, value: &str) {
        match option.get_id().as_str() {
            "data" => self.global.data = Some(home_expanded(value)),
            "config" => self.global.config = Some(home_expanded(value)),
            "org" => self.global.org = Some(value.to_owned()),
            _ => {}
        }
    }

    /// The words that may replace the last one.
    pub(super) fn place(&self) -> WordPlace<'a> {
        let current = self.current;
        let whole = |values| WordPlace { values, also: Vec::new(), before: "", typed: current };
        if let Some(option) = self.pending {
            return self.value(option, "", current);
        }
        if current.starts_with('-') && !self.is_escaped {
            let given = current.strip_prefix("--").and_then(|long| long.split_once('='));
            return match given.and_then(|(name, value)| Some((self.option(name)?, value))) {
                Some((option, value)) => {
                    self.value(option, &current[..current.len() - value.len()], value)
                }
                None => whole(CompletionValues::Words(self.options())),
            };
        }
        let is_first = self.positionals == 0 && !self.is_escaped;
        let also = if is_first { self.commands() } else { Vec::new() };
        WordPlace { also, ..self.argument().unwrap_or_else(|| whole(CompletionValues::Unknown)) }
    }

    /// The positional argument that the last word is.
    fn argument(&self) -> Option<WordPlace<'a>> {
        let trailing = self.trailing().filter(|it| self.is_escaped || !it.is_last_set());
        if trailing.is_some() {
            let values = if self.positionals == 0 {
                CompletionValues::Commands
            } else {
                CompletionValues::Files
            };
            return Some(WordPlace { values, also: Vec::new(), before: "", typed: self.current });
        }
        let all = || self.command.get_positionals().filter(|argument| !is_program(argument));
        let several = all().last().filter(|argument| is_repeated(argument));
        Some(self.value(all().nth(self.positionals).or(several)?, "", self.current))
    }

    /// The value of an argument; of a list, the last item.
    fn value(&self, argument: &Arg, before: &'a str, typed: &'a str) -> WordPlace<'a> {
        let current = self.current;
        let cut = argument.get_value_delimiter().and_then(|delimiter| typed.rfind(delimiter));
        let (before, typed) = match cut {
            Some(at) => (&current[..current.len() - typed.len() + at + 1], &typed[at + 1..]),
            None => (before, typed),
        };
        WordPlace { values: self.values(argument), also: Vec::new(), before, typed }
    }

    fn values(&self, argument: &Arg) -> CompletionValues {
        let listed = argument.get_possible_values();
        if !listed.is_empty() {
            let shown = listed.iter().filter(|value| !value.is_hide_set());
            let offer = |value: &clap::builder::PossibleValue| CompletionWord {
                word: value.get_name().to_owned(),
                about: value.get_help().map(ToString::to_string).unwrap_or_default(),
            };
            return CompletionValues::Words(shown.map(offer).collect());
        }
        source(&self.path, argument)
    }

    fn commands(&self) -> Vec<CompletionWord> {
        let shown = self.command.get_subcommands().filter(|below| !below.is_hide_set());
        let offer = |below: &Command| CompletionWord {
            word: below.get_name().to_owned(),
            about: below.get_about().map(ToString::to_string).unwrap_or_default(),
        };
        shown.map(offer).collect()
    }

    fn options(&self) -> Vec<CompletionWord> {
        let is_open = |option: &&Arg| {
            !option.is_hide_set()
                && (is_repeated(option) || !self.given.contains(&option.get_id().as_str()))
        };
        let offer = |option: &Arg| {
            let about = option.get_help().map(ToString::to_string).unwrap_or_default();
            Some(CompletionWord { word: format!("--{}", option.get_long()?), about })
        };
        self.command.get_arguments().filter(is_open).filter_map(offer).collect()
    }

    /// An option by its long name, also by a further one.
    fn option(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|option| {
            let further = option.get_all_aliases().unwrap_or_default();
            option.get_long() == Some(name) || further.contains(&name)
        })
    }

    /// The program of commands that start one.
    fn trailing(&self) -> Option<&'a Arg> {
        self.command.get_positionals().find(|argument| is_program(argument))
    }
}

/// Whether it is a program with its arguments: after `--`, or from its first word on.
fn is_program(argument: &Arg) -> bool {
    argument.is_last_set() || argument.is_trailing_var_arg_set()
}

/// Whether a word is an option; `-` means standard input.
fn is_option(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

fn may_lack_value(option: &Arg) -> bool {
    option.get_num_args().is_some_and(|count| count.min_values() == 0)
}

fn is_repeated(argument: &Arg) -> bool {
    let several = argument.get_num_args().is_some_and(|count| count.max_values() > 1);
    several || matches!(argument.get_action(), ArgAction::Append)
}

/// A path of which the shell has not expanded `~`.
fn home_expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}
