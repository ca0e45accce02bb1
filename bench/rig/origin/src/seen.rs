//! What came to the origin.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the last reset.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    /// Requests with exactly one `x-api-key`, the right one.
    pub credential_right: AtomicU64,
    pub credential_missing: AtomicU64,
    pub credential_wrong: AtomicU64,
    pub http2_requests: AtomicU64,
    pub tls_streams: AtomicU64,
    pub tls_errors: AtomicU64,
    pub resumed: AtomicU64,
}

impl Seen {
    pub fn one(count: &AtomicU64) {
        count.fetch_add(1, Relaxed);
    }

    /// As JSON; set back to nothing when `reset`.
    pub fn tell(&self, reset: bool) -> String {
        let counts = [
            ("requests", &self.requests),
            ("credential_right", &self.credential_right),
            ("credential_missing", &self.credential_missing),
            ("credential_wrong", &self.credential_wrong),
            ("http2_requests", &self.http2_requests),
            ("tls_streams", &self.tls_streams),
            ("tls_errors", &self.tls_errors),
            ("resumed", &self.resumed),
        ];
        let told = counts.map(|(name, count)| {
            let value = if reset { count.swap(0, Relaxed) } else { count.load(Relaxed) };
            format!("\"{name}\":{value}")
        });
        format!("{{{}}}\n", told.join(","))
    }
}
