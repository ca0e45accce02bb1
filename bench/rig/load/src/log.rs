//! [`Log`]: what came of requests. [`window`] is the time in which they count.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::meter::Meter;
use crate::options::Options;

/// Different errors that are kept.
const ERRORS_MAX: usize = 8;

#[derive(Default)]
pub struct Log {
    pub counts: Cell<bool>,
    pub ended: Cell<bool>,
    pub reconnects: Cell<u64>,
    latencies_us: RefCell<Vec<u32>>,
    errors: Cell<u64>,
    why: RefCell<HashMap<String, u64>>,
}

impl Log {
    pub fn answered(&self, began: Instant) {
        if self.counts.get() {
            let us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            self.latencies_us.borrow_mut().push(us);
        }
    }

    pub fn failed(&self, error: &dyn Display) {
        self.errors.set(self.errors.get() + 1);
        let text: String = error.to_string().chars().take(100).collect();
        let mut why = self.why.borrow_mut();
        if why.len() < ERRORS_MAX || why.contains_key(&text) {
            *why.entry(text).or_default() += 1;
        }
    }

    /// The result, noted.
    pub fn note<T, E: Display>(&self, began: Instant, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.answered(began);
                Some(value)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    pub fn told(&self, used: Value) -> Value {
        let mut latencies = self.latencies_us.borrow_mut();
        latencies.sort_unstable();
        let ms = |part: f64| f64::from(percentile(&latencies, part)) / 1000.0;
        let requests = latencies.len();
        let mut told = used;
        let number = |told: &Value, name: &str| told[name].as_f64().unwrap_or(0.0);
        let per_second = requests as f64 / number(&told, "wall_s").max(0.001);
        told["cpu_us"] = json!(number(&told, "proxy_cpu_s") * 1e6 / requests.max(1) as f64);
        told["requests"] = json!(requests);
        told["per_second"] = json!(per_second);
        told["p50_ms"] = json!(ms(0.5));
        told["p99_ms"] = json!(ms(0.99));
        told["errors"] = json!(self.errors.get());
        told["reconnects"] = json!(self.reconnects.get());
        told["why"] = json!(*self.why.borrow());
        told
    }
}

/// The value below which `part` of the sorted values are; 0 where there are none.
pub fn percentile(sorted: &[u32], part: f64) -> u32 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Lets what was started run: `--warmup` seconds, then `--duration` seconds that count.
pub async fn window(log: &Log, meter: &Meter, options: &Options) -> Value {
    sleep(Duration::from_secs_f64(options.number("warmup", 1.0))).await;
    meter.forget_peak();
    let before = meter.sample();
    log.counts.set(true);
    sleep(Duration::from_secs_f64(options.number("duration", 4.0))).await;
    log.counts.set(false);
    let used = meter.sample().since(&before);
    log.ended.set(true);
    let mut told = log.told(used);
    told["peak_kib"] = json!(meter.peak_kib());
    told
}
