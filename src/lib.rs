//! # Keyward
//!
//! A forward proxy for programs that call APIs. The program holds placeholders; Keyward terminates
//! its TLS with a local CA, decides whether policy allows the request, removes the placeholders, injects the
//! live credential from an encrypted store, and forwards.
//!
//! ## The nouns
//!
//! | word | meaning | home: crate and module |
//! |---|---|---|
//! | Org | an organisation: no resource of one is visible in another; its id is part of every key | `base::id`, `state::directory` |
//! | User, Caller | a person, with a role; the sender of a request to the control plane | `model`, `api::auth` |
//! | Agent | a program that uses the proxy; only its token identifies it | `base::agent`, `model` |
//! | Provider | a service: its hosts, auth methods and placements. Data, not code | `rules::provider` |
//! | Connection | an authenticated account at a provider. (A network connection is called a *stream*) | `model`, `vault` |
//! | Binding | permission of an agent to use a connection; has the agent's placeholders | `model` |
//! | Session, End user | a short-lived token with which an agent uses the connections of one end user | `model`, `state::directory` |
//! | Plugin, Slot | a manifest installed for an agent; what each declared connection may be used for | `model`, `rules::policy` |
//! | Rule, Policy | host, method, path, agent → inject, deny, pass or tunnel, of the configuration or stored; compiled | `model`, `rules::policy`, `state::rulebook` |
//! | Host set | hosts that an agent may reach without a credential, such as `packages`. Data, not code | `rules::host_sets` |
//! | Target | scheme, host and port, parsed once | `base::host` |
//! | Grant | the secret or the tokens of a connection; encrypted in the store | `vault::grant`, `vault` |
//! | Source, Reference | where values of fields are kept outside of Keyward; which of its values a field is | `model`, `vault::sources` |
//! | Credential, Placement | what is injected now, and where | `rules::inject` |
//! | Flow | one OAuth consent of a person; its result is a Grant | `vault::oauth` |
//! | Permit | proof that policy allowed a request; only `rules::policy` makes one | `rules::policy::permit` |
//! | Permitted, Admitted, Outbound, Sent, Answer | a request with its permit and credential; within the limits; ready to send; sent; its checked answer | `proxy::authorize`, `proxy::upstream` |
//! | Leaf | a certificate for an upstream's name, signed by the local CA | `proxy::ca` |
//! | Event, Webhook | a change of a connection, binding, plugin or token; a URL that receives events | `state::observe::notice`, `vault::events` |
//! | Hook, Hook event | a URL to which a service posts its webhooks; a request there whose signature was valid | `inbox` |
//! | Database listener | a port or socket where agents reach databases, of the configuration or stored | `databases`, `model` |
//! | SSH agent | signs logins of an agent's programs with keys of the vault | `ssh`, `proxy::streams::ssh_agent` |
//! | Named action | a part of a provider's API that rules name, such as `clone`. Data, not code | `rules::actions` |
//! | Operations | the GraphQL operations of a request's body, by kind and root field | `rules::graphql` |
//! | Signature scheme | how a service signs its webhooks. Data, not code | `hooks::Scheme` |
//! | Exchange, Record | one request and its answer; the audit event it leaves | `proxy`, `state::observe` |
//!
//! ## The crates
//!
//! This package is the program; its libraries are in `crates/`. A crate imports only crates below it, which rustc
//! enforces. Some crates are divided into folders with an order of their own: a folder imports only folders below it,
//! and a test enforces the table in `tests/tidy/tables.rs`.
//!
//! ```text
//! keyward        cli                         the command line
//! keyward-app    config                      configuration → running gateway
//! keyward-console                            pages for people, over the control plane
//! keyward-api                                the control plane
//! keyward-databases                          listeners that log in at databases for agents
//! keyward-proxy  ca                          the data path; the CA
//! keyward-backup                             encrypted copies of the state; their files
//! keyward-inbox                              webhooks of services: accepted, stored, delivered
//! keyward-vault  oidc                        sign-in of people with an identity provider
//!                oauth  events               consents, each of which ends in a grant; webhooks
//!                lifecycle                   how connections, apps and sources get their secrets, and how they end
//!                refresh                     credentials in memory, renewed, and stored before use
//!                sources                     values of secret sources
//!                grants  keys                sealed rows of grants; rotation of master keys
//!                grant                       kinds of grants, and requests for them
//! keyward-state  rulebook                    rules in force
//!                directory                   all resources of all organisations, in memory and in the store
//!                observe  store  crypto      audit, metrics, telemetry; key-value store; encryption
//! keyward-model                              each resource declared once: members, checks, JSON
//! keyward-rules  provider  policy            providers, decisions; pure, without IO
//!                host_sets  inject           sets of hosts that agents may reach; injection
//!                graphql                    operations of GraphQL requests
//! keyward-ssh                                the protocol of SSH agents; bound sessions, signatures; without IO
//! keyward-hooks                              how services sign their webhooks; verification; pure, without IO
//! keyward-envelope                           stored values, sealed and opened; pure, without IO
//! keyward-net                                outgoing sockets, TLS
//! keyward-base                               basic types: ids, hosts, secrets, limits, time
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
//! Every exchange goes through `exchange::run` of `keyward-proxy`, which has one line for each stage. Each stage takes a
//! value that only the stage before it can make, so code that skips a stage does not compile. `keyward-proxy` lists these
//! proofs.
//!
//! ## Where a behaviour is decided
//!
//! | question | file | function |
//! |---|---|---|
//! | Which header fields are removed? | `rules/src/inject/strip.rs` | `hop_by_hop`, `answer` |
//! | Where are placeholders found, and where is the credential written? | `rules/src/inject/strip.rs`, `rules/src/inject/write.rs`, `rules/src/inject/body.rs` | `placeholders`, `credential`, `BodyKind::write` |
//! | Which codes and statuses do refusals have? | `base/src/codes.rs` | `codes!` |
//! | Why was a request refused with 424? | `rules/src/policy/decide.rs`, `rules/src/policy/reason.rs`, `proxy/src/exchange/respond.rs` | `Policy::decide`, `Reason::text`, `view` |
//! | How does a revocation end open streams? | `proxy/src/session/revocation.rs`, `proxy/src/server/h1.rs`, `proxy/src/server/h2.rs` | `Revocation::revoked`, `must_end`, `check_revocation` |
//! | What is open now, and how is it cut? | `proxy/src/open_exchanges.rs`, `api/src/streams.rs` | `OpenExchanges::list`, `CurrentExchange::cut` |
//! | How does a revocation end a tunnel? | `proxy/src/tunnel/mod.rs` | `StreamPair::run` |
//! | Who may use a database, and with which login? | `rules/src/policy/database.rs`, `databases/src/session.rs` | `Policy::permit_database`, `run` |
//! | When is a stored listener for databases opened and closed, and what ends its sessions? | `databases/src/stored.rs`, `proxy/src/session/revocation.rs` | `ListenersGuard::put`, `Revocation::is_valid` |
//! | Which file does a program of an agent get, and by which variables? | `api/src/connections/file.rs`, `rules/src/provider/file.rs` | `ConnectionFile::variables`, `FileText::filled` |
//! | Which statements does a read-only session refuse? | `databases/src/postgres/statements/check.rs`, `databases/src/postgres/statements/read_only.rs` | `check`, `reads` |
//! | Which statements, tables and functions does a rule of a connection permit? | `databases/src/rules/mod.rs` | `StatementRules::check` |
//! | When does an agent get the reason why its session with PostgreSQL ended? | `databases/src/postgres/supervision.rs` | `Supervision::copy` |
//! | With which of several servers of PostgreSQL is a session? | `databases/src/postgres/servers.rs` | `PostgresLogin::run` |
//! | Which commands does a session with Redis refuse? | `databases/src/redis/commands.rs` | `RedisAccess::verdict` |
//! | Which commands does a session with MongoDB refuse? | `databases/src/mongodb/commands.rs` | `MongoAccess::verdict` |
//! | Which statements does a session with Neo4j refuse? | `databases/src/bolt/statements.rs`, `databases/src/bolt/names.tsv` | `check` |
//! | How does a client of MySQL prove itself? | `databases/src/mysql/client.rs` | `MysqlClient::token` |
//! | How does a refusal get a link for an end user? | `proxy/src/connect_link.rs`, `api/src/connect_sessions/for_end_users.rs` | `ConnectLinks::made`, `make_links` |
//! | What does a page of a consent or of a link do, and how is it shown? | `api/src/consents.rs`, `api/src/connect_sessions/walk.rs`, `console/src/public/page.rs` | `callback`, `step`, `PublicPage::answer` |
//! | When does a form with files stream, and which length does it have? | `proxy/src/upstream/body_injection.rs`, `rules/src/inject/multipart/rewriter.rs` | `write_form`, `FormRewriter::push` |
//! | When is a request sent again? | `proxy/src/exchange/attempts.rs` | `Attempts::after` |
//! | What follows a 401 of the upstream? | `proxy/src/exchange/attempts.rs`, `vault/src/refresh/rejected.rs` | `rejected_credential`, `Attempts::after`, `Refresh::renew` |
//! | When is a rejected API key noticed? | `proxy/src/exchange/rejected_secret.rs`, `proxy/src/limits/secret_rejections.rs`, `vault/src/refresh/rejected.rs` | `observe`, `SecretRejections::record_rejection`, `Refresh::reject` |
//! | How is a token refreshed, and stored before it is used? | `vault/src/refresh/flight.rs`, `vault/src/refresh/flight/saving.rs` | `Flight::ask`, `Flight::keep` |
//! | How is a value of a secret source fetched, and until when is the last one used? | `vault/src/refresh/references.rs` | `Refresh::fetched`, `Refresh::held_by_reference` |
//! | How are signatures, tokens of keys and logins of sessions made? | `rules/src/inject/sign/request_signer.rs`, `vault/src/grant/oauth/signed.rs`, `vault/src/grant/oauth/session.rs` | `RequestSigner::sign`, `minted`, `renewed` |
//! | When is an idle upstream stream closed? | `proxy/src/gateway.rs`, `proxy/src/pool/http1.rs`, `proxy/src/pool/http2.rs`, `proxy/src/session/pass_streams.rs` | `Core::sweep`, `Http1Stream::is_usable`, `SharedStream::is_spent`, `PassStreams::renew` |
//! | Which GraphQL operations does a request ask for, and when is its body read for that? | `rules/src/graphql/request.rs`, `proxy/src/authorize/decide.rs` | `Operations::read`, `decide` |
//! | In which order do rules decide? | `state/src/rulebook/compiled.rs`, `state/src/directory/rules.rs` | `PolicyInputs::lenient_in`, `View::rules_in_order` |
//! | Where are names unique? | `state/src/directory/index.rs`, `state/src/directory/commit.rs` | `Index::unique_name`, `RecordChange::reserve` |
//! | How does a change reach other replicas? | `state/src/store/postgres/feed.rs`, `state/src/directory/follow.rs`, `state/src/rulebook/mod.rs` | `PostgresStore::changes_after`, `Directory::follow`, `Rulebook::follow` |
//! | What excludes replicas that change the same row, or refresh the same token? | `state/src/store/postgres/commit.rs`, `vault/src/refresh/flight/lease.rs` | `PostgresStore::commit_rows`, `Flight::claim` |
//! | How is a row of an earlier version read? | `model/src/resource.rs`, `state/src/store/postgres/schema.rs` | `Resource::from_row`, `prepare` |
//! | Which page may send requests with the cookie of a login? | `api/src/auth/login.rs`, `api/src/sign_in/cookie.rs` | `Caller::on_network`, `has_csrf` |
//! | Who may use the API over the network? | `api/src/network.rs` | `on_network`, `NetworkAccess::client` |
//! | Which gateway answers a command, and what does a private one open? | `src/cli/client.rs`, `src/cli/client/private.rs` | `Client::open`, `PrivateGateway::send` |
//! | How is a connection tested? | `api/src/connection_test.rs`, `proxy/src/exchange/test_request.rs` | `tested`, `run` |
//! | What becomes of a request of a program that `keyward doctor` examines? | `proxy/src/exchange/mod.rs`, `proxy/src/probe.rs` | `report_if_probed`, `ProbedStream::report` |
//! | How is usage over time counted and stored? | `state/src/observe/usage.rs`, `state/src/directory/usage.rs` | `Usage::count`, `save_usage` |
//! | What does an OpenTelemetry collector get, and when? | `state/src/observe/telemetry/span.rs`, `app/src/telemetry.rs` | `ExchangeTrace::into_spans`, `ExportJob::deliver` |
//! | When is the signature of an incoming webhook accepted, and what identifies its event? | `hooks/src/verify.rs` | `Way::verify` |
//! | When is an event sent again to a webhook? | `vault/src/events/deliver.rs` | `Events::outcome`, `pause` |
//! | What becomes of a webhook that a service posts? | `inbox/src/accept.rs`, `inbox/src/deliver.rs` | `Inbox::accept`, `Inbox::deliver` |
//! | Which SSH logins are signed, and for which session? | `ssh/src/binding.rs`, `vault/src/refresh/ssh.rs`, `proxy/src/streams/ssh_agent.rs` | `SessionBindings::path`, `SshIdentity::servers`, `AgentProtocol::signature` |
//! | Which requests only prove the URL of a webhook? | `hooks/src/challenge.rs`, `hooks/src/challenge_rule.rs` | `Scheme::challenge`, `ChallengeRule::covers` |
//! | How does a member become an option of commands, and an input and a fact of pages? | `src/cli/derive.rs`, `console/src/parts/member.rs` | `MemberArgs::body`, `input` |
//! | How does a mistake in the file get its line? | `rules/src/provider/document.rs` | `TreeBuilder::mapping`, `Problems::add` |
//! | What is in a backup, and when is it consistent? | `backup/src/read.rs`, `state/src/directory/snapshot.rs` | `write`, `Directory::snapshot` |
//! | How does a restore survive a crash? | `app/src/restore/mod.rs`, `app/src/restore/completion.rs` | `Restore::run`, `complete` |
//! | What does a changed configuration do? | `app/src/plan/mod.rs`, `app/src/apply.rs` | `plan`, `apply` |
//!
//! Paths without `src/` at their beginning are in `crates/`.
//!
//! ## Invariants, each with its enforcer
//!
//! 1. No byte reaches an upstream without a permit: only an `Outbound` is sent, which is made from a `Permit`
//!    with its credential (`proxy::upstream::outbound`); `tests/tidy/proofs.rs` checks that one expression makes each
//!    proof. The dialler of a tunnel is reached only with a `TunnelPermit`.
//! 2. The default is deny: `rules::policy::DefaultAction`.
//! 3. A secret is in no log, audit event, error, admin answer, panic or core dump: `base::secret`,
//!    `tests/tidy/tables.rs` (where it may be exposed), a test secret that every integration test searches for,
//!    `cli::harden`. If an upstream repeats the credential, the agent gets a masked answer: only
//!    `Answer::scrub` makes the `Answer` for the agent; `rules::inject::scrub` says what is not covered.
//! 4. Policy, leaf, dialler, SNI and upstream agree on the host: one `base::host::Target`.
//! 5. The connected address is the checked address: `net::guard::CheckedAddr`. A configured corporate
//!    proxy is the exception: it resolves names, so only literal addresses are checked
//!    (`net::corporate`).
//! 6. A write is durable before it is acknowledged: `state::store` flushes before a `put` returns.
//! 7. Concurrent requests for the same leaf or credential make one: `proxy::ca::cache`, `vault::refresh::flight`.
//! 8. Everything is bounded: `base::limits`.
//! 9. Every exchange leaves exactly one audit event, also when aborted: `proxy::exchange` has a guard
//!    that reserves a place in the log before the exchange begins. Refusals of one agent beyond
//!    `limits.refusal_records_per_minute_max` are counted in one event for each code: `state::observe::refusals`.
//! 10. A request whose connection was used before never waits for the store: `state::directory::View`, `vault` and
//!     `state::rulebook` have its data in memory.
//! 11. Revoking a token, binding, connection or agent ends its open streams: `proxy/src/session/revocation.rs`.
//! 12. A request for one organisation never gets data of another: the org is part of every key and look-up,
//!     and each request of the API has a `Caller` before it is routed, except open paths and sign-ins
//!     (`api/src/auth.rs`, `api/src/network.rs`).

pub mod cli;
