//! [`StreamLease`]: an upstream stream while one exchange uses it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::body::expect_continue::ContinueGate;
use crate::body::transforms::FormFault;
use crate::gateway::{Core, Gateway};
use crate::pool::PoolKey;
use crate::pool::http1::Http1Stream;
use crate::pool::http2::StreamUse;
use keyward_rules::inject::body::BodyError as FormError;

/// A stream in use. [`StreamLease::finish`] returns it to its pool; dropping the lease closes it and ends the upload.
pub struct StreamLease {
    held: LeasedStream,
    core: Arc<Core>,
    /// Holds the request's body back; abandoned when the answer ends first.
    pub gate: Option<Arc<ContinueGate>>,
    /// Why the request's body ended early, if it is a form that is rewritten.
    pub fault: Option<Arc<FormFault>>,
    /// False when the answer binds an identity to the stream, or the stream must be closed.
    pub reusable: bool,
}

enum LeasedStream {
    /// Used by one exchange at a time.
    Alone(Box<Http1Stream>, PoolKey),
    Shared(StreamUse),
}

impl StreamLease {
    /// A lease of an HTTP/1.1 stream.
    pub fn alone(stream: Box<Http1Stream>, key: PoolKey, core: Arc<Core>) -> Self {
        Self {
            held: LeasedStream::Alone(stream, key),
            core,
            gate: None,
            fault: None,
            reusable: true,
        }
    }

    /// A lease of a shared HTTP/2 stream.
    pub fn shared(stream_use: StreamUse, core: Arc<Core>) -> Self {
        Self {
            held: LeasedStream::Shared(stream_use),
            core,
            gate: None,
            fault: None,
            reusable: true,
        }
    }

    /// Sets how long the upstream keeps the idle stream.
    pub fn set_keep_alive(&mut self, time: Option<Duration>) {
        if let LeasedStream::Alone(stream, _) = &mut self.held {
            stream.set_keep_alive(time);
        }
    }

    /// Why the upload ended early, if that was its content.
    pub fn form_fault(&self) -> Option<&FormError> {
        self.fault.as_ref()?.get()
    }

    pub fn gateway(&self) -> &Gateway {
        &self.core.gateway
    }

    /// Ends the request's upload; afterwards its body is dropped. Over HTTP/1.1 the stream ends, and with it an answer that
    /// was not read to its end.
    pub async fn end_upload(&mut self) {
        match &mut self.held {
            LeasedStream::Alone(stream, _) => stream.end().await,
            LeasedStream::Shared(stream_use) => stream_use.stop().await,
        }
    }

    /// Ends the lease after the answer. The stream returns to the pool once hyper has taken the last byte of the
    /// request. An upload that goes on longer than the rest of a body is discarded ends with its stream: the exchange is
    /// over, so nothing else would end it. `Http1Upload` and `UnreadBody` then take care that the agent gets the answer.
    pub fn finish(self) {
        if let Some(gate) = &self.gate {
            gate.abandon();
        }
        let Self { held, core, reusable, .. } = self;
        let (mut stream, key) = match held {
            LeasedStream::Alone(stream, key) => (stream, key),
            LeasedStream::Shared(stream_use) => return stream_use.end(reusable),
        };
        if stream.sender().is_ready() {
            if reusable {
                core.pool.put(key, stream);
            }
            return;
        }
        if stream.sender().is_closed() {
            return;
        }
        tokio::spawn(async move {
            let within = core.gateway.limits.discarded_body_timeout;
            let ready = tokio::time::timeout(within, stream.sender().ready()).await;
            if ready.is_ok_and(|ready| ready.is_ok()) && reusable {
                core.pool.put(key, stream);
            }
        });
    }
}

impl fmt::Debug for StreamLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("reusable", &self.reusable).finish_non_exhaustive()
    }
}
