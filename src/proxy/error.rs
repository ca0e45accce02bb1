//! [`Refusal`]: every way in which Keyward answers an exchange itself. `respond.rs` gives each its
//! status, code and words; sources go to the log only.

use std::sync::Arc;
use std::time::Duration;

use super::arriving::Cut;
use super::base_url::Fault;
use super::meter::Excess;
use crate::base::host::TargetError;
use crate::base::pattern::PathError;
use crate::inject::scrub;
use crate::inject::write::WriteError;
use crate::net::client::HandshakeError;
use crate::net::dial::DialError;
use crate::policy::{NoMethod, Reason};
use crate::vault::VaultError;

/// Why an exchange ends with an answer of ours. Grouped by who must act.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    // The agent's request.
    /// No right token.
    #[error("proxy authentication is required")]
    Unauthenticated,
    /// The agent that the listener belongs to is not there, or paused.
    #[error("this listener is agent `{agent}`'s, which is paused or does not exist")]
    OwnerGone {
        /// Its name.
        agent: String,
    },
    /// Too many wrong tokens from this address.
    #[error("too many failed authentications from this address")]
    Guessing {
        /// When the count starts anew.
        retry_after: Duration,
    },
    /// A malformed request, named.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The authority is none.
    #[error("{0}")]
    BadTarget(#[from] TargetError),
    /// The path has two readings.
    #[error("{0}")]
    BadPath(#[from] PathError),
    /// A head beyond the limits.
    #[error("the request head exceeds {limit}")]
    HeadersTooLarge {
        /// The limit that it exceeds.
        limit: String,
    },
    /// A target beyond the limit.
    #[error("the request target exceeds {bytes} bytes")]
    TargetTooLong {
        /// The limit.
        bytes: usize,
    },
    /// A body that would have to be kept whole, beyond the limit.
    #[error("the request's body, which a credential goes into, exceeds {bytes} bytes")]
    TooLarge {
        /// The limit.
        bytes: usize,
    },
    /// `Expect` with anything but `100-continue`.
    #[error("only the expectation 100-continue is understood")]
    Expectation,
    /// A transfer coding other than `chunked`.
    #[error("only the transfer coding `chunked` is understood")]
    Coding,
    /// `Host`, an inner absolute URI or SNI differ from the CONNECT target.
    #[error("{0} differs from the host of the tunnel")]
    HostMismatch(&'static str),
    /// Its stream ended before its body did: nobody reads the answer.
    #[error("the request ended before its body did")]
    AgentGone,
    /// A base URL that cannot be used.
    #[error(transparent)]
    BaseUrl(#[from] Fault),
    // The owner of rules and connections.
    /// Policy refuses.
    #[error("refused by policy: {}", .0.code())]
    Policy(Reason),
    /// There is no usable credential.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The credential cannot be written into this request.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The connection has as many requests or exchanges as it may.
    #[error("{}", excess_message(connection, excess))]
    RateLimited {
        /// The connection's name.
        connection: Arc<str>,
        /// What there is too much of.
        excess: Excess,
    },
    /// A credential would go over cleartext to an address that is not on the private list.
    #[error("a credential is not sent over cleartext to this address")]
    Plaintext,
    // The upstream, or the way to it.
    /// No stream.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No verified TLS.
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    /// An answer that is none, or none that was asked for.
    #[error("the upstream's answer is malformed: {what}")]
    Protocol {
        /// What is wrong with it.
        what: &'static str,
        /// What hyper or h2 said.
        source: Option<Cut>,
    },
    /// An answer that repeats the credential, or that cannot be searched for it.
    #[error(transparent)]
    Scrubbed(#[from] scrub::Fault),
    /// No answer in time.
    #[error("the upstream did not answer in time")]
    AnswerTimeout,
    // The operator.
    /// Too many streams.
    #[error("too many open streams")]
    Overloaded,
    /// The audit log cannot be written.
    #[error("the audit log cannot be written")]
    AuditUnavailable,
    /// A bug or a fault of ours.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

fn excess_message(connection: &str, excess: &Excess) -> String {
    match excess {
        Excess::Rate { rate, .. } => {
            format!("connection `{connection}` has sent its {rate} requests")
        }
        Excess::Concurrency { max } => format!(
            "connection `{connection}` has {max} exchanges under way, which is as many as it may"
        ),
    }
}

impl From<NoMethod> for Refusal {
    fn from(_: NoMethod) -> Self {
        Self::BadRequest("a field that overrides the method names none")
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Policy(reason)
    }
}
