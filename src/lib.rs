//! # Keyward
//!
//! A forward proxy for programs that call APIs. The program holds placeholders; Keyward terminates
//! its TLS with a local CA, decides, removes the placeholders, injects the live credential from an
//! encrypted store, and forwards.
//!
//! ## The nouns
//!
//! | word | meaning | home |
//! |---|---|---|
//! | Org | the hard wall; part of every key and look-up | `base::id`, `directory` |
//! | User, Caller | a person, by role and scopes; who asks the control plane, and what is theirs | `directory`, `admin::auth` |
//! | Agent | a program's identity; its token alone decides who it is | `base::agent`, `directory` |
//! | Provider | what a service is: hosts, ways to authenticate, placements. Data, not code | `provider` |
//! | Connection | an authenticated account at a provider. A socket is a *stream* | `directory`, `vault` |
//! | Binding | agent → connection: this agent may use it; carries its placeholders | `directory` |
//! | Plugin, Slot | a manifest installed for an agent; what each declared connection may be used for | `directory`, `policy` |
//! | Rule, Policy | host, method, path, agent → inject, deny, pass or tunnel; compiled | `policy`, `rulebook` |
//! | Target | scheme, host and port, parsed once | `base::host` |
//! | Grant | what the owner handed over; sealed at rest | `grant`, `vault` |
//! | Credential, Placement | what is injected now, and where | `inject` |
//! | Flow | one attempt of a person to consent; ends in a Grant | `oauth` |
//! | Permit | proof that policy allowed a request; only `policy` makes one | `policy::permit` |
//! | Leaf | a certificate of ours for an upstream's name | `ca` |
//! | Event, Webhook | what happened to a connection, binding, plugin or token; who is told | `observe::notice`, `events` |
//! | Exchange, Record | one request and its answer; the audit event it leaves | `proxy`, `observe` |
//!
//! ## The floors
//!
//! A folder imports only lower ones; `tests/tidy.rs` holds the table and reads the sources.
//!
//! ```text
//! 8  cli                     the command line
//! 7  app  config             config → running gateway
//! 6  admin                   the control plane
//! 5  proxy  oauth  events    the data path; consents, each of which ends in a grant; who is told
//! 4  rulebook  vault         rules in force; grants sealed, credentials fresh
//! 3  directory  grant  keys  who exists; what owners hand over; rotation of master keys
//! 2  observe  ca  store      audit, metrics; the CA; bytes by (table, key)
//! 1  provider policy net crypto inject
//! 0  base                    words
//! ```
//!
//! ## The life of a request
//!
//! ```text
//! accept ─► request line ─┬─ CONNECT ─► authenticate ─► Target ─► Policy::route ─┬─ Deny ──► 403
//!                         │                                                     ├─ Tunnel ─► dial, splice
//!                         │                                                     └─ Intercept ─► TLS with a leaf
//!                         └─ absolute-form ─► authenticate ──► exchange ◄── inner requests ┘
//! exchange:  Inbound ─► Permit ─► Credential ─► Outbound ─► upstream ─► Sent ─► Answer ─► Record
//! ```
//!
//! Every exchange goes through `proxy/exchange.rs::run`, one stage a line. Each stage needs what the
//! one before it answers, so that skipping one does not compile.
//!
//! ## Invariants, each with its enforcer
//!
//! 1. No byte reaches an upstream without a permit: `upstream::send` takes only an `Outbound`, which
//!    takes a `Permit`; the dialler of a tunnel is reached only with a `TunnelPermit`.
//! 2. The default is deny: `policy::DefaultAction`.
//! 3. A secret is in no log, audit event, error, admin answer, panic or core dump: `base::secret`,
//!    `tests/tidy.rs` (where it may be exposed), a canary in every integration test,
//!    `cli::harden`. An upstream that repeats the credential does not tell it to the agent: only
//!    `Sent::scrubbed` makes the `Answer` that goes on; `inject::scrub` says what is not covered.
//! 4. Policy, leaf, dialler, SNI and upstream agree on the host: one `base::host::Target`.
//! 5. The connected address is the checked address: `net::guard::Checked`. A configured corporate
//!    proxy is the exception: it resolves names, so only literal addresses are checked
//!    (`net::corporate`).
//! 6. What is acknowledged is durable: `store` flushes before a `put` answers.
//! 7. A leaf is minted, and a credential made, once however many ask: `ca::cache`, `vault`.
//! 8. Everything is bounded: `base::limits`.
//! 9. Every exchange leaves exactly one audit event, also when aborted: `proxy/record.rs` is a guard
//!    that reserved its place in the log before the exchange began.
//! 10. The warm data path never waits for the store: `directory::View`, `vault`, `rulebook` hold what
//!     it needs in memory.
//! 11. Revoking a token, binding, connection or agent ends its open streams: `proxy/standing.rs`.
//! 12. One org's data never answers another's question: the org is part of every key and look-up,
//!     and nothing is asked of the control plane without a `Caller` (`admin/auth.rs`).

pub mod admin;
pub mod app;
pub mod base;
pub mod ca;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod directory;
pub mod events;
pub mod grant;
pub mod inject;
pub mod keys;
pub mod net;
pub mod oauth;
pub mod observe;
pub mod policy;
pub mod provider;
pub mod proxy;
pub mod rulebook;
pub mod store;
pub mod vault;
