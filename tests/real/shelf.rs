//! One package called `fine`, in the format of each registry, built with the usual tools.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256, Sha512};
use tempfile::TempDir;

/// All of them, made once: archives have times in them.
#[derive(Default)]
pub(crate) struct Shelf {
    npm: OnceLock<Vec<u8>>,
    cargo: OnceLock<Vec<u8>>,
    wheel: OnceLock<Vec<u8>>,
    deb: OnceLock<Vec<u8>>,
    jar: OnceLock<Vec<u8>>,
}

/// The one of this process.
pub(crate) fn shelf() -> &'static Shelf {
    static SHELF: OnceLock<Shelf> = OnceLock::new();
    SHELF.get_or_init(Shelf::default)
}

impl Shelf {
    /// For npm.
    pub(crate) fn npm(&self) -> &[u8] {
        self.npm.get_or_init(npm)
    }

    /// For cargo.
    pub(crate) fn cargo(&self) -> &[u8] {
        self.cargo.get_or_init(cargo)
    }

    /// For pip.
    pub(crate) fn wheel(&self) -> &[u8] {
        self.wheel.get_or_init(wheel)
    }

    /// For apt.
    pub(crate) fn deb(&self) -> &[u8] {
        self.deb.get_or_init(deb)
    }

    /// For Maven and Gradle.
    pub(crate) fn jar(&self) -> &[u8] {
        self.jar.get_or_init(jar)
    }
}

fn npm() -> Vec<u8> {
    packed(&[
        ("package/package.json", r#"{ "name": "@acme/fine", "version": "1.0.0" }"#),
        ("package/index.js", "module.exports = 'fine';"),
    ])
}

fn cargo() -> Vec<u8> {
    packed(&[
        (
            "fine-1.0.0/Cargo.toml",
            "[package]\nname = \"fine\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
        ),
        ("fine-1.0.0/src/lib.rs", "pub fn word() -> &'static str {\n    \"fine\"\n}\n"),
    ])
}

fn wheel() -> Vec<u8> {
    const META: &str = "Metadata-Version: 2.1\nName: fine\nVersion: 1.0.0\n";
    const WHEEL: &str = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\n\
                         Tag: py3-none-any\n";
    let files = [
        ("fine.py", "word = 'fine'\n"),
        ("fine-1.0.0.dist-info/METADATA", META),
        ("fine-1.0.0.dist-info/WHEEL", WHEEL),
        (
            "fine-1.0.0.dist-info/RECORD",
            "fine.py,,\nfine-1.0.0.dist-info/METADATA,,\nfine-1.0.0.dist-info/WHEEL,,\n\
             fine-1.0.0.dist-info/RECORD,,\n",
        ),
    ];
    let folder = laid_out(&files);
    let mut all = vec!["-m", "zipfile", "-c", "made.whl"];
    all.extend(["fine.py", "fine-1.0.0.dist-info"]);
    made(folder.path(), "python3", &all, "made.whl")
}

fn jar() -> Vec<u8> {
    let files = [("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n"), ("word.txt", "fine\n")];
    let folder = laid_out(&files);
    let all = ["-m", "zipfile", "-c", "made.jar", "META-INF", "word.txt"];
    made(folder.path(), "python3", &all, "made.jar")
}

fn deb() -> Vec<u8> {
    let files = [
        (
            "deb/DEBIAN/control",
            "Package: fine\nVersion: 1.0.0\nArchitecture: all\nMaintainer: Acme <a@acme.test>\n\
             Description: fine\n",
        ),
        ("deb/usr/share/fine/word", "fine\n"),
    ];
    let folder = laid_out(&files);
    let all = ["--root-owner-group", "--build", "deb", "made.deb"];
    made(folder.path(), "dpkg-deb", &all, "made.deb")
}

/// In hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same, as Maven's repositories have it beside each file.
pub(crate) fn sha1(bytes: &[u8]) -> String {
    sha1::Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As npm writes it.
pub(crate) fn integrity(bytes: &[u8]) -> String {
    format!("sha512-{}", BASE64_STANDARD.encode(Sha512::digest(bytes)))
}

fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let folder = laid_out(files);
    let top = files[0].0.split('/').next().expect("a folder");
    made(folder.path(), "tar", &["-czf", "made.tgz", top], "made.tgz")
}

fn laid_out(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary directory");
    for (name, text) in files {
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, text).expect("a file");
    }
    folder
}

fn made(folder: &Path, program: &str, arguments: &[&str], name: &str) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {output:?}");
    std::fs::read(folder.join(name)).expect("it was made")
}
