//! Pages of an organisation with many connections and agents.

use serde_json::json;

use super::*;

/// More than any page lists.
const MANY: usize = 60;

async fn crowded() -> (Lab, Chromium) {
    let (lab, chromium) = signed_in_lab().await;
    for number in 0..MANY {
        let new = json!({ "provider": "acme", "name": format!("account-{number:03}"),
                          "fields": { "api_key": format!("a-key-of-a-test-{number:04}") } });
        lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
        let new = json!({ "name": format!("robot-{number:03}") }).to_string();
        lab.gateway.api("POST", "/agents", &new).await.is(201);
    }
    (lab, chromium)
}

/// The last connection is bound, and the page shows it first from then on.
#[tokio::test]
async fn the_last_of_many_connections_is_found_and_bound_on_the_page_of_an_agent() {
    let (lab, mut chromium) = crowded().await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    let (_, length) = tab.open(&at(&lab, "/agents/robot-000")).await;
    assert!(length < MARKUP_MAX, "{length}");
    tab.does_not_see("account-059").await;
    tab.sees("There are more").await;
    tab.fill("Search connections", "no-such").await;
    tab.sees("No connection fits").await;
    tab.fill("Search connections", "059").await;
    tab.sees("account-059").await;
    tab.is_accessible().await;
    tab.shows("account-059 acme", "Bound.").await;
    tab.open(&at(&lab, "/agents/robot-000")).await;
    tab.sees("account-059").await;
    let first = "document.querySelector('#bindings input').checked";
    assert_eq!(tab.value(first).await, true);
    lab.finish().await;
}

#[tokio::test]
async fn the_next_page_of_a_search_is_of_the_same_search() {
    let (lab, mut chromium) = crowded().await;
    let mut tab = opened(&lab, &mut chromium, "/agents?q=robot").await;
    tab.shows("Next page", "robot-059").await;
    let url = tab.url().await;
    assert!(url.contains("q=robot") && url.contains("after="), "{url}");
    tab.does_not_see("Next page").await;
    lab.finish().await;
}

/// The page after connecting: a search finds the last of many agents, and a bound one is listed first from then on.
#[tokio::test]
async fn the_last_of_many_agents_is_found_and_bound_after_connecting() {
    let (lab, mut chromium) = crowded().await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    let (_, length) = tab.open(&at(&lab, "/connect/done/account-000")).await;
    assert!(length < MARKUP_MAX, "{length}");
    tab.does_not_see("robot-059").await;
    tab.sees("There are more").await;
    tab.fill("Search agents", "no-such").await;
    tab.sees("No agent fits").await;
    tab.fill("Search agents", "059").await;
    tab.sees("robot-059").await;
    tab.is_accessible().await;
    tab.shows("robot-059", "Bound.").await;
    tab.open(&at(&lab, "/connect/done/account-000")).await;
    tab.sees("keyward run --agent robot-059").await;
    let first = "document.querySelector('#agents input').checked";
    assert_eq!(tab.value(first).await, true);
    // The agent of a refusal stands before the others, and the search keeps it.
    tab.open(&at(&lab, "/connect/done/account-000?agent=robot-058")).await;
    let first = "document.querySelector('#agents li').textContent";
    assert_eq!(tab.value(first).await, "robot-058");
    tab.fill("Search agents", "057").await;
    tab.sees("robot-057").await;
    let url = tab.url().await;
    assert!(url.contains("agent=robot-058"), "{url}");
    lab.finish().await;
}

/// The page of a row began at its top, and so did the list after it.
#[tokio::test]
async fn back_leads_to_the_place_of_the_list_that_was_left() {
    let (lab, mut chromium) = crowded().await;
    let mut tab = chromium.tab("ann").await;
    tab.looks(Look { width: 1280, scheme: "light" }).await;
    sign_in(&mut tab, &link(&lab, None).await).await;
    let (_, length) = tab.open(&at(&lab, "/connections")).await;
    assert!(length < MARKUP_MAX, "{length}");
    let left = tab.value("(() => { scrollTo(0, 900); return scrollY; })()").await;
    assert_eq!(left, 900);
    tab.value("document.querySelectorAll('tr.go a')[25].click()").await;
    tab.sees("Danger zone").await;
    assert_eq!(tab.value("scrollY").await, 0);
    tab.value("history.back()").await;
    tab.is_at("/connections").await;
    until("the list at its place", async || tab.value("scrollY").await == left).await;
    lab.finish().await;
}

/// A name took a line for each pair of letters beside a state with a remedy.
#[tokio::test]
async fn a_short_name_is_one_line_beside_a_paused_connection_at_the_width_of_a_tablet() {
    let (lab, mut chromium) = crowded().await;
    lab.gateway.api("POST", "/connections/account-001/pause", "").await.is(200);
    let mut tab = chromium.tab("ann").await;
    tab.looks(Look { width: 768, scheme: "light" }).await;
    sign_in(&mut tab, &link(&lab, None).await).await;
    tab.open(&at(&lab, "/connections")).await;
    tab.sees("requests that need it are refused").await;
    let lines = "document.querySelector('tr.go a').getClientRects().length";
    assert_eq!(tab.value(lines).await, 1);
    lab.finish().await;
}

#[tokio::test]
async fn the_longest_names_fit_into_a_narrow_window() {
    let (lab, mut chromium) = signed_in_lab().await;
    let name = "n".repeat(64);
    let new = json!({ "provider": "acme", "name": name, "fields": { "api_key": "a-key-of-a-test-0123" } });
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    lab.gateway.api("POST", "/agents", &json!({ "name": name }).to_string()).await.is(201);
    let mut tab = chromium.tab("ann").await;
    tab.looks(Look { width: 390, scheme: "light" }).await;
    sign_in(&mut tab, &link(&lab, None).await).await;
    let rule = json!({ "name": name, "action": "deny", "agents": [name], "hosts": [HOST] });
    lab.gateway.api("POST", "/rules", &rule.to_string()).await.is(201);
    for (page, text) in [
        (format!("/connections/{name}"), "Changes"),
        (format!("/agents/{name}"), "Changes"),
        ("/rules".to_owned(), "Where no rule fits"),
    ] {
        tab.open(&at(&lab, &page)).await;
        tab.sees(text).await;
        let overflow = tab.value("document.documentElement.scrollWidth - innerWidth").await;
        assert!(overflow.as_i64() <= Some(0), "{page}: {overflow}");
    }
    lab.finish().await;
}
