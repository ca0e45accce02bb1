//! A PostgreSQL server of the system's packages, with TLS, on a free port of loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::stage::{first_files, installed};
use test_support::pki::pki;
use test_support::process::reserved_address;

/// The name that its certificate is for.
pub(crate) const NAME: &str = "db.acme.test";

/// A running server. Stopped when dropped.
pub(crate) struct Server {
    folder: TempDir,
    pub(crate) at: SocketAddr,
    /// The network namespace that it runs in, if not ours.
    namespace: Option<String>,
}

impl Server {
    /// With the database `app`, the table `t` of one row, and the role `app`, which owns both and logs in by SCRAM.
    pub(crate) fn start(password: &str) -> Self {
        Self::start_in(None, password)
    }

    /// The same in a network namespace, on all its addresses.
    pub(crate) fn start_in(namespace: Option<String>, password: &str) -> Self {
        let (folder, at) = (TempDir::new().expect("a directory"), reserved_address());
        let server = Self { folder, at, namespace };
        let data = server.data();
        server.own();
        let data_text = data.to_str().expect("UTF-8");
        first_files(&installed("real-postgres/postgres"), &data, || {
            let of = ["-D", data_text, "-U", "postgres", "-E", "UTF8", "--no-sync"];
            let access = ["--auth-local=trust", "--auth-host=scram-sha-256"];
            let made = server.as_owner("initdb", &[&of[..], &access].concat());
            assert!(made.status.success(), "{made:?}");
        });
        let (certificate, key) = pki().pem(&[NAME]);
        std::fs::write(data.join("server.crt"), certificate).expect("a file");
        std::fs::write(data.join("server.key"), key).expect("a file");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(data.join("server.key"), private).expect("ours");
        let settings = format!(
            "\nport = {}\nlisten_addresses = '{}'\nunix_socket_directories = '{}'\nssl = on\nfsync = off\n\
             max_connections = 50\nmax_prepared_transactions = 5\n",
            at.port(),
            if server.namespace.is_some() { "*" } else { "127.0.0.1" },
            server.folder.path().display()
        );
        let file = data.join("postgresql.conf");
        let usual = std::fs::read_to_string(&file).expect("initdb wrote it");
        std::fs::write(&file, usual + &settings).expect("a file");
        let rules = data.join("pg_hba.conf");
        let usual = std::fs::read_to_string(&rules).expect("initdb wrote it");
        let network = "host all all samenet scram-sha-256\n";
        std::fs::write(rules, usual + network).expect("a file");
        server.own();
        server.run();
        server.sql("postgres", &format!("CREATE ROLE app LOGIN PASSWORD '{password}'"));
        server.sql("postgres", "CREATE DATABASE app OWNER app");
        server.sql("app", "SET ROLE app; CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
        server
    }

    /// A standby, which replays its log.
    pub(crate) fn standby(&self) -> Self {
        let (folder, at) = (TempDir::new().expect("a directory"), reserved_address());
        let standby = Self { folder, at, namespace: None };
        standby.own();
        let (data, port) = (standby.data(), self.at.port().to_string());
        let [data_text, socket] =
            [data.as_path(), self.folder.path()].map(|path| path.to_str().expect("UTF-8"));
        let from = ["-h", socket, "-p", &port, "-U", "postgres", "-D", data_text];
        let how = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"];
        let copied = standby.as_owner("pg_basebackup", &[&from[..], &how].concat());
        assert!(copied.status.success(), "{copied:?}");
        let file = data.join("postgresql.conf");
        let usual = std::fs::read_to_string(&file).expect("it is copied");
        let own = format!(
            "\nport = {}\nunix_socket_directories = '{}'\n",
            at.port(),
            standby.folder.path().display()
        );
        std::fs::write(&file, usual + &own).expect("a file");
        standby.run();
        standby
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        let data = self.data();
        let data = data.to_str().expect("UTF-8");
        let promoted = self.as_owner("pg_ctl", &["-D", data, "-w", "promote"]);
        assert!(promoted.status.success(), "{promoted:?}");
    }

    /// Starts it, again too.
    pub(crate) fn run(&self) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        let [data, log] = [&data, &log].map(|path| path.to_str().expect("UTF-8"));
        let started = self.as_owner("pg_ctl", &["-D", data, "-l", log, "-w", "start"]);
        assert!(started.status.success(), "{started:?}: {:?}", std::fs::read_to_string(log));
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn stop(&self) {
        let data = self.data();
        let data = data.to_str().expect("UTF-8");
        self.as_owner("pg_ctl", &["-D", data, "-m", "immediate", "-w", "stop"]);
    }

    /// A signal for all its processes: SIGSTOP and SIGCONT.
    pub(crate) fn signal(&self, signal: Signal) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("it runs");
        let main: i32 = file.lines().next().and_then(|line| line.parse().ok()).expect("its id");
        // The main process first: it makes no others while it is stopped.
        for process in std::iter::once(main).chain(children(main)) {
            let process = Pid::from_raw(process).expect("not zero");
            match kill_process(process, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What the superuser gets, past the gateway.
    pub(crate) fn sql(&self, database: &str, text: &str) -> String {
        let output = self.psql(database, text);
        String::from_utf8_lossy(&output).trim_end().to_owned()
    }

    /// All rows of all tables, with their bytes as they are.
    pub(crate) fn rows(&self, database: &str) -> Vec<u8> {
        let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                      WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let tables = self.sql(database, tables);
        let copy = |table| self.psql(database, &format!("COPY {table} TO STDOUT (FORMAT binary)"));
        tables.lines().flat_map(copy).collect()
    }

    fn psql(&self, database: &str, text: &str) -> Vec<u8> {
        let mut command = Command::new("psql");
        let socket = self.folder.path();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PGHOST", socket).env("PGPORT", self.at.port().to_string());
        command.args(["-U", "postgres", "-d", database, "-v", "ON_ERROR_STOP=1", "-qAtc", text]);
        let output = command.output().expect("`tests/run` installs it");
        assert!(output.status.success(), "{text}: {output:?}");
        output.stdout
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The server does not run as root: its packages make a user for it.
    fn own(&self) {
        if is_root() {
            let owned =
                Command::new("chown").args(["-R", "postgres"]).arg(self.folder.path()).status();
            assert!(owned.expect("chown is there").success());
        }
    }

    fn as_owner(&self, program: &str, arguments: &[&str]) -> Output {
        // Where its package put it: the server's user may not reach the target directory.
        let programs =
            installed("real-postgres").canonicalize().expect("`tests/run` makes the link");
        let program = programs.join(program);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(program);
                command
            }
            false => Command::new(program),
        };
        if let Some(namespace) = &self.namespace {
            let mut within = Command::new("ip");
            within.args(["netns", "exec", namespace]).arg(command.get_program());
            within.args(command.get_args());
            command = within;
        }
        // The server inherits what is open here, and `output` would wait for it.
        command.args(arguments).current_dir(self.folder.path());
        command.stdin(std::process::Stdio::null());
        let out = std::fs::File::create(self.folder.path().join("said")).expect("a file");
        command.stderr(out.try_clone().expect("a file")).stdout(out);
        let status = command.status().expect("`tests/run` installs it");
        let said = std::fs::read(self.folder.path().join("said")).unwrap_or_default();
        Output { status, stdout: said, stderr: Vec::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Processes whose parent is this one, as proc_pid_stat(5) says.
fn children(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").expect("Linux").filter_map(Result::ok);
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |id: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    all.filter(is_child).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
