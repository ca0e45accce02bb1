//! The audit log as its reader meets it: beside a running gateway, and from the files alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use test_support::cli::{Cli, Serving, over_socket};
use test_support::pty::Terminal;

/// An install with agent `ci`, whose requests are all refused.
struct Lab {
    cli: Cli,
    serving: Serving,
    proxy: String,
    token: String,
}

/// `keyward audit tail -f`, reading.
struct Tail {
    child: Child,
    lines: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Lab {
    fn new(config: &str) -> Self {
        let cli = Cli::new();
        // Of the file: what is made by command leaves records of its own.
        let token = "kwa_token-of-an-agent-in-these-tests".to_owned();
        let file = cli.file("token.txt", &token);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(file, private).expect("it is ours");
        let agent = "agents: [{ name: ci, token: { file: token.txt } }]\n";
        // Each of them has a record.
        let limits = "limits: { refusal_records_per_minute_max: 10000 }\n";
        let yaml = format!("{agent}{limits}{config}");
        // What the file makes is recorded at the first start alone.
        let first = cli.serve_with(&yaml);
        first.signal(Signal::TERM);
        assert_eq!(first.wait(), Some(0));
        std::fs::remove_dir_all(cli.data().join("audit")).expect("ours");
        let serving = cli.serve_with(&yaml);
        let ask = "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let (_, status) = over_socket(&cli.data().join("admin.sock"), ask);
        let status: Value = serde_json::from_str(&status).expect("JSON");
        let proxy = status["proxy"][0].as_str().expect("an address").to_owned();
        Self { cli, serving, proxy, token }
    }

    /// Asks for something that no rule allows.
    fn ask(&self, method: &str, host: &str, path: &str) {
        let mut stream = TcpStream::connect(&self.proxy).expect("it listens");
        let head = format!(
            "{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Proxy-Authorization: Bearer {}\r\n\r\n",
            self.token
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }

    /// Waits until this many records can be read. Each question takes a process.
    fn until(&self, records: u64) {
        let mut asked = (0..500).map(|_| self.cli.run(&["audit", "verify", "--json"]).json());
        assert!(asked.any(|told| told["last"] == records), "{records} records");
    }

    fn query(&self, arguments: &[&str]) -> Vec<String> {
        let words = ["audit", "query", "--json"].iter().chain(arguments).copied();
        let list = self.cli.run(&words.collect::<Vec<_>>()).json();
        assert!(list.get("next").is_some(), "{list}");
        let items = list["items"].as_array().expect("a list");
        items.iter().map(|item| item["path"].as_str().expect("a path").to_owned()).collect()
    }

    fn tail(&self, arguments: &[&str]) -> Tail {
        let words = ["audit", "tail", "-f"].iter().chain(arguments).copied();
        let mut command = self.cli.command(&words.collect::<Vec<_>>());
        let mut child = command.stdin(Stdio::null()).spawn().expect("keyward starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take().expect("piped");
        Tail { child, lines, stderr }
    }

    /// Ends the gateway; its files stay.
    fn stop(self) -> Cli {
        self.serving.signal(Signal::TERM);
        assert_eq!(self.serving.wait(), Some(0));
        self.cli
    }
}

impl Tail {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line
    }

    fn path(&mut self) -> String {
        let line = self.line();
        let record: Value = serde_json::from_str(&line).expect("one JSON object a line");
        record["path"].as_str().expect("a path").to_owned()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let id = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(id, signal).expect("it runs");
    }

    fn said(mut self) -> (std::process::ExitStatus, String) {
        let status = self.child.wait().expect("our child");
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("text");
        (status, said)
    }
}

#[test]
fn filters_that_make_no_sense_are_refused_with_what_to_change() {
    let cli = Cli::new();
    let since = "error: `since` is not a time: write how long ago, ";
    for (words, code, says) in [
        ("query --since yesterday", 1, since),
        ("query --code denied --refused", 2, "cannot be used with '--"),
        ("tail -n 20000", 2, "audit query` shows any number"),
        ("tail -f --until 1h", 2, "cannot be used with '--"),
    ] {
        let words: Vec<_> = ["audit"].into_iter().chain(words.split(' ')).collect();
        let err = cli.run(&words).failed(code);
        assert!(err.contains(says), "{words:?}: {err}");
    }
    assert!(!cli.data().exists(), "reading makes nothing");
}

#[test]
fn without_a_gateway_following_fails_and_an_absent_log_reads_as_empty() {
    let cli = Cli::new();
    let err = cli.run(&["audit", "tail", "-f"]).failed(3);
    assert!(err.contains("omit `-f` to read the existing records"), "{err}");
    let nothing = cli.run(&["audit", "query"]);
    assert_eq!((nothing.err.as_str(), nothing.out.as_str()), ("no such records\n", ""));
    assert_eq!(cli.run(&["audit", "query", "--json"]).json()["items"], serde_json::json!([]));
    assert_eq!(cli.run(&["audit", "tail"]).ok(), "");
    assert_eq!(cli.run(&["audit", "verify"]).ok(), "no records yet\n");
    assert!(!cli.data().exists(), "reading makes nothing");
}

#[test]
fn records_are_found_over_the_socket_and_in_the_files_alike() {
    let lab = Lab::new("audit: { file_bytes_max: 4096, files_max: 50 }\n");
    for n in 1..=25 {
        let method = if n % 5 == 0 { "DELETE" } else { "GET" };
        lab.ask(method, if n == 7 { "b.test" } else { "a.test" }, &format!("/{n}"));
    }
    lab.until(25);
    let full = std::fs::read_dir(lab.cli.data().join("audit")).expect("a folder").count();
    assert!(full > 2, "there are several files: {full}");

    assert_eq!(lab.query(&["--limit", "3"]), ["/25", "/24", "/23"], "newest first");
    assert_eq!(lab.query(&["--method", "delete", "--limit", "2"]), ["/25", "/20"]);
    assert_eq!(lab.query(&["--host", "b.test"]), ["/7"]);
    assert_eq!(lab.query(&["--host", "*.test", "--since", "1h"]).len(), 25);
    assert_eq!(lab.query(&["--agent", "nobody"]), [""; 0]);
    assert_eq!(lab.query(&["--code", "default_deny"]).len(), 25);
    assert_eq!(lab.query(&["--refused", "--until", "1h"]), [""; 0]);
    let id = lab.cli.run(&["audit", "query", "--host", "b.test", "--json"]).json();
    let id = id["items"][0]["exchange"].as_str().expect("an id").to_owned();
    assert_eq!(lab.query(&["--exchange", &id]), ["/7"]);
    let all = lab.query(&[]);

    let cli = lab.stop();
    // What only a gateway needs, and nobody else may open.
    for secret in ["master.key", "store"] {
        std::fs::rename(cli.data().join(secret), cli.data().join("gone")).expect("ours");
        std::fs::remove_dir_all(cli.data().join("gone"))
            .or_else(|_| std::fs::remove_file(cli.data().join("gone")))
            .expect("ours");
    }
    let list = cli.run(&["audit", "query", "--json"]).json();
    let paths: Vec<_> = list["items"].as_array().expect("a list").iter().collect();
    assert_eq!(paths.iter().map(|item| item["path"].as_str().unwrap()).collect::<Vec<_>>(), all);
    let table = cli.run(&["audit", "tail", "-n", "2"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("TIME "), "{table}");
    assert!(lines[1].contains("default_deny") && lines[1].ends_with("http://a.test/24"), "{table}");
    assert!(lines[2].contains(" ci ") && lines[2].ends_with("http://a.test/25"), "{table}");
    assert!(!cli.data().join("store").exists(), "nothing was opened");
}

/// Its key is lost: neither the log nor the catalogue needs the store.
#[test]
fn the_log_of_an_installation_whose_store_does_not_open_is_read_with_a_note() {
    let lab = Lab::new("");
    lab.ask("GET", "a.test", "/1");
    lab.until(1);
    let cli = lab.stop();
    std::fs::remove_file(cli.data().join("master.key")).expect("ours");
    let lost = "there is a store, but no master key at ";
    assert!(cli.run(&["agent", "list"]).failed(1).contains(lost));
    let query = cli.run(&["audit", "query", "--json"]);
    assert!(query.err.starts_with(&format!("note: without what is stored: {lost}")), "{query:?}");
    assert_eq!(query.json()["items"][0]["path"], "/1");
    let provider = cli.run(&["provider", "show", "github"]);
    assert!(provider.err.contains(lost), "{provider:?}");
    assert!(provider.ok().contains("api.github.com"));
}

/// More than a page of records, the newest first at the API.
#[test]
fn an_export_has_every_record_once_the_oldest_first_as_json_lines() {
    let lab = Lab::new("");
    lab.cli.run(&["audit", "export", "--since", "yesterday"]).failed(1);
    lab.cli.run(&["audit", "export", "--limit", "5"]).failed(2);
    assert_eq!(lab.cli.run(&["audit", "export", "--agent", "ci"]).ok(), "");
    for n in 1..=1_010 {
        lab.ask("GET", if n % 500 == 0 { "b.test" } else { "a.test" }, &format!("/{n}"));
    }
    lab.until(1_010);
    let exported = |cli: &Cli, more: &[&str]| {
        let words = ["audit", "export"].iter().chain(more).copied();
        let lines = cli.run(&words.collect::<Vec<_>>()).ok();
        let path = |line: &str| {
            let record: Value = serde_json::from_str(line).expect("a record in each line");
            record["path"].as_str().expect("a path").to_owned()
        };
        lines.lines().map(path).collect::<Vec<_>>()
    };
    let all: Vec<_> = (1..=1_010).map(|n| format!("/{n}")).collect();
    assert_eq!(exported(&lab.cli, &[]), all);
    assert_eq!(exported(&lab.cli, &["--host", "b.test", "--json"]), ["/500", "/1000"]);
    assert_eq!(exported(&lab.stop(), &[]), all, "of the files alone");
}

#[test]
fn records_that_are_written_during_an_export_displace_none_from_it() {
    let lab = Lab::new("");
    // The older page is longer than a pipe holds, so the newest page is read after the test reads on.
    for n in 1..=1_400 {
        lab.ask("GET", "a.test", &format!("/{n}"));
    }
    lab.until(1_400);
    let mut export = lab.cli.command(&["audit", "export"]).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(export.stdout.take().expect("piped"));
    let mut exported = String::new();
    lines.read_line(&mut exported).expect("text");
    for n in 1..=50 {
        lab.ask("GET", "a.test", &format!("/later/{n}"));
    }
    lab.until(1_450);
    lines.read_to_string(&mut exported).expect("text");
    assert!(export.wait().expect("our child").success());
    let path = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("a record in each line");
        record["path"].as_str().expect("a path").to_owned()
    };
    let paths: Vec<_> = exported.lines().map(path).collect();
    assert_eq!(paths, (1..=1_400).map(|n| format!("/{n}")).collect::<Vec<_>>());
}

#[test]
fn records_are_counted_in_groups_over_the_socket_and_in_the_files_alike() {
    let lab = Lab::new("audit: { file_bytes_max: 4096, files_max: 50 }\n");
    for n in 1..=25 {
        let host = if n % 5 == 0 { "b.test" } else { "a.test:8080" };
        lab.ask("GET", host, &format!("/{n}"));
    }
    lab.until(25);
    lab.cli.run(&["audit", "query", "--by", "path"]).failed(2);
    lab.cli.run(&["audit", "tail", "--by", "host"]).failed(2);
    let by = |cli: &Cli, by: &str, more: &[&str]| {
        let words = ["audit", "query", "--refused", "--by", by, "--json"];
        let words: Vec<_> = words.iter().chain(more).copied().collect();
        let told = cli.run(&words).json();
        let groups = told["groups"].as_array().expect("a list").iter();
        let pair = |group: &Value| (group["name"].clone(), group["count"].as_u64().unwrap());
        (groups.map(pair).collect::<Vec<_>>(), told["other"].as_u64().expect("a number"))
    };
    let name = |name: &str| Value::from(name);
    let hosts = vec![(name("a.test:8080"), 20), (name("b.test"), 5)];
    assert_eq!(by(&lab.cli, "host", &[]), (hosts.clone(), 0));
    assert_eq!(by(&lab.cli, "host", &["--limit", "1"]), (hosts[..1].to_vec(), 5));
    assert_eq!(by(&lab.cli, "agent", &[]).0, [(name("ci"), 25)]);
    assert_eq!(by(&lab.cli, "connection", &[]).0, [(Value::Null, 25)]);
    assert_eq!(by(&lab.cli, "rule", &[]).0, [(name("default"), 25)]);
    assert_eq!(by(&lab.cli, "code", &["--host", "b.test"]).0, [(name("default_deny"), 5)]);
    let table = lab.cli.run(&["audit", "query", "--refused", "--by", "host"]).ok();
    assert!(table.starts_with("COUNT   LAST ") && table.contains("\n20      "), "{table}");
    let cli = lab.stop();
    assert_eq!(by(&cli, "host", &[]), (hosts, 0));
}

#[test]
fn a_filter_by_an_unknown_name_gets_the_nearest_existing_name_as_a_hint() {
    let lab = Lab::new("");
    for words in [
        &["audit", "query", "--agent", "cj"][..],
        &["audit", "query", "--agent", "cj", "--by", "host"],
    ] {
        let told = lab.cli.run(words);
        let wanted = "no such records\nhint: there is no agent `cj`: did you mean `ci`?\n";
        assert_eq!((told.err.as_str(), told.out.as_str()), (wanted, ""));
    }
    for words in [&["logs", "--agent", "cj"][..], &["audit", "tail", "--agent", "cj"]] {
        let told = lab.cli.run(words);
        let wanted = "no records yet\nhint: there is no agent `cj`: did you mean `ci`?\n";
        assert_eq!((told.err.as_str(), told.out.as_str()), (wanted, ""));
    }
    let told = lab.cli.run(&["audit", "query", "--code", "denid"]);
    assert!(told.err.ends_with("hint: there is no code `denid`: did you mean `denied`?\n"));
    let told = lab.cli.run(&["audit", "query", "--agent", "ci"]);
    assert_eq!(told.err, "no such records\n", "it exists");
}

#[test]
fn the_record_of_a_refused_change_names_the_attempted_change() {
    let lab = Lab::new("");
    lab.cli.run(&["agent", "add", "ci"]).failed(1);
    lab.cli.run(&["agent", "add", "kwa pasted-by-mistake"]).failed(1);
    let table = lab.cli.run(&["audit", "query", "--changes"]).ok();
    let lines: Vec<_> = table.lines().skip(1).collect();
    assert!(lines[0].ends_with("tried to add agent"), "{table}");
    assert!(lines[1].ends_with("tried to add agent ci"), "{table}");
    assert!(!table.contains("pasted"), "{table}");
}

#[test]
fn the_list_fits_a_terminal_of_80_columns() {
    let lab = Lab::new("");
    lab.ask("DELETE", "an-api-with-a-name.test", &format!("/{}", "long/".repeat(30)));
    lab.until(1);
    let mut command = lab.cli.command(&["audit", "query"]);
    command.env("NO_COLOR", "1");
    let (code, screen) = Terminal::of_columns(command, 80).ends();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    let line = screen.lines().nth(1).expect("a record");
    let words: Vec<_> = line.split_whitespace().skip(1).collect();
    assert_eq!(words[..3], ["ci", "DELETE", "default_deny"], "{screen}");
    assert!(words[3].starts_with("http://an-api-with-a-name.test/long/"), "{screen}");
    assert!(words[3].ends_with('…'), "{screen}");
}

#[test]
fn a_follower_sees_each_record_once_over_several_files_until_the_gateway_stops() {
    let lab = Lab::new("audit: { file_bytes_max: 4096, files_max: 50 }\n");
    (1..=3).for_each(|n| lab.ask("GET", "a.test", &format!("/{n}")));
    lab.until(3);
    let mut tail = lab.tail(&["-n", "2", "--json", "--host", "a.test"]);
    assert_eq!([tail.path(), tail.path()], ["/2", "/3"], "those that are there, oldest first");
    for n in 4..=40 {
        lab.ask("GET", "b.test", "/other");
        lab.ask("GET", "a.test", &format!("/{n}"));
        assert_eq!(tail.path(), format!("/{n}"));
    }
    let files = std::fs::read_dir(lab.cli.data().join("audit")).expect("a folder").count();
    assert!(files > 3, "the log was rotated: {files}");
    lab.stop();
    let (status, said) = tail.said();
    assert_eq!(status.code(), Some(3), "{said}");
    assert_eq!(
        said,
        "{\"error\":{\"message\":\"the gateway is stopping\",\
         \"hint\":\"run this again when the gateway is back\",\"exit\":3}}\n"
    );
}

#[test]
fn a_gateway_that_is_killed_ends_its_followers() {
    let lab = Lab::new("");
    let tail = lab.tail(&[]);
    lab.ask("GET", "a.test", "/");
    lab.serving.kill();
    let (status, said) = tail.said();
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn control_c_and_a_reader_that_goes_away_end_a_follower_quietly() {
    let lab = Lab::new("");
    lab.ask("GET", "a.test", "/1");
    lab.until(1);
    let mut tail = lab.tail(&[]);
    assert!(tail.line().starts_with("TIME "));
    assert!(tail.line().ends_with(" http://a.test/1\n"));
    tail.signal(Signal::INT);
    let (status, said) = tail.said();
    assert_eq!((status.signal(), said.as_str()), (Some(2), ""), "a shell says 130");

    let mut tail = lab.tail(&["--json"]);
    assert_eq!(tail.path(), "/1");
    let Tail { mut child, lines, .. } = tail;
    drop(lines);
    lab.ask("GET", "a.test", "/2");
    assert_eq!(child.wait().expect("our child").code(), Some(0));
}

#[test]
fn verify_names_the_file_and_line_of_a_changed_record() {
    let lab = Lab::new("audit: { file_bytes_max: 4096, files_max: 50 }\n");
    (1..=20).for_each(|n| lab.ask("GET", "a.test", &format!("/{n}")));
    lab.until(20);
    let whole = lab.cli.run(&["audit", "verify"]).ok();
    assert!(whole.starts_with("whole    records 1 to 20\n"), "{whole}");
    let path = lab.cli.data().join("audit/audit.jsonl.000000000001");
    let text = std::fs::read_to_string(&path).expect("a full file");
    std::fs::write(&path, text.replacen("\"agent\":\"ci\"", "\"agent\":\"di\"", 1)).expect("ours");

    let broken = |err: &str| {
        let named = format!("error: {}:2: holds record 2, which does not follow", path.display());
        assert!(err.starts_with(&named), "{err}");
        assert!(err.contains("hint: records 1 to 1 follow each other"), "{err}");
    };
    broken(&lab.cli.run(&["audit", "verify"]).failed(1));
    let told = lab.cli.run(&["audit", "verify", "--json"]);
    assert_eq!(told.code, 1);
    let told: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!((&told["whole"], &told["broken"]["line"]), (&Value::Bool(false), &2.into()));
    let cli = lab.stop();
    broken(&cli.run(&["audit", "verify"]).failed(1));
}

/// What is said of a log whose file was deleted while the gateway runs: at once by the check, by the gateway with its next
/// record.
#[test]
fn a_log_that_was_deleted_is_not_called_whole_and_goes_on_in_a_new_file() {
    let lab = Lab::new("");
    (1..=2).for_each(|n| lab.ask("GET", "a.test", &format!("/{n}")));
    lab.until(2);
    let path = lab.cli.data().join("audit/audit.jsonl");
    std::fs::remove_file(&path).expect("ours");
    let err = lab.cli.run(&["audit", "verify"]).failed(1);
    let ends = "the log ends after record 0, but the gateway has written record";
    assert!(err.starts_with(&format!("error: {}:1: {ends}", path.display())), "{err}");

    lab.ask("GET", "a.test", "/3");
    let mut found = (0..500).map(|_| lab.cli.run(&["audit", "query", "--json"]).json());
    let found = found.find(|it| it["items"][0]["path"] == "/3").expect("it is in the new file");
    let change = &found["items"][1];
    assert_eq!((&change["seq"], &change["change"]["by"]), (&3.into(), &"gateway".into()));
    let why = change["change"]["why"].as_str().expect("an explanation");
    assert_eq!(why, "after record 2: its file was moved, replaced or deleted");
    let status = lab.cli.run(&["status"]).out;
    assert!(status.contains("the audit log was moved"), "{status}");
    let ask = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (_, metrics) = over_socket(&lab.cli.data().join("admin.sock"), ask);
    assert!(metrics.contains("keyward_audit_log_changes_total 1\n"), "{metrics}");
    let names_it = |err: &str| {
        let says =
            "holds record 3, from which the gateway continued: the records before it were removed";
        assert!(err.contains(says), "{err}");
    };
    names_it(&lab.cli.run(&["audit", "verify"]).failed(1));
    let cli = lab.stop();
    names_it(&cli.run(&["audit", "verify"]).failed(1));
}

#[test]
fn control_characters_of_a_record_do_not_reach_the_terminal() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    let nasty = "\\u001b[2J\u{9b}31m\\r\\n\u{7f}\u{202e}";
    let record = format!(
        "{{\"v\":1,\"seq\":1,\"prev\":\"\",\"time\":\"2026-01-31T08:00:00Z\",\"exchange\":\"exc_1\",\
         \"org\":null,\"agent\":\"{nasty}\",\"token\":null,\"rule\":\"{nasty}\",\
         \"connection\":\"{nasty}\",\"generation\":null,\"target\":\"https://{nasty}\",\
         \"method\":\"{nasty}\",\"path\":\"/{nasty}\",\"status\":200,\"code\":\"{nasty}\",\
         \"bytes_in\":0,\"bytes_out\":0,\"duration_ms\":0,\"outcome\":\"completed\"}}\n"
    );
    std::fs::create_dir_all(cli.data().join("audit")).expect("a folder");
    std::fs::write(cli.data().join("audit/audit.jsonl"), record).expect("a file");
    for words in [
        &["audit", "query"][..],
        &["audit", "query", "--json"],
        &["audit", "tail"],
        &["audit", "tail", "--json"],
        &["audit", "query", "--agent", "\u{1b}[2J"],
        &["audit", "query", "--since", "\u{1b}[2J"],
        &["audit", "verify"],
    ] {
        let ran = cli.run(words);
        let text = format!("{}{}", ran.out, ran.err).replace('\n', "");
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{words:?}: {text:?}");
        assert!(text.contains("exc_1") || !words.contains(&"--json"), "{words:?}: {text:?}");
    }
}
