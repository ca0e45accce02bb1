//! Bodies of requests and answers as they arrive, and the request body on its way to the upstream. [`ReceiveError`] and
//! [`BodyError`]: why a body ends before its end.

mod copy_writer;
pub mod expect_continue;
pub mod http2_body;
pub mod incoming_body;
pub mod replay;
pub mod request_body;
pub mod transforms;

use h2::Reason;

use crate::h2::described;
use keyward_rules::inject::body::BodyError as FormError;
use keyward_rules::inject::scrub::InspectError;
use keyward_rules::inject::sign::aws_chunks::ChunkError;

/// The sender's stream broke or was reset.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error("{}", described(.0))]
    Http2(h2::Error),
}

impl From<h2::Error> for ReceiveError {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

impl ReceiveError {
    /// The code with which the peer reset its HTTP/2 stream.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(error) => error.reason(),
        }
    }
}

/// Why a body ends early. hyper turns it into an abort of the message.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sender's stream broke.
    #[error("the body was cut")]
    Receive(#[from] ReceiveError),
    /// The upstream answered without the body.
    #[error("the body was not wanted")]
    NotWanted,
    /// The body contains the credential, or cannot be searched for it.
    #[error(transparent)]
    Scrubbed(#[from] InspectError),
    /// The body of a part is longer or shorter than the part.
    #[error("the body is not as long as its part")]
    PartLength,
    /// The agent's body is not in signed chunks, as its head says.
    #[error(transparent)]
    Chunks(#[from] ChunkError),
    /// The agent's body is not a form that the credential can be written into.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The memory for chunks that are signed is used up.
    #[error("no memory is left for the body")]
    NoRoom,
}
