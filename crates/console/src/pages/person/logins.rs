//! The browsers in which a person is signed in, and the link that signs one more in. Admins make links for everybody;
//! people end their own logins, and admins those of all.

use maud::{Markup, html};

use crate::parts::{Action, ago};
use crate::visit::{PageError, Visit, segment};
use keyward_api::wire::List;
use keyward_model::{Login, Shown, SignInMethod, User};

/// Logins that are read: as many as a page of the API has.
const READ: usize = 1_000;
/// Those that the page shows.
const LISTED: usize = 20;

/// The logins of a person, the last used first.
pub(super) async fn of(visit: &Visit, user: &Shown<User>) -> Result<Vec<Shown<Login>>, PageError> {
    let asked = format!("/logins?q={}&limit={READ}", segment(&user.spec.name));
    let list: Option<List<Shown<Login>>> = visit.get_optional(&asked).await?;
    let mut logins = list.unwrap_or_default().items;
    logins.retain(|login| login.facts.user_name == user.spec.name);
    logins.sort_by_key(|login| std::cmp::Reverse(login.facts.last_used));
    Ok(logins)
}

/// The button that makes a link for a browser of this person.
pub(super) fn link(user: &Shown<User>) -> Action<'static> {
    let name = &user.spec.name;
    Action {
        api: "POST /login-links".to_owned(),
        label: "Make sign-in link",
        body: Some(serde_json::json!({ "user": name }).to_string()),
        done: "Sign-in link\nIt signs one browser in as this person, once, within 10 minutes.",
        show: Some("url"),
        ..Action::default()
    }
}

pub(super) fn list(logins: &[Shown<Login>], may_end: bool) -> Markup {
    html! {
        @if logins.is_empty() { div.body { p.muted { "Not signed in." } } }
        ul.rows { @for login in logins.iter().take(LISTED) { (row(login, may_end)) } }
        @if logins.len() > LISTED {
            div.foot { "Not all are listed here: " code { "keyward login list" } " lists them." }
        }
    }
}

fn row(login: &Shown<Login>, may_end: bool) -> Markup {
    let browser = login.spec.browser.as_deref().unwrap_or("unknown browser");
    let end = Action {
        api: format!("DELETE /logins/{}", login.id),
        label: "Sign browser out",
        confirm: Some(format!("Sign out {browser}?\nWhat is typed in its open pages is not sent.")),
        done: "Signed out.",
        class: "danger",
        ..Action::default()
    };
    html! {
        li {
            div.grow {
                p { b { (browser) } @if let Some(address) = &login.spec.address { " at " (address) } }
                p.small.muted { (method_word(login.spec.method)) " · used " (ago(login.facts.last_used)) " · ends " (ago(login.facts.idle_until)) " without use" }
            }
            @if login.facts.current { span.chip { "this browser" } }
            @else if may_end { (end.show()) }
        }
    }
}

/// A way to sign in, for people.
fn method_word(method: SignInMethod) -> &'static str {
    match method {
        SignInMethod::Link => "with a link",
        SignInMethod::Password => "with a password",
        SignInMethod::PasswordTotp => "with a password and a code",
        SignInMethod::Passkey => "with a passkey",
        SignInMethod::Oidc => "at the identity provider",
    }
}
