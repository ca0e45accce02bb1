//! Hostile clients and servers, in process: what is sent in place of a login, and servers that ask for the password without
//! proving anything.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::client::{ClientReply, MysqlFormatError, PLUGIN, SentGreeting};
use super::login::{MysqlLogin, NegotiatedOptions};
use super::login_key::{LoginKey, combined, encrypt};
use super::packet::{
    BULK_OPERATIONS, COMPRESS, COMPRESS_ZSTD, CONNECT_WITH_DB, LONG_PASSWORD, OF_MARIADB,
    PLUGIN_AUTH, PROTOCOL_41, SECURE_CONNECTION, Sequence, TLS, halves, packet, put_length_encoded,
};
use super::{login_key, statements};
use crate::login::ServerError;
use crate::{fuzzed, sample};
use keyward_base::database::DatabaseProtocol;

const PASSWORD: &str = "canary-password";
/// What PyMySQL 2.2.8 answers with [`PASSWORD`] to the nonce of [`server_greeting`]: `scramble_caching_sha2`.
const SCRAMBLED: [u8; 32] = *b"\xc4\x6d\x98\xe4\x6f\x47\xf6\xf7\xcb\x9e\x3b\x49\xaf\x42\xfa\x2c\xe7\x13\x36\x7e\x16\xaf\x7a\x10\xfc\xe3\x2c\x15\xb8\x37\xef\x13";
/// The same: `scramble_native_password`.
const SCRAMBLED_NATIVE: [u8; 20] =
    *b"\xb8\x34\x6a\x3e\xbf\x36\xd9\x94\x24\x3a\x42\xc9\xe4\xbf\x94\x95\xdf\xe7\xd1\xf6";
const USUAL: u64 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;

fn login_payload(flags: u64, rest: &[u8]) -> Vec<u8> {
    let mut payload = halves(flags)[0].to_vec();
    payload.extend([0, 0, 0, 1, 45]);
    payload.extend([0; 23]);
    payload.extend(rest);
    payload
}

/// The result for a client that sends this after the greeting, and how many bytes are not read.
async fn answered(sent: &[u8], offers_tls: bool) -> (Result<ClientReply, MysqlFormatError>, usize) {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(sent).await.expect("it has room");
    client.shutdown().await.expect("it is open");
    let sent = SentGreeting::send(&mut server, offers_tls, None).await;
    let mut greeting = sent.expect("the client is there");
    let key = Arc::<LoginKey>::default();
    let answer = greeting.answer(&mut server, &key).await;
    (answer, all_of(server).await.len())
}

#[tokio::test]
async fn a_malformed_outdated_or_compressing_login_is_refused_without_reading_on() {
    let usual = |rest: &[u8]| packet(1, &login_payload(USUAL, rest));
    for (sent, says, unread) in [
        (vec![], "the stream ended", 0),
        (vec![1, 2], "the stream ended", 0),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "malformed", 14),
        (vec![0xff; 40], "malformed", 36),
        // The number of another packet.
        (packet(0, &login_payload(USUAL, b"u\0\0\0")), "malformed", 36),
        (packet(1, b""), "the login is malformed", 0),
        (packet(1, &login_payload(PROTOCOL_41, b"u\0\0")), "older than version 4.1", 0),
        (packet(1, &login_payload(TLS, b"")), "older than version 4.1", 0),
        (packet(1, &login_payload(USUAL | COMPRESS, b"u\0\0")), "connect without it", 0),
        (packet(1, &login_payload(USUAL | COMPRESS_ZSTD, b"u\0\0")), "connect without it", 0),
        (usual(b"u"), "the login is malformed", 0),
        (usual(b"u\0\x20short"), "the login is malformed", 0),
        (usual(b"\xff\0\0\0"), "the login is malformed", 0),
        (usual(b"u\0\xfe"), "the login is malformed", 0),
        (packet(1, &vec![0; 70_000]), "malformed", 70_000),
        ([usual(b"u"), usual(b"u")].concat(), "the login is malformed", usual(b"u").len()),
    ] {
        let (answer, left) = answered(&sent, false).await;
        let refused = answer.err().expect("no login").0;
        let beginning = &sent[..sent.len().min(40)];
        assert!(refused.contains(says), "{refused}: {beginning:?}");
        assert_eq!(left, unread, "{beginning:?}");
    }
    let tls = packet(1, &login_payload(USUAL | TLS, b""));
    assert!(matches!(answered(&tls, true).await, (Ok(ClientReply::Tls), 0)));
    assert!(answered(&tls, false).await.0.is_err(), "TLS that was not offered");
}

/// A client that logs in with this plugin and gives the password, encrypted or not.
async fn logs_in(plugin: &[u8], encrypts: bool) -> Result<String, &'static str> {
    let (mut stream, mut server) = duplex(1 << 20);
    let plugin = plugin.to_vec();
    let client = tokio::spawn(async move {
        let mut sequence = Sequence::default();
        let greeting = sequence.read(&mut stream).await.expect("a greeting");
        let at = greeting.windows(PLUGIN.len()).position(|it| it == PLUGIN).expect("the plugin");
        // Eight bytes before the flags, and the rest before the plugin.
        let version = greeting[1..].iter().position(|byte| *byte == 0).expect("a version") + 2;
        let nonce = [&greeting[version + 4..version + 12], &greeting[at - 13..at - 1]].concat();
        let rest = [b"app\0\x04hash", &plugin[..], b"\0"].concat();
        let login = login_payload(USUAL, &rest);
        sequence.write(&mut stream, &login).await.expect("it is open");
        if plugin != PLUGIN {
            let switch = sequence.read(&mut stream).await.expect("a switch");
            assert_eq!(switch[..PLUGIN.len() + 2], [&[0xfe], PLUGIN, b"\0"].concat());
            sequence.write(&mut stream, b"hash").await.expect("it is open");
        }
        assert_eq!(sequence.read(&mut stream).await.expect("it asks")[..], [1, 4]);
        if !encrypts {
            return drop(sequence.write(&mut stream, b"kwa_t\0").await);
        }
        sequence.write(&mut stream, &[2]).await.expect("it is open");
        let key = sequence.read(&mut stream).await.expect("a key");
        let encrypted = encrypt(&key[1..], &combined(b"kwa_t", &nonce)).expect("a key");
        drop(sequence.write(&mut stream, &encrypted).await);
    });
    let mut greeting =
        SentGreeting::send(&mut server, false, None).await.map_err(|error| error.0)?;
    let key = Arc::<LoginKey>::default();
    let answer = greeting.answer(&mut server, &key).await.map_err(|error| error.0)?;
    let ClientReply::Login(mut login) = answer else { return Err("a request for TLS") };
    let token = login.token(&mut server).await.map_err(|error| error.0)?;
    client.await.expect("no panic");
    Ok(token.to_string())
}

#[tokio::test]
async fn a_client_hands_over_its_token_whatever_plugin_it_begins_with() {
    for plugin in [PLUGIN, b"mysql_native_password", b"client_ed25519"] {
        for encrypts in [false, true] {
            assert_eq!(logs_in(plugin, encrypts).await.expect("a token"), "kwa_t");
        }
    }
}

fn server_greeting(flags: u64, plugin: &[u8]) -> Vec<u8> {
    let [[a, b, c, d], extensions] = halves(flags);
    let mut payload = b"\x0a8.4.0\0\x01\0\0\0AAAAAAAA\0".to_vec();
    payload.extend([a, b, 45, 2, 0, c, d, 21]);
    payload.extend([0; 6]);
    payload.extend(extensions);
    payload.extend(b"BBBBBBBBBBBB\0");
    payload.extend(plugin);
    payload.push(0);
    payload
}

fn login() -> MysqlLogin {
    login_with(USUAL)
}

fn login_with(flags: u64) -> MysqlLogin {
    let permitted = sample::permitted(DatabaseProtocol::Mysql, Some("app"), PASSWORD);
    let agreed = NegotiatedOptions {
        flags,
        charset: 45,
        packet_bytes_max: 1 << 24,
        program: "x".to_owned(),
    };
    MysqlLogin::new(permitted, agreed).expect("it is complete")
}

/// The result of a login at a server that sends these payloads, and the bytes that it got after the login.
async fn against(
    verified: bool,
    greeting: Vec<u8>,
    payloads: &[&[u8]],
) -> (Result<Vec<u8>, ServerError>, Vec<u8>) {
    let login = login();
    let (mut stream, mut server) = duplex(1 << 20);
    let mut sent = packet(0, &greeting);
    // Each answer of the client has a number between those of the server.
    for (index, payload) in payloads.iter().enumerate() {
        sent.extend(packet(u8::try_from(2 * index + 2).expect("few"), payload));
    }
    server.write_all(&sent).await.expect("it has room");
    server.shutdown().await.expect("it is open");
    let mut sequence = Sequence::default();
    let result = match login.greeting(&mut stream, &mut sequence).await {
        Ok(greeting) => login.prove(&mut stream, &mut sequence, greeting, verified).await,
        Err(error) => Err(error),
    };
    drop(stream);
    (result, all_of(server).await)
}

/// Any byte of such a challenge may be NUL.
#[tokio::test]
async fn a_challenge_of_ed25519_that_ends_with_nul_is_signed_whole() {
    let nonce = [&[7; 31][..], &[0]].concat();
    let signature = login_key::ed25519_answer(PASSWORD.as_bytes(), &nonce);
    for end in [&b""[..], b"\0"] {
        let switch = [b"\xfeclient_ed25519\0", &nonce[..], end].concat();
        let payloads: &[&[u8]] = &[&switch, b"\0\0\0\x02\0\0\0"];
        let (result, got) = against(false, server_greeting(USUAL, PLUGIN), payloads).await;
        result.expect("a session");
        assert!(got.ends_with(&signature), "{end:?}");
    }
}

/// What clients send and read with these differs, so the server must have them.
#[tokio::test]
async fn extensions_of_mariadb_are_agreed_with_a_server_that_has_them_and_with_no_other() {
    let agreed = login_with(USUAL | OF_MARIADB);
    // A server of MySQL has other bytes in the place of the extensions.
    for flags in [USUAL, USUAL | LONG_PASSWORD | OF_MARIADB, USUAL | BULK_OPERATIONS] {
        let greeting = packet(0, &server_greeting(flags, PLUGIN));
        let result = agreed.greeting(&mut &greeting[..], &mut Sequence::default()).await;
        let error = result.expect_err("no session").to_string();
        assert!(error.contains("server_version"), "{error}");
    }
    for (agreed, sent) in [(&agreed, USUAL | OF_MARIADB), (&login(), USUAL | LONG_PASSWORD)] {
        let greeting = packet(0, &server_greeting(USUAL | OF_MARIADB, PLUGIN));
        let (mut stream, server) = duplex(1 << 20);
        let mut sequence = Sequence::default();
        let greeting =
            agreed.greeting(&mut &greeting[..], &mut sequence).await.expect("it has them");
        drop(agreed.prove(&mut stream, &mut sequence, greeting, false).now_or_never());
        drop(stream);
        let got = all_of(server).await;
        let [usual, extensions] = halves(sent | CONNECT_WITH_DB | TLS);
        assert_eq!([&got[4..8], &got[32..36]], [&usual[..], &extensions[..]]);
    }
}

async fn all_of(mut stream: DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("it ends");
    all
}

#[tokio::test]
async fn the_password_is_given_to_no_server_that_has_not_proved_its_name() {
    let greeting = || server_greeting(USUAL, b"caching_sha2_password");
    let short = server_greeting(PROTOCOL_41, b"caching_sha2_password");
    let denied = format!("\u{1}#28000Access denied using {PASSWORD}");
    let denied = [b"\xff\x15\x04", &denied.as_bytes()[1..]].concat();
    for (verified, greeting, payloads, says) in [
        (false, greeting(), &[&b"\xfemysql_clear_password\0"[..]][..], "only over verified TLS"),
        (false, greeting(), &[b"\xfesha256_password\0AAAA"], "only over verified TLS"),
        (true, greeting(), &[b"\xfemysql_old_password\0"], "not supported"),
        (true, greeting(), &[b"\xfe"], "does not answer as MySQL does"),
        (true, greeting(), &[b"\xfemysql_native_password\0short"], "does not answer as MySQL does"),
        (true, greeting(), &[b"\x01\x09"], "does not answer as MySQL does"),
        (false, greeting(), &[b"\x01\x04", b"\x01no key"], "does not answer as MySQL does"),
        (true, greeting(), &[&denied], "no usable reason"),
        (true, greeting(), &[], "closed the stream"),
        (true, short, &[], "too old"),
        (true, b"HTTP/1.1 400".to_vec(), &[], "does not answer as MySQL does"),
        (true, b"\xff\x10\x04Too many connections".to_vec(), &[], "Too many connections"),
    ] {
        let (result, got) = against(verified, greeting, payloads).await;
        let error = result.expect_err("no session").to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(PASSWORD), "{error}");
        assert!(!got.windows(PASSWORD.len()).any(|it| it == PASSWORD.as_bytes()), "{says}");
    }
}

#[tokio::test]
async fn the_password_goes_over_verified_tls_in_full_and_else_by_challenge() {
    let greeting = || server_greeting(USUAL, b"caching_sha2_password");
    let ok: &[u8] = b"\0\0\0\x02\0\0\0";
    let (result, got) = against(true, greeting(), &[b"\x01\x04", ok]).await;
    assert_eq!(result.expect("a session"), ok);
    assert!(got.ends_with(format!("{PASSWORD}\0").as_bytes()));
    // The client answers neither `1 3` nor `OK`, so that the next number is the server's own.
    let (result, got) = against(false, greeting(), &[ok]).await;
    result.expect("a session");
    assert!(!got.windows(PASSWORD.len()).any(|it| it == PASSWORD.as_bytes()));
    assert!(fuzzed::has_bytes(&got, &SCRAMBLED), "{got:02x?}");
    let native = b"\xfemysql_native_password\0AAAAAAAABBBBBBBBBBBB\0";
    let (result, got) = against(false, greeting(), &[native, ok]).await;
    result.expect("a session");
    assert_eq!(got[got.len() - 24..got.len() - 20], [20, 0, 0, 3], "a hash of 20 bytes");
    assert_eq!(got[got.len() - 20..], SCRAMBLED_NATIVE);
}

/// The result of a login whose server reports these variables of the session.
async fn begun(read_only: bool, variables: &[(&str, &str)]) -> Result<(), ServerError> {
    let (mut stream, mut server) = duplex(1 << 20);
    let end = b"\xfe\0\0\x02\0".to_vec();
    let mut payloads = vec![b"\x02".to_vec(), b"name".to_vec(), b"value".to_vec(), end.clone()];
    for (name, value) in variables {
        let mut row = Vec::new();
        put_length_encoded(name.as_bytes(), &mut row);
        put_length_encoded(value.as_bytes(), &mut row);
        payloads.push(row);
    }
    payloads.push(end);
    let mut sent = if read_only { packet(1, b"\0\0\0\x02\0\0\0") } else { Vec::new() };
    for (index, payload) in payloads.iter().enumerate() {
        sent.extend(packet(u8::try_from(index + 1).expect("few"), payload));
    }
    server.write_all(&sent).await.expect("it has room");
    server.shutdown().await.expect("it is open");
    statements::begin(&mut stream, USUAL, read_only).await
}

#[tokio::test]
async fn a_session_begins_only_in_the_mode_and_character_set_of_the_statement_parser() {
    let (mode, sql_mode) = (("tx_read_only", "ON"), ("sql_mode", "STRICT_TRANS_TABLES"));
    let utf8 = ("character_set_client", "utf8mb4");
    for (variables, says) in [
        ([mode, sql_mode, ("character_set_client", "gbk")], "another character set"),
        ([mode, sql_mode, ("character_set_client", "sjis")], "another character set"),
        ([mode, sql_mode, ("character_set_client", "")], "another character set"),
        ([mode, sql_mode, mode], "does not begin the session"),
        ([mode, utf8, mode], "does not begin the session"),
        ([sql_mode, utf8, utf8], "does not begin the session"),
        ([("tx_read_only", "OFF"), sql_mode, utf8], "does not begin the session"),
        ([("autocommit", "ON"), sql_mode, utf8], "does not answer as MySQL does"),
        ([mode, ("sql_mode", "ANSI_QUOTES,ANSI"), utf8], "sql_mode"),
    ] {
        let error = begun(true, &variables).await.expect_err("no session").to_string();
        assert!(error.contains(says), "{error}: {variables:?}");
    }
    let gbk = begun(false, &[sql_mode, ("character_set_client", "gbk")]).await;
    assert!(matches!(gbk, Err(ServerError::CharsetMismatch)), "{gbk:?}");
    for charset in ["utf8", "utf8mb3", "utf8mb4", "latin1"] {
        let charset = ("character_set_client", charset);
        let newer = ("transaction_read_only", "ON");
        begun(true, &[mode, sql_mode, charset]).await.expect("a session");
        begun(true, &[newer, sql_mode, charset]).await.expect("a session");
        begun(false, &[sql_mode, charset]).await.expect("a session");
    }
}

/// Whether the client asks for TLS. Otherwise its token is read.
async fn asks_for_tls(
    stream: &mut DuplexStream,
    offers_tls: bool,
) -> Result<bool, MysqlFormatError> {
    let mut greeting = SentGreeting::send(stream, offers_tls, None).await?;
    let key = Arc::<LoginKey>::default();
    match greeting.answer(stream, &key).await? {
        ClientReply::Tls => Ok(true),
        ClientReply::Login(mut login) => login.token(stream).await.map(|_| false),
    }
}

#[test]
fn fuzzed_logins_end_in_time_with_short_answers_and_no_tls_that_was_not_offered() {
    let usual = packet(1, &login_payload(USUAL, b"app\0\x04hashcaching_sha2_password\0"));
    let tls = packet(1, &login_payload(USUAL | TLS, b""));
    let old = packet(1, &login_payload(PROTOCOL_41, b"u\0\0"));
    fuzzed::with_all_of(vec![usual, tls, old, packet(3, b"hash")], async |bytes| {
        for offers_tls in [false, true] {
            let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
            let asks = asks_for_tls(&mut stream, offers_tls).await;
            assert!(offers_tls || asks != Ok(true), "TLS that was not offered");
            // The greeting, a switch, and a request for the password or a key.
            assert!(fuzzed::got(stream, peer).await.len() < 1_024);
        }
    });
}

#[test]
fn no_fuzzed_server_answer_gets_the_password_without_verified_tls() {
    let payloads: [&[u8]; 9] = [
        b"\xfemysql_clear_password\0",
        b"\xfesha256_password\0AAAA",
        b"\xfemysql_native_password\0AAAAAAAABBBBBBBBBBBB\0",
        b"\xfecaching_sha2_password\0AAAAAAAABBBBBBBBBBBB\0",
        b"\x01\x04",
        b"\x01\x03",
        b"\x01-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n",
        b"\0\0\0\x02\0\0\0",
        b"\xff\x15\x04#28000no",
    ];
    let mut messages = vec![packet(0, &server_greeting(USUAL, b"caching_sha2_password"))];
    // After the greeting, the login and the answer to it.
    messages.extend(payloads.iter().flat_map(|payload| [packet(2, payload), packet(4, payload)]));
    fuzzed::with_all_of(messages, async |bytes| {
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let (login, mut sequence) = (login(), Sequence::default());
        let result = match login.greeting(&mut stream, &mut sequence).await {
            Ok(greeting) => login.prove(&mut stream, &mut sequence, greeting, false).await,
            Err(error) => Err(error),
        };
        let words = result.err().map(|error| error.to_string()).unwrap_or_default();
        let got = fuzzed::got(stream, peer).await;
        assert!(!fuzzed::has(&got, PASSWORD) && got.len() < 4_096, "{got:?}");
        assert!(!words.contains(PASSWORD), "{words}");
    });
}
