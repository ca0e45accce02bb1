//! `keyward audit export`: writes all records as JSON Lines, the oldest first. The API lists the newest first, so the
//! pages are found first and then read from the last to the first: memory holds one page.

use clap::Args;

use super::screen::rendered_json;
use super::wanted::{AuditFilters, PAGE};
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::wire::{Event, List};

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    wanted: AuditFilters,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::for_audit(global).await?;
        let mut begins: Vec<Option<String>> = vec![None];
        while let Some(begin) = begins.last().cloned() {
            match self.page(&client, begin).await?.next {
                Some(next) => begins.push(Some(next)),
                None => break,
            }
        }
        // Records that were written meanwhile are before the first page.
        while let Some(begin) = begins.pop() {
            let mut records = self.page(&client, begin).await?.items;
            records.reverse();
            if !output::print_on(&rendered_json(&records)?)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The page that begins at a record; the newest one without.
    async fn page(&self, client: &Client, begin: Option<String>) -> Result<List<Event>, Failure> {
        let mut more = vec![("limit", PAGE.to_string())];
        more.extend(begin.map(|begin| ("after", begin)));
        client.get(&self.wanted.path("/audit", &more)).await
    }
}
