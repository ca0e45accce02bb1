//! Sets the variables that providers' SDKs read to the placeholders of an agent's bindings. What they may be is checked here
//! again: the gateway may be of an earlier version, and a placeholder stays as it was made.

use std::collections::BTreeMap;

use super::table::{PLACEHOLDERS, TABLE};
use keyward_model::{BindingShown, ManagedBy};
use keyward_rules::inject::placeholder;
use keyward_rules::provider::environment;

/// The variables that an agent's bindings set.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Placeholders {
    pub(crate) variables: BTreeMap<String, String>,
    /// What could not be set, for the person who binds.
    pub(crate) notes: Vec<String>,
    /// Those of variables for which no account was chosen: a run repeats them.
    pub(super) not_chosen: Vec<String>,
}

impl Placeholders {
    /// The variable with their names. It also replaces an inherited one, whose names are `inherited`.
    pub(super) fn names(&self, inherited: &[String]) -> Option<(String, String)> {
        let names: Vec<&str> = self.variables.keys().map(String::as_str).collect();
        let is_set = !names.is_empty() || !inherited.is_empty();
        is_set.then(|| (PLACEHOLDERS.to_owned(), names.join(",")))
    }
}

/// The variables that an earlier environment set and that hold a placeholder, or lead to a file. `text`: the value of a
/// variable; empty if it is not set.
pub(super) fn inherited(text: &impl Fn(&str) -> String) -> Vec<String> {
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let is_ours = |name: &str, value: &str| {
        let is_of_file = environment::may_name_file(name) && !value.is_empty();
        is_of_file || !placeholder::scan(value.as_bytes()).is_empty()
    };
    let is_left = |name: &&str| is_name(name) && is_ours(name, &text(name));
    let names = text(PLACEHOLDERS);
    names.split(',').filter(is_left).map(str::to_owned).collect()
}

/// If several bindings need the same variable, the default or else the oldest binding gets it, and
/// a note names the others.
pub(crate) fn of(agent: &str, bindings: &[BindingShown]) -> Placeholders {
    let mut sorted: Vec<_> = bindings.iter().collect();
    sorted.sort_by_key(|it| (!it.default, it.created, it.name.as_str()));
    let mut holders: BTreeMap<&str, (&str, &BindingShown)> = BTreeMap::new();
    let (mut notes, mut not_chosen) = (Vec::new(), Vec::new());
    for binding in sorted {
        let (mut lost, mut winner, mut refused) = (Vec::new(), None, Vec::new());
        for (variable, placeholder) in &binding.env {
            match holders.get(variable.as_str()) {
                // A provider must not override our own variables, such as the proxy.
                _ if is_ours(variable) => {}
                _ if !is_safe(variable, placeholder) => refused.push(variable.as_str()),
                Some((_, first)) => {
                    lost.push(variable.as_str());
                    winner = Some(*first);
                }
                None => drop(holders.insert(variable, (placeholder, binding))),
            }
        }
        if let Some(winner) = winner {
            let note = note(agent, &lost.join(", "), winner, binding);
            not_chosen.extend((!winner.default).then(|| note.clone()));
            notes.push(note);
        }
        if !refused.is_empty() {
            notes.push(refusal(&refused.join(", "), binding));
        }
    }
    let owned =
        |(variable, (text, _)): (&str, (&str, &BindingShown))| (variable.into(), text.into());
    Placeholders { variables: holders.into_iter().map(owned).collect(), notes, not_chosen }
}

/// Which account the variables are for, and how a program uses `other`.
fn note(agent: &str, variables: &str, winner: &BindingShown, other: &BindingShown) -> String {
    let default =
        if winner.default { format!(", the default of agent {agent}") } else { String::new() };
    let (used, other, is_file) = (&winner.name, &other.name, other.managed_by == ManagedBy::File);
    let change = match is_file {
        true => format!("or name it in `defaults` of {agent} in the configuration file"),
        false => format!("or: keyward agent bind {agent} {other} --default"),
    };
    let own = match variables.split(", ").all(environment::may_name_file) {
        true => format!("name its file (keyward connection show {other})"),
        false => format!("send its placeholder (keyward agent show {agent})"),
    };
    format!(
        "note: programs that read {variables} use {used}{default}\n\
         hint: for {other}, {own},\n      {change}"
    )
}

/// Whether a provider may set the variable, and a placeholder is text that no shell reads. Other values are not the
/// provider's.
fn is_safe(variable: &str, value: &str) -> bool {
    let is_placeholder = !placeholder::scan(value.as_bytes()).is_empty();
    let may_set = environment::may_set(variable) || environment::may_name_file(variable);
    may_set && (!is_placeholder || environment::is_plain(value))
}

/// Which variables of a binding are not set.
fn refusal(variables: &str, binding: &BindingShown) -> String {
    let BindingShown { name, provider, .. } = binding;
    format!(
        "note: {name} does not set {variables}: programs could run that as code\n\
         hint: see its provider: keyward provider show {provider} --yaml"
    )
}

fn is_ours(variable: &str) -> bool {
    variable.starts_with(super::git::PREFIX)
        || [PLACEHOLDERS, "SSH_AUTH_SOCK"].contains(&variable)
        || TABLE.iter().any(|ours| ours.name.eq_ignore_ascii_case(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str, second: u32, env: &[(&str, &str)]) -> BindingShown {
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "connection": "con_1", "name": name, "provider": "github", "managed_by": "store",
            "created": format!("2025-01-02T03:04:{second:02}Z"), "placeholders": {}, "env": env,
        }))
        .unwrap()
    }

    #[test]
    fn a_variable_stays_with_the_older_binding_and_a_note_names_the_later_one() {
        let late = binding("personal", 9, &[("GH_TOKEN", "b"), ("GITHUB_TOKEN", "b")]);
        let early = binding("work", 1, &[("GH_TOKEN", "a")]);
        let found = of("claude", &[late, early]);
        assert_eq!(found.variables["GH_TOKEN"], "a");
        assert_eq!(found.variables["GITHUB_TOKEN"], "b");
        assert_eq!(
            found.notes,
            ["note: programs that read GH_TOKEN use work\n\
              hint: for personal, send its placeholder (keyward agent show claude),\n      \
              or: keyward agent bind claude personal --default"]
        );
        assert_eq!(found.not_chosen, found.notes);
    }

    #[test]
    fn the_default_binding_gets_its_variables_before_an_older_binding() {
        let late = binding("personal", 9, &[("GH_TOKEN", "b")]);
        let early = binding("work", 1, &[("GH_TOKEN", "a")]);
        let found = of("claude", &[BindingShown { default: true, ..late }, early]);
        assert_eq!(found.variables["GH_TOKEN"], "b");
        let says = "note: programs that read GH_TOKEN use personal, the default of agent claude\n";
        assert!(found.notes[0].starts_with(says), "{:?}", found.notes);
        assert!(found.not_chosen.is_empty(), "a run does not repeat what was chosen");
    }

    #[test]
    fn a_provider_cannot_set_variables_that_lead_to_the_gateway() {
        let found = of(
            "a",
            &[binding(
                "x",
                1,
                &[("https_PROXY", "x"), ("NODE_OPTIONS", "x"), ("GIT_CONFIG_COUNT", "x")],
            )],
        );
        assert_eq!(found, Placeholders::default());
    }

    #[test]
    fn variables_and_placeholders_that_programs_could_run_are_not_set_and_a_note_names_them() {
        let own = |prefix| placeholder::Placeholder::issue(prefix, Some(60)).as_str().to_owned();
        let (plain, run) = (own("ni_"), own("$(touch ran)"));
        let all = [
            ("BASH_ENV", &*plain),
            ("GIT_SSH_COMMAND", "touch ran;#"),
            ("NICE_API_KEY", &*run),
            ("NICE_TOKEN", &*plain),
            ("NICE_USER", "o'brien@nice.test"),
        ];
        let found = of("a", &[binding("x", 1, &all)]);
        let set: Vec<_> = found.variables.into_iter().collect();
        let kept = [("NICE_TOKEN", &*plain), ("NICE_USER", "o'brien@nice.test")];
        assert_eq!(set, kept.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(
            found.notes,
            [
                "note: x does not set BASH_ENV, GIT_SSH_COMMAND, NICE_API_KEY: programs could run that as code\n\
                 hint: see its provider: keyward provider show github --yaml"
            ]
        );
    }

    #[test]
    fn only_names_of_variables_with_placeholders_or_files_are_inherited() {
        let own = placeholder::Placeholder::issue("ghp_", Some(40));
        let text = |name: &str| match name {
            PLACEHOLDERS => "GH_TOKEN,a;b,OPENAI_API_KEY,HOME,ACME_URI,DATABASE_URL".to_owned(),
            "ACME_URI" => "file:/srv/app.db".to_owned(),
            "GH_TOKEN" | "a;b" => own.as_str().to_owned(),
            "OPENAI_API_KEY" => "sk-of-the-user".to_owned(),
            _ => String::new(),
        };
        assert_eq!(inherited(&text), ["GH_TOKEN", "ACME_URI"]);
        assert!(inherited(&|_: &str| String::new()).is_empty());
    }
}
