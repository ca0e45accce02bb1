//! Backups and restores by the command line, on real directories: under load, elsewhere, refused, and killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::finished::killed_at;
use test_support::install::Install;
use test_support::process::{Served, api_request, said, soak};
use test_support::*;

/// Each is a grant, metadata and a name.
const CONNECTIONS: usize = 60;
const WRITERS: usize = 4;

const SECRET: &str = "secret-of-connection-";
const PASSPHRASE: &str = "correct horse battery staple";

fn secret(name: &str) -> String {
    format!("{SECRET}{name}-0123456789")
}

fn succeeds(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// What it prints, without notes and warnings.
fn printed(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fails(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    said(&output)
}

/// With the passphrase in the environment.
fn with_passphrase(mut command: Command) -> Command {
    command.env("KEYWARD_BACKUP_PASSPHRASE", PASSPHRASE);
    command
}

async fn post(wire: &mut Wire, path: &str, body: &Value) -> Value {
    wire.send(api_request("POST", path, &body.to_string())).await;
    wire.answer("POST").await.is(201).json()
}

/// Adds connections and binds agent `reader` to each, from several clients.
async fn fill(served: &Served) {
    let writers = (0..WRITERS).map(|writer| async move {
        let mut wire = served.admin().await;
        for number in (writer..CONNECTIONS).step_by(WRITERS) {
            let name = format!("c{number}");
            let new = json!({
                "provider": "acme", "auth": "key", "name": name,
                "fields": { "api_key": secret(&name) },
            });
            post(&mut wire, "/connections", &new).await;
            post(&mut wire, "/agents/reader/bindings", &json!({ "connection": name })).await;
        }
    });
    futures_util::future::join_all(writers).await;
}

/// Uses every connection through the proxy: what the origin receives is what was stored.
async fn all_are_injected(served: &Served, origin: &Origin, token: &str) {
    let before = origin.received().len();
    let mut wire = Wire::to(served.proxy).await;
    for number in 0..CONNECTIONS {
        wire.send(absolute(&format!("GET /\r\nKeyward-Connection: c{number}"), HOST, token)).await;
        assert_eq!(wire.answer("GET").await.text(), "fine", "c{number}");
    }
    for (number, request) in origin.received()[before..].iter().enumerate() {
        assert_eq!(request.head.all("x-api-key"), [&*secret(&format!("c{number}"))]);
    }
}

fn names(json: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(json).expect("JSON");
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
}

fn file_in(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let text = path.display().to_string();
    (path, text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_restores_elsewhere_under_another_key_and_serves() {
    let origin = Origin::saying("fine");
    let plan = Plan::api_key();
    let served = Served::start(&plan, &origin, &[]);
    let mut wire = served.admin().await;
    post(&mut wire, "/agents", &json!({ "name": "reader" })).await;
    let issued = post(&mut wire, "/agents/reader/tokens", &json!({})).await;
    let token = issued["token"].as_str().expect("shown once");
    let folder = tempfile::tempdir().expect("a folder");
    let (early, early_path) = file_in(folder.path(), "early.age");
    let (file, path) = file_in(folder.path(), "full.age");
    let under_load = with_passphrase(served.keyward(&["backup", &early_path]));
    let (_, told) =
        tokio::join!(fill(&served), tokio::task::spawn_blocking(|| succeeds(under_load)));
    assert!(told.expect("a thread").starts_with("wrote "));
    succeeds(with_passphrase(served.keyward(&["backup", &path])));
    let again = fails(with_passphrase(served.keyward(&["backup", &path])));
    assert!(again.contains("exists") && again.contains("--force"), "{again}");
    let secrets = Canary::of(SECRET.to_owned());
    for file in [&early, &file] {
        let bytes = fs::read(file).expect("the backup");
        assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
        secrets.assert_absent("a backup", &bytes);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(file).expect("a file"));
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing beside them");

    let mut elsewhere = Served::start(&plan, &origin, &[]);
    for words in [&["restore", &*path, "--yes"][..], &["restore", &path]] {
        let running = fails(with_passphrase(elsewhere.keyward(words)));
        assert!(running.contains("locked by process") && running.contains("stop the gateway"));
    }
    assert_eq!(elsewhere.terminate(), Some(0));
    let key = fs::read(elsewhere.data().join("master.key")).expect("its key");
    assert_ne!(key, fs::read(served.data().join("master.key")).expect("a key"));
    // Taken while rows were written: what it has opens, and no binding leads to nothing.
    let partial = succeeds(with_passphrase(elsewhere.keyward(&["restore", &early_path, "--yes"])));
    assert!(partial.contains("before-restore"), "{partial}");
    elsewhere.restart();
    let agent = elsewhere.api("GET", "/agents/reader", "").await.json();
    for binding in agent["bindings"].as_array().expect("bindings") {
        let id = binding["connection"].as_str().expect("an id");
        elsewhere.api("GET", &format!("/connections/{id}"), "").await.is(200);
    }
    assert_eq!(elsewhere.terminate(), Some(0));

    let refused = fails(with_passphrase(elsewhere.keyward(&["restore", &path])));
    assert!(refused.contains("there is a store at") && refused.contains("--yes"), "{refused}");
    succeeds(with_passphrase(elsewhere.keyward(&["restore", &path, "--yes"])));
    elsewhere.restart();
    all_are_injected(&elsewhere, &origin, token).await;
    assert_eq!(fs::read(elsewhere.data().join("master.key")).expect("its key"), key);
    let ca = |served: &Served| fs::read(served.data().join("ca/ca.pem")).expect("the CA");
    assert_eq!(ca(&elsewhere), ca(&served), "agents trust the CA of the backup");
    secrets.assert_absent("the gateway's output", elsewhere.output().as_bytes());
    secrets.assert_absent_below(&elsewhere.data());
}

/// An install without a gateway, with these agents.
async fn install_with(agents: &[&str]) -> Install {
    let install = Install::new(&Plan::api_key(), &Origin::saying("fine"));
    for agent in agents {
        succeeds(install.keyward(&["agent", "add", agent]));
    }
    install
}

/// All files of a store and of the CA, by name.
fn files(install: &Install) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![install.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match entry.file_type().expect("a type").is_dir() {
                true => folders.push(path),
                // sled writes its snapshot and log when it is opened; rows are compared by the commands.
                false if path.components().any(|part| part.as_os_str() == "sled") => {}
                false => found.push((path.clone(), fs::read(path).expect("a file"))),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_file_that_is_not_a_whole_backup_is_refused_and_changes_nothing() {
    let (source, target) = (install_with(&["one", "two"]).await, install_with(&["old"]).await);
    let (file, path) = file_in(source.folder(), "k.age");
    succeeds(with_passphrase(source.keyward(&["backup", &path])));
    let bytes = fs::read(&file).expect("the backup");
    let before = files(&target);
    let (changed, changed_path) = file_in(source.folder(), "changed.age");
    let restore = || with_passphrase(target.keyward(&["restore", &changed_path, "--yes"]));
    let flipped = |at: usize| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        flipped
    };
    let cases = [
        (bytes[..bytes.len() - 1].to_vec(), "damaged or truncated"),
        (bytes[..bytes.len() / 2].to_vec(), "damaged or truncated"),
        (flipped(bytes.len() - 100), "damaged or truncated"),
        (flipped(5), "not a backup"),
        (b"secret: [1, 2]\n".to_vec(), "not a backup"),
        (Vec::new(), "not a backup"),
    ];
    for (content, expected) in cases {
        fs::write(&changed, content).expect("a file");
        let told = fails(restore());
        assert!(told.contains(expected) && told.contains("changed.age"), "{expected}: {told}");
    }
    let mut wrong = target.keyward(&["restore", &path, "--yes"]);
    wrong.env("KEYWARD_BACKUP_PASSPHRASE", "wrong");
    assert!(fails(wrong).contains("the passphrase does not open it"));
    assert!(files(&target) == before, "nothing was changed");
    let dry = succeeds(with_passphrase(target.keyward(&["restore", &path, "--dry-run"])));
    assert!(dry.contains("agents 2") && dry.contains("would replace the store at"), "{dry}");
    assert!(files(&target) == before, "a dry run changes nothing");
    assert_eq!(names(&printed(target.keyward(&["agent", "list", "--json"]))), ["old"]);
    let empty = Install::new(&Plan::api_key(), &Origin::saying("fine"));
    let dry = succeeds(with_passphrase(empty.keyward(&["restore", &path, "--dry-run"])));
    assert!(dry.contains("there is no store"), "{dry}");
    assert!(!empty.data().exists(), "a dry run makes no data directory");
}

/// What the gateway's user could not open, in an installation of user 65534.
fn files_of_others(install: &Install) -> Vec<PathBuf> {
    let uid = |path: &Path| {
        std::os::unix::fs::MetadataExt::uid(&fs::symlink_metadata(path).expect("a file"))
    };
    let mut found: Vec<_> = ["master.key", "store", "ca"].map(|it| install.data().join(it)).into();
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            found.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        at += 1;
    }
    found.retain(|path| uid(path) != 65_534);
    found
}

/// The guide's commands, as root in the directory of a service.
#[tokio::test]
async fn files_that_root_restores_or_opens_belong_to_the_user_of_the_gateway() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let install = install_with(&["one"]).await;
    let (_, path) = file_in(install.folder(), "k.age");
    succeeds(with_passphrase(install.keyward(&["backup", &path])));
    let mut owned = Command::new("chown");
    owned.args(["-R", "65534:65534"]).arg(install.data());
    succeeds(owned);
    for key_is_lost in [false, true] {
        if key_is_lost {
            fs::remove_file(install.data().join("master.key")).expect("it was made");
            fs::remove_dir_all(install.data().join("ca")).expect("it was made");
        }
        succeeds(with_passphrase(install.keyward(&["restore", &path, "--yes"])));
        let left = files_of_others(&install);
        assert!(left.is_empty(), "{left:?}");
        succeeds(install.keyward(&["store", "check"]));
        let left = files_of_others(&install);
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn files_that_root_makes_in_an_empty_data_directory_belong_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for words in [&["init"][..], &["agent", "add", "a"]] {
        let install = Install::new(&Plan::api_key(), &Origin::saying("fine"));
        fs::create_dir(install.data()).expect("a folder");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(install.data(), mode).expect("ours");
        std::os::unix::fs::chown(install.data(), Some(65_534), Some(65_534)).expect("root may");
        let mut command = install.keyward(words);
        if words == ["init"] {
            command.env("KEYWARD_CONFIG", install.data().join("keyward.yaml"));
        }
        succeeds(command);
        assert!(install.data().join("ca/ca.key").exists(), "{words:?}");
        let left = files_of_others(&install);
        assert!(left.is_empty(), "{words:?}: {left:?}");
    }
}

#[tokio::test]
async fn a_link_and_a_pipe_are_not_replaced_by_a_backup_also_with_force() {
    let source = install_with(&["one"]).await;
    let (link, link_path) = file_in(source.folder(), "latest.age");
    std::os::unix::fs::symlink("dated.age", &link).expect("a link");
    let (pipe, pipe_path) = file_in(source.folder(), "pipe");
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.arg(&pipe);
    succeeds(mkfifo);
    for (place, path) in [(&link, &link_path), (&pipe, &pipe_path)] {
        for force in [&["--force"][..], &[]] {
            let words = [&["backup", &**path][..], force].concat();
            let told = fails(with_passphrase(source.keyward(&words)));
            assert!(told.contains("not a regular file") && !told.contains("--force"), "{told}");
        }
        assert!(!fs::symlink_metadata(place).expect("it stays").is_file(), "{path}");
    }
    assert!(!source.folder().join("dated.age").exists());
    let (_, path) = file_in(source.folder(), "k.age");
    succeeds(with_passphrase(source.keyward(&["backup", &path])));
    succeeds(with_passphrase(source.keyward(&["backup", &path, "--force"])));
}

#[tokio::test]
async fn a_restore_needs_no_old_store_and_no_old_key() {
    let source = install_with(&["one", "two"]).await;
    let (_, path) = file_in(source.folder(), "k.age");
    succeeds(with_passphrase(source.keyward(&["backup", &path])));
    let empty = Install::new(&Plan::api_key(), &Origin::saying("fine"));
    let told = succeeds(with_passphrase(empty.keyward(&["restore", &path])));
    assert!(told.contains("is valid again: revoke it again"), "{told}");
    assert_eq!(names(&printed(empty.keyward(&["agent", "list", "--json"]))), ["one", "two"]);
    fs::remove_file(empty.data().join("master.key")).expect("it was made");
    let lost = fails(empty.keyward(&["agent", "list"]));
    assert!(lost.contains("keyward restore"), "{lost}");
    succeeds(with_passphrase(empty.keyward(&["restore", &path, "--yes"])));
    assert_eq!(names(&printed(empty.keyward(&["agent", "list", "--json"]))), ["one", "two"]);
    // Of the state before, everything but the lost key is still there.
    let kept: Vec<_> = fs::read_dir(empty.data())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name.starts_with("store.before-restore-"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

#[tokio::test]
async fn a_restore_replaces_the_ca_by_that_of_the_backup_unless_keep_ca_is_given() {
    let (source, target) = (install_with(&["one"]).await, install_with(&["old"]).await);
    let (_, path) = file_in(source.folder(), "k.age");
    succeeds(with_passphrase(source.keyward(&["backup", &path])));
    let ca = |install: &Install, name: &str| {
        fs::read(install.data().join("ca").join(name)).expect("a file")
    };
    let old = [ca(&target, "ca.pem"), ca(&target, "ca.key")];
    succeeds(with_passphrase(target.keyward(&["restore", &path, "--yes", "--keep-ca"])));
    assert_eq!([ca(&target, "ca.pem"), ca(&target, "ca.key")], old);
    let told = printed(with_passphrase(target.keyward(&["restore", &path, "--yes", "--json"])));
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["ca_replaced"], &told["restored"]), (&json!(true), &json!(true)));
    assert_eq!(ca(&target, "ca.pem"), ca(&source, "ca.pem"));
    let kept = PathBuf::from(told["kept"].as_str().expect("a path")).join("ca");
    assert_eq!(
        [fs::read(kept.join("ca.pem")), fs::read(kept.join("ca.key"))].map(Result::unwrap),
        old
    );
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let (source, target) = (install_with(&["one", "two"]).await, install_with(&["old"]).await);
    let (_, new) = file_in(source.folder(), "new.age");
    let (_, old) = file_in(source.folder(), "old.age");
    let identity = age::x25519::Identity::generate();
    let (key, key_path) = file_in(source.folder(), "key");
    let text = identity.to_string();
    fs::write(&key, age::secrecy::ExposeSecret::expose_secret(&text)).expect("the identity");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&key, private).expect("chmod");
    let recipient = identity.to_public().to_string();
    succeeds(source.keyward(&["backup", &new, "--recipient", &recipient]));
    succeeds(target.keyward(&["backup", &old, "--recipient", &recipient]));
    let restore = |file: &str| target.keyward(&["restore", file, "--yes", "--identity", &key_path]);
    let data = target.data();
    let staging = data.join("store.restoring");
    let pending = data.join("store/restored");
    let kept = || {
        let entries = fs::read_dir(&data).expect("the folder").flatten();
        entries.filter(|it| it.file_name().to_string_lossy().contains("before-restore")).count()
    };
    let (mut olds, mut news) = (0, 0);
    for round in 0..if soak() { 200 } else { 24 } {
        let (began, kept_before) = (Instant::now(), kept());
        killed_at(restore(&new), || match round % 8 {
            0 => staging.exists(),
            1 => staging.join("restored/ca.key").exists(),
            2 => staging.join("restored/before").exists(),
            3 => pending.exists(),
            4 => kept() > kept_before,
            5 => pending.exists() && !staging.exists(),
            _ => began.elapsed() > Duration::from_millis(20 * round),
        });
        let list = names(&printed(target.keyward(&["agent", "list", "--json"])));
        let ca_of = |install: &Install| fs::read(install.data().join("ca/ca.pem")).expect("a CA");
        match list.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["old"] => {
                olds += 1;
                assert_ne!(ca_of(&target), ca_of(&source), "round {round}");
            }
            ["one", "two"] => {
                news += 1;
                assert_eq!(ca_of(&target), ca_of(&source), "round {round}");
                succeeds(restore(&old));
            }
            _ => panic!("round {round}: {list:?}"),
        }
        assert!(!staging.exists() && !pending.exists(), "round {round}: nothing is left over");
    }
    assert!(olds > 0 && news > 0, "{olds} old and {news} new");
    succeeds(restore(&new));
}
