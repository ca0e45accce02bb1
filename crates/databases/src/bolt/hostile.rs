//! Hostile clients and servers, in process: what is sent before the login, and servers that answer it wrongly. Also the
//! messages that these tests and those of sessions send.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::format::{BoltFormatError, BoltReadError, BoltVersion, NEWEST, OLDEST};
use super::greeting::{self, BoltClient, ClientHello};
use super::handshake;
use super::login::BoltLogin;
use super::messages::{self, EARLY_BYTES_MAX, framed, tag};
use super::packstream::{map_of_texts, put_map, put_text};
use crate::login::ServerError;
use crate::{fuzzed, sample};
use keyward_base::database::DatabaseProtocol;

const PASSWORD: &str = "canary-password";

const HANDSHAKE: &[u8] =
    b"\x60\x60\xb0\x17\x00\x08\x08\x05\x00\x00\x04\x04\x00\x00\x00\x00\x00\x00\x00\x00";

pub(super) fn message(payload: &[u8]) -> Vec<u8> {
    framed(payload).to_vec()
}

pub(super) fn with_map(tag: u8, entries: &[(&str, &str)]) -> Vec<u8> {
    message(&messages::with_field(tag, &map_of_texts(entries)))
}

pub(super) fn hello() -> Vec<u8> {
    with_map(tag::HELLO, &[("user_agent", "test/1")])
}

pub(super) fn logon(user: &str, token: &str) -> Vec<u8> {
    let login = [("scheme", "basic"), ("principal", user), ("credentials", token)];
    with_map(tag::LOGON, &login)
}

pub(super) fn empty(tag: u8) -> Vec<u8> {
    message(&[0xb0, tag])
}

/// `RUN` with these settings of its transaction.
pub(super) fn run_with(statement: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = vec![0xb3, tag::RUN];
    put_text(statement, &mut payload);
    put_map(0, &mut payload);
    payload.extend(map_of_texts(extra));
    message(&payload)
}

pub(super) fn run(statement: &str) -> Vec<u8> {
    run_with(statement, &[])
}

pub(super) fn pull() -> Vec<u8> {
    message(&[0xb1, tag::PULL, 0xa1, 0x81, b'n', 0xff])
}

/// The result for a client that sends this, and what it gets.
async fn sent(bytes: &[u8], newest: BoltVersion) -> (Result<BoltClient, BoltReadError>, Vec<u8>) {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(bytes).await.expect("it has room");
    client.shutdown().await.expect("it is open");
    let read = async {
        let version = handshake::answer(&mut server, newest).await?;
        greeting::read(&mut server, version).await
    };
    let read = read.await;
    drop(server);
    let mut answered = Vec::new();
    client.read_to_end(&mut answered).await.expect("it ends");
    (read, answered)
}

#[tokio::test]
async fn nothing_but_a_version_and_a_login_is_accepted_before_the_login() {
    let malformed = BoltReadError::Malformed;
    let order = malformed(BoltFormatError::Order);
    let deep = [&[0xb1, tag::HELLO, 0xa1, 0x81, b'a'][..], &[0x91; 10_000]].concat();
    let long = "x".repeat(EARLY_BYTES_MAX);
    let many = [&[0xb1, tag::HELLO][..], &[0xda, 0xff, 0xff, 0xff, 0xff]].concat();
    for (bytes, expected) in [
        (vec![], BoltReadError::Ended),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), malformed(BoltFormatError::Magic)),
        (HANDSHAKE[..19].to_vec(), BoltReadError::Ended),
        ([&HANDSHAKE[..4], &[0; 16]].concat(), malformed(BoltFormatError::Version)),
        ([&HANDSHAKE[..4], &[0, 0, 9, 9].repeat(4)].concat(), malformed(BoltFormatError::Version)),
        ([&HANDSHAKE[..4], &[0, 0, 3, 4].repeat(4)].concat(), malformed(BoltFormatError::Version)),
        // A manifest without a choice, with one that was not listed, and with endless capabilities.
        ([&HANDSHAKE[..4], &[0, 0, 1, 0xff].repeat(4)].concat(), BoltReadError::Ended),
        (
            [&HANDSHAKE[..4], &[0, 0, 1, 0xff].repeat(4), &[0, 0, 99, 5, 0]].concat(),
            malformed(BoltFormatError::Version),
        ),
        (
            [&HANDSHAKE[..4], &[0, 0, 1, 0xff].repeat(4), &[0, 0, 4, 5], &[0xff; 20]].concat(),
            malformed(BoltFormatError::Version),
        ),
        (HANDSHAKE.to_vec(), BoltReadError::Ended),
        ([HANDSHAKE, &empty(tag::GOODBYE)].concat(), BoltReadError::Ended),
        ([HANDSHAKE, &run("RETURN 1")].concat(), order),
        ([HANDSHAKE, &empty(tag::RESET)].concat(), order),
        ([HANDSHAKE, &logon("main", "kwa_t")].concat(), order),
        ([HANDSHAKE, &hello(), &run("RETURN 1")].concat(), order),
        ([HANDSHAKE, &hello(), &hello()].concat(), order),
        ([HANDSHAKE, &hello(), &empty(tag::LOGOFF)].concat(), order),
        ([HANDSHAKE, &hello(), &empty(tag::LOGON)].concat(), order),
        ([HANDSHAKE, &message(&[0xb0, 0x99])].concat(), order),
        ([HANDSHAKE, &message(&[0x01])].concat(), malformed(BoltFormatError::Value)),
        (
            [HANDSHAKE, &message(&[0xb1, tag::HELLO, 0x01])].concat(),
            malformed(BoltFormatError::Value),
        ),
        ([HANDSHAKE, &message(&[0xb1, tag::HELLO])].concat(), malformed(BoltFormatError::Cut)),
        (
            [HANDSHAKE, &message(&[0xb1, tag::HELLO, 0xa0, 0xa0])].concat(),
            malformed(BoltFormatError::Trailing),
        ),
        ([HANDSHAKE, &message(&deep)].concat(), malformed(BoltFormatError::Depth)),
        ([HANDSHAKE, &message(&many)].concat(), malformed(BoltFormatError::Cut)),
        (
            [HANDSHAKE, &with_map(tag::HELLO, &[("user_agent", &long)])].concat(),
            malformed(BoltFormatError::TooLong),
        ),
        // Chunks that do not end, and none but empty ones.
        ([HANDSHAKE, &[0xff, 0xff, 0xb1]].concat(), malformed(BoltFormatError::TooLong)),
        ([HANDSHAKE, &[0; 1000]].concat(), BoltReadError::Ended),
        ([HANDSHAKE, &hello()[..8]].concat(), BoltReadError::Ended),
    ] {
        let (read, answered) = sent(&bytes, NEWEST).await;
        assert_eq!(read.err(), Some(expected), "{:?}", &bytes[..bytes.len().min(40)]);
        assert!(answered.len() < 200, "{answered:?}");
    }
}

#[tokio::test]
async fn a_client_gets_the_newest_version_that_both_speak_and_its_login_is_read() {
    let login = [hello(), logon("main", "kwa_t")].concat();
    let manifest = [&HANDSHAKE[..4], &[0, 0, 1, 0xff], &[0, 8, 8, 5], &[0; 8]].concat();
    let chosen = [&manifest[..], &[0, 0, 4, 5, 0]].concat();
    for (begins, newest, version) in [
        (HANDSHAKE.to_vec(), NEWEST, NEWEST),
        (
            HANDSHAKE.to_vec(),
            BoltVersion { major: 5, minor: 3 },
            BoltVersion { major: 5, minor: 3 },
        ),
        (chosen, NEWEST, BoltVersion { major: 5, minor: 4 }),
    ] {
        let (read, answered) = sent(&[&begins[..], &login].concat(), newest).await;
        let client = read.expect("a login");
        assert_eq!((client.version, &*client.user), (version, "main"));
        assert_eq!(client.token.expect("a token").as_str(), "kwa_t");
        assert_eq!(client.hello.user_agent, "test/1");
        assert!(!fuzzed::has(&answered, "kwa_t") && fuzzed::has(&answered, "connection_id"));
    }
    // Before 5.1, the login is a part of `HELLO`, and is not answered yet.
    let entries =
        [("scheme", "bearer"), ("credentials", "kwa_t"), ("user_agent", "t"), ("patch_bolt", "x")];
    let (read, answered) =
        sent(&[HANDSHAKE, &with_map(tag::HELLO, &entries)].concat(), OLDEST).await;
    let client = read.expect("a login");
    assert_eq!((client.version, &*client.user), (OLDEST, ""));
    assert_eq!(client.token.expect("a token").as_str(), "kwa_t");
    let kept: Vec<_> = client.hello.entries.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((kept, answered), (vec!["patch_bolt"], vec![0, 0, 4, 4]));
}

/// The result of a login at a server that answers messages with these, and what it got.
async fn against(version: BoltVersion, answers: &[Vec<u8>]) -> (Result<(), ServerError>, Vec<u8>) {
    let permitted = sample::permitted(DatabaseProtocol::Bolt, Some("u"), PASSWORD);
    let login = BoltLogin::new(permitted, "ci").expect("it is complete");
    let (mut stream, mut server) = duplex(1 << 20);
    server.write_all(&answers.concat()).await.expect("it has room");
    server.shutdown().await.expect("it is open");
    let opened = async {
        let agreed = handshake::propose(&mut stream, Some(version)).await?;
        login.open_on(&mut stream, &ClientHello::default(), agreed).await.map(drop)
    };
    let opened = opened.await;
    drop(stream);
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.expect("it ends");
    (opened, got)
}

#[tokio::test]
async fn a_server_that_refuses_or_does_not_speak_bolt_opens_no_session() {
    let agreed = || vec![0, 0, 8, 5];
    let ok = messages::success;
    let refusal = |code: &str, words: &str| messages::failure(NEWEST, code, words);
    let unauthorized = "Neo.ClientError.Security.Unauthorized";
    for (answers, says, rejects) in [
        (vec![], "closed the stream", false),
        (vec![vec![0; 4]], "a version of Bolt other than", false),
        (vec![b"HTTP".to_vec()], "a version of Bolt other than", false),
        (vec![vec![0, 0, 9, 5]], "a version of Bolt other than", false),
        (vec![agreed()], "closed the stream", false),
        (vec![agreed(), b"HTTP/1.1 400".to_vec()], "closed the stream", false),
        (vec![agreed(), vec![0xff; 80_000]], "does not answer as Bolt does", false),
        (vec![agreed(), message(&[0x01])], "does not answer as Bolt does", false),
        (vec![agreed(), messages::ignored()], "does not answer as Bolt does", false),
        (vec![agreed(), ok()], "closed the stream", false),
        (vec![agreed(), ok(), refusal(unauthorized, "no")], "refuses the login: no", true),
        (vec![agreed(), refusal("Neo.X", "busy")], "refuses the login: busy", false),
        (vec![agreed(), ok(), refusal(unauthorized, PASSWORD)], "no usable reason", true),
    ] {
        let (opened, _) = against(NEWEST, &answers).await;
        let error = opened.expect_err("no session");
        let words = error.to_string();
        assert!(words.contains(says) && !words.contains(PASSWORD), "{words}");
        let is_rejection = matches!(error, ServerError::Refused { rejects_login: true, .. });
        assert_eq!(is_rejection, rejects, "{words}");
    }
}

#[tokio::test]
async fn the_login_is_sent_once_where_the_version_has_it() {
    let ok = messages::success;
    let (opened, got) = against(NEWEST, &[vec![0, 0, 8, 5], ok(), ok()]).await;
    assert!(opened.is_ok());
    assert!(fuzzed::has(&got, "keyward/ci") && fuzzed::has(&got, PASSWORD));
    // A server that has not answered `HELLO` gets no password.
    let (opened, got) = against(NEWEST, &[vec![0, 0, 8, 5]]).await;
    assert!(opened.is_err() && !fuzzed::has(&got, PASSWORD));
    let (opened, got) = against(OLDEST, &[vec![0, 0, 4, 4], ok()]).await;
    assert!(opened.is_ok() && fuzzed::has(&got, PASSWORD));
}

#[test]
fn fuzzed_first_messages_end_in_time_and_get_short_answers() {
    let messages = vec![
        [HANDSHAKE, &hello(), &logon("main", "kwa_t")].concat(),
        [HANDSHAKE, &hello()].concat(),
        logon("main", "kwa_t"),
        run("RETURN 1"),
        HANDSHAKE.to_vec(),
    ];
    fuzzed::with_all_of(messages, async |bytes| {
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let read = async {
            let version = handshake::answer(&mut stream, NEWEST).await?;
            greeting::read(&mut stream, version).await
        };
        let read = read.await;
        assert!(read.is_err() || bytes.contains(&tag::LOGON) || bytes.contains(&tag::HELLO));
        assert!(fuzzed::got(stream, peer).await.len() < 1024);
    });
}

#[test]
fn fuzzed_server_answers_end_the_login_or_open_a_session() {
    let ok = messages::success;
    let failed = messages::failure(NEWEST, "Neo.ClientError.Security.Unauthorized", "no");
    let messages = vec![
        [vec![0, 0, 8, 5], ok(), ok()].concat(),
        ok(),
        failed,
        messages::ignored(),
        vec![0; 4],
    ];
    fuzzed::with_all_of(messages, async |bytes| {
        let permitted = sample::permitted(DatabaseProtocol::Bolt, Some("u"), PASSWORD);
        let login = BoltLogin::new(permitted, "ci").expect("it is complete");
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let opened = async {
            let version = handshake::propose(&mut stream, Some(NEWEST)).await?;
            login.open_on(&mut stream, &ClientHello::default(), version).await
        };
        let words = opened.await.err().map(|error| error.to_string());
        assert!(words.is_none_or(|words| !words.contains(PASSWORD)));
        assert!(fuzzed::got(stream, peer).await.len() < 4_096);
    });
}
