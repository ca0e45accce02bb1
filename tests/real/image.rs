//! The files of the container image, created by the script of the Dockerfile: all libraries of the binary are
//! present, and nothing that an attacker could run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The script, run on the built binary.
fn image() -> TempDir {
    let folder = TempDir::new().expect("a temporary directory");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/image-root.sh");
    let made = Command::new(script).arg(env!("CARGO_BIN_EXE_keyward")).arg(folder.path()).output();
    let made = made.expect("the script can be run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn the_image_holds_what_the_binary_loads_and_no_other_program() {
    let folder = image();
    let root = folder.path().join("root");
    let found = files(&root);
    let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let is_loader = |path: &&PathBuf| name(path).starts_with("ld-");
    let loader = found.iter().find(is_loader).expect("the loader is there");
    let libraries: Vec<_> =
        found.iter().filter(|path| name(path).contains(".so")).map(|path| path.parent()).collect();
    let libraries: Vec<_> = libraries.into_iter().flatten().map(Path::to_string_lossy).collect();

    // The loader tells which files it would take, looking into the image first.
    let listed = Command::new(loader)
        .args(["--inhibit-cache", "--library-path", &libraries.join(":"), "--list"])
        .arg(root.join("keyward"))
        .output()
        .expect("the loader can be run");
    let listed = String::from_utf8(listed.stdout).expect("text");
    let loaded: Vec<_> = listed.lines().filter_map(|line| line.split(" => ").nth(1)).collect();
    assert!(loaded.iter().any(|file| file.contains("libc.so")), "{listed}");
    for file in loaded {
        let within = file.starts_with(&*root.to_string_lossy());
        assert!(within || file.contains("/ld-"), "{file} is not in the image");
    }

    for path in &found {
        let name = name(path);
        let known = name == "keyward" || name.contains(".so") || path.starts_with(root.join("etc"));
        assert!(known, "{}", path.display());
    }
    let roots = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt"));
    assert!(roots.expect("text").contains("BEGIN CERTIFICATE"));
    assert_eq!(fs::read_dir(folder.path().join("data/keyward")).expect("a directory").count(), 0);
}
