//! Signs requests for services whose secret is never sent. The agent signs with a placeholder. Its signature is
//! read for its parameters and removed, and the request is signed again with the connection's key.

pub mod aws_chunks;
mod aws_ecdsa;
pub(super) mod aws_names;
pub mod aws_request;
mod aws_signature;
pub mod aws_sigv4;
pub mod digest;
mod error;
pub mod hmac;
pub mod jwt;
pub mod message;
pub mod oauth1;
pub mod request_signer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::error::SignError;

use self::aws_sigv4::AwsKeys;
use self::digest::DigestSigner;
use self::request_signer::RequestSigner;

/// What signs a connection's requests.
#[derive(Clone, Debug)]
pub enum CredentialSigner {
    /// AWS Signature Version 4, and 4A.
    AwsSigV4(Arc<AwsKeys>),
    /// Answers to challenges.
    Digest(Arc<DigestSigner>),
    /// A scheme of the provider's file.
    Request(Arc<RequestSigner>),
}
