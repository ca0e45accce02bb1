//! [`Follower`]: reads records as they are written, across files. A slow reader falls behind without using
//! memory.

use std::fs::File;
use std::io;

use super::chain::{line_at, offset_of};
use super::event::Event;
use super::filter::Filter;
use super::trail::{Trail, found};

/// Maximum number of bytes read per turn.
const TURN_BYTES_MAX: u64 = 1024 * 1024;

/// A position in the log that advances.
#[derive(Debug)]
pub struct Follower {
    trail: Trail,
    filter: Filter,
    /// The number of the next record.
    next: u64,
    at: Option<(File, u64)>,
}

/// The result of one turn.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NewRecords {
    /// The matching records, oldest first.
    pub records: Vec<Event>,
    /// Whether more records can be read immediately.
    pub more: bool,
}

impl Follower {
    /// Starts after record `after`; if that was removed, at the oldest record.
    pub fn new(trail: Trail, filter: Filter, after: u64) -> Self {
        Self { trail, filter, next: after.saturating_add(1), at: None }
    }

    /// Reads up to a bounded number of bytes. Blocks on the disk, but does not wait for new records.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read_new(&mut self) -> io::Result<NewRecords> {
        let mut turn = NewRecords::default();
        let mut bytes = 0;
        while bytes < TURN_BYTES_MAX {
            let Some((file, offset)) = &mut self.at else {
                self.at = self.file_of_next()?;
                match self.at {
                    Some(_) => continue,
                    None => return Ok(turn),
                }
            };
            match line_at(file, *offset)? {
                Some((line, next)) => {
                    bytes += next - *offset;
                    *offset = next;
                    self.take(&line, &mut turn.records);
                }
                None if self.trail.is_active(file)? => return Ok(turn),
                // The file was rotated, so it is complete.
                None if line_at(file, *offset)?.is_some() => {}
                None => self.at = None,
            }
        }
        turn.more = true;
        Ok(turn)
    }

    fn take(&mut self, line: &[u8], records: &mut Vec<Event>) {
        let Ok(event) = serde_json::from_slice::<Event>(line) else { return };
        if event.seq < self.next {
            return;
        }
        self.next = event.seq + 1;
        if self.filter.wants(&event) {
            records.push(event);
        }
    }

    /// The file with the next record, and its offset; `None` if it is not written yet.
    fn file_of_next(&self) -> io::Result<Option<(File, u64)>> {
        // Opened before the listing, so that a file that is rotated in between is found there.
        let active = self.trail.open_active()?;
        let full = self.trail.full()?;
        let later = full.partition_point(|full| full.first <= self.next);
        // Starts at the file that should contain it. If its records were removed, continues with a later file.
        for full in &full[later.saturating_sub(1)..] {
            let Some(file) = found(File::open(&full.path))? else { continue };
            let offset = offset_of(&file, self.next)?;
            if line_at(&file, offset)?.is_some() {
                return Ok(Some((file, offset)));
            }
        }
        let Some(file) = active else { return Ok(None) };
        let offset = offset_of(&file, self.next)?;
        let is_read = line_at(&file, offset)?.is_none() && !self.trail.is_active(&file)?;
        Ok((!is_read).then_some((file, offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::samples::{self, SMALL};
    use crate::observe::trail::Rotation;

    fn read(follower: &mut Follower) -> Vec<u64> {
        let mut seen = Vec::new();
        loop {
            let new = follower.read_new().unwrap();
            seen.extend(new.records.iter().map(|event| event.seq));
            if !new.more {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn records_come_once_and_in_order_over_all_files_however_they_are_written() {
        let (_folder, trail) = samples::empty();
        let mut follower = Follower::new(trail.clone(), Filter::default(), 0);
        assert_eq!(read(&mut follower), [0; 0], "no file yet");
        let (mut seen, mut written) = (Vec::new(), 0);
        for count in [1, 1, 1, 2, 7, 1, 30, 2] {
            samples::write(&trail, SMALL, count).await;
            written += count;
            seen.extend(read(&mut follower));
            assert_eq!(seen, (1..=written).collect::<Vec<_>>());
            assert_eq!(read(&mut follower), [0; 0]);
        }
    }

    #[tokio::test]
    async fn a_follower_begins_after_the_given_record_number() {
        let (_folder, trail) = samples::empty();
        samples::write(&trail, SMALL, 20).await;
        for after in [0, 1, 2, 3, 11, 19, 20, 25] {
            let mut follower = Follower::new(trail.clone(), Filter::default(), after);
            assert_eq!(read(&mut follower), (after + 1..=20).collect::<Vec<_>>(), "{after}");
        }
        let ci = Filter { agent: Some("ci".to_owned()), ..Filter::default() };
        assert_eq!(read(&mut Follower::new(trail, ci, 14)), [15, 17, 19]);
    }

    #[tokio::test]
    async fn a_follower_continues_with_the_remaining_files_after_a_removal() {
        let (_folder, trail) = samples::empty();
        samples::write(&trail, SMALL, 1).await;
        let mut follower = Follower::new(trail.clone(), Filter::default(), 0);
        assert_eq!(read(&mut follower), [1]);
        samples::write(&trail, Rotation { files_max: 2, ..SMALL }, 20).await;
        let seen = read(&mut follower);
        assert_eq!(seen[..3], [2, 3, 16], "the open file, and then the oldest that is kept");
    }
}
