//! Hostile clients and servers, in process: what is sent before the login, and servers that answer it wrongly.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::greeting::{self, OpeningAnswer, RedisClient, RedisGreetingError};
use super::login::RedisLogin;
use super::resp::{RespFormatError, write_command};
use crate::login::ServerError;
use crate::{fuzzed, sample};
use keyward_base::database::DatabaseProtocol;

const PASSWORD: &str = "canary-password";

fn command(arguments: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    write_command(arguments, &mut out);
    out
}

/// The result for a client that sends this in pieces, and the answers that it gets.
async fn sent(bytes: &[u8], is_owned: bool) -> (Result<RedisClient, RedisGreetingError>, String) {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(bytes).await.expect("it has room");
    client.shutdown().await.expect("it is open");
    let read = greeting::read(&mut server, is_owned).await;
    drop(server);
    let mut answered = String::new();
    client.read_to_string(&mut answered).await.expect("it ends");
    (read, answered)
}

#[tokio::test]
async fn nothing_but_a_login_is_accepted_before_the_login() {
    let malformed = RedisGreetingError::Malformed;
    let many = vec!["x"; 11];
    let mut flood = Vec::new();
    (0..40).for_each(|_| flood.extend(command(&["PING"])));
    let long = "x".repeat(20_000);
    for (bytes, expected) in [
        (vec![], RedisGreetingError::Left),
        (command(&["QUIT"]), RedisGreetingError::Left),
        (command(&["GET", "k"]), RedisGreetingError::Left),
        (b"*2\r\n$4\r\nAUTH\r\n$300\r\nx".to_vec(), RedisGreetingError::Left),
        (command(&many), malformed(RespFormatError::TooLong)),
        (b"*1000000\r\n".to_vec(), malformed(RespFormatError::TooLong)),
        (b"*99999999999999999999\r\n".to_vec(), malformed(RespFormatError::Number)),
        (b"*2\r\n$4\r\nAUTH\r\n$99999999\r\n".to_vec(), malformed(RespFormatError::TooLong)),
        (b"*2\r\n$4\r\nAUTH\r\n:3\r\n".to_vec(), malformed(RespFormatError::Bulk)),
        (b"*2\r\n$4\r\nAUTHxx$1\r\nx\r\n".to_vec(), malformed(RespFormatError::Bulk)),
        (long.into_bytes(), malformed(RespFormatError::Line)),
        (b"AUTH \"x\r\n".to_vec(), malformed(RespFormatError::Quotes)),
        (flood, malformed(RespFormatError::TooLong)),
    ] {
        let (read, _) = sent(&bytes, false).await;
        assert_eq!(read.err(), Some(expected), "{:?}", &bytes[..bytes.len().min(40)]);
    }
}

#[tokio::test]
async fn commands_before_the_login_are_answered_as_redis_answers_them() {
    for (bytes, answer) in [
        (command(&["CLIENT", "SETINFO", "LIB-NAME", "x"]), "-NOAUTH Authentication required"),
        (command(&["CONFIG", "GET", "requirepass"]), "-NOAUTH"),
        (b"get k\r\n".to_vec(), "-NOAUTH"),
        (command(&["HELLO"]), "-NOAUTH HELLO must be called"),
        (command(&["HELLO", "3"]), "-NOAUTH HELLO must be called"),
        (command(&["HELLO", "4", "AUTH", "u", "t"]), "-NOPROTO"),
        (command(&["HELLO", "3", "AUTH", "u"]), "-ERR Syntax error"),
        (command(&["AUTH"]), "-ERR wrong number of arguments"),
        (command(&["AUTH", "a", "b", "c"]), "-ERR wrong number of arguments"),
        (command(&["QUIT"]), "+OK"),
    ] {
        let (read, answered) = sent(&bytes, false).await;
        assert_eq!(read.err(), Some(RedisGreetingError::Left));
        assert!(answered.starts_with(answer), "{answered}");
    }
}

#[tokio::test]
async fn a_login_is_parsed_and_the_bytes_after_it_are_kept() {
    let follows = command(&["GET", "k"]);
    for (login, user, answer) in [
        (command(&["AUTH", "kwa_t"]), "", OpeningAnswer::Ok),
        (command(&["auth", "main", "kwa_t"]), "main", OpeningAnswer::Ok),
        (b"AUTH main kwa_t\r\n".to_vec(), "main", OpeningAnswer::Ok),
        (
            command(&["HELLO", "3", "AUTH", "main", "kwa_t", "SETNAME", "x"]),
            "main",
            OpeningAnswer::ServersHello(command(&["HELLO", "3", "SETNAME", "x"])),
        ),
    ] {
        let bytes = [command(&["PING"]), login, follows.clone()].concat();
        let (read, answered) = sent(&bytes, false).await;
        let client = read.expect("a login");
        assert_eq!((&*client.user, &client.answer), (user, &answer));
        assert_eq!(client.token.expect("a token").as_str(), "kwa_t");
        assert_eq!(client.rest[..], follows);
        assert!(answered.starts_with("-NOAUTH") && answered.lines().count() == 1, "{answered}");
    }
    let (read, _) = sent(&follows, true).await;
    assert_eq!(read.expect("its listener has an agent").rest[..], follows);
}

/// No login comes before it.
#[tokio::test]
async fn the_first_command_at_the_listener_of_an_agent_has_the_limits_of_a_session() {
    let big = "x".repeat(20_000);
    let mut many = vec!["MSET"];
    many.extend(["k", "v"].repeat(8_000));
    for bytes in [
        command(&["DEL"].into_iter().chain(["k"; 10]).collect::<Vec<_>>()),
        command(&["SET", "big", &big]),
        command(&["SET", &"k".repeat(9_000), &"v".repeat(9_000), "x", &"y".repeat(16_000)]),
        command(&many),
        format!("SET big {}\r\n", "x".repeat(40_000)).into_bytes(),
    ] {
        let (read, answered) = sent(&bytes, true).await;
        let client = read.expect("its listener has an agent");
        assert!(client.token.is_none() && answered.is_empty(), "{answered}");
        assert!(!client.rest.is_empty() && bytes.starts_with(&client.rest));
        let (read, _) = sent(&bytes, false).await;
        assert!(matches!(read.err(), Some(RedisGreetingError::Malformed(_))));
    }
    let malformed = b"*2\r\n$4\r\nAUTH\r\n:3\r\n";
    let (read, _) = sent(malformed, true).await;
    assert_eq!(read.err(), Some(RedisGreetingError::Malformed(RespFormatError::Bulk)));
}

/// The result of a login at a server that answers commands with these, and the bytes that it got.
async fn against(user: Option<&str>, answers: &[&str]) -> (Result<(), ServerError>, String) {
    let permitted = sample::permitted_at(DatabaseProtocol::Redis, "2", user, PASSWORD);
    let login = RedisLogin::new(permitted, "ci").expect("it is complete");
    let (mut stream, mut server) = duplex(1 << 20);
    server.write_all(answers.concat().as_bytes()).await.expect("it has room");
    server.shutdown().await.expect("it is open");
    let opened = login.open_on(&mut stream).await;
    drop(stream);
    let mut got = String::new();
    server.read_to_string(&mut got).await.expect("it ends");
    (opened, got)
}

#[tokio::test]
async fn a_login_sends_the_user_unless_it_is_the_default_and_selects_the_database() {
    for (user, begins) in [
        (None, command(&["AUTH", PASSWORD])),
        (Some("default"), command(&["AUTH", PASSWORD])),
        (Some("app"), command(&["AUTH", "app", PASSWORD])),
    ] {
        let (opened, got) = against(user, &["+OK\r\n", "-NOPERM no\r\n", "+OK\r\n"]).await;
        opened.expect("a session");
        assert!(got.as_bytes().starts_with(&begins), "{got}");
        assert!(got.as_bytes().ends_with(&command(&["SELECT", "2"])), "{got}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_or_speaks_another_protocol_opens_no_session() {
    let echo = format!("-ERR unknown command {PASSWORD}\r\n");
    let endless = "+".repeat(10_000);
    for (answers, says) in [
        (&["-WRONGPASS invalid username-password pair\r\n"][..], "refuses the login: WRONGPASS"),
        (&["-LOADING Redis is loading\r\n"], "refuses the login: LOADING"),
        (&["+OK\r\n", "+OK\r\n", "-ERR DB index is out of range\r\n"], "DB index is out of range"),
        (&[&echo], "no usable reason"),
        (&["HTTP/1.1 400 Bad Request\r\n"], "does not answer as Redis does"),
        (&["+PONG\r\n"], "does not answer as Redis does"),
        (&["$99999999\r\n"], "does not answer as Redis does"),
        (&[&endless], "does not answer as Redis does"),
        (&["+O"], "does not answer as Redis does"),
        (&[], "closed the stream"),
    ] {
        let (opened, _) = against(None, answers).await;
        let error = opened.expect_err("no session").to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
}

#[test]
fn fuzzed_first_messages_end_in_time_and_get_short_answers() {
    let messages = vec![
        command(&["AUTH", "main", "kwa_t"]),
        command(&["HELLO", "3", "AUTH", "main", "kwa_t", "SETNAME", "x"]),
        command(&["CLIENT", "SETINFO", "LIB-NAME", "x"]),
        command(&["PING"]),
        b"AUTH \"main\" kwa_t\r\n".to_vec(),
    ];
    fuzzed::with_all_of(messages, async |bytes| {
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let read = greeting::read(&mut stream, false).await;
        assert!(read.is_err() || fuzzed::has(&bytes.to_ascii_uppercase(), "AUTH"), "{bytes:?}");
        assert!(fuzzed::got(stream, peer).await.len() < 16 * 1024);
    });
}

#[test]
fn fuzzed_server_answers_end_the_login_or_open_a_session() {
    let messages = [
        "+OK\r\n",
        "-NOPERM no\r\n",
        "-WRONGPASS no\r\n",
        "$3\r\nabc\r\n",
        ":1\r\n",
        "*1\r\n+OK\r\n",
    ];
    let messages = messages.iter().map(|it| it.as_bytes().to_vec()).collect();
    fuzzed::with_all_of(messages, async |bytes| {
        let permitted = sample::permitted_at(DatabaseProtocol::Redis, "2", None, PASSWORD);
        let login = RedisLogin::new(permitted, "ci").expect("it is complete");
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let words = login.open_on(&mut stream).await.err().map(|error| error.to_string());
        assert!(words.is_none_or(|words| !words.contains(PASSWORD)));
        assert!(fuzzed::got(stream, peer).await.len() < 4_096);
    });
}
