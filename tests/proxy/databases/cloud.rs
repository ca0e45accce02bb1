//! Passwords that clouds make: signed by a key of AWS for each login, and tokens of a service account of Google.

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;

use super::client::Client;
use super::server::{Behaviour, NAME, Server};
use test_support::authorization::Authorization;
use test_support::canary::Canary;
use test_support::tokens::rules;
use test_support::wire::find;
use test_support::*;

const TOKENS: &str = "oauth2.googleapis.com";

/// A plan with one listener, for the agent `cloud`.
fn plan(server: &Server, connections: &str) -> Plan {
    Plan::api_key()
        .no_agents()
        .agent("cloud", connections)
        .listen("databases: [{ at: \"127.0.0.1:0\" }]")
        .resolve(&format!("{NAME}: \"{}\"", server.at))
        .allow(&server.at.to_string())
}

/// The password of the last login that the server saw.
fn password(server: &Server, begin: &str) -> String {
    let received = String::from_utf8_lossy(&server.received()).into_owned();
    let (_, password) = received.rsplit_once(begin).expect("a password");
    format!("{begin}{}", password.split('\0').next().unwrap_or_default())
}

#[tokio::test]
async fn a_login_by_aws_iam_has_a_signed_password_and_the_key_is_not_sent() {
    let (server, key) = (Server::start(Behaviour::Serves).await, Canary::new("wJalrXUt"));
    let connection = |name: &str, host: &str, sslmode: &str| {
        format!(
            "{{ name: {name}, provider: postgres, auth: rds_iam, \
             variables: {{ host: \"{host}:{}\", database: app, sslmode: {sslmode} }}, \
             fields: {{ username: app, access_key_id: {{ env: AWS_ID }}, \
             secret_access_key: {{ env: AWS_SECRET }}, region: eu-west-1 }} }}",
            server.at.port()
        )
    };
    let plan = plan(&server, "iam, plain")
        .connection(&connection("iam", NAME, "verify-full"))
        .connection(&connection("plain", "127.0.0.1", "disable"))
        .secret("AWS_SECRET", &key)
        .variable("AWS_ID", "AKIAIOSFODNN7EXAMPLE");
    let lab = plan.start(Origin::saying("fine")).await;
    let mut session = Client::open(&lab, lab.token("cloud"), "iam").await.expect("a session");
    session.query("SELECT 1").await.expect("an answer");
    let begin = format!("{NAME}:{}/?Action=connect&DBUser=app&", server.at.port());
    let password = password(&server, &begin);
    for part in [
        "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F",
        "%2Feu-west-1%2Frds-db%2Faws4_request",
        "X-Amz-Expires=900",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Signature=",
    ] {
        assert!(password.contains(part), "{part}: {password}");
    }
    key.assert_absent("what the server received", &server.received());
    let accepted = server.accepted();
    let refused = Client::open(&lab, lab.token("cloud"), "plain").await.err().expect("no session");
    assert!(refused.contains("sent over verified TLS only"), "{refused}");
    assert_eq!(server.accepted(), accepted, "the server is not dialled");
    lab.finish().await;
}

#[tokio::test]
async fn a_login_at_cloud_sql_has_a_token_of_the_service_account() {
    let server = Server::start(Behaviour::Serves).await;
    let google = Authorization::named(&[TOKENS], rules()).await;
    let plan = plan(&server, "acme").resolve(&format!("{TOKENS}: \"{}\"", google.addr()));
    let mut lab = plan.allow(&google.addr().to_string()).start(Origin::saying("fine")).await;
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("a key");
    lab.guard(Canary::of(key.serialize_pem()));
    lab.add_agent("robot").await;
    let file = json!({
        "type": "service_account", "private_key_id": "k1", "private_key": key.serialize_pem(),
        "client_email": "robot@project.iam.gserviceaccount.com",
    });
    let new = json!({
        "provider": "postgres", "auth": "cloud_sql_iam", "name": "cloud-sql",
        "variables": { "host": format!("{NAME}:{}", server.at.port()), "database": "app" },
        "fields": { "username": "robot@project.iam", "service_account": file.to_string() },
    });
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    let bind = json!({ "connection": "cloud-sql" }).to_string();
    let bound = lab.gateway.api("POST", "/agents/robot/bindings", &bind).await;
    assert!((200..300).contains(&bound.head.status()), "{}", bound.text());
    let mut session = Client::open(&lab, lab.token("robot"), "cloud-sql").await.expect("a session");
    session.query("SELECT 1").await.expect("an answer");
    let received = server.received();
    assert!(find(&received, b"user\0robot@project.iam\0").is_some());
    let token = google.only_call().issued.expect("tokens").access;
    assert!(
        find(&received, format!("{token}\0").as_bytes()).is_some(),
        "the token is the password"
    );
    lab.finish().await;
}
