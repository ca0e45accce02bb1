//! Which commands a session may send, by their names and documents. The names are data: `refused.txt` is for all sessions,
//! `read_only.txt` for read-only ones.

use std::collections::HashSet;
use std::sync::LazyLock;

use bson::{RawBsonRef, RawDocument};

use super::wire::is_hello;
use crate::lists::lines;

/// How deep documents are read. Servers accept 180 levels (`BSONDepth`).
const DEPTH_MAX: usize = 200;

/// The part of a command's name that a refusal repeats, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What a session may send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MongoAccess {
    /// Whether only commands that read pass.
    pub read_only: bool,
}

/// The decision about a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MongoVerdict {
    Passes,
    /// Keyward answers it.
    Hello,
    /// It is refused, with these words.
    Refused(String),
}

/// A line of `refused.txt`.
struct MongoRefusal {
    /// In lower case.
    name: String,
    is_prefix: bool,
    /// The arguments that make the command refused; none: it always is.
    arguments: Vec<&'static str>,
    reason: &'static str,
}

static REFUSED: LazyLock<Vec<MongoRefusal>> =
    LazyLock::new(|| lines(include_str!("refused.txt")).map(refusal).collect());

static READING: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| lines(include_str!("read_only.txt")).collect());

/// Stages that write, at any depth.
const WRITING_STAGES: [&str; 2] = ["$out", "$merge"];

/// Stages that show operations of other users.
const STAGES_ABOUT_OTHERS: [&str; 2] = ["$currentOp", "$queryStats"];

/// Collections with credentials and keys of the server, by their database. The log of a replica set has all that is written,
/// so users too.
const CREDENTIALS: [(&str, &[&str]); 3] = [
    ("admin", &["system.users", "system.new_users", "system.backup_users", "system.keys"]),
    ("local", &["oplog.rs", "oplog.$main"]),
    ("config", &["external_validation_keys"]),
];

/// The collection of each database in which its server records commands, and where a command names a collection.
const PROFILE: &str = "system.profile";
const NAMES_COLLECTIONS: [&str; 5] = ["$unionWith", "coll", "collection", "from", "viewOn"];

/// A document cannot be read to its end, or nests too deep.
struct Unreadable;

impl From<bson::error::Error> for Unreadable {
    fn from(_: bson::error::Error) -> Self {
        Self
    }
}

fn refusal(line: &'static str) -> MongoRefusal {
    let mut columns = line.split('|').map(str::trim);
    let mut column = || columns.next().expect("each line has three columns: a test reads them all");
    let (name, arguments, reason) = (column(), column(), column());
    let arguments = arguments.split_whitespace().filter(|it| *it != "*").collect();
    let is_prefix = name.ends_with('*');
    MongoRefusal { name: name.trim_end_matches('*').to_lowercase(), is_prefix, arguments, reason }
}

impl MongoAccess {
    /// Decides about a command. `has_documents`: whether more sections follow in its message.
    pub fn verdict(self, command: &RawDocument, has_documents: bool) -> MongoVerdict {
        let refused = match self.refusal(command, has_documents) {
            Ok(None) => return MongoVerdict::Passes,
            Ok(Some(ListedCommand::Hello)) => return MongoVerdict::Hello,
            Ok(Some(ListedCommand::Refused(words))) => words,
            Err(Unreadable) => "a command that is no BSON document is refused".to_owned(),
        };
        MongoVerdict::Refused(format!("keyward: {refused}"))
    }

    fn refusal(
        self,
        command: &RawDocument,
        has_documents: bool,
    ) -> Result<Option<ListedCommand>, Unreadable> {
        let (name, database) = (name(command)?, database(command)?);
        if is_hello(name) {
            return Ok(Some(ListedCommand::Hello));
        }
        if self.read_only && has_documents {
            return refused(name, "the connection is read-only");
        }
        if let Some(found) = self.by_name(name, command)? {
            return Ok(Some(found));
        }
        if name == "explain" {
            let RawBsonRef::Document(explained) = first(command)? else { return Err(Unreadable) };
            let explained_name = self::name(explained)?;
            if is_hello(explained_name) || explained_name == "explain" {
                return Err(Unreadable);
            }
            if let Some(found) = self.by_name(explained_name, explained)? {
                return Ok(Some(found));
            }
            if names_profile(explained, 0)? {
                return refused(name, "the collection has the commands of others");
            }
        }
        if self.read_only && has_key(command, &WRITING_STAGES, 0)? {
            return refused(name, "the connection is read-only, and the pipeline writes");
        }
        if database == "admin" && has_key(command, &STAGES_ABOUT_OTHERS, 0)? {
            return refused(name, "it shows the commands of others");
        }
        if names_profile(command, 0)? {
            return refused(name, "the collection has the commands of others");
        }
        if has_closed_namespace(command, 0)? {
            return refused(name, "a collection in it has credentials of the server");
        }
        let Some((_, closed)) = CREDENTIALS.iter().find(|(own, _)| *own == database) else {
            return Ok(None);
        };
        // `renameCollection` names them with their databases.
        let names_closed = |text: &str| {
            let parts = text.split_once('.');
            closed.contains(&text) || parts.is_some_and(|(own, name)| is_closed(own, name))
        };
        let may_name = may_name_otherwise(first(command)?);
        match may_name || names(command, &names_closed, 0)? {
            true => refused(name, "the collection has credentials of the server"),
            false => Ok(None),
        }
    }

    /// Decides by the name and the arguments alone.
    fn by_name(
        self,
        name: &str,
        command: &RawDocument,
    ) -> Result<Option<ListedCommand>, Unreadable> {
        let lower = name.to_lowercase();
        let fits = |refusal: &&MongoRefusal| match refusal.is_prefix {
            true => lower.starts_with(&refusal.name),
            false => lower == refusal.name,
        };
        if let Some(refusal) = REFUSED.iter().find(fits)
            && refusal.covers(command)?
        {
            return refused(name, refusal.reason);
        }
        match self.read_only && !READING.contains(name) {
            true => refused(name, "the connection is read-only"),
            false => Ok(None),
        }
    }
}

enum ListedCommand {
    Hello,
    Refused(String),
}

impl MongoRefusal {
    /// Whether the refusal applies to the command. An argument with the value `false` counts as absent.
    fn covers(&self, command: &RawDocument) -> Result<bool, Unreadable> {
        if self.arguments.is_empty() {
            return Ok(true);
        }
        for element in command.iter_elements() {
            let element = element?;
            if self.arguments.contains(&element.key().as_str())
                && element.value()? != RawBsonRef::Boolean(false)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn refused(name: &str, reason: &str) -> Result<Option<ListedCommand>, Unreadable> {
    let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    Ok(Some(ListedCommand::Refused(format!("{name} is refused: {reason}"))))
}

/// The name of a command: that of its first element.
fn name(command: &RawDocument) -> Result<&str, Unreadable> {
    let first = command.iter_elements().next().ok_or(Unreadable)??;
    Ok(first.key().as_str())
}

fn first(command: &RawDocument) -> Result<RawBsonRef<'_>, Unreadable> {
    Ok(command.iter_elements().next().ok_or(Unreadable)??.value()?)
}

/// The database of a command. Two of them would be read by the server as one, and by Keyward as the other.
fn database(command: &RawDocument) -> Result<&str, Unreadable> {
    let mut found = None;
    for element in command.iter_elements() {
        let element = element?;
        if element.key().as_str() != "$db" {
            continue;
        }
        let RawBsonRef::String(name) = element.value()? else { return Err(Unreadable) };
        if found.replace(name).is_some() {
            return Err(Unreadable);
        }
    }
    found.ok_or(Unreadable)
}

/// Whether the document has one of the keys, at any depth.
fn has_key(document: &RawDocument, keys: &[&str], depth: usize) -> Result<bool, Unreadable> {
    for element in document.iter_elements() {
        let element = element?;
        if keys.contains(&element.key().as_str()) {
            return Ok(true);
        }
        if let Some(inner) = inner(element.value()?, depth)?
            && has_key(inner, keys, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this collection has credentials.
fn is_closed(database: &str, collection: &str) -> bool {
    CREDENTIALS.iter().any(|(own, closed)| *own == database && closed.contains(&collection))
}

/// Whether the document has one of the names as a value, at any depth.
fn names(
    document: &RawDocument,
    is_one: &impl Fn(&str) -> bool,
    depth: usize,
) -> Result<bool, Unreadable> {
    for element in document.iter_elements() {
        let value = element?.value()?;
        if text(value).is_some_and(is_one) {
            return Ok(true);
        }
        if let Some(inner) = inner(value, depth)?
            && names(inner, is_one, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a document in it names a collection with credentials by `db` and `coll`, as `$lookup` from another database does.
fn has_closed_namespace(document: &RawDocument, depth: usize) -> Result<bool, Unreadable> {
    let (mut databases, mut collections) = (Vec::new(), Vec::new());
    for element in document.iter_elements() {
        let element = element?;
        let value = element.value()?;
        match element.key().as_str() {
            "db" => databases.extend(text(value)),
            "coll" => collections.extend(text(value)),
            _ => {}
        }
        if let Some(inner) = inner(value, depth)?
            && has_closed_namespace(inner, depth + 1)?
        {
            return Ok(true);
        }
    }
    let has_closed = |database: &&str| collections.iter().any(|name| is_closed(database, name));
    Ok(databases.iter().any(has_closed))
}

/// Whether a command names [`PROFILE`]: first of all, or where a part of it names a collection.
fn names_profile(document: &RawDocument, depth: usize) -> Result<bool, Unreadable> {
    for (at, element) in document.iter_elements().enumerate() {
        let element = element?;
        let is_name =
            (at == 0 && depth == 0) || NAMES_COLLECTIONS.contains(&element.key().as_str());
        let value = element.value()?;
        if is_name
            && let Some(text) = text(value)
            && text.strip_suffix(PROFILE).is_some_and(|own| own.is_empty() || own.ends_with('.'))
        {
            return Ok(true);
        }
        if let Some(inner) = inner(value, depth)?
            && names_profile(inner, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The text of a value that a server may read as a name. Servers take a symbol, which is deprecated, for a string
/// (`canonicalizeBSONType`). <https://bsonspec.org/spec.html>
fn text(value: RawBsonRef<'_>) -> Option<&str> {
    match value {
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) | RawBsonRef::JavaScriptCode(text) => {
            Some(text)
        }
        RawBsonRef::JavaScriptCodeWithScope(code) => Some(code.code),
        _ => None,
    }
}

/// Whether a server may find a collection by this value of a command without its name, such as by its UUID. Numbers and
/// the like stand where a command has no collection; documents are searched.
fn may_name_otherwise(value: RawBsonRef<'_>) -> bool {
    use RawBsonRef::{Array, Boolean, Decimal128, Document, Double, Int32, Int64, Null};
    let is_number = matches!(value, Double(_) | Int32(_) | Int64(_) | Decimal128(_) | Boolean(_));
    let is_other = matches!(value, Null | Document(_) | Array(_));
    !is_number && !is_other && text(value).is_none()
}

/// The document that a value is; an array is one too.
fn inner(value: RawBsonRef<'_>, depth: usize) -> Result<Option<&RawDocument>, Unreadable> {
    let found = match value {
        RawBsonRef::Document(document) => document,
        RawBsonRef::Array(array) => RawDocument::from_bytes(array.as_bytes())?,
        RawBsonRef::JavaScriptCodeWithScope(code) => code.scope,
        _ => return Ok(None),
    };
    if depth == DEPTH_MAX { Err(Unreadable) } else { Ok(Some(found)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{RawBson, RawDocumentBuf, RawJavaScriptCodeWithScope, rawdoc};

    fn by_uuid() -> bson::Binary {
        bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] }
    }

    fn of(read_only: bool, command: &RawDocument) -> String {
        match (MongoAccess { read_only }).verdict(command, false) {
            MongoVerdict::Passes => "passes".to_owned(),
            MongoVerdict::Hello => "hello".to_owned(),
            MongoVerdict::Refused(words) => words,
        }
    }

    #[test]
    fn the_command_lists_parse_and_no_reading_command_is_always_refused() {
        assert!(REFUSED.len() > 40 && READING.len() > 25);
        for refusal in &*REFUSED {
            assert!(!refusal.name.is_empty() || refusal.is_prefix, "{}", refusal.reason);
            let always = refusal.arguments.is_empty();
            let clash = READING.iter().find(|name| name.to_lowercase() == refusal.name);
            assert!(clash.is_none() || !always, "{clash:?}");
        }
    }

    #[test]
    fn a_command_is_checked_by_its_first_field_and_its_only_database() {
        for (command, expected) in [
            (rawdoc! { "find": "items", "$db": "app" }, "passes"),
            (rawdoc! { "find": "items", "getParameter": 1, "$db": "app" }, "passes"),
            (
                rawdoc! { "getParameter": 1, "find": "items", "$db": "app" },
                "getParameter is refused",
            ),
            (rawdoc! { "GetParameter": 1, "$db": "app" }, "GetParameter is refused"),
            (rawdoc! { "hello": 1, "$db": "app" }, "hello"),
            (rawdoc! { "usersInfo": 1, "$db": "app" }, "passes"),
            (rawdoc! { "usersInfo": 1, "showCredentials": false, "$db": "app" }, "passes"),
            (rawdoc! { "usersInfo": 1, "showCredentials": 1, "$db": "app" }, "reads credentials"),
            (rawdoc! { "find": "items" }, "no BSON document"),
            (rawdoc! { "find": "items", "$db": 1 }, "no BSON document"),
            (rawdoc! { "find": "items", "$db": "app", "$db": "admin" }, "no BSON document"),
            (rawdoc! { "find": "system.users", "$db": "admin" }, "has credentials"),
            (rawdoc! { "find": "system.users", "$db": "app" }, "passes"),
            (rawdoc! { "find": by_uuid(), "$db": "admin" }, "has credentials"),
            (
                rawdoc! { "renameCollection": "local.oplog.rs", "to": "app.a", "$db": "admin" },
                "has c",
            ),
            (rawdoc! { "renameCollection": "app.a", "to": "app.b", "$db": "admin" }, "passes"),
            (
                rawdoc! { "insert": "a", "documents": [{ "a": "local.oplog.rs" }], "$db": "app" },
                "passes",
            ),
            (rawdoc! { "bulkWrite": 1, "$db": "admin" }, "bulkWrite is refused"),
            (rawdoc! { "killSessions": [], "$db": "app" }, "killSessions is refused"),
            (rawdoc! { "find": by_uuid(), "$db": "app" }, "passes"),
            (rawdoc! { "explain": { "currentOp": 1 }, "$db": "admin" }, "currentOp is refused"),
            (rawdoc! { "explain": 1, "$db": "admin" }, "no BSON document"),
            (rawdoc! { "insert": "items", "$db": "app" }, "passes"),
            (rawdoc! { "profile": -1, "$db": "app" }, "profile is refused"),
            (rawdoc! { "find": "system.profile", "$db": "app" }, "commands of others"),
            (
                rawdoc! { "explain": { "count": "system.profile" }, "$db": "app" },
                "commands of others",
            ),
            (
                rawdoc! { "aggregate": "a", "pipeline": [{ "$lookup": { "from": "system.profile" } }], "$db": "app" },
                "commands of others",
            ),
            (
                rawdoc! { "aggregate": "a", "pipeline": [{ "$unionWith": "system.profile" }], "$db": "app" },
                "commands of others",
            ),
            (rawdoc! { "renameCollection": "app.system.profile", "$db": "admin" }, "of others"),
            (
                rawdoc! { "find": "a", "filter": { "name": "system.profile" }, "$db": "app" },
                "passes",
            ),
            (rawdoc! { "aggregate": "a", "pipeline": [{ "$out": "b" }], "$db": "app" }, "passes"),
        ] {
            let found = of(false, &command);
            assert!(found.contains(expected), "{command:?}: {found}");
        }
    }

    #[test]
    fn a_collection_with_credentials_is_closed_from_other_databases_too() {
        let lookup = |database: &str, collection: &str| {
            rawdoc! {
                "aggregate": "orders", "cursor": {}, "$db": "app",
                "pipeline": [{ "$facet": { "a": [{ "$lookup": {
                    "from": { "db": database, "coll": collection }, "pipeline": [], "as": "x",
                } }] } }],
            }
        };
        for (database, collection) in [
            ("local", "oplog.rs"),
            ("admin", "system.users"),
            ("config", "external_validation_keys"),
        ] {
            let command = lookup(database, collection);
            let explained = rawdoc! { "explain": command.clone(), "$db": "app" };
            let view = rawdoc! {
                "create": "v", "viewOn": "orders", "$db": "app",
                "pipeline": [{ "$unionWith": { "coll": collection, "db": database } }],
            };
            let twice = rawdoc! {
                "aggregate": "orders", "$db": "app",
                "pipeline": [{ "$out": { "db": "app", "db": database, "coll": collection } }],
            };
            for command in [command, explained, view, twice] {
                let found = of(false, &command);
                assert!(found.contains("has credentials of the server"), "{command:?}: {found}");
            }
        }
        for (database, collection) in [("local", "startup_log"), ("app", "oplog.rs")] {
            assert_eq!(of(false, &lookup(database, collection)), "passes");
        }
    }

    /// Servers take a symbol for a string. What is neither text nor a plain value names nothing that could be checked.
    #[test]
    fn a_name_of_any_type_that_a_server_may_read_as_one_is_checked() {
        let code = |text: &str| RawBson::JavaScriptCode(text.to_owned());
        let symbol = |text: &str| RawBson::Symbol(text.to_owned());
        let scoped = |text: &str| {
            let (code, scope) = (text.to_owned(), RawDocumentBuf::new());
            RawBson::JavaScriptCodeWithScope(RawJavaScriptCodeWithScope { code, scope })
        };
        let types: [&dyn Fn(&str) -> RawBson; 3] = [&code, &symbol, &scoped];
        for name in types {
            let users = || name("system.users");
            let from = rawdoc! { "db": name("admin"), "coll": users() };
            for command in [
                rawdoc! { "find": users(), "$db": "admin" },
                rawdoc! { "getMore": 1_i64, "collection": users(), "$db": "admin" },
                rawdoc! { "explain": { "find": users() }, "$db": "admin" },
                rawdoc! { "renameCollection": name("local.oplog.rs"), "to": "app.a", "$db": "admin" },
                rawdoc! { "aggregate": "a", "pipeline": [{ "$lookup": { "from": from } }], "$db": "app" },
            ] {
                let found = of(false, &command);
                assert!(found.contains("has credentials of the server"), "{command:?}: {found}");
            }
            let of_app = rawdoc! { "find": users(), "$db": name("app") };
            assert!(of(false, &of_app).contains("no BSON document"), "{of_app:?}");
            assert_eq!(of(false, &rawdoc! { "find": users(), "$db": "app" }), "passes");
        }
        for value in
            [RawBson::ObjectId(bson::oid::ObjectId::new()), RawBson::Undefined, RawBson::MinKey]
        {
            let command = rawdoc! { "find": value, "$db": "admin" };
            assert!(of(false, &command).contains("has credentials"), "{command:?}");
        }
        for command in [
            rawdoc! { "ping": 1, "$db": "admin" },
            rawdoc! { "ping": true, "$db": "admin" },
            rawdoc! { "aggregate": 1.0, "pipeline": [], "$db": "admin" },
            rawdoc! { "find": symbol("items"), "$db": "admin" },
        ] {
            assert_eq!(of(false, &command), "passes", "{command:?}");
        }
    }

    #[test]
    fn a_document_that_nests_too_deep_or_is_cut_is_refused() {
        let mut deep = rawdoc! { "a": 1 };
        for _ in 0..300 {
            deep = rawdoc! { "a": deep };
        }
        let command = rawdoc! { "find": "items", "filter": deep, "$db": "app" };
        assert!(of(true, &command).contains("no BSON document"));
        let mut bytes = rawdoc! { "find": "items", "$db": "app" }.into_bytes();
        // The end of the document comes early.
        bytes[4] = 0;
        assert!(of(false, RawDocument::from_bytes(&bytes).unwrap()).contains("no BSON document"));
    }

    #[test]
    fn a_read_only_session_sends_commands_that_read() {
        for name in ["find", "count", "distinct", "listCollections", "commitTransaction", "ping"] {
            let mut command = RawDocumentBuf::new();
            command.append(bson::raw::CString::try_from(name).unwrap(), "items");
            command.append(bson::raw::cstr!("$db"), "app");
            assert_eq!(of(true, &command), "passes", "{name}");
        }
        let grouped = rawdoc! {
            "aggregate": "items", "$db": "app",
            "pipeline": [{ "$group": { "_id": 1, "all": { "$mergeObjects": "$out" } } }],
        };
        assert_eq!(of(true, &grouped), "passes");
    }
}
