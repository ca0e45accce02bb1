//! redis-cli, redis-py and ioredis at a real Redis server, through a listener for databases.

mod clients;
mod large;
pub(crate) mod server;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::server::{NAME, Server, USER};
use self::stage::Stage;
use crate::stage::{ca, run, said};
use test_support::install::{Install, TOKEN_CI};
use test_support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_uses_a_database_with_its_token_and_never_has_the_password() {
    let stage = Stage::new().await;
    assert_eq!(stage.answer("ci", "main", &["ACL", "WHOAMI"]).await, "\"app\"");
    assert_eq!(stage.answer("ci", "main", &["CLIENT", "GETNAME"]).await, "\"ci\"");
    assert_eq!(stage.answer("ci", "plain", &["ACL", "WHOAMI"]).await, "\"default\"");
    // RESP3 has a type for maps.
    stage.answer("ci", "main", &["HSET", "h", "a", "b"]).await;
    assert_eq!(stage.answer("ci", "main", &["-3", "HGETALL", "h"]).await, "1# \"a\" => \"b\"");
    let third = stage.answer("ci", "third", &["CLIENT", "INFO"]).await;
    assert!(third.contains(" db=3 "), "{third}");
    assert_eq!(stage.answer("ci", "third", &["-n", "3", "SET", "k", "v"]).await, "OK");
    assert_eq!(stage.server.ask(&["-n", "3", "GET", "k"]), "v");
    // 16 MiB in one argument, and back.
    let file = stage.lab.gateway.folder().join("big");
    std::fs::write(&file, vec![b'x'; 16 << 20]).expect("a file");
    let mut command = stage.cli(stage.lab.token("ci"), "main");
    command.args(["-x", "SET", "big"]).stdin(std::fs::File::open(&file).expect("a file"));
    assert!(said(&run(command).await).contains("OK"));
    assert_eq!(stage.server.ask(&["STRLEN", "big"]), (16 << 20).to_string());
    let port = stage.server.at.port();
    let records = stage.finish().await;
    assert_eq!(records[0]["target"], format!("redis://{NAME}:{port}/0"));
    assert_eq!([&records[0]["agent"], &records[0]["connection"]], ["ci", "main"]);
    assert_eq!([&records[0]["database_role"], &records[0]["outcome"]], ["app", "completed"]);
    assert!(records.iter().all(|record| record["outcome"] == "completed"), "{records:?}");
    assert!(records.iter().any(|record| record["bytes_in"].as_u64() > Some(16 << 20)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli_shows_the_message_of_each_refusal() {
    let mut stage = Stage::new().await;
    stage.lab.add_agent("former").await;
    let revoked = stage.lab.token("former").to_owned();
    let removed = stage.lab.gateway.api("DELETE", "/agents/former", "").await;
    assert!(removed.head.status() < 300, "{}", removed.text());
    let token = |agent: &str| stage.lab.token(agent).to_owned();
    for (token, user, says) in [
        ("kwa_wrong".to_owned(), "main", "give the agent's token (kwa_…) as the password"),
        (revoked, "main", "WRONGPASS keyward: the password is no valid token of an agent"),
        (token("ci"), "prod", "name one as the user: main, plain, third"),
        (token("ci"), "default", "the agent has several connections to databases"),
        (token("ci"), "reports", "NOPERM keyward: the user is none of the agent's connections"),
        (token("reader"), "main", "NOPERM keyward: the user is none of the agent's connections"),
        (token("stranger"), "main", "this agent has no connection to a database"),
    ] {
        let mut command = stage.cli(&token, user);
        command.arg("PING");
        let refused = said(&run(command).await);
        assert!(refused.contains(says) && !refused.contains("PONG"), "{user}: {refused}");
    }
    // One connection is used without its name.
    assert_eq!(stage.answer("reader", "default", &["PING"]).await, "PONG");
    let mut command = stage.cli("", "");
    command.env_remove("REDISCLI_AUTH").arg("PING");
    assert!(said(&run(command).await).contains("NOAUTH Authentication required"));
    let records = stage.finish().await;
    let codes: Vec<_> = records.iter().filter_map(|record| record["code"].as_str()).collect();
    assert_eq!(
        codes[..3],
        ["agent_unauthenticated", "agent_unauthenticated", "connection_missing"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_an_open_session_at_once() {
    let channel = |number: usize| format!("channel-{number}");
    let client = |stage: &Stage, token: &str, number: usize| {
        let mut client = stage.cli(token, "main");
        client.args(["SUBSCRIBE", &channel(number)]);
        client
    };
    let is_open = |server: &Server, number: usize| {
        server.ask(&["PUBSUB", "CHANNELS"]).contains(&channel(number))
    };
    let stage = Stage::new().await;
    stage.ends_sessions_when_revoked(client, is_open, "Server closed the connection").await;
}

/// What leaves the connection or reads credentials, as an array, inline, in any case, in a transaction.
const REFUSED: &[&str] = &[
    "CONFIG GET requirepass",
    "config get *",
    "CONFIG SET dir /tmp",
    "CONFIG REWRITE",
    "ACL LIST",
    "ACL GETUSER app",
    "ACL SETUSER mine on nopass ~* +@all",
    "AUTH app x",
    "HELLO 3 AUTH app x",
    "RESET",
    "MONITOR",
    "DEBUG SLEEP 0",
    "MIGRATE 127.0.0.1 1 k 0 1",
    "REPLICAOF 127.0.0.1 1",
    "SLAVEOF 127.0.0.1 1",
    "MODULE LOAD /x.so",
    "SHUTDOWN",
    "SYNC",
    "PSYNC ? -1",
    "FAILOVER",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1",
    "CLIENT UNBLOCK 1",
    "FUNCTION FLUSH",
    "SCRIPT KILL",
    "BGSAVE",
    "SLOWLOG RESET",
    "SELECT 5",
    "MOVE k 5",
    "SWAPDB 0 5",
    "COPY k k DB 5",
    "FLUSHALL",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_beyond_the_connection_are_refused_and_do_not_reach_the_server() {
    let stage = Stage::new().await;
    for command in REFUSED {
        let words: Vec<&str> = command.split(' ').collect();
        // redis-cli sends `SELECT` and `AUTH` as any other command when they are arguments.
        let refused = stage.answer("ci", "main", &words).await;
        assert!(
            refused.contains("keyward: ") && refused.contains("refused"),
            "{command}: {refused}"
        );
    }
    let mut raw = TcpStream::connect(stage.listener()).await.expect("a stream");
    let mut lines = format!("AUTH main {}\r\nPING\r\nMULTI\r\n", stage.lab.token("ci"));
    REFUSED.iter().for_each(|command| lines.push_str(&format!("{command}\r\n")));
    lines.push_str("EXEC\r\nGET none\r\nQUIT\r\n");
    raw.write_all(lines.as_bytes()).await.expect("it is open");
    let mut answers = String::new();
    patiently("the answers", raw.read_to_string(&mut answers)).await.expect("text");
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers[..3], ["+OK", "+PONG", "+OK"]);
    let refused = answers.iter().filter(|line| line.starts_with("-ERR unknown command 'keyward: "));
    assert_eq!(refused.count(), REFUSED.len(), "{answers:?}");
    assert!(answers[answers.len() - 3].starts_with("-EXECABORT"), "{answers:?}");
    assert_eq!(answers[answers.len() - 2..], ["$-1", "+OK"]);
    // What the guide says of scripts.
    for call in ["'CONFIG', 'GET', 'requirepass'", "'ACL', 'LIST'", "'AUTH', 'x'", "'MONITOR'"] {
        let script = format!("return redis.call({call})");
        let refused = stage.answer("ci", "main", &["EVAL", &script, "0"]).await;
        assert!(refused.contains("not allowed from script"), "{call}: {refused}");
    }
    // The server has counted none of them; `config` is ours.
    let counted = stage.server.ask(&["INFO", "commandstats"]);
    for name in [
        "acl|getuser",
        "acl|setuser",
        "debug",
        "migrate",
        "replicaof",
        "module|load",
        "sync",
        "psync",
        "failover",
        "client|kill",
        "client|pause",
        "config|set",
        "swapdb",
        "flushall",
        "move",
        "reset",
    ] {
        assert!(!counted.contains(&format!("cmdstat_{name}:")), "{name}: {counted}");
    }
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_request_ends_the_session_and_no_command_before_a_login_is_forwarded() {
    let stage = Stage::new().await;
    let exchanged = async |bytes: Vec<u8>| {
        let mut raw = TcpStream::connect(stage.listener()).await.expect("a stream");
        raw.write_all(&bytes).await.expect("it is open");
        raw.shutdown().await.expect("it is open");
        let mut answers = Vec::new();
        // A stream that is closed while bytes come may be reset.
        drop(patiently("the answers", raw.read_to_end(&mut answers)).await);
        String::from_utf8_lossy(&answers).into_owned()
    };
    let before = "SET early 1\r\nCONFIG GET requirepass\r\nHELLO 3\r\nCLIENT SETINFO lib-name x\r\nAUTH x\r\nSET early 2\r\n";
    let answered = exchanged(before.into()).await;
    assert_eq!(answered.matches("-NOAUTH").count(), 4, "{answered}");
    assert_eq!(answered.matches("-WRONGPASS").count(), 2, "also what follows it: {answered}");
    assert_eq!(stage.server.ask(&["EXISTS", "early"]), "0");
    let login = format!("AUTH main {}\r\n", stage.lab.token("ci"));
    for malformed in
        [&b"*1\r\n$-5\r\n"[..], b"*2\r\n$3\r\nGET\r\n:1\r\n", b"*1\r\n$4\r\nPINGxxSET early 1\r\n"]
    {
        let answered = exchanged([login.as_bytes(), malformed].concat()).await;
        assert!(answered.starts_with("+OK\r\n-ERR Protocol error"), "{answered}");
    }
    assert_eq!(stage.server.ask(&["EXISTS", "early"]), "0");
    let records = stage.finish().await;
    let bad = records.iter().filter(|record| record["code"] == "bad_request").count();
    assert_eq!(bad, 3, "{records:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_session_changes_nothing() {
    let stage = Stage::new().await;
    stage.server.ask(&["SET", "k", "v"]);
    assert_eq!(stage.answer("reader", "reports", &["GET", "k"]).await, "\"v\"");
    let read = ["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "k"];
    assert_eq!(stage.answer("reader", "reports", &read).await, "\"v\"");
    for command in [
        "SET k w",
        "DEL k",
        "GETDEL k",
        "GETEX k EX 1",
        "GETSET k w",
        "APPEND k w",
        "EXPIRE k 1",
        "FLUSHDB",
        "RENAME k l",
        "SORT k STORE l",
        "COPY k l",
        "BITFIELD k SET u8 0 1",
        "PUBLISH c m",
        "XADD s * a b",
        "NO.SUCH k",
    ] {
        let refused =
            stage.answer("reader", "reports", &command.split(' ').collect::<Vec<_>>()).await;
        assert!(refused.contains("the connection is read-only"), "{command}: {refused}");
    }
    for script in ["EVAL", "EVAL_RO"] {
        let write = [script, "return redis.call('SET', KEYS[1], 'w')", "1", "k"];
        let refused = stage.answer("reader", "reports", &write).await;
        assert!(refused.contains("ERR"), "{refused}");
    }
    assert_eq!(stage.server.ask(&["GET", "k"]), "v");
    assert_eq!(stage.server.ask(&["DBSIZE"]), "1");
    stage.finish().await;
}

/// The list of commands that read is data; a server says what each of them does.
#[test]
fn the_list_of_commands_that_read_agrees_with_the_server() {
    let server = Server::start("secret");
    let list = include_str!("../../crates/databases/src/redis/read_only.txt");
    let listed: BTreeSet<&str> =
        list.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#')).collect();
    let flags = |category: &str| -> BTreeMap<String, ()> {
        let found = server.ask(&["ACL", "CAT", category]);
        found.lines().map(|name| (name.replace('|', " ").to_ascii_uppercase(), ())).collect()
    };
    let (reads, writes, dangerous) = (flags("read"), flags("write"), flags("dangerous"));
    for name in &listed {
        assert!(!writes.contains_key(*name), "{name} writes");
    }
    // A server may know commands of a later version, never fewer that read.
    let exceptions = ["HOST:", "POST"];
    for name in reads.keys().filter(|name| !writes.contains_key(*name)) {
        let is_listed = listed.contains(name.as_str()) || exceptions.contains(&name.as_str());
        assert!(is_listed || dangerous.contains_key(name), "{name} reads, and is not listed");
    }
}

/// Whatever a server knows and the list does not: more than a hundred ways to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_session_sends_no_command_that_is_not_listed() {
    let stage = Stage::new().await;
    let list = include_str!("../../crates/databases/src/redis/read_only.txt");
    let listed: BTreeSet<&str> =
        list.lines().map(|line| line.split(' ').next().unwrap_or(line)).collect();
    let known = stage.server.ask(&["COMMAND", "LIST"]).to_ascii_uppercase();
    // Commands of the login, and those with which a client leaves.
    let own = ["AUTH", "HELLO", "QUIT", "RESET", "SELECT"];
    let others: Vec<&str> =
        known.lines().filter(|name| !listed.contains(name) && !own.contains(name)).collect();
    assert!(others.len() > 100, "{others:?}");
    let mut raw = TcpStream::connect(stage.listener()).await.expect("a stream");
    let mut lines = format!("AUTH reports {}\r\n", stage.lab.token("reader"));
    // Keys and values, so that the number of arguments is not the reason.
    lines.extend(others.iter().map(|name| format!("{name} 1 1 1 1\r\n")));
    raw.write_all((lines + "QUIT\r\n").as_bytes()).await.expect("it reads");
    let mut answered = String::new();
    raw.read_to_string(&mut answered).await.expect("text");
    let refused = answered.lines().filter(|line| line.contains("keyward: ")).count();
    assert_eq!(refused, others.len(), "{answered}");
    assert_eq!(stage.server.ask(&["DBSIZE"]), "0");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli_verifies_the_listener_by_the_local_ca() {
    let stage =
        Stage::listening("databases: [{ at: \"127.0.0.1:0\", protocol: redis, tls: {} }]").await;
    let mut command = stage.cli(stage.lab.token("ci"), "main");
    command.arg("--tls").arg("--cacert").arg(ca(&stage.lab)).args(["ACL", "WHOAMI"]);
    let output = run(command).await;
    assert!(said(&output).contains("\"app\""), "{}", said(&output));
    assert_eq!(stage.answer("ci", "main", &["PING"]).await, "PONG", "without TLS on this machine");
    stage.finish().await;
}

/// A client sends no login before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_command_at_an_agents_own_socket_may_be_large() {
    let own =
        "databases: [{ at: \"unix:redis.sock\", protocol: redis, agent: ci, connection: main }]";
    let stage = Stage::listening(own).await;
    let big = "x".repeat(100_000);
    let big = big.as_str();
    let many = ["MSET", "a", "1", "b", "2", "c", "3", "d", "4", "e", "5"];
    for (arguments, says) in [
        (&many[..], "OK"),
        (&["SET", "big", big], "OK"),
        (&["CONFIG", "SET", "requirepass", big], "keyward: CONFIG is refused"),
    ] {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(stage.lab.gateway.data().join("redis.sock")).args(arguments);
        let answered = said(&run(command).await);
        assert!(answered.contains(says), "{}: {answered}", arguments[0]);
    }
    assert_eq!(stage.server.ask(&["MGET", "a", "e"]), "1\n5");
    assert_eq!(stage.server.ask(&["STRLEN", "big"]), "100000");
    stage.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_under_run_finds_its_database_and_a_url_becomes_a_connection() {
    let plan = Plan::api_key().no_agents().agent("ci", "main");
    let server = Server::start(&plan.canary().text);
    let plan = plan
        .connection(&format!(
            "{{ name: main, provider: redis, variables: {{ host: \"{NAME}:{}\", database: \"2\" }}, \
             fields: {{ username: {USER}, password: {{ env: CANARY }} }} }}",
            server.at.port()
        ))
        .resolve(&format!("{NAME}: \"{}\"", server.at))
        .allow(&server.at.to_string())
        .allow(&server.plain.to_string());
    let canary = plan.canary().clone();
    let origin = Origin::answering(|_| ok("fine"));
    let install = Install::new(&plan, &origin);
    let script = "redis-cli -u \"$REDIS_URL\" --no-auth-warning SET seen by-run && redis-cli -u \"$REDIS_URL\" ACL WHOAMI";
    let command = install.keyward(&["run", "--quiet", "--agent", "ci", "--", "sh", "-c", script]);
    let output = run(command).await;
    assert!(said(&output).contains("OK") && said(&output).contains("app"), "{}", said(&output));
    assert!(!said(&output).contains(TOKEN_CI), "the run has a token of its own");
    canary.assert_absent("what the program said", said(&output).as_bytes());
    assert_eq!(server.ask(&["-n", "2", "GET", "seen"]), "by-run");
    let _gateway = install.serve();
    let tested = said(&run(install.keyward(&["connection", "test", "main"])).await);
    assert!(tested.contains("Redis 7") && tested.contains("sessions may write"), "{tested}");
    let add = [
        "connection",
        "add",
        "redis",
        "--name",
        "stored",
        "--secret-env",
        "url=THE_URL",
        "--read-only",
    ];
    let mut command: Command = install.keyward(&add);
    command
        .env("THE_URL", format!("redis://:{}@{}/1", canary.text, server.plain))
        .stdin(Stdio::null());
    let added = said(&run(command).await);
    canary.assert_absent("what the command said", added.as_bytes());
    let shown = said(&run(install.keyward(&["connection", "show", "stored"])).await);
    assert!(shown.contains(&format!("redis://{}/1", server.plain)), "{added}\n{shown}");
    let wrong = ["connection", "add", "redis", "--name", "wrong", "--secret-env", "url=THE_URL"];
    let mut command = install.keyward(&wrong);
    command.env("THE_URL", format!("redis://:not-it@{}/1", server.plain)).stdin(Stdio::null());
    let refused = said(&run(command).await);
    assert!(refused.contains("WRONGPASS"), "{refused}");
    let timeout = ["connection", "set", "stored", "--statement-timeout", "3s"];
    let refused = said(&run(install.keyward(&timeout)).await);
    assert!(refused.contains("no effect"), "{refused}");
    drop(server);
}
