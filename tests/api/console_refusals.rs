//! Pages of the console about what is refused, gone or not what it seems: the message names it, and the page has the way on.

use serde_json::json;

use crate::admin_network::{ask_at, user};
use test_support::login::Login;
use test_support::*;

/// A lab with an admin who is signed in.
async fn signed_in(plan: Plan, origin: Origin) -> (Lab, Login) {
    let mut lab = plan.start(origin).await;
    user(&mut lab, "ann", "admin").await;
    let login = Login::of(&mut lab, "default", "ann").await;
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

/// Texts of people and of services: one that turns the direction of text looks like another.
#[tokio::test]
async fn pages_show_invisible_characters_by_their_numbers_and_forms_keep_them() {
    let account = Origin::answering(|_: &Message| ok("{\"login\": \"ali\u{202e}ce\"}"));
    let test = "{ url: 'https://api.acme.test/me', account: [login] }";
    let (lab, login) = signed_in(Plan::api_key().test(test), account).await;
    let new = json!({
        "provider": "acme", "name": "mine", "fields": {"api_key": lab.canary.text}, "test": true,
        "environment": "prod\u{200b}", "tags": ["t\u{202e}eam"],
    });
    lab.gateway.api("POST", "/connections", &new.to_string()).await.is(201);
    assert_eq!(lab.origin.only().head.all("x-api-key"), [&*lab.canary.text]);
    let list = page(&lab, &login, "/connections", 200).await;
    let one = page(&lab, &login, "/connections/mine", 200).await;
    for shown in [r"ali\u{202e}ce", r"prod\u{200b}", r"t\u{202e}eam"] {
        assert!(list.contains(shown) && one.contains(shown), "{shown}: {list} {one}");
    }
    for text in [&list, &one] {
        let mut texts = text.split('<').filter_map(|part| part.split_once('>'));
        let raw = |text: &str| text.contains(['\u{202e}', '\u{200b}']);
        assert!(texts.all(|(_, text)| !raw(text)), "{text}");
    }
    assert!(field(&one, "tags").contains("value=\"t\u{202e}eam\""), "{one}");
    lab.finish().await;
}
