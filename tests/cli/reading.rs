//! Commands that read, on a machine where nothing is installed: they make nothing, anywhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// An empty home, and a data directory below it that is not there.
struct Bare {
    home: TempDir,
    /// Where the command is called, with the files that its arguments name.
    here: TempDir,
}

impl Bare {
    fn new() -> Self {
        let (home, here) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        let cases = "- { agent: ci, request: https://a.test/, expect: deny }\n";
        let provider = "id: acme\nname: Acme\nhosts: [a.test]\nauth: [{ id: k, kind: bearer }]\n";
        let plugin = "plugin: p\nversion: 1.0.0\nconnections: [{ slot: gh, provider: github }]\n";
        for (name, text) in [("cases", cases), ("provider", provider), ("plugin", plugin)] {
            std::fs::write(here.path().join(format!("{name}.yaml")), text).expect("a file");
        }
        Self { home, here }
    }

    fn run(&self, words: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_keyward"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("KEYWARD_DATA", self.home.path().join(".local/share/keyward"))
            .args(words.split(' '))
            .current_dir(self.here.path())
            .output()
            .expect("it runs")
    }

    /// What is below the home now.
    fn made(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(self.home.path(), &mut found);
        found
    }
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        found.push(path.display().to_string());
        if path.is_dir() {
            collect(&path, found);
        }
    }
}

/// Every command that adds nothing, as a person may type it. What changes a thing needs one that is there.
const READING: &[&str] = &[
    "agent assign ci --to-org",
    "agent bind ci work",
    "agent list",
    "agent pause ci",
    "agent remove ci",
    "agent resume ci",
    "agent set ci --allow none",
    "agent show ci",
    "agent token add ci",
    "agent token list ci",
    "agent token revoke ci tok_1",
    "agent unbind ci work",
    "app list",
    "app remove desk",
    "app set desk --client-id x",
    "app show desk",
    "apply cases.yaml --dry-run",
    "audit export",
    "audit query",
    "audit tail",
    "audit verify",
    "backup k.age --passphrase-file cases.yaml",
    "ca bundle",
    "ca rotate",
    "ca show",
    "ca trust --dry-run",
    "complete bash -- keyward agent show",
    "completions bash",
    "config check cases.yaml",
    "connect-link list",
    "connect-link revoke cns_1",
    "connect-link show cns_1",
    "connection assign work --shared",
    "connection consents cancel flw_1",
    "connection consents",
    "connection list",
    "connection pause work",
    "connection reconnect work --no-browser",
    "connection refresh work",
    "connection remove work",
    "connection request work /user",
    "connection resume work",
    "connection rotate confirm work",
    "connection rotate rollback work",
    "connection rotate work --secret-stdin token",
    "connection set work --timeout 5s",
    "connection show work",
    "connection test work",
    "connection usage work",
    "database-listener list",
    "database-listener remove local",
    "database-listener set local --at 127.0.0.1:5432",
    "database-listener show local",
    "doctor -- true",
    "doctor",
    "explain https://api.github.com/user --agent ci",
    "export --yaml",
    "health",
    "help agent",
    "honeytoken list",
    "honeytoken remove bait",
    "honeytoken show bait",
    "hook events ci",
    "hook list",
    "hook listen ci",
    "hook remove ci",
    "hook resend ci 1",
    "hook reveal ci",
    "hook rotate ci",
    "hook schemes",
    "hook set ci --pause",
    "hook show ci",
    "key list",
    "key rotate",
    "login list",
    "login revoke lgn_1",
    "login",
    "logs",
    "man",
    "org list",
    "org remove acme",
    "org show default",
    "plan",
    "plugin check plugin.yaml",
    "plugin list",
    "plugin reconnect digest",
    "plugin remove digest",
    "plugin set digest --slot gh=work",
    "plugin show digest",
    "provider actions github",
    "provider check provider.yaml",
    "provider list",
    "provider remove acme",
    "provider set provider.yaml",
    "provider show github",
    "reload",
    "restore cases.yaml --dry-run",
    "rule edit no --all-agents",
    "rule list",
    "rule move no --first",
    "rule remove no",
    "rule show no",
    "rule test cases.yaml",
    "service install --print",
    "service uninstall",
    "session add --agent ci --user ann",
    "session list",
    "session revoke ses_1",
    "session show ses_1",
    "source list",
    "source remove vault",
    "source set vault --ttl 1m",
    "source show vault",
    "source test vault",
    "status",
    "store check",
    "store copy --to postgres.yaml",
    "store replicas",
    "stream cut exc_1",
    "stream list",
    "token list",
    "token revoke pat_1",
    "usage",
    "user list",
    "user passkeys ann --remove",
    "user password ann --remove",
    "user totp ann --confirm 123456",
    "user remove ann",
    "user set ann --role auditor",
    "user show ann",
    "version",
    "webhook events",
    "webhook list",
    "webhook remove ops",
    "webhook rotate ops",
    "webhook set ops --pause",
    "webhook show ops",
    "webhook test ops",
    "whoami",
];

/// What makes an install, or something in it.
const MAKING: &[&str] = &[
    "agent add",
    "app add",
    "connect",
    "connect-link",
    "connection add",
    "env",
    "database-listener add",
    "honeytoken add",
    "hook add",
    "import",
    "init",
    "login-link",
    "org add",
    "plugin install",
    "provider add",
    "rule add",
    "run",
    "serve",
    "source add",
    "token add",
    "user add",
    "webhook add",
];

/// Every command without subcommands of its own.
fn leaves(command: &clap::Command, before: &str, found: &mut BTreeSet<String>) {
    let name = format!("{before}{}", command.get_name());
    let mut below = command.get_subcommands().peekable();
    // `connection rotate NAME` is one beside its own subcommands.
    if below.peek().is_none() || !command.is_subcommand_required_set() {
        found.insert(name.clone());
    }
    below.for_each(|one| leaves(one, &format!("{name} "), found));
}

#[test]
fn every_command_is_listed_as_one_that_reads_or_one_that_creates() {
    let mut all = BTreeSet::new();
    for command in keyward::cli::definition().get_subcommands() {
        leaves(command, "", &mut all);
    }
    let is_of = |command: &str, line: &str| {
        line == command || line.strip_prefix(command).is_some_and(|rest| rest.starts_with(' '))
    };
    let listed = |command: &String| READING.iter().chain(MAKING).any(|line| is_of(command, line));
    let unlisted: Vec<_> = all.iter().filter(|command| !listed(command)).collect();
    assert!(unlisted.is_empty(), "does it read or make? {unlisted:?}");
}

#[test]
fn a_command_that_only_reads_creates_no_file() {
    let all = |some: &[&str]| {
        let bare = Bare::new();
        for words in some {
            let output = bare.run(words);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_ne!(output.status.code(), Some(101), "{words}: {said}");
            assert_ne!(output.status.code(), Some(2), "{words}: {said}");
            assert_eq!(bare.made(), [""; 0], "{words} made something; it said: {said}");
        }
    };
    // Several processes at once: most of a command's time is its start.
    std::thread::scope(|scope| {
        READING.chunks(READING.len().div_ceil(8)).for_each(|some| drop(scope.spawn(|| all(some))));
    });
}

#[test]
fn without_a_data_directory_commands_say_so_and_list_the_built_in_providers() {
    let bare = Bare::new();
    let absent = format!("no data directory yet at {}", bare.home.path().display());
    for (words, code) in [
        ("connection list", 0),
        ("agent list", 0),
        ("connection show work", 5),
        ("agent remove ci", 5),
        ("ca show", 1),
        ("key list", 1),
    ] {
        let output = bare.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}: {said}");
        assert!(said.contains(&absent) && said.contains("`keyward serve`"), "{words}: {said}");
    }
    for words in [
        "provider list",
        "provider show github",
        "provider actions github",
        "provider check provider.yaml",
    ] {
        let output = bare.run(words);
        assert!(output.status.success() && output.stderr.is_empty(), "{words}: {output:?}");
        assert!(!output.stdout.is_empty(), "{words}");
    }
    let unknown = bare.run("provider show nowhere");
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!said.contains("data directory"), "the catalogue needs none: {said}");
}

#[test]
fn the_first_added_resource_creates_the_data_directory() {
    let bare = Bare::new();
    let added = bare.run("agent add ci");
    assert!(added.status.success(), "{added:?}");
    assert!(String::from_utf8_lossy(&added.stderr).contains("creating a new data directory"));
    let listed = bare.run("agent list");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("ci"), "{listed:?}");
    assert!(listed.stderr.is_empty(), "{listed:?}");
}

/// Only a change, or what makes connections, has a record.
#[test]
fn a_command_that_asks_an_installation_without_an_audit_log_creates_none() {
    let bare = Bare::new();
    assert!(bare.run("init").status.success());
    let audit = bare.home.path().join(".local/share/keyward/audit");
    for words in ["agent list", "audit query", "status", "explain https://a.test/", "doctor"] {
        let asked = bare.run(words);
        assert!(!audit.exists(), "{words}: {asked:?}");
    }
    assert!(bare.run("agent add ci").status.success() && audit.exists());
}

/// Without a CA in an install that has a store, what reads makes none, and hands none out. `env` writes the CA for programs,
/// so it makes one.
#[test]
fn a_lost_ca_is_created_again_by_env_and_not_by_commands_that_read() {
    let bare = Bare::new();
    assert!(bare.run("agent add ci").status.success());
    let ca = bare.home.path().join(".local/share/keyward/ca");
    std::fs::remove_dir_all(&ca).expect("it was made");
    for words in ["agent list", "agent show ci", "connection list", "rule list"] {
        let listed = bare.run(words);
        assert!(listed.status.success() && !ca.exists(), "{words}: {listed:?}");
    }
    for words in ["ca show", "ca bundle", "ca trust --dry-run"] {
        let shown = bare.run(words);
        let said = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(!shown.status.success() && said.contains("there is no CA yet"), "{shown:?}");
        assert!(!ca.exists(), "{words}");
    }
    let made = bare.run("env --agent ci");
    assert!(made.status.success() && ca.join("ca.pem").exists(), "{made:?}");
}
