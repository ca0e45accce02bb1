//! `keyward store check`: names each fault of the store with its remedy, and rebuilds the indexes on request.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::json;

use super::super::client::Client;
use super::super::failure::{Exit, Failure};
use super::super::output;
use super::super::settings::Global;
use keyward_api::wire::{Status, StoreCheckView, StoreFaultView};
use keyward_app::{RepairedStore, check_store, repair_store};

pub(crate) const HELP: &str = "\
Reads, opens and decodes every row, and compares it with the rows that belong to
it. Nothing is changed. A running gateway checks its own store while it serves;
without one, this process checks the store of the configuration.

With --repair, index rows (names and tokens) are rebuilt from the records, after
the rows were copied to store.before-repair-TIME. Records are never repaired:
restore a backup for those. The gateway must be stopped.

Exits with 1 if there are faults. Leftovers of interrupted changes are listed
and are no faults.

examples:
  keyward store check
  keyward store check --json
  keyward store check --repair";

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// rebuild the indexes, after a copy of the rows was written
    #[arg(long)]
    repair: bool,
}

/// What was found, and what was done.
#[derive(Serialize)]
struct CheckReport {
    #[serde(flatten)]
    found: StoreCheckView,
    /// The number of index rows that were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<usize>,
    /// The copy of the rows from before the repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<PathBuf>,
}

impl Check {
    /// Whether a gateway on another machine can do it.
    pub(crate) fn is_of_this_machine(&self) -> bool {
        self.repair
    }

    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let (found, repaired, copy) = match self.repair {
            false => (found(global).await?, None, None),
            true => {
                let RepairedStore { changed, copy, check } =
                    Box::pin(repair_store(&global.load()?)).await?;
                (check.into(), Some(changed), copy)
            }
        };
        let is_sound = found.fault_count() == 0;
        output::show(global.json, &CheckReport { found, repaired, copy }, text)?;
        if is_sound { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
    }
}

/// What the running gateway finds in its store, or this process in that of the configuration.
async fn found(global: &Global) -> Result<StoreCheckView, Failure> {
    match Client::if_running(global).await? {
        Some(client) if is_of(&client, global).await? => {
            client.post("/api/v1/store/check", &json!({})).await
        }
        _ => Ok(Box::pin(check_store(&global.load()?)).await?.into()),
    }
}

/// Whether the gateway runs with the configuration that was named. Another one may have another store. To callers who may
/// not read the installation it does not say, and refuses the check.
async fn is_of(gateway: &Client, global: &Global) -> Result<bool, Failure> {
    let Some(named) = global.config.as_ref().filter(|_| gateway.host().is_none()) else {
        return Ok(true);
    };
    let status: Status = gateway.get("/api/v1/status").await?;
    if status.config.is_empty() {
        return Ok(true);
    }
    let own = std::fs::canonicalize(&status.config);
    Ok(own.is_ok_and(|own| std::fs::canonicalize(named).is_ok_and(|named| named == own)))
}

fn text(report: &CheckReport) -> String {
    let CheckReport { found, repaired, copy } = report;
    let mut text = String::new();
    for StoreFaultView { table, key, kind, problem, remedy } in &found.faults {
        let kind = kind.as_str();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{kind}: {table} row {key} {problem}\n  {remedy}");
    }
    if found.more > 0 {
        let _ = writeln!(text, "{} more", found.more);
    }
    if let Some(copy) = copy {
        let _ = writeln!(text, "copied the previous store to {}", copy.display());
    }
    if let Some(changed) = repaired {
        let _ = writeln!(text, "changed {}", counted(*changed, "index row"));
    }
    let faults = match found.fault_count() {
        0 => "no faults".to_owned(),
        some => counted(some, "fault"),
    };
    let leftovers = match found.leftover_count() {
        0 => String::new(),
        some => format!(", {}", counted(some, "leftover")),
    };
    let _ = writeln!(text, "checked {}: {faults}{leftovers}", counted(found.rows, "row"));
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_api::wire::StoreFaultKind;

    fn fault(kind: StoreFaultKind, problem: &str, remedy: &str) -> StoreFaultView {
        let (problem, remedy) = (problem.to_owned(), remedy.to_owned());
        let (table, key) = ("names".to_owned(), "org_default/ab".to_owned());
        StoreFaultView { table, key, kind, problem, remedy }
    }

    #[test]
    fn each_fault_has_its_remedy_below_it_and_leftovers_are_counted_apart() {
        let index = fault(StoreFaultKind::Index, "is missing", "rebuild the indexes");
        let leftover = fault(StoreFaultKind::Leftover, "is not used", "none needed");
        let faults = vec![index, leftover];
        let found = StoreCheckView { rows: 12, faults, more: 0 };
        let report = CheckReport { found, repaired: None, copy: None };
        insta::assert_snapshot!(text(&report), @r"
        index: names row org_default/ab is missing
          rebuild the indexes
        leftover: names row org_default/ab is not used
          none needed
        checked 12 rows: 1 fault, 1 leftover
        ");
        let copy = Some("/data/store.before-repair-1".into());
        let found = StoreCheckView { rows: 1, ..StoreCheckView::default() };
        let report = CheckReport { found, repaired: Some(1), copy };
        insta::assert_snapshot!(text(&report), @r"
        copied the previous store to /data/store.before-repair-1
        changed 1 index row
        checked 1 row: no faults
        ");
    }
}
