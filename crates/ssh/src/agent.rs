//! Requests to an agent, and its answers. Everything but listing keys, signing and binding a session is refused.

use super::binding::SessionBind;
use super::wire::{MalformedMessage, WireReader, put_string};

/// 64 KiB: a request holds a key of up to 2 KiB and the text to sign, which for a login is shorter.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The extension by which a client proves its SSH session, OpenSSH `PROTOCOL.agent` §1.
const SESSION_BIND: &str = "session-bind@openssh.com";

/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

#[derive(Debug)]
pub enum AgentRequest<'a> {
    /// The public keys are asked for.
    List,
    /// A signature is asked for.
    Sign(SignRequest<'a>),
    /// The client proves its SSH session.
    Bind(SessionBind<'a>),
    /// Another extension.
    OtherExtension,
    /// Adding, removing, locking and the like.
    Other,
}

/// A request for a signature.
#[derive(Clone, Copy, Debug)]
pub struct SignRequest<'a> {
    pub key: &'a [u8],
    /// The text to sign.
    pub data: &'a [u8],
    pub hash: RsaHash,
}

/// The hash of an RSA signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RsaHash {
    /// SHA-1, which is not made.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// A public key and its comment.
#[derive(Clone, Debug)]
pub struct AgentIdentity {
    pub key: Vec<u8>,
    /// For people.
    pub comment: String,
}

impl<'a> AgentRequest<'a> {
    /// Parses a message without its length.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(message: &'a [u8]) -> Result<Self, MalformedMessage> {
        let mut reader = WireReader::new(message);
        match reader.byte()? {
            11 => reader.end().map(|()| Self::List),
            13 => {
                let (key, data) = (reader.string()?, reader.string()?);
                let flags = reader.number()?;
                reader.end()?;
                let hash = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => RsaHash::Sha512,
                    flags if flags & RSA_SHA2_256 != 0 => RsaHash::Sha256,
                    _ => RsaHash::Sha1,
                };
                Ok(Self::Sign(SignRequest { key, data, hash }))
            }
            27 if reader.string()? == SESSION_BIND.as_bytes() => {
                SessionBind::parse(reader).map(Self::Bind)
            }
            27 => Ok(Self::OtherExtension),
            _ => Ok(Self::Other),
        }
    }
}

/// `SSH_AGENT_FAILURE`.
pub fn failure() -> Vec<u8> {
    framed(&[5])
}

/// `SSH_AGENT_SUCCESS`.
pub fn success() -> Vec<u8> {
    framed(&[6])
}

/// `SSH_AGENT_EXTENSION_FAILURE`.
pub fn extension_failure() -> Vec<u8> {
    framed(&[28])
}

/// `SSH_AGENT_IDENTITIES_ANSWER`.
pub fn identities(all: &[AgentIdentity]) -> Vec<u8> {
    let count = u32::try_from(all.len()).expect("an agent has few connections");
    let mut body = vec![12];
    body.extend_from_slice(&count.to_be_bytes());
    for AgentIdentity { key, comment } in all {
        put_string(&mut body, key);
        put_string(&mut body, comment.as_bytes());
    }
    framed(&body)
}

/// `SSH_AGENT_SIGN_RESPONSE`.
pub fn signed(signature: &[u8]) -> Vec<u8> {
    let mut body = vec![14];
    put_string(&mut body, signature);
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 4);
    put_string(&mut out, body);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_that_change_the_agent_are_not_understood() {
        // Add, remove, remove all, smart cards, lock, unlock, constrained, and those of version 1.
        for kind in [1, 3, 9, 17, 18, 19, 20, 21, 22, 23, 25, 26, 200] {
            assert!(matches!(AgentRequest::parse(&[kind]), Ok(AgentRequest::Other)), "{kind}");
        }
        let mut query = vec![27];
        put_string(&mut query, b"query");
        assert!(matches!(AgentRequest::parse(&query), Ok(AgentRequest::OtherExtension)));
    }

    #[test]
    fn a_message_with_bytes_left_over_is_malformed() {
        assert!(AgentRequest::parse(&[]).is_err());
        assert!(AgentRequest::parse(&[11, 0]).is_err());
        let mut sign = vec![13];
        put_string(&mut sign, b"key");
        put_string(&mut sign, b"data");
        sign.extend_from_slice(&[0, 0, 0, 4]);
        assert!(matches!(
            AgentRequest::parse(&sign),
            Ok(AgentRequest::Sign(SignRequest {
                key: b"key",
                data: b"data",
                hash: RsaHash::Sha512
            }))
        ));
        sign.push(0);
        assert!(AgentRequest::parse(&sign).is_err());
    }

    proptest! {
        #[test]
        fn no_message_breaks_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AgentRequest::parse(&bytes);
        }
    }
}
