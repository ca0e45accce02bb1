//! Reads the sources and refuses what the compiler cannot: imports against the floors, secrets
//! exposed where they may not be, files without a heading, functions that outgrew a screen.
//! Every check is a function from one source to its violations and has a test that it can fail.

#[path = "tidy/can_fail.rs"]
mod can_fail;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/rust.rs"]
mod rust;

use std::fs;
use std::path::Path;

use rust::{blank_comments_and_literals, blank_test_items, functions, imports, test_modules};

/// Which top-level module may import which (`src/lib.rs`, "The floors"): a module, or one part of
/// it. `*` is everything.
const FLOORS: &[(&str, &str)] = &[
    ("base", ""),
    ("crypto", "base"),
    ("inject", "base"),
    ("net", "base"),
    ("store", "base"),
    ("ca", "base net::tls"),
    ("provider", "base inject"),
    ("policy", "base inject"),
    ("observe", "base policy"),
    ("grant", "base inject net provider"),
    ("keys", "base crypto store"),
    ("directory", "base crypto inject observe provider store"),
    ("vault", "base crypto directory grant inject net observe provider store"),
    ("rulebook", "base directory observe policy provider store"),
    ("oauth", "base crypto directory grant net observe provider store vault"),
    ("events", "base crypto directory net observe store vault"),
    ("proxy", "base ca directory inject net observe policy provider rulebook vault"),
    (
        "admin",
        "base ca crypto directory events inject keys net oauth observe policy provider proxy rulebook store \
         vault",
    ),
    ("config", "*"),
    ("cli", "*"),
    ("app", "*"),
    ("lib", "*"),
    ("main", "*"),
];

/// Where a secret may be read: where it is sealed, written into a request or told to a corporate
/// proxy, where TLS takes a key, and where a new token is shown once.
const MAY_EXPOSE: &[&str] = &[
    "src/crypto/",
    "src/inject/",
    "src/grant/",
    "src/net/corporate.rs",
    "src/net/tls.rs",
    "src/events/keys.rs",
    "src/oauth/",
    "src/admin/tokens.rs",
];

/// Where the environment may be read: configuration, and a master key that lies in a variable.
const MAY_READ_ENVIRONMENT: &[&str] = &["src/config/", "src/cli/"];

/// Where a socket may be opened outwards.
const MAY_DIAL: &[&str] = &["src/net/"];

/// Where YAML may be read: everything behind has parsed values.
const MAY_READ_YAML: &[&str] = &["src/config/", "src/provider/"];

/// Where errors need no type, because a person reads them next.
const MAY_USE_ANYHOW: &[&str] = &["src/app", "src/cli/"];

/// Longer files are usually two stories. What is shipped and its tests count apart.
const FILE_LINES_MAX: usize = 500;

/// In `src/proxy/`, where every peer has its longest function: a screen.
const PROXY_FUNCTION_LINES_MAX: usize = 59;

struct Source {
    /// Relative to the package, with `/`.
    path: String,
    text: String,
    /// The text with comments and literals blanked: offsets and lines are those of the text.
    code: String,
    /// The code without tests.
    shipped: String,
    /// The code of tests only.
    tests: String,
}

impl Source {
    /// Of one file alone: what `#[cfg(test)]` stands before is a test, and all below `tests/`.
    fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let (shipped, tests) = match path.starts_with("tests/") {
            true => (rust::blank(&code), code.clone()),
            false => blank_test_items(&code),
        };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped, tests }
    }

    /// The same for a file that is a module of tests.
    fn into_test(mut self) -> Self {
        self.shipped = rust::blank(&self.code);
        self.tests.clone_from(&self.code);
        self
    }

    /// The paths of modules that this file declares as tests, without `.rs`.
    fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "mod" | "lib" | "main")) => folder,
            _ => stem,
        };
        test_modules(&self.code).iter().map(|name| format!("{folder}/{name}")).collect()
    }

    fn line_of(&self, offset: usize) -> usize {
        self.text[..offset].lines().count().max(1)
    }

    fn within(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Where `needle` stands in `code`, as `path:line: what`.
    fn hits(&self, code: &str, needle: &str, what: &str) -> Vec<String> {
        let at = |(offset, _)| format!("{}:{}: {what}", self.path, self.line_of(offset));
        code.match_indices(needle).map(at).collect()
    }
}

// === the checks ===

fn begins_with_its_purpose(source: &Source) -> Vec<String> {
    match source.text.starts_with("//! ") {
        true => vec![],
        false => vec![format!("{}:1: begin with `//!`: what the file is for", source.path)],
    }
}

fn imports_only_lower_floors(source: &Source) -> Vec<String> {
    let Some(relative) = source.path.strip_prefix("src/") else { return vec![] };
    let module: Vec<&str> =
        relative.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == module[0]) else {
        return vec![format!("{}:1: `{}` has no floor", source.path, module[0])];
    };
    let allows = |path: &str| {
        let name = path.split("::").next().unwrap_or_default();
        let is_within = |floor: &str| {
            path.strip_prefix(floor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        name == module[0]
            || *allowed == "*"
            || allowed.split(' ').any(is_within)
            // Macros at the root (`crate::ids!`) and types of lib.rs are not folders.
            || !FLOORS.iter().any(|(floor, _)| *floor == name)
    };
    imports(&source.shipped, module.len())
        .into_iter()
        .filter(|(_, path)| !allows(path))
        .map(|(offset, path)| {
            let line = source.line_of(offset);
            format!("{}:{line}: `{}` may not import `{path}`", source.path, module[0])
        })
        .collect()
}

fn exposes_secrets_only_where_listed(source: &Source) -> Vec<String> {
    if source.within(MAY_EXPOSE) {
        return vec![];
    }
    let mut found = source.hits(&source.shipped, ".expose()", "a secret is exposed here");
    found.extend(source.hits(&source.shipped, ".expose_text()", "a secret is exposed here"));
    found.extend(source.hits(&source.shipped, "Secret::expose", "a secret is exposed here"));
    found
}

fn does_not_unwrap(source: &Source) -> Vec<String> {
    source.hits(&source.shipped, ".unwrap()", "unwrap: return an error, or state the proof")
}

fn is_finished(source: &Source) -> Vec<String> {
    let mut found = vec![];
    for word in ["todo!", "unimplemented!", "dbg!("] {
        found.extend(source.hits(&source.code, word, "unfinished"));
    }
    found
}

fn is_one_story(source: &Source) -> Vec<String> {
    let all = source.text.lines().count();
    let tests = source.tests.lines().filter(|line| !line.trim().is_empty()).count();
    let shipped = match source.shipped.trim().is_empty() {
        true => 0,
        // The tests stand last.
        false => source.shipped.trim_end().lines().count(),
    };
    let too_long = |(what, lines): (&str, usize)| {
        (lines > FILE_LINES_MAX)
            .then(|| format!("{}: {lines} lines of {what}: look for the seam", source.path))
    };
    let tests = tests.max(all - shipped);
    [("code", shipped), ("tests", tests)].into_iter().filter_map(too_long).collect()
}

fn proxy_functions_fit_a_screen(source: &Source) -> Vec<String> {
    if !source.within(&["src/proxy/"]) {
        return vec![];
    }
    let too_long = |(offset, lines): (usize, usize)| {
        (lines > PROXY_FUNCTION_LINES_MAX)
            .then(|| format!("{}:{}: {lines} lines", source.path, source.line_of(offset)))
    };
    functions(&source.shipped).into_iter().filter_map(too_long).collect()
}

fn reads_the_environment_only_in_config(source: &Source) -> Vec<String> {
    match source.within(MAY_READ_ENVIRONMENT) {
        true => vec![],
        false => source.hits(&source.shipped, "env::var", "only config/ and cli/ read variables"),
    }
}

fn dials_only_in_net(source: &Source) -> Vec<String> {
    if source.within(MAY_DIAL) {
        return vec![];
    }
    let mut found = vec![];
    for word in ["TcpStream::connect", "lookup_host", "TcpSocket::", "to_socket_addrs"] {
        found.extend(source.hits(&source.shipped, word, "only net/ opens sockets outwards"));
    }
    found
}

fn reads_yaml_only_at_the_edge(source: &Source) -> Vec<String> {
    match source.within(MAY_READ_YAML) {
        true => vec![],
        false => source.hits(&source.shipped, "serde_yaml", "only config/ and provider/ read YAML"),
    }
}

fn has_typed_errors(source: &Source) -> Vec<String> {
    match source.within(MAY_USE_ANYHOW) {
        true => vec![],
        false => source.hits(&source.shipped, "anyhow", "anyhow is for cli/ and app"),
    }
}

/// Comments for whoever has only this repository.
fn cites_what_is_here(source: &Source) -> Vec<String> {
    let documents = ["SECURITY ", "DESIGN ", "INTERFACE "];
    let cited = documents.iter().flat_map(|name| {
        let comments = source.text.match_indices(name).filter(|(at, _)| {
            let rest = &source.text[at + name.len()..];
            rest.starts_with('§') || rest.starts_with(|c: char| c.is_ascii_uppercase())
        });
        comments.map(|(at, name)| format!("{}:{}: which {name}?", source.path, source.line_of(at)))
    });
    cited.collect()
}

fn test_waits_for_events_only(source: &Source) -> Vec<String> {
    let mut found = vec![];
    for word in ["#[ignore", "#[should_panic", "sleep(", "sleep_until("] {
        found.extend(source.hits(&source.tests, word, "tests neither sleep nor hide"));
    }
    found
}

fn test_names_no_absolute_path(source: &Source) -> Vec<String> {
    let mut found = vec![];
    for directory in ["tmp/", "home/", "root/", "var/", "usr/", "opt/", "work/"] {
        let needle = format!("\"/{directory}");
        found.extend(source.hits(&source.text, &needle, "an absolute path of some machine"));
    }
    found
}

/// `names`: what tells this machine from others, such as the path of the checkout.
fn names_no_machine(source: &Source, names: &[String]) -> Vec<String> {
    names.iter().flat_map(|name| source.hits(&source.text, name, "names this machine")).collect()
}

// === reading the package ===

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str, extensions: &[&str]) -> Vec<Source> {
    let mut found = vec![];
    collect(&package().join(folder), extensions, &mut found);
    assert!(!found.is_empty(), "{folder} holds no sources");
    with_test_modules(found)
}

/// Marks the files of modules that another file declares as tests, and all below them.
fn with_test_modules(sources: Vec<Source>) -> Vec<Source> {
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

fn machine_names() -> Vec<String> {
    let home = std::env::var("HOME").map(|home| format!("{home}/")).unwrap_or_default();
    let mut names = vec![env!("CARGO_MANIFEST_DIR").to_owned(), home];
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

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

// === the checks, run ===

macro_rules! holds {
    ($($test:ident: $folders:expr, $check:expr;)*) => {$(
        #[test]
        fn $test() {
            let sources = $folders.into_iter().flat_map(|folder| sources(folder, &[".rs"]));
            assert_none(sources.flat_map(|source| $check(&source)).collect());
        }
    )*};
}

holds! {
    every_file_says_what_it_is_for: ["src", "tests", "examples"], begins_with_its_purpose;
    modules_import_only_lower_floors: ["src"], imports_only_lower_floors;
    secrets_are_exposed_only_where_listed: ["src"], exposes_secrets_only_where_listed;
    nothing_shipped_unwraps: ["src"], does_not_unwrap;
    nothing_is_left_unfinished: ["src", "tests", "examples"], is_finished;
    no_file_is_two_stories: ["src", "tests", "examples"], is_one_story;
    functions_of_the_data_path_fit_a_screen: ["src"], proxy_functions_fit_a_screen;
    only_config_and_cli_read_the_environment: ["src"], reads_the_environment_only_in_config;
    only_net_opens_sockets_outwards: ["src"], dials_only_in_net;
    only_config_and_provider_read_yaml: ["src"], reads_yaml_only_at_the_edge;
    errors_have_types_below_the_command_line: ["src"], has_typed_errors;
    comments_cite_what_is_here: ["src"], cites_what_is_here;
    tests_wait_for_events_and_hide_nothing: ["src", "tests"], test_waits_for_events_only;
    tests_name_no_absolute_path: ["tests", "examples"], test_names_no_absolute_path;
}

#[test]
fn the_tables_permit_nothing_that_is_not_there() {
    let sources = sources("src", &[".rs"]);
    let stand_in = |word: &str, place: &str| {
        let within = |source: &&Source| source.within(&[place]);
        sources.iter().filter(within).any(|source| source.shipped.contains(word))
    };
    let missing = |word, places: &[&str]| {
        let places = places.iter().filter(|place| !stand_in(word, place));
        places.map(|place| format!("{place}: `{word}` is permitted there, and absent")).collect()
    };
    let floor_is_empty = |name: &str| !stand_in("", &format!("src/{name}"));
    let mut found: Vec<String> = missing(".expose", MAY_EXPOSE);
    found.extend::<Vec<String>>(missing("env::var", MAY_READ_ENVIRONMENT));
    found.extend::<Vec<String>>(missing("serde_yaml", MAY_READ_YAML));
    found.extend::<Vec<String>>(missing("anyhow", MAY_USE_ANYHOW));
    found.extend(FLOORS.iter().filter(|(name, _)| floor_is_empty(name)).map(|f| f.0.to_owned()));
    assert_none(found);
}

#[test]
fn no_file_names_this_machine() {
    let kinds = [".rs", ".md", ".yaml", ".toml", ".sh", ".js", ".mjs", ".py", "run"];
    let names = machine_names();
    let found = sources(".", &kinds).iter().flat_map(|s| names_no_machine(s, &names)).collect();
    assert_none(found);
}
