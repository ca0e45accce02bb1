//! [`Manifest`]: the name of a plugin, and the connections that it needs. A third party writes it, so every source
//! of it is checked here: a file, the API, a row of the store.

use std::cmp::Ordering;
use std::collections::HashSet;

use http::Method;
use schemars::JsonSchema;
use semver::{Prerelease, Version};
use serde::{Deserialize, Deserializer, Serialize};

use super::binding::BindingLimits;
use super::name;
use keyward_base::pattern::PathPattern;
use keyward_rules::policy::OwnAuthorization;
use keyward_rules::provider::decode::did_you_mean;
use keyward_rules::provider::{Catalogue, Provider, methods};

/// Slots of one plugin.
const SLOTS_MAX: usize = 32;
/// Scopes, methods or paths of one slot.
const ITEMS_MAX: usize = 64;
/// Characters of a sentence for people.
const SENTENCE_CHARS_MAX: usize = 500;
/// Characters of a label, a scope or a path.
const TEXT_CHARS_MAX: usize = 256;
/// Characters of a slot's name or a version.
const WORD_CHARS_MAX: usize = 32;

/// A plugin as its author declares it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name: 1 to 64 letters, digits or `-_.`.
    pub plugin: String,
    /// `1.2.0`, `1.2.0-beta.1`: a newer one replaces an older one.
    pub version: String,
    /// What it does, for people: up to 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The connections that it asks for, in the order in which they are asked about: 1 to 32.
    pub connections: Vec<Slot>,
}

/// A connection that a plugin asks for.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Its name, unique in the manifest: 1 to 32 lower-case letters, digits or `-_`.
    pub slot: String,
    /// The id of the provider whose account is wanted.
    pub provider: String,
    /// What the account is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is used for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Without it the plugin does not work.
    #[serde(default = "yes")]
    pub required: bool,
    /// Scopes that a consent asks for.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Methods that the plugin may use; none named: all.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths that the plugin may use; none named: all.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Named actions of the provider that the plugin may use, within `methods` and `paths`; none named: all.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What is done with requests of the plugin that have an authorization of their own, which the connection would
    /// replace: `pass`, or `refuse`, the default.
    #[serde(default, skip_serializing_if = "OwnAuthorization::is_default")]
    pub own_authorization: OwnAuthorization,
}

/// One thing wrong with a manifest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// `connections[1].provider`.
    pub path: String,
    pub message: String,
    /// What to do; empty where the message says so.
    pub remedy: String,
}

fn yes() -> bool {
    true
}

/// An empty list reads as "none", and would mean "all".
fn some<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let items = Vec::<String>::deserialize(d)?;
    match items.is_empty() {
        false => Ok(items),
        true => Err(serde::de::Error::custom("the list is empty: name one, or omit the key")),
    }
}

impl Manifest {
    pub fn slot(&self, name: &str) -> Option<&Slot> {
        self.connections.iter().find(|slot| slot.slot == name)
    }

    /// All faults, in the order of the manifest. `providers`: the ids of the existing providers; an unknown one is
    /// a fault.
    pub fn faults(&self, providers: &[&str]) -> Vec<Fault> {
        let mut faults = Faults(Vec::new());
        if name::plain(&self.plugin).is_err() {
            let rule = "write 1 to 64 letters, digits or `-_.`, not an id and not only dots";
            faults.add("plugin", "this cannot be the name of a plugin", rule);
        }
        if version(&self.version).is_none() {
            let remedy = "write up to three numbers, such as 1.2.0 or 1.2.0-beta.1, in quotes where \
                          YAML would read a number";
            faults.add("version", "this is not a version", remedy);
        }
        faults.sentence("summary", self.summary.as_deref());
        match self.connections.len() {
            0 => faults.add("connections", "the list is empty", "name a connection"),
            1..=SLOTS_MAX => {}
            _ => faults.add("connections", format!("more than {SLOTS_MAX} slots"), "ask for fewer"),
        }
        let mut names = HashSet::new();
        for (index, slot) in self.connections.iter().enumerate() {
            let path = format!("connections[{index}]");
            slot.faults(&path, providers, &mut faults);
            if !names.insert(&slot.slot) {
                let message = format!("there are two slots `{}`", shown(&slot.slot));
                faults.add(&format!("{path}.slot"), message, "give each its own name");
            }
        }
        faults.0
    }

    /// Each action of a slot that the slot's provider does not have.
    pub fn unknown_actions(&self, catalogue: &Catalogue) -> Vec<Fault> {
        let each = self.connections.iter().enumerate().flat_map(|(index, slot)| {
            let limits = BindingLimits { allow: slot.allow.clone(), ..BindingLimits::default() };
            let provider = catalogue.get(&slot.provider);
            let unknown = provider.into_iter().flat_map(move |provider| {
                let unknown = limits.unknown(provider).into_iter();
                unknown.map(|(name, near)| unknown_action(provider, name, near)).collect::<Vec<_>>()
            });
            unknown.map(move |(message, remedy)| Fault {
                path: format!("connections[{index}].allow"),
                message,
                remedy,
            })
        });
        each.collect()
    }

    /// How its version compares with another one's, as <https://semver.org> orders them.
    pub fn cmp_version(&self, other: &Self) -> Ordering {
        version(&self.version).cmp(&version(&other.version))
    }
}

impl Slot {
    /// What it is called for people.
    pub fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.slot)
    }

    /// Its methods, as policy compares them.
    pub fn parsed_methods(&self) -> Vec<Method> {
        let upper = self.methods.iter().map(|method| method.to_ascii_uppercase());
        upper.filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect()
    }

    /// Its paths, as policy matches them.
    pub fn parsed_paths(&self) -> Vec<PathPattern> {
        self.paths.iter().filter_map(|path| PathPattern::parse(path).ok()).collect()
    }

    fn faults(&self, path: &str, providers: &[&str], faults: &mut Faults) {
        let at = |key: &str| format!("{path}.{key}");
        if !is_word(&self.slot) {
            let rule = "write 1 to 32 lower-case letters, digits or `-_`";
            faults.add(&at("slot"), "this cannot be the name of a slot", rule);
        }
        if !providers.contains(&self.provider.as_str()) {
            let see = || {
                "`keyward provider list` shows which exist; declare your own under \
                 `providers:`"
                    .to_owned()
            };
            let known = providers.iter().copied();
            let remedy = did_you_mean(&self.provider, known).unwrap_or_else(see);
            let message = format!("there is no provider `{}`", shown(&self.provider));
            faults.add(&at("provider"), message, remedy);
        }
        faults.text(&at("label"), self.label.as_deref());
        faults.sentence(&at("help"), self.help.as_deref());
        for (key, items) in [
            ("scopes", &self.scopes),
            ("methods", &self.methods),
            ("paths", &self.paths),
            ("allow", &self.allow),
        ] {
            if items.len() > ITEMS_MAX {
                faults.add(&at(key), format!("more than {ITEMS_MAX} items"), "name fewer");
            }
            let each = items.iter().enumerate();
            each.for_each(|(index, item)| {
                faults.item(key, item, &format!("{path}.{key}[{index}]"))
            });
        }
    }
}

/// Collects.
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let (path, message, remedy) = (path.to_owned(), message.into(), remedy.into());
        self.0.push(Fault { path, message, remedy });
    }

    fn text(&mut self, path: &str, text: Option<&str>) {
        self.bounded(path, text, TEXT_CHARS_MAX);
    }

    fn sentence(&mut self, path: &str, text: Option<&str>) {
        self.bounded(path, text, SENTENCE_CHARS_MAX);
    }

    fn bounded(&mut self, path: &str, text: Option<&str>, chars_max: usize) {
        let Some(text) = text else { return };
        if text.is_empty() || text.chars().count() > chars_max || text.chars().any(is_unseen) {
            let remedy = format!("write 1 to {chars_max} printable characters on one line");
            self.add(path, "this cannot be shown to people", remedy);
        }
    }

    fn item(&mut self, key: &str, item: &str, path: &str) {
        match key {
            "scopes" if !is_scope(item) => {
                let rule =
                    format!("write 1 to {TEXT_CHARS_MAX} visible characters, one scope an item");
                self.add(path, "this is not a scope", rule);
            }
            "allow" if !is_word(item) => {
                let rule = "write the name of an action, such as read-code";
                self.add(path, "this is not an action", rule);
            }
            "methods" => self.method(item, path),
            "paths" => {
                if let Err(error) = PathPattern::parse(item) {
                    self.add(path, error.to_string(), "");
                }
            }
            _ => {}
        }
    }

    /// A misspelt method covers no request, so a slot with it would allow none.
    fn method(&mut self, text: &str, path: &str) {
        if !is_method(text) {
            let remedy = "write GET, POST or another that is forwarded";
            self.add(path, "this is not a method", remedy);
        } else if let Some(meant) = methods::misspelt(text) {
            let message = format!("`{text}` is no usual method");
            self.add(path, message, format!("did you mean `{meant}`?"));
        }
    }
}

/// What is wrong with an action that the provider does not have, and the remedy.
pub fn unknown_action(provider: &Provider, name: &str, near: Option<&str>) -> (String, String) {
    let id = &provider.id;
    let remedy = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if provider.actions().is_empty() => {
            "use a rule with methods and paths instead".to_owned()
        }
        None => format!("`keyward provider actions {id}` lists them"),
    };
    match provider.actions().is_empty() {
        true => (format!("`{id}` has no named actions"), remedy),
        false => (format!("`{id}` has no action `{}`", shown(name)), remedy),
    }
}

/// Lower-case letters, digits, `-` and `_`.
fn is_word(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (1..=WORD_CHARS_MAX).contains(&text.len()) && text.bytes().all(known)
}

/// RFC 6749 §3.3 has fewer characters; providers have more.
fn is_scope(text: &str) -> bool {
    (1..=TEXT_CHARS_MAX).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_whitespace() || is_unseen(c))
}

/// Methods that proxies do not forward are refused.
fn is_method(text: &str) -> bool {
    let never = ["TRACE", "TRACK", "CONNECT"];
    Method::from_bytes(text.as_bytes()).is_ok()
        && text.len() <= WORD_CHARS_MAX
        && !never.iter().any(|method| method.eq_ignore_ascii_case(text))
}

/// Characters that control a terminal: control characters, and those that change the direction of text (Unicode's
/// Bidi_Control).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name as it was written, fit for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !is_unseen(*c)).take(64).collect()
}

/// A version as <https://semver.org> has it, in which numbers may be omitted or begin with zeros.
fn version(text: &str) -> Option<Version> {
    if text.len() > WORD_CHARS_MAX {
        return None;
    }
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (release, before) = match text.split_once('-') {
        Some((release, before)) => (release, Some(before)),
        None => (text, None),
    };
    let mut numbers = [0; 3];
    for (place, part) in release.split('.').enumerate() {
        *numbers.get_mut(place)? = part.parse().ok().filter(|_| is_number(part))?;
    }
    let plain = |part: &str| match part.parse::<u64>() {
        Ok(number) if is_number(part) => number.to_string(),
        _ => part.to_owned(),
    };
    let [major, minor, patch] = numbers;
    let pre = match before {
        None => Prerelease::EMPTY,
        Some("") => return None,
        Some(before) => {
            Prerelease::new(&before.split('.').map(plain).collect::<Vec<_>>().join(".")).ok()?
        }
    };
    Some(Version { pre, ..Version::new(major, minor, patch) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(json: serde_json::Value) -> Manifest {
        serde_json::from_value(json).expect("a manifest")
    }

    #[test]
    fn versions_are_ordered_as_semver_says() {
        let ordered = [
            "1",
            "1.0.1-2",
            "1.0.1-10",
            "1.0.1-alpha",
            "1.0.1-alpha.1",
            "1.0.1-alpha.beta",
            "1.0.1",
            "1.2",
            "1.10",
            "2",
        ];
        let parsed = ordered.map(|text| version(text).expect(text));
        assert!(parsed.is_sorted_by(|a, b| a < b), "{parsed:?}");
        assert_eq!(version("1.0"), version("1.0.0"));
        for bad in [
            "",
            "1.",
            "v1",
            "1.2.3.4",
            "1..2",
            "+1",
            "1.0-",
            "1.0-a..b",
            "1.0-\u{e9}",
            &"9".repeat(33),
        ] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_fault_names_its_place_and_a_remedy() {
        let found = manifest(serde_json::json!({
            "plugin": "con_x", "version": "one", "summary": "a\u{202e}b",
            "connections": [
                {"slot": "CRM", "provider": "hubspt", "label": "", "help": "x".repeat(501)},
                {"slot": "a", "provider": "zzz", "scopes": ["a b"], "methods": ["G T", "TRACE", "delte", "PURGE"],
                 "paths": ["x", "/a?b"]},
                {"slot": "a", "provider": "hubspot"},
            ],
        }));
        let found = found.faults(&["hubspot", "slack"]);
        let lines: Vec<_> =
            found.iter().map(|it| format!("{}: {}; {}", it.path, it.message, it.remedy)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn an_empty_list_is_refused_and_never_read_as_all() {
        for key in ["scopes", "methods", "paths", "allow"] {
            let slot = serde_json::json!({"slot": "a", "provider": "p", key: []});
            let error = serde_json::from_value::<Slot>(slot).unwrap_err().to_string();
            assert!(error.starts_with("the list is empty"), "{error}");
        }
    }

    #[test]
    fn a_manifest_without_slots_or_with_too_many_is_refused() {
        let slot = |n: usize| serde_json::json!({"slot": format!("s{n}"), "provider": "p"});
        let of = |count: usize| {
            let slots: Vec<_> = (0..count).map(slot).collect();
            manifest(serde_json::json!({"plugin": "a", "version": "1", "connections": slots}))
        };
        assert_eq!(of(SLOTS_MAX).faults(&["p"]), []);
        assert_eq!(of(SLOTS_MAX + 1).faults(&["p"]).len(), 1);
        assert_eq!(of(0).faults(&["p"]).len(), 1);
    }
}
