//! Serves the streams of a database listener in the protocol of its database.

use std::pin::Pin;
use std::sync::Arc;

use crate::listener::DatabaseListener;
use crate::{mongodb, mysql, postgres, redis};
use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceStream, StreamService};

impl StreamService for DatabaseListener {
    fn serve(self: Arc<Self>, stream: ServiceStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self.protocol() {
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
