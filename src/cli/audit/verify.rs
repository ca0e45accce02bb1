//! `keyward audit verify`: verifies the hash chain of the audit log, and compares logs with what the replicas of the
//! store published of theirs.

use std::path::PathBuf;

use clap::Args;

use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use crate::cli::terminal::table::{Table, TableLayout, fields};
use keyward_api::wire::{AuditBreak, AuditChain, AuditChainState, AuditVerified};
use keyward_state::observe::trail::Trail;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// also verify this copy of another replica's log; no chain may then be missing
    #[arg(long = "log", value_name = "FILE")]
    logs: Vec<PathBuf>,
}

/// Verifies the gateway's log and the given ones.
pub(super) async fn run(global: &Global, asked: &Verify) -> Result<(), Failure> {
    let client = Client::open_or_empty(global).await?;
    let mut verified: AuditVerified = client.get("/api/v1/audit/verify").await?;
    for log in &asked.logs {
        let log = log.clone();
        let chains = std::mem::take(&mut verified.chains);
        let compared = tokio::task::spawn_blocking(move || compared(&log, chains)).await;
        let (broken, chains) =
            compared.map_err(|error| Failure::failed("cannot verify a log", &error))??;
        verified.chains = chains;
        verified.broken = verified.broken.or(broken);
    }
    if !asked.logs.is_empty() {
        let missing = |chain: &&mut AuditChain| chain.state == AuditChainState::NotHere;
        for chain in verified.chains.iter_mut().filter(missing) {
            chain.reason = Some("no log that was verified has its records".to_owned());
        }
    }
    let is_wrong = |chain: &AuditChain| chain.reason.is_some();
    verified.whole = verified.broken.is_none() && !verified.chains.iter().any(is_wrong);
    if verified.whole {
        return output::show(global.json, &verified, |verified| {
            whole(verified, &output::layout(global))
        });
    }
    if global.json {
        output::print_json(&verified)?;
        return Err(Failure::silent(Exit::Failed));
    }
    Err(failure(&verified))
}

/// Verifies one more log, and updates what is known of the chains.
fn compared(
    log: &std::path::Path,
    chains: Vec<AuditChain>,
) -> Result<(Option<AuditBreak>, Vec<AuditChain>), Failure> {
    let unreadable =
        |error: std::io::Error| Failure::failed(&format!("cannot read {}", log.display()), &error);
    if let Err(error) = std::fs::metadata(log) {
        return Err(unreadable(error));
    }
    let trail = Trail::at(log);
    let found = trail.verify(|| true).map_err(unreadable)?;
    let broken = found.broken.map(|broken| AuditBreak {
        file: broken.file.display().to_string(),
        line: broken.line,
        reason: broken.reason,
    });
    let compare = |chain: AuditChain| {
        let published = chain.published_chain();
        let here = AuditChain::of(published.clone(), trail.compare(&published)?);
        Ok(match here.state {
            AuditChainState::NotHere => chain,
            _ => here,
        })
    };
    let chains = chains.into_iter().map(compare).collect::<Result<_, std::io::Error>>();
    Ok((broken, chains.map_err(unreadable)?))
}

fn failure(verified: &AuditVerified) -> Failure {
    if let Some(broken) = &verified.broken {
        let message = format!("{}:{}: {}", broken.file, broken.line, broken.reason);
        let failure = Failure::new(Exit::Failed, message);
        return match verified.records {
            0 => failure,
            _ => failure.hint(format!(
                "records {} to {} follow each other; compare the other records with a copy from another machine",
                verified.first, verified.last
            )),
        };
    }
    let wrong = verified.chains.iter().filter_map(|chain| {
        let reason = chain.reason.as_ref()?;
        Some(format!("the log of {}, chain {}: {reason}", chain.host, chain.chain))
    });
    let wrong: Vec<_> = wrong.collect();
    Failure::new(Exit::Failed, wrong.join("\n"))
        .hint("give the logs of all replicas with --log; compare what is wrong with a copy from another machine")
}

fn whole(verified: &AuditVerified, layout: &TableLayout) -> String {
    if verified.records == 0 && verified.chains.is_empty() {
        return "no records yet\n".to_owned();
    }
    let before = match verified.first {
        0 | 1 => String::new(),
        first => format!("1 to {} were removed with their files", first - 1),
    };
    let mut text = fields(&[
        ("whole", format!("records {} to {}", verified.first, verified.last)),
        ("before", before),
        ("files", verified.files.to_string()),
        ("hash", verified.hash.clone()),
    ]);
    if !verified.chains.is_empty() {
        let mut table = Table::new(["CHAIN", "HOST", "RECORDS", "PUBLISHED", "STATE"]);
        for chain in &verified.chains {
            let last = chain.heads.last().map_or(0, |head| head.seq);
            table.row([
                chain.chain.as_str().into(),
                chain.host.as_str().into(),
                last.to_string().into(),
                chain.published.into(),
                word(chain).into(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render("", layout));
    }
    text
}

fn word(chain: &AuditChain) -> &'static str {
    match chain.state {
        AuditChainState::Whole => "whole",
        AuditChainState::Shortened => "shortened",
        AuditChainState::Altered => "altered",
        AuditChainState::NotHere => "in another log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_state::observe::chain::ChainHead;
    use keyward_state::observe::heads::{ChainState, PublishedChain};

    #[test]
    fn a_whole_log_is_shown_with_the_records_that_were_removed_before_it() {
        let mut verified = AuditVerified {
            whole: true,
            files: 3,
            records: 5,
            first: 8,
            last: 12,
            hash: "ab".repeat(32),
            broken: None,
            chains: Vec::new(),
        };
        insta::assert_snapshot!(whole(&verified, &TableLayout::FULL), @r"
        whole    records 8 to 12
        before   1 to 7 were removed with their files
        files    3
        hash     abababababababababababababababababababababababababababababababab
        ");
        verified.first = 1;
        assert!(!whole(&verified, &TableLayout::FULL).contains("removed"));
        assert_eq!(
            whole(&AuditVerified { records: 0, ..verified }, &TableLayout::FULL),
            "no records yet\n"
        );
    }

    fn chain(state: ChainState) -> AuditChain {
        let at = "2026-01-31T08:00:00Z".parse().unwrap();
        let mut chain = PublishedChain::new("00ff".to_owned(), "replica-2".to_owned(), at);
        chain.add(ChainHead { seq: 40, hash: "ab".repeat(32) }, at);
        AuditChain::of(chain, state)
    }

    #[test]
    fn a_broken_chain_fails_with_its_fault_and_other_chains_are_rows_of_a_table() {
        let states = [
            ChainState::Whole,
            ChainState::NotHere,
            ChainState::Shortened { last: 30 },
            ChainState::Altered { same: 12, changed: 40 },
        ];
        let mut verified = AuditVerified {
            whole: false,
            files: 1,
            records: 5,
            first: 1,
            last: 5,
            hash: "ab".repeat(32),
            broken: None,
            chains: states.map(chain).into(),
        };
        assert_eq!(
            failure(&verified).messages().join("\n"),
            "the log of replica-2, chain 00ff: records 31 to 40 were removed from the end\n\
             the log of replica-2, chain 00ff: one of the records 13 to 40 was altered"
        );
        verified.chains.truncate(2);
        let text = whole(&verified, &TableLayout::FULL);
        let (_, table) = text.split_once("\n\n").expect("fields, and a table");
        insta::assert_snapshot!(table, @r"
        CHAIN   HOST        RECORDS   PUBLISHED              STATE
        00ff    replica-2   40        2026-01-31T08:00:00Z   whole
        00ff    replica-2   40        2026-01-31T08:00:00Z   in another log
        ");
    }
}
