//! `keyward hook listen`: programs that handle events one after the other, over the stream of server-sent events.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::queue::queue;
use super::*;
use test_support::hooks::status;
use test_support::wire::Seen;

/// Sends event `n` of the service.
async fn event(lab: &Lab, n: u32) {
    let body = format!("{{\"n\":{n}}}");
    let signature = format!("X-Hub-Signature-256: sha256={}\r\n", signed(SECRET, &body));
    let fields = format!("{signature}X-GitHub-Event: push\r\n");
    send(lab, "/hooks/q", &fields, &body).await.is(200);
}

/// `keyward hook listen q`, in the folder of the lab.
fn listener(lab: &Lab, more: &[&str]) -> Child {
    command(lab, more).spawn().expect("it runs")
}

fn command(lab: &Lab, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.env_clear().env("PATH", std::env::var_os("PATH").expect("a path"));
    command.env("HOME", lab.gateway.folder()).env("KEYWARD_DATA", lab.gateway.data());
    command.args(["hook", "listen", "q"]).args(more).current_dir(lab.gateway.folder());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// The lines of a file, when there are so many.
async fn lines_of(file: &PathBuf, count: usize) -> Vec<String> {
    until_some(&format!("{count} lines of {}", file.display()), async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let is_whole = text.ends_with('\n') && text.lines().count() >= count;
        is_whole.then(|| text.lines().map(str::to_owned).collect())
    })
    .await
}

/// Waits until so many events are left.
async fn until_left(lab: &Lab, count: usize) -> Value {
    until_some(&format!("{count} events"), async || {
        let all = api(lab, "GET", "/hooks/q/events", Value::Null, 200).await;
        all["items"].as_array().is_some_and(|all| all.len() == count).then(|| all["items"].clone())
    })
    .await
}

#[tokio::test]
async fn a_program_gets_each_event_in_order_and_a_failed_one_is_retried() {
    let lab = queue("github", SECRET).await;
    for n in 1..=3 {
        event(&lab, n).await;
    }
    // The first run fails.
    let script = "[ -e failed ] || { : > failed; exit 7; }; \
        { printf '%s %s ' \"$KEYWARD_EVENT_TYPE\" \"$KEYWARD_EVENT_HEADERS\"; cat; echo; } >> handled";
    let mut listening = listener(&lab, &["--exec", script]);
    let handled = lab.gateway.folder().join("handled");
    lines_of(&handled, 3).await;
    // It still listens.
    event(&lab, 4).await;
    let lines = lines_of(&handled, 4).await;
    for (line, n) in lines.iter().zip(1..) {
        let expected = format!(r#"application/json [["x-github-event","push"]] {{"n":{n}}}"#);
        assert_eq!(*line, expected, "no signature, and no other field");
    }
    assert_eq!(lines.len(), 4, "each is handled once");
    until_left(&lab, 0).await;
    listening.kill().await.expect("our child");
    let mut said = String::new();
    let mut errors = listening.stderr.take().expect("piped");
    errors.read_to_string(&mut said).await.expect("text");
    assert!(said.contains("is tried again in 1 s: exit status: 7"), "{said}");
    lab.finish().await;
}

#[tokio::test]
async fn a_program_of_hook_listen_has_the_limits_of_its_user_and_no_secret_of_keyward() {
    let lab = queue("github", SECRET).await;
    event(&lab, 1).await;
    let limits = "umask; ulimit -c";
    let own = Command::new("/bin/sh").args(["-c", limits]).output().await.expect("a shell");
    let secrets = "echo \"$KEYWARD_BACKUP_PASSPHRASE$KEYWARD__LOG__LEVEL.\"; echo \"$MINE\"";
    let script = format!("{{ {limits}; {secrets}; }} > made; mv made handled");
    let mut command = command(&lab, &["--exec", &script]);
    command.env("KEYWARD_BACKUP_PASSPHRASE", "of a backup").env("KEYWARD__LOG__LEVEL", "info");
    let _listening = command.env("MINE", "stays").spawn().expect("it runs");
    let lines = lines_of(&lab.gateway.folder().join("handled"), 4).await;
    assert_eq!(lines[..2].join("\n"), String::from_utf8_lossy(&own.stdout).trim());
    assert_eq!(lines[2..], [".", "stays"]);
    lab.finish().await;
}

/// It listens with the token of its user.
#[tokio::test]
async fn a_program_of_hook_listen_does_not_inherit_the_token_of_the_command() {
    let mut lab = queue("github", SECRET).await;
    let new = json!({"name": "ann", "role": "admin"});
    api(&lab, "POST", "/users", new, 201).await;
    let made = api(&lab, "POST", "/tokens", json!({"user": "ann"}), 201).await;
    let token = made["token"].as_str().expect("shown once").to_owned();
    lab.guard(Canary::of(token.clone()));
    event(&lab, 1).await;
    let script = "echo \"$KEYWARD_TOKEN.\" > made; mv made handled";
    let mut command = command(&lab, &["--exec", script]);
    let _listening = command.env("KEYWARD_TOKEN", token).spawn().expect("it runs");
    assert_eq!(lines_of(&lab.gateway.folder().join("handled"), 1).await, ["."]);
    until_left(&lab, 0).await;
    lab.finish().await;
}

#[tokio::test]
async fn an_event_whose_listener_was_killed_is_delivered_to_the_next_listener() {
    let lab = queue("github", SECRET).await;
    event(&lab, 1).await;
    // The shell's parent is the listener.
    let mut killed = listener(&lab, &["--exec", "cat > begun; echo >> begun; kill -9 $PPID"]);
    let ended = patiently("its end", killed.wait()).await.expect("our child");
    assert_eq!(ended.code(), None, "{ended}");
    assert_eq!(lines_of(&lab.gateway.folder().join("begun"), 1).await, [r#"{"n":1}"#]);
    let left = until_left(&lab, 1).await;
    assert_eq!(left[0]["body"], r#"{"n":1}"#);
    // Without a program, each is printed and removed.
    let mut next = listener(&lab, &[]);
    let mut printed = BufReader::new(next.stdout.take().expect("piped")).lines();
    let line = patiently("a line", printed.next_line()).await.expect("text").expect("a line");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["id"], &line["body"]), (&left[0]["id"], &left[0]["body"]));
    until_left(&lab, 0).await;
    next.kill().await.expect("our child");
    lab.finish().await;
}

/// Its time is earlier than that of the event which the follower has read.
#[tokio::test]
async fn an_event_that_is_sent_again_reaches_a_follower_that_is_connected() {
    let world = World::start(Plan::api_key()).await;
    world.program.answers([status(410)]);
    let id = world.push(r#"{"n":1}"#).await.json()["id"].as_str().expect("an id").to_owned();
    world.standing("it is dead", |hook| hook["dead"] == 1).await;
    api(&world.lab, "PATCH", "/hooks/ci", json!({"to": null}), 200).await;
    let socket = world.lab.gateway.data().join("admin.sock");
    let stream = UnixStream::connect(socket).await.expect("the socket listens");
    let mut follower = Wire::over(stream, None, Seen::default());
    let line = "GET /api/v1/hooks/ci/events?follow=true HTTP/1.1";
    follower.send(format!("{line}\r\nHost: localhost\r\n\r\n")).await;
    assert_eq!(follower.head().await.expect("an answer").status(), 200);
    let mut next = async || loop {
        let chunk = patiently("an event", follower.chunk()).await.expect("a chunk");
        let text = String::from_utf8(chunk).expect("text");
        // Between events there may be comments, which keep the stream open.
        if let Some(event) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str::<Value>(event).expect("JSON");
        }
    };
    world.push(r#"{"n":2}"#).await;
    assert_eq!(next().await["body"], r#"{"n":2}"#);
    api(&world.lab, "POST", &format!("/hooks/ci/events/{id}/resend"), json!({}), 200).await;
    let again = next().await;
    assert_eq!((&again["id"], &again["body"]), (&json!(id), &json!(r#"{"n":1}"#)));
    world.lab.finish().await;
}

#[tokio::test]
async fn hook_listen_for_an_unknown_hook_fails_and_names_it() {
    let lab = Plan::api_key().no_agents().start(Origin::saying("fine")).await;
    let output = listener(&lab, &["--exec", "true"]).wait_with_output().await.expect("it ends");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && said.contains("`q`"), "{said}");
    lab.finish().await;
}
