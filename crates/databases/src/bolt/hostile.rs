//! Hostile clients and servers, in process: what is sent before the login, servers that answer it wrongly, and messages that a
//! filter must not pass.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::answers::{AnswerFilter, Awaited, AwaitedAnswers};
use super::filter::{BoltAccess, BoltFilter};
use super::format::{BoltFormatError, BoltReadError, BoltVersion, NEWEST, OLDEST};
use super::greeting::{self, BoltClient, ClientHello, ClientLogin};
use super::handshake;
use super::login::BoltLogin;
use super::messages::{self, EARLY_BYTES_MAX, framed, tag};
use super::packstream::{ValueReader, map_of_texts, put_map, put_text, text};
use crate::login::ServerError;
use crate::stream::StreamFilter;
use crate::{fuzzed, sample};
use keyward_base::database::DatabaseProtocol;

const PASSWORD: &str = "canary-password";

const HANDSHAKE: &[u8] =
    b"\x60\x60\xb0\x17\x00\x08\x08\x05\x00\x00\x04\x04\x00\x00\x00\x00\x00\x00\x00\x00";

fn message(payload: &[u8]) -> Vec<u8> {
    framed(payload).to_vec()
}

fn with_map(tag: u8, entries: &[(&str, &str)]) -> Vec<u8> {
    message(&messages::with_field(tag, &map_of_texts(entries)))
}

fn hello() -> Vec<u8> {
    with_map(tag::HELLO, &[("user_agent", "test/1")])
}

fn logon(user: &str, token: &str) -> Vec<u8> {
    let login = [("scheme", "basic"), ("principal", user), ("credentials", token)];
    with_map(tag::LOGON, &login)
}

fn empty(tag: u8) -> Vec<u8> {
    message(&[0xb0, tag])
}

/// `RUN` with these settings of its transaction.
fn run_with(statement: &str, extra: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = vec![0xb3, tag::RUN];
    put_text(statement, &mut payload);
    put_map(0, &mut payload);
    payload.extend(map_of_texts(extra));
    message(&payload)
}

fn run(statement: &str) -> Vec<u8> {
    run_with(statement, &[])
}

fn pull() -> Vec<u8> {
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

/// A filter of a session, and the answers that are awaited.
struct Filtered {
    filter: BoltFilter,
    awaited: Arc<AwaitedAnswers>,
}

impl Filtered {
    fn new(read_only: bool, version: BoltVersion) -> Self {
        let awaited = Arc::<AwaitedAnswers>::default();
        let token = Some(String::from("kwa_t").into());
        let access = BoltAccess {
            version,
            read_only,
            database: None,
            server: "db.test:7687".to_owned(),
            listener: "127.0.0.1:7688".to_owned(),
            login: Some(ClientLogin { user: "main".to_owned(), token }),
        };
        let malformed = Arc::<AtomicBool>::default();
        let filter = BoltFilter::new(access, None, awaited.clone(), malformed);
        Self { filter, awaited }
    }

    /// What the server gets of these bytes, which come in pieces of this length.
    fn feed(&mut self, bytes: &[u8], piece: usize) -> (Result<(), ()>, Vec<u8>) {
        let mut checked = BytesMut::new();
        let mut fed =
            bytes.chunks(piece).map(|it| self.filter.feed(it, &mut checked).map_err(drop));
        let fed = fed.find(Result::is_err).unwrap_or(Ok(()));
        (fed, checked.to_vec())
    }

    /// What the client gets of these answers of the server.
    fn answered(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut filter, mut checked) = (AnswerFilter::new(self.awaited.clone()), BytesMut::new());
        let waker = std::task::Waker::noop();
        filter.poll_own(&mut std::task::Context::from_waker(waker), &mut checked);
        filter.feed(bytes, &mut checked).expect("messages");
        checked.to_vec()
    }
}

/// The messages in a stream, however they are split into chunks.
fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut chunks, mut all, mut message) = (messages::Chunks::default(), Vec::new(), Vec::new());
    while let Some(piece) = chunks.piece(&mut bytes) {
        match piece {
            messages::Piece::Payload(payload) => message.extend_from_slice(payload),
            messages::Piece::End => all.push(std::mem::take(&mut message)),
            messages::Piece::Nothing => {}
        }
    }
    assert!(message.is_empty(), "the last message is whole");
    all
}

#[test]
fn permitted_messages_pass_unchanged_in_pieces_of_any_size() {
    let all = [
        run("CREATE (n {x: 1})"),
        pull(),
        with_map(tag::BEGIN, &[("db", "app")]),
        run_with("MATCH (n) RETURN n", &[("db", "app")]),
        message(&[0xb1, tag::DISCARD, 0xa0]),
        empty(tag::COMMIT),
        empty(tag::ROLLBACK),
        message(&[0xb1, tag::TELEMETRY, 0x01]),
        empty(tag::RESET),
        vec![0, 0],
        empty(tag::GOODBYE),
    ]
    .concat();
    for piece in [1, 2, 3, 7, 64, 1_000_000] {
        let (fed, got) = Filtered::new(false, NEWEST).feed(&all, piece);
        assert_eq!((fed, payloads(&got)), (Ok(()), payloads(&all)), "{piece}");
    }
}

#[test]
fn parameters_of_any_length_pass_and_take_no_memory() {
    let mut payload = vec![0xb3, tag::RUN];
    put_text("UNWIND $rows AS row RETURN row", &mut payload);
    payload.extend([0xa1, 0x84, b'r', b'o', b'w', b's', 0xd6, 0, 0x30, 0, 0]);
    payload.extend([[0x81, b'x']; 0x30_0000].concat());
    payload.extend(map_of_texts(&[("mode", "w"), ("db", "app")]));
    let sent = message(&payload);
    let mut expected =
        payload[..payload.len() - map_of_texts(&[("mode", "w"), ("db", "app")]).len()].to_vec();
    expected.extend(map_of_texts(&[("db", "app"), ("mode", "r")]));
    for piece in [4096, 70_000] {
        let mut filtered = Filtered::new(true, NEWEST);
        let (mut checked, mut most, mut got) = (BytesMut::new(), 0, Vec::new());
        for bytes in sent.chunks(piece) {
            filtered.filter.feed(bytes, &mut checked).expect("it is valid");
            most = most.max(checked.len());
            got.extend_from_slice(&checked.split());
        }
        assert!(payloads(&got) == vec![expected.clone()], "{piece}");
        assert!(most < 1_300_000, "{most}");
    }
}

#[test]
fn a_malformed_message_or_one_out_of_order_ends_the_session() {
    let good = run("RETURN 1");
    let deep = [&[0xb3, tag::RUN, 0x81, b'x', 0xa1, 0x81, b'a'][..], &[0x91; 10_000]].concat();
    let list = [&[0xb3, tag::RUN, 0x81, b'x'][..], &[0xa0], &[0x90]].concat();
    let long = vec![0x81; 1024 * 1024 + 1];
    for bytes in [
        message(&[0x01]),
        message(&[0xb0, 0x99]),
        message(&[0xb0, tag::RUN]),
        message(&[0xb3, tag::RUN, 0x01, 0xa0, 0xa0]),
        message(&[0xb3, tag::RUN, 0x82, 0xff, 0xfe, 0xa0, 0xa0]),
        message(&[0xb3, tag::RUN, 0xd2, 0xff, 0xff, 0xff, 0xff, b'x']),
        message(&[0xb3, tag::RUN, 0x81, b'x', 0xda, 0xff, 0xff, 0xff, 0xff]),
        message(&[0xb3, tag::RUN, 0x81, b'x', 0xa0, 0xa1, 0x01, 0x01]),
        message(&list),
        message(&deep),
        message(&[0xb3, tag::RUN, 0x81, b'x', 0xa0, 0xa0, 0xa0]),
        message(&[0xb1, tag::PULL]),
        message(&[0xb1, tag::PULL, 0xc7]),
        message(&[0xb1, tag::BEGIN, 0x90]),
        message(&[0xb1, tag::RESET, 0xa0]),
        message(&[0xb0, tag::SUCCESS]),
        message(&long),
        hello(),
        logon("main", "kwa_t"),
        [logon("main", "kwa_t"), logon("main", "kwa_t")].concat(),
        [empty(tag::LOGOFF), run("RETURN 1")].concat(),
        [empty(tag::LOGOFF), empty(tag::LOGOFF)].concat(),
        [empty(tag::LOGOFF), logon("main", "kwa_t"), logon("main", "kwa_t")].concat(),
        [empty(tag::LOGOFF), logon("main", "kwa_x"), run("RETURN 1")].concat(),
        run("RETURN 1").repeat(1025),
    ] {
        for piece in [1000, bytes.len()] {
            let sent = [&bytes[..], &good].concat();
            let (fed, got) = Filtered::new(false, NEWEST).feed(&sent, piece);
            assert_eq!(fed, Err(()), "{:?}", &bytes[..bytes.len().min(40)]);
            assert!(got.len() <= bytes.len(), "nothing behind it");
        }
    }
    let mut old = Filtered::new(false, OLDEST);
    assert_eq!(old.feed(&empty(tag::LOGOFF), 100).0, Err(()), "4.4 has no such message");
}

#[test]
fn a_refused_message_is_answered_here_and_what_follows_is_ignored_until_reset() {
    for piece in [1, 5, 1000] {
        let mut filtered = Filtered::new(true, NEWEST);
        let sent = [
            run("RETURN 1"),
            pull(),
            run("CALL dbms.shutdown()"),
            pull(),
            run("RETURN 2"),
            empty(tag::RESET),
            run("RETURN 3"),
        ]
        .concat();
        let (fed, got) = filtered.feed(&sent, piece);
        assert_eq!(fed, Ok(()));
        let expected = [
            run_with("RETURN 1", &[("mode", "r")]),
            pull(),
            empty(tag::RESET),
            run_with("RETURN 3", &[("mode", "r")]),
        ];
        assert_eq!(payloads(&got), payloads(&expected.concat()), "{piece}");
        let row = message(&[0xb1, tag::RECORD, 0x91, 0x01]);
        let ok = messages::success();
        let answers = [ok.clone(), row, ok.clone(), ok.clone(), ok.clone()].concat();
        let got = payloads(&filtered.answered(&answers));
        let tags: Vec<u8> = got.iter().map(|message| message[1]).collect();
        let (yes, no, ignored) = (tag::SUCCESS, tag::FAILURE, tag::IGNORED);
        assert_eq!(tags, [yes, tag::RECORD, yes, no, ignored, ignored, yes, yes]);
        let (_, failure) = messages::metadata(&got[3]).expect("a map");
        assert_eq!(failure.text("neo4j_code"), Some("Neo.ClientError.Security.Forbidden"));
        let words = failure.text("message").expect("words");
        assert!(words.contains("the procedure dbms.shutdown is not known to read"), "{words}");
    }
}

#[test]
fn answers_of_keyward_wait_for_those_of_the_server_and_follow_its_failure() {
    let mut filtered = Filtered::new(false, NEWEST);
    let sent = [run("bad"), pull(), run("SHOW USERS"), empty(tag::RESET)].concat();
    assert_eq!(filtered.feed(&sent, 1000).0, Ok(()));
    assert!(filtered.answered(&[]).is_empty(), "the server answers first");
    let failed = messages::failure(NEWEST, "Neo.ClientError.Statement.SyntaxError", "bad");
    let answers = [failed, messages::ignored(), messages::success()].concat();
    let tags: Vec<u8> =
        payloads(&filtered.answered(&answers)).iter().map(|message| message[1]).collect();
    assert_eq!(tags, [tag::FAILURE, tag::IGNORED, tag::IGNORED, tag::SUCCESS]);
}

#[test]
fn the_mode_of_a_read_only_session_is_kept_however_it_is_written() {
    let begin = |entries: &[(&str, &str)]| with_map(tag::BEGIN, entries);
    for entries in [
        &[][..],
        &[("mode", "w")],
        &[("mode", "r")],
        &[("mode", "w"), ("mode", "r")],
        &[("mode", "r"), ("mode", "w")],
    ] {
        for (sent, expected) in [
            (begin(entries), begin(&[("mode", "r")])),
            (run_with("RETURN 1", entries), run_with("RETURN 1", &[("mode", "r")])),
        ] {
            let (fed, got) = Filtered::new(true, NEWEST).feed(&sent, 1000);
            assert_eq!((fed, payloads(&got)), (Ok(()), payloads(&expected)), "{entries:?}");
        }
    }
    // An agent does not become another user, also where it may write.
    for read_only in [true, false] {
        for sent in [begin(&[("imp_user", "x")]), run_with("RETURN 1", &[("imp_user", "x")])] {
            let mut filtered = Filtered::new(read_only, NEWEST);
            let (fed, got) = filtered.feed(&sent, 1000);
            assert_eq!((fed, got), (Ok(()), vec![]));
            let answered = payloads(&filtered.answered(&[]));
            assert_eq!(answered[0][1], tag::FAILURE);
        }
    }
}

#[test]
fn a_login_within_a_session_is_answered_here() {
    let mut filtered = Filtered::new(false, NEWEST);
    let sent = [
        empty(tag::LOGOFF),
        logon("main", "kwa_other"),
        logon("other", "kwa_t"),
        logon("main", "kwa_t"),
        run("RETURN 1"),
    ];
    let (fed, got) = filtered.feed(&sent.concat(), 1000);
    assert_eq!((fed, payloads(&got)), (Ok(()), payloads(&run("RETURN 1"))));
    let answered = payloads(&filtered.answered(&messages::success()));
    let tags: Vec<u8> = answered.iter().map(|message| message[1]).collect();
    let (yes, no) = (tag::SUCCESS, tag::FAILURE);
    assert_eq!(tags, [yes, no, no, yes, yes]);
}

/// A table of routes as a cluster answers it.
fn table() -> Vec<u8> {
    let mut servers = vec![0x91, 0xa2];
    put_text("addresses", &mut servers);
    messages::put_texts(&["one.db.test:7687", "two.db.test:7687"], &mut servers);
    put_text("role", &mut servers);
    put_text("WRITE", &mut servers);
    let mut answer = vec![0xb1, tag::SUCCESS, 0xa1];
    put_text("rt", &mut answer);
    put_map(3, &mut answer);
    put_text("ttl", &mut answer);
    answer.extend([0xc9, 1, 44]);
    put_text("db", &mut answer);
    put_text("app", &mut answer);
    put_text("servers", &mut answer);
    answer.extend(servers);
    message(&answer)
}

#[test]
fn a_table_of_routes_leads_to_the_listener_as_the_client_finds_it() {
    let route = |address: &str| {
        let mut payload = vec![0xb3, tag::ROUTE];
        payload.extend(map_of_texts(&[("address", address), ("policy", "eu")]));
        payload.extend([0x90, 0xa0]);
        message(&payload)
    };
    for piece in [1, 1000] {
        let mut filtered = Filtered::new(true, NEWEST);
        let (fed, got) = filtered.feed(&[route("keyward.test:9"), pull()].concat(), piece);
        assert_eq!(fed, Ok(()));
        assert!(fuzzed::has(&got, "db.test:7687") && !fuzzed::has(&got, "keyward.test"));
        let answered = filtered.answered(&[&[0, 0][..], &table(), &messages::success()].concat());
        let all = payloads(&answered);
        let (_, outer) = messages::metadata(&all[0]).expect("a map");
        let inner = ValueReader(outer.get("rt").expect("a table")).map().expect("a map");
        assert_eq!((inner.text("db"), inner.get("ttl")), (Some("app"), Some(&[0xc9, 1, 44][..])));
        let servers = ValueReader(inner.get("servers").expect("servers")).list().expect("a list");
        assert_eq!(servers.len(), 3);
        assert!(fuzzed::has(&answered, "keyward.test:9") && !fuzzed::has(&answered, "one.db"));
        assert_eq!(all[1..], payloads(&messages::success()));
    }
    // A failure is passed on, and another user gets no table.
    let mut filtered = Filtered::new(false, NEWEST);
    filtered.feed(&route("k:1"), 1000).0.expect("it is valid");
    let failed = messages::failure(NEWEST, "Neo.ClientError.Database.DatabaseNotFound", "no");
    assert_eq!(payloads(&filtered.answered(&failed)), payloads(&failed));
    let awaited = Arc::<AwaitedAnswers>::default();
    awaited.add(Awaited::Routes("k:1".to_owned())).expect("it has room");
    let mut filter = AnswerFilter::new(awaited);
    let fed = filter.feed(&messages::success(), &mut BytesMut::new());
    assert!(fed.is_err(), "no table is none that is passed on");
}

#[test]
fn records_pass_as_bytes_in_pieces_of_any_size() {
    let rows = [
        message(&[&[0xb1, tag::RECORD, 0x91, 0xd1, 0, 4][..], b"text"].concat()),
        message(&[&[0xb1, tag::RECORD, 0x91][..], &text(&"x".repeat(100_000))].concat()),
        vec![0, 0],
        messages::success(),
    ]
    .concat();
    for piece in [1, 3, 1000, 200_000] {
        let awaited = Arc::<AwaitedAnswers>::default();
        awaited.add(Awaited::Server).expect("it has room");
        let (mut filter, mut checked) = (AnswerFilter::new(awaited.clone()), BytesMut::new());
        rows.chunks(piece).for_each(|it| filter.feed(it, &mut checked).expect("messages"));
        assert!(checked == rows, "{piece}");
        assert!(awaited.is_idle());
    }
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

#[test]
fn fuzzed_messages_of_a_read_only_session_reach_no_procedure() {
    let messages = vec![
        run("RETURN 1"),
        run("CALL dbms.shutdown()"),
        with_map(tag::BEGIN, &[("mode", "w")]),
        pull(),
        empty(tag::RESET),
        empty(tag::LOGOFF),
        logon("main", "kwa_t"),
    ];
    fuzzed::with_all_of(messages, async |bytes| {
        for piece in [1, 1000] {
            let (_, got) = Filtered::new(true, NEWEST).feed(&bytes, piece);
            assert!(!fuzzed::has(&got, "CALL dbms.shutdown()"), "{bytes:?}");
            assert!(!fuzzed::has(&got, "kwa_t"), "{bytes:?}");
        }
    });
}
