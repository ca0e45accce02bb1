//! Messages of a session, in process: what a filter passes, refuses and answers, and what it does with answers of the
//! server.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::BytesMut;

use super::answers::{AnswerFilter, Awaited, AwaitedAnswers};
use super::filter::{BoltAccess, BoltFilter};
use super::format::{BoltVersion, NEWEST, OLDEST};
use super::greeting::ClientLogin;
use super::hostile::{empty, hello, logon, message, pull, run, run_with, with_map};
use super::messages::{self, tag};
use super::packstream::{ValueReader, map_of_texts, put_map, put_text, text};
use crate::fuzzed;
use crate::stream::StreamFilter;

/// A filter of a session, and the answers that are awaited.
struct Filtered {
    filter: BoltFilter,
    awaited: Arc<AwaitedAnswers>,
}

impl Filtered {
    fn new(read_only: bool, version: BoltVersion) -> Self {
        Self::at(None, read_only, version)
    }

    fn at(database: Option<&str>, read_only: bool, version: BoltVersion) -> Self {
        let awaited = Arc::<AwaitedAnswers>::default();
        let token = Some(String::from("kwa_t").into());
        let access = BoltAccess {
            version,
            read_only,
            database: database.map(str::to_owned),
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
    payload.extend([0x81, b'x'].repeat(0x30_0000));
    let mut expected = payload.clone();
    payload.extend(map_of_texts(&[("mode", "w"), ("db", "app")]));
    let sent = message(&payload);
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
        [empty(tag::LOGOFF), logon("main", "kwa_x"), empty(tag::RESET), run("RETURN 1")].concat(),
    ] {
        for piece in [1000, bytes.len()] {
            let sent = [&bytes[..], &good].concat();
            let (fed, got) = Filtered::new(false, NEWEST).feed(&sent, piece);
            assert_eq!(fed, Err(()), "{:?}", &bytes[..bytes.len().min(40)]);
            assert!(!fuzzed::has(&got, "RETURN 1"), "nothing behind it");
        }
    }
    let many = run("RETURN 1").repeat(1025);
    assert_eq!(Filtered::new(false, NEWEST).feed(&many, 1000).0, Err(()), "too many wait");
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
fn the_database_of_the_connection_is_named_where_the_agent_names_none() {
    let begin = |entries: &[(&str, &str)]| with_map(tag::BEGIN, entries);
    let null = message(&[0xb1, tag::BEGIN, 0xa1, 0x82, b'd', b'b', 0xc0]);
    let movies = &[("db", "movies")];
    for (sent, expected) in [
        (begin(&[]), begin(movies)),
        (null, begin(movies)),
        (begin(&[("db", "other")]), begin(&[("db", "other")])),
        (run("RETURN 1"), run_with("RETURN 1", movies)),
        // Within a transaction, which has its database.
        ([begin(&[]), run("RETURN 1")].concat(), [begin(movies), run("RETURN 1")].concat()),
    ] {
        let (fed, got) = Filtered::at(Some("movies"), false, NEWEST).feed(&sent, 1000);
        assert_eq!((fed, payloads(&got)), (Ok(()), payloads(&expected)));
    }
    let route = message(&[0xb3, tag::ROUTE, 0xa0, 0x90, 0xa0]);
    let (fed, got) = Filtered::at(Some("movies"), false, NEWEST).feed(&route, 1000);
    assert!(fed.is_ok() && fuzzed::has(&got, "movies"));
}

#[test]
fn a_login_within_a_session_is_answered_here() {
    let mut filtered = Filtered::new(false, NEWEST);
    let sent = [
        empty(tag::LOGOFF),
        logon("main", "kwa_other"),
        run("RETURN 2"),
        empty(tag::RESET),
        logon("other", "kwa_t"),
        empty(tag::RESET),
        logon("main", "kwa_t"),
        run("RETURN 1"),
    ];
    let (fed, got) = filtered.feed(&sent.concat(), 1000);
    let expected = [empty(tag::RESET), empty(tag::RESET), run("RETURN 1")].concat();
    assert_eq!((fed, payloads(&got)), (Ok(()), payloads(&expected)));
    let answered = payloads(&filtered.answered(&messages::success().repeat(3)));
    let tags: Vec<u8> = answered.iter().map(|message| message[1]).collect();
    let (yes, no) = (tag::SUCCESS, tag::FAILURE);
    assert_eq!(tags, [yes, no, tag::IGNORED, yes, no, yes, yes, yes]);
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
    let other = map_of_texts(&[("imp_user", "x")]);
    let other = [&[0xb3, tag::ROUTE, 0xa0, 0x90][..], &other].concat();
    let (fed, got) = Filtered::new(false, NEWEST).feed(&message(&other), 1000);
    assert_eq!((fed, got), (Ok(()), vec![]));
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
            for payload in payloads(&got) {
                let (found, _, mut fields) = messages::parts(&payload).expect("a message");
                let is_call = fields.text() == Ok("CALL dbms.shutdown()");
                assert!(found != tag::RUN || !is_call, "{bytes:?}");
                assert!(![tag::LOGON, tag::LOGOFF].contains(&found), "{bytes:?}");
            }
        }
    });
}
