//! Listeners that log in at databases for agents. An agent proves itself with its token; Keyward logs in at the server
//! with the connection's credential. After the login, bytes are copied. Each protocol has a folder.
//!
//! ```text
//! listener    the protocol and connection of a database listener; which connection an agent means
//! session     the spine of a session: token, connection, permit, login, copying
//! refused     why a session is not opened
//! login       the user and password of a connection, and what a server says about a login
//! rules       kinds, tables and functions of statements that a session may send
//! lists       lists of names that are data
//! stored      opens and closes the listeners that are stored
//! stream      checks and observers of a session's bytes
//! upstream    the stream to the server
//! test        the test of a connection
//! postgres    start-up, login, cancel requests and read-only sessions of PostgreSQL
//! mysql       login and commands of MySQL and MariaDB
//! redis       commands, login and read-only sessions of Redis
//! mongodb     commands, login and read-only sessions of MongoDB
//! bolt        messages, login and read-only sessions of graph databases
//! ```
//!
//! Limits, agents, permits, credentials, addresses, revocation and audit are those of the data path:
//! `keyward_proxy::ServiceStream` and `ServiceExchange`.
//!
//! A stage takes the proof of the stage before it, as in `keyward_proxy`:
//!
//! | proof | what it says | made by |
//! |---|---|---|
//! | `AttachedAgent` | the stream counts as this agent's and closes on revocation | `ServiceExchange::authenticate` |
//! | `DatabasePermit` | policy permits a session with a database | `rules::policy` |
//! | `PermittedLogin` | this is the credential of the permit's connection | `PermittedLogin::new` |
//! | `Upstream` | the stream is as secure as the permit says | `Upstream::secured` |

mod bolt;
#[cfg(test)]
mod fuzzed;
mod listener;
mod lists;
mod login;
mod mongodb;
mod mysql;
mod postgres;
mod redis;
mod refused;
mod rules;
#[cfg(test)]
mod sample;
mod session;
mod sql;
mod stored;
mod stream;
mod test;
mod upstream;

use std::pin::Pin;
use std::sync::Arc;

use keyward_base::database::DatabaseProtocol;
use keyward_proxy::{ServiceStream, StreamService};

pub use listener::DatabaseListener;
pub use login::DatabaseFacts;
pub use stored::{
    DATABASE_SOCKETS, InheritedListeners, ListenerProblem, ListenerStatus, ListenerTerms,
    ListenersGuard, OpenPlace, StoredListeners,
};
pub use test::{DatabaseReport, DatabaseTestError, DatabaseTestFailure, test};

impl StreamService for DatabaseListener {
    fn serve(self: Arc<Self>, stream: ServiceStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self.protocol() {
            DatabaseProtocol::Postgres => Box::pin(postgres::serve(self, stream)),
            DatabaseProtocol::Redis => Box::pin(redis::serve(self, stream)),
            DatabaseProtocol::Mysql => Box::pin(mysql::serve(self, stream)),
            DatabaseProtocol::Mongodb => Box::pin(mongodb::serve(self, stream)),
            DatabaseProtocol::Bolt => Box::pin(bolt::serve(self, stream)),
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
        DatabaseProtocol::Bolt => bolt::OVERLOADED,
    }
}
