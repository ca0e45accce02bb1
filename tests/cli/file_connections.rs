//! Connections to files: what is refused as a path, what a test says of it, and what programs of `keyward run` get. No request
//! uses one.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::Value;

use test_support::cli::Cli;
use test_support::finished::{Finished, finished};
use test_support::install::Install;
use test_support::*;

/// How a database file begins (<https://www.sqlite.org/fileformat2.html#magic_header_string>).
const HEADER: &[u8] = b"SQLite format 3\0";

/// An installation with the agent `bot`, and a folder `files` with the database `app.db`.
struct Desk {
    install: Install,
    _origin: Origin,
}

impl Desk {
    fn new() -> Self {
        let (install, origin) = Install::simple();
        let desk = Self { install, _origin: origin };
        std::fs::create_dir(desk.at("")).expect("a folder");
        std::fs::write(desk.at("app.db"), [HEADER, &[0; 84]].concat()).expect("a file");
        desk.says(&["agent", "add", "bot"]);
        desk
    }

    /// A file in the folder.
    fn at(&self, name: &str) -> PathBuf {
        self.install.folder().join("files").join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().expect("UTF-8").to_owned()
    }

    fn keyward(&self, arguments: &[&str]) -> Finished {
        finished(self.install.keyward(arguments), "")
    }

    fn says(&self, arguments: &[&str]) -> String {
        self.keyward(arguments).ok()
    }

    /// Adds the connection `main` to a path.
    fn add(&self, path: &str, more: &[&str]) -> Finished {
        let path = format!("path={path}");
        let add = ["connection", "add", "sqlite", "--name", "main", "--field", &path];
        self.keyward(&[&add[..], more].concat())
    }

    /// Adds it, and binds it to `bot`.
    fn bound(&self, path: &str, more: &[&str]) {
        self.add(path, more).ok();
        self.says(&["agent", "bind", "bot", "main"]);
    }

    /// What a program of `bot` has in a variable.
    fn variable(&self, name: &str) -> String {
        let script = format!("printf %s \"${name}\"");
        self.says(&["run", "-q", "--agent", "bot", "--", "sh", "-c", &script])
    }

    fn bindings(&self) -> Value {
        self.install.json(&["agent", "show", "bot"])["bindings"].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_no_program_may_get_is_refused_and_nothing_is_stored() {
    let desk = Desk::new();
    let data = desk.install.data();
    symlink(&data, desk.at("innocent")).expect("a link");
    symlink(data.join("master.key"), desk.at("key.db")).expect("a link");
    symlink(data.join("not-yet"), desk.at("later.db")).expect("a link");
    let (own, tested): (_, &[&str]) = ("leads to Keyward's own files", &[]);
    for (path, says) in [
        ("files/app.db".to_owned(), "must be absolute"),
        ("~/app.db".to_owned(), "must be absolute"),
        (desk.text("app.db?mode=rw"), "which end a path"),
        (desk.text("a#b.db"), "which end a path"),
        (desk.text("a\nPATH=b.db"), "line break"),
        (desk.text("../data/master.key"), "`..`"),
        (data.display().to_string(), own),
        (data.join("master.key").display().to_string(), own),
        (data.join("new.db").display().to_string(), own),
        (desk.install.folder().display().to_string(), own),
        (desk.text("innocent/master.key"), own),
        (desk.text("key.db"), own),
        (desk.text("later.db"), own),
        ("/".to_owned(), own),
    ] {
        for more in [tested, &["--no-test"]] {
            let Finished { code, err, .. } = desk.add(&path, more);
            assert!(code != 0 && err.contains("`path`") && err.contains(says), "{path}: {err}");
        }
    }
    assert_eq!(desk.keyward(&["connection", "show", "main"]).code, 5, "nothing is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_no_database_stays_a_draft_with_the_reason() {
    let desk = Desk::new();
    std::fs::create_dir(desk.at("folder")).expect("a folder");
    std::fs::write(desk.at("text.db"), "SQLite format 2").expect("a file");
    std::fs::write(desk.at("empty.db"), "").expect("a file");
    for (name, says) in [
        ("absent.db", "does not exist"),
        ("folder", "is no file of SQLite: it is a folder"),
        ("text.db", "it does not begin as one does"),
        ("empty.db", "it is empty"),
        ("app.db/below", "cannot read it"),
    ] {
        let err = desk.add(&desk.text(name), &[]).failed(1);
        assert!(err.contains(says) && err.contains("it is kept as a draft"), "{name}: {err}");
        desk.says(&["connection", "remove", "main", "--yes"]);
    }
    desk.add(&desk.text("absent.db"), &["--no-test"]).ok();
    let err = desk.keyward(&["connection", "test", "main"]).failed(1);
    assert!(err.contains("does not exist on the gateway's machine"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_finds_the_file_by_its_variables_and_reading_only_is_said_to_be_advisory() {
    let desk = Desk::new();
    let path = desk.text("app.db");
    desk.bound(&path, &["--read-only", "true"]);
    assert_eq!(desk.variable("DATABASE_URL"), format!("sqlite:///{path}?mode=ro"));
    assert_eq!(desk.variable("SQLITE_URI"), format!("file:{path}?mode=ro"));
    let shown = desk.says(&["connection", "show", "main"]);
    assert!(shown.contains("read-only, advisory: the rights of the agent's user"), "{shown}");
    assert!(shown.contains(&path) && !shown.contains("base URL"), "{shown}");
    let facts = desk.install.json(&["connection", "show", "main"])["file"].clone();
    let expected = serde_json::json!({ "path": path, "read_only": true, "advisory": true });
    assert_eq!(facts, expected);
    let tested = desk.says(&["connection", "test", "main"]);
    assert!(tested.contains("is a file of SQLite: readable and writable"), "{tested}");
    assert!(tested.contains("read_only is advisory"), "{tested}");
    desk.says(&["connection", "set", "main", "--read-only", "false"]);
    assert_eq!(desk.variable("DATABASE_URL"), format!("sqlite:///{path}"));
    let bindings = desk.bindings();
    assert_eq!(bindings[0]["placeholders"], serde_json::json!({}));
    desk.says(&["connection", "pause", "main"]);
    assert_eq!(desk.variable("DATABASE_URL"), "");
    desk.says(&["connection", "resume", "main"]);
    desk.says(&["agent", "unbind", "bot", "main"]);
    assert_eq!(desk.variable("DATABASE_URL"), "");
    let log = std::fs::read_to_string(desk.install.data().join("audit/audit.jsonl"));
    let log = log.expect("the audit log");
    let records: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect();
    let why = |record: &Value| record["change"]["why"].as_str().map(str::to_owned);
    let started = records.iter().filter_map(why).filter(|why| why.starts_with("with files: "));
    let expected =
        [format!("with files: main {path} (read-only)"), format!("with files: main {path}")];
    let mut started: Vec<_> = started.collect();
    started.dedup();
    assert_eq!(started, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_turned_to_keywards_own_files_later_gives_no_variable() {
    let desk = Desk::new();
    symlink(desk.at("app.db"), desk.at("link.db")).expect("a link");
    let path = desk.text("link.db");
    desk.bound(&path, &[]);
    assert_eq!(desk.variable("SQLITE_URI"), format!("file:{path}"));
    std::fs::remove_file(desk.at("link.db")).expect("ours");
    symlink(desk.install.data().join("master.key"), desk.at("link.db")).expect("a link");
    assert_eq!(desk.variable("SQLITE_URI"), "");
    assert_eq!(desk.bindings()[0]["env"], serde_json::json!({}));
    let err = desk.keyward(&["connection", "test", "main"]).failed(1);
    assert!(err.contains("leads to Keyward's own files"), "{err}");
    let moved = format!("path={}", desk.text("link.db"));
    let rotate = ["connection", "rotate", "main", "--no-test", "--field", &moved];
    let Finished { code, err, .. } = desk.keyward(&rotate);
    assert!(code != 0 && err.contains("leads to Keyward's own files"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_requests_and_of_sessions_have_no_effect_on_a_file() {
    let desk = Desk::new();
    let path = desk.text("app.db");
    for (setting, value) in [("--timeout", "30s"), ("--rows-max", "5"), ("--header", "x-a: 1")] {
        let Finished { code, err, .. } = desk.add(&path, &[setting, value]);
        assert!(code != 0 && err.contains("has no effect"), "{setting}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_file_is_the_one_of_the_variables_only_as_the_default() {
    let desk = Desk::new();
    std::fs::copy(desk.at("app.db"), desk.at("second.db")).expect("a file");
    desk.bound(&desk.text("app.db"), &[]);
    let second = format!("path={}", desk.text("second.db"));
    desk.says(&["connection", "add", "sqlite", "--name", "second", "--field", &second]);
    desk.says(&["agent", "bind", "bot", "second"]);
    assert_eq!(desk.variable("SQLITE_URI"), format!("file:{}", desk.text("app.db")));
    desk.says(&["agent", "bind", "bot", "second", "--default"]);
    assert_eq!(desk.variable("SQLITE_URI"), format!("file:{}", desk.text("second.db")));
}

#[test]
fn a_plan_refuses_the_declared_paths_that_a_start_would_refuse() {
    let cli = Cli::new();
    let own = cli.data().join("master.key").display().to_string();
    for (rest, says) in [
        ("fields: { path: app.db }".to_owned(), "must be absolute"),
        ("fields: { path: '/srv/app.db?mode=rw' }".to_owned(), "which end a path"),
        (format!("fields: {{ path: {own} }}"), "leads to Keyward's own files"),
        ("fields: {}".to_owned(), "field `path` is missing"),
        ("fields: { path: /srv/app.db }, settings: { rows_max: 5 }".to_owned(), "has no effect"),
        ("fields: { path: /srv/app.db }, variables: { host: h }".to_owned(), "no variable `host`"),
    ] {
        let yaml = format!("connections: [{{ name: db, provider: sqlite, {rest} }}]\n");
        let file = cli.file("new.yaml", &yaml);
        let Finished { code, err, .. } = cli.run(&["plan", file.to_str().expect("UTF-8")]);
        assert!(code != 0 && err.contains(says), "{rest}: {err}");
    }
    let good = "connections: [{ name: db, provider: sqlite, fields: { path: /srv/app.db } }]\n";
    let file = cli.file("new.yaml", good);
    let planned = cli.run(&["plan", file.to_str().expect("UTF-8")]).ok();
    assert!(planned.contains("db"), "{planned}");
}
