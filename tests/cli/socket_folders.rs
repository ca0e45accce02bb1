//! What a start creates for sockets in the data directory.

use std::os::unix::fs::MetadataExt;

use crate::start_without_file::started;
use test_support::cli::Cli;

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
    let (serves, said) = started(&cli, &["serve", "--config", &other]);
    assert!(!serves && said.contains("cannot listen on unix:"), "{said}");
    assert!(!elsewhere.exists());
    let (serves, said) = started(&cli, &["serve", "--config", &config("unix:databases/s.sock")]);
    assert!(serves, "{said}");
    let folder = cli.data().join("databases").metadata().expect("the folder");
    assert_eq!(folder.mode() & 0o777, 0o700);
}
