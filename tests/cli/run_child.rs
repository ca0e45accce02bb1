//! `keyward run` around its program: exit codes, signals, environment, what is left behind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use keyward_rules::inject::placeholder::Placeholder;
use test_support::install::Install;
use test_support::process::{built, said};
use test_support::pty::Terminal;

/// Ends the program of a test that would otherwise wait for ever.
const UNTIL_STDIN_ENDS: &str = "while read line; do :; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_run_itself_have_exit_codes_125_to_127_and_a_message() {
    let (install, _origin) = Install::simple();
    let plain = install.folder().join("plain");
    std::fs::write(&plain, "not a program").expect("a file");
    let plain = plain.to_str().expect("UTF-8");
    let table: [(&[&str], i32, &str); 7] = [
        (&[], 125, "required"),
        (&["--nope", "--", "true"], 125, "unexpected"),
        (&["--agent", "nobody", "--", "true"], 125, "error: no agent is named `nobody`\nhint: "),
        (&["--agent", "my agent", "--", "true"], 125, "error: no agent is named `my agent`"),
        (&["--", plain], 126, "error: cannot execute"),
        (&["--", "."], 126, "error: cannot execute"),
        (&["--", "no-such-program"], 127, "error: program `no-such-program` was not found\nhint: "),
    ];
    for (arguments, code, says) in table {
        let output = install.keyward(&["run"]).args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
        // No agent can have the name.
        assert!(!said.contains("--agent my agent"), "{arguments:?}: {said}");
    }
    assert!(!install.is_served(), "and no gateway is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_exits_with_the_exit_code_of_the_program() {
    let (install, _origin) = Install::simple();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 125", 125), ("kill -9 $$", 137)] {
        assert_eq!(install.script(script).code(), Some(code), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_configuration_is_reported_and_no_program_is_run() {
    let (install, _origin) = Install::simple();
    std::fs::write(install.folder().join("keyward.yaml"), "nope: 1\n").expect("a file");
    let output = install.keyward(&["run", "--", "echo", "ran"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(125));
    assert!(output.stdout.is_empty() && output.stderr.starts_with(b"error: "), "{output:?}");
}

/// A directory and a file at the places of the run's own files, which also root cannot write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_run_that_cannot_be_made_is_named_with_a_remedy() {
    let (install, _origin) = Install::simple();
    let data = install.data();
    assert_eq!(install.script("exit 0").code(), Some(0), "it makes the data directory");
    install.until("the gateway is gone", || !install.is_served());
    let (log, folder) = (data.join("private-gateway.log"), data.join("run"));
    let refused = |says: &str| {
        let output = install.keyward(&["run", "--", "echo", "ran"]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains(says) && output.stdout.is_empty(), "{output:?}");
        assert!(said.contains("\nhint: choose another data directory with --data"), "{said}");
    };
    std::fs::remove_file(&log).expect("ours");
    std::fs::create_dir(&log).expect("ours");
    refused(&format!("error: cannot write {}: ", log.display()));
    std::fs::remove_dir(&log).expect("ours");
    std::fs::remove_dir_all(&folder).expect("ours");
    std::fs::write(&folder, "").expect("ours");
    refused(&format!("error: cannot create a directory in {}: ", folder.display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inherited_value_that_is_not_utf8_is_named_and_the_program_runs() {
    let (install, _origin) = Install::simple();
    let mut run =
        install.keyward(&["run", "--agent", "ci", "--", "sh", "-c", "echo $NODE_OPTIONS"]);
    run.env("NODE_OPTIONS", OsStr::from_bytes(b"--title=caf\xe9"));
    let output = run.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && output.stdout.starts_with(b"--require="), "{output:?}");
    let note =
        "note: the program does not get the inherited value of NODE_OPTIONS, which is not UTF-8";
    assert!(said.contains(note) && said.contains("hint: set NODE_OPTIONS in UTF-8"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_reach_the_program() {
    let (install, _origin) = Install::simple();
    for (name, signal) in [
        ("INT", Signal::INT),
        ("TERM", Signal::TERM),
        ("HUP", Signal::HUP),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
    ] {
        let script = format!("trap 'echo got; exit 3' {name}; echo ready; {UNTIL_STDIN_ENDS}");
        let mut ran = install.script(&script);
        assert_eq!(ran.line(), "ready");
        ran.signal(signal);
        assert_eq!(ran.line(), "got", "{name}");
        assert_eq!(ran.code(), Some(3), "{name}");
    }
}

/// `keyward run` in the foreground of a session whose terminal sends signals.
fn in_foreground(install: &Install, script: &str) -> Terminal {
    let run = install.keyward(&["run", "--quiet", "--agent", "ci", "--", "sh", "-c", script]);
    let mut command = std::process::Command::new("setsid");
    command.arg("--ctty").arg(run.get_program()).args(run.get_args());
    command.env_clear().envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(install.folder());
    Terminal::start(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_by_kill_or_ctrl_c_reaches_the_program_of_a_foreground_run_once() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    let script =
        "trap 'echo got' INT; trap 'echo mark' USR1; echo ready; while :; do sleep 0.1; done";
    let mut terminal = in_foreground(&install, script);
    terminal.shows("ready\r\n");
    terminal.signal(Signal::INT);
    terminal.asks("got\r\n", "\u{3}");
    terminal.shows("got\r\n");
    // An interrupt that was forwarded as well would come before the next signal.
    terminal.signal(Signal::USR1);
    terminal.shows("mark\r\n");
    terminal.signal(Signal::TERM);
    let (code, shown) = terminal.ends();
    assert_eq!((code, shown.matches("got\r\n").count()), (Some(143), 2), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_of_a_program_that_a_signal_ends_exits_with_128_plus_the_signal() {
    let (install, _origin) = Install::simple();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut ran = install.script(&format!("echo ready; {UNTIL_STDIN_ENDS}"));
        assert_eq!(ran.line(), "ready");
        ran.signal(signal);
        assert_eq!(ran.code(), Some(code));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigtstp_stops_run_and_its_program_and_sigcont_continues_both() {
    let (install, _origin) = Install::simple();
    let mut ran = install.script("echo $$; while read line; do echo $line; done; exit 5");
    let program: u32 = ran.line().parse().expect("a process id");
    let state = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("State:\tT")
    };
    ran.signal(Signal::TSTP);
    install.until("both are stopped", || state(program) && state(ran.id()));
    ran.say("again");
    ran.signal(Signal::CONT);
    assert_eq!(ran.line(), "again");
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreground_run_stops_with_a_program_that_stops_itself_and_continues_with_it() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    // The program of a session has no shell that would take the terminal, so SIGTSTP has no effect there.
    let script = "echo run $PPID; kill -STOP $$; echo again; exit 5";
    let mut terminal = in_foreground(&install, script);
    let run = terminal.rest_of("run ");
    let status = format!("/proc/{run}/status");
    let is_stopped = || std::fs::read_to_string(&status).unwrap_or_default().contains("State:\tT");
    install.until("the run is stopped", is_stopped);
    assert!(!terminal.has("again"));
    terminal.signal(Signal::CONT);
    terminal.shows("again\r\n");
    assert_eq!(terminal.ends().0, Some(5));
}

/// SIGTSTP and the stop of the program may be read in either order. The program stops by itself, because a session without a
/// job control shell has no stop by SIGTSTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_z_stops_a_foreground_run_once_after_its_program_has_stopped() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    let script = "trap 'kill -STOP $$; echo again; exit 5' TSTP; echo run $PPID; echo program $$
                  while :; do sleep 0.1; done";
    let mut terminal = in_foreground(&install, script);
    let pids = [terminal.rest_of("run "), terminal.rest_of("program ")];
    let is_stopped = |pid: &String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        status.unwrap_or_default().contains("State:\tT")
    };
    terminal.types("\u{1a}");
    install.until("both are stopped", || pids.iter().all(is_stopped));
    terminal.signal(Signal::CONT);
    terminal.shows("again\r\n");
    assert_eq!(terminal.ends().0, Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreground_run_goes_on_with_a_program_that_does_not_stop_at_ctrl_z() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    let script = "trap 'echo kept' TSTP; trap 'echo mark; exit 5' USR1; echo ready
                  while :; do sleep 0.1; done";
    let mut terminal = in_foreground(&install, script);
    terminal.asks("ready\r\n", "\u{1a}");
    terminal.shows("kept\r\n");
    // A stopped run forwards nothing.
    terminal.signal(Signal::USR1);
    terminal.shows("mark\r\n");
    assert_eq!(terminal.ends().0, Some(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_gets_the_proxy_variables_and_no_secret_of_the_gateway() {
    let (install, _origin) = Install::simple();
    let mut command = install.keyward(&["run", "--agent", "ci", "--", "env"]);
    command.env("NO_PROXY", "*,acme.test,intranet.example").env("NODE_OPTIONS", "--no-warnings");
    command.env("KEYWARD__LOG__LEVEL", "info").env("MINE", "stays");
    command.env("KEYWARD_BACKUP_PASSPHRASE", "of a backup");
    let earlier = Placeholder::issue("sk-", None);
    command
        .env("KEYWARD_PLACEHOLDERS", "OF_ANOTHER_AGENT")
        .env("OF_ANOTHER_AGENT", earlier.as_str());
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let find = |name: &str| {
        let prefix = format!("{name}=");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("(none)")
    };
    let proxy = find("HTTPS_PROXY");
    assert!(proxy.starts_with("http://ci:kwa_") && proxy.contains("@127.0.0.1:"), "{proxy}");
    for name in ["https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        assert_eq!(find(name), proxy);
    }
    assert_eq!(find("NO_PROXY"), "localhost,127.0.0.1,::1,intranet.example");
    assert_eq!(find("no_proxy"), find("NO_PROXY"));
    assert!(find("NODE_OPTIONS").starts_with("--no-warnings --require="));
    assert_ne!(find("NODE_EXTRA_CA_CERTS"), find("SSL_CERT_FILE"));
    assert_eq!(find("MINE"), "stays");
    // What the configuration reads secrets from, what opens backups, and what an outer run set.
    for name in [
        "CANARY",
        "TOKEN_CI",
        "KEYWARD__LOG__LEVEL",
        "KEYWARD_BACKUP_PASSPHRASE",
        "OF_ANOTHER_AGENT",
    ] {
        assert_eq!(find(name), "(none)", "{name} is not for the program");
    }
}

/// The command reads no configuration; only the gateway knows the variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn run_and_doctor_withhold_the_secrets_of_a_gateway_with_another_configuration() {
    let (install, _origin) = Install::simple();
    let _gateway = install.serve();
    for arguments in [
        &["run", "--quiet", "--agent", "ci", "--", "env"][..],
        &["doctor", "--agent", "ci", "--", "env"],
    ] {
        let mut command = install.keyward(arguments);
        command.env_remove("KEYWARD_CONFIG").env("MINE", "stays");
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let text = String::from_utf8(output.stdout).expect("text");
        let has = |name: &str| text.lines().any(|line| line.starts_with(&format!("{name}=")));
        assert!(has("MINE") && has("HTTPS_PROXY"), "{arguments:?}: {text}{said}");
        for name in ["CANARY", "TOKEN_CI"] {
            assert!(!has(name), "{arguments:?}: {name} is not for the program");
        }
    }
}

/// Of a database of the outer run, the password is the run's token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nested_run_unsets_database_variables_of_the_outer_run_and_not_of_the_user() {
    let (install, _origin) = Install::simple();
    let nested = format!(
        "{} run --quiet --agent ci -- sh -c 'echo $PGHOST,$PGUSER,$PGPASSWORD'",
        built().display()
    );
    let token = "token=${HTTPS_PROXY#*ci:}; export PGPASSWORD=${token%%@*}";
    let script = format!(
        "{token} PGHOST=127.0.0.1 PGUSER=main; {nested}; PGHOST=db.example PGUSER=ann {nested}; \
         PGPASSWORD=word {nested}"
    );
    let mut ran = install.script(&script);
    for line in [",,", "db.example,ann,", "127.0.0.1,main,word"] {
        assert_eq!(ran.line(), line);
    }
    assert_eq!(ran.code(), Some(0));
}

/// They would lead the program past the gateway's listeners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_variables_that_a_run_does_not_set_are_not_inherited_by_the_program() {
    const PASSWORD: &str = "of-the-database";
    let (install, _origin) = Install::simple();
    let gateway = install.serve();
    let keyward = |scheme: &str, arguments: &[&str]| {
        let mut command = install.keyward(arguments);
        command.env("DATABASE_URL", format!("{scheme}://app:{PASSWORD}@db.test/app"));
        command.env("PGPASSWORD", PASSWORD).env("PGSERVICE", PASSWORD).env("MYSQL_PWD", PASSWORD);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output
    };
    keyward("postgres", &["agent", "add", "bot"]);
    for (provider, name) in [("postgres", "main"), ("mysql", "shop")] {
        let from = ["--secret-env", "url=DATABASE_URL", "--no-test"];
        keyward(provider, &[&["connection", "add", provider, "--name", name], &from[..]].concat());
        keyward(provider, &["agent", "bind", "bot", name]);
    }
    let run = || {
        let output = keyward("postgres", &["run", "--agent", "bot", "--", "env"]);
        let environment = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(environment.contains("HTTPS_PROXY=http://bot:kwa_"), "{environment}");
        for unwanted in [PASSWORD, "DATABASE_URL=", "PGSERVICE="] {
            assert!(!environment.contains(unwanted), "{unwanted}: {environment}");
        }
        (environment, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (environment, notes) = run();
    assert!(!environment.contains("PGPASSWORD=") && !environment.contains("MYSQL_PWD="));
    for name in ["main: the program does not inherit DATABASE_URL, PGHOST, ", "MYSQL_PWD"] {
        assert!(notes.contains(name), "{notes}");
    }
    // A private gateway has a listener for each protocol.
    drop(gateway);
    let (environment, notes) = run();
    assert!(environment.contains("PGPASSWORD=kwa_") && environment.contains("MYSQL_PWD=kwa_"));
    assert!(
        notes.contains("DATABASE_URL is not set: the agent has databases of several"),
        "{notes}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_has_the_umask_and_the_core_limit_of_its_user() {
    let (install, _origin) = Install::simple();
    let script = "umask 022; keep=$(umask); umask $keep; : > made; ulimit -c";
    let with = install.script(script).line();
    let plain = std::process::Command::new("sh").args(["-c", "ulimit -c"]).output().expect("sh");
    assert_eq!(with, String::from_utf8_lossy(&plain.stdout).trim());
    let mask = install.script("umask").line();
    let plain = std::process::Command::new("sh").args(["-c", "umask"]).output().expect("sh");
    assert_eq!(mask, String::from_utf8_lossy(&plain.stdout).trim());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_run_are_private_and_removed_at_its_end() {
    let (install, _origin) = Install::simple();
    let mut ran = install.script(&format!("echo \"$SSL_CERT_FILE\"; {UNTIL_STDIN_ENDS}"));
    let bundle = std::path::PathBuf::from(ran.line());
    let folder = bundle.parent().expect("a folder").to_owned();
    for (path, mode) in [(&folder, 0o700), (&bundle, 0o600)] {
        let found = std::fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(found & 0o777, mode, "{}", path.display());
    }
    drop(ran.stdin.take());
    assert_eq!(ran.code(), Some(0));
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_killed_run_are_removed_by_the_next_run() {
    let (install, _origin) = Install::simple();
    let mut ran = install.script(&format!("echo \"$SSL_CERT_FILE\"; {UNTIL_STDIN_ENDS}"));
    let bundle = std::path::PathBuf::from(ran.line());
    ran.kill();
    assert!(bundle.exists());
    assert_eq!(install.script("true").code(), Some(0));
    assert!(!bundle.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_run_prints_a_note_about_its_data_directory_unless_it_is_quiet() {
    for (options, is_noted) in [(&["--quiet"][..], false), (&[], true)] {
        let (install, _origin) = Install::simple();
        assert!(!install.data().exists());
        let mut run = install.keyward(&["run"]);
        let output = run.args(options).args(["--", "true"]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{options:?}: {said}");
        let note = format!("note: creating a new data directory, {}\n", install.data().display());
        assert_eq!(said.contains(&note), is_noted, "{options:?}: {said}");
        assert_eq!(said.is_empty(), !is_noted, "{options:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_agent_is_created_with_a_hint_to_connect() {
    let (install, _origin) = Install::simple();
    let output = install.keyward(&["run", "--", "true"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("agent default has no connection yet"), "{said}");
    assert!(said.ends_with("hint: keyward connect\n"), "{said}");
    assert_eq!(install.agent("default")["name"], "default");
}
