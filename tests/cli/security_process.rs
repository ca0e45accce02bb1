//! The process and its files: what others on the machine could read, and what it refuses to run
//! with; and that abandoned exchanges leave nothing open.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use test_support::install::TOKEN_CI;
use test_support::process::Served;
use test_support::*;

fn served(origin: &Origin) -> Served {
    let plan = Plan::api_key();
    Served::start(&plan, origin, &[("CANARY", "cnry-0123456789abcdef")])
}

fn assert_private(path: &Path) {
    let metadata = fs::symlink_metadata(path).expect("it exists");
    assert_eq!(metadata.mode() & 0o077, 0, "{} is open to others", path.display());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            assert_private(&entry.expect("an entry").path());
        }
    }
}

#[tokio::test]
async fn files_of_the_gateway_are_private_and_core_dumps_are_disabled() {
    let origin = Origin::saying("fine");
    let served = served(&origin);
    assert_private(&served.data());
    let limits = served.about("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("Linux says so").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
    let status = served.about("status");
    assert!(status.contains("Umask:\t0077"), "{status}");
}

#[tokio::test]
async fn no_argument_and_no_output_holds_a_secret() {
    let origin = Origin::saying("fine");
    let served = served(&origin);
    for text in [served.about("cmdline"), served.output()] {
        assert!(!text.contains("cnry-") && !text.contains(TOKEN_CI), "{text}");
    }
}

#[tokio::test]
async fn files_that_others_can_read_are_refused() {
    let origin = Origin::saying("fine");
    let mut served = served(&origin);
    assert_eq!(served.terminate(), Some(0));
    for (file, strict, loose) in
        [("master.key", 0o600, 0o640), ("ca/ca.key", 0o600, 0o604), ("", 0o700, 0o755)]
    {
        let path = served.data().join(file);
        fs::set_permissions(&path, Permissions::from_mode(loose)).expect("ours");
        let refused = served.keyward(&["serve"]).output().expect("it runs");
        assert!(!refused.status.success(), "{file}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("chmod"), "{file}: {said}");
        fs::set_permissions(&path, Permissions::from_mode(strict)).expect("ours");
    }
    served.restart();
}

#[tokio::test]
async fn a_store_without_its_key_is_not_given_a_new_one() {
    let origin = Origin::saying("fine");
    let mut served = served(&origin);
    assert_eq!(served.terminate(), Some(0));
    let (key, aside) = (served.data().join("master.key"), served.data().join("aside"));
    fs::rename(&key, &aside).expect("ours");
    let refused = served.keyward(&["serve"]).output().expect("it runs");
    assert!(!refused.status.success() && !key.exists());
    fs::write(&key, "ab".repeat(31) + "cd\n").expect("ours");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("ours");
    assert!(!served.keyward(&["serve"]).output().expect("it runs").status.success());
    fs::rename(&aside, &key).expect("ours");
    served.restart();
}

#[tokio::test]
async fn abandoned_exchanges_leave_no_descriptor_open() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        if stream.request().await.is_some() {
            drop(stream.try_send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").await);
            stream.rest().await;
        }
    });
    let served = served(&origin);
    let before = served.descriptors();
    let ask = format!(
        "https://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\nProxy-Authorization: Bearer {TOKEN_CI}\r\n"
    );
    let connect =
        format!("CONNECT {HOST}:443 HTTP/1.1\r\nProxy-Authorization: Bearer {TOKEN_CI}\r\n\r\n");
    let stages = [
        "CONN".to_owned(),
        connect.clone(),
        format!("{connect}\u{16}\u{3}\u{1}"),
        format!("GET {ask}\r\n"),
        format!("POST {ask}Content-Length: 10\r\n\r\nhell"),
    ];
    for _ in 0..20 {
        let proxy = served.proxy;
        let open = stages.iter().map(|stage| async move {
            let mut wire = Wire::to(proxy).await;
            wire.send(stage).await;
            if stage.len() > 5 && !stage.starts_with("POST") {
                drop(wire.head().await);
            }
            wire.abort();
        });
        futures_util::future::join_all(open).await;
    }
    // A few idle ones may stay: the listeners' and the store's own come and go.
    until("closing what was abandoned", async || served.descriptors() <= before + 2).await;
}
