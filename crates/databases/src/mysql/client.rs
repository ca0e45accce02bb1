//! The login of a client at Keyward by full `caching_sha2_password`, which sends the token itself: in clear within TLS
//! or over a socket, else encrypted to an RSA key. MySQL's challenges cannot be verified with Keyward's token hashes.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use super::login_key::{LoginKey, combined};
use super::packet::{
    COMPRESS, COMPRESS_ZSTD, CONNECT_ATTRIBUTES, CONNECT_WITH_DB, DEPRECATE_EOF, FOUND_ROWS,
    IGNORE_SPACE, INTERACTIVE, LOCAL_FILES, LONG_AUTH_DATA, LONG_FLAG, LONG_PASSWORD, MORE_DATA,
    MULTI_RESULTS, MULTI_STATEMENTS, ODBC, OF_MARIADB, PLUGIN_AUTH, PROTOCOL_41, PS_MULTI_RESULTS,
    Parts, SECURE_CONNECTION, SESSION_TRACK, SWITCH, Sequence, TLS, TRANSACTIONS, capabilities,
    halves,
};
use keyward_base::database::ServerVersion;

/// The plugin that hands over a password in full.
pub const PLUGIN: &[u8] = b"caching_sha2_password";

/// The version that clients see where the listener has none. Keyward greets the client before it knows the server. Clients
/// expect MySQL 8.0 for `caching_sha2_password`; with a higher version, they would use features that MariaDB lacks.
const VERSION: &str = "8.0.11-keyward";

/// What stands before the version in greetings of MariaDB 10, since old replicas read one digit of it. Clients take it off.
/// <https://mariadb.com/kb/en/connection/#initial-handshake-packet>
const BEFORE_MARIADB_10: &str = "5.5.5-";

/// `utf8mb4_general_ci`.
const CHARSET: u8 = 45;

/// `SERVER_STATUS_AUTOCOMMIT`.
const STATUS: u16 = 2;

/// The length of a nonce, in bytes.
pub const NONCE_BYTES: usize = 20;

/// Capabilities that Keyward and a client may agree on for the session: not compression, and none in which MySQL and
/// MariaDB differ.
const OF_SESSION: u64 = LONG_PASSWORD
    | FOUND_ROWS
    | LONG_FLAG
    | ODBC
    | LOCAL_FILES
    | IGNORE_SPACE
    | PROTOCOL_41
    | INTERACTIVE
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | SESSION_TRACK
    | DEPRECATE_EOF;

/// Capabilities that are agreed on for the login alone.
const OF_LOGIN: u64 = CONNECT_WITH_DB | PLUGIN_AUTH | CONNECT_ATTRIBUTES | LONG_AUTH_DATA;

/// The version of MariaDB that has [`OF_MARIADB`].
const MARIADB_EXTENDED: (u32, u32) = (10, 5);

/// Says that the whole password is wanted.
const FULL: [u8; 2] = [MORE_DATA, 4];
/// Says that no password is wanted.
const FAST: [u8; 2] = [MORE_DATA, 3];
/// Asks for the public key.
const KEY_WANTED: &[u8] = &[2];

/// A client that has answered the greeting.
#[derive(Debug)]
pub struct MysqlClient {
    pub user: String,
    /// Empty if it names none.
    pub database: String,
    /// What it agreed on for the session.
    pub flags: u64,
    pub charset: u8,
    pub packet_bytes_max: u32,
    sequence: Sequence,
    nonce: [u8; NONCE_BYTES],
    /// Whether it can answer without being switched to the plugin.
    has_plugin: bool,
    /// Whether it gave a password at all.
    has_password: bool,
    key: Arc<LoginKey>,
}

/// What a client answers to the greeting.
pub enum ClientReply {
    /// A request for TLS.
    Tls,
    Login(Box<MysqlClient>),
}

pub struct SentGreeting {
    nonce: [u8; NONCE_BYTES],
    sequence: Sequence,
    /// What the client may agree on for the session.
    offered: u64,
    offers_tls: bool,
}

/// Why a client's login cannot be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MysqlFormatError(pub &'static str);

impl From<std::io::Error> for MysqlFormatError {
    fn from(_: std::io::Error) -> Self {
        Self("the stream ended before the login did, or a packet of the login is malformed")
    }
}

impl SentGreeting {
    /// Greets a client, as servers do before anything else.
    ///
    /// # Errors
    /// When the client has left.
    pub async fn send<S>(
        stream: &mut S,
        offers_tls: bool,
        version: Option<&ServerVersion>,
    ) -> Result<Self, MysqlFormatError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let nonce = nonce().ok_or(MysqlFormatError("the system has no random bytes"))?;
        let mut sequence = Sequence::default();
        let offered = offered(version);
        let flags = offered | OF_LOGIN | if offers_tls { TLS } else { 0 };
        sequence.write(stream, &greeting(&nonce, flags, &version_greeted(version))).await?;
        Ok(Self { nonce, sequence, offered, offers_tls })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When it is none.
    pub async fn answer<S>(
        &mut self,
        stream: &mut S,
        key: &Arc<LoginKey>,
    ) -> Result<ClientReply, MysqlFormatError>
    where
        S: AsyncRead + Unpin,
    {
        let payload = self.sequence.read(stream).await?;
        let mut parts = Parts(&payload);
        let flags = parts.u32().ok_or(MysqlFormatError("the login is malformed"))?;
        let flags = u64::from(flags);
        // 32 bytes: the beginning of a login, which follows within TLS.
        if flags & TLS != 0 && payload.len() == 32 && self.offers_tls {
            self.offers_tls = false;
            return Ok(ClientReply::Tls);
        }
        if flags & (PROTOCOL_41 | SECURE_CONNECTION) != PROTOCOL_41 | SECURE_CONNECTION {
            return Err(MysqlFormatError("the client is older than version 4.1 of the protocol"));
        }
        // mysqlnd of PHP and Connector/Python do so although compression was not offered. They would wait for an answer
        // without end.
        if flags & (COMPRESS | COMPRESS_ZSTD) != 0 {
            return Err(MysqlFormatError(
                "the client wants compression, which is not offered: connect without it",
            ));
        }
        let sequence = std::mem::take(&mut self.sequence);
        let client = MysqlClient::parse(&payload, self.nonce, sequence, key.clone());
        let agreed =
            |client: MysqlClient| MysqlClient { flags: client.flags & self.offered, ..client };
        client
            .map(agreed)
            .map(|client| ClientReply::Login(Box::new(client)))
            .ok_or(MysqlFormatError("the login is malformed"))
    }

    /// The answer to a client that is refused before its login.
    pub fn last_packet(&self, payload: &[u8]) -> Vec<u8> {
        self.sequence.last_packet(payload)
    }
}

impl MysqlClient {
    /// `HandshakeResponse41`.
    fn parse(
        payload: &[u8],
        nonce: [u8; NONCE_BYTES],
        sequence: Sequence,
        key: Arc<LoginKey>,
    ) -> Option<Self> {
        let mut parts = Parts(payload);
        let usual = parts.u32()?;
        let packet_bytes_max = parts.u32()?;
        let charset = parts.u8()?;
        parts.bytes(19)?;
        let flags = capabilities(usual, parts.u32()?);
        let user = std::str::from_utf8(parts.until_nul()?).ok()?.to_owned();
        let response = parts.length_encoded()?;
        let database = match flags & CONNECT_WITH_DB {
            0 => String::new(),
            _ => std::str::from_utf8(parts.until_nul()?).ok()?.to_owned(),
        };
        let plugin = match flags & PLUGIN_AUTH {
            0 => b"",
            // Some clients omit the NUL.
            _ => parts.until_nul().unwrap_or(parts.0),
        };
        Some(Self {
            user,
            database,
            flags,
            charset,
            packet_bytes_max,
            sequence,
            nonce,
            has_plugin: plugin == PLUGIN,
            has_password: !response.is_empty(),
            key,
        })
    }

    /// Asks for the token. `is_confidential`: nothing but this machine sees what the client sends as it is, by TLS or a socket.
    ///
    /// # Errors
    /// When the client gives none.
    pub async fn token<S>(&mut self, stream: &mut S) -> Result<Zeroizing<String>, MysqlFormatError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.switch(stream).await?;
        if !self.has_password {
            return Err(MysqlFormatError(
                "no password was sent: give the agent's token (kwa_…) as the password",
            ));
        }
        self.sequence.write(stream, &FULL).await?;
        let mut given = self.sequence.read(stream).await?;
        if *given == KEY_WANTED {
            let pair =
                self.key.pair().await.ok_or(MysqlFormatError("the system has no random bytes"))?;
            let public = [&[MORE_DATA], pair.public.as_bytes()].concat();
            self.sequence.write(stream, &public).await?;
            let encrypted = self.sequence.read(stream).await?;
            let wrong = MysqlFormatError("the password is not encrypted to Keyward's key");
            let decrypted = pair.decrypt(&encrypted).ok_or(wrong)?;
            given = combined(&decrypted, &self.nonce);
            given.truncate(decrypted.len());
        }
        let text = given.strip_suffix(b"\0").unwrap_or(&given);
        let text =
            std::str::from_utf8(text).map_err(|_| MysqlFormatError("the password is no text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// Makes the client use the plugin, if it has begun with another one.
    async fn switch<S>(&mut self, stream: &mut S) -> Result<(), MysqlFormatError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.has_plugin {
            return Ok(());
        }
        let request = [&[SWITCH], PLUGIN, b"\0", &self.nonce, b"\0"].concat();
        self.sequence.write(stream, &request).await?;
        self.has_password = !self.sequence.read(stream).await?.is_empty();
        self.has_plugin = true;
        Ok(())
    }

    /// Ends the login of a client whose listener asks for no token.
    ///
    /// # Errors
    /// When the client has left.
    pub async fn skip<S>(&mut self, stream: &mut S) -> Result<(), MysqlFormatError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.switch(stream).await?;
        if self.has_password {
            self.sequence.write(stream, &FAST).await?;
        }
        Ok(())
    }

    /// The packet that ends the login.
    pub fn last_packet(&self, payload: &[u8]) -> Vec<u8> {
        self.sequence.last_packet(payload)
    }
}

/// A version as its server greets with it.
fn version_greeted(version: Option<&ServerVersion>) -> String {
    match version.map(ServerVersion::as_str) {
        Some(own) if own.starts_with("10.") && own.contains("MariaDB") => {
            format!("{BEFORE_MARIADB_10}{own}")
        }
        own => own.unwrap_or(VERSION).to_owned(),
    }
}

/// What clients of a listener with this version may agree on for the session.
fn offered(version: Option<&ServerVersion>) -> u64 {
    let own = version.map(ServerVersion::as_str).filter(|own| own.contains("MariaDB"));
    let own = own.map(|own| own.strip_prefix(BEFORE_MARIADB_10).unwrap_or(own)).unwrap_or_default();
    let mut numbers = own.split('.').map_while(|number| number.parse().ok());
    match numbers.next().zip(numbers.next()) {
        Some(version) if version >= MARIADB_EXTENDED => OF_SESSION & !LONG_PASSWORD | OF_MARIADB,
        _ => OF_SESSION,
    }
}

/// `HandshakeV10`.
fn greeting(nonce: &[u8; NONCE_BYTES], flags: u64, version: &str) -> Vec<u8> {
    let [[a, b, c, d], extensions] = halves(flags);
    let mut payload = vec![10];
    payload.extend(version.as_bytes());
    // No thread has this number: clients name it to stop their statements by a second session.
    payload.extend([0, 0, 0, 0, 0]);
    payload.extend(&nonce[..8]);
    payload.push(0);
    payload.extend([a, b]);
    payload.push(CHARSET);
    payload.extend(STATUS.to_le_bytes());
    payload.extend([c, d]);
    payload.push(21);
    payload.extend([0; 6]);
    payload.extend(extensions);
    payload.extend(&nonce[8..]);
    payload.push(0);
    payload.extend(PLUGIN);
    payload.push(0);
    payload
}

/// Random bytes without NUL, which would end a text.
fn nonce() -> Option<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).ok()?;
    Some(nonce.map(|byte| byte % 94 + 33))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_has_the_version_in_the_form_of_its_server() {
        for (own, greeted) in [
            (None, "8.0.11-keyward"),
            (Some("8.4.3"), "8.4.3"),
            (Some("10.11.6-MariaDB-log"), "5.5.5-10.11.6-MariaDB-log"),
            (Some("5.5.5-10.11.6-MariaDB"), "5.5.5-10.11.6-MariaDB"),
            (Some("11.4.2-MariaDB"), "11.4.2-MariaDB"),
            (Some("5.5.68-MariaDB"), "5.5.68-MariaDB"),
        ] {
            let own: Option<ServerVersion> = own.map(|own| own.parse().expect("a version"));
            let version = version_greeted(own.as_ref());
            assert_eq!(version, greeted);
            let payload = greeting(&[b'x'; NONCE_BYTES], OF_SESSION, &version);
            assert_eq!(Parts(&payload[1..]).until_nul(), Some(greeted.as_bytes()));
        }
    }

    /// An older MariaDB and MySQL do not have them, and clients send other bytes with them.
    #[test]
    fn only_a_listener_for_mariadb_that_has_them_offers_its_extensions() {
        for (own, offers) in [
            ("8.4.3", false),
            ("11.4.3", false),
            ("5.5.68-MariaDB", false),
            ("10.4.34-MariaDB", false),
            ("10.5.27-MariaDB", true),
            ("5.5.5-10.11.6-MariaDB", true),
            ("11.4.2-MariaDB-ubu2404", true),
        ] {
            let offered = offered(Some(&own.parse().expect("a version")));
            assert_eq!(offered & OF_MARIADB, if offers { OF_MARIADB } else { 0 }, "{own}");
            assert_eq!(offered & LONG_PASSWORD == 0, offers, "{own}");
        }
        assert_eq!(offered(None), OF_SESSION);
    }
}
