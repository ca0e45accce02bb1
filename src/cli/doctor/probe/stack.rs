//! [`Stack`]: what programs of an HTTP stack are called, and what they need. The stacks are rows of `stacks.tsv`.

use std::sync::LazyLock;

/// An HTTP stack: programs that need the same settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack {
    pub(super) name: &'static str,
    /// Beginnings of program names.
    programs: Vec<&'static str>,
    /// Parts of its arguments, where `runs_in` runs it.
    pub(super) arguments: Vec<&'static str>,
    pub(super) runs_in: Option<&'static str>,
    /// The stack whose remedies also help.
    pub(super) also: Option<&'static str>,
    /// The client whose configuration files may override the proxy.
    pub(super) client: Option<&'static str>,
    /// Whether programs of this stack are often API clients with a configurable address. Browsers and tools with
    /// a fixed server are not.
    pub(super) takes_base_urls: bool,
    /// The variables by which it finds the proxy.
    pub(super) proxy_variables: Vec<&'static str>,
    /// Those by which it trusts the CA.
    pub(super) trust_variables: Vec<&'static str>,
}

/// All of them; the last is that of unknown programs.
pub(super) static STACKS: LazyLock<Vec<Stack>> = LazyLock::new(|| {
    let rows = rows(include_str!("stacks.tsv"));
    let mut all: Vec<_> = rows.map(Stack::of).collect();
    let unknown = all.last().cloned().unwrap_or_default();
    for stack in &mut all {
        if stack.proxy_variables.is_empty() {
            stack.proxy_variables.clone_from(&unknown.proxy_variables);
        }
        if stack.trust_variables.is_empty() {
            stack.trust_variables.clone_from(&unknown.trust_variables);
        }
    }
    all
});

/// The rows of a table, without comments.
pub(super) fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| row.split('\t').collect())
}

impl Stack {
    fn of(row: Vec<&'static str>) -> Self {
        let column = |number: usize| row.get(number).copied().filter(|text| *text != "-");
        let words = |number| column(number).unwrap_or_default().split_ascii_whitespace().collect();
        Self {
            name: column(0).unwrap_or_default(),
            programs: words(1),
            arguments: words(2),
            runs_in: column(3),
            also: column(4),
            client: column(5),
            takes_base_urls: column(6).is_some(),
            proxy_variables: words(7),
            trust_variables: words(8),
        }
    }

    pub(super) fn named(name: &str) -> &'static Self {
        let found = STACKS.iter().find(|stack| stack.name == name);
        found.unwrap_or_else(|| &STACKS[STACKS.len() - 1])
    }

    /// By the name of a program.
    pub(super) fn by_program(name: &str) -> &'static Self {
        let fits = |begin: &&str| {
            name.strip_prefix(*begin).is_some_and(|rest| {
                // `go` is not `gopher`, and `git-remote-https` is git.
                !rest.starts_with(|c: char| c.is_ascii_alphabetic()) || begin.len() > 4
            })
        };
        let found = STACKS.iter().find(|stack| stack.programs.iter().any(fits));
        found.unwrap_or_else(|| Self::named("unknown"))
    }

    /// Whether it says what its programs need.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.name, "starter" | "unknown")
    }
}
