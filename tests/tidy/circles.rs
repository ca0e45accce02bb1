//! Files of a crate that import each other in a circle. File A imports file B if it names an item that B declares: in a `use`
//! item, or by a path in its code. What a file only re-exports (`pub use child::Name`), it does not import, and whoever uses
//! the re-export imports the file that declares the name. Declaring a module (`mod child;`) is no import, so a parent and its
//! child are a circle only if the parent also uses the child's items. Methods are not seen: they need no path.

use std::collections::BTreeSet;

use super::modules::{Imported, Modules};
use super::package::sources;
use super::{Source, assert_none};

/// The circles that stay: their folder, their files in it, and the reason.
const CIRCLES: &[(&str, &str, &str)] = &[
    (
        "crates/api/src",
        "auth auth/login auth/middleware body change_record connect_sessions/browser consents context \
         idempotency idempotency/replicas input network openapi/argument openapi/routes reload resource \
         sign_in sign_in/cookie sign_in/oidc sign_in/passkey sign_in/password sign_in/provisioning state \
         tokens",
        "not taken apart yet",
    ),
    ("crates/api/src", "connection_test connection_test/database", "not taken apart yet"),
    (
        "crates/api/src",
        "activations connection_change connections flows plugins",
        "not taken apart yet",
    ),
    (
        "crates/api/src",
        "connect_sessions connect_sessions/attempt connect_sessions/form connect_sessions/headless \
         connect_sessions/offers connect_sessions/pages connect_sessions/render",
        "not taken apart yet",
    ),
    ("crates/api/src", "explain explain/ssh", "not taken apart yet"),
    ("crates/api/src", "rules stored_rules", "not taken apart yet"),
    ("crates/base/src", "settings settings/databases settings/headers", "not taken apart yet"),
    ("crates/console/src", "assets frame visit", "not taken apart yet"),
    ("crates/console/src/pages", "plugins plugins/install", "not taken apart yet"),
    ("crates/console/src/pages", "rules rules/form rules/list rules/tester", "not taken apart yet"),
    ("crates/console/src/pages", "services services/define", "not taken apart yet"),
    ("crates/databases/src/mongodb", "login members", "not taken apart yet"),
    ("crates/databases/src/rules", "kinds mod", "not taken apart yet"),
    (
        "crates/databases/src/postgres",
        "login parameters statements/confirm statements/mod",
        "not taken apart yet",
    ),
    (
        "crates/databases/src",
        "mongodb/test mysql/test postgres/test redis/test test",
        "not taken apart yet",
    ),
    ("crates/databases/src/sql", "masked mod", "not taken apart yet"),
    (
        "crates/databases/src",
        "listener mongodb/mod mysql/mod postgres/mod postgres/supervision redis/mod session",
        "not taken apart yet",
    ),
    (
        "crates/hooks/src",
        "challenge fetched/mod fetched/paypal fetched/plaid fetched/pubsub fetched/sns scheme verify written",
        "not taken apart yet",
    ),
    ("crates/inbox/src", "accept fetched lib queue", "not taken apart yet"),
    ("crates/model/src", "secret_text source source/remote webhook", "not taken apart yet"),
    ("crates/model/src", "app app/applied", "not taken apart yet"),
    ("crates/proxy/src/ca", "leaf pair signer", "not taken apart yet"),
    ("crates/proxy/src/body", "form_upload replay request_body", "not taken apart yet"),
    (
        "crates/proxy/src",
        "connection_tls gateway open_exchanges record record/database",
        "not taken apart yet",
    ),
    ("crates/proxy/src/request", "held_body inbound push_start", "not taken apart yet"),
    ("crates/proxy/src/upstream", "dial http1 http2 mod outbound plan", "not taken apart yet"),
    ("crates/rules/src", "branches git_push", "not taken apart yet"),
    ("crates/rules/src/inject", "body multipart/mod", "not taken apart yet"),
    (
        "crates/rules/src/inject",
        "credential json_template sign/aws_action sign/aws_chunks sign/aws_ecdsa sign/aws_signature \
         sign/aws_sigv4 sign/azure sign/digest sign/hmac sign/jwt sign/jwt_key sign/message sign/mod \
         sign/oauth1 sign/request_signer",
        "not taken apart yet",
    ),
    (
        "crates/rules/src/policy",
        "allow bindings compile mod reason rule slots",
        "not taken apart yet",
    ),
    ("crates/rules/src/policy", "branches decide", "not taken apart yet"),
    (
        "crates/rules/src/provider",
        "actions check_auth check_minted check_oauth check_test_request database form graphql kinds mod \
         oauth own_hosts placing schema scope_words session",
        "not taken apart yet",
    ),
    (
        "crates/rules/src/provider",
        "built_in catalogue check extends overlap slips",
        "not taken apart yet",
    ),
    ("crates/state/src/store", "mod scan shared snapshot", "not taken apart yet"),
    ("crates/state/src/directory", "rows scan", "not taken apart yet"),
    (
        "crates/state/src/directory",
        "apps changes check commit connect_sessions deliveries follow holders logins mod open orgs \
         own_providers remedy selected sessions stored users view view/told",
        "not taken apart yet",
    ),
    ("crates/state/src/directory/integrity", "index mod records", "not taken apart yet"),
    (
        "crates/state/src/observe",
        "usage usage/history usage/recent usage/unsaved",
        "not taken apart yet",
    ),
    (
        "crates/state/src/observe",
        "metrics metrics/health metrics/hooks metrics/sources metrics/telemetry",
        "not taken apart yet",
    ),
    ("crates/state/src/observe/telemetry", "mod span", "not taken apart yet"),
    (
        "crates/state/src/rulebook",
        "account facts limits names plugins sessions",
        "not taken apart yet",
    ),
    ("crates/state/src/rulebook", "actions compiled mod resolve", "not taken apart yet"),
    (
        "crates/state/src/store",
        "postgres postgres/feed postgres/pool postgres/presence postgres/schema postgres/servers",
        "not taken apart yet",
    ),
    ("crates/state/src/store", "sled sled/commit", "not taken apart yet"),
    (
        "crates/vault/src/grant",
        "app_secret aws_key basic codec connection_tls digest error fields mod oauth/aws_role oauth/client \
         oauth/device oauth/imported oauth/mod oauth/reply oauth/request_context oauth/requests \
         oauth/revoke oauth/service_account oauth/session oauth/signed oauth/stored oauth/transport \
         referred signing_key ssh_key",
        "not taken apart yet",
    ),
    (
        "crates/vault/src",
        "app_check apps cache cache/map endpoint_changes error failure_rows flight flight/lease \
         flight/saving grants issuers late lib references referred_apps referred_tokens servers \
         source_values token_request unsaved_tokens",
        "not taken apart yet",
    ),
    ("crates/vault/src/oauth", "form_post mod revoke start", "not taken apart yet"),
    ("src/config", "connection declared secret_sources", "not taken apart yet"),
    (
        "src/config",
        "listen listen_admin listen_agents listen_databases listen_hooks listen_tls",
        "not taken apart yet",
    ),
    ("src/config", "again file manifest mod parse plugin", "not taken apart yet"),
    (
        "src/app/plan",
        "agents apps connections hooks inputs known mod plugins resources sources view webhooks",
        "not taken apart yet",
    ),
    (
        "src",
        "app app/admin_tasks app/audit_heads app/data_path app/limit_exchange app/reload app/replicas \
         app/services app/succession app/telemetry",
        "not taken apart yet",
    ),
    ("src/app/restore", "database mod staging", "not taken apart yet"),
    (
        "src/cli",
        "client client/answering client/messages client/remote client/unmade failure identity output \
         settings terminal",
        "not taken apart yet",
    ),
    ("src/cli/connection", "form url", "not taken apart yet"),
    (
        "src/cli",
        "connect connect/own_api connect/questions connect/registration connection connection/list \
         connection/refresh connection/remove connection/request connection/rotate connection/set \
         connection/test connection/usage environment/mod plugin plugin/install plugin/reconnect \
         plugin/walk",
        "not taken apart yet",
    ),
    ("src/cli", "audit audit/counts audit/follow audit/names", "not taken apart yet"),
    ("src/cli/doctor", "access apps", "not taken apart yet"),
    ("src/cli/import", "logins source vaults", "not taken apart yet"),
    ("src/cli", "run run/others", "not taken apart yet"),
    ("src/cli", "service service/unit", "not taken apart yet"),
    ("src/cli", "complete complete/line complete/names completions mod", "not taken apart yet"),
];

/// Groups of files, each of which imports all others of its group, directly or through others (Tarjan's algorithm).
fn circles(imported: &Imported) -> Vec<BTreeSet<String>> {
    let files: Vec<&str> = imported.keys().map(String::as_str).collect();
    let number = |file: &str| files.binary_search(&file).expect("each file has an entry");
    let edges = imported.values().map(|to| to.keys().map(|file| number(file)).collect()).collect();
    let mut search = Search { edges, seen: vec![None; files.len()], ..Search::default() };
    for at in 0..files.len() {
        search.visit(at);
    }
    let named = |circle: Vec<usize>| circle.into_iter().map(|at| files[at].to_owned()).collect();
    search.found.into_iter().filter(|circle| circle.len() > 1).map(named).collect()
}

#[derive(Default)]
struct Search {
    edges: Vec<Vec<usize>>,
    /// When a file was visited, and the earliest open file that it reaches.
    seen: Vec<Option<(usize, usize)>>,
    open: Vec<usize>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Search {
    /// The earliest open file that this one reaches; none if its circle is closed.
    fn visit(&mut self, at: usize) -> Option<usize> {
        if let Some((_, reached)) = self.seen[at] {
            return self.open.contains(&at).then_some(reached);
        }
        let index = self.count;
        self.count += 1;
        self.seen[at] = Some((index, index));
        self.open.push(at);
        let mut reached = index;
        for next in self.edges[at].clone() {
            reached = self.visit(next).map_or(reached, |other| reached.min(other));
        }
        self.seen[at] = Some((index, reached));
        if reached < index {
            return Some(reached);
        }
        let from = self.open.iter().position(|it| *it == at).expect("it was pushed above");
        let circle = self.open.split_off(from);
        self.found.push(circle);
        None
    }
}

/// A circle, and which names tie it.
fn shown(circle: &BTreeSet<String>, imported: &Imported) -> String {
    let mut lines = vec![format!("{} files import each other in a circle:", circle.len())];
    for from in circle {
        for (to, names) in imported[from].iter().filter(|(to, _)| circle.contains(*to)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!("  {from} -> {to}: {}", names.join(", ")));
        }
    }
    lines.join("\n")
}

fn folders() -> Vec<String> {
    let crates = std::fs::read_dir(super::package().join("crates")).expect("crates can be read");
    let names = crates.map(|entry| entry.expect("an entry").file_name());
    let mut folders: Vec<String> =
        names.map(|name| format!("crates/{}/src/", name.to_string_lossy())).collect();
    folders.push("src/".to_owned());
    folders.sort();
    folders
}

#[test]
fn files_that_import_each_other_have_a_reason() {
    let mut found = vec![];
    let mut unused: Vec<BTreeSet<String>> =
        CIRCLES.iter().map(|(folder, files, _)| files_of(folder, files)).collect();
    for folder in folders() {
        let imported = Modules::new(&folder, &sources(&folder, &[".rs"])).imported();
        for circle in circles(&imported) {
            match unused.iter().position(|listed| *listed == circle) {
                Some(at) => drop(unused.swap_remove(at)),
                None => found.push(shown(&circle, &imported)),
            }
        }
    }
    let gone = |files| format!("{files:?} are listed as a circle, and are none");
    found.extend(unused.into_iter().map(gone));
    assert_none(found);
}

/// `a b/c` of a folder → `folder/a.rs`, `folder/b/c.rs`.
fn files_of(folder: &str, files: &str) -> BTreeSet<String> {
    files.split_whitespace().map(|file| format!("{folder}/{file}.rs")).collect()
}

/// The circles of a tree of made-up files.
fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let source = |(path, text): &(&str, &str)| Source::new(&format!("src/{path}"), text);
    let sources: Vec<Source> = files.iter().map(source).collect();
    let found = circles(&Modules::new("src/", &sources).imported());
    found.into_iter().map(|circle| circle.into_iter().collect()).collect()
}

#[test]
fn a_circle_is_found_in_every_spelling() {
    let (lib, a) = (("lib.rs", "mod a;\nmod b;"), "use crate::b::B;\npub struct A;");
    for b in [
        "use crate::a::A;\npub struct B;",
        "use crate::{a::A, c};\npub struct B;",
        "use super::a::{self, A};\npub struct B;",
        "use crate::a;\npub struct B;\nfn f() -> a::A {}",
        "use crate::a as x;\npub struct B;\nfn f() -> x::A {}",
        "pub struct B;\nfn f() -> crate::a::A {}",
        "pub struct B;\nfn f() { use super::a::A; }",
        "pub use crate::a::A;\npub struct B(A);",
        "pub struct B;\nmod inside { fn f() { super::super::a::A } }",
        "mod c;\npub struct B(c::A);",
    ] {
        let through = ("b/c.rs", "pub use super::super::a::A;");
        let found = circles_of(&[lib, ("a.rs", a), ("b.rs", b), through]);
        assert_eq!(found, [["src/a.rs", "src/b.rs"]], "{b}");
    }
}

#[test]
fn a_circle_through_files_and_re_exports_is_one() {
    let found = circles_of(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;"),
        ("a/mod.rs", "mod inner;\npub use inner::Inner;"),
        ("a/inner.rs", "use crate::b::B;\npub struct Inner;"),
        ("b.rs", "pub struct B;\nfn f() { crate::c::g() }"),
        ("c.rs", "use crate::a::Inner;\npub fn g() {}"),
        ("d.rs", "use crate::b::B;"),
    ]);
    assert_eq!(found, [["src/a/inner.rs", "src/b.rs", "src/c.rs"]]);
}

#[test]
fn a_parent_and_its_child_are_a_circle_if_both_use_the_other() {
    let lib = ("lib.rs", "mod a;");
    let child = ("a/b.rs", "use super::A;\npub struct B;\npub fn f() {}");
    for parent in ["mod b;\nuse b::f;\npub struct A;", "mod b;\npub struct A;\nfn g() { b::f() }"] {
        assert_eq!(circles_of(&[lib, ("a.rs", parent), child]).len(), 1, "{parent}");
    }
    for parent in [
        "mod b;\npub struct A;",
        "mod b;\npub use b::B;\npub struct A;",
        "mod b;\npub struct A;\n#[cfg(test)]\nmod tests { use super::b::f; }",
        "mod b;\npub struct A;\n// b::f\nconst X: &str = \"b::f\";",
    ] {
        assert_eq!(circles_of(&[lib, ("a.rs", parent), child]).len(), 0, "{parent}");
    }
}
