//! Settings on the page of an agent: its environment and labels, the sets of hosts that it may reach without a
//! credential, whether requests must select a connection, and the providers whose connections of end users it may
//! use in sessions.

use maud::{Markup, html};

use crate::parts::{Check, Field, chips};
use crate::visit::segment;
use keyward_model::{Agent, Shown};

/// Not live: what was typed would get the tag of another version.
pub(super) fn panel(agent: &Shown<Agent>, tag: Option<&str>) -> Markup {
    let environment = Field {
        name: "environment",
        label: "Environment",
        value: agent.spec.environment.as_deref(),
        help: Some("It uses connections of this environment and of none."),
        is_optional: true,
        empties: true,
        ..Field::default()
    };
    let labels = agent.spec.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let labels = labels.collect::<Vec<_>>().join("\n");
    let labels = Field {
        name: "labels",
        label: "Labels",
        value: Some(&labels),
        example: Some("team=build"),
        help: Some("For people. One per line: name=value."),
        is_multiline: true,
        json: Some("pairs"),
        is_optional: true,
        ..Field::default()
    };
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
    let selection = Check {
        name: "require_selection",
        label: "Requests must select a connection",
        help: Some("Refuse requests that several connections fit and that select none."),
        is_ticked: agent.spec.require_selection,
        ..Check::default()
    };
    let api = format!("PATCH /agents/{}", segment(&agent.spec.name));
    html! {
        section.panel {
            header { h2 { "Settings" } }
            div.body { details #edit {
                summary { "Edit" }
                form method="post" data-api=(api) data-tag=[tag] data-done="Saved. It counts from the next request on." {
                    (environment.show())
                    (labels.show())
                    (sets.show())
                    (selection.show())
                    button.first { "Save settings" }
                }
            } }
        }
    }
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
    let now = agent.spec.user_providers.join(" ");
    let providers = Field {
        name: "user_providers",
        label: "Providers",
        value: Some(&now),
        example: Some("github slack"),
        help: Some(
            "Ids of the providers whose connections of end users this agent may use in sessions, separated by blanks; *: all.",
        ),
        json: Some("list"),
        is_optional: true,
        ..Field::default()
    };
    let api = format!("PATCH /agents/{}", segment(&agent.spec.name));
    html! {
        details #edit-end-users {
            summary { "Edit" }
            form method="post" data-api=(api) data-tag=[tag] data-done="Saved. It counts from the next request on." {
                (providers.show())
                button.first { "Save providers" }
            }
        }
    }
}
