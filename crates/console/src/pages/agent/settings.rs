//! Settings on the page of an agent: its environment and labels, the sets of hosts that it may reach without a
//! credential, whether requests must select a connection, and the providers whose connections of end users it may
//! use in sessions.

use maud::{Markup, html};

use crate::parts::{Field, chips, edit, edits, settings_panel};
use crate::visit::segment;
use keyward_model::{Agent, Shown};

/// The member that has a panel of its own.
const END_USERS: &str = "user_providers";

pub(super) fn panel(agent: &Shown<Agent>, tag: Option<&str>) -> Markup {
    let allow = agent.spec.allow.as_deref();
    let sets = allow.unwrap_or_default().join(" ");
    let sets = Field {
        name: "allow",
        label: "Other hosts",
        value: Some(&sets),
        example: Some("packages github-read"),
        help: Some(
            "Sets of hosts that it may reach without a credential, separated by blanks. Rules that deny take precedence.",
        ),
        json: Some("list"),
        is_optional: true,
        // Until it is decided, `keyward run` asks.
        empties: allow.is_none(),
        ..Field::default()
    };
    let api = format!("PATCH /agents/{}", segment(&agent.spec.name));
    let inputs = html! { (edits(&agent.spec, |name| name != END_USERS)) (sets.show()) };
    settings_panel(&edit(&api, tag, "Saved. It counts from the next request on.", &inputs))
}

/// `edits`: whether the reader may change it.
pub(super) fn end_users_panel(agent: &Shown<Agent>, tag: Option<&str>, edits: bool) -> Markup {
    let providers = &agent.spec.user_providers;
    html! {
        section.panel {
            header { h2 { "End users" } }
            div.body {
                div #end-users data-live {
                    @if providers.is_empty() {
                        p.muted { "In sessions, it may use connections of end users that are bound to it." }
                    } @else {
                        p { "In sessions, it may use connections of end users at " (chips(providers)) " beside those that are bound to it." }
                    }
                }
                // Not live: what was typed would get the tag of another version.
                @if edits { (form(agent, tag)) }
            }
        }
    }
}

fn form(agent: &Shown<Agent>, tag: Option<&str>) -> Markup {
    let api = format!("PATCH /agents/{}", segment(&agent.spec.name));
    html! {
        details #edit-end-users {
            summary { "Edit" }
            form method="post" data-api=(api) data-tag=[tag] data-done="Saved. It counts from the next request on." {
                (edits(&agent.spec, |name| name == END_USERS))
                button.first { "Save providers" }
            }
        }
    }
}
