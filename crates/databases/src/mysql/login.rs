//! The login at a server with a connection's credential: `caching_sha2_password` and `mysql_native_password`, as the server asks.
//! The password itself goes over verified TLS, or encrypted to the key that a server without TLS sends.

use std::io;

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::client::{NONCE_BYTES, PLUGIN};
use super::login_key::{combined, encrypt};
use super::packet::{
    CONNECT_ATTRIBUTES, CONNECT_WITH_DB, DEPRECATE_EOF, ERROR, LONG_PASSWORD, MORE_DATA,
    MULTI_RESULTS, OF_MARIADB, OK, PLUGIN_AUTH, PROTOCOL_41, Parts, SECURE_CONNECTION,
    SESSION_TRACK, SWITCH, Sequence, TLS, TRANSACTIONS, capabilities, halves, put_length_encoded,
};
use super::{login_key, statements};
use crate::login::{ServerError, in_time, incomplete, password_of, user_of, words_of_server};
use crate::refused::Refused;
use crate::rules::{Dialect, EnforcedSettings};
use crate::upstream::Upstream;
use keyward_base::codes::Code;
use keyward_base::database::{DatabaseProtocol, StreamSecurity};
use keyward_base::secret::Secret;
use keyward_proxy::{CheckedUpstream, Gateway, ServiceExchange};
use keyward_rules::policy::PermittedLogin;

/// Capabilities of every server since 2010.
const REQUIRED: u64 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;

/// Capabilities that change the bytes of a session. The server must support them if Keyward has offered them to the
/// client.
const MUST_AGREE: u64 = SESSION_TRACK | DEPRECATE_EOF | OF_MARIADB;

/// Packets of a server during the login. Servers send up to five.
const PACKETS_MAX: usize = 16;

const NATIVE: &[u8] = b"mysql_native_password";
const CLEAR: &[u8] = b"mysql_clear_password";
const ED25519: &[u8] = b"client_ed25519";
/// The length of the challenge of `client_ed25519`.
const ED25519_NONCE_BYTES: usize = 32;
const SHA256_PASSWORD: &[u8] = b"sha256_password";

/// Errors of servers about the user or the password: `ER_DBACCESS_DENIED_ERROR`, `ER_ACCESS_DENIED_ERROR`,
/// `ER_ACCESS_DENIED_NO_PASSWORD_ERROR`, and expired passwords and locked accounts.
const REJECTIONS: [u16; 6] = [1045, 1698, 1820, 1862, 3118, 4151];

/// The properties of the session that were agreed with the client.
#[derive(Clone, Debug)]
pub struct NegotiatedOptions {
    pub flags: u64,
    pub charset: u8,
    pub packet_bytes_max: u32,
    /// The name for the server's own lists.
    pub program: String,
}

impl NegotiatedOptions {
    /// Those of a session in which only Keyward asks.
    pub fn of_keyward() -> Self {
        Self {
            flags: PROTOCOL_41 | SECURE_CONNECTION | TRANSACTIONS | MULTI_RESULTS,
            charset: 45,
            packet_bytes_max: 1 << 24,
            program: "keyward".to_owned(),
        }
    }
}

/// A login at the server of a permit.
pub struct MysqlLogin {
    permitted: PermittedLogin,
    user: String,
    password: Secret,
    agreed: NegotiatedOptions,
    /// `None`: every statement may be sent.
    kept: Option<EnforcedSettings>,
}

/// A session that the server has opened.
pub struct LoggedIn {
    pub upstream: Upstream,
    /// The server's last packet, which the client gets.
    pub welcome: Vec<u8>,
    /// The server's number of the session.
    pub thread: u32,
}

#[derive(Debug)]
pub struct ServerGreeting {
    thread: u32,
    flags: u64,
    nonce: Vec<u8>,
    plugin: Vec<u8>,
}

impl MysqlLogin {
    /// The permitted login.
    ///
    /// # Errors
    /// When the credential has no user or password.
    pub fn new(permitted: PermittedLogin, agreed: NegotiatedOptions) -> Result<Self, Refused> {
        let user = user_of(&permitted).ok_or_else(incomplete)?.to_owned();
        let password = password_of(&permitted)?;
        let kept = EnforcedSettings::of(permitted.permit(), Dialect::Mysql);
        Ok(Self { permitted, user, password, agreed, kept })
    }

    /// Dials the server and logs in.
    ///
    /// # Errors
    /// When the server cannot be reached, does not prove its name, or refuses.
    pub async fn run(&self, exchange: &mut ServiceExchange) -> Result<LoggedIn, Refused> {
        exchange.set_role(&self.user);
        let (gateway, permit) = (exchange.begin_attempt(), self.permitted.permit());
        let dialled = ServiceExchange::dial(&gateway, permit).await;
        let mut stream = dialled.map_err(|failed| exchange.refused_attempt(&failed))?;
        let mut sequence = Sequence::default();
        let greeting = in_time(exchange, self.begin(&mut stream, &mut sequence)).await?;
        if self.wants_tls() && greeting.flags & TLS == 0 {
            let text = Code::UpstreamTls.because("the database server offers no TLS");
            let hint = "switch TLS on at the server, or set `sslmode: disable`";
            return Err(Refused::Keyward(text.hint(hint)));
        }
        let secured = Upstream::secured(&gateway, stream, permit).await;
        let mut upstream = secured.map_err(|failed| exchange.refused_attempt(&failed))?;
        let (verified, thread) = (upstream.is_verified(), greeting.thread);
        let opened = async {
            let welcome = self.prove(&mut upstream, &mut sequence, greeting, verified).await?;
            if let Some(kept) = &self.kept {
                statements::begin(&mut upstream, self.agreed.flags, kept.read_only).await?;
            }
            Ok(welcome)
        };
        let welcome = in_time(exchange, opened).await?;
        Ok(LoggedIn { upstream, welcome, thread })
    }

    /// Logs in again, for questions of Keyward's own. `None`: the server cannot be reached, does not prove its name, or refuses.
    pub(super) async fn again(&mut self, gateway: &Gateway) -> Option<Upstream> {
        self.agreed = NegotiatedOptions::of_keyward();
        let permit = self.permitted.permit();
        let mut stream = ServiceExchange::dial(gateway, permit).await.ok()?;
        let mut sequence = Sequence::default();
        let greeting = self.begin(&mut stream, &mut sequence).await.ok()?;
        let mut upstream = Upstream::secured(gateway, stream, permit).await.ok()?;
        let verified = upstream.is_verified();
        self.prove(&mut upstream, &mut sequence, greeting, verified).await.ok()?;
        Some(upstream)
    }

    fn wants_tls(&self) -> bool {
        self.permitted.permit().endpoint().security == StreamSecurity::VerifiedTls
    }

    /// Reads the greeting, and asks for TLS. Nothing else is sent before it.
    async fn begin(
        &self,
        stream: &mut CheckedUpstream,
        sequence: &mut Sequence,
    ) -> Result<ServerGreeting, ServerError> {
        let greeting = self.greeting(stream, sequence).await?;
        if self.wants_tls() && greeting.flags & TLS != 0 {
            let request = self.response_head(&greeting, TLS);
            sequence.write(stream, &request).await?;
        }
        Ok(greeting)
    }

    pub(super) async fn greeting<S>(
        &self,
        stream: &mut S,
        sequence: &mut Sequence,
    ) -> Result<ServerGreeting, ServerError>
    where
        S: AsyncRead + Unpin,
    {
        let payload = read(stream, sequence).await?;
        if payload.first() == Some(&ERROR) {
            return Err(self.refused(&payload));
        }
        let greeting = ServerGreeting::parse(&payload).ok_or(PROTOCOL)?;
        let missing = (REQUIRED | (self.agreed.flags & MUST_AGREE)) & !greeting.flags;
        let method = match missing {
            0 => return Ok(greeting),
            _ if missing & OF_MARIADB != 0 => {
                "another protocol than that of MariaDB 10.5, which the listener's server_version names"
            }
            _ => "a version of the protocol that is too old",
        };
        Err(ServerError::Unsupported { method })
    }

    /// Logs in, and answers what the server asks for until it says `OK`.
    pub(super) async fn prove<S>(
        &self,
        stream: &mut S,
        sequence: &mut Sequence,
        greeting: ServerGreeting,
        verified: bool,
    ) -> Result<Vec<u8>, ServerError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ServerGreeting { mut nonce, mut plugin, .. } =
            self.respond(stream, sequence, greeting).await?;
        let mut wants_key = false;
        for _ in 0..PACKETS_MAX {
            let payload = read(stream, sequence).await?;
            match payload.split_first() {
                Some((&OK, _)) => return Ok(payload.to_vec()),
                Some((&ERROR, _)) => return Err(self.refused(&payload)),
                Some((&SWITCH, rest)) => {
                    let mut parts = Parts(rest);
                    plugin = parts.until_nul().ok_or(PROTOCOL)?.to_vec();
                    nonce = challenge(&plugin, parts.0).to_vec();
                    let answer = self.answer(&plugin, &nonce, verified)?;
                    sequence.write(stream, &answer).await?;
                }
                Some((&MORE_DATA, [3])) if plugin == PLUGIN => {}
                Some((&MORE_DATA, [4])) if plugin == PLUGIN && verified => {
                    sequence.write(stream, &self.cleartext()).await?;
                }
                Some((&MORE_DATA, [4])) if plugin == PLUGIN && !wants_key => {
                    wants_key = true;
                    sequence.write(stream, &[2]).await?;
                }
                Some((&MORE_DATA, pem)) if wants_key => {
                    let text = combined(self.password.expose(), &nonce);
                    let encrypted = encrypt(pem, &text).ok_or(PROTOCOL)?;
                    sequence.write(stream, &encrypted).await?;
                }
                _ => return Err(PROTOCOL),
            }
        }
        Err(PROTOCOL)
    }

    /// Sends `HandshakeResponse41`, with the answer to the greeting's challenge if that is a challenge.
    async fn respond<S>(
        &self,
        stream: &mut S,
        sequence: &mut Sequence,
        mut greeting: ServerGreeting,
    ) -> Result<ServerGreeting, ServerError>
    where
        S: AsyncWrite + Unpin,
    {
        // Servers name the plugin of most users; for a user with another one, they switch.
        if greeting.plugin != PLUGIN {
            greeting.plugin = NATIVE.to_vec();
        }
        let tls = if self.wants_tls() { TLS } else { 0 };
        let mut payload = self.response_head(&greeting, tls);
        payload.extend(self.user.as_bytes());
        payload.push(0);
        put_length_encoded(&self.answer(&greeting.plugin, &greeting.nonce, false)?, &mut payload);
        payload.extend(self.permitted.permit().endpoint().database.as_bytes());
        payload.push(0);
        payload.extend(&greeting.plugin);
        payload.push(0);
        if greeting.flags & CONNECT_ATTRIBUTES != 0 {
            let mut attributes = Vec::new();
            put_length_encoded(b"program_name", &mut attributes);
            put_length_encoded(
                &self.agreed.program.as_bytes()[..self.agreed.program.len().min(100)],
                &mut attributes,
            );
            put_length_encoded(&attributes, &mut payload);
        }
        sequence.write(stream, &payload).await?;
        Ok(greeting)
    }

    /// What a request for TLS and a response begin with.
    fn response_head(&self, greeting: &ServerGreeting, tls: u64) -> Vec<u8> {
        let flags = self.agreed.flags | REQUIRED | CONNECT_WITH_DB | tls;
        let flags = flags | (greeting.flags & CONNECT_ATTRIBUTES);
        let [usual, extensions] = halves(match flags & OF_MARIADB {
            0 => flags | LONG_PASSWORD,
            _ => flags,
        });
        let mut payload = usual.to_vec();
        payload.extend(self.agreed.packet_bytes_max.to_le_bytes());
        payload.push(self.agreed.charset);
        payload.extend([0; 19]);
        payload.extend(extensions);
        payload
    }

    /// The answer to a plugin's challenge.
    fn answer(
        &self,
        plugin: &[u8],
        nonce: &[u8],
        verified: bool,
    ) -> Result<Zeroizing<Vec<u8>>, ServerError> {
        let password = self.password.expose();
        if password.is_empty() {
            return Ok(Zeroizing::default());
        }
        let is_challenge = plugin == NATIVE || plugin == PLUGIN;
        if is_challenge && nonce.len() != NONCE_BYTES {
            return Err(PROTOCOL);
        }
        match plugin {
            // SHA1(password) XOR SHA1(nonce, SHA1(SHA1(password)))
            NATIVE => {
                let once = hashed(&SHA1_FOR_LEGACY_USE_ONLY, &[password]);
                let twice = hashed(&SHA1_FOR_LEGACY_USE_ONLY, &[&once]);
                Ok(xor(once, &hashed(&SHA1_FOR_LEGACY_USE_ONLY, &[nonce, &twice])))
            }
            // SHA256(password) XOR SHA256(SHA256(SHA256(password)), nonce)
            PLUGIN => {
                let once = hashed(&SHA256, &[password]);
                let twice = hashed(&SHA256, &[&once]);
                Ok(xor(once, &hashed(&SHA256, &[&twice, nonce])))
            }
            CLEAR | SHA256_PASSWORD if verified => Ok(self.cleartext()),
            CLEAR | SHA256_PASSWORD => {
                Err(ServerError::Weak { method: "the password in cleartext" })
            }
            ED25519 => Ok(login_key::ed25519_answer(password, nonce)),
            b"parsec" => Err(ServerError::Unsupported { method: "PARSEC" }),
            _ => Err(ServerError::Unsupported { method: "a plugin" }),
        }
    }

    fn cleartext(&self) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(self.password.expose().len() + 1));
        text.extend(self.password.expose());
        text.push(0);
        text
    }

    /// The server's own words, unless they repeat the password.
    fn refused(&self, payload: &[u8]) -> ServerError {
        let mut parts = Parts(payload.get(1..).unwrap_or_default());
        let Some(number) = parts.u16() else { return PROTOCOL };
        let words = match parts.0 {
            [b'#', _, _, _, _, _, words @ ..] | words => String::from_utf8_lossy(words),
        };
        ServerError::Refused {
            rejects_login: REJECTIONS.contains(&number),
            message: words_of_server(&words, &self.password),
        }
    }
}

/// The challenge of a request to switch to a plugin. Servers write a NUL after one of 20 bytes. The 32 bytes of
/// `client_ed25519` are random and have none after them, so that the last one may be NUL.
fn challenge<'a>(plugin: &[u8], data: &'a [u8]) -> &'a [u8] {
    let length = if plugin == ED25519 { ED25519_NONCE_BYTES } else { NONCE_BYTES };
    match data {
        [nonce @ .., 0] if nonce.len() == length => nonce,
        whole => whole,
    }
}

const PROTOCOL: ServerError = ServerError::Protocol(DatabaseProtocol::Mysql);

impl ServerGreeting {
    /// `HandshakeV10`.
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut parts = Parts(payload);
        if parts.u8()? != 10 {
            return None;
        }
        let (_version, thread) = (parts.until_nul()?, parts.u32()?);
        let mut nonce = parts.bytes(8)?.to_vec();
        parts.bytes(1)?;
        let low = parts.u16()?;
        parts.bytes(3)?;
        let usual = u32::from(low) | (u32::from(parts.u16()?) << 16);
        let length = usize::from(parts.u8()?);
        parts.bytes(6)?;
        let flags = capabilities(usual, parts.u32()?);
        let rest = parts.bytes(length.saturating_sub(8).max(13).min(parts.0.len()))?;
        nonce.extend(rest.strip_suffix(b"\0").unwrap_or(rest));
        let plugin = parts.until_nul().unwrap_or(parts.0).to_vec();
        Some(Self { thread, flags, nonce, plugin })
    }
}

async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    sequence: &mut Sequence,
) -> Result<Zeroizing<Vec<u8>>, ServerError> {
    sequence.read(stream).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => PROTOCOL,
        _ => ServerError::Ended(error),
    })
}

fn hashed(algorithm: &'static Algorithm, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut context = Context::new(algorithm);
    parts.iter().for_each(|part| context.update(part));
    Zeroizing::new(context.finish().as_ref().to_vec())
}

fn xor(mut left: Zeroizing<Vec<u8>>, right: &[u8]) -> Zeroizing<Vec<u8>> {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}
