//! Server-sent events, each with the time at which the origin wrote it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::Bench;
use crate::log::percentile;
use crate::stream::{Stream, patiently};

pub async fn events(bench: &Bench) -> Value {
    let path = format!("/sse?n={}&interval_ms=50", bench.options.number("n", 40));
    let mut lags_us: Vec<u32> = Vec::new();
    let read = async {
        let (mut stream, _) = Stream::warm(&bench.way).await?;
        stream.tls.write_all(&bench.way.get(&bench.way.host, &path)).await?;
        stream.tls.flush().await?;
        let lag = |written: u64| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
            u32::try_from(now.saturating_sub(u128::from(written))).unwrap_or(u32::MAX)
        };
        let answer = stream.answer(|piece| {
            let text = String::from_utf8_lossy(piece);
            let written = text.lines().filter_map(|line| line.strip_prefix("data: ")?.parse().ok());
            lags_us.extend(written.map(lag));
        });
        answer.await
    };
    if let Err(error) = patiently(read).await {
        return json!({ "errors": 1, "why": error.to_string() });
    }
    lags_us.sort_unstable();
    let ms = |part| f64::from(percentile(&lags_us, part)) / 1000.0;
    json!({ "events": lags_us.len(), "p50_ms": ms(0.5), "max_ms": ms(1.0), "errors": 0 })
}
