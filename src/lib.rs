//! # Keyward
//!
//! A forward proxy for programs that call APIs. The program holds placeholders; Keyward terminates
//! its TLS with a local CA, decides, removes the placeholders, injects the live credential from an
//! encrypted store, and forwards.
//!
//! ## The nouns
//!
//! | word | meaning | home: crate and module |
//! |---|---|---|
//! | Org | the hard wall; part of every key and look-up | `base::id`, `state::directory` |
//! | User, Caller | a person, by role and scopes; who asks the control plane, and what is theirs | `state::directory`, `api::auth` |
//! | Agent | a program's identity; its token alone decides who it is | `base::agent`, `state::directory` |
//! | Provider | what a service is: hosts, ways to authenticate, placements. Data, not code | `rules::provider` |
//! | Connection | an authenticated account at a provider. A socket is a *stream* | `state::directory`, `vault` |
//! | Binding | agent → connection: this agent may use it; carries its placeholders | `state::directory` |
//! | Plugin, Slot | a manifest installed for an agent; what each declared connection may be used for | `state::directory`, `rules::policy` |
//! | Rule, Policy | host, method, path, agent → inject, deny, pass or tunnel; compiled | `rules::policy`, `state::rulebook` |
//! | Target | scheme, host and port, parsed once | `base::host` |
//! | Grant | what the owner handed over; sealed at rest | `vault::grant`, `vault` |
//! | Credential, Placement | what is injected now, and where | `rules::inject` |
//! | Flow | one attempt of a person to consent; ends in a Grant | `vault::oauth` |
//! | Permit | proof that policy allowed a request; only `rules::policy` makes one | `rules::policy::permit` |
//! | Leaf | a certificate of ours for an upstream's name | `proxy::ca` |
//! | Event, Webhook | what happened to a connection, binding, plugin or token; who is told | `state::observe::notice`, `vault::events` |
//! | Exchange, Record | one request and its answer; the audit event it leaves | `proxy`, `state::observe` |
//!
//! ## The crates
//!
//! This package is the program; beside it stand the crates of `crates/`. A crate imports only those below it,
//! which rustc enforces. Where a crate holds several floors, each is a folder, and `tests/tidy.rs` holds the table.
//!
//! ```text
//! keyward        cli                         the command line
//!                app  config                 configuration → running gateway
//! keyward-api                                the control plane
//! keyward-proxy  ca                          the data path; the CA
//! keyward-vault  oauth  events               consents, each of which ends in a grant; webhooks
//!                grant  keys                 grants, sealed, and credentials; rotation of master keys
//! keyward-state  rulebook                    rules in force
//!                directory                   who exists
//!                observe  store  crypto      audit and metrics; bytes by (table, key); sealing
//! keyward-model                              what is kept: each resource declared once
//! keyward-rules  provider  policy  inject    what is decided and written; pure, without IO
//! keyward-net                                sockets outwards, TLS
//! keyward-base                               words: ids, hosts, secrets, limits, time
//! ```
//!
//! ## The life of a request
//!
//! ```text
//! accept ─► request line ─┬─ CONNECT ─► authenticate ─► Target ─► Policy::route ─┬─ Deny ──► 403
//!                         │                                                     ├─ Tunnel ─► dial, splice
//!                         │                                                     └─ Intercept ─► TLS with a leaf
//!                         └─ absolute-form ─► authenticate ──► exchange ◄── inner requests ┘
//! exchange:  Inbound ─► Permitted ─► Admitted ─► Outbound ─► upstream ─► Sent ─► Answer ─► Record
//! ```
//!
//! Every exchange goes through `exchange::run` of `keyward-proxy`, one stage a line. Each stage takes a proof that the
//! one before it made, so that skipping one does not compile. `keyward-proxy` lists the proofs.
//!
//! ## Invariants, each with its enforcer
//!
//! 1. No byte reaches an upstream without a permit: only an `Outbound` is sent, which is made from a `Permit`
//!    with its credential (`proxy::upstream::outbound`); `tests/tidy/proofs.rs` holds that each proof has one
//!    maker. The dialler of a tunnel is reached only with a `TunnelPermit`.
//! 2. The default is deny: `rules::policy::DefaultAction`.
//! 3. A secret is in no log, audit event, error, admin answer, panic or core dump: `base::secret`,
//!    `tests/tidy.rs` (where it may be exposed), a canary in every integration test,
//!    `cli::harden`. An upstream that repeats the credential does not tell it to the agent: only
//!    `Answer::scrub` makes the `Answer` for the agent; `rules::inject::scrub` says what is not covered.
//! 4. Policy, leaf, dialler, SNI and upstream agree on the host: one `base::host::Target`.
//! 5. The connected address is the checked address: `net::guard::CheckedAddr`. A configured corporate
//!    proxy is the exception: it resolves names, so only literal addresses are checked
//!    (`net::corporate`).
//! 6. What is acknowledged is durable: `state::store` flushes before a `put` answers.
//! 7. A leaf is minted, and a credential made, once however many ask: `proxy::ca::cache`, `vault`.
//! 8. Everything is bounded: `base::limits`.
//! 9. Every exchange leaves exactly one audit event, also when aborted: `proxy/record.rs` is a guard
//!    that reserved its place in the log before the exchange began.
//! 10. The warm data path never waits for the store: `state::directory::View`, `vault`, `state::rulebook` hold what
//!     it needs in memory.
//! 11. Revoking a token, binding, connection or agent ends its open streams: `proxy/session/revocation.rs`.
//! 12. One org's data never answers another's question: the org is part of every key and look-up,
//!     and nothing is asked of the control plane without a `Caller` (`api/auth.rs`).

pub mod app;
pub mod cli;
pub mod config;
