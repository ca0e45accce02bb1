//! Tunnels that have answered one request and then say nothing.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::Bench;
use crate::hosts::times;
use crate::small::{once, right};
use crate::stream::{Stream, patiently};

/// Until what was opened or closed has settled.
const SETTLES_WITHIN: Duration = Duration::from_secs(2);

/// A buffer while a tunnel is used; afterwards it has none.
const BUFFER_BYTES: usize = 4096;

/// How many of the tunnels are used again at the end.
const PROBED: usize = 50;

type Held = Rc<RefCell<Vec<Stream>>>;

/// `--steps`: so many tunnels, then so many.
pub async fn idle(bench: Rc<Bench>) -> Value {
    // What is set up for the first requests is no part of a tunnel.
    for _ in 0..20 {
        bench.log.note(Instant::now(), patiently(once(&bench, &bench.way.host)).await);
    }
    // Where the proxy closes after an answer, tunnels are held on which nothing was asked.
    let asks = patiently(Stream::warm(&bench.way)).await.is_ok_and(|(_, keeps)| keeps);
    sleep(SETTLES_WITHIN).await;
    let held = Held::default();
    let mut points = vec![(0.0, bench.meter.resident_kib() as f64)];
    for goal in bench.options.text("steps", "1000,4000").split(',') {
        let more: u64 = goal.parse::<u64>().expect("a number") - held.borrow().len() as u64;
        hold(&bench, &held, more, asks).await;
        sleep(SETTLES_WITHIN).await;
        points.push((held.borrow().len() as f64, bench.meter.resident_kib() as f64));
    }
    let alive = alive(&bench, &held).await;
    sleep(SETTLES_WITHIN).await;
    let (first, last) = (points[0], points[points.len() - 1]);
    let mut told = bench.log.told(json!({}));
    told["points"] = json!(points);
    told["kib_per_tunnel"] = json!((last.1 - first.1) / last.0.max(1.0));
    told["alive"] = json!(alive);
    told["asks"] = json!(asks);
    told["after_kib"] = json!(bench.meter.resident_kib());
    told
}

async fn hold(bench: &Rc<Bench>, held: &Held, count: u64, asks: bool) {
    let (bench, held) = (bench.clone(), held.clone());
    let work = move || {
        let (bench, held) = (bench.clone(), held.clone());
        async move {
            let opened = patiently(open(&bench, asks)).await;
            if let Some(stream) = bench.log.note(Instant::now(), opened) {
                held.borrow_mut().push(stream);
            }
        }
    };
    times(count, 8, work).await;
}

async fn open(bench: &Bench, asks: bool) -> io::Result<Stream> {
    let mut stream = Stream::open(&bench.way, &bench.way.host).await?;
    stream.resize(BUFFER_BYTES);
    if asks {
        right(&stream.ask(&bench.way.get(&bench.way.host, &bench.way.path)).await?)?;
    }
    stream.resize(0);
    Ok(stream)
}

/// The part of those tried that still answer.
async fn alive(bench: &Bench, held: &Held) -> f64 {
    let request = bench.way.get(&bench.way.host, &bench.way.path);
    let mut held = held.take();
    let step = (held.len() / PROBED).max(1);
    let (mut tried, mut alive) = (0, 0);
    for stream in held.iter_mut().step_by(step) {
        stream.resize(BUFFER_BYTES);
        tried += 1;
        alive += u32::from(patiently(stream.ask(&request)).await.is_ok());
    }
    f64::from(alive) / f64::from(tried.max(1))
}
