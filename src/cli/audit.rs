//! `keyward audit`: searches, follows, exports and verifies the audit log.

mod counts;
pub(super) mod filters;
pub(super) mod follow;
pub(super) mod show;
mod verify;

use clap::{Args, Subcommand};

use self::filters::note_unknown;
use self::filters::{AuditFilters, PAGE};
use self::follow::Tail;
use self::show::AuditLines;
use self::show::{AuditScreen, rendered};
pub(crate) use self::verify::Verify;
use super::client::Client;
use super::failure::Failure;
use super::output;
use super::settings::Global;
use keyward_api::wire::{Event, Grouping, List};
use show::rendered_json;

/// Most existing records that `tail` shows.
const TAIL_MAX: usize = 10_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// search the records, newest first
    #[command(after_help = "examples:\n  \
        keyward audit query --agent ci --refused --since 1h\n  \
        keyward audit query --host '*.github.com' --method DELETE --since 2026-01-31\n  \
        keyward audit query --refused --by host --since 1d\n  \
        keyward audit query --exchange exc_4t2m9c1kq8w3hs6vjx0e --json\n\n\
        times: 30m or 2h ago, 2026-01-31T08:00:00Z, or a day (from midnight UTC)")]
    Query(Box<Query>),
    /// show the newest records, oldest first; -f follows new ones
    #[command(after_help = "with --json: one JSON object per line")]
    Tail(Box<Tail>),
    /// write all records as JSON Lines, the oldest first
    #[command(after_help = "examples:\n  \
        keyward audit export > audit.jsonl\n  \
        keyward audit export --since 2026-01-01 --until 2026-02-01 \\\n      \
        | gzip > january.jsonl.gz\n\n\
        The hash chain is that of the log's own files: `keyward audit verify --log FILE`\n\
        verifies copies of them")]
    Export(Box<Export>),
    /// verify the hash chain of the records, and what replicas published
    #[command(after_help = "exit code: 0 if the log is complete, 1 if it is not\n\nexample:\n  \
        keyward audit verify --log copies/replica-2/audit.jsonl \\\n      \
        --log copies/replica-3/audit.jsonl")]
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    #[command(flatten)]
    filters: AuditFilters,
    /// show at most this many records, or groups with --by
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// count the records by: host, agent, code, connection or rule
    #[arg(long, value_name = "WHAT", value_parser = grouping)]
    by: Option<Grouping>,
}

/// `keyward logs`: a line for each request.
#[derive(Debug, Args)]
#[command(
    after_help = "examples:\n  keyward logs -f\n  keyward logs --agent ci --refused -n 50\n\n\
    `keyward audit query` shows more of each request, and changes"
)]
pub(crate) struct Logs {
    #[command(flatten)]
    tail: Tail,
}

impl Command {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Self::Query(query) => query.run(global).await,
            Self::Tail(tail) => tail.run(global).await,
            Self::Export(export) => export.run(global).await,
            Self::Verify(asked) => verify::run(global, &asked).await,
        }
    }
}

impl Logs {
    pub(crate) async fn run(mut self, global: &Global) -> Result<(), Failure> {
        let AuditFilters { changes, changed, event, .. } = &self.tail.filters;
        if *changes || changed.is_some() || event.is_some() {
            return Err(Failure::usage("`keyward logs` shows requests, no changes")
                .hint("keyward audit tail --changes"));
        }
        self.tail.filters.requests = true;
        self.tail.show(global, AuditScreen::Short { colours: output::colours() }).await
    }
}

/// Reads the matching records, newest first, page by page.
struct Pages<'a> {
    client: &'a Client,
    filters: &'a AuditFilters,
    left: usize,
    next: Option<String>,
    has_ended: bool,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, filters: &'a AuditFilters, limit: usize) -> Self {
        Self { client, filters, left: limit, next: None, has_ended: false }
    }

    /// The next page, which may be empty; `None` after the last.
    async fn next(&mut self) -> Result<Option<Vec<Event>>, Failure> {
        if self.has_ended || self.left == 0 {
            return Ok(None);
        }
        let mut more = vec![("limit", self.left.min(PAGE).to_string())];
        more.extend(self.next.take().map(|next| ("after", next)));
        let page: List<Event> = self.client.get(&self.filters.path("/audit", &more)).await?;
        self.left = self.left.saturating_sub(page.items.len());
        self.has_ended = page.next.is_none();
        self.next = page.next;
        Ok(Some(page.items))
    }
}

impl Query {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        if let Some(by) = self.by {
            return counts::run(global, &self.filters, by, self.limit).await;
        }
        let client = Client::open_or_empty(global).await?;
        let pages = Pages::new(&client, &self.filters, self.limit);
        if global.json { as_list(pages).await } else { as_table(pages, global).await }
    }
}

async fn as_table(mut pages: Pages<'_>, global: &Global) -> Result<(), Failure> {
    let mut lines = AuditLines::new(output::colours(), output::layout(global).width);
    while let Some(records) = pages.next().await? {
        if !output::print_on(&lines.of(&records))? {
            return Ok(());
        }
    }
    if lines.are_none() {
        output::note("no such records");
        note_unknown(pages.client, pages.filters).await;
    }
    Ok(())
}

/// Writes the API's list as it arrives: it may not fit into memory.
async fn as_list(mut pages: Pages<'_>) -> Result<(), Failure> {
    let mut before = "{\"items\": [\n  ";
    while let Some(records) = pages.next().await? {
        let mut text = String::new();
        for record in &records {
            text.push_str(before);
            text.push_str(&output::json_line(record)?);
            before = ",\n  ";
        }
        if !output::print_on(&text)? {
            return Ok(());
        }
    }
    let begun = if before.starts_with('{') { "{\"items\": [" } else { "\n" };
    let next = output::json_line(&pages.next.filter(|_| !pages.has_ended))?;
    output::print(&format!("{begun}], \"next\": {next}}}\n"))
}

impl Tail {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        self.show(
            global,
            AuditScreen::Table(AuditLines::new(output::colours(), output::layout(global).width)),
        )
        .await
    }

    async fn show(self, global: &Global, mut lines: AuditScreen) -> Result<(), Failure> {
        if self.lines > TAIL_MAX {
            return Err(Failure::usage(format!("`-n` is at most {TAIL_MAX}"))
                .hint("`keyward audit query` shows any number"));
        }
        if self.follow {
            return follow::run(global, &self, &mut lines).await;
        }
        let client = Client::open_or_empty(global).await?;
        let mut pages = Pages::new(&client, &self.filters, self.lines);
        let mut records = Vec::new();
        while let Some(page) = pages.next().await? {
            records.extend(page);
        }
        records.reverse();
        if records.is_empty() && !global.json {
            output::note("no records yet");
            note_unknown(&client, &self.filters).await;
        }
        output::print(&rendered(global.json, &records, &mut lines)?)
    }
}

fn grouping(text: &str) -> Result<Grouping, String> {
    let word = serde_json::Value::from(text);
    serde_json::from_value(word)
        .map_err(|_| "write host, agent, code, connection or rule".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    filters: AuditFilters,
}

impl Export {
    async fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::open_or_empty(global).await?;
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
