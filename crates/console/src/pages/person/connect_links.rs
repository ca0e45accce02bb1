//! Links by which a person connects an account in their own browser: those of the last day, and the form of a new one.

use maud::{Markup, html};

use crate::parts::{Action, Field, Tone, ago, links, state};
use crate::visit::{PageError, Visit, segment, sentence};
use keyward_api::wire::List;
use keyward_model::{ConnectSession, ConnectSessionState, Connection, Shown, User};

/// Links that are read: as many as a page of the API has.
const READ: usize = 1_000;
/// Those that the page shows.
const LISTED: usize = 20;

/// The links for a person, the newest first.
pub(super) async fn of(
    visit: &Visit,
    user: &Shown<User>,
) -> Result<Vec<Shown<ConnectSession>>, PageError> {
    let asked = format!("/connect-sessions?q={}&limit={READ}", segment(&user.spec.name));
    let list: Option<List<Shown<ConnectSession>>> = visit.get_optional(&asked).await?;
    let mut sessions = list.unwrap_or_default().items;
    sessions.retain(|session| session.facts.user_name == user.spec.name);
    sessions.sort_by_key(|session| std::cmp::Reverse(session.created));
    Ok(sessions)
}

/// `accounts`: those of the person.
pub(super) fn list(
    sessions: &[Shown<ConnectSession>],
    accounts: &[Shown<Connection>],
    may_end: bool,
) -> Markup {
    html! {
        @if sessions.is_empty() {
            div.body { p.muted { "None in the last day. By such a link, a person enters a key or consents in their own browser; the account is theirs." } }
        }
        ul.rows { @for session in sessions.iter().take(LISTED) { (row(session, accounts, may_end)) } }
        @if sessions.len() > LISTED {
            div.foot { "Not all are listed here: " code { "keyward connect-link list" } " lists them." }
        }
    }
}

fn row(session: &Shown<ConnectSession>, accounts: &[Shown<Connection>], may_end: bool) -> Markup {
    let facts = &session.facts;
    let is_over =
        matches!(facts.state, ConnectSessionState::Completed | ConnectSessionState::Expired);
    let end = Action {
        api: format!("DELETE /connect-sessions/{}", session.id),
        label: "End link",
        confirm: Some("End the link?\nIt stops working, also where it is open.".to_owned()),
        done: "Ended.",
        class: "danger",
        ..Action::default()
    };
    let (tone, word) = state_word(facts.state);
    html! {
        li {
            div.grow {
                p {
                    b { @match &session.spec.label { Some(label) => (label), None => (services(session, accounts)) } }
                    @if let Some(connected) = &facts.connected { " · connected " (links("/connections", [&connected.name])) }
                }
                p.small.muted {
                    @if session.spec.label.is_some() { (services(session, accounts)) " · " }
                    @if let Some(connected) = &facts.connected { "connected " (ago(connected.at)) }
                    @else { @if is_over { "ended " } @else { "ends " } (ago(facts.expires)) }
                }
                @if let Some(reason) = facts.reason.as_deref().filter(|_| facts.connected.is_none()) { p.why.bad { (sentence(reason)) } }
            }
            (state(tone, word))
            @if may_end && !is_over { (end.show()) }
        }
    }
}

/// What a person may choose from by the link.
fn services(session: &Shown<ConnectSession>, accounts: &[Shown<Connection>]) -> Markup {
    let again = session.spec.connection.as_ref();
    let name = |id: &str| accounts.iter().find(|it| it.id.as_str() == id).map(|it| &it.spec.name);
    html! {
        @match (again, &session.spec.providers) {
            (Some(connection), _) => { (name(connection.as_str()).map_or(connection.as_str(), String::as_str)) ", again" }
            (None, Some(providers)) => (providers.join(", ")),
            (None, None) => "any service",
        }
    }
}

fn state_word(state: ConnectSessionState) -> (Tone, &'static str) {
    match state {
        ConnectSessionState::Open => (Tone::Idle, "not opened"),
        ConnectSessionState::Opened => (Tone::Warn, "opened"),
        ConnectSessionState::Completed => (Tone::Ok, "connected"),
        ConnectSessionState::Failed => (Tone::Bad, "failed"),
        ConnectSessionState::Expired => (Tone::Idle, "expired"),
    }
}

/// The form of a new link. `accounts`: what the person has, which they can connect again.
pub(super) fn dialog(user: &Shown<User>, accounts: &[Shown<Connection>]) -> Markup {
    let services = Field {
        name: "providers",
        label: "Services to choose from",
        example: Some("github slack"),
        help: Some("Ids of up to 20 services, as the page Services lists them. Empty: all."),
        json: Some("list"),
        is_optional: true,
        empties: true,
        ..Field::default()
    };
    let label = Field {
        name: "label",
        within: "link-",
        label: "Label",
        example: Some("onboarding"),
        help: Some("What the link is for, in lists and the audit log."),
        is_optional: true,
        ..Field::default()
    };
    html! {
        dialog #add-connect-link aria-labelledby="add-connect-link-title" {
            h2 #add-connect-link-title { "Make connect link" }
            form method="post" data-api="POST /connect-sessions" data-show="url"
                data-done="Connect link\nIt works once, for 30 minutes, in the browser that opens it first." {
                input type="hidden" name="user" value=(user.spec.name);
                @if !accounts.is_empty() {
                    div.field {
                        label for="field-connection" { "Account" }
                        select #field-connection name="connection" {
                            option value="" { "A new account" }
                            @for account in accounts { option value=(account.spec.name) { "Connect " (account.spec.name) " again" } }
                        }
                    }
                }
                (services.show())
                (label.show())
                div.actions { button type="button" data-close { "Cancel" } button.first { "Make connect link" } }
            }
        }
    }
}
