//! [`DatabaseListener`]: the service of one listener for databases.

use std::pin::Pin;
use std::sync::Arc;

use crate::mysql::login_key::LoginKey;
use crate::postgres::cancel::CancelKeys;
use crate::{mongodb, mysql, postgres, redis};
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceStream, StreamService};

/// Serves the streams of one listener.
#[derive(Debug)]
pub struct DatabaseListener {
    protocol: DatabaseProtocol,
    /// The connection of all its sessions, by name; `None`: each session names one.
    connection: Option<String>,
    /// PostgreSQL: the keys by which statements are cancelled.
    cancels: Arc<CancelKeys>,
    /// MySQL: the key to which tokens are encrypted.
    login_key: Arc<LoginKey>,
}

impl DatabaseListener {
    /// `connection`: the connection of all sessions, by name; without one, each session names its own.
    pub fn new(protocol: DatabaseProtocol, connection: Option<String>) -> Arc<Self> {
        let (cancels, login_key) = (Arc::default(), Arc::default());
        Arc::new(Self { protocol, connection, cancels, login_key })
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

impl StreamService for DatabaseListener {
    fn serve(self: Arc<Self>, stream: ServiceStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self.protocol {
            DatabaseProtocol::Postgres => Box::pin(postgres::serve(self, stream)),
            DatabaseProtocol::Redis => Box::pin(redis::serve(self, stream)),
            DatabaseProtocol::Mysql => Box::pin(mysql::serve(self, stream)),
            DatabaseProtocol::Mongodb => Box::pin(mongodb::serve(self, stream)),
        }
    }
}

/// What a client is sent on a stream above the limit, in its protocol.
pub fn overload_answer(protocol: DatabaseProtocol) -> &'static [u8] {
    match protocol {
        DatabaseProtocol::Postgres => postgres::OVERLOADED,
        DatabaseProtocol::Redis => redis::OVERLOADED,
        DatabaseProtocol::Mysql => mysql::OVERLOADED,
        DatabaseProtocol::Mongodb => mongodb::OVERLOADED,
    }
}
