//! Inputs of forms and facts for members of a resource, made of what it declares and of what it has now: label, help, and how
//! text becomes JSON. What a page offers a choice for, such as a connection, has an input of its own.

use maud::{Markup, html};
use serde::Serialize;
use serde_json::Value;

use super::form::{Check, Field};
use keyward_base::keys::{Absent, JsonKind, Key, OptionCommands, Section, Shape};

/// Inputs for these members of a new resource.
pub(crate) fn inputs<S: Section>(names: &[&str]) -> Markup {
    let keys = S::keys();
    let wanted = keys.iter().filter(|key| names.contains(&key.name));
    html! { @for key in wanted { (input(key.name, key, &Value::Null)) } }
}

/// Inputs for the members of a resource that commands can change, and of its settings, as far as `fits` takes their paths, such
/// as `settings.timeout`.
pub(crate) fn edits<S: Section + Serialize>(spec: &S, fits: impl Fn(&str) -> bool) -> Markup {
    html! { @for member in &members(spec, fits) { (input(&member.path, &member.key, &member.now)) } }
}

/// Those of them that are set, as facts.
pub(crate) fn values<S: Section + Serialize>(spec: &S, fits: impl Fn(&str) -> bool) -> Markup {
    let set = members(spec, fits).into_iter().filter_map(|member| {
        let text = text(&member.now).filter(|text| !text.is_empty() && text != "false")?;
        Some((words(member.key.name), text))
    });
    let set: Vec<_> = set.collect();
    html! { @if !set.is_empty() { dl.facts { @for (name, text) in &set { dt { (name) } dd { (text) } } } } }
}

/// A member of a resource, with its path in the JSON and what it has now.
struct FormMember {
    path: String,
    key: Key,
    now: Value,
}

fn members<S: Section + Serialize>(spec: &S, fits: impl Fn(&str) -> bool) -> Vec<FormMember> {
    let now = serde_json::to_value(spec).unwrap_or_default();
    let mut found = Vec::new();
    for key in S::keys() {
        let (path, now) = (key.name.to_owned(), now[key.name].clone());
        match key.shape {
            Shape::Map(settings) if key.option.is_none() => {
                found.extend(settings().into_iter().map(|of| FormMember {
                    path: format!("{path}.{}", of.name),
                    now: now[of.name].clone(),
                    key: of,
                }));
            }
            _ => found.push(FormMember { path, key, now }),
        }
    }
    found.retain(|it| is_changed(&it.key) && fits(&it.path));
    found
}

/// Whether commands change the member by a value.
fn is_changed(key: &Key) -> bool {
    key.option.is_some_and(|it| it.commands != OptionCommands::Additions && !it.value.is_empty())
}

/// The input for a member. `path`: its name in the JSON, with dots; `now`: its value, or null.
pub(crate) fn input(path: &str, key: &Key, now: &Value) -> Markup {
    let (label, mut help, value) = (words(key.name), plain(&key.meaning), text(now));
    let absent = key.shape.absent();
    let is_optional = !matches!(absent, Absent::Required);
    let kind = key.shape.json();
    help += match kind {
        JsonKind::Texts | JsonKind::Numbers => " Separated by blanks.",
        JsonKind::Map => " One per line: name=value.",
        _ => "",
    };
    let (name, label, help, value) = (path, label.as_str(), Some(help.as_str()), value.as_deref());
    let empties = is_optional && value.is_some();
    let field = Field { name, label, help, value, is_optional, empties, ..Field::default() };
    match (kind, key.shape) {
        (JsonKind::Flag, _) => {
            let is_ticked = *now == Value::Bool(true);
            Check { name, label, help, is_ticked, ..Check::default() }.show()
        }
        (_, Shape::Choice(choices, _)) => choice(&field, choices, absent),
        (JsonKind::Number, _) => Field { json: Some("number"), ..field }.show(),
        (JsonKind::Texts | JsonKind::Numbers, _) => {
            // An empty list of settings would be set; others are as empty as absent ones. One that is set stays.
            let empties = path.contains('.') && value != Some("");
            Field { json: Some("list"), empties, ..field }.show()
        }
        (JsonKind::Map, _) => {
            Field { json: Some("pairs"), is_multiline: true, empties: false, ..field }.show()
        }
        (JsonKind::Text, _) => field.show(),
    }
}

fn choice(field: &Field<'_>, choices: &[&str], absent: Absent) -> Markup {
    let id = format!("field-{}", field.name.replace('.', "-"));
    let usual = match absent {
        Absent::Default(usual) => Some(usual),
        Absent::Nothing | Absent::Required => None,
    };
    html! { div.field {
        label for=(id) { (field.label) }
        select id=(id) name=(field.name) { @for choice in choices {
            option value=(choice) selected[field.value.or(usual) == Some(*choice)] { (words(choice)) }
        } }
        @if let Some(help) = field.help { p.help { (help) } }
    } }
}

/// A value as people type it; `None`: there is none.
fn text(value: &Value) -> Option<String> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Null => None,
        Value::Array(items) => Some(items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let lines = map.iter().map(|(name, value)| format!("{name}={}", plain(value)));
            Some(lines.collect::<Vec<_>>().join("\n"))
        }
        value => Some(plain(value)),
    }
}

/// `login_mount` as "Login mount".
pub(crate) fn words(name: &str) -> String {
    crate::words::capital(&name.replace('_', " ").replace("url", "URL"))
}

/// A meaning without its Markdown.
fn plain(meaning: &str) -> String {
    let (mut text, mut rest) = (String::new(), meaning);
    while let Some((before, after)) = rest.split_once('[') {
        text += before;
        let link = after.split_once("](").filter(|(words, _)| !words.contains(['[', ']']));
        match link.and_then(|(words, after)| Some((words, after.split_once(')')?.1))) {
            Some((words, after)) => {
                text += words;
                rest = after;
            }
            None => {
                text.push('[');
                rest = after;
            }
        }
    }
    (text + rest).replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::AgentSpec;

    #[test]
    fn a_meaning_loses_links_and_marks_and_keeps_brackets() {
        for (meaning, expected) in [
            (
                "The [sets of hosts](host-sets.md), such as `web`.",
                "The sets of hosts, such as web.",
            ),
            ("`[]`: none. See [a](b).", "[]: none. See a."),
            ("A [ and ] alone", "A [ and ] alone"),
        ] {
            assert_eq!(plain(meaning), expected);
        }
    }

    /// Without protocols no request switches; null would permit those of the provider again.
    #[test]
    fn an_empty_list_of_settings_is_not_removed_by_a_form() {
        let keys = keyward_base::settings::Settings::keys();
        let key = keys.iter().find(|key| key.name == "upgrades").expect("it is a setting");
        for (now, removes) in [(Value::Array(Vec::new()), false), (Value::from(vec!["a"]), true)] {
            let form = input("settings.upgrades", key, &now).into_string();
            assert_eq!(form.contains("data-null"), removes, "{form}");
        }
    }

    #[test]
    fn a_form_has_the_values_of_its_members_and_no_others() {
        let mut spec = AgentSpec::named("ci");
        spec.labels.insert("team".to_owned(), "<b>".to_owned());
        let form = edits(&spec, |name| name != "user_providers").into_string();
        assert!(form.contains("team=&lt;b&gt;</textarea>"), "{form}");
        assert!(form.contains(r#"data-json="pairs""#) && form.contains(r#"data-json="flag""#));
        for absent in [r#"name="user_providers""#, r#"name="name""#, r#"name="allow""#] {
            assert!(!form.contains(absent), "{absent}: {form}");
        }
    }
}
