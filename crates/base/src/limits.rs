//! Every bound of the data path in one table. All of them are settings (`limits:` in the
//! configuration); the defaults stand here with their reasons.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::duration;

section! {
    /// The bounds. Sizes in bytes, counts in items, waits as durations.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct Limits {
        /// Request or answer head: more is 431 (requests) or 502 (answers).
        #[key("bytes")]
        pub head_bytes_max: usize,
        /// Fields in a head, of requests and answers.
        #[key("count")]
        pub head_fields_max: usize,
        /// The request target: more is 414.
        #[key("bytes")]
        pub target_bytes_max: usize,
        /// Interim (1xx) answers to one request; more is 502.
        #[key("count")]
        pub interim_answers_max: usize,
        /// From accept to the whole head of a proxy request, and of each inner request once its first
        /// byte has come. Absolute: slow bytes do not extend it.
        #[key("time")]
        #[serde(with = "duration")]
        pub head_timeout: Duration,
        /// A kept-alive stream of an agent without a request.
        #[key("time")]
        #[serde(with = "duration")]
        pub idle_timeout: Duration,
        /// A TLS handshake, of either leg.
        #[key("time")]
        #[serde(with = "duration")]
        pub handshake_timeout: Duration,
        /// Resolving, connecting and TLS towards an upstream, all addresses together.
        #[key("time")]
        #[serde(with = "duration")]
        pub connect_timeout: Duration,
        /// From the whole request sent to the head of its answer.
        #[key("time")]
        #[serde(with = "duration")]
        pub answer_timeout: Duration,
        /// An exchange during which no byte moves on the agent's stream, in either direction.
        #[key("time")]
        #[serde(with = "duration")]
        pub body_idle_timeout: Duration,
        /// A tunnel or WebSocket on which no byte moves in either direction.
        #[key("time")]
        #[serde(with = "duration")]
        pub tunnel_idle_timeout: Duration,
        /// How long a body waits for the upstream's `100 Continue` (RFC 9110 §10.1.1) before it goes.
        #[key("time")]
        #[serde(with = "duration")]
        pub continue_timeout: Duration,
        /// Over HTTP/2: how long the rest of a request's body is read and discarded after an answer that came
        /// before its end (RFC 9113 §8.1). Resetting the exchange at once would cost some clients the answer.
        #[key("time")]
        #[serde(with = "duration")]
        pub discarded_body_timeout: Duration,
        /// How much of such a body is discarded. On one HTTP/2 stream of an agent, eight times as much at once and
        /// this much per second.
        #[key("bytes")]
        pub discarded_body_bytes_max: usize,
        /// Streams of all agents; fewer where the process may not open two files for each of them.
        #[key("count")]
        pub streams_max: usize,
        /// Streams on which no agent has authenticated yet. One more takes the place of the one that
        /// waits longest, of the address that has the most.
        #[key("count")]
        pub unauthenticated_streams_max: usize,
        /// Streams of one agent, which also has no more than it leaves to the others.
        #[key("count")]
        pub streams_per_agent_max: usize,
        /// Exchanges under way at once on one HTTP/2 stream of an agent.
        #[key("count")]
        pub exchanges_per_stream_max: usize,
        /// Handshakes towards agents under way at once, per core.
        #[key("count")]
        pub handshakes_max: usize,
        /// Leaf certificates kept.
        #[key("count")]
        pub leaves_max: usize,
        /// Idle upstream streams kept per pool key and core.
        #[key("count")]
        pub idle_upstreams_per_key_max: usize,
        /// Idle upstream streams kept per core.
        #[key("count")]
        pub idle_upstreams_max: usize,
        /// How long an idle upstream stream is kept.
        #[key("time")]
        #[serde(with = "duration")]
        pub idle_upstream_timeout: Duration,
        /// Addresses of one name that are considered; the rest are ignored.
        #[key("count")]
        pub addresses_max: usize,
        /// Failed authentications from one address within a minute before it gets 429.
        #[key("count")]
        pub auth_failures_per_minute_max: u32,
        /// Audit events that may wait for the writer; exchanges wait for a slot beyond it.
        #[key("count")]
        pub audit_queue_max: usize,
        /// Rules whose hosts cannot be found by hash (none given): they are tried for every host.
        #[key("count")]
        pub hostless_rules_max: usize,
        /// A body of an admin request.
        #[key("bytes")]
        pub admin_body_bytes_max: usize,
        /// A request's body that a credential is written into, and that is therefore kept whole: more
        /// is 413.
        #[key("bytes")]
        pub written_body_bytes_max: usize,
        /// All of those at once, with the buffers that they are in; more is 503. An agent may have one
        /// of any length, and beyond it no more than it leaves to the others.
        #[key("bytes")]
        pub written_body_bytes_total: usize,
        /// What all decoders take together that look into compressed answers for credentials: for one
        /// answer up to 17 MiB, usually much less. Without room, codings are not asked for; a compressed
        /// answer that comes all the same is 502, or cut where it has begun. An agent may have one of any
        /// kind, and beyond it no more than it leaves to the others.
        #[key("bytes")]
        pub decoder_bytes_total: usize,
        /// How long SIGTERM waits for exchanges under way.
        #[key("time")]
        #[serde(with = "duration")]
        pub drain_timeout: Duration,
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
            // Clients that end their upload when they see the answer do so within a round trip.
            discarded_body_timeout: seconds(1),
            // Twice the window of an exchange: what was on its way, and as much again.
            discarded_body_bytes_max: 1024 * 1024,
            streams_max: 16_384,
            unauthenticated_streams_max: 1_024,
            streams_per_agent_max: 8_192,
            exchanges_per_stream_max: 200,
            handshakes_max: 256,
            leaves_max: 4_096,
            idle_upstreams_per_key_max: 64,
            idle_upstreams_max: 1_024,
            idle_upstream_timeout: seconds(60),
            addresses_max: 16,
            auth_failures_per_minute_max: 30,
            audit_queue_max: 8_192,
            hostless_rules_max: 100,
            admin_body_bytes_max: 1024 * 1024,
            // Prompts with pictures are that long.
            written_body_bytes_max: 8 * 1024 * 1024,
            written_body_bytes_total: 128 * 1024 * 1024,
            decoder_bytes_total: 256 * 1024 * 1024,
            drain_timeout: seconds(30),
        }
    }
}
