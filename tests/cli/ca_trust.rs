//! `keyward ca trust`: what it does to a system's trust store, told first. The store is one below a folder of the
//! test, and `update-ca-certificates` a script that notes how it is called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use test_support::finished::{Finished, finished};
use test_support::market::Market;

/// A system below a folder: its root, its path, and what its program notes.
struct System {
    folder: tempfile::TempDir,
}

impl System {
    /// With an `update-ca-certificates` that does this.
    fn with(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        let program = bin.join("update-ca-certificates");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn trust(&self, market: &Market, more: &[&str]) -> Finished {
        let root = self.root().display().to_string();
        let mut command = market.command(&[&["ca", "trust", "--root", &root], more].concat());
        let path = std::env::var("PATH").expect("programs are found by it");
        command.env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()));
        finished(command, "")
    }

    fn certificates(&self) -> Vec<PathBuf> {
        let local = self.root().join("usr/local/share/ca-certificates");
        let Ok(entries) = fs::read_dir(local) else { return vec![] };
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The arguments of each call.
    fn calls(&self) -> Vec<String> {
        let notes = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        notes.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ca_trust_adds_the_ca_to_the_system_store_removes_it_and_has_a_dry_run() {
    let market = Market::open().await;
    let system = System::with("echo \"$@\" >> \"$(dirname \"$0\")/../calls\"");
    let dry = system.trust(&market, &["--dry-run"]);
    assert_eq!((dry.code, &*dry.out), (0, "nothing was changed\n"), "{dry:?}");
    assert!(
        dry.err.contains("writes ") && dry.err.contains("will trust this CA, sha256"),
        "{dry:?}"
    );
    assert!(system.certificates().is_empty() && system.calls().is_empty());
    let did = system.trust(&market, &[]);
    assert_eq!(did.code, 0, "{did:?}");
    assert!(did.out.contains("the CA is in the system's store;"), "{did:?}");
    let [file] = &system.certificates()[..] else { panic!("{:?}", system.certificates()) };
    assert_eq!(fs::read_to_string(file).expect("it is there"), market.lab.gateway.ca_pem);
    let mode = fs::metadata(file).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "every program reads it");
    let [call] = &system.calls()[..] else { panic!("{:?}", system.calls()) };
    assert!(call.contains("--localcertsdir ") && !call.contains("--fresh"), "{call}");
    let again = system.trust(&market, &[]);
    assert!(again.out.contains("already has this CA") && system.calls().len() == 1, "{again:?}");
    let gone = system.trust(&market, &["--remove"]);
    assert!(gone.out.contains("the CA is removed from the system's store"), "{gone:?}");
    assert!(system.certificates().is_empty() && system.calls()[1].contains("--fresh"));
    let nothing = system.trust(&market, &["--remove"]);
    assert!(nothing.code == 0 && nothing.out.contains("does not have this CA"), "{nothing:?}");
    market.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_update_leaves_the_system_store_without_the_ca() {
    let market = Market::open().await;
    let system = System::with("echo 'no space left' >&2; exit 1");
    let did = system.trust(&market, &[]);
    assert_eq!(did.code, 1, "{did:?}");
    assert!(did.err.contains("update-ca-certificates failed: no space left"), "{did:?}");
    assert!(did.err.contains("hint: nothing was changed"), "{did:?}");
    assert!(system.certificates().is_empty());
    market.close().await;
}
