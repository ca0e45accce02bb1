//! A PostgreSQL server of the system's packages, on a Unix socket.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::store::postgres::{PostgresSettings, PostgresStore};

/// A running server. It stops when this is dropped, or when the test's process ends.
pub(super) struct Server {
    folder: PathBuf,
    made: AtomicUsize,
    /// Waits for the end of its standard input, then stops the server and removes its files.
    _guard: Child,
}

impl Server {
    /// The server of this process.
    pub(super) fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres").arg(&folder).status().unwrap();
            assert!(owned.success());
        }
        let data = folder.join("data");
        let made = as_owner(
            &folder,
            &["initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
        );
        assert!(made, "initdb failed in {}", folder.display());
        let settings = "unix_socket_directories = '..'\nlisten_addresses = ''\nfsync = off\nmax_connections = 90\n";
        let file = data.join("postgresql.conf");
        let usual = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, usual + settings).unwrap();
        let stop = "cat; PATH=$0:$PATH; pg_ctl -D data -m immediate -w stop; rm -rf \"$PWD\"";
        let mut guard = owner("sh", &folder);
        guard.args(["-c", stop]).arg(programs()).stdin(Stdio::piped());
        let server = Self { folder, made: AtomicUsize::new(0), _guard: guard.spawn().unwrap() };
        server.run();
        server
    }

    pub(super) fn run(&self) {
        let started = as_owner(&self.folder, &["pg_ctl", "-D", "data", "-l", "log", "-w", "start"]);
        assert!(started, "{:?}", std::fs::read_to_string(self.folder.join("log")));
    }

    pub(super) fn stop(&self) {
        assert!(as_owner(&self.folder, &["pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop"]));
    }

    /// The folder of its socket.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new, empty database.
    pub(super) fn database(&self) -> String {
        let name = format!("d{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    pub(super) fn sql(&self, database: &str, text: &str) {
        let folder = self.folder.to_str().unwrap();
        let arguments = [
            "psql",
            "-h",
            folder,
            "-U",
            "postgres",
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
            "-qc",
            text,
        ];
        assert!(as_owner(&self.folder, &arguments), "{text}");
    }

    pub(super) fn settings(&self, database: &str) -> PostgresSettings {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).user("postgres").dbname(database);
        let timeout = Duration::from_secs(20);
        PostgresSettings { database: config, tls: None, streams_max: 8, timeout }
    }

    pub(super) async fn open(&self) -> PostgresStore {
        self.open_in(&self.database()).await
    }

    pub(super) async fn open_in(&self, database: &str) -> PostgresStore {
        PostgresStore::open(self.settings(database)).await.unwrap()
    }
}

/// The server's programs: `tests/run` makes the link in the target directory.
fn programs() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).unwrap().join("tmp/real-postgres")
}

/// A command as the user of the server, which does not run as root.
fn owner(program: &str, folder: &Path) -> Command {
    let mut command = match rustix::process::geteuid().is_root() {
        true => {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", program]);
            command
        }
        false => Command::new(program),
    };
    // The server must not inherit the standard streams of the test.
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn as_owner(folder: &Path, words: &[&str]) -> bool {
    let program = programs().join(words[0]);
    let mut command = owner(program.to_str().unwrap(), folder);
    command.args(&words[1..]).status().unwrap().success()
}
