//! What a person does in a page stays while the page renews itself, and when another part of it changes something.

use serde_json::{Value, json};

use super::*;

async fn posted(lab: &Lab, path: &str, body: Value) -> Value {
    lab.gateway.api_json("POST", path, &body).await.done(path)
}

/// A connection `mine`, which no file manages.
async fn stocked() -> (Lab, Chromium) {
    let (lab, chromium) = signed_in_lab().await;
    let new = json!({ "provider": "acme", "name": "mine", "fields": { "api_key": "a-key-of-a-test-0123" } });
    posted(&lab, "/connections", new).await;
    (lab, chromium)
}

#[tokio::test]
async fn a_refusal_of_a_form_stays_while_the_page_is_renewed() {
    let (lab, mut chromium) = stocked().await;
    posted(&lab, "/agents", json!({ "name": "robot" })).await;
    let slot = json!({ "slot": "mail", "provider": "acme", "required": false });
    let manifest = json!({ "plugin": "digest", "version": "1.0.0", "connections": [slot] });
    let new = json!({ "agent": "robot", "manifest": manifest, "slots": { "mail": "mine" } });
    let plugin = posted(&lab, "/plugins", new).await;
    let id = plugin["id"].as_str().expect("an id");
    let mut tab = opened(&lab, &mut chromium, &format!("/plugins/{id}")).await;
    // As if another person had changed the plugin. No renewal comes between the two lines.
    let stale = "(() => {
        const form = document.querySelector('#slot-mail form');
        form.dataset.tag = '\"another\"';
        form.requestSubmit();
    })()";
    tab.value(stale).await;
    tab.sees("was changed since it was read").await;
    is_renewed(&mut tab).await;
    tab.sees("was changed since it was read").await;
    lab.finish().await;
}

/// A button replaces the page; the form beside it was not sent.
#[tokio::test]
async fn a_button_keeps_what_was_typed_in_a_form_beside_it_and_the_focus() {
    let (lab, mut chromium) = stocked().await;
    posted(&lab, "/connections/mine/pause", json!({})).await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    tab.click("Edit").await;
    tab.fill("Description (optional)", "for invoices").await;
    tab.shows("Resume connection", "Resumed.").await;
    let typed = "document.querySelector('#field-description').value";
    assert_eq!(tab.value(typed).await, "for invoices");
    assert_eq!(tab.value("document.querySelector('#edit').open").await, true);
    let focus = "document.activeElement.id";
    assert_eq!(tab.value(focus).await, "main", "the button is gone");
    // The form that is sent shows what is stored, and folds.
    tab.shows("Save settings", "Saved.").await;
    assert_eq!(tab.value(typed).await, "for invoices");
    assert_eq!(tab.value("document.querySelector('#edit').open").await, false);
    let focus = "document.activeElement.textContent";
    assert_eq!(tab.value(focus).await, "Edit");
    let stored = lab.gateway.api("GET", "/connections/mine", "").await.json();
    assert_eq!(stored["description"], "for invoices", "{stored}");
    lab.finish().await;
}

/// What a row of the list of connections says beside its box.
const BESIDE: &str =
    "[...document.querySelector('#bind-shop').closest('li').querySelectorAll('.chip, a')]
        .map((it) => it.textContent).join()";

/// A later binding has no limits, so that a box which is cleared and ticked again would allow all requests.
#[tokio::test]
async fn clearing_a_checkbox_asks_before_the_limits_of_its_binding_are_deleted() {
    let shop = "{ name: shop, provider: stripe, fields: { api_key: { env: CANARY } } }";
    let lab = Plan::api_key().connection(shop).start(Origin::saying("fine")).await;
    let mut chromium = Chromium::start(lab.gateway.folder(), &[]).await;
    posted(&lab, "/agents", json!({ "name": "till" })).await;
    let limited = json!({ "connection": "shop", "allow": ["read"] });
    posted(&lab, "/agents/till/bindings", limited).await;
    let mut tab = signed_in_tab(&lab, &mut chromium).await;
    let question = "Its limits are deleted: allow read.";
    for (page, label) in [("/connect/done/shop", "till"), ("/agents/till", "shop stripe")] {
        tab.open(&at(&lab, page)).await;
        tab.shows(label, question).await;
        tab.click("Cancel").await;
        tab.does_not_see(question).await;
        let bound = lab.gateway.api("GET", "/agents/till/bindings", "").await.json();
        assert_eq!(bound["items"][0]["allow"], json!(["read"]), "{page}: {bound}");
    }
    assert_eq!(tab.value(BESIDE).await, "default,allow read,Actions of shop");
    // The row then shows what is stored, and has the focus.
    tab.click("shop stripe").await;
    tab.click("Unbind").await;
    until("a row without limits", async || tab.value(BESIDE).await == json!("")).await;
    assert_eq!(tab.value("document.activeElement.id").await, "bind-shop");
    tab.press(&["Space"]).await;
    let is_bound = async || tab.value(BESIDE).await == "default,Actions of shop";
    until("a row with its actions", is_bound).await;
    lab.finish().await;
}

/// Ends the only login.
async fn end_login(lab: &Lab) {
    let logins = lab.gateway.api("GET", "/logins", "").await.json();
    let login = logins["items"][0]["id"].as_str().expect("an id").to_owned();
    lab.gateway.api("DELETE", &format!("/logins/{login}"), "").await.is(204);
}

#[tokio::test]
async fn only_requests_that_the_script_sends_by_itself_are_marked() {
    let (lab, mut chromium) = stocked().await;
    posted(&lab, "/connections/mine/pause", json!({})).await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    let watched = "(() => {
        window.marks = [];
        const own = window.fetch;
        window.fetch = (url, more) => {
            window.marks.push(new Headers(more?.headers).get('Keyward-Renewal'));
            return own(url, more);
        };
    })()";
    tab.value(watched).await;
    is_renewed(&mut tab).await;
    assert_eq!(tab.value("[...new Set(window.marks)]").await, json!(["parts"]));
    tab.shows("Resume connection", "Resumed.").await;
    let unmarked = tab.value("window.marks.filter((mark) => mark === null).length").await;
    assert_eq!(unmarked, 2, "the change, and the page after it");
    lab.finish().await;
}

/// Each further request of the page would count as a failed authentication of its address.
#[tokio::test]
async fn an_open_page_leads_to_the_sign_in_when_its_login_has_ended() {
    let (lab, mut chromium) = stocked().await;
    let mut tab = opened(&lab, &mut chromium, "/connections").await;
    end_login(&lab).await;
    tab.is_at("/login?to=%2Fconnections").await;
    tab.does_not_see("mine").await;
    lab.finish().await;
}

/// A renewal that was under way led back to the page after the next sign-in.
#[tokio::test]
async fn a_sign_out_leads_to_the_sign_in_alone_though_a_renewal_is_under_way() {
    let (lab, mut chromium) = stocked().await;
    let mut tab = opened(&lab, &mut chromium, "/connections").await;
    // The renewal is answered after the login has ended, and read after the answer to the sign-out.
    let renews = "new Promise((renews) => {
        const own = window.fetch;
        let end;
        const ended = new Promise((done) => { end = done; });
        window.fetch = async (url, more) => {
            if (more?.method !== 'DELETE') {
                renews(true);
                return ended;
            }
            await own(url, more);
            const page = await own(location.href, { headers: { Accept: 'text/html' } });
            const text = await page.text();
            page.text = async () => text;
            return {
                ok: true,
                text: async () => {
                    setTimeout(() => end(page));
                    return '';
                },
            };
        };
    })";
    tab.value(renews).await;
    tab.leads("Sign out", "/login").await;
    assert_eq!(tab.value("location.search").await, "");
    lab.finish().await;
}

/// It was shown as active for as long as the page was open.
#[tokio::test]
async fn an_open_page_says_that_what_it_is_about_was_removed() {
    let (lab, mut chromium) = stocked().await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    tab.sees("active").await;
    let mut other = tab.beside("ann, editing").await;
    other.open(&at(&lab, "/connections/mine")).await;
    other.click("Edit").await;
    other.fill("Description (optional)", "for invoices").await;
    lab.gateway.api("DELETE", "/connections/mine", "").await.done("removed");
    other.sees("was removed or renamed").await;
    let typed = "document.querySelector('#field-description').value";
    assert_eq!(other.value(typed).await, "for invoices");
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.sees("No connection is named mine.").await;
    tab.leads("Connections", "/connections").await;
    tab.does_not_see("mine").await;
    lab.finish().await;
}

#[tokio::test]
async fn an_open_page_keeps_what_was_typed_when_its_login_has_ended_and_goes_on_with_the_next() {
    let (lab, mut chromium) = stocked().await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    tab.click("Edit").await;
    tab.fill("Description (optional)", "for invoices").await;
    end_login(&lab).await;
    tab.sees("You are signed out.").await;
    tab.is_at("/connections/mine").await;
    let mut other = tab.beside("ann, again").await;
    sign_in(&mut other, &link(&lab, None).await).await;
    posted(&lab, "/connections/mine/pause", json!({})).await;
    let mut tab = chromium.again("ann");
    tab.comes_to_front().await;
    tab.sees("requests that need it are refused").await;
    let typed = "document.querySelector('#field-description').value";
    assert_eq!(tab.value(typed).await, "for invoices");
    lab.finish().await;
}

#[tokio::test]
async fn a_button_that_is_pressed_after_the_login_has_ended_keeps_what_was_typed_beside_it() {
    let (lab, mut chromium) = stocked().await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    tab.click("Edit").await;
    tab.fill("Description (optional)", "for invoices").await;
    end_login(&lab).await;
    tab.click("Test connection").await;
    tab.sees("Sign in in another tab, then try again.").await;
    tab.is_at("/connections/mine").await;
    let typed = "document.querySelector('#field-description').value";
    assert_eq!(tab.value(typed).await, "for invoices");
    lab.finish().await;
}

/// The tag of the form was that of the first version: each further attempt was refused too, until the page was loaded
/// again and typed again.
#[tokio::test]
async fn a_form_that_is_out_of_date_gets_the_present_values_and_keeps_what_was_typed() {
    let (lab, mut chromium) = stocked().await;
    let mut tab = opened(&lab, &mut chromium, "/connections/mine").await;
    tab.click("Edit").await;
    tab.fill("Purpose (optional)", "for invoices").await;
    let change = json!({ "description": "changed by another" }).to_string();
    lab.gateway.api("PATCH", "/connections/mine", &change).await.is(200);
    tab.shows("Save settings", "was changed since it was read").await;
    tab.sees("then repeat your change").await;
    tab.does_not_see("ETag").await;
    let value = |name: &str| format!("document.querySelector('#field-{name}').value");
    assert_eq!(tab.value(&value("purpose")).await, "for invoices");
    assert_eq!(tab.value(&value("description")).await, "changed by another");
    tab.shows("Save settings", "Saved.").await;
    let stored = lab.gateway.api("GET", "/connections/mine", "").await.json();
    let members = (&stored["purpose"], &stored["description"]);
    assert_eq!(members, (&json!("for invoices"), &json!("changed by another")), "{stored}");
    lab.finish().await;
}
