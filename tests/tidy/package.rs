//! Reads the sources of the package, and knows what identifies this machine.

use std::fs;
use std::path::Path;

use super::Source;

/// The folder of the whole workspace.
pub(super) fn package() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    tests.and_then(Path::parent).expect("the folder of the workspace: this is tests/tidy")
}

pub(super) fn sources(folder: &str, extensions: &[&str]) -> Vec<Source> {
    let mut found = vec![];
    collect(&package().join(folder), extensions, &mut found);
    assert!(!found.is_empty(), "{folder} holds no sources");
    with_test_modules(found)
}

/// Marks the files of modules that another file declares as tests, and all below them.
pub(super) fn with_test_modules(sources: Vec<Source>) -> Vec<Source> {
    let declared: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    let is_test = |source: &Source| {
        declared.iter().any(|module| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    let marked = |source: Source| if is_test(&source) { source.into_test() } else { source };
    sources.into_iter().map(marked).collect()
}

fn collect(folder: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("the package can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "target" | "node_modules" | ".git" | ".venv") {
                collect(&path, extensions, found);
            }
        } else if extensions.iter().any(|extension| name.ends_with(extension)) {
            let relative = path.strip_prefix(package()).expect("below the package");
            let relative = relative.to_string_lossy().replace('\\', "/");
            // Binary files have no lines to judge.
            if let Ok(text) = fs::read_to_string(&path) {
                found.push(Source::new(&relative, &text));
            }
        }
    }
}

pub(super) fn machine_names() -> Vec<String> {
    let home = std::env::var("HOME").map(|home| format!("{home}/")).unwrap_or_default();
    let mut names = vec![package().to_string_lossy().into_owned(), home];
    names.extend(std::env::var("HOSTNAME"));
    names.extend(mirror_hosts());
    // Short and generic names would be found in innocent words.
    names.retain(|name| name.len() > 7 && name != "localhost");
    names
}

/// Hosts of package mirrors that this machine is configured with; the public ones may be named.
fn mirror_hosts() -> Vec<String> {
    let public = ["crates.io", "pypi.org", "npmjs.org", "golang.org", "github.com"];
    ["PIP_INDEX_URL", "npm_config_registry", "NPM_CONFIG_REGISTRY", "GOPROXY", "CARGO_REGISTRY"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .filter_map(|url| Some(url.split("://").nth(1)?.split(['/', ':', ',']).next()?.to_owned()))
        .filter(|host| !public.iter().any(|name| host.ends_with(name)))
        .collect()
}
