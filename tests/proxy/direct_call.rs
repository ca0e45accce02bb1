//! Calls by connection id: for people and scripts that hold no agent, down the same spine.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use test_support::finished::{Finished, finished};
use test_support::install::Install;
use test_support::*;

async fn call(lab: &Lab, ask: Value) -> (u16, Value) {
    let answer = lab.gateway.api("POST", "/connections/acme/request", &ask.to_string()).await;
    lab.canary.assert_absent("the answer of a call", &answer.head.raw);
    lab.canary.assert_absent("the answer of a call", &answer.body);
    (answer.head.status(), answer.json())
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_call_to_another_host_or_with_an_invalid_field_is_refused_and_not_sent() {
    let lab = Lab::simple().await;
    for (ask, status, wanted) in [
        (json!({"path": "https://evil.test/"}), 403, "denied"),
        (json!({"path": "https://api.acme.test:8443/"}), 403, "denied"),
        (json!({"path": "/", "method": "TRACE"}), 405, "method_refused"),
        (json!({"path": "http://api.acme.test/"}), 422, "invalid_field"),
        (json!({"path": "me"}), 422, "invalid_field"),
        (json!({"path": "/ x"}), 422, "invalid_field"),
        (json!({"path": "/", "method": "G T"}), 422, "invalid_field"),
        (json!({"path": "/", "headers": {"Host": "evil.test"}}), 422, "invalid_field"),
        (json!({"path": "/", "headers": {"Content-Length": "1"}}), 422, "invalid_field"),
        (json!({"path": "/", "headers": {"X-A": "a\r\nX-B: b"}}), 422, "invalid_field"),
        (json!({"path": "/", "body": "a", "body_base64": "YQ=="}), 422, "invalid_field"),
        (json!({"path": "/", "body_base64": "?"}), 422, "invalid_field"),
        (json!({"path": "/", "unknown": 1}), 422, "invalid_field"),
    ] {
        let (got, answer) = call(&lab, ask.clone()).await;
        assert_eq!((got, code(&answer)), (status, wanted), "{ask}: {answer}");
    }
    lab.finish_after(0).await;
}

#[tokio::test]
async fn a_rule_that_names_no_agent_applies_to_direct_calls_of_users_too() {
    let plan = Plan::api_key()
        .rule(
            "{ name: theirs, agents: [ci], hosts: [api.acme.test], methods: [PUT], action: deny }",
        )
        .rule("{ name: no-deletes, hosts: [api.acme.test], methods: [DELETE], action: deny }");
    let lab = plan.start(Origin::saying("fine")).await;
    let override_ = json!({"X-HTTP-Method-Override": "DELETE"});
    for ask in [
        json!({"path": "/x", "method": "DELETE"}),
        json!({"path": "/x", "method": "POST", "headers": override_}),
    ] {
        let (status, answer) = call(&lab, ask.clone()).await;
        assert_eq!((status, code(&answer)), (403, "denied"), "{ask}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("no-deletes"), "{message}");
    }
    assert_eq!(lab.origin.received().len(), 0);
    // A rule that names agents is theirs.
    assert_eq!(call(&lab, json!({"path": "/x", "method": "PUT"})).await.0, 200);
    lab.finish().await;
}

#[tokio::test]
async fn a_rule_that_uses_another_connection_hides_no_denial_from_direct_calls() {
    for limits in ["methods: [POST]", "hosts: [api.acme.test], methods: [POST]"] {
        let rule = format!("{{ name: others, use: spare, {limits} }}");
        let spare = "{ name: spare, provider: acme, fields: { api_key: { env: CANARY } } }";
        let deny = "{ name: no-posts, hosts: [api.acme.test], methods: [POST], action: deny }";
        let plan = Plan::api_key().connection(spare).rule(&rule).rule(deny);
        let lab = plan.start(Origin::saying("fine")).await;
        let (status, answer) = call(&lab, json!({"path": "/x", "method": "POST"})).await;
        assert_eq!((status, code(&answer)), (403, "denied"), "{limits}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("no-posts"), "{message}");
        assert_eq!(lab.origin.received().len(), 0, "{limits}");
        assert_eq!(call(&lab, json!({"path": "/x"})).await.0, 200, "{limits}");
        let sent = lab.origin.only();
        assert_eq!(sent.head.all("x-api-key"), [&*lab.canary.text]);
        lab.finish().await;
    }
}

#[tokio::test]
async fn a_direct_call_with_a_paused_connection_is_refused() {
    let lab = Lab::simple().await;
    lab.add_mine(json!({})).await;
    lab.gateway.api("POST", "/connections/mine/pause", "").await.is(200);
    let answer = lab.gateway.api("POST", "/connections/mine/request", r#"{"path":"/"}"#).await;
    let (status, answer) = (answer.head.status(), answer.json());
    assert_eq!((status, code(&answer)), (424, "connection_paused"));
    lab.finish_after(0).await;
}

#[tokio::test]
async fn the_credential_is_injected_and_scrubbed_and_one_record_is_left() {
    let origin = Origin::answering(|request| {
        let key = request.head.one("x-api-key").unwrap_or_default().to_owned();
        let body = format!("you said {key}");
        format!(
            "HTTP/1.1 201 Created\r\nX-Echo: {key}\r\nSet-Cookie: a=b\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let lab = Plan::api_key().start(origin).await;
    let headers = json!({"X-Api-Key": "mine", "X-Own": "1", "Authorization": "Bearer mine"});
    let ask =
        json!({"method": "POST", "path": "/v1/a?b=%20c", "headers": headers, "body": {"a": [1]}});
    let (status, answer) = call(&lab, ask).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["status"], 201);
    assert!(answer["body"].as_str().is_some_and(|body| body.starts_with("you said ")), "{answer}");
    let request = lab.origin.only();
    assert_eq!((request.head.method(), request.head.target()), ("POST", "/v1/a?b=%20c"));
    assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    assert_eq!(request.head.one("x-own"), Some("1"));
    assert_eq!(request.head.one("content-type"), Some("application/json"));
    assert_eq!(request.body, br#"{"a":[1]}"#);
    let records = lab.finish().await;
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["exchange"], answer["exchange"]);
    assert_eq!((&record["agent"], &record["connection"]), (&Value::Null, &"acme".into()));
    assert_eq!((&record["status"], &record["outcome"]), (&201.into(), &"completed".into()));
    assert!(record["rule"].as_str().is_some_and(|rule| rule.starts_with("call:con_")), "{record}");
}

#[tokio::test]
async fn bytes_that_are_no_text_come_in_base64() {
    let bytes: &[u8] = &[0, 0xff, 0x80, b'\n'];
    let origin = Origin::answering(move |request| {
        assert_eq!(request.body, bytes);
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec();
        answer.extend(bytes);
        answer
    });
    let lab = Plan::api_key().start(origin).await;
    let coded = BASE64_STANDARD.encode(bytes);
    let (status, answer) =
        call(&lab, json!({"method": "PUT", "path": "/", "body_base64": coded})).await;
    assert_eq!((status, answer["status"].as_u64()), (200, Some(200)), "{answer}");
    assert_eq!((&answer["body"], answer["body_base64"].as_str()), (&Value::Null, Some(&*coded)));
    lab.finish().await;
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_and_not_kept() {
    let origin = Origin::answering(|_| {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\n".to_vec();
        answer.resize(answer.len() + 8_388_609, b'a');
        answer
    });
    let lab = Plan::api_key().start(origin).await;
    let (status, answer) = call(&lab, json!({"path": "/"})).await;
    assert_eq!((status, code(&answer)), (502, "answer_too_large"), "{answer}");
    lab.finish().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_not_a_shorter_answer() {
    let origin = Origin::scripted(|mut stream| async move {
        stream.request().await;
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort").await;
    });
    let lab = Plan::api_key().start(origin).await;
    let (status, answer) = call(&lab, json!({"path": "/"})).await;
    assert_eq!((status, code(&answer)), (502, "answer_cut"), "{answer}");
    lab.finish().await;
}

fn run(install: &Install, arguments: &[&str]) -> Finished {
    finished(install.keyward(arguments), "")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sends_direct_calls_with_and_without_a_running_gateway() {
    let plan = Plan::api_key();
    let origin = Origin::answering(|request| {
        let status = if request.head.target() == "/gone" { "404 Not Found" } else { "200 OK" };
        let body = format!("{} {}", request.head.method(), String::from_utf8_lossy(&request.body));
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let install = Install::new(&plan, &origin);
    let key = install.folder().join("key");
    std::fs::write(&key, &plan.canary().text).expect("a file");
    let file = format!("api_key={}", key.display());
    let add = ["connection", "add", "acme", "--name", "mine", "--secret-file", &file];
    assert_eq!(run(&install, &add).code, 0);
    std::fs::remove_file(&key).expect("a file");
    for served in [false, true] {
        let _gateway = served.then(|| install.serve());
        let ask = |more: &[&str]| {
            let mut arguments = vec!["connection", "request", "mine"];
            arguments.extend(more);
            run(&install, &arguments)
        };
        for (more, says) in [(&["/me"][..], "GET \n"), (&["/me", "-b", "a"], "POST a\n")] {
            let Finished { code, out, err } = ask(more);
            assert_eq!((code, &*out, &*err), (0, says, ""));
        }
        assert_eq!(ask(&["/me", "-X", "put", "-b", "a"]).out, "PUT a\n");
        let Finished { code, out, err } = ask(&["/gone"]);
        assert_eq!((code, &*out, &*err), (1, "GET \n", "error: the provider answered 404\n"));
        let Finished { code, out, .. } = ask(&["/gone", "--json"]);
        let answer: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &answer["status"]), (1, &404.into()));
        let Finished { code, out, err } = ask(&["https://evil.test/"]);
        assert_eq!((code, &*out), (4, ""), "{err}");
        assert!(err.starts_with("error: ") && err.contains("\nhint: its hosts: "), "{err}");
        let Finished { code, err, .. } = ask(&["me"]);
        assert_eq!(code, 1, "{err}");
        assert!(err.starts_with("error: `path` must begin with `/`"), "{err}");
        assert_eq!(ask(&["/", "-H", "nothing"]).code, 2);
        assert_eq!(ask(&["/", "-H", "X-A: 1", "-H", "x-a: 2"]).code, 2);
        assert_eq!(run(&install, &["connection", "request", "nope", "/"]).code, 5);
    }
    let keys = origin.received();
    let keys = keys.iter().map(|request| request.head.all("x-api-key"));
    assert!(keys.into_iter().all(|key| key == [&*plan.canary().text]));
    plan.canary().assert_absent_below(install.folder());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_its_reader_has_closed_ends_the_output_and_is_no_failure() {
    let origin = Origin::saying("one\ntwo\n");
    let install = Install::new(&Plan::api_key(), &origin);
    let _gateway = install.serve();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = install.keyward(&["connection", "request", "acme", "/"]);
    let done = Finished::from(command.stdout(writer).output().expect("it runs"));
    assert_eq!((done.code, &*done.err), (0, ""));
}
