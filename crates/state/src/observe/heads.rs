//! [`PublishedChain`]: ends of an audit log's chain as its replica published them in the shared store, sealed with the
//! master key. A person who can change only the log's files cannot shorten or rewrite it unnoticed, because the log
//! then lacks published records.

use std::fs::File;
use std::io;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chain::{ChainHead, hash, line_at, line_start, offset_of};
use super::event::Event;
use super::trail::Trail;

/// Most heads that are kept of one chain. The older the heads, the larger the distance between them.
const HEADS_MAX: usize = 32;

/// A record that was the last of its log when it was published.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(rename = "AuditHead")]
pub struct PublishedHead {
    /// Its number.
    pub seq: u64,
    /// The hash of its line.
    pub hash: String,
    /// When it was published.
    pub at: Timestamp,
}

/// A chain with its published heads.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PublishedChain {
    /// A random name. A replica recognises its chain by the heads.
    pub chain: String,
    /// The name of the machine that published last.
    pub host: String,
    /// Oldest first.
    pub heads: Vec<PublishedHead>,
    /// When it was published last, with or without new records.
    pub published: Timestamp,
    /// Whether the replica was shutting down then.
    pub ended: bool,
}

/// The result of comparing a log with a published chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChainState {
    /// It contains all published records that are not older than the log's first.
    Whole,
    /// It ends before the last published record.
    Shortened {
        /// Its last record.
        last: u64,
    },
    /// A published record has another hash now.
    Altered {
        /// The last unchanged published record.
        same: u64,
        /// The first changed one.
        changed: u64,
    },
    /// It has none of the published records: the chain belongs to another log, or this log was replaced.
    NotHere,
}

impl PublishedChain {
    /// A chain without heads.
    pub fn new(chain: String, host: String, at: Timestamp) -> Self {
        Self { chain, host, heads: Vec::new(), published: at, ended: false }
    }

    /// The last published record; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.heads.last().map_or(0, |head| head.seq)
    }

    /// Adds a head, unless it is older than the last one.
    pub fn add(&mut self, head: ChainHead, at: Timestamp) {
        self.published = at;
        if head.seq > self.last() {
            self.heads.push(PublishedHead { seq: head.seq, hash: head.hash, at });
        }
        if self.heads.len() > HEADS_MAX {
            // The first head identifies the chain; the newest ones detect the most changes.
            let seqs: Vec<_> = self.heads.iter().map(|head| head.seq).collect();
            let gap = |at: usize| seqs[at + 1] - seqs[at - 1];
            let age = |at: usize| (seqs.len() - at) as u64;
            let needless = (1..seqs.len() - 1).min_by_key(|at| gap(*at) / age(*at));
            self.heads.remove(needless.unwrap_or(1));
        }
    }
}

impl Trail {
    /// The end of the log, after it was synced to the disk: no power failure removes that record. The default if the log
    /// has no record. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read or synced.
    pub fn durable_head(&self) -> io::Result<ChainHead> {
        let Some((file, head)) = self.head()? else { return Ok(ChainHead::default()) };
        file.sync_data()?;
        Ok(head)
    }

    /// The end of the log, and the file that has it; `None` if the log has no record.
    fn head(&self) -> io::Result<Option<(File, ChainHead)>> {
        let active = self.open_active()?;
        let full = self.full()?;
        let full = full.iter().rev().map(|full| File::open(&full.path));
        for file in active.map(Ok).into_iter().chain(full) {
            let file = file?;
            if let Some(head) = last_of(&file)? {
                return Ok(Some((file, head)));
            }
        }
        Ok(None)
    }

    /// The hash of a record's line; `None` if the log does not have it. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn hash_of(&self, seq: u64) -> io::Result<Option<String>> {
        let active = self.open_active()?;
        let full = self.full()?;
        let full = full.iter().rev().skip_while(|full| full.first > seq).take(1);
        let full = full.map(|full| File::open(&full.path));
        for file in active.map(Ok).into_iter().chain(full) {
            let file = file?;
            let Some((line, _)) = line_at(&file, offset_of(&file, seq)?)? else { continue };
            let event = serde_json::from_slice::<Event>(&line);
            if event.is_ok_and(|event| event.seq == seq) {
                return Ok(Some(hash(&line)));
            }
        }
        Ok(None)
    }

    /// Compares the log with the published heads of a chain. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn compare(&self, chain: &PublishedChain) -> io::Result<ChainState> {
        let last = self.head()?.map_or(0, |(_, head)| head.seq);
        let (mut same, mut state) = (None, ChainState::Whole);
        for head in &chain.heads {
            match self.hash_of(head.seq)? {
                Some(found) if found == head.hash => same = Some(head.seq),
                Some(_) if state == ChainState::Whole => {
                    state = ChainState::Altered { same: same.unwrap_or(0), changed: head.seq };
                }
                None if state == ChainState::Whole && head.seq > last => {
                    state = ChainState::Shortened { last };
                }
                // The file of the record was removed as the oldest, or an earlier difference was found already.
                _ => {}
            }
        }
        Ok(if same.is_some() { state } else { ChainState::NotHere })
    }
}

fn last_of(file: &File) -> io::Result<Option<ChainHead>> {
    let whole = line_start(file, file.metadata()?.len())?;
    if whole == 0 {
        return Ok(None);
    }
    let line = line_at(file, line_start(file, whole - 1)?)?;
    Ok(line.and_then(|(line, _)| {
        let event: Event = serde_json::from_slice(&line).ok()?;
        Some(ChainHead { seq: event.seq, hash: hash(&line) })
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::observe::audit::Audit;
    use crate::observe::tests::samples::{self, SMALL};
    use crate::observe::trail::Rotation;

    /// A log of 11 records in four files, with heads at 4, 8 and 11.
    async fn published() -> (tempfile::TempDir, Trail, PublishedChain) {
        let (folder, trail) = samples::empty();
        let mut chain = PublishedChain::new("one".into(), "a".into(), Timestamp::UNIX_EPOCH);
        for records in [4, 4, 3] {
            samples::write(&trail, SMALL, records).await;
            chain.add(trail.durable_head().unwrap(), Timestamp::UNIX_EPOCH);
        }
        assert_eq!(chain.heads.iter().map(|head| head.seq).collect::<Vec<_>>(), [4, 8, 11]);
        (folder, trail, chain)
    }

    #[tokio::test]
    async fn a_log_that_goes_on_or_lost_its_oldest_files_is_whole() {
        let (_folder, trail, chain) = published().await;
        assert_eq!(trail.compare(&chain).unwrap(), ChainState::Whole);
        samples::write(&trail, SMALL, 9).await;
        assert_eq!(trail.compare(&chain).unwrap(), ChainState::Whole);
        fs::remove_file(trail.full_path(1)).unwrap();
        fs::remove_file(trail.full_path(4)).unwrap();
        assert_eq!(trail.compare(&chain).unwrap(), ChainState::Whole);
    }

    /// The rest is a valid chain; only the published head shows the cut.
    #[tokio::test]
    async fn records_that_were_cut_off_the_end_are_noticed() {
        let (_folder, trail, chain) = published().await;
        let text = fs::read_to_string(trail.active()).unwrap();
        let (kept, _) = text.trim_end().rsplit_once('\n').unwrap();
        fs::write(trail.active(), format!("{kept}\n")).unwrap();
        assert_eq!(trail.verify(|| true).unwrap().broken, None);
        assert_eq!(trail.compare(&chain).unwrap(), ChainState::Shortened { last: 10 });
        // Also when the log continues after the cut.
        let (audit, writer) = Audit::open(trail.clone(), SMALL, 8, false).unwrap();
        audit.reserve().await.unwrap().send(samples::event(77).entry());
        drop(audit);
        writer.finish();
        assert_eq!(trail.verify(|| true).unwrap().broken, None);
        let altered = ChainState::Altered { same: 8, changed: 11 };
        assert_eq!(trail.compare(&chain).unwrap(), altered);
    }

    /// All hashes after the altered record are computed again, so that the chain is valid.
    #[tokio::test]
    async fn a_record_that_was_altered_with_all_hashes_after_it_is_noticed() {
        let (folder, _, chain) = published().await;
        let other = Trail::at(&folder.path().join("other.jsonl"));
        samples::write(&other, Rotation::default(), 11).await;
        let text = fs::read_to_string(other.active()).unwrap();
        let (mut head, mut forged) = (ChainHead::default(), String::new());
        for line in text.lines() {
            let mut event: Event = serde_json::from_str(line).unwrap();
            if event.seq == 6 {
                event.agent = Some("somebody".to_owned());
            }
            head.append(&event.entry(), &mut forged);
        }
        fs::write(other.active(), forged).unwrap();
        assert_eq!(other.verify(|| true).unwrap().broken, None);
        let altered = ChainState::Altered { same: 4, changed: 8 };
        assert_eq!(other.compare(&chain).unwrap(), altered);
    }

    #[tokio::test]
    async fn another_log_has_none_of_the_heads() {
        let (folder, _, chain) = published().await;
        let other = Trail::at(&folder.path().join("other.jsonl"));
        assert_eq!(other.compare(&chain).unwrap(), ChainState::NotHere);
        assert_eq!(other.durable_head().unwrap(), ChainHead::default());
        assert_eq!(other.hash_of(1).unwrap(), None);
    }

    #[test]
    fn a_bounded_number_of_heads_is_kept_with_the_first_and_the_newest() {
        let mut chain = PublishedChain::new("one".into(), "a".into(), Timestamp::UNIX_EPOCH);
        for seq in 1..=10_000 {
            chain.add(ChainHead { seq, hash: seq.to_string() }, Timestamp::UNIX_EPOCH);
        }
        let seqs: Vec<_> = chain.heads.iter().map(|head| head.seq).collect();
        assert_eq!((seqs.len(), seqs[0], chain.last()), (HEADS_MAX, 1, 10_000));
        assert!(seqs[HEADS_MAX - 4] > 9_800, "{seqs:?}");
        assert!(seqs.iter().any(|seq| (2_000..8_000).contains(seq)), "{seqs:?}");
    }
}
