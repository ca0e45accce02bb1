//! The text that a client has signed to log in at a server, RFC 4252 §7. An agent that signs nothing else cannot be used
//! for files, certificates or other protocols.

use super::wire::{MalformedMessage, WireReader};

/// `SSH_MSG_USERAUTH_REQUEST`.
const USERAUTH_REQUEST: u8 = 50;

/// A login by public key.
#[derive(Clone, Copy, Debug)]
pub struct SshLogin<'a> {
    /// The id of the SSH session.
    pub session: &'a [u8],
    /// The account at the server.
    pub user: &'a str,
    /// The name of the signature algorithm.
    pub algorithm: &'a str,
    pub key: &'a [u8],
    /// The host key, in `publickey-hostbound-v00@openssh.com`.
    pub host_key: Option<&'a [u8]>,
}

impl<'a> SshLogin<'a> {
    /// Parses the text.
    ///
    /// # Errors
    /// When it is anything else than a login by public key.
    pub fn parse(data: &'a [u8]) -> Result<Self, MalformedMessage> {
        let mut reader = WireReader::new(data);
        let session = reader.string()?;
        if session.is_empty() || reader.byte()? != USERAUTH_REQUEST {
            return Err(MalformedMessage);
        }
        let user = reader.text()?;
        let is_connection = reader.string()? == b"ssh-connection";
        let is_bound = match reader.string()? {
            b"publickey" => false,
            b"publickey-hostbound-v00@openssh.com" => true,
            _ => return Err(MalformedMessage),
        };
        let has_signature = reader.byte()? == 1;
        let (algorithm, key) = (reader.text()?, reader.string()?);
        let host_key = if is_bound { Some(reader.string()?) } else { None };
        reader.end()?;
        match is_connection && has_signature {
            true => Ok(Self { session, user, algorithm, key, host_key }),
            false => Err(MalformedMessage),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::put_string;

    /// The text of a login.
    pub(crate) fn text(session: &[u8], user: &str, key: &[u8], host_key: Option<&[u8]>) -> Vec<u8> {
        let method: &[u8] = match host_key {
            None => b"publickey",
            Some(_) => b"publickey-hostbound-v00@openssh.com",
        };
        let mut text = Vec::new();
        put_string(&mut text, session);
        text.push(USERAUTH_REQUEST);
        put_string(&mut text, user.as_bytes());
        put_string(&mut text, b"ssh-connection");
        put_string(&mut text, method);
        text.push(1);
        put_string(&mut text, b"ssh-ed25519");
        put_string(&mut text, key);
        if let Some(host_key) = host_key {
            put_string(&mut text, host_key);
        }
        text
    }

    #[test]
    fn only_a_complete_ssh_user_authentication_is_a_login() {
        let good = text(b"id", "git", b"key", None);
        assert!(
            SshLogin::parse(&good).is_ok_and(|login| login.user == "git" && login.key == b"key")
        );
        // A signature of a file begins with this.
        assert!(SshLogin::parse(b"SSHSIG\0\0\0\x04file").is_err());
        assert!(SshLogin::parse(&text(b"", "git", b"key", None)).is_err());
        for end in 0..good.len() {
            assert!(SshLogin::parse(&good[..end]).is_err(), "{end}");
        }
        let (mut other_message, mut unsigned, mut longer) =
            (good.clone(), good.clone(), good.clone());
        other_message[6] = 51;
        let at = good.len() - (4 + 3) - (4 + 11) - 1;
        unsigned[at] = 0;
        longer.push(0);
        for bad in [other_message, unsigned, longer] {
            assert!(SshLogin::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_bound_login_names_its_host_key() {
        let bound = text(b"id", "git", b"key", Some(b"host"));
        assert_eq!(SshLogin::parse(&bound).expect("a login").host_key, Some(&b"host"[..]));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SshLogin::parse(&bytes);
        }
    }
}
