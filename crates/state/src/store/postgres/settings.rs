//! Settings of the store.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// The address of the database, and the login. Its debug text omits the password.
    pub database: tokio_postgres::Config,
    /// Verifies the server; `None`: the stream is not encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    /// The most streams to the database.
    pub streams_max: usize,
    /// How long an operation may take.
    pub timeout: Duration,
}
