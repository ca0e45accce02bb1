//! All limits of the data path in one table. Each is a setting (`limits:` in the configuration); the defaults
//! and their reasons are here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::duration;

section! {
    /// The limits. Sizes in bytes, counts in items, waits as durations.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Limits {
        /// Size of a request or response head. Above it: 431 (requests) or 502 (responses).
        #[key("bytes")]
        pub head_bytes_max: usize,
        /// Fields in the head of a request or response.
        #[key("count")]
        pub head_fields_max: usize,
        /// Size of the request target. Above it: 414.
        #[key("bytes")]
        pub target_bytes_max: usize,
        /// Interim (1xx) responses to one request within 10 seconds, which are passed on. Above it: 502.
        #[key("count")]
        pub interim_answers_max: usize,
        /// Time for the complete head of a proxy request, from accept; and of each inner request, from its
        /// first byte. Slow bytes do not extend it.
        #[key("time")]
        #[serde(with = "duration")]
        pub head_timeout: Duration,
        /// How long a kept-alive stream of an agent may be idle between requests.
        #[key("time")]
        #[serde(with = "duration")]
        pub idle_timeout: Duration,
        /// Time for a TLS handshake, with agents and with upstreams.
        #[key("time")]
        #[serde(with = "duration")]
        pub handshake_timeout: Duration,
        /// Time for resolving, connecting and TLS with an upstream, over all its addresses.
        #[key("time")]
        #[serde(with = "duration")]
        pub connect_timeout: Duration,
        /// Time from the end of the request to the head of its response.
        #[key("time")]
        #[serde(with = "duration")]
        pub answer_timeout: Duration,
        /// How long an exchange may be idle: no byte moves on the agent's stream in either direction.
        #[key("time")]
        #[serde(with = "duration")]
        pub body_idle_timeout: Duration,
        /// How long a tunnel or WebSocket may be idle: no byte moves in either direction.
        #[key("time")]
        #[serde(with = "duration")]
        pub tunnel_idle_timeout: Duration,
        /// How long a body waits for the upstream's `100 Continue` (RFC 9110 §10.1.1) before it is sent.
        #[key("time")]
        #[serde(with = "duration")]
        pub continue_timeout: Duration,
        /// Over HTTP/2: how long the rest of a request's body is read and discarded after an early response
        /// (RFC 9113 §8.1). If the exchange were reset at once, some clients would lose the response. Over HTTP/1.1,
        /// the upstream gets more of the body for as long.
        #[key("time")]
        #[serde(with = "duration")]
        pub discarded_body_timeout: Duration,
        /// How much of such a body is discarded. Per HTTP/2 stream of an agent: eight times as much at once,
        /// and this much per second.
        #[key("bytes")]
        pub discarded_body_bytes_max: usize,
        /// Streams of all agents. The limit is lower if the process may not open two files for each.
        #[key("count")]
        pub streams_max: usize,
        /// Streams on which no agent has authenticated yet. A further stream evicts the oldest one of the
        /// address with the most such streams.
        #[key("count")]
        pub unauthenticated_streams_max: usize,
        /// Streams of one agent. Its concurrent exchanges over HTTP/2 beyond `exchanges_per_stream_max` count as
        /// half a stream each. In addition, an agent may have at most as many as it leaves free for others.
        #[key("count")]
        pub streams_per_agent_max: usize,
        /// Concurrent exchanges on one HTTP/2 stream of an agent.
        #[key("count")]
        pub exchanges_per_stream_max: usize,
        /// Descriptors of one agent, two for each stream and one for each exchange over HTTP/2, up to which its
        /// exchanges with services over HTTP/2 get receive windows of 512 KiB. Those that begin beyond get 64 KiB;
        /// exchanges of an HTTP/1.1 stream begin with it. An agent's HTTP/2 stream has windows of 512 KiB for uploads
        /// if it begins within an eighth of the number.
        #[key("count")]
        pub large_windows_per_agent_max: usize,
        /// Concurrent TLS handshakes with agents, per core.
        #[key("count")]
        pub handshakes_max: usize,
        /// Leaf certificates in the cache.
        #[key("count")]
        pub leaves_max: usize,
        /// Idle upstream streams per pool key and core.
        #[key("count")]
        pub idle_upstreams_per_key_max: usize,
        /// Idle upstream streams per core.
        #[key("count")]
        pub idle_upstreams_max: usize,
        /// How long an idle upstream stream is kept.
        #[key("time")]
        #[serde(with = "duration")]
        pub idle_upstream_timeout: Duration,
        /// Addresses of one name that are used; the rest are ignored.
        #[key("count")]
        pub addresses_max: usize,
        /// Failed authentications from one address per minute, to the proxy and to the API. Above it: 429. A
        /// valid token is always accepted.
        #[key("count")]
        pub auth_failures_per_minute_max: u32,
        /// Requests of one personal access token to the API over the network, per minute. Above it: 429.
        #[key("count")]
        pub api_requests_per_minute_max: u32,
        /// Audit events that wait for the writer. When the queue is full, exchanges wait for a slot.
        #[key("count")]
        pub audit_queue_max: usize,
        /// Refused requests of one agent, per minute, that leave a record each. Above it, those that have sent no credential are
        /// counted in one record for each code. Clients that have not authenticated count as one agent.
        #[key("count")]
        pub refusal_records_per_minute_max: u32,
        /// Rules without hosts; they are evaluated for every host.
        #[key("count")]
        pub hostless_rules_max: usize,
        /// Credentials in memory. Above it, those that were not used lately make room; their next request reads
        /// the store.
        #[key("count")]
        pub cached_credentials_max: usize,
        /// Sessions of one organisation that have not expired. Above it: new ones are refused.
        #[key("count")]
        pub sessions_max: usize,
        /// Connect sessions of one organisation. Above it: ended ones are removed early, then new ones are refused.
        #[key("count")]
        pub connect_sessions_max: usize,
        /// Size of the body of an admin request.
        #[key("bytes")]
        pub admin_body_bytes_max: usize,
        /// Memory for all bodies whose sender has not proved anything yet: webhooks of services before their signature is
        /// verified, and sign-ins. Above it: 429. An address may have one body of any length; for more, it may use at most as
        /// much as it leaves free for others.
        #[key("bytes")]
        pub unproved_body_bytes_total: usize,
        /// Size of a request body that a credential is written into, and that is therefore buffered. Above it:
        /// 413; `multipart/form-data` is sent while it arrives.
        #[key("bytes")]
        pub written_body_bytes_max: usize,
        /// Memory for all such bodies together, buffers included. Above it: 503. An agent may have one body of
        /// any length; for more, it may use at most as much as it leaves free for others.
        #[key("bytes")]
        pub written_body_bytes_total: usize,
        /// Memory for all decoders that check compressed responses for credentials: up to 24 MiB per response,
        /// usually much less. When it is used up, codings are not requested; if a compressed response arrives
        /// nevertheless, it becomes a 502, or is cut if it has begun. An agent may have one decoder of any
        /// size; for more, it may use at most as much as it leaves free for others.
        #[key("bytes")]
        pub decoder_bytes_total: usize,
        /// How long a gateway that got SIGTERM is not ready but still accepts, so that load balancers notice. An
        /// answer then ends its HTTP/1.1 stream.
        #[key("time")]
        #[serde(with = "duration")]
        pub shutdown_delay: Duration,
        /// How long shutdown waits for running exchanges, after `shutdown_delay`.
        #[key("time")]
        #[serde(with = "duration")]
        pub drain_timeout: Duration,
    }
}

/// The flow control window of one exchange over HTTP/2: what the peer may send before it is read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ReceiveWindow {
    /// 10 MiB/s at a round trip of 50 ms.
    Large,
    /// For the further exchanges of an agent that has many: possibly none of them is read.
    Small,
}

impl ReceiveWindow {
    /// Its size. Peers may send 64 KiB until they know our settings (RFC 9113 §6.9.2).
    pub fn bytes(self) -> u32 {
        match self {
            Self::Large => 512 * 1024,
            Self::Small => 64 * 1024,
        }
    }
}

impl Limits {
    /// The window of an exchange that began when its agent had `agent_descriptors`. All that have a large window were
    /// counted when the latest of them began, so there are never more than the limit.
    pub fn exchange_window(&self, agent_descriptors: usize) -> ReceiveWindow {
        match agent_descriptors <= self.large_windows_per_agent_max {
            true => ReceiveWindow::Large,
            false => ReceiveWindow::Small,
        }
    }

    /// The window of each exchange on an agent's HTTP/2 stream that began when the agent had `agent_descriptors`. The
    /// stream has two of them, and room for the windows of `exchanges`.
    pub fn stream_window(&self, agent_descriptors: usize, exchanges: usize) -> ReceiveWindow {
        self.exchange_window(agent_descriptors.saturating_mul(exchanges / 2))
    }
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            head_bytes_max: 64 * 1024,
            head_fields_max: 200,
            target_bytes_max: 16 * 1024,
            interim_answers_max: 16,
            head_timeout: seconds(30),
            idle_timeout: seconds(300),
            handshake_timeout: seconds(15),
            connect_timeout: seconds(15),
            // LLM answers without streaming take minutes to their first byte.
            answer_timeout: seconds(600),
            body_idle_timeout: seconds(900),
            tunnel_idle_timeout: seconds(4 * 3600),
            continue_timeout: seconds(1),
            // Clients that stop their upload after an early response do so within a round trip.
            discarded_body_timeout: seconds(1),
            // Twice the window of an exchange: the data in flight, and as much again.
            discarded_body_bytes_max: 1024 * 1024,
            streams_max: 16_384,
            unauthenticated_streams_max: 1_024,
            streams_per_agent_max: 8_192,
            exchanges_per_stream_max: 200,
            // 256 MiB of answers that the agent does not read.
            large_windows_per_agent_max: 512,
            handshakes_max: 256,
            leaves_max: 4_096,
            idle_upstreams_per_key_max: 64,
            idle_upstreams_max: 1_024,
            idle_upstream_timeout: seconds(60),
            addresses_max: 16,
            auth_failures_per_minute_max: 30,
            // 100 per second: a console and scripts stay far below.
            api_requests_per_minute_max: 6_000,
            audit_queue_max: 8_192,
            // Records of at most 2 KiB: a log of 4 GiB keeps those of others for five days.
            refusal_records_per_minute_max: 300,
            hostless_rules_max: 100,
            // A request whose credential was evicted from the cache reads it from the store.
            cached_credentials_max: 100_000,
            // Each has a row in the store and a part of the policy, both of about 1 KiB.
            sessions_max: 10_000,
            // Each has a row of about 1 KiB, for a day.
            connect_sessions_max: 10_000,
            admin_body_bytes_max: 1024 * 1024,
            // Two webhooks of the largest size that services document.
            unproved_body_bytes_total: 64 * 1024 * 1024,
            // Prompts with images have this size.
            written_body_bytes_max: 8 * 1024 * 1024,
            written_body_bytes_total: 128 * 1024 * 1024,
            decoder_bytes_total: 256 * 1024 * 1024,
            shutdown_delay: Duration::ZERO,
            drain_timeout: seconds(30),
        }
    }
}
