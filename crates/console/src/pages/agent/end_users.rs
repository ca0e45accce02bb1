//! End users on the page of an agent: the providers whose connections of theirs it may use in sessions.

use maud::{Markup, html};

use crate::parts::{Field, chips};
use crate::visit::segment;
use keyward_model::{Agent, Shown};

/// `edits`: whether the reader may change it.
pub(super) fn panel(agent: &Shown<Agent>, tag: Option<&str>, edits: bool) -> Markup {
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
