//! `/people/{name}`: what a person may do, what they own, their tokens, and what removing them breaks.

mod connect_links;
mod logins;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;

use super::people::{role_word, roles, state_of};
use super::{means, personal_tokens, timeline};
use crate::frame::{Page, Section};
use crate::parts::{
    Action, ago, chips, count, edit, edits, empty, facts, head, mark, settings_panel,
};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{Event, List};
use keyward_model::{Agent, ConnectSession, Connection, Login, Role, Session, Shown, User};

/// Connections and sessions that the page shows.
const LISTED: usize = 20;
/// Agents and sessions that are read: as many as a page of the API has.
const READ: usize = 1_000;
/// Agents that a question names.
const NAMED: usize = 10;
/// Changes that the page shows.
const CHANGES: usize = 10;

/// What the page is made of.
struct View {
    user: Shown<User>,
    tag: Option<String>,
    connections: List<Shown<Connection>>,
    agents: List<Shown<Agent>>,
    sessions: List<Shown<Session>>,
    logins: Vec<Shown<Login>>,
    connect_links: Vec<Shown<ConnectSession>>,
    /// `None`: the reader may not read the audit log.
    changes: Option<Vec<Event>>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/people/{name}", get(show))
}

impl View {
    async fn of(visit: &Visit, name: &str) -> Result<Self, PageError> {
        let path = format!("/users/{}", segment(name));
        let Tagged { body: user, tag } = visit.tagged::<Shown<User>>(&path).await?;
        let name = segment(&user.spec.name);
        let connections = visit.get(&format!("/connections?owner={name}&limit={LISTED}")).await?;
        let owned = format!("/agents?q={}&limit={READ}", user.id);
        let mut agents: List<Shown<Agent>> = visit.get(&owned).await?;
        agents.items.retain(|agent| agent.facts.owner.as_ref() == Some(&user.id));
        let sessions: Option<List<Shown<Session>>> = match user.spec.role {
            Role::EndUser => {
                visit.get_optional(&format!("/sessions?q={name}&limit={READ}")).await?
            }
            _ => None,
        };
        let mut sessions = sessions.unwrap_or_default();
        sessions.items.retain(|it| it.facts.user_name.as_deref() == Some(user.spec.name.as_str()));
        let asked = format!("/audit?changes=true&user={name}&limit={CHANGES}");
        let changes: Option<List<Event>> = match user.spec.role {
            Role::EndUser => None,
            _ => visit.get_optional(&asked).await?,
        };
        let changes = changes.map(|list| list.items);
        let logins = match user.spec.role {
            Role::EndUser => Vec::new(),
            _ => logins::of(visit, &user).await?,
        };
        let connect_links = connect_links::of(visit, &user).await?;
        Ok(Self { user, tag, connections, agents, sessions, logins, connect_links, changes })
    }

    fn is_end_user(&self) -> bool {
        self.user.spec.role == Role::EndUser
    }

    fn owns(&self) -> usize {
        self.connections.items.len() + self.agents.items.len()
    }

    fn api(&self, method: &str) -> String {
        format!("{method} /users/{}", segment(&self.user.spec.name))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PageQuery {
    /// Whether every token is listed.
    all: Option<String>,
}

async fn show(
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<PageQuery>,
) -> Result<Page, PageError> {
    let view = View::of(&visit, &name).await?;
    let user = &view.user;
    let is_self = visit.me.user.as_deref() == Some(user.spec.name.as_str());
    let (is_admin, is_end) = (visit.is_admin(), view.is_end_user());
    let may_issue = is_admin || (is_self && visit.may_write());
    let list = if is_end { "/people?role=end_user" } else { "/people" };
    let content = html! {
        p.crumb { a href=(list) { @if is_end { "End users" } @else { "People" } } }
        (head(
            html! { (user.spec.name) span #state data-live { (state_of(user)) } },
            Some(html! {
                (role_word(user.spec.role))
                @if let Some(email) = &user.spec.email { " · " (email) }
                @if is_self { " · you" }
            }),
            html! { @if is_admin && !is_self { (pause(&view)) } },
        ))
        div.columns {
            div {
                @if !is_end {
                    section.panel #tokens data-live {
                        header {
                            h2 { "Personal access tokens" }
                            @if may_issue { button data-open="add-token" { "Add token" } }
                        }
                        (personal_tokens::list(user, may_issue, asked.all.is_some()))
                    }
                    @if is_admin || is_self { (means::panel(&visit, user, is_self)) }
                    (browsers(&view, is_admin, is_admin || is_self))
                }
                section.panel #connections data-live { header { h2 { "Connections" } } (connections(&view)) }
                section.panel #connect-links data-live {
                    header {
                        h2 { "Connect links" }
                        @if may_issue { button data-open="add-connect-link" { "Make connect link" } }
                    }
                    (connect_links::list(&view.connect_links, &view.connections.items, may_issue))
                }
                @if !is_end { section.panel #agents data-live { header { h2 { "Agents" } } (agents(&view)) } }
                @if is_end { section.panel #sessions data-live { header { h2 { "Sessions" } } (sessions(&view, is_admin)) } }
                @if let Some(changes) = &view.changes {
                    section.panel #changes data-live {
                        header { h2 { "Changes by " (user.spec.name) } a href=(format!("/audit?show=changes&user={}", segment(&user.spec.name))) { "All" } }
                        (timeline::changes(changes))
                    }
                }
            }
            aside {
                section.panel { header { h2 { "About" } } div.body { (about(user)) } }
                @if is_admin { (settings(&view)) }
            }
        }
        @if is_admin && !is_self { (danger(&view)) }
        @if may_issue { (connect_links::dialog(user, &view.connections.items)) }
        @if !is_end && may_issue { (personal_tokens::dialog(user, is_self)) }
        @if !is_end && (is_admin || is_self) { (means::dialog(user)) }
    };
    Ok(Page::new(&visit, Section::People, &user.spec.name, content))
}

fn pause(view: &View) -> Markup {
    let name = &view.user.spec.name;
    if view.user.spec.paused {
        let resume = Action {
            api: view.api("PATCH"),
            label: if view.is_end_user() { "Resume end user" } else { "Resume person" },
            body: Some(r#"{"paused":false}"#.to_owned()),
            done: "Resumed.",
            ..Action::default()
        };
        return resume.show();
    }
    let (label, breaks) = match view.is_end_user() {
        true => (
            "Pause end user",
            "Sessions for them end at once, and no new one can be made.".to_owned(),
        ),
        false => {
            let agents = view.agents.items.iter().map(|agent| agent.spec.name.as_str());
            let agents: Vec<_> = agents.collect();
            let agents = match agents.as_slice() {
                [] => String::new(),
                names if names.len() > NAMED => " All of their agents stop as well.".to_owned(),
                names => format!(" Their agents stop as well: {}.", names.join(", ")),
            };
            ("Pause person", format!("Their tokens are refused from the next request on.{agents}"))
        }
    };
    let pause = Action {
        api: view.api("PATCH"),
        label,
        body: Some(r#"{"paused":true}"#.to_owned()),
        confirm: Some(format!("Pause {name}?\n{breaks}")),
        done: "Paused.",
        ..Action::default()
    };
    pause.show()
}

/// Where the person is signed in. A person who is paused cannot sign in.
fn browsers(view: &View, is_admin: bool, may_end: bool) -> Markup {
    html! {
        section.panel #logins data-live {
            header {
                h2 { "Browsers" }
                @if is_admin && !view.user.spec.paused { (logins::link(&view.user).show()) }
            }
            (logins::list(&view.logins, may_end))
        }
    }
}

fn connections(view: &View) -> Markup {
    html! {
        @if view.connections.items.is_empty() { div.body { p.muted { "None." } } }
        ul.rows { @for connection in &view.connections.items { li {
            (mark(&connection.spec.provider, false))
            div.grow {
                a href=(format!("/connections/{}", segment(&connection.spec.name))) { (connection.spec.name) }
                p.small.muted { (connection.spec.provider) @if let Some(account) = &connection.facts.account { " · " (account) } }
            }
            (super::connections::state_of(&connection.facts.state))
        } } }
        @if view.connections.next.is_some() {
            div.foot { "Not all are listed here: " code { "keyward connection list --owner " (view.user.spec.name) } " lists them." }
        }
    }
}

fn agents(view: &View) -> Markup {
    html! {
        @if view.agents.items.is_empty() { div.body { p.muted { "None." } } }
        ul.rows { @for agent in view.agents.items.iter().take(LISTED) { li {
            div.grow {
                a href=(format!("/agents/{}", segment(&agent.spec.name))) { (agent.spec.name) }
                @if let Some(environment) = &agent.spec.environment { p.small.muted { (environment) } }
            }
            (super::agents::state_of(agent))
        } } }
        @if view.agents.items.len() > LISTED {
            div.foot { "Not all are listed here: " a href=(format!("/agents?q={}", view.user.id)) { "all of their agents" } }
        }
    }
}

fn sessions(view: &View, is_admin: bool) -> Markup {
    html! {
        @if view.sessions.items.is_empty() && view.sessions.next.is_none() {
            (empty("No open session", "Your platform opens one with POST /api/v1/sessions, for an agent and this end user.", None))
        }
        ul.rows { @for session in view.sessions.items.iter().take(LISTED) { li {
            div.grow {
                p { "as " a href=(format!("/agents/{}", segment(&session.facts.agent_name))) { (session.facts.agent_name) }
                    @if let Some(label) = &session.spec.label { " · " (label) } }
                p.small.muted { "ends " (ago(session.facts.expires)) " " (chips(&session.facts.connection_names)) }
            }
            @if is_admin { (end(session).show()) }
        } } }
        @if view.sessions.items.len() > LISTED || view.sessions.next.is_some() {
            div.foot { "Not all are listed here: " code { "keyward session list" } " lists them." }
        }
    }
}

fn end(session: &Shown<Session>) -> Action<'static> {
    Action {
        api: format!("DELETE /sessions/{}", session.id),
        label: "End session",
        confirm: Some(
            "End the session?\nIts token is refused and its open streams end at once.".to_owned(),
        ),
        done: "Ended.",
        class: "danger",
        ..Action::default()
    }
}

fn about(user: &Shown<User>) -> Markup {
    facts(&[
        ("Role", Some(html! { (role_word(user.spec.role)) })),
        ("E-mail", user.spec.email.as_ref().map(|email| html! { (email) })),
        (
            "Identity provider",
            user.facts.identity.as_ref().map(|identity| html! { (identity.issuer) }),
        ),
        ("Added", Some(ago(user.created))),
        ("Changed", user.updated.map(ago)),
        ("Id", Some(html! { code { (user.id) } })),
    ])
}

fn settings(view: &View) -> Markup {
    let spec = &view.user.spec;
    let inputs = html! {
        @if !view.is_end_user() { (roles(spec.role)) }
        (edits(spec, |name| name == "email"))
    };
    let done = "Saved. It counts from the next request on.";
    settings_panel(&edit(&view.api("PATCH"), view.tag.as_deref(), done, &inputs))
}

fn danger(view: &View) -> Markup {
    let name = &view.user.spec.name;
    let breaks = match (view.is_end_user(), view.user.facts.tokens.len(), view.sessions.items.len())
    {
        (true, _, 0) => String::new(),
        (true, _, open) => format!("{} end at once.", count(open, "open session")),
        (false, 0, _) => "The audit log keeps what they did.".to_owned(),
        (false, tokens, _) => {
            format!(
                "{} stop working at once. The audit log keeps what they did.",
                count(tokens, "token")
            )
        }
    };
    let remove = Action {
        typed: Some(name),
        to: Some(if view.is_end_user() { "/people?role=end_user" } else { "/people" }),
        tag: view.tag.as_deref(),
        ..Action::removal(
            view.api("DELETE"),
            if view.is_end_user() { "Remove end user" } else { "Remove person" },
            format!("Remove {name}?\n{breaks}"),
        )
    };
    html! {
        section.panel {
            header { h2 { "Danger zone" } }
            div.body {
                @if view.owns() > 0 {
                    p { (name) " can be removed when they own nothing: assign their connections and agents to others, or remove these first. Until then, pause the user." }
                } @else { div.actions { (remove.show()) } }
            }
        }
    }
}
