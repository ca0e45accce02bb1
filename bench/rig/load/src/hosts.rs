//! Names that are met for the first time, and then again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::{JoinSet, spawn_local};

use crate::Bench;
use crate::log::Log;
use crate::small::once;
use crate::stream::patiently;

/// `--n` names, `--c` at a time, a stream of its own each; `--passes` times.
pub async fn hosts(bench: Rc<Bench>) -> Value {
    let mut passes = Vec::new();
    for _ in 0..bench.options.number("passes", 2) {
        passes.push(pass(&bench).await);
    }
    json!({ "passes": passes })
}

async fn pass(bench: &Rc<Bench>) -> Value {
    let (log, next) = (Rc::new(Log::default()), Rc::new(Cell::new(0u32)));
    log.counts.set(true);
    let count: u32 = bench.options.number("n", 1000);
    let before = bench.meter.sample();
    let mut workers = JoinSet::new();
    for _ in 0..bench.options.number("c", 4) {
        let (bench, log, next) = (bench.clone(), log.clone(), next.clone());
        workers.spawn_local(async move {
            while next.get() < count {
                let host = format!("h{:05}.bench.test", next.replace(next.get() + 1));
                let began = Instant::now();
                log.note(began, patiently(once(&bench, &host)).await);
            }
        });
    }
    workers.join_all().await;
    log.told(bench.meter.sample().since(&before))
}

/// Runs `work` `count` times, `side_by_side` at a time.
pub async fn times<F: Future<Output = ()> + 'static>(
    count: u64,
    side_by_side: u64,
    work: impl Fn() -> F + Clone + 'static,
) {
    let left = Rc::new(Cell::new(count));
    let workers: Vec<_> = (0..side_by_side)
        .map(|_| {
            let (left, work) = (left.clone(), work.clone());
            spawn_local(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    work().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker does not panic");
    }
}
