//! Listeners that are opened and closed while the gateway runs, by the API and the command line, with psql as the client.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::server::Server;
use super::stage::Stage;
use crate::stage::{run, said};
use test_support::*;

const PATH: &str = "/database-listeners";

impl Stage {
    /// The command line, at this gateway.
    async fn keyward(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = self.command(env!("CARGO_BIN_EXE_keyward"));
        command.arg("--data").arg(self.lab.gateway.data()).args(arguments);
        let output = run(command).await;
        (output.status.success(), said(&output))
    }

    async fn shown(&self, name: &str) -> Value {
        self.lab.gateway.api("GET", &format!("{PATH}/{name}"), "").await.is(200).json()
    }

    /// psql with the URL that a listener is shown with, in which the token replaces its word.
    fn psql_with(&self, url: &str) -> Command {
        let url = url.replace("TOKEN", self.lab.token("ci")).replace("CONNECTION", "main");
        let mut command = self.command("psql");
        command.current_dir(self.lab.gateway.folder()).arg(url).args(["-X", "-qAt"]);
        command
    }

    async fn answers(&self, url: &str) -> String {
        let mut command = self.psql_with(url);
        command.args(["-c", "SELECT current_user"]);
        said(&run(command).await)
    }
}

fn url_of(listener: &Value) -> String {
    listener["url"].as_str().expect("it is open").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_uses_a_stored_listener_until_it_is_removed() {
    let mut stage = Stage::listening("databases: []").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = free.local_addr().expect("an address").to_string();
    let new = json!({"name": "local", "at": at, "connection": "main"}).to_string();
    let refused = stage.lab.gateway.api("POST", PATH, &new).await;
    assert_eq!(refused.head.status(), 409, "the port is in use: {}", refused.text());
    drop(free);
    let made = stage.lab.gateway.api("POST", PATH, &new).await.is(201);
    let url = url_of(&made.json());
    assert!(!url.contains(&*stage.password.text), "{url}");
    assert_eq!(stage.answers(&url).await.trim(), "app");
    stage.lab.gateway.restart().await;
    assert_eq!(url_of(&stage.shown("local").await), url, "the same place after a restart");
    assert_eq!(stage.answers(&url).await.trim(), "app");
    let mut sleeps = stage.psql_with(&url);
    sleeps.args(["-c", "SELECT pg_sleep(600)"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let sleeps = tokio::spawn(run(sleeps));
    until_one_sleeps(&stage.server).await;
    stage.lab.gateway.api("DELETE", &format!("{PATH}/local"), "").await.is(204);
    let ended = patiently("the end of psql", sleeps).await.expect("no panic");
    let words = "FATAL:  keyward: the agent's access was revoked or changed";
    assert!(said(&ended).contains(words), "{}", said(&ended));
    let refused = stage.answers(&url).await;
    assert!(refused.contains("Connection refused"), "{refused}");
    stage.finish().await;
}

async fn until_one_sleeps(server: &Server) {
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("the server's view of a session", async || server.sql("app", sleeping) == "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_opens_a_listener_that_psql_uses() {
    let stage = Stage::listening("databases: []").await;
    let add = ["database-listener", "add", "local", "--at"];
    let (is_done, refused) = stage.keyward(&[&add[..], &["10.0.0.1:6432"]].concat()).await;
    assert!(!is_done && refused.contains("`listen.databases`"), "{refused}");
    let (is_done, added) = stage.keyward(&[&add[..], &["127.0.0.1:0"]].concat()).await;
    assert!(is_done && added.contains("it is open at 127.0.0.1:"), "{added}");
    let url = added.lines().find(|line| line.contains("postgres://")).expect("a URL").trim();
    assert_eq!(stage.answers(url).await.trim(), "app");
    let socket = ["unix:.s.PGSQL.5432", "--agent", "ci", "--connection", "main"];
    let socket = [&["database-listener", "add", "own", "--at"][..], &socket[..]].concat();
    let (is_done, added) = stage.keyward(&socket).await;
    assert!(is_done, "{added}");
    let url_of_socket = url_of(&stage.shown("own").await);
    assert!(!url_of_socket.contains("TOKEN"), "{url_of_socket}");
    assert_eq!(stage.answers(&url_of_socket).await.trim(), "app");
    let (_, listed) = stage.keyward(&["--wide", "database-listener", "list"]).await;
    assert!(listed.contains("local") && listed.contains("own"), "{listed}");
    // `keyward run` finds it.
    let run = [
        "run",
        "--agent",
        "ci",
        "--",
        "psql",
        "-X",
        "-qAt",
        "-d",
        "main",
        "-c",
        "SELECT current_user",
    ];
    let (_, ran) = stage.keyward(&run).await;
    assert!(ran.lines().any(|line| line.trim() == "app"), "{ran}");
    for name in ["local", "own"] {
        let (is_done, removed) =
            stage.keyward(&["database-listener", "remove", name, "--yes"]).await;
        assert!(is_done, "{removed}");
    }
    assert!(stage.answers(url).await.contains("Connection refused"));
    stage.finish().await;
}
