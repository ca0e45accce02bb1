//! `keyward apply` by root in a directory of the gateway's user.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use test_support::install::Install;
use test_support::*;

const USER: u32 = 65_534;

fn apply(install: &Install) {
    let output = install.keyward(&["apply", "new.yaml", "--yes"]).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

fn is_of_user(path: &Path) -> bool {
    let about = fs::symlink_metadata(path).expect("it is there");
    about.is_file() && (about.uid(), about.gid()) == (USER, USER)
}

#[tokio::test]
async fn root_gives_the_files_of_an_apply_to_the_user_of_the_gateway_and_follows_no_link() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let install = Install::new(&Plan::api_key(), &Origin::saying("fine"));
    let at = |name: &str| install.folder().join(name);
    let (config, before) = (at("keyward.yaml"), at("keyward.yaml.before-apply"));
    let old = fs::read_to_string(&config).expect("the configuration");
    let new = format!("{old}# applied\n");
    fs::write(at("new.yaml"), &new).expect("a file");
    for path in [install.folder(), &config] {
        chown(path, Some(USER), Some(USER)).expect("root may");
    }
    let elsewhere = tempfile::TempDir::new().expect("a folder of root");
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "of root").expect("a file");
    symlink(&victim, &before).expect("a link");
    apply(&install);
    assert_eq!(fs::read_to_string(&victim).expect("it stays"), "of root");
    assert_eq!(fs::read_to_string(&before).expect("the former one"), old);
    assert_eq!(fs::read_to_string(&config).expect("the new one"), new);
    assert!(is_of_user(&before) && is_of_user(&config));
}

#[tokio::test]
async fn root_gives_the_first_configuration_to_the_owner_of_its_folder() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let install = Install::new(&Plan::api_key(), &Origin::saying("fine"));
    fs::write(install.folder().join("new.yaml"), "# nothing\n").expect("a file");
    fs::create_dir(install.data()).expect("a folder");
    fs::set_permissions(install.data(), fs::Permissions::from_mode(0o700)).expect("ours");
    chown(install.data(), Some(USER), Some(USER)).expect("root may");
    let mut command = install.keyward(&["apply", "new.yaml", "--yes"]);
    let output = command.env_remove("KEYWARD_CONFIG").output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    assert!(is_of_user(&install.data().join("keyward.yaml")));
}
