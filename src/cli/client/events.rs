//! Streaming answers of the gateway, read as they arrive: [`AnswerLines`], and of these [`ServerEvents`].

use axum::body::Body;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use crate::cli::failure::{Exit, Failure};

/// Longest line of a stream: no record is longer.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A streaming answer, cut into lines.
pub(crate) struct AnswerLines {
    body: Body,
    buffer: Vec<u8>,
}

/// Server-Sent Events: WHATWG HTML §9.2.6, as far as the gateway writes them.
pub(crate) struct ServerEvents {
    lines: AnswerLines,
    /// Kind and data of the event whose end has not arrived.
    begun: (String, String),
}

impl AnswerLines {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new() }
    }

    /// The next line. Cancelling this loses none.
    ///
    /// # Errors
    /// When the gateway has closed the stream.
    pub(crate) async fn next(&mut self) -> Result<String, Failure> {
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

impl ServerEvents {
    pub(crate) fn new(body: Body) -> Self {
        Self { lines: AnswerLines::new(body), begun: (String::new(), String::new()) }
    }

    /// The data of the next event; what a later version sends is skipped. Cancelling this loses none.
    ///
    /// # Errors
    /// When the gateway has ended the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        loop {
            let line = self.lines.next().await?;
            match line.split_once(": ").unwrap_or((&line, "")) {
                ("event", kind) => kind.clone_into(&mut self.begun.0),
                ("data", data) => data.clone_into(&mut self.begun.1),
                ("", "") if !self.begun.1.is_empty() => {
                    let (kind, data) = std::mem::take(&mut self.begun);
                    if kind == "end" {
                        return Err(ended(&data));
                    }
                    if let Ok(event) = serde_json::from_str(&data) {
                        return Ok(event);
                    }
                }
                // Ids and comments, which keep the stream alive.
                _ => {}
            }
        }
    }
}

/// The failure for an event of kind `end`.
fn ended(data: &str) -> Failure {
    let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let reason = data["reason"].as_str().unwrap_or("the gateway ended the stream");
    Failure::new(Exit::Unreachable, reason).hint("run this again when the gateway is back")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn events_are_read_from_chunks_of_any_size_and_comments_are_skipped() {
        let text =
            ": \n\nid: 7\ndata: {\"a\": 1}\n\n:keep\n\nevent: end\ndata: {\"reason\":\"r\"}\n\n";
        for size in [1, 2, 7, 1000] {
            let parts =
                text.as_bytes().chunks(size).map(|part| Ok::<_, std::io::Error>(part.to_vec()));
            let parts: Vec<_> = parts.collect();
            let body = Body::from_stream(futures_util::stream::iter(parts));
            let mut events = ServerEvents::new(body);
            assert_eq!(events.next::<Value>().await, Ok(serde_json::json!({ "a": 1 })));
            let end = events.next::<Value>().await.unwrap_err().to_string();
            assert_eq!(end, "error: r\nhint: run this again when the gateway is back\n");
            let closed = events.next::<Value>().await.unwrap_err();
            assert_eq!(closed.exit(), Exit::Unreachable);
        }
    }
}
