//! [`Document`]: a parsed YAML text with the line of each key, and [`Problems`], the list of its errors. Used
//! for provider files and the configuration.
//!
//! The tree is built from parser events, because serde_yaml keeps no positions and stops at the first error.
//! Messages quote no values, because a misplaced value may be a secret.

mod quoting;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_yaml::{Mapping, Value};

/// Maximum nesting; bounds the recursion. Real files have less.
const DEPTH_MAX: usize = 32;

/// Maximum size of a file: 4 MiB, enough for thousands of connections.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A parsed file with overrides.
#[derive(Clone, Debug)]
pub struct Document {
    name: Arc<str>,
    root: Value,
    lines: LineTree,
    /// The environment variables that override values, by the path of the value.
    variables: BTreeMap<String, String>,
}

/// The lines of all keys and items below a value. A tree like that of the values: paths as texts would take most of the time
/// that reading a long file takes.
#[derive(Clone, Debug)]
enum LineTree {
    None,
    Items(Vec<(usize, LineTree)>),
    Keys(Vec<(String, usize, LineTree)>),
}

/// Where a value was written.
enum ValueOrigin<'a> {
    Line(usize),
    Variable(&'a str),
}

/// One error: position, message and remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct Problem {
    /// The position: `keyward.yaml:12`, or the environment variable.
    pub origin: String,
    /// The line, if there is one.
    pub line: Option<usize>,
    /// The YAML path, such as `rules[3].action`; empty for the whole file.
    pub path: String,
    /// The error; quotes no value that could be a secret.
    pub message: String,
    /// The remedy, in lower case.
    pub remedy: String,
    /// What the value names did not answer: another attempt may succeed without a change.
    pub is_away: bool,
}

/// Collects the errors of one document.
#[derive(Debug)]
pub struct Problems<'a> {
    document: &'a Document,
    found: Vec<Problem>,
}

impl Document {
    /// Parses `text`; messages call the file `name`. An empty text is an empty map.
    ///
    /// # Errors
    /// Syntax errors, duplicate keys, aliases, tags, several documents, excessive size or depth.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut reader = TreeBuilder::new(name, text);
        let root = match text.len() > TEXT_BYTES_MAX {
            true => Err(ParseStop::at(1, "the file is larger than 4 MiB", "split or shorten it")),
            false => reader.document(),
        };
        match root {
            Ok(root) if reader.problems.is_empty() => {
                let (root, lines) = root;
                Ok(Self { name: name.into(), root, lines, variables: BTreeMap::new() })
            }
            Ok(_) => Err(reader.problems),
            Err(stop) => {
                reader.report(stop.line, String::new(), stop.message, stop.remedy);
                Err(reader.problems)
            }
        }
    }

    /// The root of the tree.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Sets the value at `path` (map keys only), as an environment variable requests. An empty root becomes a
    /// map. Returns whether the path leads through maps only.
    pub fn set_from_variable(&mut self, variable: &str, path: &[String], value: &Value) -> bool {
        if self.root.is_null() {
            self.root = Value::Mapping(Mapping::new());
        }
        let mut at = String::new();
        let mut slot = &mut self.root;
        for key in path {
            at = key_of(&at, key);
            let Value::Mapping(map) = slot else { return false };
            slot = map
                .entry(Value::String(key.clone()))
                .or_insert_with(|| Value::Mapping(Mapping::new()));
            if self.lines.at(&at).is_none() {
                self.variables.entry(at.clone()).or_insert_with(|| variable.into());
            }
        }
        *slot = value.clone();
        self.variables.insert(at, variable.into());
        true
    }

    /// `file:line` of the path, or of its nearest ancestor.
    pub fn origin(&self, path: &str) -> String {
        match self.nearest(path) {
            Some(ValueOrigin::Line(line)) => format!("{}:{line}", self.name),
            Some(ValueOrigin::Variable(name)) => format!("environment variable {name}"),
            None => self.name.to_string(),
        }
    }

    /// The line of exactly this path of the file.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        self.lines.at(path)
    }

    fn line(&self, path: &str) -> Option<usize> {
        match self.nearest(path) {
            Some(ValueOrigin::Line(line)) => Some(line),
            Some(ValueOrigin::Variable(_)) | None => None,
        }
    }

    fn nearest(&self, path: &str) -> Option<ValueOrigin<'_>> {
        let mut at = path;
        loop {
            if let Some(variable) = self.variables.get(at) {
                return Some(ValueOrigin::Variable(variable));
            }
            if let Some(line) = self.lines.at(at) {
                return Some(ValueOrigin::Line(line));
            }
            at = &at[..at.rfind(['.', '['])?];
        }
    }

    /// An empty list of errors for this document.
    pub fn problems(&self) -> Problems<'_> {
        Problems { document: self, found: Vec::new() }
    }
}

impl LineTree {
    /// The line of exactly this path.
    fn at(&self, path: &str) -> Option<usize> {
        let of = |line: usize, below: &Self, rest: &str| match rest {
            "" => Some(line),
            rest => below.at(rest),
        };
        match self {
            Self::None => None,
            Self::Items(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                let (line, below) = items.get(index.parse::<usize>().ok()?)?;
                of(*line, below, rest)
            }
            Self::Keys(keys) => {
                let path = path.strip_prefix('.').unwrap_or(path);
                // A key may have a dot.
                keys.iter().find_map(|(key, line, below)| {
                    let rest = path.strip_prefix(&**key)?;
                    match rest.is_empty() || rest.starts_with(['.', '[']) {
                        true => of(*line, below, rest),
                        false => None,
                    }
                })
            }
        }
    }
}

impl Problems<'_> {
    /// Adds an error at `path`.
    pub fn add(&mut self, path: &str, message: impl fmt::Display, remedy: impl fmt::Display) {
        self.found.push(Problem {
            origin: self.document.origin(path),
            line: self.document.line(path),
            path: path.to_owned(),
            message: message.to_string(),
            remedy: remedy.to_string(),
            is_away: false,
        });
    }

    /// An empty list of errors for the same document, for another thread.
    pub fn empty_list(&self) -> Self {
        self.document.problems()
    }

    /// Adds the errors of another list for the same document.
    pub fn append(&mut self, other: Self) {
        self.found.extend(other.found);
    }

    /// `file:line` of the path.
    pub fn origin(&self, path: &str) -> String {
        self.document.origin(path)
    }

    /// Number of errors so far.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// All errors, in the order of the file.
    pub fn into_vec(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|problem| problem.line);
        self.found
    }
}

impl fmt::Display for Problem {
    /// Formats as `keyward.yaml:12: rules[3].action: message; remedy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match self.remedy.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", self.remedy),
        }
    }
}

/// The path of `key` in the map at `path`.
pub fn key_of(path: &str, key: &str) -> String {
    match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}

/// The path of the item `index` of the list at `path`.
pub fn item_of(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Parses a plain scalar as serde_yaml does: null, boolean, number or text.
pub fn scalar(text: &str) -> Value {
    // Only these words begin with a letter: null, true, false. Most scalars need no further look.
    let is_text = |first: &u8| {
        first.is_ascii_alphabetic() && !matches!(first, b'n' | b'N' | b't' | b'T' | b'f' | b'F')
    };
    if text.as_bytes().first().is_some_and(is_text) {
        return Value::String(text.to_owned());
    }
    match serde_yaml::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// An error that stops parsing.
struct ParseStop {
    line: usize,
    message: String,
    remedy: &'static str,
}

impl ParseStop {
    fn at(line: usize, message: impl Into<String>, remedy: &'static str) -> Self {
        Self { line, message: message.into(), remedy }
    }
}

/// Builds the tree from parser events.
struct TreeBuilder<'a> {
    name: &'a str,
    text: &'a str,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// The path of the current value.
    path: Vec<PathStep>,
    problems: Vec<Problem>,
}

enum PathStep {
    Key(String),
    Item(usize),
}

impl<'a> TreeBuilder<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        let parser = Parser::new_from_str(text);
        Self { name, text, parser, path: Vec::new(), problems: Vec::new() }
    }

    fn report(&mut self, line: usize, path: String, message: String, remedy: &str) {
        self.problems.push(Problem {
            origin: format!("{}:{line}", self.name),
            line: Some(line),
            path,
            message,
            remedy: remedy.into(),
            is_away: false,
        });
    }

    fn here(&self) -> String {
        self.path.iter().fold(String::new(), |at, step| match step {
            PathStep::Key(key) => key_of(&at, key),
            PathStep::Item(index) => item_of(&at, *index),
        })
    }

    fn next(&mut self) -> Result<(Event<'a>, usize), ParseStop> {
        match self.parser.next_event() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, start.line())),
            Some(Err(error)) => {
                let line = error.marker().line();
                Err(ParseStop::at(
                    line,
                    format!("not YAML: {}", error.info()),
                    quoting::remedy(self.text, line),
                ))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn document(&mut self) -> Result<(Value, LineTree), ParseStop> {
        loop {
            match self.next()? {
                (Event::DocumentStart(_), _) => break,
                (Event::StreamEnd, _) => return Ok((Value::Null, LineTree::None)),
                _ => {}
            }
        }
        let (event, line) = self.next()?;
        let root = self.value(event, line)?;
        loop {
            match self.next()? {
                (Event::DocumentStart(_), line) => {
                    return Err(ParseStop::at(
                        line,
                        "a second document begins",
                        "keep one per file",
                    ));
                }
                (Event::StreamEnd, _) => return Ok(root),
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'a>, line: usize) -> Result<(Value, LineTree), ParseStop> {
        if self.path.len() > DEPTH_MAX {
            return Err(ParseStop::at(line, "nested too deeply", "flatten the file"));
        }
        match event {
            Event::Scalar(text, style, _, tag) => {
                Ok((typed(&text, style, tag.as_deref(), line)?, LineTree::None))
            }
            Event::SequenceStart(_, None) => self.sequence(),
            Event::MappingStart(_, None) => self.mapping(),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                Err(ParseStop::at(line, "YAML tags are not supported", "remove the tag"))
            }
            Event::Alias(_) => {
                Err(ParseStop::at(line, "YAML aliases are not supported", "write the value out"))
            }
            _ => Ok((Value::Null, LineTree::None)),
        }
    }

    fn sequence(&mut self) -> Result<(Value, LineTree), ParseStop> {
        let (mut items, mut lines) = (Vec::new(), Vec::new());
        loop {
            let (event, line) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok((Value::Sequence(items), LineTree::Items(lines)));
            }
            self.path.push(PathStep::Item(items.len()));
            let (item, below) = self.value(event, line)?;
            self.path.pop();
            items.push(item);
            lines.push((line, below));
        }
    }

    fn mapping(&mut self) -> Result<(Value, LineTree), ParseStop> {
        let (mut map, mut lines) = (Mapping::new(), Vec::new());
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok((Value::Mapping(map), LineTree::Keys(lines))),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(ParseStop::at(line, "a key must be text", "write a plain word")),
            };
            let (event, value_line) = self.next()?;
            let twice = map.contains_key(key.as_str());
            if twice {
                let (at, message) =
                    (key_of(&self.here(), &key), format!("key `{key}` is given twice"));
                self.report(line, at, message, "keep one");
            }
            self.path.push(PathStep::Key(key));
            let (value, below) = self.value(event, value_line)?;
            if let (Some(PathStep::Key(key)), false) = (self.path.pop(), twice) {
                lines.push((key.clone(), line, below));
                map.insert(Value::String(key), value);
            }
        }
    }
}

/// Parses a scalar by style and tag; quoted scalars are always text.
fn typed(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    line: usize,
) -> Result<Value, ParseStop> {
    match (tag, style) {
        (None, ScalarStyle::Plain) => Ok(scalar(text)),
        (None, _) => Ok(Value::String(text.to_owned())),
        (Some(tag), _) if tag.is_yaml_core_schema() && tag.suffix == "str" => {
            Ok(Value::String(text.to_owned()))
        }
        _ => Err(ParseStop::at(line, "YAML tags are not supported", "remove the tag")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let found = Document::parse("f.yaml", text).err().unwrap_or_default();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_text_that_is_not_one_plain_document_is_refused_with_its_line() {
        let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        let table: &[(&str, &[&str])] = &[
            (
                "a: 1\na: 2\nb: {c: 1, c: 2}\n",
                &[
                    "f.yaml:2: a: key `a` is given twice; keep one",
                    "f.yaml:3: b.c: key `c` is given twice; keep one",
                ],
            ),
            (
                "a: &x 1\nb: *x\n",
                &["f.yaml:2: YAML aliases are not supported; write the value out"],
            ),
            ("a: !secret 1\n", &["f.yaml:1: YAML tags are not supported; remove the tag"]),
            ("a: 1\n---\nb: 2\n", &["f.yaml:2: a second document begins; keep one per file"]),
            (&deep, &["f.yaml:1: nested too deeply; flatten the file"]),
            ("[a]: 1\n", &["f.yaml:1: a key must be text; write a plain word"]),
        ];
        for (text, expected) in table {
            assert_eq!(problems(text), *expected, "{text}");
        }
        assert!(problems("a: [1\nb: 2").first().is_some_and(|p| p.contains("not YAML")));
    }

    #[test]
    fn every_key_and_item_knows_its_line() {
        let document = Document::parse("f.yaml", "a:\n  b:\n    - x\n    - c: 1\n").unwrap();
        assert_eq!(document.origin("a.b"), "f.yaml:2");
        assert_eq!(document.origin("a.b[1].c"), "f.yaml:4");
        assert_eq!(document.origin("a.b[1].missing"), "f.yaml:4");
        assert_eq!(document.origin("elsewhere"), "f.yaml");
        let document = Document::parse("f", "a:\n  b: 1\na.b:\n  c: [1,\n    2]\nab: 1").unwrap();
        for (path, line) in [("a.b", 2), ("a.b.c", 4), ("a.b.c[1]", 5), ("ab", 6), ("a.bc", 1)] {
            assert_eq!(document.origin(path), format!("f:{line}"), "{path}");
        }
    }

    #[test]
    fn scalars_read_as_serde_yaml_reads_them() {
        let document =
            Document::parse("f", "[1, 0.5, true, ~, '1', 127.0.0.1:80, '', yes]").unwrap();
        let expected: Value =
            serde_yaml::from_str("[1, 0.5, true, ~, '1', '127.0.0.1:80', '', yes]").unwrap();
        assert_eq!(document.root(), &expected);
        let words = [
            "null",
            "Null",
            "NULL",
            "nul",
            "true",
            "True",
            "TRUE",
            "tRUE",
            "false",
            "no",
            "on",
            "y",
            "0x1f",
            "0o7",
            "0b1",
            "1e3",
            "1_000",
            "+1",
            "-1",
            ".5",
            ".inf",
            "-.inf",
            ".nan",
            "inf",
            "nan",
            "Infinity",
            "e3",
            "x1f",
            "a b",
            "http://a.test/?b#c",
            "~a",
            "key",
            "2026-11-23",
        ];
        for word in words {
            let expected: Value = serde_yaml::from_str(word).unwrap();
            assert_eq!(scalar(word), expected, "{word}");
        }
        assert!(Document::parse("f", "").unwrap().root().is_null());
    }

    #[test]
    fn an_override_by_an_environment_variable_is_named_in_messages() {
        let mut document = Document::parse("f", "log: {level: info}\n").unwrap();
        let path = ["log".to_owned(), "format".to_owned()];
        assert!(document.set_from_variable("KEYWARD__LOG__FORMAT", &path, &scalar("json")));
        assert_eq!(document.origin("log.format"), "environment variable KEYWARD__LOG__FORMAT");
        assert_eq!(document.origin("log.level"), "f:1");
        let through_text = ["log".to_owned(), "level".to_owned(), "x".to_owned()];
        assert!(!document.set_from_variable("KEYWARD__LOG__LEVEL__X", &through_text, &Value::Null));
    }
}
