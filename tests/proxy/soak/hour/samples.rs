//! What a process takes, time and again, and whether that grows.

use std::time::Duration;

use super::load::Load;
use test_support::process::Served;

/// Samples in the order of time.
#[derive(Default)]
pub(super) struct Samples(Vec<Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    after: Duration,
    memory: usize,
    threads: usize,
    descriptors: usize,
    answers: usize,
}

/// What may be more at the end than at the beginning.
pub(super) struct Flat {
    memory: usize,
    threads: usize,
    threads_max: usize,
    descriptors: usize,
}

impl Flat {
    /// Caches and the allocator's lists have filled up after the first third.
    pub(super) fn over_an_hour() -> Self {
        // 2 MiB in twenty minutes, less than one page for each thousand answers, is below what samples scatter by.
        Self { memory: 2 << 20, threads: 2, threads_max: threads_max(), descriptors: 16 }
    }

    /// They fill up meanwhile.
    pub(super) fn over_seconds() -> Self {
        Self { memory: 48 << 20, threads: 8, threads_max: threads_max(), descriptors: 64 }
    }
}

/// Of the data path and of the allocator for each core; then those of the control plane, of what blocks, of the
/// store, of its library, of look-ups here, of the audit log, and the first one (docs/guides/operations.md, Sizes).
fn threads_max() -> usize {
    let per_core = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    per_core + 2 + 16 + 4 + 8 + 2 + 1 + 1
}

impl Samples {
    pub(super) fn take(&mut self, served: &Served, after: Duration, load: &Load) {
        self.0.push(Sample {
            after,
            memory: served.memory(),
            threads: served.threads(),
            descriptors: served.descriptors(),
            answers: load.answers(),
        });
    }

    /// A line for each of at most sixty.
    pub(super) fn print(&self) {
        println!("   s     KiB  threads  descriptors  answers");
        for sample in self.0.iter().step_by(self.0.len().div_ceil(60)) {
            let Sample { after, memory, threads, descriptors, answers } = sample;
            let (after, kib) = (after.as_secs(), memory >> 10);
            println!("{after:4} {kib:7} {threads:8} {descriptors:12} {answers:8}");
        }
    }

    /// Compares the middle third with the last one, by their medians.
    pub(super) fn assert_flat(&self, flat: &Flat) {
        assert!(self.0.len() >= 9, "only {} samples", self.0.len());
        let third = self.0.len() / 3;
        let median = |from: &[Sample], what: fn(&Sample) -> usize| {
            let mut all: Vec<usize> = from.iter().map(what).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        let (middle, last) = (&self.0[third..2 * third], &self.0[2 * third..]);
        let grown = |what: fn(&Sample) -> usize| (median(middle, what), median(last, what));
        let (was, is) = grown(|sample| sample.memory);
        assert!(is <= was + flat.memory, "{} KiB, then {} KiB", was >> 10, is >> 10);
        let (was, is) = grown(|sample| sample.descriptors);
        assert!(is <= was + flat.descriptors, "{was} descriptors, then {is}");
        let (was, is) = grown(|sample| sample.threads);
        assert!(is <= was + flat.threads, "{was} threads, then {is}");
        let threads = self.0.iter().map(|sample| sample.threads).max().expect("samples");
        assert!(threads <= flat.threads_max, "{threads} threads");
    }
}
