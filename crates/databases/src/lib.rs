//! Listeners that log in at databases for agents. An agent proves itself with its token; Keyward logs in at the server
//! with the connection's credential. After the login, bytes are copied.
//!
//! ```text
//! listener    the protocol and connection of a database listener
//! serve       serves its streams; one protocol, one folder
//! session     the spine of a session: token, connection, permit, login, copying
//! choice      which connection an agent means
//! refused     why a session is not opened
//! login       the user and password of a connection
//! rules       kinds and tables of statements that a session may send
//! stored      opens and closes the listeners that are stored
//! stream      checks and observers of a session's bytes
//! upstream    the stream to the server
//! test        the test of a connection
//! facts       what a server says about a login
//! postgres    start-up, login, cancel requests and read-only sessions of PostgreSQL
//! mysql       login and commands of MySQL and MariaDB
//! redis       commands, login and read-only sessions of Redis
//! mongodb     commands, login and read-only sessions of MongoDB
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

mod choice;
mod facts;
#[cfg(test)]
mod fuzzed;
mod listener;
mod login;
mod mongodb;
mod mysql;
mod postgres;
mod redis;
mod refused;
mod rules;
#[cfg(test)]
mod sample;
mod serve;
mod session;
mod sql;
mod stored;
mod stream;
mod test;
mod upstream;

pub use facts::DatabaseFacts;
pub use listener::DatabaseListener;
pub use serve::overload_answer;
pub use stored::{
    DATABASE_SOCKETS, InheritedListeners, ListenerProblem, ListenerStatus, ListenerTerms,
    ListenersGuard, OpenPlace, StoredListeners,
};
pub use test::{DatabaseReport, DatabaseTestError, DatabaseTestFailure, test};
