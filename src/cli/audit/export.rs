//! `keyward audit export`: writes all records as JSON Lines, the oldest first. The API lists the newest first, so the
//! pages are found first and then read from the last to the first: memory holds one page.

use clap::Args;

use super::filters::{AuditFilters, PAGE};
use super::screen::rendered_json;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::wire::{Event, List};

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    filters: AuditFilters,
}

impl Export {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::for_audit(global).await?;
        // The first page begins at the newest record, so that records that are written meanwhile do not move it.
        let newest = self.page(&client, None, 1).await?.items.pop();
        let mut begins = vec![newest.map(|newest| (newest.seq + 1).to_string())];
        while let Some(begin) = begins.last().cloned() {
            match self.page(&client, begin, PAGE).await?.next {
                Some(next) => begins.push(Some(next)),
                None => break,
            }
        }
        while let Some(begin) = begins.pop() {
            let mut records = self.page(&client, begin, PAGE).await?.items;
            records.reverse();
            if !output::print_on(&rendered_json(&records)?)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The page that ends before the record `begin`; the newest one without.
    async fn page(
        &self,
        client: &Client,
        begin: Option<String>,
        limit: usize,
    ) -> Result<List<Event>, Failure> {
        let mut more = vec![("limit", limit.to_string())];
        more.extend(begin.map(|begin| ("after", begin)));
        client.get(&self.filters.path("/audit", &more)).await
    }
}
