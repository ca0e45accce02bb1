//! [`Proposal`]: what was learned of a service, and its text as a provider's file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Characters of a text for people that are taken over.
const TEXT_CHARS_MAX: usize = 100;
/// Actions that are proposed: a person reads them all.
const ACTIONS_MAX: usize = 24;
/// Paths of one action.
const PATHS_MAX: usize = 40;
/// Scopes that are listed.
const SCOPES_MAX: usize = 200;

/// What was learned.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) hosts: BTreeSet<String>,
    pub(super) variables: Vec<ProposedVariable>,
    pub(super) auth: Vec<ProposedAuth>,
    /// The URL of a harmless request.
    pub(super) test: Option<String>,
    pub(super) docs_url: Option<String>,
    /// Methods and paths by name of the action.
    pub(super) actions: BTreeMap<String, ProposedAction>,
    /// What a person has to know or to fill in.
    pub(super) notes: Vec<String>,
}

/// A variable of hosts.
#[derive(Debug)]
pub(super) struct ProposedVariable {
    pub(super) name: String,
    pub(super) choices: Vec<String>,
    pub(super) default: Option<String>,
}

/// One way to authenticate.
#[derive(Debug)]
pub(super) struct ProposedAuth {
    pub(super) id: String,
    /// Its keys and values after `id`, each a line of YAML.
    pub(super) lines: Vec<String>,
    /// Scopes with the words of the source.
    pub(super) scopes: BTreeMap<String, String>,
}

/// A part of the API.
#[derive(Debug, Default)]
pub(super) struct ProposedAction {
    pub(super) label: String,
    pub(super) methods: BTreeSet<&'static str>,
    pub(super) paths: BTreeSet<String>,
}

/// Which parts are written; the others are comments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WrittenParts {
    All,
    WithoutActions,
    Required,
}

impl Proposal {
    /// A service of this name, with an id made of it.
    pub(super) fn named(name: &str) -> Self {
        let name = plain(name);
        let id = slug(&name);
        let id = id.strip_suffix("-api").map_or(id.clone(), str::to_owned);
        match id.is_empty() {
            true => Self { id: "acme".to_owned(), name: "Acme".to_owned(), ..Self::default() },
            false => Self { id, name, ..Self::default() },
        }
    }

    /// The beginning of names of variables.
    pub(super) fn variable(&self, end: &str) -> String {
        let base = self.id.replace(['-', '.'], "_").to_ascii_uppercase();
        let base =
            if base.starts_with(|c: char| c.is_ascii_digit()) { format!("X_{base}") } else { base };
        format!("{base}_{end}")
    }

    /// Adds a way to authenticate; its id is made unique.
    pub(super) fn add(&mut self, id: &str, lines: Vec<String>, scopes: BTreeMap<String, String>) {
        let base = match slug(id).replace('-', "_") {
            base if base.is_empty() => "key".to_owned(),
            base => base,
        };
        let numbered = (2..).map(|number| format!("{base}_{number}"));
        let mut ids = std::iter::once(base.clone()).chain(numbered);
        let free = ids.find(|id| self.auth.iter().all(|auth| auth.id != *id)).unwrap_or(base);
        self.auth.push(ProposedAuth { id: free, lines, scopes });
    }

    /// The provider's file.
    pub(super) fn text(&self, parts: WrittenParts) -> String {
        let mut text = String::from(
            "# A proposal: read it whole, fill in what a comment asks, then `keyward provider check` it.\n",
        );
        line(&mut text, &format!("id: {}", quoted(&self.id)));
        line(&mut text, &format!("name: {}", quoted(&self.name)));
        let hosts: Vec<_> = self.hosts.iter().map(|host| quoted(host)).collect();
        line(
            &mut text,
            "# As few hosts as possible; with `paths:` where website and API share one.",
        );
        line(&mut text, &format!("hosts: [{}]", hosts.join(", ")));
        self.write_variables(&mut text);
        line(&mut text, "auth:");
        for auth in &self.auth {
            line(&mut text, &format!("  - id: {}", auth.id));
            auth.lines.iter().for_each(|it| line(&mut text, &format!("    {it}")));
            auth.write_scopes(&mut text);
        }
        match &self.test {
            Some(url) => {
                let off = if parts == WrittenParts::Required { "# " } else { "" };
                line(
                    &mut text,
                    "# Check that it has no side effects and fails with a wrong credential.",
                );
                line(
                    &mut text,
                    &format!(
                        "{off}test: {{ method: GET, url: {}, expect_status: 200 }}",
                        quoted(url)
                    ),
                );
            }
            None => line(
                &mut text,
                "# test: { method: GET, url: \"https://HOST/PATH\", expect_status: 200 }    # a harmless request",
            ),
        }
        line(&mut text, "# key_url: https://…    # the page where keys are made");
        if let Some(url) = &self.docs_url {
            let off = if parts == WrittenParts::Required { "# " } else { "" };
            line(&mut text, &format!("{off}docs_url: {}", quoted(url)));
        }
        self.write_scope_words(&mut text, parts == WrittenParts::All);
        self.write_actions(&mut text, parts == WrittenParts::All);
        text
    }

    fn write_variables(&self, text: &mut String) {
        if self.variables.is_empty() {
            return;
        }
        line(text, "variables:");
        for ProposedVariable { name, choices, default } in &self.variables {
            let choices: Vec<_> = choices.iter().map(|it| quoted(it)).collect();
            let mut item = format!("name: {name}");
            if !choices.is_empty() {
                write!(item, ", choices: [{}]", choices.join(", ")).expect("a string");
            }
            if let Some(default) = default {
                write!(item, ", default: {}", quoted(default)).expect("a string");
            }
            line(text, &format!("  - {{ {item} }}"));
        }
    }

    /// What scopes allow, for people who choose some.
    fn write_scope_words(&self, text: &mut String, as_data: bool) {
        let has_words = |(scope, words): &(&String, &String)| {
            let is_name = !scope.contains(|c: char| c.is_whitespace() || c.is_control());
            is_name && !scope.is_empty() && !words.is_empty()
        };
        let all = self.auth.iter().flat_map(|auth| auth.scopes.iter().take(SCOPES_MAX));
        let worded: BTreeMap<_, _> = all.filter(has_words).collect();
        if worded.is_empty() {
            return;
        }
        let off = if as_data { "" } else { "# " };
        line(text, &format!("{off}scope_words:"));
        for (scope, words) in worded {
            line(text, &format!("{off}  {}: {}", quoted(scope), quoted(words)));
        }
    }

    fn write_actions(&self, text: &mut String, as_data: bool) {
        if self.actions.is_empty() {
            return;
        }
        let off = if as_data { "" } else { "# " };
        line(
            text,
            "# By the tags of the document: join, divide and name them as people speak of them.",
        );
        line(text, &format!("{off}actions:"));
        for (name, action) in self.actions.iter().take(ACTIONS_MAX) {
            let ProposedAction { label, methods, paths } = action;
            let methods: Vec<_> = methods.iter().copied().collect();
            line(text, &format!("{off}  - name: {name}"));
            line(text, &format!("{off}    label: {}", quoted(label)));
            line(text, &format!("{off}    requests:"));
            line(text, &format!("{off}      - methods: [{}]", methods.join(", ")));
            line(text, &format!("{off}        paths:"));
            for path in paths.iter().take(PATHS_MAX) {
                line(text, &format!("{off}          - {}", quoted(path)));
            }
            if paths.len() > PATHS_MAX {
                line(text, &format!("          # {} more", paths.len() - PATHS_MAX));
            }
        }
        if self.actions.len() > ACTIONS_MAX {
            line(text, &format!("  # {} more tags", self.actions.len() - ACTIONS_MAX));
        }
    }
}

impl ProposedAuth {
    /// Scopes as comments: a person chooses those that agents need.
    fn write_scopes(&self, text: &mut String) {
        if self.scopes.is_empty() {
            return;
        }
        line(text, "    # scopes: []    # requested if a connection names none; available:");
        for scope in self.scopes.keys().take(SCOPES_MAX) {
            line(text, &format!("    #   {}", plain(scope)));
        }
    }
}

fn line(text: &mut String, of: &str) {
    text.push_str(of.trim_end());
    text.push('\n');
}

/// A text for people on one line, without characters that could end a comment or a value.
pub(super) fn plain(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let one_line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let mut short: String = one_line.chars().take(TEXT_CHARS_MAX).collect();
    if short.len() < one_line.len() {
        short.push('…');
    }
    short
}

/// A string of JSON, which is one of YAML too.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Lower case with dashes, of up to 40 letters and digits.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        match c.is_ascii_alphanumeric() {
            true => slug.push(c.to_ascii_lowercase()),
            false if slug.ends_with('-') || slug.is_empty() => {}
            false => slug.push('-'),
        }
        if slug.len() == 40 {
            break;
        }
    }
    slug.trim_matches('-').to_owned()
}
