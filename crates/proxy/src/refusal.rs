//! [`Refusal`]: every reason for which Keyward answers an exchange itself. `exchange/respond.rs` gives each a
//! status, a code and a message; source errors appear in the log only. [`RefusalFormat`]: a gRPC call gets a gRPC status and
//! message, which every client library shows, and git gets text.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::base_url::BaseUrlError;
use crate::body::ReceiveError;
use crate::limits::meter::Excess;
use keyward_base::codes::Code;
use keyward_base::host::TargetError;
use keyward_base::pattern::PathError;
use keyward_net::client::HandshakeError;
use keyward_net::dial::DialError;
use keyward_rules::inject::names::parameters;
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
    /// The request of a program that is only examined: Keyward answers it.
    #[error("the program is only examined")]
    Probed,
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

/// The format in which a refusal is sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RefusalFormat {
    /// An HTTP status and a JSON body.
    #[default]
    Http,
    /// Status 200 without a body; the gRPC status is in the head ("Trailers-Only" of
    /// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
    Grpc,
    /// An HTTP status and plain text: git shows its user no other type.
    Text,
}

/// The media type of gRPC calls. A suffix names the encoding of messages.
const MEDIA_TYPE: &str = "application/grpc";

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// ASCII characters that are percent-encoded in `grpc-message`; all others are encoded too.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

impl RefusalFormat {
    pub fn of<B>(request: &Request<B>) -> Self {
        let is_git = |query| parameters(query).any(|it| it.0 == "service" && is_git_service(it.1));
        match request.uri().path().ends_with("/info/refs") {
            true if request.uri().query().is_some_and(is_git) => Self::Text,
            _ => Self::of_call(request.headers()),
        }
    }

    /// The format for a request with these fields. gRPC-Web gets HTTP: its clients are browsers, which derive a
    /// gRPC status from the HTTP status.
    fn of_call(fields: &HeaderMap) -> Self {
        let Some(value) = fields.get(header::CONTENT_TYPE) else { return Self::Http };
        let bytes = value.as_bytes();
        let is_grpc = bytes.split_at_checked(MEDIA_TYPE.len()).is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
                && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        });
        if is_grpc { Self::Grpc } else { Self::Http }
    }
}

/// The first request of every fetch and push, gitprotocol-http(5). git shows the text of no other one's refusal.
fn is_git_service(value: &str) -> bool {
    value.starts_with("git-")
}

/// Sets the fields that turn an answer with status 200 into a refused call. `status` is the HTTP status of the
/// refusal, `words` its message in ASCII.
pub fn trailers_only(fields: &mut HeaderMap, status: u16, words: &str) {
    let encoded = utf8_percent_encode(words, ENCODED).to_string();
    let message = HeaderValue::try_from(encoded).expect("what is not visible ASCII is encoded");
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    fields.insert(GRPC_STATUS.clone(), HeaderValue::from(code(status)));
    fields.insert(GRPC_MESSAGE.clone(), message);
}

/// Maps the HTTP status of a refusal to a gRPC status. 429 is never a failed authentication here, because that
/// happens before a call begins.
fn code(status: u16) -> u16 {
    match status {
        400 | 417 | 421 => 3,       // INVALID_ARGUMENT
        504 => 4,                   // DEADLINE_EXCEEDED
        403 => 7,                   // PERMISSION_DENIED
        413 | 414 | 429 | 431 => 8, // RESOURCE_EXHAUSTED
        424 => 9,                   // FAILED_PRECONDITION
        405 | 501 => 12,            // UNIMPLEMENTED
        500 => 13,                  // INTERNAL
        502 | 503 => 14,            // UNAVAILABLE
        407 => 16,                  // UNAUTHENTICATED
        _ => 2,                     // UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialect(content_type: &str) -> RefusalFormat {
        let mut fields = HeaderMap::new();
        fields.insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
        RefusalFormat::of_call(&fields)
    }

    #[test]
    fn only_the_first_request_of_git_is_answered_in_text() {
        let format = |uri: &str| RefusalFormat::of(&Request::get(uri).body(()).expect("a request"));
        for other in [
            "https://git.test/o/r/info/refs",
            "https://git.test/o/r/info/refs?service=other",
            "https://git.test/o/r?service=git-upload-pack",
        ] {
            assert_eq!(format(other), RefusalFormat::Http, "{other}");
        }
        let first = "https://git.test/o/r/info/refs?service=git-receive-pack";
        assert_eq!(format(first), RefusalFormat::Text);
    }

    #[test]
    fn only_grpc_media_types_get_a_refusal_in_grpc_format() {
        let others = [
            "",
            "application/json",
            "application/grp",
            "application/grpc-web",
            "grpc",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpcx",
        ];
        for other in others {
            assert_eq!(dialect(other), RefusalFormat::Http, "{other}");
        }
        assert_eq!(RefusalFormat::of_call(&HeaderMap::new()), RefusalFormat::Http);
        let calls = [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "Application/GRPC",
            "application/grpc;charset=utf-8",
            "application/grpc ; a=b",
        ];
        for call in calls {
            assert_eq!(dialect(call), RefusalFormat::Grpc, "{call}");
        }
    }

    #[test]
    fn a_grpc_refusal_has_a_percent_encoded_message_and_the_grpc_status() {
        let mut fields = HeaderMap::new();
        trailers_only(&mut fields, 403, "100 % of “a”\r\nb: \u{7f}ä");
        let encoded = "100 %25 of %E2%80%9Ca%E2%80%9D%0D%0Ab: %7F%C3%A4";
        assert_eq!(fields["grpc-message"], encoded);
        assert_eq!(fields["grpc-status"], "7");
        assert_eq!(fields["content-type"], "application/grpc");
    }

    proptest! {
        #[test]
        fn every_grpc_message_is_a_valid_field_value_that_decodes_to_the_same_text(words in ".*") {
            let mut fields = HeaderMap::new();
            trailers_only(&mut fields, 500, &words);
            let value = fields["grpc-message"].as_bytes();
            prop_assert!(value.iter().all(|byte| (0x20..0x7f).contains(byte)));
            let decoded = percent_encoding::percent_decode(value).decode_utf8_lossy();
            prop_assert_eq!(decoded, words);
        }
    }
}
