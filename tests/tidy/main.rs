//! Structure checks that the compiler cannot do: imports between floors and in circles, exposed secrets, missing file
//! headings, long functions. Every check is a function from one source to its violations, and has a test that it can fail.

mod can_fail;
mod circles;
mod codes;
mod comments;
mod contributing;
mod modules;
mod package;
mod paths;
mod proofs;
mod rules;
mod rust;
mod size;
mod tables;
mod vendors;

use comments::cites_what_is_here;
use package::{machine_names, package, sources};
use proofs::{PROOFS, proofs_have_one_maker};
use rust::{blank_comments_and_literals, blank_test_items, functions, imports, test_modules};
use tables::{
    FILE_LINES_MAX, FLOORS, MAY_DIAL, MAY_EXPOSE, MAY_READ_ENVIRONMENT, MAY_READ_YAML,
    MAY_USE_ANYHOW, PROXY_FUNCTION_LINES_MAX, ROOMS,
};

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
        self.text[..offset].matches('\n').count() + 1
    }

    fn within(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Where `needle` stands in `code`, as `path:line: what`.
    fn hits(&self, code: &str, needle: &str, what: &str) -> Vec<String> {
        let at = |(offset, _)| format!("{}:{}: {what}", self.path, self.line_of(offset));
        code.match_indices(needle).map(at).collect()
    }

    /// Lines of the text, as `path:line: what`.
    fn lines_where(&self, is_hit: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
        let hits = self.text.lines().enumerate().filter(|(_, line)| is_hit(line));
        hits.map(|(index, _)| format!("{}:{}: {what}", self.path, index + 1)).collect()
    }
}

// === the checks ===

fn begins_with_its_purpose(source: &Source) -> Vec<String> {
    match source.text.starts_with("//! ") {
        true => vec![],
        false => vec![format!("{}:1: begin with `//!`: what the file is for", source.path)],
    }
}

/// The crate of a source, and its path below `src/`; `keyward` is the root package.
fn place(path: &str) -> Option<(&str, &str)> {
    match path.strip_prefix("src/") {
        Some(rest) => Some(("keyward", rest)),
        None => path.strip_prefix("crates/")?.split_once("/src/"),
    }
}

/// A path in a crate, such as `grant::oauth` in `vault`, from its floor on.
fn from_floor(of: &str, path: &str) -> String {
    let first = path.split("::").next().unwrap_or_default();
    match of == "keyward" || ROOMS.contains(&(of, first)) {
        true => path.to_owned(),
        false => format!("{of}::{path}"),
    }
}

fn imports_only_lower_floors(source: &Source) -> Vec<String> {
    let Some((of, relative)) = place(&source.path) else { return vec![] };
    let module = relative.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    let path = from_floor(of, &module);
    let here = path.split("::").next().unwrap_or_default();
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == here) else {
        return vec![format!("{}:1: `{here}` has no floor", source.path)];
    };
    let allows = |path: &str| {
        let name = path.split("::").next().unwrap_or_default();
        let is_within = |floor: &str| {
            path.strip_prefix(floor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        name == here
            || *allowed == "*"
            || allowed.split(' ').any(is_within)
            // Macros at the root (`crate::ids!`) and types of lib.rs are not folders.
            || !FLOORS.iter().any(|(floor, _)| *floor == name)
    };
    let depth = module.split("::").count();
    let inside = ["crate::".to_owned(), "super::".repeat(depth)];
    let inside = inside.into_iter().map(|prefix| (of, prefix));
    let crates = FLOORS.iter().map(|(name, _)| (*name, format!("keyward_{name}::")));
    let all = inside.chain(crates).flat_map(|(of, prefix)| {
        let found = imports(&source.shipped, &prefix).into_iter();
        found.map(move |(offset, path)| (offset, from_floor(of, &path)))
    });
    all.filter(|(_, path)| !allows(path))
        .map(|(offset, path)| {
            let line = source.line_of(offset);
            format!("{}:{line}: `{here}` may not import `{path}`", source.path)
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
    if !source.within(&["crates/proxy/src/"]) {
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

/// The script sends the forms of pages. Without it, a browser sends them, by GET unless they name another method: then
/// their secrets are in the URL.
fn posts_its_forms(source: &Source) -> Vec<String> {
    let is_form = |word: &str| word == "form" || word.starts_with("form.");
    let gets = |line: &str| {
        line.split_once(" data-api=").is_some_and(|(before, _)| {
            before.split_whitespace().any(is_form) && !before.contains("method=\"post\"")
        })
    };
    source.lines_where(gets, "a form without `method=\"post\"`")
}

/// The script keeps an element open over a renewal of the page by its id, which stands first. Menus close.
fn names_what_folds(source: &Source) -> Vec<String> {
    let is_element = |word: &str| word == "details" || word.starts_with("details.");
    let is_unnamed = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| !is_element(word));
        words.next().is_some_and(|element| element != "details.menu")
            && words.next().is_none_or(|it| !it.starts_with('#') && !it.starts_with("id="))
    };
    source.lines_where(is_unnamed, "`details` without an id")
}

/// With it each task that waits takes the lock of the clock that tests stop. A line of a manifest that begins with `[`
/// begins a section.
fn stops_the_clock_in_tests_only(source: &Source) -> Vec<String> {
    let (mut found, mut of_tests) = (vec![], false);
    for (index, line) in source.text.lines().enumerate() {
        if line.starts_with('[') {
            of_tests = line.contains("dev-dependencies");
        }
        if !of_tests && line.contains("test-util") {
            let what = "`test-util` of tokio is for [dev-dependencies]";
            found.push(format!("{}:{}: {what}", source.path, index + 1));
        }
    }
    found
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
    every_file_says_what_it_is_for: ["src", "crates", "tests", "examples"], begins_with_its_purpose;
    modules_import_only_lower_floors: ["src", "crates"], imports_only_lower_floors;
    secrets_are_exposed_only_where_listed: ["src", "crates"], exposes_secrets_only_where_listed;
    shipped_code_does_not_unwrap: ["src", "crates"], does_not_unwrap;
    no_code_contains_todo_unimplemented_or_dbg: ["src", "crates", "tests", "examples"], is_finished;
    no_file_has_too_many_lines_of_code_or_of_tests: ["src", "crates", "tests", "examples"], is_one_story;
    each_proof_type_of_the_data_path_is_constructed_at_one_place: ["crates"], proofs_have_one_maker;
    functions_of_the_data_path_fit_a_screen: ["src", "crates"], proxy_functions_fit_a_screen;
    only_config_and_cli_read_the_environment: ["src", "crates"], reads_the_environment_only_in_config;
    only_net_opens_sockets_outwards: ["src", "crates"], dials_only_in_net;
    only_config_and_provider_read_yaml: ["src", "crates"], reads_yaml_only_at_the_edge;
    errors_have_types_below_the_command_line: ["src", "crates"], has_typed_errors;
    comments_cite_no_document_outside_the_repository: ["src", "crates"], cites_what_is_here;
    forms_of_pages_use_the_post_method: ["crates"], posts_its_forms;
    details_elements_other_than_menus_have_ids: ["crates/console/src"], names_what_folds;
    tests_wait_for_events_and_none_is_ignored: ["src", "crates", "tests"], test_waits_for_events_only;
    tests_name_no_absolute_path: ["tests", "examples"], test_names_no_absolute_path;
}

#[test]
fn listed_places_files_of_proofs_and_floors_exist() {
    let mut sources = sources("src", &[".rs"]);
    sources.extend(self::sources("crates", &[".rs"]));
    let stand_in = |word: &str, place: &str| {
        let within = |source: &&Source| source.within(&[place]);
        sources.iter().filter(within).any(|source| source.shipped.contains(word))
    };
    let missing = |word, places: &[&str]| {
        let places = places.iter().filter(|place| !stand_in(word, place));
        places.map(|place| format!("{place}: `{word}` is permitted there, and absent")).collect()
    };
    let folder_of = |name: &str| match ROOMS.iter().find(|(_, room)| *room == name) {
        Some((of, room)) => format!("crates/{of}/src/{room}"),
        None if package().join("crates").join(name).is_dir() => format!("crates/{name}/src"),
        None => format!("src/{name}"),
    };
    let floor_is_empty = |name: &str| !stand_in("", &folder_of(name));
    let mut found: Vec<String> = missing(".expose", MAY_EXPOSE);
    found.extend::<Vec<String>>(missing("env::var", MAY_READ_ENVIRONMENT));
    found.extend::<Vec<String>>(missing("serde_yaml", MAY_READ_YAML));
    found.extend::<Vec<String>>(missing("anyhow", MAY_USE_ANYHOW));
    let is_gone = |(_, file): &&(&str, &str)| !stand_in("", file);
    found.extend(PROOFS.iter().filter(is_gone).map(|(_, file)| format!("{file} is not there")));
    found.extend(FLOORS.iter().filter(|(name, _)| floor_is_empty(name)).map(|f| f.0.to_owned()));
    assert_none(found);
}

#[test]
fn no_program_is_built_with_the_test_util_feature_of_tokio() {
    let manifests = sources(".", &["Cargo.toml"]);
    assert!(manifests.iter().any(|it| it.path == "tests/support/Cargo.toml"));
    assert_none(manifests.iter().flat_map(stops_the_clock_in_tests_only).collect());
}

#[test]
fn no_file_names_this_machine() {
    let kinds = [".rs", ".md", ".yaml", ".toml", ".sh", ".js", ".mjs", ".py", "run"];
    let names = machine_names();
    let found = sources(".", &kinds).iter().flat_map(|s| names_no_machine(s, &names)).collect();
    assert_none(found);
}

/// The words in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// What the map names and the files do not have.
fn missing_from_map(map: &str) -> Vec<String> {
    let rows = map.lines().skip_while(|line| !line.contains("## Where a behaviour is decided"));
    let rows = rows.filter(|line| line.contains(".rs`"));
    let mut found = vec![];
    let mut count = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let [_, _, files, functions, _] = cells[..] else { continue };
        let read = |file: &&str| {
            let (of, rest) = file.split_once('/').unwrap_or(("src", file));
            let path = if of == "src" { (*file).to_owned() } else { format!("crates/{of}/{rest}") };
            std::fs::read_to_string(package().join(path)).unwrap_or_default()
        };
        let texts: Vec<String> = quoted(files).iter().map(read).collect();
        let last = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
        for name in quoted(functions).into_iter().map(last) {
            let (function, generic) = (format!("fn {name}("), format!("fn {name}<"));
            let makes = format!("macro_rules! {}", name.trim_end_matches('!'));
            count += 1;
            if !texts.iter().any(|it| [&function, &generic, &makes].iter().any(|n| it.contains(*n)))
            {
                found.push(format!("src/lib.rs: `{name}` is in none of{files}"));
            }
        }
    }
    if count == 0 {
        found.push("src/lib.rs: the table of behaviours is missing".to_owned());
    }
    found
}

#[test]
fn the_map_in_lib_rs_names_only_existing_functions() {
    assert_none(missing_from_map(&std::fs::read_to_string(package().join("src/lib.rs")).unwrap()));
    let wrong = "## Where a behaviour is decided\n| x | `base/src/codes.rs` | `no_such` |";
    assert_eq!(missing_from_map(wrong).len(), 1);
    assert_eq!(missing_from_map("").len(), 1);
}
