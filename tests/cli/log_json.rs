//! The log in JSON: every line is an object in which no name stands twice, so that every parser reads the same.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use test_support::install::{Install, TOKEN_CI};
use test_support::tokens::method;
use test_support::*;

/// JSON whose objects have each member once.
#[derive(Debug)]
enum Strict {
    Object(BTreeMap<String, Strict>),
    Other(String),
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON without duplicate members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut found = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Strict>()? {
                    if found.insert(name.clone(), value).is_some() {
                        return Err(serde::de::Error::custom(format!("`{name}` stands twice")));
                    }
                }
                Ok(Strict::Object(found))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                while items.next_element::<Strict>()?.is_some() {}
                Ok(Strict::Other("[…]".to_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Strict, E> {
                Ok(Strict::Other(text.to_owned()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict::Other(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict::Other(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict::Other(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict::Other(value.to_string()))
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict::Other("null".to_owned()))
            }
        }
        deserializer.deserialize_any(Once)
    }
}

#[test]
fn the_parser_of_this_test_refuses_duplicate_keys() {
    for bad in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"b":1}}"#, r#"[{"a":1,"a":2}]"#] {
        assert!(serde_json::from_str::<Strict>(bad).is_err(), "{bad}");
    }
    assert!(serde_json::from_str::<Strict>(r#"{"a":{"b":1},"b":[1.5,null,-1,true]}"#).is_ok());
}

/// Requests of all kinds: allowed, refused, without a token, in a tunnel with a wrong certificate.
async fn exchanges(proxy: SocketAddr) {
    let plain = || async { Wire::to(proxy).await };
    for (host, token) in
        [(HOST, TOKEN_CI), (STRANGER, TOKEN_CI), (HOST, "kwa_nobody's-token-at-all")]
    {
        let mut wire = plain().await;
        wire.send(format!(
            "GET https://{host}/x HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        wire.answer("GET").await;
        let mut wire = plain().await;
        wire.send(format!(
            "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Bearer {token}\r\n\r\n"
        ))
        .await;
        if wire.answer("CONNECT").await.head.status() == 200 {
            // No TLS at all: the gateway tells of the handshake.
            wire.send("GET / HTTP/1.1\r\n\r\n").await;
            wire.rest().await;
        }
    }
}

/// What the log of a gateway is in these tests.
const LOG: &str = "log: { format: json, level: trace }\n";

/// The lines of a gateway that serves until `talk` has ended, each without duplicate members.
async fn log_of(
    install: &Install,
    mut serve: Command,
    talk: impl AsyncFnOnce(SocketAddr),
) -> Vec<BTreeMap<String, Strict>> {
    let mut gateway = serve.stderr(Stdio::piped()).spawn().expect("the binary was built");
    let stderr = BufReader::new(gateway.stderr.take().expect("piped"));
    let reader =
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).collect::<Vec<_>>());
    install.until("it serves", || install.is_served());
    let socket = install.data().join("admin.sock");
    let get = "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (_, status) = test_support::cli::over_socket(&socket, get);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let proxy = status["proxy"][0].as_str().expect("an address").parse().expect("an address");
    talk(proxy).await;
    let pid = i32::try_from(gateway.id()).ok().and_then(rustix::process::Pid::from_raw);
    let term = rustix::process::Signal::TERM;
    rustix::process::kill_process(pid.expect("a process id"), term).expect("our child");
    assert!(gateway.wait().expect("our child").success());
    let lines = reader.join().expect("it read to the end");
    let read = |line: &String| match serde_json::from_str::<Strict>(line) {
        Ok(Strict::Object(members)) => members,
        Ok(Strict::Other(_)) => panic!("no object: {line}"),
        Err(error) => panic!("{error}: {line}"),
    };
    lines.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_has_a_duplicate_key_and_exchanges_name_their_host() {
    let origin = Origin::saying("fine");
    let install = Install::new(&Plan::api_key().top(LOG), &origin);
    let lines = log_of(&install, install.keyward(&["serve"]), async |proxy| {
        exchanges(proxy).await;
        for words in [
            &["connection", "pause", "acme"][..],
            &["agent", "add", "b"],
            &["agent", "bind", "b", "acme"],
            &["agent", "remove", "b"],
            &["reload"],
            &["ca", "rotate"],
            &["key", "rotate"],
        ] {
            drop(install.keyward(words).output().expect("it runs"));
        }
    })
    .await;
    let mut hosts = 0;
    for line in &lines {
        if let Some(Strict::Other(message)) = line.get("message")
            && message == "exchange"
        {
            let target = line.get("target");
            hosts += usize::from(
                matches!(target, Some(Strict::Other(at)) if *at == format!("https://{HOST}")),
            );
        }
    }
    assert!(hosts >= 1, "{lines:#?}");
}

/// What the configuration refuses, and what stops the start after it, are lines of JSON too.
#[tokio::test]
async fn a_gateway_that_does_not_start_says_why_in_json() {
    let (install, _origin) = Install::simple();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let at = taken.local_addr().expect("an address").to_string();
    for (variables, told) in [
        (&[("KEYWARD__LOG__FORMAT", "json"), ("KEYWARD__LOGG", "1")][..], "unknown key `logg`"),
        (&[("KEYWARD__LOG__FORMAT", "json"), ("KEYWARD__LISTEN__ADMIN", &at)], "cannot listen on"),
    ] {
        let output = install.keyward(&["serve"]).envs(variables.iter().copied()).output();
        let output = output.expect("it runs");
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
        let text = String::from_utf8(output.stderr).expect("text");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = lines.last().expect("a line");
        assert_eq!((&last["level"], &last["id"]), (&"ERROR".into(), &"start_failed".into()));
        assert!(last["message"].as_str().is_some_and(|it| it.contains(told)), "{text}");
        assert_eq!(last["exit"], 1, "{text}");
    }
    // Without a wish for JSON it is text.
    let output = install.keyward(&["serve"]).env("KEYWARD__LOGG", "1").output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.starts_with("error: "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ready_line_has_an_id_and_its_listeners_as_lists() {
    let origin = Origin::saying("fine");
    let install = Install::new(&Plan::api_key().top(LOG), &origin);
    let lines = log_of(&install, install.keyward(&["serve"]), async |_| {}).await;
    let is_id = |line: &&BTreeMap<String, Strict>, wanted: &str| matches!(line.get("id"), Some(Strict::Other(id)) if id == wanted);
    let ready = lines.iter().find(|line| is_id(line, "ready")).expect("a line");
    for list in ["proxy", "agents", "databases"] {
        let Some(Strict::Other(told)) = ready.get(list) else { panic!("{ready:#?}") };
        assert_eq!(told, "[…]", "{list}");
    }
    assert!(lines.iter().any(|line| is_id(&line, "draining")), "{lines:#?}");
}

/// Both lines about a refresh that fails tell why beside their message, and not in a second `message`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_fails_is_logged_with_one_message_and_the_reason() {
    let origin = Origin::saying("fine");
    let away = test_support::process::reserved_address();
    let plan = Plan::new(&method(""), "{ refresh_token: { env: REFRESH } }")
        .resolve(&format!("auth.acme.test: \"{away}\""))
        .allow(&away.to_string())
        .top(LOG);
    let install = Install::new(&plan, &origin);
    let mut serve = install.keyward(&["serve"]);
    serve.env("REFRESH", "rt-of-a-server-that-is-away");
    let lines = log_of(&install, serve, exchanges).await;
    for told in [
        "a refresh failed; it is tried again",
        "the authorization server cannot be asked for a token",
    ] {
        let is_it = |line: &&BTreeMap<String, Strict>| matches!(line.get("message"), Some(Strict::Other(message)) if message == told);
        let line = lines.iter().find(is_it).unwrap_or_else(|| panic!("no `{told}`: {lines:#?}"));
        let Some(Strict::Other(why)) = line.get("why") else { panic!("no reason: {line:#?}") };
        assert!(why.contains("cannot connect to auth.acme.test"), "{why}");
    }
}
