//! Pages of the console: what a reader who comes from a link on another site sees, and why an agent is paused.

use crate::admin_network::{ask_at, user};
use crate::support::login::Login;
use crate::support::*;

const FROM_ELSEWHERE: &str = "Sec-Fetch-Site: cross-site\r\n";

#[tokio::test]
async fn a_link_on_another_site_opens_an_explanation_and_no_costly_check() {
    let mut lab = Lab::simple().await;
    user(&mut lab, "ann", "admin").await;
    let login = Login::of(&mut lab, "default", "ann").await;
    let fields = format!("{FROM_ELSEWHERE}{}", login.cookie());
    let page = async |path: &str| {
        let answer = ask_at(&lab, &format!("GET {path}"), &fields, "").await;
        (answer.head.status(), answer.text())
    };
    for path in ["/settings/store", "/settings/plan"] {
        let (status, text) = page(path).await;
        assert!(status == 403 && text.contains("page of another site"), "{path}: {status} {text}");
    }
    let asked = format!("/rules?agent=ci&url=https%3A%2F%2F{HOST}%2Fuser");
    let (status, text) = page(&asked).await;
    assert!(status == 200 && !text.contains("page of another site"), "{status} {text}");
    assert!(text.contains("id=\"answer\""), "{text}");
    lab.finish().await;
}

#[tokio::test]
async fn an_agent_that_a_person_paused_is_not_shown_as_paused_by_an_alarm() {
    let mut lab = Lab::simple().await;
    user(&mut lab, "ann", "admin").await;
    let login = Login::of(&mut lab, "default", "ann").await;
    let paused = lab.gateway.api("POST", "/agents/ci/pause", "").await;
    assert_eq!(paused.head.status(), 200, "{}", paused.text());
    let agents = ask_at(&lab, "GET /agents", &login.cookie(), "").await.text();
    assert!(!agents.contains("paused by an alarm") && agents.contains("paused"), "{agents}");
    let agent = ask_at(&lab, "GET /agents/ci", &login.cookie(), "").await.text();
    assert!(!agent.contains("An alarm") && !agent.contains("A honeytoken"), "{agent}");
    assert!(agent.contains("A person paused this agent"), "{agent}");
    lab.finish().await;
}
