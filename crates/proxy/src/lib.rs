//! The data path: from an agent's stream to an upstream's and back. The local CA.
//!
//! A room imports only rooms below it; `tests/tidy/tables.rs` holds the table.
//!
//! ```text
//! streams     accepts streams on each core; CONNECT, interception, authentication, base URLs
//! server      HTTP/1.1 and HTTP/2 servers on agents' streams
//! exchange    THE SPINE: `run` takes each exchange from a request to its answer, one stage a line
//! tunnel      copies bytes between two streams: opaque tunnels, WebSockets
//! upstream    the request to send (`Outbound`); sends it and waits for the head of the answer
//! authorize   who asks, what policy permits, the credential, the limits of a connection
//! request     the checked request of an agent (`Inbound`)
//! session     the agent of a stream, and what revokes the stream
//! record      the audit event of an exchange
//! gateway     the state that all cores share, and that of one core
//! open_exchanges  lists what is open, for people, who may cut it
//! probe       programs that are only examined; what was seen of them
//! upstream_tls    how upstreams are verified now, also for connections with a certificate or a CA of their own
//! connect_link    links with which a person connects the account that a request lacks
//! pool        streams to upstreams that are kept for reuse
//! refusal     why Keyward answers an exchange itself
//! base_url    reads base URLs
//! body        bodies of requests and answers
//! h2          parts of HTTP/2 that both legs use
//! sockets     listeners, sockets, byte copying, the watchdog of a stream
//! limits      budgets, rates and counts
//! ca          the local certificate authority and its leaves
//! ```
//!
//! Decisions come from `rules::policy`, credentials from `vault`.
//!
//! ## Proofs
//!
//! A stage of an exchange takes the proof of the stage before it by value. The fields of a proof are private, and one
//! expression makes it (`tests/tidy/proofs.rs`).
//!
//! | proof | what it says | made by |
//! |---|---|---|
//! | `AttachedAgent` | the stream counts as this agent's and closes on revocation | `AcceptedStream::attach_agent` |
//! | `Permit` | policy permits a request to a target | `rules::policy` |
//! | `ValidRequester` | the token, the listener and the agent's exchanges were checked, for one decision | `Requester::check_still_valid` |
//! | `Permitted` | this request has this permit, and this is the permit's credential | `authorize::decide` |
//! | `Admitted` | the connection is within its limits | `authorize::connection_limits` |
//! | `Outbound` | the head is stripped, the credential written, the authority the permit's | `Outbound::prepare` |
//! | `Answer` | the credential is removed from the answer | `Answer::scrub` |
//! | `PermittedTunnel` | policy permits copying bytes between two streams | `PermittedTunnel::dial` |
//!
//! ```compile_fail,E0451
//! # use keyward_rules::policy::Permit;
//! fn permit_everything(given: Permit) -> Permit {
//!     Permit { target: given.target().clone(), ..given }
//! }
//! ```

mod authorize;
pub mod base_url;
mod body;
pub mod ca;
mod connect_link;
mod exchange;
#[cfg(test)]
mod future_size;
mod gateway;
mod h2;
mod limits;
mod open_exchanges;
mod pool;
mod probe;
mod record;
mod refusal;
mod request;
mod server;
mod session;
mod sockets;
mod streams;
mod tunnel;
mod upstream;
mod upstream_tls;

pub use connect_link::{ConnectLinks, WantedAccount, WantedLink};
pub use exchange::respond::dial_refusal;
pub use exchange::{call, test_request};
pub use gateway::{Gateway, GatewayServices, Retirement};
pub use keyward_net::seed_list::SeedListError;
pub use limits::auth_failures::AuthFailures;
pub use limits::budget::{Budget, BudgetShare, PerAgent};
pub use limits::shared::{LimitExchange, LimitSpace, ReplicaRow, SharedLimits};
pub use open_exchanges::{CountedExchange, OpenExchange, OpenExchanges, OpenKind};
pub use probe::{
    CarriedCredential, HandshakeFailure, ProbeEvent, ProbeRegistration, ProbeScope, ProbedRefusal,
    ProbedRequest, Seen,
};
pub use session::AttachedAgent;
pub use sockets::listener::{HandedOver, Listener, ListenerOwner};
pub use sockets::proxy_tls::ProxyTls;
pub use streams::cores::Cores;
pub use streams::open_listener::OpenListener;
pub use streams::service::{
    CheckedUpstream, DatabaseChoice, FailedAttempt, ServiceExchange, ServiceStream, SessionEnd,
    StreamPlace, StreamService,
};
pub use streams::ssh_agent::HOST as SSH_AGENT_HOST;
pub use streams::statement_log::StatementLog;
