//! `keyward audit tail -f`: prints the gateway's stream of records (Server-Sent Events) as it arrives.

use axum::body::Body;
use http_body_util::BodyExt;

use super::{Screen, Tail, rendered};
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;
use crate::cli::settings::Global;
use keyward_api::wire::Event;

/// Longest line of the stream: no record is longer.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most existing records that the stream can begin with.
const LIMIT_MAX: usize = 1_000;

/// An event of the stream: WHATWG HTML §9.2.6, as far as the gateway writes it.
#[derive(Debug, Default)]
struct Told {
    kind: String,
    data: String,
}

/// The stream, cut into lines.
struct Events {
    body: Body,
    buffer: Vec<u8>,
    /// The event whose end has not arrived.
    told: Told,
}

/// Records of requests to the running gateway, as they end.
pub(in crate::cli) struct Followed(Events);

impl Followed {
    /// Begins with the next request, of a token or of all.
    pub(in crate::cli) async fn begin(
        client: &Client,
        token: Option<&str>,
    ) -> Result<Self, Failure> {
        let token = token.map(|token| format!("&token={token}")).unwrap_or_default();
        let at = format!("/api/v1/audit?follow=true&requests=true{token}");
        let body = client.stream(&at).await?;
        Ok(Self(Events::new(body)))
    }

    /// The next record; `None` when the gateway ended the stream. Cancelling this loses no record.
    pub(in crate::cli) async fn next(&mut self) -> Option<Event> {
        loop {
            let told = self.0.next().await.ok()?;
            if told.kind == "end" {
                return None;
            }
            if let Ok(record) = serde_json::from_str(&told.data) {
                return Some(record);
            }
        }
    }
}

/// Shows records until the gateway stops or the reader goes away. Ctrl-C ends the process, as it
/// does every other: nothing is left to be done.
pub(super) async fn run(global: &Global, tail: &Tail, lines: &mut Screen) -> Result<(), Failure> {
    let limit = tail.lines;
    if limit > LIMIT_MAX {
        return Err(Failure::usage(format!("`-n` is at most {LIMIT_MAX} with `-f`")));
    }
    let client = Client::running(global).await.map_err(|failure| match failure.exit() {
        Exit::Unreachable => failure.hint(
            "no gateway writes records: start one, or omit `-f` to read the existing records",
        ),
        _ => failure,
    })?;
    let more = [("follow", "true".to_owned()), ("limit", limit.to_string())];
    let body = client.stream(&tail.wanted.path("/audit", &more)).await?;
    let mut events = Events::new(body);
    loop {
        let Told { kind, data } = events.next().await?;
        if kind == "end" {
            return Err(ended(&data));
        }
        // An event of a later version is none for us.
        let Ok(record) = serde_json::from_str::<Event>(&data) else { continue };
        if !output::print_on(&rendered(global.json, &[record], lines)?)? {
            return Ok(());
        }
    }
}

fn ended(data: &str) -> Failure {
    let told: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let reason = told["reason"].as_str().unwrap_or("the gateway ended the stream");
    Failure::new(Exit::Unreachable, reason).hint("run this again when the gateway is back")
}

impl Events {
    fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), told: Told::default() }
    }

    /// The next event that has data. Cancelling this loses none.
    async fn next(&mut self) -> Result<Told, Failure> {
        loop {
            let line = self.line().await?;
            let told = &mut self.told;
            match line.split_once(": ").unwrap_or((&line, "")) {
                ("", "") if !told.data.is_empty() => return Ok(std::mem::take(told)),
                ("event", kind) => kind.clone_into(&mut told.kind),
                ("data", data) => data.clone_into(&mut told.data),
                // Ids and comments, which keep the stream alive.
                _ => {}
            }
        }
    }

    async fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let frame = self.body.frame().await;
            let data = frame.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
            let data = data.filter(|_| self.buffer.len() < LINE_BYTES_MAX).ok_or_else(|| {
                Failure::new(Exit::Unreachable, "the gateway closed the connection")
            })?;
            self.buffer.extend_from_slice(&data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_read_however_they_are_cut_and_comments_are_none() {
        let text =
            ": \n\nid: 7\ndata: {\"a\": 1}\n\n:keep\n\nevent: end\ndata: {\"reason\":\"r\"}\n\n";
        for size in [1, 2, 7, 1000] {
            let parts =
                text.as_bytes().chunks(size).map(|part| Ok::<_, std::io::Error>(part.to_vec()));
            let parts: Vec<_> = parts.collect();
            let body = Body::from_stream(futures_util::stream::iter(parts));
            let mut events = Events::new(body);
            let first = events.next().await.unwrap();
            assert_eq!((&*first.kind, &*first.data), ("", "{\"a\": 1}"));
            let end = events.next().await.unwrap();
            assert_eq!(&*end.kind, "end");
            let told = "error: r\nhint: run this again when the gateway is back\n";
            assert_eq!(ended(&end.data).to_string(), told);
            assert_eq!(events.next().await.unwrap_err().exit(), Exit::Unreachable);
        }
    }
}
