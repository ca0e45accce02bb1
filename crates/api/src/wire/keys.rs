//! The JSON of master keys: their ids, never the keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A master key.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeyView {
    /// 16 hex digits.
    pub id: String,
    /// Whether it seals what is written.
    pub current: bool,
    /// Where it was read from; absent: it was not given, and its rows cannot be opened.
    pub source: Option<KeySourceView>,
    /// Rows of the store that it wraps.
    pub rows: u64,
}

/// Where a master key was read from.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeySourceView {
    /// `file`, `env`, `command` or `memory`.
    pub kind: KeySourceKind,
    /// The file, the variable, or the program; empty for `memory`.
    pub name: String,
}

/// The kind of source that held the key.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySourceKind {
    /// A file.
    File,
    /// An environment variable.
    Env,
    /// A command.
    Command,
    /// Nothing: the key ends with the process.
    Memory,
}

/// What a rotation did.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KeyRotated {
    /// The key that wraps every row now.
    pub current: String,
    /// Where it was read from, or is kept now.
    pub source: KeySourceView,
    /// Whether it was made for this rotation; `false`: it was there before.
    pub made: bool,
    /// Keys that were destroyed.
    pub retired: Vec<String>,
    /// Sources that are not needed any more: they can be removed from `master_key`.
    pub unneeded: Vec<KeySourceView>,
    /// Rows that were wrapped again, with the current key.
    pub rewrapped: u64,
    /// All rows.
    pub rows: u64,
}
