//! The secret of a connection is replaced: no request fails, each is sent wholly with the old or the new
//! one, a secret that the provider refuses changes nothing, and there is a way back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use test_support::canary::Canary;
use test_support::process::Served;
use test_support::*;

const CLIENTS: usize = 6;

const TOKEN: &str = "kwa_rotation-0123456789abc";

/// The test request of these labs.
pub(crate) const ME: &str = "{ url: 'https://api.acme.test/me', account: [login, org.name] }";

/// Keys that the provider takes.
pub(crate) type Taken = Arc<Mutex<BTreeSet<String>>>;

pub(crate) fn taken(keys: &[&Canary]) -> Taken {
    Arc::new(Mutex::new(keys.iter().map(|key| key.text.clone()).collect()))
}

/// A provider that answers 401 to every other key, and names the account to one that it takes.
fn provider(taken: &Taken) -> Origin {
    let taken = taken.clone();
    Origin::answering(move |request| {
        let keys = request.head.all("x-api-key");
        let takes =
            matches!(&keys[..], [key] if taken.lock().expect("not poisoned").contains(*key));
        match takes {
            true => ok(r#"{"login":"alice","org":{"name":"Acme"}}"#),
            false => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
        }
    })
}

/// The connection `mine` with the canary, which `ci` may use, before a provider that takes `keys`.
pub(crate) async fn lab(taken: &Taken, plan: Plan) -> Lab {
    Lab::with_mine(plan, provider(taken), json!({})).await
}

pub(crate) async fn rotate(lab: &Lab, key: &Canary, more: Value) -> Message {
    let mut body = json!({"fields": {"api_key": key.text}});
    body.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    let answer = lab.gateway.api("POST", "/connections/mine/rotate", &body.to_string()).await;
    for secret in [&lab.canary, key] {
        secret.assert_absent("the answer of a rotation", &answer.body);
    }
    answer
}

pub(crate) async fn ends(lab: &Lab, how: &str) -> Message {
    lab.gateway.api("POST", &format!("/connections/mine/rotate/{how}"), "{}").await
}

async fn shown(lab: &Lab) -> Value {
    lab.gateway.api("GET", "/connections/mine", "").await.json()
}

/// The key that the provider receives now.
async fn sent(lab: &Lab) -> String {
    lab.ask("GET /now").await;
    let received = lab.origin.received();
    let last = received.iter().rfind(|it| it.head.target() == "/now").expect("it came");
    assert_eq!(last.head.all("x-api-key").len(), 1);
    last.head.one("x-api-key").expect("one").to_owned()
}

/// A client that asks until it is told to stop, and takes nothing but 200.
async fn client(lab: Arc<Lab>, number: usize, (stop, asked): (Arc<AtomicBool>, Arc<AtomicUsize>)) {
    let request = request_text("GET /load", HOST);
    let mut open = lab.tunnel(HOST).await;
    while !stop.load(SeqCst) {
        if number == 0 {
            open = lab.tunnel(HOST).await;
        }
        open.send(&request).await;
        let answer = open.try_answer("GET").await.expect("an answer");
        assert_eq!(answer.head.status(), 200, "{answer:?} {}", answer.text());
        asked.fetch_add(1, SeqCst);
    }
}

/// Everything that is under way has ended when every client has asked twice more.
async fn drained(asked: &AtomicUsize) {
    let before = asked.load(SeqCst);
    until("load", async || asked.load(SeqCst) >= before + CLIENTS * 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_or_has_two_secrets_while_a_secret_is_rotated_and_rolled_back() {
    let keys: Vec<Canary> = (0..12).map(|_| Canary::new("newk")).collect();
    let mut plan = Plan::api_key().test(ME);
    for (number, key) in keys.iter().enumerate() {
        plan = plan.secret(&format!("KEY_{number}"), key);
    }
    let taken = taken(&[plan.canary()]);
    let lab = Arc::new(lab(&taken, plan).await);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(lab.clone(), number, (stop.clone(), asked.clone()))))
        .collect();
    let mut now = lab.canary.clone();
    let mut generations = vec![];
    for (number, new) in keys.iter().enumerate() {
        taken.lock().expect("not poisoned").insert(new.text.clone());
        drained(&asked).await;
        let rotated = rotate(&lab, new, json!({})).await.is(200);
        assert_eq!(rotated.json()["rotation"]["state"], "unconfirmed");
        let rolls_back = number % 3 == 2;
        if rolls_back {
            drained(&asked).await;
            assert_eq!(ends(&lab, "rollback").await.head.status(), 200);
        }
        // Once what is under way has ended, the provider may forget the other one.
        drained(&asked).await;
        let gone = if rolls_back { new.clone() } else { std::mem::replace(&mut now, new.clone()) };
        taken.lock().expect("not poisoned").remove(&gone.text);
        drained(&asked).await;
        if !rolls_back {
            assert_eq!(ends(&lab, "confirm").await.head.status(), 200);
        }
        assert!(clients.iter().all(|client| !client.is_finished()), "rotation {number}");
        generations.push(asked.load(SeqCst));
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.expect("no request failed");
    }
    let known: BTreeSet<&str> =
        keys.iter().chain([&lab.canary]).map(|key| key.text.as_str()).collect();
    let mut used = BTreeSet::new();
    for request in lab.origin.received().iter().filter(|it| it.head.target() == "/load") {
        let sent = request.head.all("x-api-key");
        assert!(matches!(&sent[..], [key] if known.contains(key)), "{} keys", sent.len());
        used.insert(sent[0].to_owned());
    }
    assert_eq!(used.len(), keys.len() + 1, "each was in force under load");
    let lab = Arc::into_inner(lab).expect("the clients have ended");
    let records = lab.finish().await;
    let failed = records.iter().filter(|it| it["path"] == "/load" && it["status"] != 200);
    assert_eq!(failed.count(), 0);
    let of = |record: &Value| record["generation"].as_u64().expect("a generation");
    let used: BTreeSet<u64> = records.iter().filter(|it| it["path"] == "/load").map(of).collect();
    assert!(used.len() > keys.len(), "{used:?}");
}

#[tokio::test]
async fn a_secret_that_the_provider_rejects_changes_nothing() {
    let new = Canary::new("newk");
    let plan = Plan::api_key().test(ME).secret("NEW", &new);
    let taken = taken(&[plan.canary()]);
    let lab = lab(&taken, plan).await;
    let before = shown(&lab).await;
    let refused = rotate(&lab, &new, json!({})).await.is(422);
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "test_failed");
    let says = error["message"].as_str().expect("text");
    assert!(says.contains("rejected this key (401)") && says.contains("stays in force"), "{says}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("rotate mine")), "{error}");
    let tested = lab.origin.only();
    assert_eq!(tested.head.all("x-api-key"), [&*new.text], "the new one was tried");
    assert_eq!(shown(&lab).await["rotation"], Value::Null);
    assert_eq!(shown(&lab).await["state"], before["state"]);
    assert_eq!(sent(&lab).await, lab.canary.text);
    for how in ["confirm", "rollback"] {
        ends(&lab, how).await.is(422).says("nothing to confirm or roll back");
    }
    lab.finish().await;
}

#[tokio::test]
async fn a_rotation_is_refused_for_the_same_secret_an_open_rotation_or_without_a_test() {
    let (new, newer) = (Canary::new("newk"), Canary::new("newk"));
    let plan = Plan::api_key().secret("NEW", &new).secret("NEWER", &newer);
    let taken = taken(&[plan.canary(), &new]);
    let lab = lab(&taken, plan).await;
    let untested = rotate(&lab, &new, json!({})).await.is(422).says("no test request is known");
    assert!(untested.text().contains("--no-test"), "{}", untested.text());
    rotate(&lab, &lab.canary, json!({"test": false})).await.is(422).says("has this secret already");
    assert_eq!(shown(&lab).await["rotation"], Value::Null, "nothing was left of it");
    let rotated = rotate(&lab, &new, json!({"test": false})).await.is(200);
    assert_eq!(rotated.json()["test"], Value::Null);
    let open = rotate(&lab, &newer, json!({"test": false})).await.is(422);
    assert!(open.text().contains("neither confirmed nor rolled back"), "{}", open.text());
    assert!(open.text().contains("rotate rollback mine"), "{}", open.text());
    for (more, field) in [
        (json!({"keep_old": "31d"}), "keep_old"),
        (json!({"keep_old": "soon"}), "keep_old"),
        (json!({"expires": "soon"}), "expires"),
    ] {
        let refused = rotate(&lab, &newer, more).await;
        assert_eq!(refused.json()["error"]["field"], field, "{}", refused.text());
    }
    assert_eq!(sent(&lab).await, new.text);
    lab.finish().await;
}

#[tokio::test]
async fn a_rollback_is_possible_after_a_restart_and_both_live_secrets_are_masked() {
    let new = Canary::new("newk");
    let plan = Plan::api_key().test(ME).secret("NEW", &new);
    let old = plan.canary().text.clone();
    // It repeats every key that it knows, where it is asked to.
    let origin = Origin::answering({
        let both = format!("{old} {}", new.text);
        move |request| ok(if request.head.target() == "/both" { &both } else { "{}" })
    });
    let mut lab = plan.no_agents().start(origin).await;
    lab.add_agent("ci").await;
    let mine = json!({"provider": "acme", "name": "mine", "fields": {"api_key": old}}).to_string();
    lab.gateway.api("POST", "/connections", &mine).await.is(201);
    lab.gateway.api("POST", "/agents/ci/bindings", r#"{"connection":"mine"}"#).await;
    assert_eq!(sent(&lab).await, old);
    rotate(&lab, &new, json!({})).await.is(200);
    let masked = "*".repeat(old.len());
    // The canary check at the end would find either one in what the client saw.
    assert_eq!(
        lab.ask("GET /both").await.text(),
        format!("{masked} {}", "*".repeat(new.text.len()))
    );
    lab.gateway.restart().await;
    assert_eq!(shown(&lab).await["rotation"]["state"], "unconfirmed");
    assert_eq!(
        lab.ask("GET /both").await.text(),
        format!("{masked} {}", "*".repeat(new.text.len()))
    );
    assert_eq!(sent(&lab).await, new.text);
    let back = ends(&lab, "rollback").await.is(200);
    assert_eq!((&back.json()["rotation"], &back.json()["rotated"]), (&Value::Null, &Value::Null));
    assert_eq!(sent(&lab).await, old);
    lab.gateway.restart().await;
    assert_eq!(sent(&lab).await, old);
    lab.finish().await;
}

#[tokio::test]
async fn the_old_secret_of_an_unconfirmed_rotation_is_wiped_when_keep_old_has_passed() {
    let new = Canary::new("newk");
    let plan = Plan::api_key().test(ME).top("rotation: { keep_old: 100ms }").secret("NEW", &new);
    let taken = taken(&[plan.canary(), &new]);
    let lab = lab(&taken, plan).await;
    assert_eq!(rotate(&lab, &new, json!({})).await.head.status(), 200);
    until("the end of the old secret", async || shown(&lab).await["rotation"] == Value::Null).await;
    ends(&lab, "rollback").await.is(422);
    assert_eq!(sent(&lab).await, new.text);
    lab.finish().await;
}

#[tokio::test]
async fn a_rotation_reports_account_age_and_expiry_and_a_rollback_restores_the_expiry() {
    let (new, newer) = (Canary::new("newk"), Canary::new("newk"));
    let plan = Plan::api_key().test(ME).secret("NEW", &new).secret("NEWER", &newer);
    let taken = taken(&[plan.canary(), &new, &newer]);
    let lab = lab(&taken, plan).await;
    let set = |body: &'static str| lab.gateway.api("PATCH", "/connections/mine", body);
    set(r#"{"expires":"2030-01-01","rotate_every":"90d"}"#).await.is(200);
    let rotated = rotate(&lab, &new, json!({"expires": "2031-01-01"})).await.json();
    assert_eq!(rotated["account"], "alice, Acme", "{rotated}");
    assert_eq!(rotated["expires"], "2031-01-01T00:00:00Z");
    assert!(rotated["rotated"].is_string(), "{rotated}");
    assert_eq!(rotated["due"]["why"], "rotate_every", "its age counts from the rotation on");
    let back = ends(&lab, "rollback").await.json();
    assert_eq!(
        (&back["expires"], &back["rotated"]),
        (&"2030-01-01T00:00:00Z".into(), &Value::Null)
    );
    let at_once = rotate(&lab, &newer, json!({"confirm": true})).await.json();
    assert_eq!(at_once["rotation"], Value::Null, "nothing is kept");
    assert_eq!(
        at_once["expires"],
        Value::Null,
        "what is said of the old one is not said of the new"
    );
    lab.finish().await;
}

#[tokio::test]
async fn a_changed_secret_in_the_file_starts_a_rotation_and_the_api_refuses_one() {
    let (new, third) = (Canary::new("newk"), Canary::new("newk"));
    let plan = Plan::api_key().test(ME).secret("NEW", &new).secret("THIRD", &third);
    let taken = taken(&[plan.canary(), &new, &third]);
    let lab = plan.start(provider(&taken)).await;
    let refused = lab
        .gateway
        .api(
            "POST",
            "/connections/acme/rotate",
            &json!({"fields": {"api_key": new.text}}).to_string(),
        )
        .await
        .is(422);
    assert!(refused.text().contains("where the configuration file reads it"), "{}", refused.text());
    let file = lab.gateway.folder().join("keyward.yaml");
    let base = std::fs::read_to_string(&file).expect("the configuration");
    let names = async |variable: &str| {
        let text =
            base.replace("api_key: { env: CANARY }", &format!("api_key: {{ env: {variable} }}"));
        std::fs::write(&file, text).expect("the configuration");
        lab.gateway.api("POST", "/reload", "{}").await.is(200);
        lab.gateway.api("GET", "/connections/acme", "").await.json()
    };
    let id = lab.gateway.api("GET", "/connections/acme", "").await.json()["id"].clone();
    for (variable, key) in [("NEW", &new), ("THIRD", &third), ("CANARY", &lab.canary)] {
        let now = names(variable).await;
        assert_eq!((&now["id"], &now["rotation"]["state"]), (&id, &"unconfirmed".into()), "{now}");
        assert_eq!(&sent(&lab).await, &key.text);
    }
    let unchanged = names("CANARY").await;
    assert_eq!(&sent(&lab).await, &lab.canary.text, "{unchanged}");
    lab.finish().await;
}

/// Answers everything, but never the test of this key while it is stuck, so that it can be killed
/// meanwhile.
fn silent_about(key: &str, stuck: &Arc<AtomicBool>) -> Origin {
    Origin::sharing((key.to_owned(), stuck.clone()), move |mut stream, (key, stuck)| async move {
        while let Some(request) = stream.request().await {
            if request.head.one("x-api-key") == Some(&key) && stuck.load(SeqCst) {
                stream.note(request);
                std::future::pending::<()>().await;
            }
            stream.send(ok("{}")).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_during_a_rotation_leaves_either_the_old_or_the_new_secret_in_force() {
    let new = Canary::new("newk");
    let plan = Plan::api_key().test(ME);
    let (old, stuck) = (plan.canary().clone(), Arc::new(AtomicBool::new(true)));
    let origin = silent_about(&new.text, &stuck);
    let variables = [("CANARY", &*old.text), ("TOKEN_CI", TOKEN)];
    let mut served = Served::start(&plan, &origin, &variables);
    let mine = json!({"provider": "acme", "name": "mine", "fields": {"api_key": old.text}});
    served.api("POST", "/connections", &mine.to_string()).await.is(201);
    let last = |origin: &Origin| {
        let received = origin.received();
        received.last().and_then(|it| it.head.one("x-api-key").map(str::to_owned)).expect("one")
    };
    let body = json!({"fields": {"api_key": new.text}}).to_string();
    // While the new one is tested.
    {
        let rotating = served.api("POST", "/connections/mine/rotate", &body);
        let has_come = || {
            let received = origin.received();
            received.iter().any(|it| it.head.one("x-api-key") == Some(&new.text))
        };
        let staged = until("the test of the new secret", async || has_come());
        tokio::select! {
            _ = rotating => panic!("it is never answered"),
            () = staged => {}
        }
    }
    served.kill();
    served.restart();
    let shown = served.api("GET", "/connections/mine", "").await.json();
    assert_eq!((&shown["rotation"], &shown["state"]), (&Value::Null, &"active".into()), "{shown}");
    assert_eq!(served.api("POST", "/connections/mine/test", "").await.json()["ok"], true);
    assert_eq!(last(&origin), old.text);
    // After the swap, before anybody confirmed.
    stuck.store(false, SeqCst);
    served.api("POST", "/connections/mine/rotate", &body).await.is(200);
    served.kill();
    served.restart();
    let shown = served.api("GET", "/connections/mine", "").await.json();
    assert_eq!(shown["rotation"]["state"], "unconfirmed", "{shown}");
    assert_eq!(served.api("POST", "/connections/mine/test", "").await.json()["ok"], true);
    assert_eq!(last(&origin), new.text);
    served.api("POST", "/connections/mine/rotate/rollback", "{}").await.is(200);
    served.kill();
    served.restart();
    assert_eq!(served.api("POST", "/connections/mine/test", "").await.json()["ok"], true);
    assert_eq!(last(&origin), old.text);
    for secret in [&old, &new] {
        secret.assert_absent("the log", served.output().as_bytes());
    }
}
