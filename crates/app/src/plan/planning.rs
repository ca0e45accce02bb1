//! [`Planning`]: a plan under construction, to which each kind of resource adds its steps.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::problem::{AbsentName, did_you_mean, problem};
use super::step::{Step, StepSubject};
use crate::config::Config;
use keyward_base::id::OrgId;
use keyward_model::Record;
use keyward_rules::provider::Catalogue;
use keyward_rules::provider::document::Problem;
use keyward_state::directory::{Stored, View};
use keyward_state::rulebook::PolicyInputs;

/// The label of the token that the file gives an agent.
pub(crate) const TOKEN_LABEL: &str = "configuration";

/// The inputs of a plan.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'a> {
    pub(crate) config: &'a Config,
    /// The directory as it is.
    pub(crate) view: &'a View,
    /// The providers of the configuration.
    pub(crate) catalogue: &'a Catalogue,
    /// The rules of the configuration.
    pub(crate) sources: &'a PolicyInputs,
}

/// A plan under construction.
pub(super) struct Planning<'a> {
    pub(super) basis: Basis<'a>,
    /// The sources, apps, agents and connections of the file.
    pub(super) declared_sources: HashSet<(&'a OrgId, &'a str)>,
    pub(super) declared_apps: HashSet<(&'a OrgId, &'a str)>,
    pub(super) declared_agents: HashSet<(&'a OrgId, &'a str)>,
    pub(super) declared_connections: HashSet<(&'a OrgId, &'a str)>,
    pub(super) steps: Vec<Step>,
    /// Pauses of resources that others may still use: executed last.
    pub(super) pauses: Vec<Step>,
    pub(super) problems: Vec<Problem>,
    /// Names that do not exist: problems as well, unless the file is judged alone.
    pub(super) absent: Vec<AbsentName>,
    /// What is accepted, and most likely means something else.
    pub(super) warnings: Vec<Problem>,
    /// The most similar connection of each name in `absent`.
    pub(super) nearest: HashMap<(OrgId, String), Option<String>>,
    /// The directory with the agents and connections to come, as far as they are known. Those still to be made have other
    /// ids than they will get. It shares with the present one what stays.
    pub(super) planned: View,
}

/// The keys that differ.
pub(crate) fn differing<const N: usize>(keys: [(&str, bool); N]) -> Vec<String> {
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
}

/// The members in which two specs differ.
pub(super) fn members(before: &impl Serialize, now: &impl Serialize) -> Vec<String> {
    let [before, now] = [object(before), object(now)];
    let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
    keys.filter(|key| before.get(*key) != now.get(*key)).cloned().collect()
}

fn object(spec: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// The names of one kind of resource in the file.
pub(super) fn named<'a, T>(
    all: &'a [T],
    of: impl Fn(&'a T) -> (&'a OrgId, &'a str),
) -> HashSet<(&'a OrgId, &'a str)> {
    all.iter().map(of).collect()
}

impl<'a> Planning<'a> {
    pub(super) fn new(basis: Basis<'a>) -> Self {
        Self {
            basis,
            declared_sources: named(&basis.config.sources, |it| (&it.org, it.name())),
            declared_apps: named(&basis.config.apps, |it| (&it.org, it.name())),
            declared_agents: named(&basis.config.agents, |it| (&it.org, it.name())),
            declared_connections: named(&basis.config.connections, |it| (&it.org, it.name())),
            steps: Vec::new(),
            pauses: Vec::new(),
            problems: Vec::new(),
            absent: Vec::new(),
            warnings: Vec::new(),
            nearest: HashMap::new(),
            planned: basis.view.clone(),
        }
    }
}

impl Planning<'_> {
    /// Puts a future record in place of the present one with its name.
    pub(super) fn put_planned<R: Stored>(
        &mut self,
        record: Record<R>,
        found: Option<&Arc<Record<R>>>,
    ) {
        if let Some(found) = found.filter(|found| found.id != record.id) {
            self.planned.take_out::<R>(&found.org, &found.id);
        }
        self.planned.put(Arc::new(record));
    }

    /// A problem of `subject`, at its place.
    pub(super) fn refuse(
        &mut self,
        subject: &StepSubject,
        message: impl fmt::Display,
        remedy: &str,
    ) {
        self.problems.push(of_subject(subject, message, remedy));
    }

    /// `subject` names a connection that does not exist.
    pub(super) fn report_missing_connection(
        &mut self,
        subject: &StepSubject,
        name: &str,
        nearest: Option<String>,
    ) {
        let message = format!("`use` names connection `{name}`, which does not exist");
        let remedy = nearest.as_deref().map(did_you_mean);
        let remedy = remedy.as_deref().unwrap_or("declare or add it");
        let problem = Box::new(of_subject(subject, message, remedy));
        let name = name.to_owned();
        self.absent.push(AbsentName { kind: "connection", name, nearest, problem });
    }

    /// `subject` names a secret source that does not exist.
    pub(super) fn report_missing_source(&mut self, subject: &StepSubject, name: &str) {
        let message = format!("there is no source `{name}`");
        let problem = of_subject(subject, message, "declare it under `sources:`, or add it");
        let (name, problem) = (name.to_owned(), Box::new(problem));
        self.absent.push(AbsentName { kind: "source", name, nearest: None, problem });
    }

    /// `subject` names a resource that does not exist.
    pub(super) fn report_absent(&mut self, subject: &StepSubject, absent: AbsentName) {
        let problem = of_subject(subject, &absent.problem.message, &absent.problem.remedy);
        self.absent.push(AbsentName { problem: Box::new(problem), ..absent });
    }

    /// Two of one name cannot be: one is stored.
    pub(super) fn refuse_stored(&mut self, subject: &StepSubject) {
        let message = format!("a stored {} has this name", subject.kind);
        self.refuse(subject, message, "rename one of them");
    }
}

fn of_subject(subject: &StepSubject, message: impl fmt::Display, remedy: &str) -> Problem {
    let StepSubject { kind, name, .. } = subject;
    let place = subject.place.as_deref().unwrap_or_default();
    problem(place, format!("{kind} `{name}`: {message}"), remedy)
}
