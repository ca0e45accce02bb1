//! Named actions against the GraphQL schemas that services publish: each root field of an action is in the schema of
//! today, and what deletes or archives is in actions that say so. The schemas are in packages of npm.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keyward_rules::graphql::{OperationKind, OperationScope, RootField};
use keyward_rules::provider::Catalogue;

use crate::stage::installed;

/// The root fields of a schema.
struct Schema {
    queries: BTreeSet<String>,
    mutations: BTreeSet<String>,
}

/// A provider, its schema, and what is reviewed in the comparison.
struct Published {
    provider: &'static str,
    schema: fn() -> Schema,
    /// Fewer mutations would be a schema that was not understood.
    at_least: usize,
    /// Root fields of actions that the schema lacks, and why.
    unknown: &'static [(&'static str, &'static str)],
    /// Actions that cover mutations whose names end or begin with `delete`, `archive` or `remove`.
    removing: &'static [&'static str],
}

const PUBLISHED: [Published; 2] = [
    Published {
        provider: "github",
        schema: github,
        at_least: 200,
        unknown: &[],
        // `write-issues-graphql` takes away labels, assignees and reactions.
        removing: &["write-issues-graphql"],
    },
    Published {
        provider: "linear",
        schema: linear,
        at_least: 300,
        unknown: &[],
        // `write-issues` takes away labels.
        removing: &["delete", "write-issues"],
    },
];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The members of a type: lines with two spaces before the name, up to the line that closes it.
fn members(text: &str, begin: &str, end: &str) -> BTreeSet<String> {
    let body = text.split_once(begin).unwrap_or_else(|| panic!("{begin}")).1;
    let body = body.split_once(end).expect("it ends").0;
    let name = |line: &str| {
        let line = line.strip_prefix("  ")?;
        let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let is_member = end > 0 && line[end..].starts_with(['(', ':', '?']);
        is_member.then(|| line[..end].to_owned())
    };
    body.lines().filter_map(name).collect()
}

/// The schema in its own language. Lines of descriptions that look like members do no harm: there are too few.
fn github() -> Schema {
    let path = "real-node/node_modules/@octokit/graphql-schema/schema.graphql";
    let text = read(&installed(path));
    Schema {
        queries: members(&text, "\ntype Query ", "\n}"),
        mutations: members(&text, "\ntype Mutation ", "\n}"),
    }
}

/// The SDK is generated from the schema, with a type for each of the schema's.
fn linear() -> Schema {
    let folder = installed("real-node/node_modules/@linear/sdk/dist");
    let entries = std::fs::read_dir(folder).expect("a folder").map(|it| it.expect("one").path());
    let mut texts = entries.filter(|path| path.to_string_lossy().ends_with(".d.mts"));
    let text =
        texts.find_map(|path| Some(read(&path)).filter(|it| it.contains("\ntype Mutation = ")));
    let text = text.expect("the types of the schema");
    Schema {
        queries: members(&text, "\ntype Query = ", "\n};"),
        mutations: members(&text, "\ntype Mutation = ", "\n};"),
    }
}

impl Schema {
    fn roots(&self, kinds: &[OperationKind]) -> Vec<RootField> {
        let all = kinds.iter().flat_map(|kind| {
            let names = match kind {
                OperationKind::Query => self.queries.iter(),
                OperationKind::Mutation => self.mutations.iter(),
                OperationKind::Subscription => return Vec::new(),
            };
            names
                .map(|name| RootField { kind: *kind, name: name.as_str().into() })
                .collect::<Vec<_>>()
        });
        all.collect()
    }
}

/// Whether a mutation takes something away, by its name.
fn removes(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["delete", "archive", "remove"].iter().any(|word| {
        let is_undone = name.contains(&format!("un{word}"));
        !is_undone && (name.starts_with(word) || name.ends_with(word) || name.contains("remove"))
    })
}

fn compare(published: &Published) {
    let catalogue = Catalogue::built_in();
    let id = published.provider;
    let provider = catalogue.get(id).expect("a provider");
    let schema = (published.schema)();
    assert!(schema.mutations.len() >= published.at_least, "{id}: {}", schema.mutations.len());
    assert!(!schema.queries.is_empty(), "{id}: no queries");
    let (mut unknown, mut removing) = (BTreeSet::new(), BTreeSet::new());
    for action in provider.actions() {
        let scopes = provider.action(&action.name, &BTreeMap::new());
        let scopes = scopes.expect("it is one").expect("filled");
        let graphql: Vec<OperationScope> = scopes.into_iter().filter_map(|it| it.graphql).collect();
        for scope in &graphql {
            let roots = schema.roots(&scope.kinds);
            for field in &scope.fields {
                let one = OperationScope { fields: vec![field.clone()], ..scope.clone() };
                if !roots.iter().any(|root| one.covers(root)) {
                    unknown.insert(format!("{field:?}"));
                }
            }
            let is_mutation = |root: &&RootField| root.kind == OperationKind::Mutation;
            let mut covered = roots.iter().filter(|root| scope.covers(root)).filter(is_mutation);
            if covered.any(|root| removes(&root.name)) {
                removing.insert(action.name.clone());
            }
        }
    }
    let known: BTreeSet<String> =
        published.unknown.iter().map(|(field, _)| format!("FieldPattern({field:?})")).collect();
    assert_eq!(unknown, known, "{id}: root fields that the schema lacks");
    let reviewed = published.removing.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(removing, reviewed, "{id}: actions that take something away");
}

#[test]
fn root_fields_of_actions_are_published_and_actions_that_remove_are_reviewed() {
    PUBLISHED.iter().for_each(compare);
}
