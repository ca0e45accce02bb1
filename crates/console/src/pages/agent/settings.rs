//! Settings on the page of an agent: its environment and labels, the sets of hosts that it may reach without a credential, and
//! whether requests must select a connection.

use maud::{Markup, html};

use crate::parts::{Check, Field};
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
