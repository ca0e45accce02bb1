//! The master key and the CA change while agents work: no request fails, clients with the old or the new CA are served,
//! and the replaced keys open and sign nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use test_support::*;

const CLIENTS: usize = 6;

/// Rotations of the master key under load.
const KEY_ROTATIONS: usize = 12;

/// The first certificate of a PEM text.
fn first(pem: &str) -> String {
    let end = "-----END CERTIFICATE-----\n";
    let (first, _) = pem.split_once(end).expect("a certificate");
    format!("{first}{end}")
}

/// What the gateway gives clients to trust.
async fn trusted(lab: &Lab) -> String {
    let answer = lab.gateway.api("GET", "/ca", "").await.is(200);
    answer.json()["pem"].as_str().expect("PEM").to_owned()
}

async fn rotate_ca(lab: &Lab, how: &str) -> serde_json::Value {
    lab.gateway.api("POST", "/ca/rotate", how).await.is(200).json()
}

async fn rotate_key(lab: &Lab) -> serde_json::Value {
    lab.gateway.api("POST", "/keys/rotate", "{}").await.is(200).json()
}

/// A tunnel to [`HOST`] of a client that trusts `roots` alone.
async fn tunnel(lab: &Lab, roots: &str) -> std::io::Result<Wire> {
    let (answer, wire) = lab.connect(&format!("{HOST}:443")).await;
    assert_eq!(answer.head.status(), 200, "{answer:?}");
    lab.secure_trusting(roots, wire, HOST).await
}

async fn ask(wire: &mut Wire, request: &str) {
    wire.send(request).await;
    let answer = wire.try_answer("GET").await.expect("an answer");
    assert_eq!(answer.head.status(), 200, "{answer:?} {}", answer.text());
}

/// A client that asks until it is told to stop: on one stream, or on a new one for each request,
/// trusting the first CA alone or the present one alone.
async fn client(lab: Arc<Lab>, number: usize, (stop, asked): (Arc<AtomicBool>, Arc<AtomicUsize>)) {
    let request = request_text("GET /always", HOST);
    let old = lab.gateway.ca_pem.clone();
    let mut open = tunnel(&lab, &old).await.expect("served");
    while !stop.load(Relaxed) {
        match number % 3 {
            0 => ask(&mut open, &request).await,
            1 => ask(&mut tunnel(&lab, &old).await.expect("the old CA"), &request).await,
            _ => {
                let new = first(&lab.gateway.running().services().authority.cert_pem());
                // The CA may change between the question and the handshake: then the next is right.
                match tunnel(&lab, &new).await {
                    Ok(mut wire) => ask(&mut wire, &request).await,
                    Err(error) => {
                        let now = first(&lab.gateway.running().services().authority.cert_pem());
                        assert_ne!(now, new, "{error}");
                    }
                }
            }
        }
        asked.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_master_key_and_ca_are_rotated() {
    let lab = Arc::new(Lab::simple().await);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(lab.clone(), number, (stop.clone(), asked.clone()))))
        .collect();
    for number in 0..KEY_ROTATIONS {
        let name = format!(r#"{{"name":"new-{number}"}}"#);
        let changes = lab.gateway.api("POST", "/agents", &name);
        let (changed, rotated) = tokio::join!(changes, rotate_key(&lab));
        assert_eq!(changed.head.status(), 201, "{}", changed.text());
        assert_eq!(rotated["made"], true, "{rotated}");
        if number == KEY_ROTATIONS / 2 {
            rotate_ca(&lab, r#"{"overlap":"30d"}"#).await;
        }
        assert!(clients.iter().all(|client| !client.is_finished()), "rotation {number}");
    }
    let before = asked.load(Relaxed);
    until("load after the last rotation", async || asked.load(Relaxed) >= before + CLIENTS * 5)
        .await;
    stop.store(true, Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    for request in lab.origin.received() {
        assert_eq!(request.head.all("x-api-key"), [&*lab.canary.text]);
    }
    Arc::into_inner(lab).expect("the clients have ended").finish().await;
}

#[tokio::test]
async fn after_a_rotation_without_overlap_only_the_new_ca_is_served_and_open_streams_go_on() {
    let lab = Lab::simple().await;
    let request = request_text("GET /a", HOST);
    let old = trusted(&lab).await;
    let mut open = tunnel(&lab, &old).await.expect("served");
    ask(&mut open, &request).await;
    let view = rotate_ca(&lab, r#"{"no_overlap":true}"#).await;
    assert_eq!(view["overlap_until"], serde_json::Value::Null);
    assert_eq!(view["certificates"].as_array().map(Vec::len), Some(1));
    assert!(tunnel(&lab, &old).await.is_err(), "the old CA is gone");
    ask(&mut open, &request).await;
    let new = trusted(&lab).await;
    assert!(!new.contains(&old));
    ask(&mut tunnel(&lab, &new).await.expect("the new CA"), &request).await;
    lab.finish().await;
}

#[tokio::test]
async fn in_an_overlap_clients_of_both_cas_are_served_and_a_new_rotation_is_refused() {
    let lab = Lab::simple().await;
    let old = trusted(&lab).await;
    let view = rotate_ca(&lab, r#"{"overlap":"7d"}"#).await;
    let roles: Vec<_> =
        view["certificates"].as_array().expect("a list").iter().map(|one| &one["role"]).collect();
    assert_eq!(roles, ["current", "former"]);
    assert!(view["overlap_until"].is_string(), "{view}");
    let bundle = lab.gateway.api("GET", "/ca", "").await.json()["pem"].clone();
    assert_eq!(bundle.as_str(), Some(&*format!("{}{old}", first(&trusted(&lab).await))));
    for roots in [&old, &first(&trusted(&lab).await)] {
        let mut wire = tunnel(&lab, roots).await.expect("served");
        ask(&mut wire, &request_text("GET /a", HOST)).await;
    }
    for (how, code) in [
        (r#"{"overlap":"7d"}"#, "refused"),
        (r#"{"overlap":"7d","no_overlap":true}"#, "invalid_field"),
        (r#"{"overlap":"soon"}"#, "invalid_field"),
        (r#"{"overlap":"0s"}"#, "invalid_field"),
    ] {
        let refused = lab.gateway.api("POST", "/ca/rotate", how).await;
        assert_eq!(refused.head.status(), 422, "{how}");
        assert_eq!(refused.json()["error"]["code"], code, "{how}");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_reload_uses_replaced_ca_files_without_a_restart() {
    let lab = Lab::simple().await;
    let old = trusted(&lab).await;
    let folder = lab.gateway.data().join("ca");
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "their own");
    let cert = params.self_signed(&key).expect("a certificate").pem();
    // The certificate alone is refused, and changes nothing.
    std::fs::write(folder.join("ca.pem"), &cert).expect("a file");
    lab.gateway.api("POST", "/reload", "{}").await.is(422).says("ca.key");
    assert!(tunnel(&lab, &old).await.is_ok(), "the old one signs");
    std::fs::write(folder.join("ca.key"), key.serialize_pem()).expect("a file");
    lab.gateway.api("POST", "/reload", "{}").await.is(200);
    assert!(tunnel(&lab, &old).await.is_err());
    let mut wire = tunnel(&lab, &cert).await.expect("the new one signs");
    ask(&mut wire, &request_text("GET /a", HOST)).await;
    let refused = lab.gateway.api("POST", "/ca/rotate", "{}").await;
    let error = refused.json()["error"].clone();
    assert!(error["message"].as_str().is_some_and(|text| text.contains("not made by keyward")));
    assert!(error["hint"].as_str().is_some_and(|text| text.contains("keyward reload")), "{error}");
    lab.finish().await;
}

#[tokio::test]
async fn replaced_ca_files_are_used_without_a_reload() {
    let lab = Lab::simple().await;
    let folder = lab.gateway.data().join("ca");
    let other = Lab::simple().await;
    for name in ["ca.key", "ca.pem"] {
        let theirs = std::fs::read(other.gateway.data().join("ca").join(name)).expect("a file");
        std::fs::write(folder.join(name), theirs).expect("a file");
    }
    until("the new CA", async || tunnel(&lab, &other.gateway.ca_pem).await.is_ok()).await;
    lab.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn master_keys_that_the_configuration_names_change_without_a_restart() {
    let lab = Lab::simple().await;
    let file = lab.gateway.folder().join("keyward.yaml");
    let base = std::fs::read_to_string(&file).expect("the configuration");
    let name_keys = async |keys: &str| {
        std::fs::write(&file, format!("{base}master_key: {keys}\n")).expect("the configuration");
        lab.gateway.api("POST", "/reload", "{}").await
    };
    let new = lab.gateway.data().join("new.key");
    std::fs::write(&new, format!("{:064x}\n", 0xa1b2)).expect("a key");
    std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a mode");
    let mut open = lab.tunnel(HOST).await;
    // The rows need the key that was there before.
    name_keys("{ file: new.key }").await.is(422).says("still wraps rows");
    ask(&mut open, &request_text("GET /a", HOST)).await;
    let taken = name_keys("[{ file: new.key }, { file: master.key }]").await.is(200);
    assert_eq!(taken.json()["warnings"], serde_json::json!([]));
    let rotated = rotate_key(&lab).await;
    assert_eq!((&rotated["made"], &rotated["retired"]), (&false.into(), &serde_json::json!([])));
    let unneeded = rotated["unneeded"][0]["name"].as_str().expect("a file");
    assert!(unneeded.ends_with("master.key"), "{rotated}");
    name_keys("{ file: new.key }").await.is(200);
    let keys = lab.gateway.api("GET", "/keys", "").await.json()["items"].clone();
    assert_eq!(keys.as_array().map(Vec::len), Some(1), "{keys}");
    assert_eq!(keys[0]["source"]["kind"], "file");
    let nothing = lab.gateway.api("POST", "/keys/rotate", "{}").await.is(422);
    assert!(nothing.text().contains("`keyward reload`, then rotate"), "{}", nothing.text());
    ask(&mut open, &request_text("GET /a", HOST)).await;
    lab.finish().await;
}

#[tokio::test]
async fn the_metrics_have_the_expiry_of_the_ca() {
    let lab = Lab::simple().await;
    let ends = lab.gateway.running().services().authority.expires().as_second();
    let socket = lab.gateway.data().join("admin.sock");
    let stream = tokio::net::UnixStream::connect(socket).await.expect("the socket listens");
    let mut wire = Wire::over(stream, None, wire::Seen::default());
    let told = wire.ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.text();
    assert!(told.contains(&format!("keyward_ca_ends_timestamp_seconds {ends}")), "{told}");
    lab.finish().await;
}
