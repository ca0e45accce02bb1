//! [`DatabaseListener`]: the service of one listener for databases.

use std::pin::Pin;
use std::sync::Arc;

use crate::postgres;
use crate::postgres::cancel::CancelKeys;
use keyward_proxy::{ServiceStream, StreamService};

/// Serves the streams of one listener.
#[derive(Debug)]
pub struct DatabaseListener {
    /// The connection of all its sessions, by name; `None`: each session names one.
    connection: Option<String>,
    cancels: Arc<CancelKeys>,
}

impl DatabaseListener {
    /// `connection`: the connection of all sessions, by name; without one, each session names its own.
    pub fn new(connection: Option<String>) -> Arc<Self> {
        Arc::new(Self { connection, cancels: Arc::default() })
    }

    pub(crate) fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    pub(crate) fn cancels(&self) -> &Arc<CancelKeys> {
        &self.cancels
    }
}

impl StreamService for DatabaseListener {
    fn serve(self: Arc<Self>, stream: ServiceStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(postgres::serve(self, stream))
    }
}
