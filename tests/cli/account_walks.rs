//! Walks of a person at a terminal of 80 columns: a second account of a service, and a key that was revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use test_support::newcomer::Newcomer;
use test_support::*;

const WORK: &str = "ghp_newcomerCANARYnewcomerCANARYnew12345";
const HOME: &str = "ghp_secondCANARYsecondCANARYsecondCAN123";

/// A person before GitHub, which knows their keys while `live`.
fn person(live: &Arc<AtomicBool>) -> (Newcomer, Origin) {
    let live = live.clone();
    let origin = Origin::answering_as(&["api.github.com"], move |_| match live.load(SeqCst) {
        true => ok(r#"{"login":"octocat"}"#),
        false => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let mut person = Newcomer::before(&origin, &["api.github.com"]);
    person.guards(WORK);
    person.guards(HOME);
    (person, origin)
}

/// A program of the agent, which sends nothing itself.
const RUN: &str = "keyward run --allow none -- echo it runs";

/// A request of agent `default` without a selection: status, and the key that GitHub receives.
async fn asks(person: &Newcomer, origin: &Origin) -> (u16, Option<String>) {
    let token = person.json("keyward agent token add default --json")["token"].clone();
    let before = origin.received().len();
    let mut wire = Wire::to(person.proxy()).await;
    wire.send(format!(
        "GET https://api.github.com/user HTTP/1.1\r\nHost: api.github.com\r\n\
         Proxy-Authorization: Bearer {}\r\n\r\n",
        token.as_str().expect("a token")
    ))
    .await;
    let status = wire.answer("GET").await.head.status();
    let sent = origin.received().get(before).map(|it| it.head.all("authorization").concat());
    (status, sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_account_leaves_the_first_one_the_default() {
    let (mut person, origin) = person(&Arc::new(AtomicBool::new(true)));
    person.serves();
    let connects = |person: &mut Newcomer, name: &str, key: &'static str, is_second: bool| {
        person.walks(&format!("keyward connect github --auth pat --name {name}"), |terminal| {
            terminal.asks("(not shown): ", &format!("{key}\r"));
            if is_second {
                terminal.asks("> work (as before)", "\r");
            }
            terminal.shows("run a program that uses it");
        });
    };
    connects(&mut person, "work", WORK, false);
    connects(&mut person, "home", HOME, true);
    person.walks("keyward agent show default", |_| {});
    person.walks("keyward explain https://api.github.com/user --agent default", |_| {});
    person.walks(RUN, |_| {});
    let sent = |key: &str| (200, Some(format!("Bearer {key}")));
    assert_eq!(asks(&person, &origin).await, sent(WORK));
    person.walks("keyward agent bind default home --default", |_| {});
    person.walks(RUN, |_| {});
    assert_eq!(asks(&person, &origin).await, sent(HOME));
    insta::assert_snapshot!("second_account", person.transcript());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_key_is_shown_by_list_show_test_and_doctor() {
    let live = Arc::new(AtomicBool::new(true));
    let (mut person, origin) = person(&live);
    person.serves();
    let connect = "keyward connect github --auth pat --name work --secret-stdin token --json";
    person.pastes(&format!("{connect} > /dev/null"), WORK);
    live.store(false, SeqCst);
    for _ in 0..2 {
        assert_eq!(asks(&person, &origin).await.0, 401);
    }
    person.waits("keyward connection list --state broken --json | grep rejected");
    person.walks(RUN, |_| {});
    assert_eq!(asks(&person, &origin).await, (424, None));
    person.walks("keyward connection list", |_| {});
    person.walks("keyward connection show work", |_| {});
    person.walks("keyward connection test work", |_| {});
    person.types("keyward doctor | grep -A 1 'connection work'");
    live.store(true, SeqCst);
    person.walks("keyward connection test work", |_| {});
    person.walks(RUN, |_| {});
    assert_eq!(asks(&person, &origin).await.0, 200);
    insta::assert_snapshot!("revoked_key", person.transcript());
}
