//! `keyward service install` in a chroot that holds the program, a shell and a stand-in for `systemctl`: what it writes
//! starts the gateway.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use test_support::pki::pki;

const BUILT: &str = env!("CARGO_BIN_EXE_keyward");
const PROGRAM: &str = "/bin/keyward";
/// Of a person, in the chroot.
const HOME: &str = "home/ann";
const UNIT: &str = "etc/systemd/system/keyward.service";

/// A directory that is the root of the programs in it.
struct Chroot(TempDir);

/// A gateway that a unit starts; killed when dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Chroot {
    fn new() -> Self {
        // Beside the program, which is linked and not copied: it has 200 MB.
        let chroot = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let chroot = Self(chroot);
        chroot.install(Path::new(BUILT), PROGRAM);
        chroot.install(Path::new("/bin/sh"), "/bin/sh");
        // As the kernel has it for this program.
        chroot.folder("proc/self");
        let exe = chroot.path("proc/self/exe");
        std::os::unix::fs::symlink(PROGRAM, exe).expect("a link");
        // A system without root certificates reaches no upstream.
        chroot.file("etc/ssl/certs/ca-certificates.crt", &pki().pem);
        chroot.folder("var/lib");
        chroot.folder("home/ann");
        chroot
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn folder(&self, path: &str) {
        std::fs::create_dir_all(self.path(path)).expect("a folder");
    }

    fn file(&self, path: &str, text: &str) {
        self.folder(Path::new(path).parent().and_then(Path::to_str).expect("a folder"));
        std::fs::write(self.path(path), text).expect("a file");
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Links or copies a program, and copies the libraries that it loads.
    fn install(&self, program: &Path, at: &str) {
        let copy = |from: &Path, to: &str| {
            let to = self.path(to);
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            if from != Path::new(BUILT) || std::fs::hard_link(from, &to).is_err() {
                std::fs::copy(from, to).expect("a file");
            }
        };
        copy(program, at);
        let listed = Command::new("ldd").arg(program).output().expect("ldd lists libraries");
        let listed = String::from_utf8(listed.stdout).expect("text");
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            copy(Path::new(library), library);
        }
    }

    /// A service manager that notes its arguments and says that it did as asked, or did not.
    fn systemctl(&self, exit: u8) {
        let script = format!("#!/bin/sh\necho \"$*\" >> /systemctl.log\nexit {exit}\n");
        self.file("usr/bin/systemctl", &script);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path("usr/bin/systemctl"), mode).expect("ours");
    }

    /// A command with this root, in an environment of nothing but `PATH`.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = match rustix::process::geteuid().is_root() {
            true => Command::new("chroot"),
            false => {
                let mut command = Command::new("unshare");
                command.args(["--map-root-user", "chroot"]);
                command
            }
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("PATH", format!("{path}:/usr/local/bin:/usr/sbin:/usr/bin:/bin"));
        command.arg(self.0.path()).args(words);
        command
    }

    fn keyward(&self, words: &[&str]) -> Output {
        self.command(&[&[PROGRAM], words].concat()).output().expect("chroot runs")
    }

    fn says(&self, words: &[&str]) -> String {
        let output = self.keyward(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output));
        text(&output)
    }

    fn refuses(&self, words: &[&str], code: i32) -> String {
        let output = self.keyward(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output));
        text(&output)
    }

    /// What systemd would run.
    fn starts(&self, unit: &str) -> Serving {
        let unit = self.text(unit);
        let line =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
        let words: Vec<_> = line.split(' ').collect();
        let mut command = self.command(&words);
        command.stderr(Stdio::piped());
        // Free ports: the tests of other processes use the usual ones.
        for listener in ["PROXY", "ADMIN"] {
            command.env(format!("KEYWARD__LISTEN__{listener}"), "127.0.0.1:0");
        }
        let mut child = command.spawn().expect("chroot runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let serving = Serving(child);
        let mut said = String::new();
        while !said.contains("ready") {
            assert_ne!(lines.read_line(&mut said).expect("text"), 0, "{line} ended: {said}");
        }
        serving
    }
}

fn text(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(both).expect("text")
}

#[test]
fn an_installation_without_a_service_manager_says_what_to_run() {
    let chroot = Chroot::new();
    for prepare in [None, Some(1)] {
        prepare.inspect(|exit| chroot.systemctl(*exit));
        let said = chroot.refuses(&["service", "install"], 1);
        assert!(!said.contains("the gateway runs"), "{said}");
        assert!(said.contains("error: ") && said.contains("`systemctl daemon-reload`"), "{said}");
        let hint =
            "hint: /etc/systemd/system/keyward.service is written; run `systemctl daemon-reload`";
        assert!(said.contains(hint), "{said}");
        assert!(said.contains("--no-start"), "{said}");
    }
    let said = chroot.says(&["service", "install", "--no-start"]);
    assert!(said.contains("  systemctl enable --now keyward.service\n"), "{said}");
    let said = chroot.refuses(&["service", "install", "--user"], 2);
    assert!(said.contains("hint: set HOME, or "), "{said}");
}

#[test]
fn a_service_that_could_not_start_is_not_written() {
    let chroot = Chroot::new();
    chroot.systemctl(0);
    let at_home = &*format!("/{HOME}/keyward");
    chroot.install(Path::new(BUILT), at_home);
    std::fs::remove_file(chroot.path("proc/self/exe")).expect("a link");
    std::os::unix::fs::symlink(at_home, chroot.path("proc/self/exe")).expect("a link");
    let output = chroot.command(&[at_home, "service", "install"]).output().expect("chroot runs");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let reason = format!(
        "error: a service of the system cannot run {at_home}: its unit hides home directories"
    );
    assert!(said.contains(&reason), "{said}");
    let remedy = format!("hint: install -m 755 {at_home} /usr/local/bin/keyward");
    assert!(said.contains(&remedy), "{said}");
    let said = chroot.refuses(&["--data", "/srv/kw", "service", "install", "--system"], 1);
    // The program is asked first.
    assert!(said.contains(at_home), "{said}");
    std::fs::remove_file(chroot.path("proc/self/exe")).expect("a link");
    std::os::unix::fs::symlink(PROGRAM, chroot.path("proc/self/exe")).expect("a link");
    let said = chroot.refuses(&["--data", "/srv/kw", "service", "install"], 1);
    assert!(said.contains("error: a service of the system cannot write to /srv/kw"), "{said}");
    assert!(said.contains("hint: omit --data"), "{said}");
    assert!(!chroot.path(UNIT).exists() && chroot.text("systemctl.log").is_empty());
}

#[test]
fn the_unit_of_the_system_starts_a_gateway_without_a_configuration_and_with_one() {
    let chroot = Chroot::new();
    chroot.systemctl(0);
    let said = chroot.says(&["service", "install"]);
    assert!(said.contains("/etc/systemd/system/keyward.service written\n"), "{said}");
    assert!(said.contains("the gateway runs: keyward status\n"), "{said}");
    assert!(said.contains("note: there is no /etc/keyward/keyward.yaml"), "{said}");
    assert_eq!(chroot.text("systemctl.log"), "daemon-reload\nenable --now keyward.service\n");
    let start = format!("\nExecStart={PROGRAM} serve --data /var/lib/keyward\n");
    assert!(chroot.text(UNIT).contains(&start), "{}", chroot.text(UNIT));
    let serving = chroot.starts(UNIT);
    let status = chroot.says(&["status"]);
    assert!(status.contains("gateway       ready, version "), "{status}");
    assert!(status.contains("data          /var/lib/keyward\n"), "{status}");
    drop(serving);

    chroot.file("etc/keyward/keyward.yaml", "agents: [{ name: of-the-file }]\n");
    let said = chroot.refuses(&["service", "install"], 1);
    assert!(said.contains("has other content") && said.contains("--force"), "{said}");
    let said = chroot.says(&["service", "install", "--force"]);
    assert!(!said.contains("note: "), "{said}");
    let restart = "daemon-reload\nenable keyward.service\nrestart keyward.service\n";
    let calls = chroot.text("systemctl.log");
    assert!(calls.ends_with(restart), "the gateway goes on with the old unit: {calls}");
    assert!(chroot.text(UNIT).contains("serve --config /etc/keyward/keyward.yaml --data"));
    let serving = chroot.starts(UNIT);
    let agents = chroot.says(&["agent", "list"]);
    assert!(agents.contains("of-the-file"), "{agents}");
    drop(serving);

    let said = chroot.says(&["service", "uninstall"]);
    assert!(said.ends_with("removed; data and configuration stay\n"), "{said}");
    assert!(chroot.text("systemctl.log").ends_with("disable --now keyward.service\n"));
    assert!(!chroot.path(UNIT).exists());
    assert!(chroot.path("var/lib/keyward/master.key").exists());
    assert!(chroot.says(&["agent", "list"]).contains("of-the-file"), "the store is as it was");
}

#[test]
fn the_unit_of_a_user_is_in_their_home_and_starts_a_gateway() {
    let chroot = Chroot::new();
    chroot.systemctl(0);
    let install = |chroot: &Chroot| {
        let mut command = chroot.command(&[PROGRAM, "service", "install", "--user"]);
        command.env("HOME", format!("/{HOME}")).output().expect("chroot runs")
    };
    let installed = install(&chroot);
    assert!(installed.status.success(), "{}", text(&installed));
    let unit = "home/ann/.config/systemd/user/keyward.service";
    let calls = "--user daemon-reload\n--user enable --now keyward.service\n";
    assert_eq!(chroot.text("systemctl.log"), calls);
    assert!(!chroot.text(unit).contains("DynamicUser"), "{}", chroot.text(unit));
    let serving = chroot.starts(unit);
    drop(serving);
    assert!(text(&install(&chroot)).contains("is there already\n"));
}
