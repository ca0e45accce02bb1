//! Forms lose nothing: an error is shown where it belongs, also in a part that is folded, and a login that has ended
//! keeps what was typed.

use super::*;

#[tokio::test]
async fn an_error_of_a_folded_field_is_shown_beside_it() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    tab.fill("Name", "second").await;
    tab.fill("API key", "a-key-of-a-test-0123").await;
    tab.click("More settings").await;
    tab.fill("Environment (optional)", &"x".repeat(300)).await;
    tab.click("More settings").await;
    tab.does_not_see("Agents of another environment").await;
    tab.click_button("Connect").await;
    tab.sees("Agents of another environment").await;
    let field = "document.activeElement";
    assert_eq!(tab.value(&format!("{field}.name")).await, "environment");
    let described = tab.value(&format!("{field}.getAttribute('aria-describedby')")).await;
    let (help, wrong) = ("field-environment-help", "wrong-environment");
    assert_eq!(described, format!("{help} {wrong}"), "help and error are both read");
    tab.is_accessible().await;
    tab.fill("Environment (optional)", "production").await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/second").await;
    lab.finish().await;
}

#[tokio::test]
async fn a_dialog_that_is_opened_again_has_what_was_typed_and_no_earlier_refusal() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/agents").await;
    let submit = "document.querySelector('#add-agent form').requestSubmit()";
    tab.click("Add agent").await;
    tab.fill("Name", "My agent").await;
    tab.value(submit).await;
    tab.sees("must be 1 to 64 letters").await;
    tab.click("Cancel").await;
    tab.click("Add agent").await;
    tab.does_not_see("must be 1 to 64 letters").await;
    assert_eq!(
        tab.value("document.querySelector('#add-agent [name=name]').value").await,
        "My agent"
    );
    let wrong = "document.querySelectorAll('#add-agent [aria-invalid]').length";
    assert_eq!(tab.value(wrong).await, 0);
    lab.finish().await;
}

/// Only what is changed in the form of an agent's settings changes.
#[tokio::test]
async fn the_settings_of_an_agent_are_changed_on_its_page() {
    let (lab, mut chromium) = signed_in_lab().await;
    lab.gateway.api("POST", "/agents", r#"{"name":"bot","environment":"tset"}"#).await.is(201);
    let mut tab = opened(&lab, &mut chromium, "/agents/bot").await;
    let agent = async || lab.gateway.api("GET", "/agents/bot", "").await.json();
    tab.value("document.querySelector('#edit > summary').click()").await;
    tab.fill("Environment (optional)", "test").await;
    tab.click_button("Save settings").await;
    tab.sees("Saved.").await;
    let now = agent().await;
    assert_eq!((&now["environment"], now.get("allow")), (&json!("test"), None), "{now}");
    tab.open(&at(&lab, "/agents/bot")).await;
    tab.value("document.querySelector('#edit > summary').click()").await;
    tab.fill("Environment (optional)", "").await;
    tab.fill("Other hosts (optional)", "pip").await;
    tab.click_button("Save settings").await;
    tab.sees("Saved.").await;
    let now = agent().await;
    assert_eq!((&now["environment"], &now["allow"]), (&json!(null), &json!(["pip"])), "{now}");
    tab.is_accessible().await;
    lab.finish().await;
}

#[tokio::test]
async fn the_labels_of_an_agent_are_changed_and_removed_on_its_page_and_found_in_the_list() {
    let (lab, mut chromium) = signed_in_lab().await;
    let given = r#"{"name":"bot","labels":{"team":"build","cost":"a=1"}}"#;
    lab.gateway.api("POST", "/agents", given).await.is(201);
    let labels = async || lab.gateway.api("GET", "/agents/bot", "").await.json()["labels"].clone();
    let mut tab = opened(&lab, &mut chromium, "/agents/bot").await;
    for (typed, expected) in [
        ("no value", json!({ "team": "build", "cost": "a=1" })),
        ("cost=a=1\n team = ops team \n\n", json!({ "team": "ops team", "cost": "a=1" })),
        ("team=ops team", json!({ "team": "ops team" })),
    ] {
        tab.open(&at(&lab, "/agents/bot")).await;
        tab.value("document.querySelector('#edit > summary').click()").await;
        tab.fill("Labels (optional)", typed).await;
        tab.click_button("Save settings").await;
        let said = if expected["team"] == "build" { "must be 1 to 64" } else { "Saved." };
        tab.sees(said).await;
        assert_eq!(labels().await, expected, "{typed}");
    }
    lab.gateway.api("POST", "/agents", r#"{"name":"other"}"#).await.is(201);
    tab.open(&at(&lab, "/agents?q=team%3Dops")).await;
    tab.sees("team=ops team").await;
    let rows = tab.value("document.querySelectorAll('#agents tbody tr').length").await;
    assert_eq!(rows, 1);
    tab.is_accessible().await;
    tab.open(&at(&lab, "/agents/bot")).await;
    tab.value("document.querySelector('#edit > summary').click()").await;
    tab.fill("Labels (optional)", "").await;
    tab.click_button("Save settings").await;
    tab.sees("Saved.").await;
    assert_eq!(labels().await, json!({}));
    lab.finish().await;
}

/// A browser names one of them, and only for some seconds.
#[tokio::test]
async fn each_field_that_lacks_its_value_is_named_beside_it() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    let wrong =
        "[...document.querySelectorAll('[aria-invalid]')].map((field) => field.name).join()";
    tab.fill("Name", "").await;
    tab.click_button("Connect").await;
    tab.sees("Please fill out this field.").await;
    assert_eq!(tab.value(wrong).await, "name,fields.api_key");
    assert_eq!(tab.value("document.activeElement.name").await, "name");
    tab.is_accessible().await;
    tab.fill("Name", "second").await;
    tab.click_button("Connect").await;
    assert_eq!(tab.value(wrong).await, "fields.api_key");
    tab.fill("API key", "a-key-of-a-test-0123").await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/second").await;
    lab.finish().await;
}

#[tokio::test]
async fn a_form_keeps_what_was_typed_when_the_login_has_ended() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    tab.fill("Name", "second").await;
    tab.fill("API key", "a-key-of-a-test-0123").await;
    let logins = lab.gateway.api("GET", "/logins", "").await.json();
    let login = logins["items"][0]["id"].as_str().expect("an id").to_owned();
    lab.gateway.api("DELETE", &format!("/logins/{login}"), "").await.is(204);
    tab.click_button("Connect").await;
    tab.sees("You are signed out.").await;
    tab.is_at("/connect/to/acme").await;
    assert_eq!(tab.value("document.querySelector('[name=name]').value").await, "second");
    // A sign-in in another tab of the same browser.
    let mut other = tab.beside("ann, again").await;
    sign_in(&mut other, &link(&lab, None).await).await;
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/second").await;
    lab.finish().await;
}

/// The other tab replaced the login of the browser; this one has met no refusal before.
#[tokio::test]
async fn a_form_is_sent_with_the_login_of_another_tab() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    tab.fill("Name", "second").await;
    tab.fill("API key", "a-key-of-a-test-0123").await;
    let csrf = "document.querySelector('meta[name=csrf]').content";
    let before = tab.value(csrf).await;
    let mut other = tab.beside("ann, again").await;
    sign_in(&mut other, &link(&lab, None).await).await;
    assert_ne!(other.value(csrf).await, before, "it is another login");
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/second").await;
    assert_ne!(tab.value(csrf).await, before);
    lab.finish().await;
}

/// As a browser sends it without the script.
#[tokio::test]
async fn a_form_sent_without_the_script_puts_no_secret_into_the_address() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    tab.fill("Name", "second").await;
    tab.fill("API key", "a-key-of-a-test-0123").await;
    // `submit()` of an element sends no event to the script.
    let form = "document.querySelector('main form[data-api]')";
    tab.value(&format!("setTimeout(() => HTMLFormElement.prototype.submit.call({form}))")).await;
    tab.sees("Nothing was changed").await;
    assert_eq!(tab.url().await, at(&lab, "/connect/to/acme"));
    lab.finish().await;
}

/// The message alone would be "is missing".
#[tokio::test]
async fn a_refusal_names_the_field_that_the_page_does_not_have() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    let button = "(() => {
        const button = document.createElement('button');
        button.dataset.api = 'GET /audit/counts';
        document.querySelector('main').append(button);
        button.click();
    })()";
    tab.value(button).await;
    tab.sees("by is missing").await;
    lab.finish().await;
}

/// How often the script asks for something before the browser is at the place that the link names.
fn asked_by(link: &str) -> String {
    format!(
        "new Promise((done) => {{
            let asked = 0;
            const own = window.fetch;
            window.fetch = (...given) => {{ asked += 1; return own(...given); }};
            addEventListener('hashchange', () => done(asked), {{ once: true }});
            {link}.click();
        }})"
    )
}

/// The page was replaced by a new one from its beginning: what was typed was lost, and the place not shown.
#[tokio::test]
async fn a_link_within_a_page_leads_to_its_place_and_keeps_what_was_typed() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    tab.fill("API key", "a-key-of-a-test-0123").await;
    let skip = asked_by("document.querySelector('a.skip')");
    assert_eq!(tab.value(&skip).await, 0, "nothing is read again");
    let typed = "document.querySelector('[name=\"fields.api_key\"]').value";
    assert_eq!(tab.value(typed).await, "a-key-of-a-test-0123");
    assert_eq!(tab.value("document.activeElement.id").await, "main");
    tab.open(&at(&lab, "/connect")).await;
    let group = "[...document.querySelectorAll('a[href^=\"#group-\"]')].at(-1)";
    assert_eq!(tab.value(&asked_by(group)).await, 0, "nothing is read again");
    assert_eq!(tab.value("scrollY > 0").await, true);
    // Back leads to the page before.
    tab.leads("Agents", "/agents").await;
    tab.value("history.back()").await;
    tab.is_at("/connect").await;
    tab.sees("Which service is the account of?").await;
    lab.finish().await;
}

/// The API's error is about `fields` or `variables`, and its message names which of them.
#[tokio::test]
async fn an_error_of_a_secret_or_a_host_variable_is_shown_beside_its_field() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    let sent = "document.querySelector('main form[data-api]').requestSubmit()";
    let at_fault = "[
        document.activeElement.name,
        document.activeElement.closest('.field').querySelector('.wrong')?.id,
    ]";
    tab.open(&at(&lab, "/connect/to/aws")).await;
    tab.fill("Access key id", "a-key-of-a-test-ä").await;
    tab.fill("Secret access key", "a-key-of-a-test-ä").await;
    tab.value(sent).await;
    tab.sees("non-ASCII character").await;
    let id = "fields.access_key_id";
    assert_eq!(tab.value(at_fault).await, json!([id, format!("wrong-{id}")]));
    tab.open(&at(&lab, "/connect/to/shopify")).await;
    tab.fill("Shop", "my shop").await;
    tab.fill("API key", "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").await;
    tab.value(sent).await;
    tab.sees("must be one label").await;
    assert_eq!(tab.value(at_fault).await, json!(["variables.shop", "wrong-variables.shop"]));
    lab.finish().await;
}

/// Back and Forward show pages with what was typed in them, but for a form that was sent.
#[tokio::test]
async fn back_and_forward_keep_what_was_typed() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/rules?new=1").await;
    let name = "document.querySelector('main [name=name]')?.value";
    tab.fill("Name (optional)", "typed").await;
    tab.leads("Connections", "/connections").await;
    tab.value("history.back()").await;
    until("the form as it was", async || tab.value(name).await == "typed").await;
    tab.value("history.forward()").await;
    tab.is_at("/connections").await;
    tab.value("history.back()").await;
    until("the form as it was", async || tab.value(name).await == "typed").await;

    tab.open(&at(&lab, "/connect/to/acme")).await;
    tab.fill("Name", "second").await;
    tab.fill("API key", "a-key-of-a-test-0123").await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/second").await;
    tab.value("history.back()").await;
    tab.is_at("/connect/to/acme").await;
    tab.sees("More settings").await;
    let key = "document.querySelector('input[type=password]').value";
    assert_eq!(tab.value(key).await, "", "a key that was sent is in no form");
    lab.finish().await;
}

/// The field shows dots, so a refusal would be about something that people cannot see.
#[tokio::test]
async fn a_key_is_pasted_with_blanks_around_it() {
    let (lab, mut chromium) = signed_in_lab().await;
    let field = serde_json::json!({ "name": "token", "label": "Token", "secret": true, "prefixes": ["bt_"] });
    let auth = serde_json::json!([{ "id": "key", "kind": "bearer", "fields": [field] }]);
    let new = serde_json::json!({ "id": "beta", "name": "Beta", "hosts": ["beta.acme.test"], "auth": auth });
    lab.gateway.api("POST", "/providers", &new.to_string()).await.is(201);
    let mut tab = opened(&lab, &mut chromium, "/connect/to/beta").await;
    tab.fill("Token", "  bt_0123456789abcdef ").await;
    tab.sees("Ends in …cdef").await;
    tab.press(&["Enter"]).await;
    tab.is_at("/connect/done/beta").await;
    lab.finish().await;
}

/// As the command line refuses it. The key stays in the field, and the format need not be checked.
#[tokio::test]
async fn a_key_pasted_with_what_is_no_part_of_it_is_refused_beside_its_field() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connect/to/acme").await;
    let pasted = "Bearer a-key-of-a-test-0123";
    let at_fault = "[document.activeElement.name, document.activeElement.value]";
    tab.fill("Name", "second").await;
    tab.fill("API key", pasted).await;
    tab.click_button("Connect").await;
    tab.sees("begins with `bearer`, which is no part of it").await;
    assert_eq!(tab.value(at_fault).await, json!(["fields.api_key", pasted]));
    tab.is_accessible().await;
    tab.value("document.querySelector('[name=check_format]').click()").await;
    tab.click_button("Connect").await;
    tab.is_at("/connect/done/second").await;
    tab.open(&at(&lab, "/connections/second/rotate")).await;
    tab.fill("API key", "\"a-key-of-a-test-0124\"").await;
    tab.click_button("Rotate").await;
    tab.sees("is in quotes").await;
    lab.finish().await;
}

/// The browser left the page for its own one, and the form was lost.
#[tokio::test]
async fn a_page_stays_with_what_was_typed_while_the_gateway_does_not_answer() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/rules?new=1").await;
    let typed = "[location.pathname, document.querySelector('main [name=name]')?.value]";
    tab.leads("Agents", "/agents").await;
    tab.leads("Rules", "/rules").await;
    tab.open(&at(&lab, "/rules?new=1")).await;
    tab.leads("People", "/people").await;
    tab.value("history.back()").await;
    tab.is_at("/rules").await;
    tab.fill("Name (optional)", "typed").await;
    tab.value("window.own = window.fetch; window.fetch = async () => { throw new TypeError('no network'); }").await;
    for leaves in ["document.querySelector('a[href=\"/agents\"]').click()", "history.forward()"] {
        tab.value("document.querySelector('.toasts').replaceChildren()").await;
        tab.value(leaves).await;
        tab.sees("The gateway does not answer.").await;
        until("the page as it was", async || tab.value(typed).await == json!(["/rules", "typed"]))
            .await;
    }
    // A proxy before the gateway says so with a page of its own.
    tab.value("window.fetch = async () => new Response('<main><h1>Bad Gateway</h1></main>', { status: 502, headers: { 'content-type': 'text/html' } })").await;
    tab.value("document.querySelector('.toasts').replaceChildren()").await;
    tab.value("document.querySelector('a[href=\"/agents\"]').click()").await;
    tab.sees("The gateway does not answer.").await;
    assert_eq!(tab.value(typed).await, json!(["/rules", "typed"]));
    // A button that was disabled while its request was under way has the focus again.
    tab.fill("Hosts (optional)", "api.example.com").await;
    tab.tab_to("Add rule").await;
    tab.value("window.fetch = async () => { await new Promise(requestAnimationFrame); throw new TypeError('no network'); }").await;
    tab.press(&["Enter"]).await;
    tab.sees("Check that it runs.").await;
    until("the focus at the button", async || {
        tab.value("document.activeElement.textContent").await == "Add rule"
    })
    .await;
    tab.value("window.fetch = window.own").await;
    tab.leads("Agents", "/agents").await;
    lab.finish().await;
}

#[tokio::test]
async fn a_page_that_is_awaited_is_shown_as_busy() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/agents").await;
    let held = "window.own = window.fetch;
        const answer = new Promise((free) => { window.free = free; });
        window.fetch = async (...asked) => { await answer; return window.own(...asked); };
        document.querySelector('a[href=\"/rules\"]').click()";
    tab.value(&format!("(() => {{ {held} }})()")).await;
    let busy = "document.querySelector('main').ariaBusy";
    until("a busy page", async || tab.value(busy).await == "true").await;
    tab.is_accessible().await;
    tab.value("window.free()").await;
    tab.is_at("/rules").await;
    assert_eq!(tab.value(busy).await, json!(null));
    lab.finish().await;
}

/// As `keyward connection request` and the API send one. What was typed stays for the next one.
#[tokio::test]
async fn a_request_is_sent_with_a_connection_and_its_answer_shown() {
    let (lab, mut chromium) = signed_in_lab().await;
    let mut tab = opened(&lab, &mut chromium, "/connections/acme").await;
    tab.click("Send a request").await;
    tab.fill("Path or URL", "no-path").await;
    tab.click_button("Send request").await;
    tab.sees("must begin with `/`").await;
    tab.is_accessible().await;
    tab.fill("Path or URL", "/thing?limit=1").await;
    tab.choose("Method", "POST").await;
    tab.fill("Body (JSON) (optional)", "{\"a\": 1}").await;
    tab.click_button("Send request").await;
    tab.sees("Answer: 200").await;
    tab.sees("fine").await;
    tab.is_accessible().await;
    let received = lab.origin.received();
    let request = received.last().expect("a request");
    assert_eq!(request.head.start, "POST /thing?limit=1 HTTP/1.1");
    assert_eq!(request.text(), r#"{"a":1}"#);
    tab.click("Close").await;
    let path = "document.querySelector('[name=path]').value";
    assert_eq!(tab.value(path).await, "/thing?limit=1");
    lab.finish().await;
}
