//! `keyward store check`: names each fault of the store with its remedy, and rebuilds the indexes on request.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::super::failure::{Exit, Failure};
use super::super::output;
use super::super::settings::Global;
use crate::app::{RepairedStore, check_store, repair_store};
use keyward_state::directory::{FaultKind, StoreCheck, StoreFault};

pub(crate) const HELP: &str = "\
Reads, opens and decodes every row, and compares it with the rows that belong to it. Nothing is changed.
An embedded store is checked while its gateway is stopped, a database also while gateways run.

With --repair, index rows (names and tokens) are made what the records say, after the rows were copied
to store.before-repair-TIME. Records are never repaired: restore a backup for those.

Exits with 1 if there are faults. Leftovers of interrupted changes are listed and are no faults.

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
    rows: usize,
    faults: Vec<StoreFault>,
    /// The number of index rows that were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<usize>,
    /// The copy of the rows from before the repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<PathBuf>,
}

impl Check {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        let config = global.load()?;
        let (check, repaired, copy) = match self.repair {
            false => (Box::pin(check_store(&config)).await?, None, None),
            true => {
                let RepairedStore { changed, copy, check } =
                    Box::pin(repair_store(&config)).await?;
                (check, Some(changed), copy)
            }
        };
        let is_sound = !check.has_faults();
        let StoreCheck { rows, faults, .. } = check;
        output::show(global.json, &CheckReport { rows, faults, repaired, copy }, text)?;
        match is_sound {
            true => Ok(()),
            false => Err(Failure::silent(Exit::Failed)),
        }
    }
}

fn text(report: &CheckReport) -> String {
    let CheckReport { rows, faults, repaired, copy } = report;
    let mut text = String::new();
    for StoreFault { table, key, kind, problem, remedy } in faults {
        let kind = kind.as_str();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{kind}: {table} row {key} {problem}\n  {remedy}");
    }
    if let Some(copy) = copy {
        let _ = writeln!(text, "copied the store of before to {}", copy.display());
    }
    if let Some(changed) = repaired {
        let _ = writeln!(text, "changed {}", counted(*changed, "index row"));
    }
    let leftovers = faults.iter().filter(|fault| fault.kind == FaultKind::Leftover).count();
    let matter = faults.len() - leftovers;
    let faults = if matter == 0 { "no faults".to_owned() } else { counted(matter, "fault") };
    let leftovers = match leftovers {
        0 => String::new(),
        some => format!(", {}", counted(some, "leftover")),
    };
    let _ = writeln!(text, "checked {}: {faults}{leftovers}", counted(*rows, "row"));
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: FaultKind, problem: &str, remedy: &str) -> StoreFault {
        let (problem, remedy) = (problem.to_owned(), remedy.to_owned());
        StoreFault { table: "names", key: "org_default/ab".to_owned(), kind, problem, remedy }
    }

    #[test]
    fn each_fault_has_its_remedy_below_it_and_leftovers_are_counted_apart() {
        let index = fault(FaultKind::Index, "is missing", "rebuild the indexes");
        let leftover = fault(FaultKind::Leftover, "is not used", "none needed");
        let faults = vec![index, leftover];
        let report = CheckReport { rows: 12, faults, repaired: None, copy: None };
        insta::assert_snapshot!(text(&report), @r"
        index: names row org_default/ab is missing
          rebuild the indexes
        leftover: names row org_default/ab is not used
          none needed
        checked 12 rows: 1 fault, 1 leftover
        ");
        let copy = Some("/data/store.before-repair-1".into());
        let report = CheckReport { rows: 1, faults: Vec::new(), repaired: Some(1), copy };
        insta::assert_snapshot!(text(&report), @r"
        copied the store of before to /data/store.before-repair-1
        changed 1 index row
        checked 1 row: no faults
        ");
    }
}
