//! Python's own SQLite and SQLAlchemy open the file of a connection by the variables that `keyward run` sets.

use std::process::Command;

use test_support::finished::finished;
use test_support::install::Install;
use test_support::*;

use crate::stage::installed;

/// Prints what it reads, and whether it may write.
const BY_URI: &str = "
import os, sqlite3
db = sqlite3.connect(os.environ['SQLITE_URI'], uri=True)
print(db.execute('select name from people').fetchall())
try:
    db.execute('insert into people values (?)', ('bo',))
    db.commit()
    print('written')
except sqlite3.OperationalError as error:
    print(error)
";

/// The same by the URL of frameworks.
const BY_URL: &str = "
import os, sqlalchemy
engine = sqlalchemy.create_engine(os.environ['DATABASE_URL'])
with engine.connect() as db:
    print(db.execute(sqlalchemy.text('select name from people')).all())
";

/// An installation whose agent `bot` may use a database with one row.
fn install(read_only: &str) -> (Install, Origin) {
    let (install, origin) = Install::simple();
    let file = install.folder().join("my people.db");
    let script = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); \
                  db.execute('create table people (name text)'); \
                  db.execute('insert into people values (?)', ('ada',)); db.commit()";
    let made = Command::new("python3").args(["-c", script]).arg(&file).status().expect("it runs");
    assert!(made.success());
    let path = format!("path={}", file.display());
    let add = ["connection", "add", "sqlite", "--name", "main", "--read-only", read_only];
    for arguments in [
        &[&add[..], &["--field", &path]].concat()[..],
        &["agent", "add", "bot"],
        &["agent", "bind", "bot", "main"],
    ] {
        finished(install.keyward(arguments), "").ok();
    }
    (install, origin)
}

fn said(install: &Install, python: &str, script: &str) -> String {
    let run = ["run", "-q", "--agent", "bot", "--", python, "-c", script];
    finished(install.keyward(&run), "").ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_sqlite_reads_the_file_and_writes_only_where_the_connection_says_so() {
    let (read_only, _origin) = install("true");
    let said_there = said(&read_only, "python3", BY_URI);
    assert_eq!(said_there, "[('ada',)]\nattempt to write a readonly database\n");
    let (writable, _origin) = install("false");
    assert_eq!(said(&writable, "python3", BY_URI), "[('ada',)]\nwritten\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlalchemy_opens_the_url() {
    let python = installed("real-venv/bin/python");
    let python = python.to_str().expect("UTF-8");
    for read_only in ["true", "false"] {
        let (install, _origin) = install(read_only);
        assert_eq!(said(&install, python, BY_URL), "[('ada',)]\n");
    }
}
