//! OpenSSH with Keyward's agent: `ssh` in a run logs in at `sshd` with a key of the vault, at the servers and as the
//! accounts of the connection, and nowhere else.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::stage::{run, said, service};
use test_support::canary::Canary;
use test_support::install::Install;
use test_support::*;

/// A server on loopback with a host key of its own. Each stream has a process of sshd.
struct Server {
    port: u16,
    /// A line of `known_hosts`.
    known: String,
}

/// A key, servers, and a user whose agent `ci` may log in with it. Connection `other` has the same key for the last server,
/// and agent `both` may use both connections.
struct Site {
    install: Install,
    folder: TempDir,
    /// The first two are those of the connection.
    servers: [Server; 3],
    key: Canary,
}

impl Server {
    fn start(folder: &Path, name: &str, kind: &str) -> Self {
        let own = folder.join(name);
        std::fs::create_dir(&own).expect("a directory");
        keygen(&own.join("host_key"), kind);
        let config = own.join("sshd_config");
        let at = |file: &Path| file.display().to_string();
        let lines = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n",
            at(&own.join("host_key")),
            at(&folder.join("key.pub")),
        );
        std::fs::write(&config, lines).expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let output = OwnedFd::from(stream.try_clone().expect("a descriptor"));
                // By its path, because it starts itself again.
                let mut sshd = Command::new(service("sshd"));
                sshd.args(["-i", "-f"]).arg(&config).arg("-E").arg(own.join("log"));
                sshd.stdin(Stdio::from(OwnedFd::from(stream))).stdout(Stdio::from(output));
                let mut sshd = sshd.stderr(Stdio::null()).spawn().expect("`tests/run` installs it");
                std::thread::spawn(move || sshd.wait());
            }
        });
        let public = std::fs::read_to_string(folder.join(name).join("host_key.pub"));
        let known = format!("[127.0.0.1]:{port} {}", public.expect("a key").trim());
        Self { port, known }
    }
}

impl Site {
    /// `more` is more of the connection's fields.
    async fn new(more: &str) -> Self {
        Self::keyed("{ file: KEY }", more).await
    }

    /// The same with the private key where `kept` says. KEY is its file, FOLDER the file's folder.
    async fn keyed(kept: &str, more: &str) -> Self {
        Self::of_kind("ed25519", kept, more).await
    }

    /// The same with keys of this kind, of the user and of the servers.
    async fn of_kind(kind: &str, kept: &str, more: &str) -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        // Where sshd of root goes without rights; a package's start script makes it.
        drop(std::fs::create_dir_all("/run/sshd"));
        keygen(&folder.path().join("key"), kind);
        let servers = ["first", "second", "stranger"];
        let servers = servers.map(|name| Server::start(folder.path(), name, kind));
        let known = servers.each_ref().map(|server| server.known.as_str());
        std::fs::write(folder.path().join("known_hosts"), known.join("\n")).expect("a file");
        let config = format!(
            "UserKnownHostsFile {}\nGlobalKnownHostsFile none\nIdentityFile none\nBatchMode yes\n",
            folder.path().join("known_hosts").display()
        );
        std::fs::write(folder.path().join("ssh_config"), config).expect("a file");
        let private = folder.path().join("key");
        let kept = kept.replace("KEY", &private.display().to_string());
        let text = std::fs::read_to_string(&private).expect("a key");
        let key = Canary::of(text.lines().nth(2).expect("lines of base64").to_owned());
        let connection = format!(
            "{{ name: deploy, provider: ssh, fields: {{ private_key: {kept}, \
             users: '{}, deploy', known_hosts: '{} {}'{more} }} }}",
            user(),
            known[0],
            known[1],
        );
        let other = format!(
            "{{ name: other, provider: ssh, fields: {{ private_key: {kept}, users: '{}', \
             known_hosts: '{}' }} }}",
            user(),
            known[2],
        );
        let source = format!(
            "sources:\n  - {{ name: kept, file: {{ folder: '{}' }} }}",
            folder.path().display()
        );
        let plan = Plan::api_key().connection(&connection).connection(&other).no_agents();
        let plan = plan.agent("ci", "deploy").agent("both", "deploy, other").top(&source);
        let install = Install::new(&plan, &Origin::answering(|_| ok("unused")))
            .with_variable("TOKEN_BOTH", "kwa_token-of-agent-both-in-these-tests");
        Self { install, folder, servers, key }
    }

    /// The command line of `ssh`: `words` before the server, and what it runs there.
    fn ssh(&self, words: &str, user: &str, server: usize, then: &str) -> String {
        let config = self.folder.path().join("ssh_config");
        let port = self.servers[server].port;
        format!("ssh -F {} {words} -p {port} {user}@127.0.0.1 {then}", config.display())
    }

    /// A line of the shell in a run.
    async fn run(&self, line: &str) -> Output {
        self.run_as("ci", line).await
    }

    async fn run_as(&self, agent: &str, line: &str) -> Output {
        let output = run(self.install.keyward(&["run", "--agent", agent, "--", "sh", "-c", line]));
        let output = output.await;
        self.key.assert_absent("what the program said", said(&output).as_bytes());
        output
    }

    /// What the program said, what the gateway logged, and its records.
    fn said(&self, output: &Output) -> String {
        let log = self.install.data().join("private-gateway.log");
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let audit = self.install.audit();
        format!("{}\nthe gateway's log:\n{log}\nits records: {audit:?}", said(output))
    }

    /// The records of signatures: target, status and connection.
    fn signatures(&self) -> Vec<String> {
        let text = |record: &Value, name: &str| record[name].as_str().unwrap_or("-").to_owned();
        let records = self.install.audit().into_iter().filter(|it| it["method"] == "SIGN");
        let line = |it: Value| {
            let (target, status) = (text(&it, "target"), it["status"].to_string());
            format!("{target} {status} {} {}", text(&it, "connection"), text(&it, "outcome"))
        };
        records.map(line).collect()
    }

    fn at(&self, server: usize, user: &str) -> String {
        format!("ssh://{user}@127.0.0.1:{}", self.servers[server].port)
    }

    /// No file of the installation has the private key.
    fn finish(self) {
        self.install.until("the private gateway is gone", || !self.install.is_served());
        self.key.assert_absent_below(self.install.folder());
    }
}

/// The present user, who alone can log in at a sshd without rights.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("coreutils");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn keygen(path: &Path, kind: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"]).arg(path);
    assert!(keygen.status().expect("`tests/run` installs it").success());
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).expect("our file");
}

#[tokio::test]
async fn only_logins_to_the_servers_and_accounts_of_the_connection_are_signed() {
    let site = Site::new("").await;
    let me = user();
    let output = site.run(&site.ssh("-T", &me, 0, "echo answer: fine")).await;
    assert!(output.status.success(), "{}", site.said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "answer: fine\n");
    let listed = site.run("ssh-add -L; ssh-add -D; ssh-add -x < /dev/null; true").await;
    let said_of_it = said(&listed);
    let public = std::fs::read_to_string(site.folder.path().join("key.pub")).expect("a key");
    let public = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
    assert!(said_of_it.contains(&format!("{public} deploy")), "{said_of_it}");
    for (user, server) in [("nobody", 0), (&*me, 2)] {
        let output = site.run(&site.ssh("-v -T", user, server, "echo answer: fine")).await;
        let said = said(&output);
        assert!(said.contains("agent refused operation"), "{said}");
        assert!(!output.status.success() && !said.contains("answer: fine\n"), "{said}");
    }
    assert_eq!(
        site.signatures(),
        [
            format!("{} 200 deploy completed", site.at(0, &me)),
            format!("{} 403 deploy refused", site.at(0, "nobody")),
            format!("ssh://{me}@ 403 deploy refused"),
        ]
    );
    site.finish();
}

#[tokio::test]
async fn of_two_connections_with_the_same_key_the_one_for_the_server_signs() {
    let site = Site::new("").await;
    let me = user();
    for server in [0, 2] {
        let output = site.run_as("both", &site.ssh("-T", &me, server, "echo answer: fine")).await;
        assert!(output.status.success(), "{}", site.said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "answer: fine\n");
    }
    let listed = said(&site.run_as("both", "ssh-add -L").await);
    let public = std::fs::read_to_string(site.folder.path().join("key.pub")).expect("a key");
    let public = public.split(' ').nth(1).expect("a key");
    assert_eq!(listed.matches(public).count(), 1, "{listed}");
    assert!(listed.contains("deploy, other"), "{listed}");
    // The account is unknown to the connection for the server; the other one is for other servers.
    let refused = site.run_as("both", &site.ssh("-T", "nobody", 2, "true")).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    assert_eq!(
        site.signatures(),
        [
            format!("{} 200 deploy completed", site.at(0, &me)),
            format!("{} 200 other completed", site.at(2, &me)),
            format!("{} 403 other refused", site.at(2, "nobody")),
        ]
    );
    site.finish();
}

/// Azure DevOps has an RSA host key, and takes RSA keys of users alone.
#[tokio::test]
async fn an_rsa_key_logs_in_at_a_server_with_an_rsa_host_key() {
    let site = Site::of_kind("rsa", "{ file: KEY }", "").await;
    let me = user();
    let output = site.run(&site.ssh("-T", &me, 0, "echo answer: fine")).await;
    assert!(output.status.success(), "{}", site.said(&output));
    let refused = site.run(&site.ssh("-T", &me, 2, "echo answer: fine")).await;
    assert!(!refused.status.success(), "{}", said(&refused));
    let elsewhere = format!("ssh://{me}@ 403 deploy refused");
    let signed = format!("{} 200 deploy completed", site.at(0, &me));
    assert_eq!(site.signatures(), [signed, elsewhere]);
    site.finish();
}

#[tokio::test]
async fn a_key_of_a_secret_source_logs_in_and_a_replaced_key_is_used_next() {
    let site = Site::keyed("{ from: kept, ref: key }", "").await;
    let me = user();
    let login = site.ssh("-T", &me, 0, "echo answer: fine");
    let output = site.run(&login).await;
    assert!(output.status.success(), "{}", site.said(&output));
    let public = |at: &Path| std::fs::read_to_string(at.join("key.pub")).expect("a key");
    let before = public(site.folder.path());
    std::fs::remove_file(site.folder.path().join("key")).expect("it was there");
    keygen(&site.folder.path().join("key"), "ed25519");
    let after = public(site.folder.path());
    assert_ne!(before, after);
    let output = site.run(&format!("ssh-add -L; {login}")).await;
    assert!(said(&output).contains(after.split(' ').nth(1).expect("a key")), "{}", said(&output));
    assert!(output.status.success(), "{}", site.said(&output));
    site.finish();
}

#[tokio::test]
async fn a_forwarded_ssh_agent_signs_only_where_the_connection_allows_forwarding() {
    for (more, works) in [("", false), (", forwarding: 'true'", true)] {
        let site = Site::new(more).await;
        let me = user();
        for (server, works) in [(1, works), (2, false)] {
            let inner = site.ssh("-T", &me, server, "echo answer: fine");
            let output = site.run(&site.ssh("-A -T", &me, 0, &format!("'{inner}'"))).await;
            let answered = String::from_utf8_lossy(&output.stdout).contains("answer: fine");
            assert_eq!(answered, works, "{more} {server}: {}", said(&output));
        }
        let (status, outcome) = if works { (200, "completed") } else { (403, "refused") };
        assert_eq!(
            site.signatures(),
            [
                format!("{} 200 deploy completed", site.at(0, &me)),
                format!("{} {status} deploy {outcome}", site.at(1, &me)),
                format!("{} 200 deploy completed", site.at(0, &me)),
                format!("ssh://{me}@ 403 deploy refused"),
            ]
        );
        site.finish();
    }
}

#[tokio::test]
async fn a_revoked_token_signs_nothing_more() {
    let site = Site::new("").await;
    let me = user();
    let ssh = site.ssh("-T", &me, 0, "echo answer: fine");
    let mut ran = site.install.script(&format!("{ssh}; read line; {ssh}; echo end"));
    assert_eq!(ran.line(), "answer: fine");
    let token = site.install.runs()[0]["id"].as_str().expect("an id").to_owned();
    let revoke = site.install.keyward(&["agent", "token", "revoke", "ci", &token]).output();
    assert!(revoke.expect("it runs").status.success());
    ran.say("go on");
    assert_eq!(ran.line(), "end");
    ran.code();
    assert_eq!(site.signatures(), [format!("{} 200 deploy completed", site.at(0, &me))]);
    site.finish();
}
