//! [`TokenSettings`]: settings of the OAuth engine (`oauth:` in the configuration): requests to authorization servers,
//! refresh times, back-off, flows. [`RotationSettings`]: configuration of secret rotation.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::duration;

/// Maximum of `keep_old`. After a longer time, it is unclear which of the two secrets works.
pub const KEEP_OLD_MAX: Duration = Duration::from_secs(30 * 86_400);

section! {
    /// The limits of the OAuth engine. Sizes in bytes, counts in items, waits as durations.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct TokenSettings {
        /// Time for one request to an authorization server, from connecting to the last byte of the response.
        /// Slow bytes do not extend it. When a refresh or the exchange of a code takes longer, requests and browsers
        /// no longer wait for it, but its response is still awaited: see `answer_timeout`.
        #[key("time")]
        #[serde(with = "duration")]
        pub exchange_timeout: Duration,
        /// How long the response to a refresh or to a code is awaited after the request was sent, if longer than
        /// `exchange_timeout`. The refresh token or code may be spent, so it is not sent again earlier.
        #[key("time")]
        #[serde(with = "duration")]
        pub answer_timeout: Duration,
        /// How long a gateway that stops waits for late responses (see `answer_timeout`). `0s`: as long as it waits for
        /// each response, `exchange_timeout` and some seconds for storing it.
        #[key("time")]
        #[serde(with = "duration")]
        pub stop_timeout: Duration,
        /// Time for resolving, connecting and TLS of such a request, for each of its two attempts.
        #[key("time")]
        #[serde(with = "duration")]
        pub connect_timeout: Duration,
        /// Size of a token endpoint's response body. More is an error of that server.
        #[key("bytes")]
        pub reply_bytes_max: usize,
        /// Size of a metadata document, or of the response to a registration.
        #[key("bytes")]
        pub metadata_bytes_max: usize,
        /// Size of the head of an authorization server's response.
        #[key("bytes")]
        pub head_bytes_max: usize,
        /// Size of an access or refresh token.
        #[key("bytes")]
        pub token_bytes_max: usize,
        /// How long an agent's request waits for a refresh. The refresh continues without it.
        #[key("time")]
        #[serde(with = "duration")]
        pub wait_timeout: Duration,
        /// Concurrent refreshes at one authorization server; others are queued.
        #[key("count")]
        pub refreshes_per_server_max: usize,
        /// How long before its expiry an access token is refreshed; at most half its lifetime. An app may
        /// override it.
        #[key("time")]
        #[serde(with = "duration")]
        pub refresh_buffer: Duration,
        /// Refreshes the tokens of unused connections as often as their provider requires (`keep_alive`), so
        /// that their refresh tokens do not expire. Access tokens that only a live one replaces are always
        /// refreshed. An app may override it.
        #[key(one of ["true", "false"], "false")]
        pub keep_alive: bool,
        /// How long one replica may refresh a connection before another takes over; longer than
        /// `exchange_timeout`. Renewed while a response is awaited.
        #[key("time")]
        #[serde(with = "duration")]
        pub lease: Duration,
        /// The pause after the first failed refresh; doubled after each further failure.
        #[key("time")]
        #[serde(with = "duration")]
        pub backoff_first: Duration,
        /// The longest pause after failed refreshes.
        #[key("time")]
        #[serde(with = "duration")]
        pub backoff_max: Duration,
        /// The pause after a server has rejected the client (`client_rejected`). Then the next request triggers
        /// a retry. Doubled after each further rejection.
        #[key("time")]
        #[serde(with = "duration")]
        pub rejected_backoff_first: Duration,
        /// The longest pause after rejections.
        #[key("time")]
        #[serde(with = "duration")]
        pub rejected_backoff_max: Duration,
        /// Random variation of a pause, in percent.
        #[key("percent, 0 to 90")]
        pub backoff_jitter_percent: u32,
        /// The longest pause that a server's `Retry-After` can request.
        #[key("time")]
        #[serde(with = "duration")]
        pub retry_after_max: Duration,
        /// How many equal responses of an unknown kind mark a connection broken, if they span
        /// `unknown_answers_for`.
        #[key("count")]
        pub unknown_answers_max: u32,
        /// See `unknown_answers_max`.
        #[key("time")]
        #[serde(with = "duration")]
        pub unknown_answers_for: Duration,
        /// A connection is reported when its refreshes have failed for this long.
        #[key("time")]
        #[serde(with = "duration")]
        pub alert_after: Duration,
        /// Consecutive failed requests after which a server is not contacted for `circuit_pause`.
        #[key("count")]
        pub circuit_failures_max: u32,
        /// How long such a server is not contacted.
        #[key("time")]
        #[serde(with = "duration")]
        pub circuit_pause: Duration,
        /// How much of a request body is buffered so that the request can be sent again with a new token. For
        /// longer bodies, a 401 is passed on.
        #[key("bytes")]
        pub replay_bytes_max: usize,
        /// Memory for all buffered bodies, buffers included. An agent may have one body of any length; for
        /// more, it may use at most as much as it leaves free for others.
        #[key("bytes")]
        pub replay_bytes_total: usize,
        /// How long a token is new: until then, a request with a 401 is sent again with the same token, after one and after
        /// two seconds, because some services accept a token only a moment after its issue. `0s`: never.
        #[key("time")]
        #[serde(with = "duration")]
        pub fresh_for: Duration,
        /// How long a 401 does not cause a refresh, after a fresh token also got a 401.
        #[key("time")]
        #[serde(with = "duration")]
        pub refusal_pause: Duration,
        /// How long a person has to consent.
        #[key("time")]
        #[serde(with = "duration")]
        pub flow_lifetime: Duration,
        /// Consents that one person may have open at once.
        #[key("count")]
        pub flows_per_person_max: usize,
        /// Interval between polls whether a device code was entered, if the server specifies none.
        #[key("time")]
        #[serde(with = "duration")]
        pub device_interval: Duration,
        /// Time for all calls that revoke one connection's tokens, while a person waits.
        #[key("time")]
        #[serde(with = "duration")]
        pub revoke_timeout: Duration,
        /// How long revocation is retried at a server that is unavailable.
        #[key("time")]
        #[serde(with = "duration")]
        pub revoke_for: Duration,
        /// Time for all requests that ask the provider for the account's identity.
        #[key("time")]
        #[serde(with = "duration")]
        pub account_timeout: Duration,
        /// How long a server's metadata is cached.
        #[key("time")]
        #[serde(with = "duration")]
        pub metadata_age_max: Duration,
        /// For tests only: allows cleartext to authorization servers on this machine.
        #[key(one of ["true", "false"], "false")]
        pub insecure_loopback: bool,
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            exchange_timeout: seconds(15),
            // Longer than gateways in front of servers wait, with time for a retry within `refresh_buffer`.
            answer_timeout: seconds(180),
            stop_timeout: Duration::ZERO,
            connect_timeout: seconds(5),
            reply_bytes_max: 256 * 1024,
            metadata_bytes_max: 1024 * 1024,
            head_bytes_max: 32 * 1024,
            // Tokens of Entra and HubSpot exceed 1 KiB.
            token_bytes_max: 16 * 1024,
            wait_timeout: seconds(20),
            refreshes_per_server_max: 8,
            refresh_buffer: seconds(300),
            // Operators may rely on the expiry of unused access.
            keep_alive: false,
            lease: seconds(30),
            backoff_first: seconds(1),
            backoff_max: seconds(300),
            rejected_backoff_first: seconds(60),
            rejected_backoff_max: seconds(3_600),
            backoff_jitter_percent: 20,
            // A server that asks for a year must not end a connection.
            retry_after_max: seconds(900),
            unknown_answers_max: 5,
            unknown_answers_for: seconds(3_600),
            alert_after: seconds(86_400),
            circuit_failures_max: 5,
            circuit_pause: seconds(10),
            replay_bytes_max: 1024 * 1024,
            replay_bytes_total: 64 * 1024 * 1024,
            fresh_for: seconds(10),
            refusal_pause: seconds(30),
            flow_lifetime: seconds(600),
            flows_per_person_max: 20,
            device_interval: seconds(5),
            revoke_timeout: seconds(5),
            revoke_for: seconds(86_400),
            account_timeout: seconds(10),
            metadata_age_max: seconds(86_400),
            insecure_loopback: false,
        }
    }
}

section! {
    /// How secrets of connections are rotated.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct RotationSettings {
        /// How long the previous secret is kept, sealed, for a rollback; up to 30d. `0s` wipes it at once.
        #[key("time")]
        #[serde(with = "duration")]
        pub keep_old: Duration,
    }
}

impl Default for RotationSettings {
    fn default() -> Self {
        Self { keep_old: Duration::from_secs(86_400) }
    }
}
