//! [`TokenSettings`]: every number of the OAuth engine in one table, each a setting of `oauth:` in the
//! configuration. Requests to authorization servers, when and how tokens are refreshed, back-off, flows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::section;
use super::time::duration;

section! {
    /// The numbers of the OAuth engine. Sizes in bytes, counts in items, waits as durations.
    #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
    #[serde(default, deny_unknown_fields)]
    pub struct TokenSettings {
        /// One request to an authorization server, from connecting to the last byte of its answer. Absolute:
        /// slow bytes do not extend it. A refresh that takes longer holds nobody up any more, and its answer is
        /// awaited on: see `answer_timeout`.
        #[key("time")]
        #[serde(with = "duration")]
        pub exchange_timeout: Duration,
        /// How long the answer to a refresh is awaited once the request has been sent, where that is longer than
        /// `exchange_timeout`. The refresh token may be spent, so it is not sent again before.
        #[key("time")]
        #[serde(with = "duration")]
        pub answer_timeout: Duration,
        /// Resolving, connecting and TLS of such a request, of each of its two attempts.
        #[key("time")]
        #[serde(with = "duration")]
        pub connect_timeout: Duration,
        /// The body of a token endpoint's answer: more is a failure of that server.
        #[key("bytes")]
        pub reply_bytes_max: usize,
        /// A document of metadata, or the answer to a registration.
        #[key("bytes")]
        pub metadata_bytes_max: usize,
        /// The head of an authorization server's answer.
        #[key("bytes")]
        pub head_bytes_max: usize,
        /// An access or refresh token.
        #[key("bytes")]
        pub token_bytes_max: usize,
        /// How long a request of an agent waits for a refresh, which goes on without it.
        #[key("time")]
        #[serde(with = "duration")]
        pub wait_timeout: Duration,
        /// Refreshes under way at once at one authorization server; others queue.
        #[key("count")]
        pub refreshes_per_server_max: usize,
        /// How long before its end an access token is refreshed; half its life, when that is less. An app
        /// may say otherwise.
        #[key("time")]
        #[serde(with = "duration")]
        pub refresh_buffer: Duration,
        /// Refreshes tokens of connections that nobody uses as often as their provider wants it
        /// (`keep_alive`), before their refresh token dies of disuse. An app may say otherwise.
        #[key(one of ["true", "false"], "false")]
        pub keep_alive: bool,
        /// How long one replica may refresh a connection before another takes over; longer than
        /// `exchange_timeout`. Renewed while an answer is awaited.
        #[key("time")]
        #[serde(with = "duration")]
        pub lease: Duration,
        /// The pause after a first failed refresh, doubled by each further one.
        #[key("time")]
        #[serde(with = "duration")]
        pub backoff_first: Duration,
        /// The longest such pause.
        #[key("time")]
        #[serde(with = "duration")]
        pub backoff_max: Duration,
        /// How long a client that its server refused (`client_rejected`) is left alone before it is tried again,
        /// when a request wants it; doubled each time that it is refused again.
        #[key("time")]
        #[serde(with = "duration")]
        pub rejected_backoff_first: Duration,
        /// The longest such pause.
        #[key("time")]
        #[serde(with = "duration")]
        pub rejected_backoff_max: Duration,
        /// How far a pause is off, at random, in percent.
        #[key("percent, 0 to 90")]
        pub backoff_jitter_percent: u32,
        /// The longest pause that a server's `Retry-After` may ask for.
        #[key("time")]
        #[serde(with = "duration")]
        pub retry_after_max: Duration,
        /// How many equal answers of a kind nobody knows break a connection, when they span
        /// `unknown_answers_for`.
        #[key("count")]
        pub unknown_answers_max: u32,
        /// See `unknown_answers_max`.
        #[key("time")]
        #[serde(with = "duration")]
        pub unknown_answers_for: Duration,
        /// A connection whose refreshes have failed for so long is reported.
        #[key("time")]
        #[serde(with = "duration")]
        pub alert_after: Duration,
        /// Failed requests in a row after which a server is left alone for a while.
        #[key("count")]
        pub circuit_failures_max: u32,
        /// For how long.
        #[key("time")]
        #[serde(with = "duration")]
        pub circuit_pause: Duration,
        /// What is kept of a request's body for sending it again with a new token. Beyond it a 401 is
        /// passed on.
        #[key("bytes")]
        pub replay_bytes_max: usize,
        /// What all kept bodies take together, with the buffers that they are in. An agent may have one
        /// of any length, and beyond it no more than it leaves to the others.
        #[key("bytes")]
        pub replay_bytes_total: usize,
        /// How long a 401 is no reason to refresh, after one that a fresh token got too.
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
        /// Between two questions whether a device's code was entered, where the server does not say.
        #[key("time")]
        #[serde(with = "duration")]
        pub device_interval: Duration,
        /// All calls that revoke one connection's tokens, while a person waits.
        #[key("time")]
        #[serde(with = "duration")]
        pub revoke_timeout: Duration,
        /// How long revoking is tried again at a server that is down.
        #[key("time")]
        #[serde(with = "duration")]
        pub revoke_for: Duration,
        /// How long the provider is asked whose account was consented to, in all.
        #[key("time")]
        #[serde(with = "duration")]
        pub account_timeout: Duration,
        /// How long a server's metadata is used before it is read again.
        #[key("time")]
        #[serde(with = "duration")]
        pub metadata_age_max: Duration,
        /// For tests only: authorization servers on this machine may be asked in cleartext.
        #[key(one of ["true", "false"], "false")]
        pub insecure_loopback: bool,
    }
}

impl Default for TokenSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            exchange_timeout: seconds(15),
            // Longer than gateways before servers wait, and once more within `refresh_buffer`.
            answer_timeout: seconds(180),
            connect_timeout: seconds(5),
            reply_bytes_max: 256 * 1024,
            metadata_bytes_max: 1024 * 1024,
            head_bytes_max: 32 * 1024,
            // Those of Entra and HubSpot exceed 1 KiB.
            token_bytes_max: 16 * 1024,
            wait_timeout: seconds(20),
            refreshes_per_server_max: 8,
            refresh_buffer: seconds(300),
            // Somebody may count on unused access ending by itself.
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
