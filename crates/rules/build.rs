//! Lists the built-in providers for `src/provider/built_in.rs`: one entry for each file of the catalogue, with the
//! parts that are needed of all providers at once. A new file needs no other edit, and no file is parsed at start-up.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_yaml::Value;

/// The keys of an auth method that name endpoints where nothing is injected; `check.rs` has the same.
const ENDPOINTS: [&str; 7] =
    ["request_token", "token", "renew", "lengthen", "revoke", "register", "push"];

/// The keys that describe requests to such endpoints.
const REQUESTS: [&str; 2] = ["login", "renewal"];

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let folder = package.join("src/provider/catalogue");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the folder of the catalogue can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // The ids are the names, and the list is searched by id.
    files.sort_by_key(|file| file.file_stem().map(ToOwned::to_owned));
    let mut list = String::from("&[\n");
    for file in &files {
        list.push_str(&entry(file));
    }
    list.push_str("]\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("built_in.rs"), list).expect("the list can be written");
}

/// A file as an item of the list.
fn entry(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a file of the catalogue can be read");
    let provider: Value = serde_yaml::from_str(&text)
        .unwrap_or_else(|error| panic!("{} is not YAML: {error}", file.display()));
    let mut item = String::from("BuiltInFile {\n");
    for key in ["id", "name", "category"] {
        let _ = writeln!(item, "{key}: {:?},", word(&provider, key));
    }
    let hosts: Vec<&str> = items(&provider, "hosts").iter().filter_map(Value::as_str).collect();
    let _ = writeln!(item, "hosts: &{hosts:?},");
    item.push_str("variables: &[");
    for variable in items(&provider, "variables") {
        let choices: Vec<&str> =
            items(variable, "choices").iter().filter_map(Value::as_str).collect();
        let default = variable.get("default").and_then(Value::as_str);
        let name = word(variable, "name");
        let is_host = word(variable, "kind") == "host";
        let _ = write!(
            item,
            "FileVariable {{ name: {name:?}, is_host: {is_host}, default: {default:?}, choices: &{choices:?} }}, "
        );
    }
    item.push_str("],\n");
    let methods = items(&provider, "auth");
    let mut urls: Vec<&str> = methods
        .iter()
        .flat_map(|method| ENDPOINTS.map(|key| method.get(key).and_then(Value::as_str)))
        .flatten()
        .collect();
    let requests = methods.iter().flat_map(|method| REQUESTS.map(|key| method.get(key)));
    urls.extend(requests.flatten().filter_map(|request| request.get("url")?.as_str()));
    urls.sort_unstable();
    urls.dedup();
    let _ = writeln!(item, "endpoints: &{urls:?},");
    let _ = writeln!(item, "text: include_str!({:?}),", file.display().to_string());
    item.push_str("},\n");
    item
}

/// The text of a key; empty if there is none, which a test of the catalogue reports.
fn word<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list; none if the key is absent.
fn items<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_sequence).map_or(&[], Vec::as_slice)
}
