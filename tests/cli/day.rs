//! A day of an operator in minutes: requests all the time, and meanwhile everything that is changed
//! in a running gateway. No request fails; memory and descriptors stay where they were.

use std::fs;
use std::time::{Duration, Instant};

use test_support::install::TOKEN_CI;
use test_support::process::{Served, soak};
use test_support::*;

/// How long one of the four watches lasts in `tests/run --soak`.
const WATCH: Duration = Duration::from_secs(150);
/// How many hours one has otherwise.
const HOURS: usize = 3;
/// Caches of store, leaves and allocator are full after that many hours.
const WARM_HOURS: usize = 2;
/// What may be resident beyond a warm gateway's: freed memory that is not given back.
const MEMORY_SLACK: usize = 24 << 20;
/// Streams that the pool may keep or not.
const DESCRIPTORS_SLACK: usize = 8;

struct Day {
    served: Served,
    base: String,
    hour: usize,
}

impl Day {
    async fn tunnel(&self, token: &str) -> Wire {
        self.served.tunnel(HOST, token).await
    }

    /// One command of the operator.
    fn does(&self, arguments: &[&str]) {
        let output = self.served.keyward(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hour {}: {arguments:?}: {said}", self.hour);
    }

    async fn api(&self, method: &str, path: &str, body: &str) -> Message {
        let answer = self.served.api(method, path, body).await;
        let status = answer.head.status();
        assert!(status < 300, "hour {}: {method} {path}: {}", self.hour, answer.text());
        answer
    }

    /// Rules change by file.
    async fn reloads(&self) {
        let file = self.served.config();
        let beside = file.with_extension("new");
        let rule = format!(
            "rules:\n  - {{ name: no{}, hosts: [{HOST}], paths: [/never], action: deny }}\n",
            self.hour
        );
        fs::write(&beside, format!("{}{rule}", self.base)).expect("a file");
        fs::rename(beside, file).expect("renamed");
        self.api("POST", "/reload", "").await;
    }

    /// A connection comes, is used, and goes.
    async fn lends_a_connection(&self) {
        let new = r#"{"provider":"acme","auth":"key","name":"lent","fields":{"api_key":"a-lent-key-0123456789"}}"#;
        self.api("POST", "/connections", new).await;
        self.api("POST", "/agents", r#"{"name":"guest"}"#).await;
        self.api("POST", "/agents/guest/bindings", r#"{"connection":"lent"}"#).await;
        let token = self.api("POST", "/agents/guest/tokens", "{}").await.json();
        let token = token["token"].as_str().expect("shown once").to_owned();
        let mut wire = self.tunnel(&token).await;
        ask(&mut wire, self.hour).await;
        self.api("DELETE", "/connections/lent", "").await;
        let refused = wire.ask(request_text("GET /always", HOST)).await.head.status();
        assert_eq!(refused, 424, "hour {}: what is removed is not lent", self.hour);
        self.api("DELETE", "/agents/guest", "").await;
        assert!(wire.is_closed().await, "hour {}: nor does its agent's stream stay", self.hour);
    }

    /// Keys and CA, each at hours of its own. One overlap at a time: after the first, the CA goes at
    /// once, and clients that start read the new one.
    fn rotates(&self) {
        if self.hour % 3 == 1 {
            self.does(&["key", "rotate"]);
        }
        match self.hour {
            2 => self.does(&["ca", "rotate", "--overlap", "1h"]),
            hour if hour % 4 == 0 => self.does(&["ca", "rotate", "--no-overlap"]),
            _ => {}
        }
        self.does(&["audit", "verify"]);
    }

    /// Everything of an hour, with `kept` in use all along.
    async fn passes(&mut self, kept: &mut Wire) {
        self.hour += 1;
        self.reloads().await;
        ask(kept, self.hour).await;
        self.lends_a_connection().await;
        ask(kept, self.hour).await;
        self.does(&["run", "--agent", "ci", "--", "true"]);
        self.rotates();
        ask(kept, self.hour).await;
        for _ in 0..20 {
            ask(kept, self.hour).await;
            ask(&mut self.tunnel(TOKEN_CI).await, self.hour).await;
        }
    }

    /// Hours in one process; memory and descriptors after the first ones and at the end.
    async fn watch(&mut self) {
        let began = Instant::now();
        let mut kept = self.tunnel(TOKEN_CI).await;
        let mut warm = None;
        for hour in 1.. {
            self.passes(&mut kept).await;
            if hour == WARM_HOURS {
                warm = Some((self.served.memory(), self.served.descriptors()));
            }
            if hour >= HOURS && (!soak() || began.elapsed() > WATCH) {
                break;
            }
        }
        let (memory, descriptors) = warm.expect("a watch is longer");
        let (now, open) = (self.served.memory(), self.served.descriptors());
        let (was, is) = (memory >> 10, now >> 10);
        println!(
            "hour {}: {was} KiB then {is} KiB, {descriptors} then {open} descriptors",
            self.hour
        );
        assert!(now < memory + MEMORY_SLACK, "hour {}: {was} KiB then {is} KiB", self.hour);
        assert!(open < descriptors + DESCRIPTORS_SLACK, "{descriptors} then {open}");
    }
}

async fn ask(wire: &mut Wire, hour: usize) {
    wire.send(request_text("GET /always", HOST)).await;
    let answer = wire.try_answer("GET").await;
    let answer = answer.unwrap_or_else(|| panic!("hour {hour}: no answer"));
    assert_eq!(answer.head.status(), 200, "hour {hour}: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_of_changes_and_restarts_fails_no_request_and_leaks_nothing() {
    let origin = Origin::scripted(|mut stream: Stream| async move {
        stream.stop_recording();
        // Not `request`, which keeps what it reads.
        while stream.head().await.is_some() {
            stream.send(ok("fine")).await;
        }
    });
    let plan = Plan::api_key();
    let served = Served::start_quietly(&plan, &origin, &[]);
    let base = fs::read_to_string(served.config()).expect("the configuration");
    let mut day = Day { served, base, hour: 0 };
    day.watch().await;
    assert_eq!(day.served.terminate(), Some(0));
    day.served.restart();
    day.watch().await;
    day.served.kill();
    day.served.restart();
    day.watch().await;
    assert_eq!(day.served.terminate(), Some(0));
    day.served.restart();
    day.watch().await;
    day.does(&["health"]);
}
