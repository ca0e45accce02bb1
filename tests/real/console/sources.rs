//! Secret sources, keys by reference and the actions of a binding, set in the browser.

use serde_json::{Value, json};

use super::*;
use test_support::canary::Canary;

/// The host of the secret source.
const KEEPER: &str = "keeper.acme.test";

/// A service with the document of <https://docs.doppler.com/reference/secrets-get>: one secret, for one token.
fn keeper(token: &str, value: &str) -> Origin {
    let bearer = format!("Bearer {token}");
    let secret =
        json!({ "name": "API_KEY", "value": { "raw": value, "computed": value, "note": "" } });
    Origin::answering_as(&[KEEPER], move |request| {
        let is_it = request.head.target().contains("name=API_KEY")
            && request.head.one("authorization") == Some(&*bearer);
        match is_it {
            true => ok(&secret.to_string()),
            false => "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
        }
    })
}

async fn posted(lab: &Lab, path: &str, body: Value) {
    lab.gateway.api_json("POST", path, &body).await.done(path);
}

/// An admin adds a source, and connects an account whose key is kept there.
#[tokio::test]
async fn a_source_is_added_and_a_connection_uses_a_key_of_it_by_reference() {
    let (token, key) = (Canary::new("dp.st."), Canary::new("ak_"));
    let keeper = keeper(&token.text, &key.text);
    let addr = keeper.addr.to_string();
    let plan = Plan::api_key().resolve(&format!("{KEEPER}: \"{addr}\"")).allow(&addr);
    let mut lab = plan.start(Origin::saying("fine")).await;
    lab.guard(token.clone());
    lab.guard(key.clone());
    lab.add_agent("laptop").await;
    let agent = Agent { name: "laptop", token: lab.token("laptop") };
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;

    // Without a source, a key can only be given.
    tab.open(&at(&lab, "/connect/to/acme")).await;
    tab.does_not_see("kept in a secret source").await;
    tab.open(&at(&lab, "/sources")).await;
    tab.sees("No secret source yet").await;
    tab.leads("Add source", "/sources/new").await;
    tab.is_accessible().await;
    tab.leads("Doppler", "/sources/new?kind=doppler").await;
    tab.fill("Token", &token.text).await;
    tab.fill("Address (optional)", "no-url").await;
    tab.shows("Add source", "must be an https URL").await;
    tab.fill("Address (optional)", &format!("https://{KEEPER}")).await;
    tab.leads("Add source", "/sources").await;
    tab.sees("doppler").await;

    tab.open(&at(&lab, "/connect/to/acme")).await;
    tab.click("The value is kept in a secret source").await;
    tab.fill("Name", "kept").await;
    tab.choose("Secret source", "doppler").await;
    tab.fill("Reference", "API_KEY").await;
    tab.is_accessible().await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/kept").await;
    tab.shows("laptop", "Bound.").await;
    agent.works(&lab).await;
    let sent = lab.origin.received();
    assert_eq!(sent.last().expect("a request").head.all("x-api-key"), [&*key.text]);

    // Other values of the source are asked for with credentials that are given again.
    tab.open(&at(&lab, "/sources/doppler/edit")).await;
    tab.is_accessible().await;
    tab.fill("Project (optional)", "web").await;
    tab.shows("Change source", "must be given again").await;
    tab.fill("Token (optional)", &token.text).await;
    tab.leads("Change source", "/sources").await;
    tab.shows("Test", "Tested").await;
    let asked = keeper.received();
    let target = asked.last().expect("a request").head.target().to_owned();
    assert!(target.contains("project=web"), "{target}");
    own_origin_only(&mut tab, &lab).await;
    lab.finish().await;
}

/// What an agent may do with a connection is ticked by named actions.
#[tokio::test]
async fn a_binding_is_limited_to_actions() {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    let key = Canary::of(format!("ghp_{}", "caNARY123".repeat(4)));
    lab.guard(key.clone());
    lab.add_agent("laptop").await;
    let new = json!({ "provider": "github", "auth": "pat", "name": "code", "fields": { "token": key.text } });
    posted(&lab, "/connections", new).await;
    posted(&lab, "/agents/laptop/bindings", json!({ "connection": "code" })).await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    let mut tab = opened(&lab, &mut chromium, "/agents/laptop").await;
    tab.leads("Actions of code", "/agents/laptop/bindings/code").await;
    tab.is_accessible().await;
    tab.screenshot("binding").await;
    tab.click("clone Clone and fetch repositories with git").await;
    tab.leads("Save", "/agents/laptop").await;
    tab.sees("allow clone").await;
    let limits = async || {
        let bound = lab.gateway.api("GET", "/agents/laptop/bindings", "").await.json();
        [bound["items"][0]["allow"].clone(), bound["items"][0]["deny"].clone()]
    };
    assert_eq!(limits().await, [json!(["clone"]), Value::Null]);
    // Without a tick, all requests are allowed again.
    tab.click("Actions of code").await;
    tab.click("clone Clone and fetch repositories with git").await;
    tab.leads("Save", "/agents/laptop").await;
    tab.does_not_see("allow clone").await;
    assert_eq!(limits().await, [Value::Null, Value::Null]);
    lab.finish().await;
}
