//! Pages of the console about what is refused, gone or not what it seems: the message names it, and the page has the way on.

use serde_json::json;

use crate::admin_network::{ask_at, user_login};
use test_support::login::Login;
use test_support::*;

/// A lab with an admin who is signed in.
async fn signed_in(plan: Plan, origin: Origin) -> (Lab, Login) {
    let mut lab = plan.start(origin).await;
    let login = user_login(&mut lab, "ann", "admin").await;
    (lab, login)
}

/// A page, which has this status.
async fn page(lab: &Lab, login: &Login, path: &str, status: u16) -> String {
    ask_at(lab, &format!("GET {path}"), &login.cookie(), "").await.is(status).text()
}

/// The tag of the element with this name.
fn field<'a>(page: &'a str, name: &str) -> &'a str {
    let named = format!(r#" name="{name}""#);
    let mut tags = page.split('<').filter_map(|part| part.split('>').next());
    tags.find(|tag| tag.contains(&named)).expect("a field")
}

#[tokio::test]
async fn a_refused_filter_of_the_audit_page_stays_with_the_refusal_beside_it() {
    let (lab, login) = signed_in(Plan::api_key(), Origin::saying("fine")).await;
    let path = "/audit?show=requests&agent=ci&until=yesterday";
    let text = page(&lab, &login, path, 422).await;
    assert!(text.contains(r#"class="rail""#), "{text}");
    assert!(field(&text, "agent").contains(r#"value="ci""#), "{text}");
    assert!(!field(&text, "agent").contains("aria-invalid"), "{text}");
    assert!(field(&text, "show").contains(r#"value="requests""#), "{text}");
    for said in [r#"value="yesterday""#, r#"aria-invalid="true""#, "wrong-filter"] {
        assert!(field(&text, "until").contains(said), "{said}: {text}");
    }
    let (_, wrong) = text.split_once(r#"id="wrong-filter""#).expect("a message");
    assert!(wrong.contains("Until is not a time"), "{wrong}");
    let text = page(&lab, &login, "/audit?since=soonish", 422).await;
    assert!(text.contains(r#"<option value="soonish" selected"#), "{text}");
    assert!(field(&text, "since").contains("aria-invalid"), "{text}");
    lab.finish().await;
}

#[tokio::test]
async fn the_page_of_what_does_not_exist_names_it_and_links_the_list() {
    let (lab, login) = signed_in(Plan::api_key(), Origin::saying("fine")).await;
    for (path, list) in [
        ("/agents/gone", "/agents"),
        ("/agents/ci/bindings/gone", "/agents"),
        ("/apps/gone", "/apps"),
        ("/audit/999999", "/audit"),
        ("/connect/done/gone", "/connections"),
        ("/connect/to/gone", "/services"),
        ("/connections/gone", "/connections"),
        ("/connections/gone/rotate", "/connections"),
        ("/incoming/gone", "/incoming"),
        ("/people/gone", "/people"),
        ("/plugins/gone", "/plugins"),
        ("/rules/gone", "/rules"),
        ("/services/gone", "/services"),
        ("/sources/gone/edit", "/sources"),
        ("/traffic/gone", "/traffic"),
        ("/webhooks/gone", "/webhooks"),
    ] {
        let text = page(&lab, &login, path, 404).await;
        let name = if path.starts_with("/audit") { "999999" } else { "gone" };
        assert!(text.contains(&format!("<code>{name}</code>")), "{path}: {text}");
        assert!(text.contains(&format!(r#"href="{list}""#)), "{path}: {text}");
        assert!(!text.contains("keyward "), "no command: {path}: {text}");
    }
    let near = page(&lab, &login, "/connections/acne", 404).await;
    assert!(near.contains("Did you mean <code>acme</code>?"), "{near}");
    lab.finish().await;
}

#[tokio::test]
async fn a_page_that_a_role_may_not_open_says_who_can_help() {
    let mut lab = Plan::api_key().start(Origin::saying("fine")).await;
    let login = user_login(&mut lab, "bob", "member").await;
    for path in ["/traffic", "/audit", "/webhooks", "/settings/store"] {
        let text = page(&lab, &login, path, 403).await;
        assert!(text.contains("Ask an admin of your organisation."), "{path}: {text}");
    }
    lab.finish().await;
}

/// Its buttons do nothing.
#[tokio::test]
async fn a_page_says_to_a_browser_without_scripts_that_changes_need_them() {
    let (lab, login) = signed_in(Plan::api_key(), Origin::saying("fine")).await;
    let text = page(&lab, &login, "/agents", 200).await;
    let (_, note) = text.split_once("<noscript>").expect("a note");
    let (note, _) = note.split_once("</noscript>").expect("its end");
    assert!(note.contains("Changes need JavaScript"), "{note}");
    assert!(!text.split_once("<main").expect("a part").1.contains("Changes need"), "{text}");
    lab.finish().await;
}

/// Texts of people and of services: one that turns the direction of text looks like another.
#[tokio::test]
async fn pages_show_invisible_characters_by_their_numbers_and_forms_keep_them() {
    let account = Origin::answering(|_: &Message| ok("{\"login\": \"ali\u{202e}ce\"}"));
    let test = "{ url: 'https://api.acme.test/me', account: [login] }";
    let (lab, login) = signed_in(Plan::api_key().test(test), account).await;
    let more = json!({"test": true, "environment": "prod\u{200b}", "tags": ["t\u{202e}eam"]});
    lab.add_mine(more).await;
    assert_eq!(lab.origin.only().head.all("x-api-key"), [&*lab.canary.text]);
    let list = page(&lab, &login, "/connections", 200).await;
    let one = page(&lab, &login, "/connections/mine", 200).await;
    for shown in [r"ali\u{202e}ce", r"prod\u{200b}"] {
        assert!(list.contains(shown) && one.contains(shown), "{shown}: {list} {one}");
    }
    assert!(one.contains(r"t\u{202e}eam"), "{one}");
    for text in [&list, &one] {
        let mut texts = text.split('<').filter_map(|part| part.split_once('>'));
        let raw = |text: &str| text.contains(['\u{202e}', '\u{200b}']);
        assert!(texts.all(|(_, text)| !raw(text)), "{text}");
    }
    assert!(field(&one, "tags").contains("value=\"t\u{202e}eam\""), "{one}");
    lab.finish().await;
}

#[tokio::test]
async fn a_connection_whose_key_was_rejected_is_not_shown_as_one_without_a_key() {
    let origin = Origin::answering(|_: &Message| {
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned()
    });
    let plan = Plan::api_key().test("{ url: 'https://api.acme.test/me' }");
    let (lab, login) = signed_in(plan, origin).await;
    lab.add_mine(json!({"test": true})).await;
    let received = lab.origin.received();
    assert_eq!(received[0].head.all("x-api-key"), [&*lab.canary.text]);
    for path in ["/", "/connections", "/connections/mine"] {
        let text = page(&lab, &login, path, 200).await;
        assert!(text.contains("rejected this key"), "{path}: {text}");
        assert!(!text.contains("there is no credential yet"), "{path}: {text}");
    }
    lab.finish().await;
}
