//! Listeners that log in at databases for agents. An agent proves itself with its token; Keyward logs in at the server
//! with the connection's credential. After the login, bytes are copied.
//!
//! ```text
//! listener    serves the streams of a database listener; one protocol, one folder
//! choice      which connection an agent means
//! postgres    start-up, login, cancel requests and read-only sessions of PostgreSQL
//! ```
//!
//! Limits, agents, permits, credentials, addresses, revocation and audit are those of the data path:
//! `keyward_proxy::ServiceStream` and `ServiceExchange`.

mod choice;
mod listener;
mod postgres;

pub use listener::DatabaseListener;
pub use postgres::OVERLOADED;
pub use postgres::test::{
    DatabaseFacts, DatabaseReport, DatabaseTestError, DatabaseTestFailure, test,
};
