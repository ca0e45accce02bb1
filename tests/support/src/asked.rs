//! Requests of agents, each in a tunnel of its own, and how many of them the origin got.

use serde_json::Value;

use super::lab::{HOST, Lab};
use super::text::request_text;
use super::wire::{Head, Message, Wire};

impl Lab {
    /// One request of `ci`: `request` is its head without `Host` and without the empty line.
    pub async fn ask(&self, request: &str) -> Message {
        self.ask_as("ci", HOST, request).await
    }

    /// A tunnel of `ci` on which a request was sent, or only the head of one, as [`Lab::ask`] sends it.
    pub async fn sent(&self, request: &str) -> Wire {
        let mut wire = self.tunnel(HOST).await;
        wire.send(request_text(request, HOST)).await;
        wire
    }

    /// As [`Lab::ask`], of an agent to a host.
    pub async fn ask_as(&self, agent: &str, host: &str, request: &str) -> Message {
        let mut wire = self.tunnel_as(agent, host).await;
        wire.ask(request_text(request, host)).await
    }

    /// As [`Lab::ask`], with the head that the origin received.
    pub async fn delivered(&mut self, request: &str) -> Head {
        let answer = self.ask(request).await;
        assert_eq!(answer.head.status(), 200, "{answer:?} {}", answer.text());
        self.origin.arrival().await.head
    }

    /// Finishes, if the origin has received so many requests.
    pub async fn finish_after(self, requests: usize) -> Vec<Value> {
        assert_eq!(self.origin.received().len(), requests, "requests at the origin");
        self.finish().await
    }

    /// Finishes, if the origin has seen no stream.
    pub async fn finish_unreached(self) -> Vec<Value> {
        assert_eq!(self.origin.streams(), 0, "streams at the origin");
        self.finish().await
    }
}

impl Wire {
    /// Sends a whole request, and reads its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        let method = request.as_ref().split(|byte| *byte == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(request).await;
        self.answer(&method).await
    }
}
