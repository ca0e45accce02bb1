//! [`DatabaseListener`]: the protocol and connection of one listener for databases.

use std::sync::Arc;

use crate::mysql::login_key::LoginKey;
use crate::postgres::cancel::CancelKeys;
use keyward_base::database::{DatabaseProtocol, ServerVersion};

/// The service of one listener; `serve.rs` serves its streams.
#[derive(Debug)]
pub struct DatabaseListener {
    protocol: DatabaseProtocol,
    /// MySQL: the version with which clients are greeted.
    server_version: Option<ServerVersion>,
    /// The connection of all its sessions, by name; `None`: each session names one.
    connection: Option<String>,
    /// PostgreSQL: the keys by which statements are cancelled.
    cancels: Arc<CancelKeys>,
    /// MySQL: the key to which tokens are encrypted.
    login_key: Arc<LoginKey>,
}

impl DatabaseListener {
    /// `connection`: the connection of all sessions, by name; without one, each session names its own.
    pub fn new(
        protocol: DatabaseProtocol,
        server_version: Option<ServerVersion>,
        connection: Option<String>,
    ) -> Arc<Self> {
        let (cancels, login_key) = (Arc::default(), Arc::default());
        Arc::new(Self { protocol, server_version, connection, cancels, login_key })
    }

    pub(crate) fn protocol(&self) -> DatabaseProtocol {
        self.protocol
    }

    pub(crate) fn server_version(&self) -> Option<&ServerVersion> {
        self.server_version.as_ref()
    }

    pub(crate) fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    pub(crate) fn cancels(&self) -> &Arc<CancelKeys> {
        &self.cancels
    }

    pub(crate) fn login_key(&self) -> &Arc<LoginKey> {
        &self.login_key
    }
}
