//! Lists the files of `src/source/kinds` for `src/source/kind.rs`, in the order of their names. A new file needs no other edit.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let folder = package.join("src/source/kinds");
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = fs::read_dir(&folder).expect("the folder of the kinds can be read");
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let list: String = files.iter().map(|file| format!("include_str!({file:?}),\n")).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("source_kinds.rs"), format!("&[\n{list}]\n"))
        .expect("the list can be written");
}
