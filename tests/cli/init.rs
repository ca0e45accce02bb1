//! `keyward init` makes the data directory and its configuration once.

use test_support::cli::Cli;

#[test]
fn init_does_not_overwrite_an_existing_configuration() {
    let cli = Cli::new();
    let made = cli.run(&["init", "--json"]).json();
    let config = made["config"].as_str().unwrap();
    std::fs::write(config, "# mine\n").unwrap();
    let err = cli.run(&["init"]).failed(1);
    assert!(err.contains("exists already") && err.contains("hint: "), "{err}");
    assert_eq!(std::fs::read_to_string(config).unwrap(), "# mine\n");
}

#[test]
fn the_configuration_that_init_writes_is_accepted() {
    let cli = Cli::new();
    cli.run(&["init"]).ok();
    assert_eq!(cli.run(&["agent", "list"]).ok().lines().count(), 1);
}

/// What the variables say wrong is known before anything is made.
#[test]
fn an_init_with_an_invalid_variable_creates_no_data_directory() {
    let cli = Cli::new();
    let mut init = cli.command(&["init"]);
    let output = init.env("KEYWARD__LISTEN__PROXY", "here").output().expect("it runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("KEYWARD__LISTEN__PROXY"), "{err}");
    assert!(!cli.data().exists(), "{err}");
    cli.run(&["init"]).ok();
}

#[test]
fn an_init_that_ends_half_way_says_what_it_made_and_goes_on_when_it_is_run_again() {
    let cli = Cli::new();
    let blocked = cli.file("blocked", "a file where a folder is wanted");
    let ca = format!("{{ cert: {0}/ca.pem, key: {0}/ca.key }}", blocked.display());
    let output = cli.command(&["init"]).env("KEYWARD__CA", ca).output().expect("it runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    let made = format!("master.key, store were created in {}", cli.data().display());
    assert!(err.contains(&made) && err.contains("init` again"), "{err}");
    assert!(!cli.data().join("keyward.yaml").exists(), "{err}");
    let key = std::fs::read(cli.data().join("master.key")).expect("it was made");
    cli.run(&["init"]).ok();
    assert!(cli.data().join("keyward.yaml").exists() && cli.data().join("ca/ca.pem").exists());
    assert_eq!(std::fs::read(cli.data().join("master.key")).expect("it stays"), key);
}

/// The folder of the configuration is tried before keys are made.
#[test]
fn an_init_whose_configuration_cannot_be_written_leaves_nothing() {
    let cli = Cli::new();
    let file = cli.data().with_file_name("no-folder").join("keyward.yaml");
    let output = cli.command(&["init"]).env("KEYWARD_CONFIG", &file).output().expect("it runs");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("cannot write ") && err.contains("hint: create its folder"), "{err}");
    assert!(!cli.data().exists(), "{err}");
}

/// The file that `KEYWARD_CONFIG` names is the one that every other command reads.
#[test]
fn init_writes_the_file_that_keyward_config_names() {
    let cli = Cli::new();
    let file = cli.data().with_file_name("named.yaml");
    let output = cli.command(&["init"]).env("KEYWARD_CONFIG", &file).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert!(file.exists() && !cli.data().join("keyward.yaml").exists());
}
