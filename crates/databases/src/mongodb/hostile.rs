//! Hostile clients and servers, in process: what is sent before the login, servers that answer it wrongly, and messages that a
//! filter must not pass.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::commands::MongoAccess;
use super::filter::{AnswerFilter, MongoFilter, Replaced};
use super::greeting::{self, MongoClient, MongoGreetingError};
use super::login::MongoLogin;
use super::wire::{self, EARLY_BYTES_MAX, Message, MessageForm, MongoFormatError, OP_MSG, ReplyTo};
use crate::login::ServerError;
use crate::stream::StreamFilter;
use crate::{fuzzed, sample};
use keyward_base::database::DatabaseProtocol;

const PASSWORD: &str = "canary-password";

fn msg(document: &RawDocumentBuf) -> Vec<u8> {
    wire::msg(7, 0, document)
}

/// The same with these bytes at a place.
fn patched(mut bytes: Vec<u8>, at: usize, with: &[u8]) -> Vec<u8> {
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// An `OP_QUERY`.
fn query(collection: &str, document: &RawDocumentBuf) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(collection.as_bytes());
    body.extend_from_slice(&[0; 5]);
    body.extend_from_slice(&(-1_i32).to_le_bytes());
    body.extend_from_slice(document.as_bytes());
    let length = u32::try_from(body.len() + 16).expect("it is short");
    let head = [length, 7, 0, 2004].map(u32::to_le_bytes).concat();
    [head, body].concat()
}

fn plain(payload: &str) -> RawDocumentBuf {
    rawdoc! { "saslStart": 1, "mechanism": "PLAIN", "payload": payload, "$db": "$external" }
}

/// The result for a client that sends this, and the answers that it gets.
async fn sent(
    bytes: &[u8],
    is_owned: bool,
) -> (Result<MongoClient, MongoGreetingError>, Vec<Message>) {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(bytes).await.expect("it has room");
    client.shutdown().await.expect("it is open");
    let read = greeting::read(&mut server, is_owned).await;
    drop(server);
    let mut answers = Vec::new();
    while let Ok(answer) = Message::read(&mut client, 1 << 20).await {
        answers.push(answer);
    }
    (read, answers)
}

#[tokio::test]
async fn nothing_but_a_login_is_accepted_before_the_login() {
    let ping = msg(&rawdoc! { "ping": 1, "$db": "admin" });
    let long = "x".repeat(EARLY_BYTES_MAX);
    let malformed = MongoGreetingError::Malformed;
    for (bytes, expected) in [
        (vec![], MongoGreetingError::Left),
        (ping.clone(), MongoGreetingError::Left),
        (ping[..ping.len() - 1].to_vec(), MongoGreetingError::Left),
        (patched(ping.clone(), 0, &[15, 0, 0, 0]), malformed(MongoFormatError::Length)),
        (patched(ping.clone(), 0, &[0xff; 4]), malformed(MongoFormatError::Length)),
        (msg(&rawdoc! { "ping": long }), malformed(MongoFormatError::Length)),
        (patched(ping.clone(), 12, &[0xdc]), malformed(MongoFormatError::Opcode)),
        (patched(ping.clone(), 16, &[4]), malformed(MongoFormatError::Flags)),
        (patched(ping.clone(), 16, &[1]), malformed(MongoFormatError::Document)),
        (patched(ping.clone(), 20, &[1]), malformed(MongoFormatError::Section)),
        (patched(ping.clone(), 21, &[9]), malformed(MongoFormatError::Document)),
        (query("app.items", &rawdoc! { "a": 1 }), malformed(MongoFormatError::Opcode)),
        (msg(&rawdoc! {}), malformed(MongoFormatError::Document)),
        (ping.repeat(40), malformed(MongoFormatError::TooMany)),
    ] {
        let (read, _) = sent(&bytes, false).await;
        assert_eq!(read.err(), Some(expected), "{:?}", &bytes[..bytes.len().min(40)]);
    }
}

#[tokio::test]
async fn commands_before_the_login_are_answered_as_a_server_answers_them() {
    for (command, says) in [
        (rawdoc! { "find": "system.users", "$db": "admin" }, "the command needs a login"),
        (rawdoc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256" }, "add `authMechanism=PLAIN`"),
        (rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509" }, "add `authMechanism=PLAIN`"),
        (plain("kwa_t"), "no user and password"),
        (plain("a\0b\0c\0d"), "no user and password"),
        (rawdoc! { "saslStart": 1, "mechanism": "PLAIN", "payload": 1 }, "no user and password"),
    ] {
        let (read, answers) = sent(&msg(&command), false).await;
        assert_eq!(read.err(), Some(MongoGreetingError::Left));
        let (asked, answer) = answers[0].command().expect("a document");
        assert_eq!((asked.form, answers[0].header.response_to), (MessageForm::Msg, 7));
        assert!(answer.get_str("errmsg").expect("words").contains(says), "{answer:?}");
        assert!(!super::login::is_ok(answer));
    }
}

#[tokio::test]
async fn hello_is_answered_as_a_single_server_in_the_message_form_of_the_request() {
    let speculative = rawdoc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256" };
    let hello = rawdoc! {
        "hello": 1, "loadBalanced": true, "saslSupportedMechs": "admin.u",
        "speculativeAuthenticate": speculative, "compression": ["zstd"], "$db": "admin",
    };
    let (_, answers) = sent(&msg(&hello), false).await;
    let (_, answer) = answers[0].command().expect("a document");
    assert_eq!(answer.get_str("msg").expect("text"), "isdbgrid");
    assert!(answer.get_object_id("serviceId").is_ok());
    for name in ["speculativeAuthenticate", "compression", "setName", "hosts", "topologyVersion"] {
        assert!(answer.get(name).expect("it is readable").is_none(), "{name}");
    }
    let (_, answers) = sent(&query("admin.$cmd", &rawdoc! { "ismaster": 1 }), false).await;
    assert_eq!((answers[0].header.opcode, answers[0].header.response_to), (wire::OP_REPLY, 7));
    let answer = bson::RawDocument::from_bytes(&answers[0].body[20..]).expect("a document");
    assert!(answer.get_bool("ismaster").expect("a bool"));
    assert!(answer.get("serviceId").expect("it is readable").is_none(), "nothing was asked");
}

#[tokio::test]
async fn a_login_is_parsed_and_the_messages_after_it_stay_in_the_stream() {
    let follows = msg(&rawdoc! { "find": "items", "$db": "app" });
    let bytes = [msg(&plain("\0main\0kwa_t")), follows.clone()].concat();
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(&bytes).await.expect("it has room");
    let read = greeting::read(&mut server, false).await.expect("a login");
    assert_eq!((&*read.user, read.token.expect("a token").as_str()), ("main", "kwa_t"));
    assert_eq!(read.asked, ReplyTo { form: MessageForm::Msg, request: 7 });
    assert!(read.first.is_empty());
    let mut rest = vec![0; follows.len()];
    server.read_exact(&mut rest).await.expect("it is there");
    assert_eq!(rest, follows);
    // A listener with an agent requires no login: the server answers the first command.
    let (read, _) = sent(&follows, true).await;
    assert_eq!(read.expect("its listener has an agent").first, follows);
}

/// The result of a login at a server that answers commands with these.
async fn against(
    password: &str,
    answers: &[RawDocumentBuf],
) -> (Result<(), ServerError>, Vec<Message>) {
    let permitted = sample::permitted(DatabaseProtocol::Mongodb, Some("u"), password);
    let login = MongoLogin::new(permitted, "ci").expect("it is complete");
    let (mut stream, mut server) = duplex(1 << 20);
    // Each part of the login counts its own questions.
    for (number, answer) in [1, 1, 2, 3].into_iter().zip(answers) {
        server.write_all(&wire::msg(0, number, answer)).await.expect("it has room");
    }
    server.shutdown().await.expect("it is open");
    let opened = async {
        let hello = login.greeted_on(&mut stream).await?;
        login.open_on(&mut stream, &hello).await
    };
    let opened = opened.await;
    drop(stream);
    let mut got = Vec::new();
    while let Ok(message) = Message::read(&mut server, 1 << 20).await {
        got.push(message);
    }
    (opened, got)
}

fn scram_step(text: &str, done: bool) -> RawDocumentBuf {
    let bytes = text.as_bytes().to_vec();
    let payload = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes };
    rawdoc! { "ok": 1.0, "conversationId": 1, "done": done, "payload": payload }
}

/// The result of a login at a server that repeats the client's nonce, and answers the proof with `last`; and what it got.
async fn against_scram(
    rounds: u32,
    last: RawDocumentBuf,
) -> (Result<(), ServerError>, Vec<Message>) {
    let permitted = sample::permitted(DatabaseProtocol::Mongodb, Some("u"), PASSWORD);
    let login = MongoLogin::new(permitted, "ci").expect("it is complete");
    let (mut stream, mut server) = duplex(1 << 20);
    let served = tokio::spawn(async move {
        let mut got = Vec::new();
        while let Ok(message) = Message::read(&mut server, 1 << 20).await {
            let (asked, command) = message.command().expect("a command");
            let answer = if command.get_i32("isMaster").is_ok() {
                rawdoc! { "ok": 1, "maxWireVersion": 21, "saslSupportedMechs": ["SCRAM-SHA-256"] }
            } else if command.get_i32("saslStart").is_ok() {
                let first = command.get_binary("payload").expect("a payload").bytes.to_vec();
                let first = String::from_utf8(first).expect("text");
                let (_, nonce) = first.split_once(",r=").expect("a nonce");
                scram_step(&format!("r={nonce}server,s=QUJD,i={rounds}"), false)
            } else {
                last.clone()
            };
            let answer = wire::msg(0, asked.request, &answer);
            server.write_all(&answer).await.expect("it has room");
            got.push(message);
        }
        got
    });
    let opened = async {
        let hello = login.greeted_on(&mut stream).await?;
        login.open_on(&mut stream, &hello).await
    };
    let opened = opened.await;
    drop(stream);
    (opened, served.await.expect("no panic"))
}

#[tokio::test]
async fn a_server_that_knows_the_nonce_but_not_the_password_opens_no_session() {
    let wrong = format!("v={}=", "A".repeat(43));
    for (rounds, last, says, proofs) in [
        (4095, scram_step("v=AAAA", true), "SCRAM with few rounds", 0),
        (4096, scram_step("", true), "does not prove that it knows the password", 1),
        (4096, scram_step("v=", true), "does not prove that it knows the password", 1),
        (4096, scram_step("e=other-error", true), "does not prove that it knows", 1),
        (4096, scram_step(&wrong, true), "does not prove that it knows the password", 1),
        // Nothing is sent to it after the proof.
        (4096, scram_step(&wrong, false), "does not prove that it knows the password", 1),
        (4096, rawdoc! { "ok": 1.0, "done": true }, "does not answer as MongoDB does", 1),
    ] {
        let (opened, got) = against_scram(rounds, last).await;
        let error = opened.expect_err("no session").to_string();
        assert!(error.contains(says), "{error}");
        let is_proof = |message: &&Message| fuzzed::has(&message.body, "saslContinue");
        assert_eq!(got.iter().filter(is_proof).count(), proofs, "{error}");
        assert!(got.iter().all(|message| !fuzzed::has(&message.body, PASSWORD)), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_or_sends_no_valid_challenge_opens_no_session() {
    let hello = |mechanism: &str| rawdoc! { "ok": 1, "maxWireVersion": 21, "saslSupportedMechs": [mechanism] };
    let sha = || hello("SCRAM-SHA-256");
    let step = |text: &str| scram_step(text, true);
    let refusal = |words: &str| rawdoc! { "ok": 0, "code": 18, "errmsg": words };
    for (answers, says) in [
        (vec![], "closed the stream"),
        (vec![rawdoc! { "ok": 1, "maxWireVersion": 5 }], "older than MongoDB 3.6"),
        (vec![rawdoc! { "ok": 1 }], "does not answer as MongoDB does"),
        (vec![rawdoc! { "ok": 0, "errmsg": "no" }], "refuses the login: no"),
        (vec![hello("GSSAPI")], "another mechanism than SCRAM"),
        (vec![sha(), refusal("Authentication failed.")], "refuses the login: Authentication"),
        (vec![sha(), refusal(&format!("wrong: {PASSWORD}"))], "no usable reason"),
        (vec![sha(), step("v=")], "does not answer as MongoDB does"),
        (vec![sha(), step("r=another,s=QUJD,i=4096")], "does not answer as MongoDB does"),
        (vec![sha(), rawdoc! { "ok": 1, "conversationId": 1 }], "does not answer as MongoDB does"),
    ] {
        let (opened, got) = against(PASSWORD, &answers).await;
        let error = opened.expect_err("no session").to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(PASSWORD), "{error}");
        for message in got {
            let text = String::from_utf8_lossy(&message.body).into_owned();
            assert!(!text.contains(PASSWORD) && !text.contains("saslContinue"), "{text}");
        }
    }
}

/// What a server gets of these bytes, which come in pieces of this length.
fn filtered(
    read_only: bool,
    bytes: &[u8],
    piece: usize,
) -> (Result<(), ()>, Vec<u8>, Arc<Replaced>) {
    let replaced = Arc::<Replaced>::default();
    let malformed = Arc::<AtomicBool>::default();
    let mut filter = MongoFilter::new(MongoAccess { read_only }, replaced.clone(), malformed);
    let mut checked = BytesMut::new();
    let mut fed = bytes.chunks(piece).map(|chunk| filter.feed(chunk, &mut checked).map_err(drop));
    let fed = fed.find(Result::is_err).unwrap_or(Ok(()));
    (fed, checked.to_vec(), replaced)
}

/// A message with documents behind its command, and with these flags.
fn with_documents(command: &RawDocumentBuf, sections: &[u8], flags: u8) -> Vec<u8> {
    let mut bytes = [msg(command), sections.to_vec()].concat();
    let length = u32::try_from(bytes.len()).expect("it is short");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[16] = flags;
    bytes
}

fn documents(name: &str) -> Vec<u8> {
    let document = rawdoc! { "_id": 1 };
    let length = 4 + name.len() + 1 + document.as_bytes().len();
    let length = u32::try_from(length).expect("it is short").to_le_bytes();
    [&[1][..], &length, name.as_bytes(), &[0], document.as_bytes()].concat()
}

#[test]
fn permitted_messages_pass_unchanged_in_pieces_of_any_length() {
    let insert = rawdoc! { "insert": "items", "$db": "app" };
    let two = [documents("documents"), documents("more")].concat();
    let all = [
        msg(&rawdoc! { "find": "items", "$db": "app" }),
        with_documents(&insert, &documents("documents"), 0),
        with_documents(&insert, &two, 2),
        // A checksum is the client's and the server's.
        with_documents(&insert, &[&two[..], &[1, 2, 3, 4]].concat(), 1),
        with_documents(&rawdoc! { "ping": 1, "$db": "app" }, &[1, 2, 3, 4], 1),
    ]
    .concat();
    for piece in [1, 2, 3, 7, 16, 21, 64, all.len()] {
        let (fed, checked, _) = filtered(false, &all, piece);
        assert_eq!((fed, &checked), (Ok(()), &all), "{piece}");
    }
}

#[test]
fn a_malformed_or_unsupported_message_ends_the_session() {
    let insert = rawdoc! { "insert": "items", "$db": "app" };
    let good = msg(&insert);
    let second_command = [&[0][..], rawdoc! { "drop": "items" }.as_bytes()].concat();
    for bytes in [
        patched(good.clone(), 0, &[24]),
        patched(good.clone(), 0, &[0xff; 4]),
        patched(good.clone(), 12, &[0xd2]),
        patched(good.clone(), 12, &[0xdc]),
        patched(good.clone(), 16, &[8]),
        patched(good.clone(), 20, &[1]),
        patched(good.clone(), 20, &[2]),
        patched(good.clone(), 21, &[4, 0, 0, 0]),
        patched(good.clone(), 21, &[0xff; 4]),
        with_documents(&insert, &second_command, 0),
        with_documents(&insert, &[1, 4, 0, 0, 0], 0),
        with_documents(&insert, &[1, 200, 0, 0, 0, b'a', 0], 0),
        with_documents(&insert, &[1, 5, 0], 0),
        with_documents(&insert, &[1, 5, 0], 1),
        query("admin.$cmd", &rawdoc! { "drop": "items" }),
        query("app.items", &rawdoc! { "hello": 1 }),
    ] {
        for piece in [1, bytes.len()] {
            let (fed, checked, _) = filtered(false, &bytes, piece);
            assert_eq!(fed, Err(()), "{bytes:?}");
            assert_ne!(checked, bytes, "it is not complete");
        }
    }
}

/// What a client gets of the server's answers, which come in pieces.
fn answered(replaced: Arc<Replaced>, bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut filter, mut checked) = (AnswerFilter::new(replaced), BytesMut::new());
    bytes.chunks(piece).for_each(|chunk| filter.feed(chunk, &mut checked).expect("messages"));
    checked.to_vec()
}

#[test]
fn a_refused_command_becomes_a_ping_and_keyward_replaces_its_answer() {
    let refused = rawdoc! { "getParameter": "*", "$db": "admin" };
    let ping = msg(&rawdoc! { "ping": 1, "$db": "admin" });
    let ok = |request| wire::msg(90, request, &rawdoc! { "ok": 1.0 });
    for piece in [1, 5, 1000] {
        let sections = with_documents(&refused, &documents("documents"), 0);
        let (fed, checked, replaced) = filtered(false, &sections, piece);
        assert_eq!((fed, &checked), (Ok(()), &ping));
        let all = [ok(3), ok(7), ok(7)].concat();
        let got = answered(replaced, &all, piece);
        assert!(got.starts_with(&ok(3)) && got.ends_with(&ok(7)), "once alone");
        let text = String::from_utf8_lossy(&got).into_owned();
        assert!(text.contains("keyward: getParameter is refused: it reads settings"), "{text}");
    }
    let (_, checked, replaced) = filtered(false, &query("x.$cmd", &rawdoc! { "isMaster": 1 }), 9);
    assert_eq!(checked, ping);
    let got = answered(replaced, &ok(7), 4);
    assert_eq!(got[12..16], wire::OP_REPLY.to_le_bytes());
    // Where no answer is awaited, the server gets nothing.
    let (fed, checked, _) = filtered(false, &with_documents(&refused, &[], 2), 1000);
    assert_eq!((fed, checked), (Ok(()), Vec::new()));
    // Nor are answers kept without a bound.
    let (fed, _, _) = filtered(false, &msg(&refused).repeat(100), 4096);
    assert_eq!(fed, Err(()));
}

#[test]
fn a_read_only_session_refuses_commands_with_document_sections() {
    let find = with_documents(
        &rawdoc! { "aggregate": "items", "cursor": {}, "$db": "app" },
        &documents("pipeline"),
        0,
    );
    let (_, checked, replaced) = filtered(true, &find, 1000);
    assert_eq!(checked, msg(&rawdoc! { "ping": 1, "$db": "admin" }));
    let answer = wire::msg(1, 7, &rawdoc! { "ok": 1.0 });
    let got = answered(replaced, &answer, 1000);
    assert!(String::from_utf8_lossy(&got).contains("the connection is read-only"));
    assert_eq!(got[12..16], OP_MSG.to_le_bytes());
}

#[test]
fn fuzzed_first_messages_end_in_time_and_get_short_answers() {
    let messages = vec![
        msg(&rawdoc! { "hello": 1, "saslSupportedMechs": "admin.u", "$db": "admin" }),
        msg(&rawdoc! { "ping": 1, "$db": "admin" }),
        query("admin.$cmd", &rawdoc! { "ismaster": 1 }),
        msg(&plain("\0main\0kwa_t")),
        msg(&rawdoc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256" }),
    ];
    fuzzed::with_all_of(messages, async |bytes| {
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let read = greeting::read(&mut stream, false).await;
        assert!(read.is_err() || fuzzed::has(&bytes, "saslStart"), "{bytes:?}");
        assert!(fuzzed::got(stream, peer).await.len() < 64 * 1024);
    });
}

#[test]
fn no_fuzzed_server_answer_gets_the_password() {
    let step = |text: &str| scram_step(text, false);
    let mechanisms = ["SCRAM-SHA-256", "PLAIN"]
        .map(|it| rawdoc! { "ok": 1, "maxWireVersion": 21, "saslSupportedMechs": [it] });
    let refusal = rawdoc! { "ok": 0, "code": 18, "errmsg": "no" };
    let mut documents = mechanisms.to_vec();
    documents.extend([step("r=x,s=c2FsdHNhbHRzYWx0c2FsdA==,i=15000"), step("v=AAAA"), refusal]);
    let answers =
        |document: &RawDocumentBuf| [1, 2, 3].map(|number| wire::msg(0, number, document));
    let messages = documents.iter().flat_map(answers).collect();
    fuzzed::with_all_of(messages, async |bytes| {
        let permitted = sample::permitted(DatabaseProtocol::Mongodb, Some("u"), PASSWORD);
        let login = MongoLogin::new(permitted, "ci").expect("it is complete");
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let opened = async {
            let hello = login.greeted_on(&mut stream).await?;
            login.open_on(&mut stream, &hello).await
        };
        let words = opened.await.err().map(|error| error.to_string()).unwrap_or_default();
        let got = fuzzed::got(stream, peer).await;
        assert!(!fuzzed::has(&got, PASSWORD) && !words.contains(PASSWORD), "{words}");
        assert!(got.len() < 8_192);
    });
}
