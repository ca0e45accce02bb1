//! One connection that does not work, one remedy: wherever a person or a program reads it.

use serde_json::Value;

use test_support::install::{Install, Ran, TOKEN_CI};
use test_support::*;

/// The test request of the provider.
const ME: &str = "{ url: 'https://api.acme.test/me' }";

/// Standard output and standard error, whatever the exit code.
fn said(install: &Install, words: &[&str]) -> (String, String) {
    let output = install.keyward(words).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn json(install: &Install, words: &[&str]) -> Value {
    let (out, err) = said(install, &[words, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words:?}: {out}{err}"))
}

/// What an agent is told that asks the provider.
async fn refusal(install: &Install, token: &str) -> Value {
    let status = install.keyward(&["connection", "list"]).output().expect("it runs");
    assert!(status.status.success());
    let socket = install.data().join("admin.sock");
    let get = "GET /api/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let (_, status) = test_support::cli::over_socket(&socket, get);
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let proxy: std::net::SocketAddr =
        status["proxy"][0].as_str().expect("an address").parse().expect("an address");
    let mut wire = Wire::to(proxy).await;
    let answer = wire.ask(absolute("GET /", HOST, token)).await.is(424);
    answer.json()["error"].clone()
}

/// Every place that tells a remedy for the connection, with what it tells. `agent` may use it.
async fn told(
    install: &Install,
    name: &str,
    (agent, token): (&str, &str),
) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut tell = |place: &str, text: Option<&str>| {
        told.push((place.to_owned(), text.unwrap_or_default().to_owned()));
    };
    let refused = refusal(install, token).await;
    assert_eq!(refused["connection"], name, "{refused}");
    tell("424", refused["hint"].as_str());
    let (list, _) = said(install, &["connection", "list"]);
    let line = format!("hint: {name}: ");
    tell("connection list", list.lines().find_map(|it| it.strip_prefix(&line)));
    let (show, _) = said(install, &["connection", "show", name]);
    tell("connection show", show.lines().find_map(|it| it.strip_prefix("hint: ")));
    let listed = json(install, &["connection", "list"]);
    let items = listed["items"].as_array().expect("a list").iter();
    let item = items.clone().find(|it| it["name"] == name).expect("it is listed");
    tell("GET /connections", item["remedy"].as_str());
    let report = json(install, &["doctor"]);
    let checks = report["checks"].as_array().expect("a list").iter();
    let of_it = |check: &&Value| {
        let message = check["message"].as_str().unwrap_or_default();
        check["id"] == "connections" && message.starts_with(&format!("connection {name} is "))
    };
    tell("doctor", checks.clone().find(of_it).and_then(|check| check["hint"].as_str()));
    let url = format!("https://{HOST}/");
    let explained = json(install, &["explain", &url, "--agent", agent]);
    tell("explain", explained["stopped_by"][0]["hint"].as_str());
    told
}

/// A gateway with a connection of the store beside that of the file, and an agent for each.
struct Two {
    install: Install,
    /// The token of the agent that uses the store's.
    token: String,
    _serving: Ran,
    _origin: Origin,
}

async fn two() -> Two {
    let origin = Origin::answering(|_| "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n".to_owned());
    let plan = Plan::api_key().test(ME);
    let install = Install::new(&plan, &origin);
    let key = install.folder().join("key");
    std::fs::write(&key, "canary-of-the-stored-connection").expect("a file");
    let serving = install.serve();
    let file = format!("api_key={}", key.display());
    for words in [
        &["connection", "add", "acme", "--name", "mine", "--no-test", "--secret-file", &file][..],
        &["agent", "add", "own"],
        &["agent", "bind", "own", "mine"],
    ] {
        let output = install.keyward(words).output().expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    let shown = json(&install, &["agent", "token", "add", "own"]);
    let token = shown["token"].as_str().expect("a token").to_owned();
    Two { install, token, _serving: serving, _origin: origin }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_key_has_the_same_remedy_in_every_answer_and_command() {
    let two = two().await;
    let (install, token) = (&two.install, &*two.token);
    for (name, user, remedy) in [
        ("mine", ("own", token), "give it a new secret: `keyward connection rotate mine`"),
        (
            "acme",
            ("ci", TOKEN_CI),
            "put a new secret where the configuration file reads it, then: `keyward reload` (for a variable, \
             restart the gateway); if the present one is right, test it: `keyward connection test acme`",
        ),
    ] {
        let (_, tested) = said(install, &["connection", "test", name]);
        let hint = tested.lines().find_map(|line| line.strip_prefix("hint: "));
        assert_eq!(hint, Some(remedy), "connection test {name}: {tested}");
        for (place, text) in told(install, name, user).await {
            assert_eq!(text, remedy, "{place} of {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_connection_has_the_same_remedy_in_every_answer_and_command() {
    let two = two().await;
    let (install, token) = (&two.install, &*two.token);
    let paused = install.keyward(&["connection", "pause", "mine"]).output().expect("it runs");
    assert!(paused.status.success(), "{paused:?}");
    for (place, text) in told(install, "mine", ("own", token)).await {
        assert_eq!(text, "resume it: `keyward connection resume mine`", "{place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_a_connection_of_the_file_asks_for_no_secret() {
    let two = two().await;
    for words in
        [&["connection", "rotate", "acme"][..], &["connection", "rotate", "acme", "--no-test"]]
    {
        let (_, err) = said(&two.install, words);
        let says =
            "connection `acme` is managed by the configuration file\nhint: put a new secret where";
        assert!(err.contains(says), "{words:?}: {err}");
    }
}

/// A key is not consented to again: both commands say what is done instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnect_of_a_key_names_rotate_as_the_remedy() {
    let two = two().await;
    let install = &two.install;
    let remedy = "give it a new secret: `keyward connection rotate mine`";
    let (_, err) = said(install, &["connection", "reconnect", "mine", "--no-browser"]);
    assert!(err.contains("needs no consent"), "{err}");
    assert_eq!(err.lines().find_map(|line| line.strip_prefix("hint: ")), Some(remedy), "{err}");
}
