//! [`Refusal`]: every reason for which Keyward answers an exchange itself. `exchange/respond.rs` gives each a
//! status, a code and a message; source errors appear in the log only.

pub mod refusal_format;

use std::sync::Arc;
use std::time::Duration;

use crate::base_url::BaseUrlError;
use crate::body::body_error::ReceiveError;
use crate::limits::meter::Excess;
use keyward_base::codes::Code;
use keyward_base::host::TargetError;
use keyward_base::pattern::PathError;
use keyward_net::client::HandshakeError;
use keyward_net::dial::DialError;
use keyward_rules::inject::scrub;
use keyward_rules::inject::write::WriteError;
use keyward_rules::policy::{NoMethod, Reason, UnclearResource};
use keyward_vault::VaultError;

/// Why Keyward answers an exchange itself. Grouped by who must act.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    // The agent's request.
    #[error("proxy authentication is required")]
    Unauthenticated,
    /// There are credentials, but they prove no agent. The message does not give the reason, which would
    /// show which tokens existed.
    #[error(
        "the agent's token is not accepted: it is unknown, has expired or was revoked, belongs to another name, or its \
         agent is paused"
    )]
    TokenRefused,
    /// The token is of a session that has ended, or whose agent or end user is paused or gone.
    #[error("the session has expired or was ended")]
    SessionEnded,
    /// The listener's agent does not exist or is paused.
    #[error("this listener is agent `{agent}`'s, which is paused or does not exist")]
    ListenerAgentGone { agent: String },
    /// Too many wrong tokens from this address.
    #[error("too many failed authentications from this address")]
    TooManyFailures {
        /// The time until the count is reset.
        retry_after: Duration,
    },
    /// A malformed request, with the fault.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The authority is invalid.
    #[error("{0}")]
    BadTarget(#[from] TargetError),
    /// The path is ambiguous.
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
    TargetTooLong { bytes: usize },
    /// A body that must be buffered and exceeds the limit.
    #[error("the request's body, which is read whole before it is sent, exceeds {bytes} bytes")]
    TooLarge { bytes: usize },
    /// `Expect` with anything but `100-continue`.
    #[error("only the expectation 100-continue is understood")]
    Expectation,
    /// A transfer coding other than `chunked`.
    #[error("only the transfer coding `chunked` is understood")]
    Coding,
    /// `Host`, an inner absolute URI or SNI differ from the CONNECT target.
    #[error("{0} differs from the host of the tunnel")]
    HostMismatch(&'static str),
    /// The agent's stream ended before the request's body did, so the answer is not read.
    #[error("the request ended before its body did")]
    AgentGone,
    /// Google's token endpoint was asked with a placeholder: Keyward answers with one.
    #[error("a placeholder is not sent to a token endpoint")]
    PlaceholderToken,
    /// A base URL that cannot be used.
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    // The owner of rules and connections.
    #[error("refused by policy: {}", .0.code())]
    Policy(Reason),
    /// There is no usable credential.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The credential cannot be written into this request.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The connection has reached its rate or concurrency limit.
    #[error("{}", excess_message(connection, excess))]
    RateLimited {
        connection: Arc<str>,
        /// The limit that is exceeded.
        excess: Excess,
    },
    /// A credential would be sent in cleartext to an address that is not on the private list.
    #[error("a credential is not sent over cleartext to this address")]
    Plaintext,
    /// The request asks for a protocol that the settings do not allow.
    #[error(
        "the request asks to switch to another protocol (`Upgrade`), which is not allowed here"
    )]
    Upgrade,
    // The upstream, or the way to it.
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Tls(#[from] HandshakeError),
    /// An answer that is malformed or that the request did not ask for.
    #[error("the upstream's answer is malformed: {what}")]
    Protocol {
        what: &'static str,
        /// The error of hyper or h2.
        source: Option<ReceiveError>,
    },
    /// An answer that contains the credential, or that cannot be searched for it.
    #[error(transparent)]
    Scrubbed(#[from] scrub::InspectError),
    /// No answer in time.
    #[error("the upstream did not answer in time")]
    AnswerTimeout,
    // The operator.
    /// The process or the agent has used up a resource.
    #[error("{0}")]
    Overloaded(Shortage),
    /// The audit log cannot be written.
    #[error("the audit log cannot be written")]
    AuditUnavailable,
    /// A bug in Keyward.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// A resource that is used up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Shortage {
    /// Streams, or descriptors for them.
    #[error("too many open streams")]
    Streams,
    /// Memory for bodies that are kept whole.
    #[error("too little memory is left for request bodies that a credential goes into")]
    Bodies,
    /// Time to decide a request before the rules change again.
    #[error("the rules change too often to decide the request")]
    Decisions,
}

fn excess_message(connection: &str, excess: &Excess) -> String {
    match excess {
        Excess::Rate { rate, .. } => {
            format!("connection `{connection}` has reached its rate limit of {rate}")
        }
        Excess::Concurrency { max } => {
            format!("connection `{connection}` has {max} concurrent exchanges, which is its limit")
        }
    }
}

impl From<NoMethod> for Refusal {
    fn from(_: NoMethod) -> Self {
        Self::BadRequest("a field or parameter overrides the method with an invalid one")
    }
}

impl From<UnclearResource> for Refusal {
    fn from(_: UnclearResource) -> Self {
        Self::BadRequest(UnclearResource::TEXT)
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::Policy(reason)
    }
}

/// The code of an answer that was cut, or not sent.
pub fn scrub_code(fault: scrub::InspectError) -> Code {
    match fault {
        scrub::InspectError::Echoed => Code::SecretEchoed,
        scrub::InspectError::Unscannable(_) => Code::CodingUnscannable,
        scrub::InspectError::NoMemory => Code::NoDecoder,
    }
}
