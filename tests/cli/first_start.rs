//! What a start creates for sockets in the data directory.

use std::io::{BufRead, BufReader};

use test_support::cli::Cli;
use test_support::process::OwnChild;

/// Starts a gateway on free ports without a terminal, reads what it says until `last`, and kills it.
fn said(cli: &Cli, words: &[&str], last: &str) -> String {
    let mut command = cli.command(words);
    for name in ["KEYWARD__LISTEN__PROXY", "KEYWARD__LISTEN__ADMIN"] {
        command.env(name, "127.0.0.1:0");
    }
    let mut child = OwnChild::from(command.spawn().expect("keyward starts"));
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains(last) && lines.read_line(&mut said).expect("text") > 0 {}
    assert!(said.contains(last), "{said}");
    said
}

/// An export declares the sockets of stored listeners in a folder that a new data directory does not have.
#[test]
fn the_folders_of_sockets_in_the_data_directory_are_made_and_others_are_not() {
    let cli = Cli::new();
    let listen = |at: &str| format!("listen: {{ databases: [{{ at: '{at}', agent: ci }}] }}\n");
    let config = |at: &str| {
        let file = cli.file("keyward.yaml", &format!("{}agents: [{{ name: ci }}]\n", listen(at)));
        file.display().to_string()
    };
    let elsewhere = cli.data().with_file_name("elsewhere");
    let other = config(&format!("unix:{}/s.sock", elsewhere.display()));
    let refused = said(&cli, &["serve", "--config", &other], "hint: ");
    assert!(refused.contains("cannot listen on unix:") && !elsewhere.exists(), "{refused}");
    said(&cli, &["serve", "--config", &config("unix:databases/s.sock")], "ready; ");
    let mode = std::os::unix::fs::MetadataExt::mode(
        &cli.data().join("databases").metadata().expect("the folder"),
    );
    assert_eq!(mode & 0o777, 0o700);
}
