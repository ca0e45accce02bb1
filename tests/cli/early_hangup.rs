//! A signal to reload that comes before the gateway serves.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use test_support::cli::Cli;
use test_support::process::OwnChild;

const LISTEN: &str = "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";

/// The configuration is a pipe, so that the start is within its first read when the signal comes.
#[test]
fn a_hangup_while_the_configuration_is_read_ends_nothing_and_has_it_read_again() {
    let cli = Cli::new();
    let newer = cli.file("newer.yaml", &format!("{LISTEN}agents: [{{ name: late }}]\n"));
    let config = newer.with_file_name("keyward.yaml");
    assert!(Command::new("mkfifo").arg(&config).status().expect("mkfifo").success());
    let words = ["serve", "--config", config.to_str().expect("UTF-8")];
    let mut child = OwnChild::from(cli.command(&words).spawn().expect("keyward starts"));
    let mut older = File::options().write(true).open(&config).expect("it is being read");
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(id, Signal::HUP).expect("it runs");
    fs::rename(&newer, &config).expect("ours");
    older.write_all(LISTEN.as_bytes()).expect("the process reads on");
    drop(older);
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("ready; ") {
        assert_ne!(lines.read_line(&mut said).expect("text"), 0, "it ended: {said}");
    }
    // Each question takes a process.
    let mut asked = (0..500).map(|_| cli.run(&["agent", "list", "--json"]).ok());
    assert!(asked.any(|agents| agents.contains("late")), "the newer file is in force");
}
