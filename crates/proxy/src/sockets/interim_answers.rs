//! [`InterimAnswers`]: interim (1xx) answers on their way to an agent (RFC 9110 §15.2). The task of the upstream's stream adds
//! them; the server of the agent's stream sends them before the final answer.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::BytesMut;
use http::Response;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The interim answers of one exchange that were not sent yet.
#[derive(Debug, Default)]
pub struct InterimAnswers {
    waiting: Mutex<Vec<Response<()>>>,
    /// Whether some are waiting, or being written. Most exchanges have none.
    pending: AtomicBool,
    sent: Notify,
}

impl InterimAnswers {
    pub fn add(&self, answer: Response<()>) {
        self.waiting.lock().push(answer);
        self.pending.store(true, SeqCst);
    }

    pub fn is_pending(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Those to send now, in order.
    pub fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut self.waiting.lock())
    }

    /// All that [`InterimAnswers::take`] has returned were sent.
    pub fn were_sent(&self) {
        let waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.pending.store(false, SeqCst);
            self.sent.notify_one();
        }
    }

    /// Resolves when none is waiting or being written.
    pub async fn all_sent(&self) {
        while self.is_pending() {
            self.sent.notified().await;
        }
    }
}

/// Appends the head of an interim answer in HTTP/1.1.
pub fn write_head(answer: &Response<()>, out: &mut BytesMut) {
    out.extend_from_slice(format!("HTTP/1.1 {}\r\n", answer.status()).as_bytes());
    for (name, value) in answer.headers() {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    out.extend_from_slice(b"\r\n");
}
