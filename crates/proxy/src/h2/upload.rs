//! [`Upload`]: the body of a request to an upstream, while a task sends it and until its exchange ends.

use std::any::Any;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::task::JoinHandle;

use super::Kept;

/// An upload of an exchange. Dropping it ends the upload.
#[derive(Debug)]
pub struct Upload(JoinHandle<UploadStream>);

/// The stream of an upload. Dropping it drops what h2 has not written: the exchange has ended, nobody counts it any more,
/// and the upstream may never read it.
#[derive(Debug)]
pub struct UploadStream {
    pub stream: SendStream<Bytes>,
    /// Is kept by each piece of the body.
    unwritten: Weak<dyn Any + Send + Sync>,
}

impl Upload {
    /// `task` sends the body.
    pub fn new(task: JoinHandle<UploadStream>) -> Self {
        Self(task)
    }

    /// Ends the upload; afterwards the body is dropped.
    pub async fn stop(mut self) {
        self.0.abort();
        // An error means that it was aborted; both ends are the same here.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // If it has ended, its stream is dropped with the handle.
        self.0.abort();
    }
}

impl UploadStream {
    /// The stream, and what each piece of the body must keep.
    pub fn new(stream: SendStream<Bytes>) -> (Self, Kept) {
        let kept: Kept = Arc::new(());
        let unwritten = Arc::downgrade(&kept);
        (Self { stream, unwritten }, kept)
    }
}

impl Drop for UploadStream {
    fn drop(&mut self) {
        if self.unwritten.strong_count() > 0 {
            self.stream.send_reset(Reason::CANCEL);
        }
    }
}
