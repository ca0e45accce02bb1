//! Scheduled backups, and who may download one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use serde_json::Value;

use crate::admin_network::{ask_at, user};
use test_support::canary::Canary;
use test_support::process::Served;
use test_support::*;

/// An identity in a private file, and its recipient.
fn identity(folder: &Path) -> (PathBuf, String) {
    let identity = age::x25519::Identity::generate();
    let path = folder.join("identity");
    let text = identity.to_string();
    fs::write(&path, age::secrecy::ExposeSecret::expose_secret(&text)).expect("a file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, private).expect("chmod");
    (path, identity.to_public().to_string())
}

/// What the gateway says of its backups, once it is so.
async fn until_backups(served: &Served, is_so: impl Fn(&Value) -> bool) -> Value {
    until_some("the backups", async || {
        let view = served.api("GET", "/backup", "").await.json();
        is_so(&view).then_some(view)
    })
    .await
}

async fn metrics(served: &Served) -> String {
    let mut wire = served.admin().await;
    wire.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.text().clone()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder").flatten();
    let mut names: Vec<_> =
        entries.map(|it| it.file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_are_written_on_schedule_and_only_own_files_are_deleted() {
    let origin = Origin::saying("fine");
    let keys = tempfile::tempdir().expect("a folder");
    let (identity, recipient) = identity(keys.path());
    let backup = format!("backup: {{ every: 1d, keep: 2, recipients: [{recipient}] }}\n");
    let plan = Plan::api_key().top(&backup);
    let mut served = Served::start(&plan, &origin, &[]);
    let first = until_backups(&served, |view| view["last"].is_object()).await;
    assert_eq!(first["recipients"][0], *recipient);
    let folder = served.data().join("backups");
    assert_eq!(names(&folder), [first["last"]["file"].as_str().expect("a name")]);
    let file = folder.join(&names(&folder)[0]);
    assert_eq!(first["last"]["bytes"], fs::metadata(&file).expect("a file").len());
    plan.canary().assert_absent("a backup", &fs::read(&file).expect("a file"));
    let (file, identity) = (file.display().to_string(), identity.display().to_string());
    let mut dry = served.keyward(&["restore", &file, "--dry-run", "--identity", &identity]);
    let dry = dry.stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success() && said.contains("agents 1"), "{dry:?}");
    let metrics = metrics(&served).await;
    let line = metrics.lines().find(|line| line.starts_with("keyward_backup_last_success"));
    assert!(line.is_some_and(|line| !line.ends_with(" 0")), "{line:?}");

    served.kill();
    let others = ["notes.age", "keyward-20200101T000000Z.age.txt"];
    let old = ["keyward-20200101T000000Z.age", "keyward-20200102T000000Z.age"];
    let begun = ".keyward-20200101T000000Z.age.99999";
    for name in others.iter().chain(&old).chain([&begun]) {
        fs::write(folder.join(name), name).expect("a file");
    }
    let begun = fs::File::options().append(true).open(folder.join(begun)).expect("a file");
    begun.set_modified(SystemTime::UNIX_EPOCH).expect("ours");
    served.restart();
    let again = until_backups(&served, |view| view["last"].is_object()).await;
    assert_eq!(again["last"], first["last"], "the last one is not old enough");
    assert_eq!(names(&folder).len(), 6, "nothing is deleted without a new one");
    served.kill();
    fs::remove_file(folder.join(first["last"]["file"].as_str().expect("a name"))).expect("a file");
    served.restart();
    let is_new = |view: &Value| {
        view["last"]["file"].as_str().is_some_and(|name| !name.starts_with("keyward-2020"))
    };
    let new = until_backups(&served, is_new).await["last"]["file"].clone();
    let mut expected = vec![old[1], new.as_str().expect("a name")];
    expected.extend(others);
    expected.sort_unstable();
    assert_eq!(names(&folder), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_from_the_future_is_neither_the_last_one_nor_deleted() {
    let origin = Origin::saying("fine");
    let keys = tempfile::tempdir().expect("a folder");
    let (_, recipient) = identity(keys.path());
    let backup = format!("backup: {{ every: 1d, keep: 1, recipients: [{recipient}] }}\n");
    let plan = Plan::api_key().top(&backup);
    let mut served = Served::start(&plan, &origin, &[]);
    let first = until_backups(&served, |view| view["last"].is_object()).await["last"].clone();
    let folder = served.data().join("backups");
    served.kill();
    let future = "keyward-29990101T000000Z.age";
    fs::write(folder.join(future), "").expect("a file");
    served.restart();
    let again = until_backups(&served, |view| view["last"].is_object()).await;
    assert_eq!(again["last"], first, "the last one is not old enough");

    served.kill();
    fs::remove_file(folder.join(first["file"].as_str().expect("a name"))).expect("a file");
    let old = "keyward-20200101T000000Z.age";
    fs::write(folder.join(old), "").expect("a file");
    served.restart();
    let new = until_backups(&served, |view| {
        view["last"]["file"].as_str().is_some_and(|name| name != old)
    });
    let new = new.await["last"]["file"].clone();
    assert_eq!(names(&folder), [new.as_str().expect("a name"), future]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unwritable_backup_folder_is_reported_and_the_gateway_stays_ready() {
    let origin = Origin::saying("fine");
    let keys = tempfile::tempdir().expect("a folder");
    let (_, recipient) = identity(keys.path());
    let backup =
        format!("backup: {{ every: 1d, to: keyward.yaml/none, recipients: [{recipient}] }}\n");
    // A path below a file.
    let plan = Plan::api_key().top(&backup.replace("keyward.yaml/none", "master.key/none"));
    let served = Served::start(&plan, &origin, &[]);
    let view = until_backups(&served, |view| view["failure"].is_string()).await;
    let why = view["failure"].as_str().expect("why");
    assert!(why.contains("master.key/none") && view["last"].is_null(), "{why}");
    let metrics = metrics(&served).await;
    assert!(metrics.contains("\nkeyward_backup_failures_total 1\n"), "{metrics}");
    assert!(served.keyward(&["health"]).output().expect("it runs").status.success());
}

#[tokio::test]
async fn only_the_operator_chooses_who_can_open_a_backup() {
    let keys = tempfile::tempdir().expect("a folder");
    let (_, recipient) = identity(keys.path());
    let settings = format!("backup: {{ recipients: [{recipient}] }}\n");
    let origin = Origin::saying("fine");
    let mut lab = Plan::api_key().top(&settings).start(origin).await;
    let ann = user(&mut lab, "ann", "admin").await;
    let bob = user(&mut lab, "bob", "member").await;
    let eve = user(&mut lab, "eve", "auditor").await;
    let ask = async |token: &str, body: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n");
        ask_at(&lab, "POST /api/v1/backup", &fields, body).await
    };
    for (token, status) in [(&bob, 403), (&eve, 403), (&"kwp_none".to_owned(), 401)] {
        assert_eq!(ask(token, "{}").await.head.status(), status);
    }
    let own = keys.path().join("second");
    fs::create_dir(&own).expect("a folder");
    let (_, other) = identity(&own);
    for body in [
        format!(r#"{{"recipients":["{other}"]}}"#),
        format!(r#"{{"recipients":["{recipient}"]}}"#),
        r#"{"passphrase":"of an admin"}"#.to_owned(),
    ] {
        ask(&ann, &body).await.is(422).says("only the operator");
    }
    let downloaded = ask(&ann, "{}").await.is(200);
    assert_eq!(downloaded.head.all("content-type"), ["application/octet-stream"]);
    assert!(downloaded.head.all("content-disposition")[0].starts_with("attachment; filename="));
    assert!(downloaded.body.starts_with(b"age-encryption.org/v1\n"));
    for body in [
        r#"{"recipients":["age1nothing"]}"#,
        r#"{"recipients":[],"passphrase":""}"#,
        r#"{"password":"x"}"#,
    ] {
        lab.gateway.api("POST", "/backup", body).await.is(422);
    }
    let both = format!(r#"{{"recipients":["{other}"],"passphrase":"x"}}"#);
    lab.gateway.api("POST", "/backup", &both).await.is(422);
    let chosen = format!(r#"{{"recipients":["{other}"]}}"#);
    lab.gateway.api("POST", "/backup", &chosen).await.is(200);
    lab.guard(Canary::of("AGE-SECRET-KEY-".to_owned()));
    let records = lab.finish_with_changes().await;
    let changes = records.iter().filter(|it| it["change"]["what"] == "backup");
    let changes: Vec<_> = changes.collect();
    let taken = |by: &str, status: u64| {
        let is_it =
            |it: &&&Value| it["change"]["by"].to_string().contains(by) && it["status"] == status;
        changes.iter().filter(is_it).count()
    };
    assert_eq!((taken("usr_", 200), taken("usr_", 422), taken("operator", 200)), (1, 3, 1));
    let why = changes.iter().find(|it| it["status"] == 200).expect("a record");
    assert!(why["change"]["why"].to_string().contains(&recipient), "{why}");
}
