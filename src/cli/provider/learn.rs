//! `keyward provider check --learn`: proposes a provider's file from an OpenAPI document or from one captured request. The
//! result passes `provider check`. What the source does not say is a comment to fill in; values of secrets are never read.

mod har;
mod openapi;
mod proposal;

use std::path::Path;

use serde_json::Value;

use self::proposal::{Proposal, WrittenParts};
use crate::cli::failure::Failure;
use crate::cli::output;
use keyward_rules::provider::document::Document;
use keyward_rules::provider::{Catalogue, check};

/// The longest published documents have about 15 MiB.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Prints the proposal. Notes about what is missing go to standard error.
pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let name = path.display().to_string();
    let failed = |error: &std::io::Error| Failure::failed(&format!("cannot read {name}"), error);
    let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{name} is longer than 32 MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let (proposal, yaml) = learned(&name, &text)?;
    output::print(&yaml)?;
    for note in &proposal.notes {
        output::note(&format!("note: {note}"));
    }
    Ok(())
}

fn learned(name: &str, text: &str) -> Result<(Proposal, String), Failure> {
    let document = document(name, text)?;
    let mut proposal = match document.get("log") {
        Some(log) => har::proposal(name, log)?,
        None => openapi::proposal(name, &document)?,
    };
    if Catalogue::built_in().get(&proposal.id).is_some() {
        proposal.notes.push(format!(
            "provider `{}` is built in: see `keyward provider show {}`",
            proposal.id, proposal.id
        ));
        proposal.id += "-own";
    }
    // What the rules of providers refuse becomes a comment.
    let mut problems = Vec::new();
    for parts in [WrittenParts::All, WrittenParts::WithoutActions, WrittenParts::Required] {
        let yaml = proposal.text(parts);
        match check::file(name, &yaml, &Catalogue::built_in()) {
            Ok(_) => return Ok((proposal, yaml)),
            Err(found) => problems = found,
        }
    }
    let lines = problems
        .iter()
        .map(|problem| format!("the proposal would not pass: {}", problem.to_string().trim_end()));
    Err(Failure::several(lines.collect()))
}

/// JSON or YAML. Errors name the line and quote nothing, since a captured request has secrets.
fn document(name: &str, text: &str) -> Result<Value, Failure> {
    let found = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|error| (Some(error.line()), "JSON")),
        false => Document::parse(name, text)
            .map_err(|problems| problems.first().and_then(|problem| problem.line))
            .and_then(|document| serde_json::to_value(document.root()).map_err(|_| None))
            .map_err(|line| (line, "YAML")),
    };
    found.map_err(|(line, what)| {
        let line = line.map_or_else(String::new, |line| format!("{line}:"));
        Failure::usage(format!("{name}:{line} this is no {what} that can be read"))
            .hint("give an OpenAPI document in JSON, or YAML without aliases, or a HAR file")
    })
}

#[cfg(test)]
mod tests;
