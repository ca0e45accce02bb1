//! [`SourceKind`]: what the file of a kind of source says: its settings and its credentials. The vault reads its requests. The
//! files are in `kinds/`; their names have the order in which pages list the kinds.

use std::sync::LazyLock;

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::Value;

use keyward_base::keys::{Absent, Key, Shape};
use keyward_base::names::named_enum;

/// The text of each file.
const FILES: &[&str] = include!(concat!(env!("OUT_DIR"), "/source_kinds.rs"));

/// A kind of source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceKind {
    /// The key of the spec.
    pub id: String,
    /// What people call it.
    pub title: String,
    /// What it is: sentences, in Markdown.
    pub meaning: String,
    #[serde(default)]
    pub reference: ReferenceForm,
    /// What it reads on the gateway's machine, if it sends no requests.
    pub local: Option<LocalOrigin>,
    /// With which settings it reads the gateway's machine before it sends requests.
    pub local_if: Option<Condition>,
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// Rules between settings.
    #[serde(default)]
    pub rules: Vec<SettingRule>,
    #[serde(default)]
    pub credentials: Vec<CredentialForm>,
    /// Whether it takes credentials of all names.
    #[serde(default)]
    pub any_credential: bool,
    /// How a value is fetched over HTTP, for those who do that.
    #[serde(default)]
    pub requests: Value,
    #[serde(skip)]
    keys: Vec<Key>,
    /// Their names.
    #[serde(skip)]
    pub(super) names: &'static [&'static str],
}

/// How a reference is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReferenceForm {
    /// What it is, for the sentence "A reference is …".
    is: Option<String>,
    /// What it must be, for refusals.
    pub must: String,
    /// Its form; templates name its groups. Without a pattern, they name the whole as `ref`.
    pub pattern: Option<Pattern>,
}

/// What a source reads on the gateway's machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum LocalOrigin {
    /// Environment variables.
    Variables,
    /// Files of a folder.
    Folder,
    /// What a program prints.
    Program,
    /// The keyring of a desktop session.
    Keyring,
}

/// A setting of a kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    pub name: String,
    #[serde(default)]
    pub value: ValueForm,
    #[serde(default)]
    pub required: bool,
    /// The words that it accepts, if it accepts no others.
    #[serde(default)]
    choices: Vec<String>,
    /// What is stored if it is not given.
    pub(super) default: Option<String>,
    meaning: String,
    /// What the text, or each text of a list, must match; a number or time as it is stored.
    pub(super) pattern: Option<Pattern>,
    /// What the first text of a list must match.
    pub(super) first: Option<Pattern>,
    /// The refusal of another value.
    pub(super) must: Option<String>,
    /// Forms have it only then.
    pub shown_if: Option<Condition>,
    #[serde(skip)]
    pub(super) choice_names: &'static [&'static str],
}

named_enum! {
    /// The values that a setting accepts.
    #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
    pub enum ValueForm by as_str {
        /// Text.
        #[default]
        Text = "text",
        /// An address for requests.
        Url = "URL",
        /// A file or folder.
        Path = "path",
        /// A whole number.
        Number = "number",
        /// A time with its unit.
        Time = "time",
        /// Texts.
        List = "list of text",
        /// The connection whose token is sent.
        Connection = "name of a connection",
    }
}

/// A regular expression of a whole text.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Regex);

/// What settings meet: `NAME` that it is given, `NAME=VALUE` that it is this, `NAME~PART` that it has this part.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Condition(pub(super) String);

/// Settings that meet one condition must meet another.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingRule {
    #[serde(rename = "if")]
    pub(super) when: Condition,
    pub(super) then: Condition,
    /// The setting that is refused otherwise.
    pub(super) at: String,
    pub(super) must: String,
}

/// A credential of a kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialForm {
    pub name: String,
    /// It is taken only then.
    #[serde(rename = "if")]
    pub when: Option<Condition>,
    #[serde(default)]
    pub optional: bool,
}

/// All kinds, in the order of pages.
pub fn source_kinds() -> &'static [SourceKind] {
    static READ: LazyLock<Vec<SourceKind>> =
        LazyLock::new(|| FILES.iter().map(|text| SourceKind::read(text)).collect());
    &READ
}

impl SourceKind {
    fn read(text: &str) -> Self {
        let read = serde_yaml::from_str(text);
        let mut kind: Self = read.unwrap_or_else(|why| panic!("{why} in: {text}: a test reads it"));
        for setting in &mut kind.settings {
            let names: Vec<_> = setting.choices.iter().map(|choice| leaked(choice)).collect();
            setting.choice_names = names.leak();
        }
        kind.keys = kind.settings.iter().map(Setting::key).collect();
        kind.names = kind.keys.iter().map(|key| key.name).collect::<Vec<_>>().leak();
        kind
    }

    /// The kind with this id.
    pub fn find(id: &str) -> Option<&'static Self> {
        source_kinds().iter().find(|kind| kind.id == id)
    }

    /// The key of the spec.
    pub(super) fn key(&'static self) -> Key {
        let mut meaning = self.meaning.clone();
        if let Some(is) = &self.reference.is {
            meaning += &format!(" A reference is {is}.");
        }
        let names: Vec<_> = self.credentials.iter().map(|it| format!("`{}`", it.name)).collect();
        if !names.is_empty() {
            meaning += &format!(" Credentials: {}.", names.join(", "));
        }
        Key { name: &self.id, shape: Shape::Members(&self.keys), meaning, option: None }
    }

    /// Its settings, as forms and pages have them.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The setting that decides which credentials are taken, and its choices that do not read the gateway's machine.
    pub fn logins(&'static self) -> Option<(&'static str, Vec<&'static str>)> {
        let conditions = || self.credentials.iter().filter_map(|it| it.when.as_ref());
        let is_of = |condition: &Condition, name: &str| {
            condition.0.split_once('=').is_some_and(|(of, _)| of == name)
        };
        let decides = |setting: &&Setting| conditions().any(|it| is_of(it, &setting.name));
        let setting = self.settings.iter().find(decides)?;
        let local = self.local_if.as_ref().and_then(|it| it.0.split_once('='));
        let name = setting.name.as_str();
        let choices = setting.choice_names.iter().copied();
        Some((name, choices.filter(|choice| local != Some((name, *choice))).collect()))
    }
}

impl Setting {
    fn key(&self) -> Key {
        let absent = match &self.default {
            Some(default) => Absent::Default(leaked(default)),
            None if self.required => Absent::Required,
            None => Absent::Nothing,
        };
        let shape = match self.choice_names {
            [] => Shape::Value(self.value.as_str(), absent),
            names => Shape::Choice(names, absent),
        };
        Key { name: leaked(&self.name), shape, meaning: self.meaning.clone(), option: None }
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex_lite::Error;

    fn try_from(pattern: String) -> Result<Self, regex_lite::Error> {
        Regex::new(&format!("^(?:{pattern})$")).map(Self)
    }
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The named groups of a text that matches.
    pub fn parts<'p>(&'p self, text: &str) -> Option<Vec<(&'p str, String)>> {
        let captures = self.0.captures(text)?;
        let names = self.0.capture_names().flatten();
        let part = |name: &'p str| Some((name, captures.name(name)?.as_str().to_owned()));
        Some(names.filter_map(part).collect())
    }
}

/// The files are read once, and kept for the life of the process.
fn leaked(text: &str) -> &'static str {
    text.to_owned().leak()
}
