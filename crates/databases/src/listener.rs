//! [`DatabaseListener`]: the service of one listener for databases.

use std::pin::Pin;
use std::sync::Arc;

use crate::postgres::cancel::CancelKeys;
use crate::postgres;
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceStream, StreamService};

/// Serves the streams of one listener.
#[derive(Debug)]
pub struct DatabaseListener {
    protocol: DatabaseProtocol,
    /// The connection of all its sessions, by name; `None`: each session names one.
    connection: Option<String>,
    cancels: Arc<CancelKeys>,
}

impl DatabaseListener {
    /// `connection`: the connection of all sessions, by name; without one, each session names its own.
    pub fn new(protocol: DatabaseProtocol, connection: Option<String>) -> Arc<Self> {
        Arc::new(Self { protocol, connection, cancels: Arc::default() })
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
        match self.protocol {
            DatabaseProtocol::Postgres => Box::pin(postgres::serve(self, stream)),
        }
    }
}

/// What a client is sent on a stream above the limit, in its protocol.
pub fn overload_answer(protocol: DatabaseProtocol) -> &'static [u8] {
    match protocol {
        DatabaseProtocol::Postgres => postgres::OVERLOADED,
    }
}
