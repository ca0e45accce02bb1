//! A pasted manifest: read as YAML or JSON, checked, and compared with the version that is installed; and what
//! pages of plugins show of a slot: its limits, and the connections that fit.

use maud::{Markup, html};

use crate::parts::chips;
use crate::visit::{PageError, Visit, segment};
use keyward_api::wire::List;
use keyward_model::{Connection, Manifest, Shown, Slot, SlotView};
use keyward_rules::provider::document::Document;

/// Something wrong with a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ManifestProblem {
    /// `line 4`, or `connections[0].slot`.
    pub(super) place: String,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// Reads a manifest. `providers` are the ids of all services.
pub(super) fn read(text: &str, providers: &[&str]) -> Result<Manifest, Vec<ManifestProblem>> {
    let document = Document::parse("manifest", text).map_err(|problems| {
        let line = |line: Option<usize>| line.map_or(String::new(), |line| format!("line {line}"));
        let wrong = problems.into_iter().map(|problem| ManifestProblem {
            place: line(problem.line),
            message: problem.message,
            remedy: problem.remedy,
        });
        wrong.collect::<Vec<_>>()
    })?;
    let shape = |error: serde_json::Error| {
        let remedy = "write `plugin`, `version` and `connections`".to_owned();
        vec![ManifestProblem { place: String::new(), message: error.to_string(), remedy }]
    };
    let value = serde_json::to_value(document.root()).map_err(shape)?;
    let manifest: Manifest = serde_json::from_value(value).map_err(shape)?;
    let faults = manifest.faults(providers);
    match faults.is_empty() {
        true => Ok(manifest),
        false => Err(faults
            .into_iter()
            .map(|it| ManifestProblem { place: it.path, message: it.message, remedy: it.remedy })
            .collect()),
    }
}

/// What another version changes about the accounts, in sentences.
pub(super) fn changes(before: &[SlotView], after: &Manifest) -> Vec<String> {
    let mut changes = Vec::new();
    for slot in &after.connections {
        let name = slot.title();
        match before.iter().find(|it| it.slot == slot.slot) {
            None => changes.push(format!("{name} is new: an account at {}", slot.provider)),
            Some(old) if old.provider != slot.provider => changes.push(format!(
                "{name} is an account at {} instead of {}",
                slot.provider, old.provider
            )),
            Some(old) => changes.extend(changed(name, old, slot)),
        }
    }
    let gone = before.iter().filter(|old| after.slot(&old.slot).is_none());
    changes.extend(
        gone.map(|old| format!("{} is no longer used", old.label.as_deref().unwrap_or(&old.slot))),
    );
    changes
}

fn changed(name: &str, old: &SlotView, new: &Slot) -> Vec<String> {
    let mut changes = Vec::new();
    match (old.required, new.required) {
        (false, true) => changes.push(format!("{name} is required now")),
        (true, false) => changes.push(format!("{name} is optional now")),
        _ => {}
    }
    for (what, before, after) in [
        ("methods", &old.methods, &new.methods),
        ("paths", &old.paths, &new.paths),
        ("scopes", &old.scopes, &new.scopes),
    ] {
        if before != after {
            let word = |all: &[String]| match (all, what) {
                ([], "scopes") => "none".to_owned(),
                ([], _) => "all".to_owned(),
                (all, _) => all.join(", "),
            };
            changes.push(format!("{name}: {what} {} instead of {}", word(after), word(before)));
        }
    }
    changes
}

/// Connections that fit a slot, with the one that it has, which may stand behind those that are read.
pub(super) async fn choices(
    visit: &Visit,
    provider: &str,
    now: Option<&str>,
) -> Result<List<Shown<Connection>>, PageError> {
    let path = format!("/connections?limit=200&provider={}", segment(provider));
    let mut list: List<Shown<Connection>> = visit.get(&path).await?;
    let unread = now.filter(|name| list.items.iter().all(|it| it.spec.name != *name));
    if let Some(name) = unread.filter(|name| !name.is_empty()) {
        let found: Option<Shown<Connection>> =
            visit.get_optional(&format!("/connections/{}", segment(name))).await?;
        list.items.extend(found.filter(|it| it.spec.provider == provider));
    }
    Ok(list)
}

/// A note that the list does not have all connections.
pub(super) fn more(list: &List<Shown<Connection>>) -> Markup {
    html! {
        @if list.next.is_some() {
            p.small.muted { "There are more accounts: " code { "--slot NAME=CONNECTION" } " of " code { "keyward plugin install" } " and " code { "keyward plugin set" } " takes any." }
        }
    }
}

/// What a slot allows.
pub(super) fn limits(methods: &[String], paths: &[String]) -> Markup {
    html! {
        @if methods.is_empty() && paths.is_empty() { "All requests that the account allows" } @else {
            "Only " @if methods.is_empty() { "requests" } @else { span.method { (methods.join(", ")) } }
            @if !paths.is_empty() { " at " code { (paths.join(", ")) } }
        }
    }
}

/// Hosts of a connection, for a summary.
pub(super) fn hosts(connection: &Shown<Connection>) -> Markup {
    chips(&connection.facts.hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "plugin: digest\nversion: 1.2.0\nconnections:\n  - slot: crm\n    provider: hubspot\n    methods: [GET]\n";

    #[test]
    fn a_manifest_is_yaml_or_json() {
        let yaml = read(YAML, &["hubspot"]).unwrap();
        let json = serde_json::to_string(&yaml).unwrap();
        assert_eq!(read(&json, &["hubspot"]).unwrap(), yaml);
    }

    #[test]
    fn a_problem_of_a_manifest_has_a_place_and_a_remedy() {
        let wrong = read(YAML, &["hubspots"]).unwrap_err();
        assert_eq!(wrong[0].place, "connections[0].provider");
        assert!(wrong[0].remedy.contains("hubspots"), "{wrong:?}");
        assert_eq!(read("a: [\n", &[]).unwrap_err()[0].place, "line 2");
        assert!(read("plugin: x\n", &[]).unwrap_err()[0].message.contains("version"));
        assert!(read("just text", &[]).is_err());
    }

    #[test]
    fn a_manifest_of_another_version_lists_its_changes() {
        let before = |more: serde_json::Value| -> SlotView {
            let mut slot = serde_json::json!({
                "slot": "crm", "provider": "hubspot", "required": true, "scopes": [],
                "methods": ["GET"], "paths": [],
            });
            slot.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(slot).unwrap()
        };
        let manifest = read(YAML, &["hubspot"]).unwrap();
        assert_eq!(changes(&[before(serde_json::json!({}))], &manifest), [""; 0]);
        let old = before(serde_json::json!({ "methods": [], "required": false, "label": "CRM" }));
        let gone = before(serde_json::json!({ "slot": "mail", "label": "Sender" }));
        assert_eq!(
            changes(&[old, gone], &manifest),
            ["crm is required now", "crm: methods GET instead of all", "Sender is no longer used"]
        );
        assert_eq!(changes(&[], &manifest), ["crm is new: an account at hubspot"]);
    }
}
