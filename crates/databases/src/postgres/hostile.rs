//! Hostile clients and servers, in process: malformed start-up messages, and servers that want the password without
//! proving anything.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::login::PostgresLogin;
use super::messages::PostgresLoginError;
use super::parameters::StartupParameters;
use super::startup::{self, FirstMessage, PostgresFormatError};
use crate::{fuzzed, sample};
use keyward_base::database::DatabaseProtocol;

const PASSWORD: &str = "canary-password";

fn startup_message(version: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("short");
    [&length.to_be_bytes()[..], &version.to_be_bytes(), body].concat()
}

async fn begun(sent: &[u8]) -> (Result<FirstMessage, PostgresFormatError>, Vec<u8>) {
    let (mut client, mut server) = duplex(1 << 20);
    client.write_all(sent).await.expect("it has room");
    client.shutdown().await.expect("it is open");
    let first = startup::read(&mut server, false).await;
    drop(server);
    let mut answered = Vec::new();
    client.read_to_end(&mut answered).await.expect("it ends");
    (first, answered)
}

#[tokio::test]
async fn a_malformed_first_message_is_refused_without_reading_on() {
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let user = b"user\0x\0\0";
    for (sent, expected) in [
        (vec![], PostgresFormatError::Ended),
        (vec![0, 0, 0], PostgresFormatError::Ended),
        (vec![0, 0, 0, 7, 0, 3, 0, 0], PostgresFormatError::Length),
        (vec![0, 0, 0, 0], PostgresFormatError::Length),
        (vec![0xff; 8], PostgresFormatError::Length),
        // A TLS handshake, and HTTP.
        (vec![0x16, 3, 1, 2, 0, 1], PostgresFormatError::Length),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), PostgresFormatError::Length),
        (vec![0, 0, 0x27, 0x11, 0, 3, 0, 0], PostgresFormatError::Length),
        // A length that promises more than comes.
        (vec![0, 0, 1, 0, 0, 3, 0, 0, b'u'], PostgresFormatError::Ended),
        (startup_message(0x0002_0000, user), PostgresFormatError::Version),
        (startup_message(0x0004_0000, user), PostgresFormatError::Version),
        (startup_message(0x0003_0000, b""), PostgresFormatError::Parameters),
        (startup_message(0x0003_0000, b"\0"), PostgresFormatError::User),
        (startup_message(0x0003_0000, b"user\0\0\0"), PostgresFormatError::User),
        (startup_message(0x0003_0000, b"user\0x\0"), PostgresFormatError::Parameters),
        (startup_message(0x0003_0000, b"user\0x\0\0more"), PostgresFormatError::Parameters),
        (startup_message(0x0003_0000, b"user\0\xff\0\0"), PostgresFormatError::Parameters),
        (
            startup_message(0x0003_0000, b"user\0x\0replication\0database\0\0"),
            PostgresFormatError::Replication,
        ),
        ([&ssl[..], &ssl, &ssl, &ssl].concat(), PostgresFormatError::Requests),
        (vec![0, 0, 0, 9, 4, 210, 22, 47, 0], PostgresFormatError::Length),
        (vec![0, 0, 0, 12, 4, 210, 22, 46, 0, 0, 0, 1], PostgresFormatError::Length),
    ] {
        let (first, _) = begun(&sent).await;
        assert_eq!(first.err(), Some(expected), "{sent:?}");
    }
}

#[tokio::test]
async fn encryption_is_declined_and_the_message_after_it_is_read() {
    let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
    let gss = [0, 0, 0, 8, 4, 210, 22, 48];
    let startup = startup_message(0x0003_0000, b"user\0u\0database\0d\0\0");
    let (first, answered) = begun(&[&gss[..], &ssl, &startup].concat()).await;
    let Ok(FirstMessage::Startup(startup)) = first else { panic!("{first:?}") };
    assert_eq!((startup.user(), startup.database(), &answered[..]), ("u", "d", &b"NN"[..]));
    assert_eq!(startup.negotiation(), None);
    let later = startup_message(0x0003_0002, b"user\0u\0_pq_.x\0y\0\0");
    let Ok(FirstMessage::Startup(later)) = begun(&later).await.0 else { panic!("a startup") };
    assert_eq!(later.negotiation().expect("3.0")[5..], *b"\0\x03\0\0\0\0\0\x01_pq_.x\0");
    assert_eq!(later.database(), "u");
}

#[tokio::test]
async fn nothing_but_the_password_is_accepted_before_the_login() {
    for (sent, expected) in [
        (&b"Q\0\0\0\x0dSELECT 1\0"[..], PostgresFormatError::NoPassword),
        (b"X\0\0\0\x04", PostgresFormatError::NoPassword),
        (b"p\0\0\0\x04", PostgresFormatError::Length),
        (b"p\xff\xff\xff\xff", PostgresFormatError::Length),
        (b"p\0\0\x20\0", PostgresFormatError::Length),
        (b"p\0\0\0\x07abc", PostgresFormatError::NoPassword),
        (b"p\0\0\0\x06\xff\0", PostgresFormatError::NoPassword),
        (b"p\0\0\0\x20abc", PostgresFormatError::Ended),
        (b"", PostgresFormatError::Ended),
    ] {
        let (mut client, mut server) = duplex(1 << 16);
        client.write_all(sent).await.expect("it has room");
        client.shutdown().await.expect("it is open");
        let password = startup::password(&mut server, &startup::Startup::default()).await;
        assert_eq!(password.err(), Some(expected), "{sent:?}");
    }
}

fn login() -> PostgresLogin {
    let permitted = sample::permitted(DatabaseProtocol::Postgres, Some("app"), PASSWORD);
    PostgresLogin::new(permitted, StartupParameters::default()).expect("it is complete")
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn asks(kind: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes()[..], rest].concat())
}

/// Reads a client's message; `None` at the end.
async fn read(stream: &mut DuplexStream) -> Option<Vec<u8>> {
    let _tag = stream.read_u8().await.ok()?;
    let length = stream.read_u32().await.ok()? as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// The result of a login at a server that answers the start-up with `first`, and each further message by `next`; and the
/// bytes that it got.
async fn against(
    verified: bool,
    first: Vec<u8>,
    mut next: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static,
) -> (PostgresLoginError, Vec<u8>) {
    let (mut keyward, mut server) = duplex(1 << 20);
    let served = tokio::spawn(async move {
        let length = server.read_u32().await.expect("a start-up") as usize;
        let mut all = vec![0; length - 4];
        server.read_exact(&mut all).await.expect("a start-up");
        if server.write_all(&first).await.is_err() {
            return all;
        }
        while let Some(body) = read(&mut server).await {
            let answer = next(&body);
            all.extend(body);
            if server.write_all(&answer).await.is_err() {
                break;
            }
        }
        all
    });
    let opened = login().open_on(&mut keyward, verified, None).await;
    drop(keyward);
    let got = served.await.expect("no panic");
    let error = opened.err().expect("no session is opened");
    (error, got)
}

fn nonce(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    text.rsplit("r=").next().unwrap_or_default().to_owned()
}

/// What a server answers to the messages of a login.
type Next = Box<dyn FnMut(&[u8]) -> Vec<u8> + Send>;

fn silent() -> Next {
    Box::new(|_| Vec::new())
}

/// Asserts that a server without verified TLS gets nothing that helps it, and that the error says why.
async fn assert_nothing_given(name: &str, first: Vec<u8>, next: Next, expected: &str) {
    let (error, got) = against(false, first, next).await;
    assert!(error.to_string().contains(expected), "{name}: {error}");
    let got = String::from_utf8_lossy(&got);
    assert!(!got.contains(PASSWORD) && !got.contains("md5"), "{name}: {got}");
    assert!(!name.ends_with("rounds") || !got.contains(",p="), "{name}: {got}");
    assert!(!error.to_string().contains(PASSWORD), "{name}: {error}");
}

#[tokio::test]
async fn a_server_that_proves_nothing_gets_neither_the_password_nor_its_hash() {
    let ok = || asks(0, b"");
    for (name, first, expected) in [
        ("cleartext", asks(3, b""), "password in cleartext"),
        ("md5", asks(5, b"salt"), "an md5 hash"),
        ("GSSAPI", asks(7, b""), "GSSAPI"),
        ("another mechanism", asks(10, b"PLAIN\0\0"), "a SASL mechanism"),
        ("no mechanism", asks(10, b"\0"), "a SASL mechanism"),
        ("a length that lies", b"R\x7f\xff\xff\xff".to_vec(), "malformed"),
        ("a length below its own", b"R\0\0\0\x03".to_vec(), "malformed"),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "malformed"),
        ("a query's answer", message(b'Z', b"I"), "does not answer as PostgreSQL"),
        ("more than a login", [ok(), message(b'D', &[0, 0])].concat(), "does not answer"),
        (
            "endless reports",
            [ok(), message(b'S', b"a\0b\0").repeat(10_000)].concat(),
            "does not answer",
        ),
        (
            "its words",
            message(b'E', format!("C28P01\0Mcanary: {PASSWORD}\0\0").as_bytes()),
            "no usable reason",
        ),
    ] {
        assert_nothing_given(name, first, silent(), expected).await;
    }
}

#[tokio::test]
async fn a_server_that_breaks_scram_gets_no_session() {
    let ok = || asks(0, b"");
    let scram = || asks(10, b"SCRAM-SHA-256\0\0");
    let continued = |rounds: &'static str| -> Next {
        Box::new(move |body: &[u8]| {
            asks(11, format!("r={}x,s=c2FsdA==,i={rounds}", nonce(body)).as_bytes())
        })
    };
    let ends_with = |end: Vec<u8>| -> Next {
        let mut messages = 0;
        Box::new(move |body: &[u8]| {
            messages += 1;
            match messages {
                1 => asks(11, format!("r={}x,s=c2FsdA==,i=4096", nonce(body)).as_bytes()),
                _ => end.clone(),
            }
        })
    };
    let fake = asks(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let asks_again: Next = Box::new(|_| asks(3, b""));
    for (name, first, next, expected) in [
        ("an ok within SCRAM", [scram(), ok()].concat(), silent(), "does not prove"),
        ("an ok before the proof", scram(), ends_with(ok()), "does not prove"),
        ("a wrong proof", scram(), ends_with([fake, ok()].concat()), "does not prove"),
        ("endless rounds", scram(), continued("4294967295"), "does not prove"),
        ("few rounds", scram(), continued("4095"), "SCRAM with few rounds"),
        ("one round", scram(), continued("1"), "SCRAM with few rounds"),
        ("no number of rounds", scram(), continued("x"), "SCRAM with few rounds"),
        (
            "another nonce",
            scram(),
            Box::new(|_| asks(11, b"r=x,s=c2FsdA==,i=4096")),
            "does not prove",
        ),
        ("a downgrade within SCRAM", scram(), asks_again, "does not answer as PostgreSQL"),
    ] {
        assert_nothing_given(name, first, next, expected).await;
    }
}

#[tokio::test]
async fn over_verified_tls_a_server_may_ask_for_the_password_once() {
    let cleartext = || asks(3, b"");
    let (error, got) = against(true, cleartext(), move |_| cleartext()).await;
    assert!(error.to_string().contains("does not answer as PostgreSQL"), "{error}");
    assert_eq!(String::from_utf8_lossy(&got).matches(PASSWORD).count(), 1);
    let refuses = |_: &[u8]| message(b'E', b"C28P01\0Mno\0\0");
    let (_, got) = against(true, asks(5, b"salt"), refuses).await;
    assert!(String::from_utf8_lossy(&got).contains("md5"));
    assert!(!String::from_utf8_lossy(&got).contains(PASSWORD));
}

#[tokio::test]
async fn the_version_of_the_server_is_kept_and_passed_on() {
    let status = message(b'S', b"server_version\x0016.4\0");
    let other = message(b'S', b"server_encoding\0UTF8\0");
    let ready = message(b'Z', b"I");
    let (mut stream, _peer) =
        fuzzed::peer_of(&[&asks(0, b"")[..], &status, &other, &ready].concat()).await;
    let (start, _) = login().open_on(&mut stream, false, None).await.expect("a session");
    assert_eq!(start.server_version.as_deref(), Some("16.4"));
    assert_eq!(start.passed_on, [status, other].concat());
}

/// RFC 5929 §4: with a binding, both ends of one TLS stream are proved to be those of the exchange.
#[tokio::test]
async fn scram_is_bound_to_the_tls_stream_where_both_sides_support_it() {
    let both = asks(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let only = asks(10, b"SCRAM-SHA-256\0\0");
    for (offer, binding, begins) in [
        (&both, Some(vec![7; 32]), "SCRAM-SHA-256-PLUS\0"),
        (&both, None, "SCRAM-SHA-256\0"),
        (&only, Some(vec![7; 32]), "SCRAM-SHA-256\0"),
    ] {
        let (mut stream, peer) = fuzzed::peer_of(offer).await;
        login().open_on(&mut stream, true, binding.clone()).await.err().expect("it is cut");
        let got = fuzzed::got(stream, peer).await;
        assert!(fuzzed::has(&got, begins), "{got:?}");
        // GS2 headers: bound, bound if the server could, and not able to.
        let header = match (begins.contains("PLUS"), &binding) {
            (true, _) => "p=tls-server-end-point,,n=",
            (false, Some(_)) => "y,,n=",
            (false, None) => "n,,n=",
        };
        assert!(fuzzed::has(&got, header), "{header}: {}", String::from_utf8_lossy(&got));
    }
}

#[test]
fn fuzzed_first_messages_end_in_time_and_get_short_answers() {
    let ssl = vec![0, 0, 0, 8, 4, 210, 22, 47];
    let gss = vec![0, 0, 0, 8, 4, 210, 22, 48];
    let cancel = [&[0, 0, 0, 16, 4, 210, 22, 46][..], &[1; 8]].concat();
    let startup = startup_message(0x0003_0000, b"user\0u\0database\0d\0\0");
    let later = startup_message(0x0003_0002, b"user\0u\0_pq_.x\0y\0\0");
    fuzzed::with_all_of(vec![ssl, gss, cancel, startup, later], async |bytes| {
        let (first, answered) = begun(&bytes).await;
        // At most one answer to each request for encryption.
        assert!(answered.len() <= 3 && answered.iter().all(|it| *it == b'N'), "{answered:?}");
        assert!(!matches!(first, Ok(FirstMessage::Startup(startup)) if startup.user().is_empty()));
    });
    let password = message(b'p', b"kwa_t\0");
    fuzzed::with_all_of(vec![password, message(b'Q', b"SELECT 1\0")], async |bytes| {
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let read = startup::password(&mut stream, &startup::Startup::default()).await;
        assert!(read.is_err() || bytes.starts_with(b"p"), "{bytes:?}");
        assert!(fuzzed::got(stream, peer).await.len() < 64);
    });
}

#[test]
fn no_fuzzed_server_answer_gets_the_password_without_verified_tls() {
    let scram = asks(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let ready = [message(b'S', b"a\0b\0"), message(b'K', &[1; 8]), message(b'Z', b"I")].concat();
    let messages = vec![
        asks(0, b""),
        asks(3, b""),
        asks(5, b"salt"),
        scram,
        asks(11, b"r=x,s=c2FsdA==,i=4096"),
        asks(12, b"v=AAAA"),
        message(b'E', b"SFATAL\0C28P01\0Mno\0\0"),
        ready,
    ];
    fuzzed::with_all_of(messages, async |bytes| {
        let (mut stream, peer) = fuzzed::peer_of(&bytes).await;
        let opened = login().open_on(&mut stream, false, None).await;
        let words = opened.err().map(|error| error.to_string()).unwrap_or_default();
        let got = fuzzed::got(stream, peer).await;
        assert!(!fuzzed::has(&got, PASSWORD) && !fuzzed::has(&got, "md5"), "{got:?}");
        assert!(!words.contains(PASSWORD) && got.len() < 4_096, "{words}");
    });
}
