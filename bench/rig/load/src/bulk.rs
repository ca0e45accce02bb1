//! One large body, `--bytes` of it, on a stream that is open.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::Bench;
use crate::stream::{Stream, failure};

/// Read and written at a time.
const READ_BYTES: usize = 256 * 1024;
const WRITE_BYTES: usize = 128 * 1024;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn down(bench: &Bench) -> Value {
    measured(bench, async |stream: &mut Stream, bytes| {
        let path = format!("/big?bytes={bytes}");
        let answer = stream.ask(&bench.way.get(&bench.way.host, &path)).await?;
        match (answer.status, answer.body_bytes == bytes) {
            (200, true) => Ok(()),
            (status, _) => Err(failure(format!("status {status}, {} bytes", answer.body_bytes))),
        }
    })
    .await
}

/// The origin counts what comes.
pub async fn up(bench: &Bench) -> Value {
    measured(bench, async |stream: &mut Stream, bytes| {
        let fields = format!("Content-Length: {bytes}\r\n");
        let head = bench.way.head("POST", (&bench.way.host, "/count"), &fields);
        stream.tls.write_all(&head).await?;
        let (piece, mut left) = (vec![b'z'; WRITE_BYTES], bytes);
        while left > 0 {
            let next = usize::try_from(left).map_or(WRITE_BYTES, |left| left.min(WRITE_BYTES));
            stream.tls.write_all(&piece[..next]).await?;
            left -= next as u64;
        }
        stream.tls.flush().await?;
        let mut counted = Vec::new();
        let answer = stream.answer(|body| counted.extend_from_slice(body)).await?;
        match (answer.status, counted == bytes.to_string().into_bytes()) {
            (200, true) => Ok(()),
            (status, _) => Err(failure(format!("status {status}: not all of it came"))),
        }
    })
    .await
}

async fn measured(
    bench: &Bench,
    transfer: impl AsyncFn(&mut Stream, u64) -> io::Result<()>,
) -> Value {
    let bytes: u64 = bench.options.number("bytes", 1 << 30);
    let work = async {
        // Getting there is no part of it.
        let (mut stream, _) = Stream::warm(&bench.way).await?;
        stream.resize(READ_BYTES);
        bench.meter.forget_peak();
        let before = bench.meter.sample();
        transfer(&mut stream, bytes).await?;
        Ok::<_, io::Error>(bench.meter.sample().since(&before))
    };
    let result = timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(failure("took too long")));
    let mut told = match result {
        Ok(used) => used,
        Err(error) => return json!({ "errors": 1, "why": error.to_string() }),
    };
    let gib = bytes as f64 / f64::from(1u32 << 30);
    let seconds = |name: &str| told[name].as_f64().unwrap_or(0.0);
    let (cpu, rate) = (seconds("proxy_cpu_s") / gib, gib * 1024.0 / seconds("wall_s").max(0.001));
    told["cpu_s_per_gib"] = json!(cpu);
    told["mib_per_second"] = json!(rate);
    told["peak_kib"] = json!(bench.meter.peak_kib());
    told["errors"] = json!(0);
    told
}
