//! Small requests: on streams that stay open, and on a new one each.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::Bench;
use crate::log::window;
use crate::stream::{Answer, Stream, failure, patiently};

/// What `/small` answers.
pub const SMALL_BYTES: u64 = 1024;

/// Between an error and the next try.
const PAUSE: Duration = Duration::from_millis(20);

/// `--c` streams, one request after the other on each.
pub async fn keepalive(bench: Rc<Bench>) -> Value {
    for _ in 0..bench.options.number("c", 1) {
        let bench = bench.clone();
        spawn_local(async move {
            let request = bench.way.get(&bench.way.host, &bench.way.path);
            let mut kept = None;
            while !bench.log.ended.get() {
                let began = Instant::now();
                let asked = patiently(on_one(&bench, kept.take(), &request)).await;
                match bench.log.note(began, asked) {
                    Some((stream, true)) => kept = Some(stream),
                    Some(_) => bench.log.reconnects.set(bench.log.reconnects.get() + 1),
                    None => sleep(PAUSE).await,
                }
            }
        });
    }
    window(&bench.log, &bench.meter, &bench.options).await
}

async fn on_one(bench: &Bench, kept: Option<Stream>, request: &[u8]) -> io::Result<(Stream, bool)> {
    let mut stream = match kept {
        Some(stream) => stream,
        None => Stream::open(&bench.way, &bench.way.host).await?,
    };
    let answer = stream.ask(request).await?;
    right(&answer)?;
    Ok((stream, answer.keeps_alive))
}

/// `--c` at a time: a stream, a handshake, a request, and the end.
pub async fn connect(bench: Rc<Bench>) -> Value {
    for _ in 0..bench.options.number("c", 8) {
        let bench = bench.clone();
        spawn_local(async move {
            while !bench.log.ended.get() {
                let began = Instant::now();
                let asked = patiently(once(&bench, &bench.way.host)).await;
                if bench.log.note(began, asked).is_none() {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    window(&bench.log, &bench.meter, &bench.options).await
}

/// A request on a stream of its own.
pub async fn once(bench: &Bench, host: &str) -> io::Result<()> {
    let mut stream = Stream::open(&bench.way, host).await?;
    right(&stream.ask(&bench.way.get(host, &bench.way.path)).await?)?;
    // The answer is here: how the other side takes our end is no concern of this request's.
    let _ = stream.tls.shutdown().await;
    Ok(())
}

pub fn right(answer: &Answer) -> io::Result<()> {
    match (answer.status, answer.body_bytes) {
        (200, SMALL_BYTES) => Ok(()),
        (status, bytes) => Err(failure(format!("status {status}, {bytes} bytes"))),
    }
}
