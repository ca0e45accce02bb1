//! One HTTP/2 stream that carries `--c` requests at once.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::Bench;
use crate::log::window;
use crate::small::right;
use crate::stream::{Answer, failure, patiently};

/// Between an error and the next try.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

pub async fn many(bench: Rc<Bench>) -> Value {
    let sender = match patiently(begin(&bench)).await {
        Ok(sender) => sender,
        Err(error) => return json!({ "supported": false, "why": error.to_string() }),
    };
    for _ in 0..bench.options.number("c", 100) {
        let (bench, mut sender) = (bench.clone(), sender.clone());
        spawn_local(async move {
            while !bench.log.ended.get() {
                let began = Instant::now();
                let asked = patiently(ask(&bench, &mut sender)).await;
                if bench.log.note(began, asked).is_none() {
                    sleep(PAUSE).await;
                }
            }
        });
    }
    let mut told = window(&bench.log, &bench.meter, &bench.options).await;
    told["supported"] = json!(true);
    told
}

async fn begin(bench: &Bench) -> io::Result<SendRequest<Empty<Bytes>>> {
    let tls = bench.way.open(&bench.way.host, &bench.way.http2).await?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(failure("h2 is not offered"));
    }
    let mut builder = Builder::new(Local);
    builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let (sender, stream) = builder.handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
    spawn_local(stream);
    Ok(sender)
}

async fn ask(bench: &Bench, sender: &mut SendRequest<Empty<Bytes>>) -> io::Result<()> {
    let way = &bench.way;
    let uri = format!("https://{}:{}{}", way.host, way.port, way.path);
    let mut request = Request::get(uri).header("user-agent", "bench-load");
    if let Some((name, value)) = &way.field {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let (status, mut body, mut body_bytes) = (answer.status().as_u16(), answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(io::Error::other)?;
        body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    right(&Answer { status, body_bytes, keeps_alive: true })
}
