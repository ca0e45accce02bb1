//! Server-Sent Events of the gateway, read as they arrive.

use axum::body::Body;
use http_body_util::BodyExt;

use crate::cli::failure::{Exit, Failure};

/// Longest line of the stream: no record is longer.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An event of the stream: WHATWG HTML §9.2.6, as far as the gateway writes it.
#[derive(Debug, Default)]
pub(crate) struct ServerEvent {
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// The stream, cut into lines.
pub(crate) struct ServerEvents {
    body: Body,
    buffer: Vec<u8>,
    /// The event whose end has not arrived.
    told: ServerEvent,
}

/// The failure for an event of kind `end`.
pub(crate) fn ended(data: &str) -> Failure {
    let told: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let reason = told["reason"].as_str().unwrap_or("the gateway ended the stream");
    Failure::new(Exit::Unreachable, reason).hint("run this again when the gateway is back")
}

impl ServerEvents {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), told: ServerEvent::default() }
    }

    /// The next event that has data. Cancelling this loses none.
    pub(crate) async fn next(&mut self) -> Result<ServerEvent, Failure> {
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
    async fn events_are_read_from_chunks_of_any_size_and_comments_are_skipped() {
        let text =
            ": \n\nid: 7\ndata: {\"a\": 1}\n\n:keep\n\nevent: end\ndata: {\"reason\":\"r\"}\n\n";
        for size in [1, 2, 7, 1000] {
            let parts =
                text.as_bytes().chunks(size).map(|part| Ok::<_, std::io::Error>(part.to_vec()));
            let parts: Vec<_> = parts.collect();
            let body = Body::from_stream(futures_util::stream::iter(parts));
            let mut events = ServerEvents::new(body);
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
