//! The load generator of the bench: a closed loop in one thread, so that it takes little of a small
//! machine. Prints one JSON object.
//!
//! `bench-load SCENARIO [--name value ...]`; the way to the origin: `--proxy ADDR` (CONNECT),
//! `--reverse ADDR` (TLS ends there) or neither.

mod bulk;
mod events;
mod hosts;
mod http2;
mod idle;
mod log;
mod meter;
mod options;
mod small;
mod stream;

use std::rc::Rc;

use serde_json::{Value, json};
use tokio::task::LocalSet;

use log::Log;
use meter::Meter;
use options::Options;
use stream::Way;

/// What a scenario works with.
pub struct Bench {
    way: Way,
    meter: Meter,
    options: Options,
    log: Log,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let scenario = args.next().expect("a scenario");
    let options = Options::of(args);
    let origin = options.given("origin-pid").and_then(|pid| pid.parse().ok());
    let meter = Meter::new(options.given("pids").unwrap_or_default(), origin);
    let way = Way::new(&options);
    let bench = Rc::new(Bench { way, meter, options, log: Log::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = LocalSet::new().block_on(&runtime.expect("a runtime"), run(&scenario, bench));
    println!("{told}");
}

async fn run(scenario: &str, bench: Rc<Bench>) -> Value {
    match scenario {
        "keepalive" => small::keepalive(bench).await,
        "connect" => small::connect(bench).await,
        "http2" => http2::many(bench).await,
        "down" => bulk::down(&bench).await,
        "up" => bulk::up(&bench).await,
        "events" => events::events(&bench).await,
        "hosts" => hosts::hosts(bench).await,
        "idle" => idle::idle(bench).await,
        _ => json!({ "errors": 1, "why": "no such scenario" }),
    }
}
