//! A CA of a person or a cluster on a file system that the gateway cannot write, such as a mounted secret.

use std::fs;

use test_support::install::Install;
use test_support::process::built;
use test_support::*;

/// Mounts the folder `$1` read-only in a namespace of its own, then runs the rest.
const READ_ONLY: &str =
    r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@""#;

#[tokio::test]
async fn a_ca_on_a_read_only_file_system_is_used() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let mounted = folder.path().join("mounted");
    let at = mounted.display();
    let plan = Plan::api_key().top(&format!("ca: {{ cert: '{at}/ca.pem', key: '{at}/ca.key' }}"));
    let install = Install::new(&plan, &Origin::saying("fine"));
    let made = install.keyward(&["agent", "add", "other"]).output().expect("it runs");
    assert!(made.status.success(), "{made:?}");
    let before = fs::read(mounted.join("ca.pem")).expect("the CA");
    let list = install.keyward(&["agent", "list"]);
    let mut command = std::process::Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--mount", "sh", "-c", READ_ONLY, "sh"]).arg(&mounted).arg(built());
    command.args(list.get_args()).current_dir(install.folder()).env_clear();
    command.envs(list.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let listed = command.output().expect("it runs");
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(fs::read(mounted.join("ca.pem")).expect("the CA"), before);
    assert!(fs::read_dir(&mounted).expect("a folder").count() == 2, "and nothing else");
}
