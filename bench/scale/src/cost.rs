//! Time and memory of a step. Memory is what the program has allocated, counted, and what is resident, which also has what
//! the allocator keeps.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The allocator of the gateway, counted.
struct Counted(keyward_base::Allocator);

#[global_allocator]
static ALLOCATOR: Counted = Counted(keyward_base::Allocator);

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: each call is the other allocator's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(now, Relaxed);
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { self.0.dealloc(at, layout) }
    }
}

/// The state before a step.
pub struct Cost {
    began: Instant,
    cpu: Duration,
    allocated: usize,
}

impl Cost {
    pub fn begin() -> Self {
        let allocated = NOW.load(Relaxed);
        MOST.store(allocated, Relaxed);
        Self { began: Instant::now(), cpu: cpu(), allocated }
    }

    /// Prints the cost of the step that ends here, and begins the next one.
    pub fn step(&mut self, name: &str) {
        let (took, now) = (self.began.elapsed(), NOW.load(Relaxed));
        let mib = |to: usize| (to as f64 - self.allocated as f64) / f64::from(1 << 20);
        eprintln!(
            "{name}: {took:.2?}, CPU {:.2?}, {:+.1} MiB allocated, {:+.1} at most meanwhile, {} resident in all",
            cpu().saturating_sub(self.cpu),
            mib(now),
            mib(MOST.load(Relaxed)),
            resident() >> 20
        );
        *self = Self::begin();
    }
}

/// Prints the median and the longest, and forgets the times.
pub fn show_median(name: &str, times: &mut Vec<Duration>) {
    times.sort();
    if let (Some(median), Some(longest)) = (times.get(times.len() / 2), times.last()) {
        eprintln!("{name}: in force after {median:.2?}, {longest:.2?} at most");
    }
    times.clear();
}

/// CPU time of all threads, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after_name.split(' ').skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Bytes of resident memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|it| it.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}
