//! The programs `age` and `age-keygen`: they decrypt a backup, and their identities restore one.

use std::fs;
use std::process::{Command, Output, Stdio};

use test_support::install::Install;
use test_support::wire::find;

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("tests/run installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

#[tokio::test]
async fn age_decrypts_a_backup_for_an_identity_of_age_keygen_and_keyward_restores_it() {
    let (install, _origin) = Install::simple();
    let folder = install.folder();
    let made = run(Command::new("age-keygen").args(["-o", "backup.key"]).current_dir(folder));
    let made = String::from_utf8_lossy(&made.stderr).into_owned();
    let recipient = made.trim().rsplit(' ').next().expect("a recipient").to_owned();
    assert!(recipient.starts_with("age1"), "{made}");
    run(&mut install.keyward(&["agent", "add", "one"]));
    run(&mut install.keyward(&["backup", "k.age", "--recipient", &recipient]));
    let decrypt = ["-d", "-i", "backup.key", "k.age"];
    let plain = run(Command::new("age").args(decrypt).current_dir(folder)).stdout;
    assert!(plain.starts_with(b"keyward-backup\n"));
    assert!(find(&plain, b"\"name\":\"one\"").is_some(), "rows are not sealed inside");
    assert!(find(&plain, b"-----BEGIN PRIVATE KEY-----").is_some(), "the CA's key is in it");
    run(&mut install.keyward(&["agent", "remove", "one", "--yes"]));
    run(&mut install.keyward(&["restore", "k.age", "--identity", "backup.key", "--yes"]));
    assert_eq!(install.agent("one")["name"], "one");
}

#[tokio::test]
async fn a_file_that_age_encrypted_and_that_is_no_backup_is_refused() {
    let (install, _origin) = Install::simple();
    let folder = install.folder();
    run(Command::new("age-keygen").args(["-o", "own.key"]).current_dir(folder));
    fs::write(folder.join("letter"), "a letter").expect("a file");
    let encrypt = ["-e", "-i", "own.key", "-o", "letter.age", "letter"];
    run(Command::new("age").args(encrypt).current_dir(folder));
    let mut restore = install.keyward(&["restore", "letter.age", "--identity", "own.key"]);
    let refused = restore.stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("not a backup of Keyward"), "{said}");
    assert!(!install.data().exists());
}
