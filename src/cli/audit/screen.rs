//! Records of the audit log on a terminal: aligned lines, or JSON.

use super::line;
use super::show::AuditLines;
use crate::cli::failure::Failure;
use crate::cli::output;
use keyward_api::wire::Event;

/// How records are printed for people.
pub(super) enum AuditScreen {
    Table(AuditLines),
    /// A line for each request, without headings.
    Short {
        colours: bool,
    },
}

impl AuditScreen {
    fn of(&mut self, records: &[Event]) -> String {
        match self {
            Self::Table(lines) => lines.of(records),
            Self::Short { colours } => {
                records.iter().filter_map(|record| line::of(record, *colours)).collect()
            }
        }
    }
}

/// Prints one JSON object per line, or lines for people.
pub(super) fn rendered(
    json: bool,
    records: &[Event],
    lines: &mut AuditScreen,
) -> Result<String, Failure> {
    if json { rendered_json(records) } else { Ok(lines.of(records)) }
}

pub(super) fn rendered_json(records: &[Event]) -> Result<String, Failure> {
    let mut text = String::new();
    for record in records {
        text.push_str(&output::json_line(record)?);
        text.push('\n');
    }
    Ok(text)
}
