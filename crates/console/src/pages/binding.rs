//! `/agents/{name}/bindings/{connection}`: the named actions that a binding allows and denies.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::parts::{Check, empty, head, lock, mark};
use crate::visit::{Console, Stop, Visit, segment};
use keyward_api::wire::{ActionView, ProviderView};
use keyward_model::{Agent, BindingShown, ManagedBy, Shown};

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/agents/{name}/bindings/{connection}", get(show))
}

async fn show(
    visit: Visit,
    Path((agent, connection)): Path<(String, String)>,
) -> Result<Page, Stop> {
    let agent: Shown<Agent> = visit.get(&format!("/agents/{}", segment(&agent))).await?;
    let bound = agent.facts.bindings.iter().find(|it| it.name == connection && it.direct);
    let binding = bound.ok_or_else(Stop::no_page)?;
    let provider: ProviderView =
        visit.get(&format!("/providers/{}", segment(&binding.provider))).await?;
    let (name, back) = (&agent.spec.name, format!("/agents/{}", segment(&agent.spec.name)));
    let about =
        html! { "Which requests of " (name) " get the credential. Rules decide beside it." };
    let content = html! {
        p.crumb { a href="/agents" { "Agents" } " / " a href=(back) { (name) } }
        (head(html! { (mark(&binding.provider, true)) (binding.name) " for " (name) }, Some(about), html! {}))
        @if let Some(lock) = lock(agent.managed_by) { p { (lock) } }
        section.panel.form {
            @if provider.actions.is_empty() {
                (empty("No named actions", &format!("Keyward knows no named actions of {}. Limit requests by hosts, methods and paths in a rule.", provider.name), Some(html! { a.button href="/rules" { "Rules" } })))
            } @else if !visit.may_write() || agent.managed_by == Some(ManagedBy::File) {
                div.body { p { @if binding.limits.is_empty() { "All requests are allowed." } @else { (binding.limits.text()) } } }
            } @else {
                div.body { (form(&back, binding, &provider.actions)) }
            }
        }
    };
    Ok(Page::new(&visit, Section::Agents, &binding.name, content))
}

fn form(back: &str, binding: &BindingShown, actions: &[ActionView]) -> Markup {
    let api = format!("PATCH {back}/bindings/{}", segment(&binding.name));
    let limits = &binding.limits;
    html! {
        form method="post" data-api=(api) data-to=(back) data-done="In force." {
            fieldset.field {
                legend { "Allow only" }
                p.help { "Tick none to allow all requests of the service." }
                (ticks("allow", actions, &limits.allow))
            }
            details open[!limits.deny.is_empty()] {
                summary { "Deny" }
                p.help { "These are refused also where an action above covers them." }
                (ticks("deny", actions, &limits.deny))
            }
            div.actions { button.first { "Save" } a.button href=(back) { "Cancel" } }
        }
    }
}

fn ticks(name: &str, actions: &[ActionView], chosen: &[String]) -> Markup {
    html! {
        @for action in actions {
            (Check { name, value: &action.name, label: &action.name, help: Some(&action.label), is_ticked: chosen.contains(&action.name), empties: true }.show())
        }
    }
}
