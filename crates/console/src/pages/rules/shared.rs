//! Parts that the page of a rule and its form share: the notice that the rule has no effect, and the button that removes it.

use maud::{Markup, html};

use super::list;
use crate::parts::Action;
use crate::visit::segment;
use keyward_model::RuleShown;

/// The notice that a rule has no effect, with the rule that comes before it.
pub(super) fn shadow(earlier: &str) -> Markup {
    let name = list::written_name(earlier);
    html! {
        div.notice.warn { div.grow {
            b { "It has no effect" }
            p.small { "Rule " a href=(format!("/rules/{}", segment(name))) { (name) } " comes first and decides all of its requests. Move it before that rule, or remove it." }
        } }
    }
}

/// The button that removes a rule, with what the removal changes.
pub(super) fn remove<'a>(rule: &'a RuleShown, tag: Option<&'a str>) -> Action<'a> {
    let name = rule.spec.name.as_deref().unwrap_or(&rule.id);
    let loss = match rule.spec.action.map_or("inject", |action| action.as_str()) {
        "deny" => "Requests that it blocks are decided by the rules after it, and may be sent.",
        _ => "Requests that only this rule allows are refused.",
    };
    Action {
        to: Some("/rules"),
        tag,
        ..Action::removal(
            format!("DELETE /rules/{}", segment(name)),
            "Remove rule",
            format!("Remove rule {name}?\n{loss}"),
        )
    }
}
