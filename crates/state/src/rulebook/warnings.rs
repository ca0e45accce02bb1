//! [`RuleWarning`]: what a rule most likely does not mean. Such a rule is accepted, because it may be meant.

use std::collections::HashMap;

use super::names::Names;
use super::placed_rule::{PlacedRule, PolicyInputs};
use crate::directory::{ConnectionRecord, View};
use keyward_base::database::Seeds;
use keyward_base::host::Target;
use keyward_base::id::OrgId;
use keyward_base::pattern::HostPattern;
use keyward_base::shared_map;
use keyward_model::{Connection, RuleSpec};
use keyward_rules::policy::explain::ActionKind;

/// A part of a rule that most likely means something else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleWarning {
    /// The part: `paths[0]`.
    pub field: String,
    pub message: String,
    pub remedy: String,
}

/// A server of a database.
struct DatabaseServer {
    /// The name of the first connection that names it.
    connection: String,
    target: Target,
}

/// The servers of an organisation's databases, by the text of each host pattern without a port that covers their hosts.
#[derive(Default)]
struct DatabaseServers(HashMap<String, DatabaseServer>);

/// Finds the warnings of rules. The servers of an organisation's databases are collected once, when a rule needs them.
pub(super) struct WarningFinder<'a> {
    names: Names<'a>,
    servers: HashMap<&'a OrgId, DatabaseServers>,
}

impl PolicyInputs {
    /// The warnings of the rules of the configuration, with the connections of a view.
    pub fn warnings(&self, view: &View) -> Vec<(&PlacedRule, RuleWarning)> {
        let mut finder = WarningFinder::new(Names { catalogue: &self.catalogue, view });
        let all = self.rules.iter().map(|rule| (rule, finder.find(&rule.org, rule)));
        all.flat_map(|(rule, found)| found.into_iter().map(move |it| (rule, it))).collect()
    }
}

impl<'a> WarningFinder<'a> {
    pub(super) fn new(names: Names<'a>) -> Self {
        Self { names, servers: HashMap::new() }
    }

    /// The warnings of one rule.
    pub(super) fn find(&mut self, org: &'a OrgId, spec: &RuleSpec) -> Vec<RuleWarning> {
        let mut found = literal_braces(spec);
        if denies_logins(spec) {
            let of_org = || DatabaseServers::of(org, self.names);
            found.extend(self.servers.entry(org).or_insert_with(of_org).missed_by(spec));
        }
        found
    }
}

impl DatabaseServers {
    fn of(org: &OrgId, names: Names<'_>) -> Self {
        let mut found = Self::default();
        let catalogue = names.view.catalogue(org, names.catalogue);
        let is_database = |it: &ConnectionRecord| {
            shared_map::increment();
            catalogue.get(&it.provider).is_some_and(|provider| provider.protocol.is_some())
        };
        for record in names.view.all::<Connection>(org).filter(|it| is_database(it)) {
            let Some(endpoint) = names.account(record).database.clone() else { continue };
            found.put(&record.name, &endpoint.target);
            if let Seeds::Listed(more) = &endpoint.seeds {
                more.iter().for_each(|target| found.put(&record.name, target));
            }
        }
        found
    }

    fn put(&mut self, connection: &str, target: &Target) {
        let host = target.host().to_string();
        let suffixes = host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..]));
        let patterns: Vec<String> = suffixes.chain([host.clone()]).collect();
        for pattern in patterns {
            let known = self.0.get(&pattern);
            if known.is_none_or(|known| connection < &*known.connection) {
                let (connection, target) = (connection.to_owned(), target.clone());
                self.0.insert(pattern, DatabaseServer { connection, target });
            }
        }
    }

    /// The hosts of a rule that name a database's server without its port, where the rule names it nowhere else.
    fn missed_by(&self, spec: &RuleSpec) -> Vec<RuleWarning> {
        let hosts: Vec<_> = spec.hosts.iter().map(|text| HostPattern::parse(text).ok()).collect();
        let missed = |(index, pattern): (usize, &Option<HostPattern>)| {
            let pattern = pattern.as_ref().filter(|pattern| !pattern.has_explicit_port())?;
            let text = pattern.to_string();
            let DatabaseServer { connection, target } = self.0.get(&text)?;
            if hosts.iter().flatten().any(|host| host.matches_any_scheme(target)) {
                return None;
            }
            let port = target.port();
            Some(RuleWarning {
                field: format!("hosts[{index}]"),
                message: format!(
                    "`{text}` is for ports 80 and 443, and connection `{connection}` is a database at port {port}"
                ),
                remedy: format!("add `{text}:{port}` to deny that too"),
            })
        };
        hosts.iter().enumerate().filter_map(missed).collect()
    }
}

/// Whether the rule denies logins at databases: one for some requests is about requests.
fn denies_logins(spec: &RuleSpec) -> bool {
    let is_conditional = !(spec.methods.is_empty()
        && spec.paths.is_empty()
        && spec.actions.is_empty()
        && spec.branches.is_empty());
    spec.action == Some(ActionKind::Deny) && !is_conditional
}

/// The paths with a name in braces, which other programs read as a variable.
fn literal_braces(spec: &RuleSpec) -> Vec<RuleWarning> {
    let warned = |(index, path): (usize, &String)| {
        let (first, starred) = without_braces(path)?;
        Some(RuleWarning {
            field: format!("paths[{index}]"),
            message: format!("`{first}` is literal text"),
            remedy: format!("`*` matches one segment: write `{starred}`"),
        })
    };
    spec.paths.iter().enumerate().filter_map(warned).collect()
}

/// The first part in braces, and the path with a star in place of each; `None`: it has no such part.
fn without_braces(path: &str) -> Option<(&str, String)> {
    let (mut first, mut starred, mut rest) = (None, String::new(), path);
    while let Some(begin) = rest.find('{')
        && let Some(length) = rest[begin..].find('}')
    {
        let end = begin + length + 1;
        first = first.or(Some(&rest[begin..end]));
        starred.push_str(&rest[..begin]);
        starred.push('*');
        rest = &rest[end..];
    }
    first.map(|first| (first, starred + rest))
}
