//! Which SSH session a stream of an agent belongs to, by `session-bind@openssh.com` (OpenSSH `PROTOCOL.agent` §1): the
//! server's host key has signed the session's id. A signature for another session, or for another host key, is refused.

use super::login::SshLogin;
use super::public_key::HostKey;
use super::wire::{MalformedMessage, WireReader};

/// Sessions that one stream may be bound to, as in OpenSSH: one for each host that it is forwarded through.
const BINDINGS_MAX: usize = 16;

/// Bytes of a session's id: the output of a hash.
const SESSION_BYTES_MAX: usize = 128;

/// A proof of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionBind<'a> {
    host_key: &'a [u8],
    session: &'a [u8],
    signature: &'a [u8],
    is_forwarding: bool,
}

/// The sessions of one stream, in the order in which they were proved.
#[derive(Debug, Default)]
pub struct SessionBindings(Vec<Bound>);

#[derive(Debug)]
struct Bound {
    host_key: Vec<u8>,
    session: Vec<u8>,
    is_forwarding: bool,
}

/// The servers of a login, by their host keys.
#[derive(Debug)]
pub struct LoginPath<'a> {
    /// Those that the agent was forwarded through.
    pub through: Vec<&'a [u8]>,
    /// The server that is logged in at.
    pub destination: &'a [u8],
}

/// Why a session is not bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BindError {
    /// The signature is not the host key's, or the host key is of an unknown kind.
    #[error("the host key has not signed the session")]
    Unproved,
    /// The stream belongs to a login already.
    #[error("the stream is bound to another session already")]
    Bound,
    /// The agent is forwarded through too many hosts.
    #[error("the stream is bound to too many sessions")]
    TooMany,
}

/// Why a login is not signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UnboundLogin {
    /// The client is older than OpenSSH 8.9, or was not asked by one.
    #[error("the client has not proved its SSH session")]
    NoBinding,
    /// The login is for another session.
    #[error("the login is for another SSH session")]
    OtherSession,
    /// The login is for another host key.
    #[error("the login is for another host key")]
    OtherHostKey,
    /// The last server only forwards the agent, and must not log in with it.
    #[error("the agent is forwarded, and the next host is not proved")]
    Forwarded,
}

impl<'a> SessionBind<'a> {
    /// The content of the extension.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn parse(mut reader: WireReader<'a>) -> Result<Self, MalformedMessage> {
        let (host_key, session) = (reader.string()?, reader.string()?);
        let signature = reader.string()?;
        let is_forwarding = reader.byte()? != 0;
        reader.end()?;
        match (1..=SESSION_BYTES_MAX).contains(&session.len()) {
            true => Ok(Self { host_key, session, signature, is_forwarding }),
            false => Err(MalformedMessage),
        }
    }
}

impl SessionBindings {
    /// Adds a session.
    ///
    /// # Errors
    /// When it is not proved, or no session may follow.
    pub fn bind(&mut self, proof: &SessionBind<'_>) -> Result<(), BindError> {
        let SessionBind { host_key, session, signature, is_forwarding } = *proof;
        let key = HostKey::parse(host_key).map_err(|MalformedMessage| BindError::Unproved)?;
        if !key.verifies(session, signature) {
            return Err(BindError::Unproved);
        }
        let is_same = |it: &Bound| it.session == session && it.host_key == host_key;
        if self.0.iter().any(|it| is_same(it) && it.is_forwarding == is_forwarding) {
            return Ok(());
        }
        if self.0.iter().any(|it| !it.is_forwarding || it.session == session) {
            return Err(BindError::Bound);
        }
        if self.0.len() == BINDINGS_MAX {
            return Err(BindError::TooMany);
        }
        let (host_key, session) = (host_key.to_vec(), session.to_vec());
        self.0.push(Bound { host_key, session, is_forwarding });
        Ok(())
    }

    /// The servers of a login.
    ///
    /// # Errors
    /// When it does not belong to the last session.
    pub fn path(&self, login: &SshLogin<'_>) -> Result<LoginPath<'_>, UnboundLogin> {
        let (last, before) = self.0.split_last().ok_or(UnboundLogin::NoBinding)?;
        if last.is_forwarding {
            return Err(UnboundLogin::Forwarded);
        }
        if last.session != login.session {
            return Err(UnboundLogin::OtherSession);
        }
        if login.host_key.is_some_and(|key| key != last.host_key) {
            return Err(UnboundLogin::OtherHostKey);
        }
        let through = before.iter().map(|it| &*it.host_key).collect();
        Ok(LoginPath { through, destination: &last.host_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{AgentRequest, RsaHash};
    use crate::login::tests::text;
    use crate::private_key::PrivateKey;
    use crate::private_key::tests::{KEYS, key};
    use crate::wire::put_string;

    fn message(host: &PrivateKey, session: &[u8], signature: &[u8], forwarding: u8) -> Vec<u8> {
        let mut message = vec![27];
        put_string(&mut message, b"session-bind@openssh.com");
        put_string(&mut message, host.public());
        put_string(&mut message, session);
        put_string(&mut message, signature);
        message.push(forwarding);
        message
    }

    fn bind(
        to: &mut SessionBindings,
        host: &PrivateKey,
        session: &[u8],
        forwarding: u8,
    ) -> Result<(), BindError> {
        let signature = host.sign(session, RsaHash::Sha512).expect("a signature");
        let message = message(host, session, &signature, forwarding);
        let Ok(AgentRequest::Bind(proof)) = AgentRequest::parse(&message) else {
            panic!("it is a binding")
        };
        to.bind(&proof)
    }

    fn path(
        of: &SessionBindings,
        session: &[u8],
        host_key: Option<&[u8]>,
    ) -> Result<usize, UnboundLogin> {
        let text = text(session, "git", b"key", host_key);
        let login = SshLogin::parse(&text).expect("a login");
        of.path(&login).map(|path| path.through.len())
    }

    #[test]
    fn a_session_that_the_host_key_has_not_signed_is_not_bound() {
        let [host, other] = [key(KEYS[0]), key(KEYS[1])];
        let signature = other.sign(b"one", RsaHash::Sha512).expect("a signature");
        let elsewhere = host.sign(b"two", RsaHash::Sha512).expect("a signature");
        for bad in [&signature[..], &elsewhere, b"", &[0; 100]] {
            let message = message(&host, b"one", bad, 0);
            let Ok(AgentRequest::Bind(proof)) = AgentRequest::parse(&message) else {
                panic!("it is a binding")
            };
            let mut bindings = SessionBindings::default();
            assert_eq!(bindings.bind(&proof), Err(BindError::Unproved));
            assert_eq!(path(&bindings, b"one", None), Err(UnboundLogin::NoBinding));
        }
    }

    #[test]
    fn a_login_belongs_to_the_bound_session_and_host_key() {
        for text in KEYS {
            let (host, mut bindings) = (key(text), SessionBindings::default());
            assert_eq!(path(&bindings, b"one", None), Err(UnboundLogin::NoBinding));
            assert_eq!(bind(&mut bindings, &host, b"one", 0), Ok(()));
            assert_eq!(path(&bindings, b"two", None), Err(UnboundLogin::OtherSession));
            let other = path(&bindings, b"one", Some(b"other"));
            assert_eq!(other, Err(UnboundLogin::OtherHostKey));
            assert_eq!(path(&bindings, b"one", Some(host.public())), Ok(0));
            assert_eq!(path(&bindings, b"one", None), Ok(0));
            // No other session follows a login; the same one may be proved twice.
            assert_eq!(bind(&mut bindings, &host, b"one", 0), Ok(()));
            assert_eq!(bind(&mut bindings, &host, b"two", 0), Err(BindError::Bound));
        }
    }

    #[test]
    fn a_login_through_a_forwarded_agent_has_the_hosts_before_it_in_its_path() {
        let [first, second] = [key(KEYS[0]), key(KEYS[1])];
        let mut bindings = SessionBindings::default();
        assert_eq!(bind(&mut bindings, &first, b"one", 1), Ok(()));
        assert_eq!(path(&bindings, b"one", None), Err(UnboundLogin::Forwarded));
        assert_eq!(bind(&mut bindings, &second, b"two", 0), Ok(()));
        assert_eq!(path(&bindings, b"one", None), Err(UnboundLogin::OtherSession));
        assert_eq!(path(&bindings, b"two", None), Ok(1));
    }

    #[test]
    fn a_seventeenth_session_binding_is_refused() {
        let (host, mut bindings) = (key(KEYS[0]), SessionBindings::default());
        for number in 0..16_u8 {
            assert_eq!(bind(&mut bindings, &host, &[number], 1), Ok(()));
        }
        assert_eq!(bind(&mut bindings, &host, &[16], 1), Err(BindError::TooMany));
    }
}
