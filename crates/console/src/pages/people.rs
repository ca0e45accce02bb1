//! `/people`: the team with its roles, and the end users of a platform in a list of their own.

use axum::Router;
use axum::extract::Query;
use maud::{Markup, html};
use serde::Deserialize;

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{Field, Tone, ago, empty, head, inputs, list_page, search, state};
use crate::visit::{Console, PageError, Visit, segment, with_query};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_model::{Role, Shown, User, UserSpec};

/// Rows of a page.
const ROWS: usize = 40;

/// What each role may do, for people.
pub(super) const ROLES: [(&str, &str); 4] = [
    ("admin", "Everything in the organisation."),
    ("member", "Agents and connections of their own, and what is shared."),
    ("auditor", "Reads everything, changes and uses nothing."),
    ("end_user", "A customer of your platform: owns connections, needs no sign-in."),
];

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    q: Option<String>,
    role: Option<String>,
    after: Option<String>,
}

impl PageQuery {
    /// Whether the list of end users is wanted.
    fn is_of_end_users(&self) -> bool {
        self.role.as_deref() == Some(Role::EndUser.as_str())
    }
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/people", get(show))
}

async fn show(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    let role = if asked.is_of_end_users() { "end_user" } else { "admin,member,auditor" };
    let path = format!("/users?limit={ROWS}&role={}", segment(role));
    let path = with_query(&path, &[("q", asked.q.as_deref()), ("after", asked.after.as_deref())]);
    let list: List<Shown<User>> = visit.get(&path).await?;
    let (is_end, is_admin) = (asked.is_of_end_users(), visit.is_admin());
    let label = if is_end { "Add end user" } else { "Add person" };
    let content = html! {
        (head(
            html! { "People" },
            Some(html! { @match (visit.reads_all(), is_end) {
                (false, _) => "As a member, you see yourself.",
                (_, false) => "Who may use this gateway, and what they may do.",
                (_, true) => "Customers of your platform. Agents use their connections in sessions.",
            } }),
            html! { @if is_admin { button.first data-open="add-user" { (Icon::Plus.show()) (label) } } },
        ))
        @if visit.reads_all() {
            form.bar action="/people" method="get" data-find role="search" {
                (search(if is_end { "end users" } else { "people" }, asked.q.as_deref()))
                nav.tabs aria-label="People" {
                    a href="/people" aria-current=[(!is_end).then_some("true")] { "Team" }
                    a href="/people?role=end_user" aria-current=[is_end.then_some("true")] { "End users" }
                }
                @if is_end { input type="hidden" name="role" value="end_user"; }
                noscript { button { "Apply" } }
            }
        }
        div #people data-live { section.panel { (table(&asked, &list)) } }
        @if is_admin { (dialog(is_end, label)) }
    };
    Ok(Page::new(&visit, Section::People, "People", content))
}

fn table(asked: &PageQuery, list: &List<Shown<User>>) -> Markup {
    let is_end = asked.is_of_end_users();
    let is_searched = asked.q.as_deref().is_some_and(|q| !q.is_empty());
    let kept = [("role", is_end.then_some("end_user")), ("q", asked.q.as_deref())];
    let none = if is_searched {
        let fits = if is_end { "No end user fits" } else { "No person fits" };
        empty(fits, "Change the search.", None)
    } else if is_end {
        empty(
            "No end user yet",
            "Your platform adds one for each customer, by its own id, and connects their accounts. One request then opens a session for an agent.",
            None,
        )
    } else {
        let add = "The operator of the gateway needs no user. Add one for everybody else.";
        empty("No person yet", add, None)
    };
    let people = html! {
        div.wide { table.stack {
            thead { tr { th { "Name" } @if !is_end { th { "Role" } } th { "State" } @if !is_end { th { "Tokens" } th { "Token last used" } } th { "Added" } } }
            tbody { @for user in &list.items { (row(user, is_end)) } }
        } }
    };
    list_page(&with_query("/people", &kept), asked.after.as_deref(), list, &people, none)
}

fn row(user: &Shown<User>, is_end: bool) -> Markup {
    let last = user.facts.tokens.iter().filter_map(|token| token.last_used).max();
    html! {
        tr.go {
            td { div.item {
                (Icon::People.show())
                div.text {
                    a href=(format!("/people/{}", segment(&user.spec.name))) { (user.spec.name) }
                    @if let Some(email) = &user.spec.email { small { (email) } }
                }
            } }
            @if !is_end { td data-label="Role" { (role_word(user.spec.role)) } }
            td { (state_of(user)) }
            @if !is_end {
                td.num data-label="Tokens" { (user.facts.tokens.len()) }
                td data-label="Token last used" { @match last { Some(at) => (ago(at)), None => span.muted { "not since the start" } } }
            }
            td data-label="Added" { (ago(user.created)) }
        }
    }
}

/// A role for people.
pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::EndUser => "end user",
        role => role.as_str(),
    }
}

pub(super) fn state_of(user: &Shown<User>) -> Markup {
    if user.spec.paused { state(Tone::Idle, "paused") } else { state(Tone::Ok, "active") }
}

/// A choice of roles with what each may do.
pub(super) fn roles(chosen: Role) -> Markup {
    html! {
        fieldset.field {
            legend { "Role" }
            @for (role, meaning) in ROLES.iter().filter(|(role, _)| *role != Role::EndUser.as_str()) {
                div.check {
                    input id=(format!("role-{role}")) type="radio" name="role" value=(role) checked[chosen.as_str() == *role];
                    label for=(format!("role-{role}")) { (role) small.muted { (meaning) } }
                }
            }
        }
    }
}

fn dialog(is_end: bool, label: &str) -> Markup {
    let name = match is_end {
        true => Field {
            name: "name",
            label: "Id at your platform",
            example: Some("cust-4711"),
            help: Some("Up to 128 visible characters, such as auth0|5f7c8ec7."),
            ..Field::default()
        },
        false => Field {
            name: "name",
            label: "Name",
            example: Some("ann"),
            help: Some("Letters, digits, - . _"),
            ..Field::default()
        },
    };
    let done = match is_end {
        true => "Added. Make a connect link next.",
        false => "Added. Make a sign-in link next.",
    };
    html! {
        dialog #add-user aria-labelledby="add-user-title" {
            h2 #add-user-title { (label) }
            form method="post" data-api="POST /users" data-to="/people/{name}" data-done=(done) {
                (name.show())
                (inputs::<UserSpec>(&["email"]))
                @if is_end { input type="hidden" name="role" value="end_user"; } @else { (roles(Role::Member)) }
                div.actions { button type="button" data-close { "Cancel" } button.first { (label) } }
            }
        }
    }
}
