//! `/agents/{name}/bindings/{connection}`: the named actions that a binding allows and denies.

use axum::Router;
use axum::extract::Path;
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::listing::Listing;
use crate::parts::{Check, empty, head, lock, mark, own_authorization};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::{ActionView, ProviderView};
use keyward_model::{Agent, BindingShown, ManagedBy, Shown};

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/agents/{name}/bindings/{connection}", get(show))
}

async fn show(
    visit: Visit,
    Path((agent, connection)): Path<(String, String)>,
) -> Result<Page, PageError> {
    let Tagged { body: agent, tag } =
        visit.tagged::<Shown<Agent>>(&format!("/agents/{}", segment(&agent))).await?;
    let bound = agent.facts.bindings.iter().find(|it| it.name == connection && it.direct);
    let binding = bound.ok_or_else(|| {
        let name = &agent.spec.name;
        let message = format!("agent `{name}` is not bound to a connection `{connection:.64}`");
        PageError::missing(Listing::AGENTS, message)
    })?;
    let provider: ProviderView =
        visit.get(&format!("/providers/{}", segment(&binding.provider))).await?;
    let (name, back) = (&agent.spec.name, format!("/agents/{}", segment(&agent.spec.name)));
    let about =
        html! { "Which requests of " (name) " get the credential. Rules apply in addition." };
    let content = html! {
        p.crumb { a href="/agents" { "Agents" } " / " a href=(back) { (name) } }
        (head(html! { (mark(&binding.provider, true)) (binding.name) " for " (name) }, Some(about), html! {}))
        @if let Some(lock) = lock(agent.managed_by) { p.bar { (lock) } }
        section.panel.form {
            @if provider.actions.is_empty() && binding.limits.is_empty() {
                (empty("No named actions", &format!("Keyward knows no named actions of {}. Limit requests by hosts, methods and paths in a rule.", provider.name), Some(html! { a.button href="/rules" { "Rules" } })))
            } @else if !visit.may_write() || agent.managed_by == Some(ManagedBy::File) {
                div.body { p { @if binding.limits.is_empty() { "All requests are allowed." } @else { (binding.limits.text()) } } }
            } @else {
                div.body { (Limits { binding, actions: &provider.actions, tag }.form(&back)) }
            }
        }
    };
    Ok(Page::new(&visit, Section::Agents, &binding.name, content))
}

/// What is asked before a binding with limits ends: a later one of the same connection has none of them.
pub(super) fn unbinding(agent: &str, binding: &BindingShown) -> Option<String> {
    let (name, limits) = (&binding.name, &binding.limits);
    let question =
        || format!("Unbind {name} from {agent}?\nIts limits are deleted: {}.", limits.text());
    (!limits.is_empty()).then(question)
}

/// The limits of a binding, to change.
struct Limits<'a> {
    binding: &'a BindingShown,
    /// The actions of the service.
    actions: &'a [ActionView],
    /// Of the agent.
    tag: Option<String>,
}

impl Limits<'_> {
    fn form(&self, back: &str) -> Markup {
        let api = format!("PATCH {back}/bindings/{}", segment(&self.binding.name));
        let limits = &self.binding.limits;
        html! {
            form method="post" data-api=(api) data-tag=[self.tag.as_deref()] data-to=(back) data-done="In force." {
                fieldset.field {
                    legend { "Allow only" }
                    p.help { "Tick none to allow all requests of the service." }
                    (self.ticks("allow", &limits.allow))
                }
                details #denied open[!limits.deny.is_empty()] {
                    summary { "Deny" }
                    p.help { "These are refused also where an action above covers them." }
                    (self.ticks("deny", &limits.deny))
                }
                div.field { (own_authorization(Some(limits.own_authorization), None)) }
                div.actions { button.first { "Save" } a.button href=(back) { "Cancel" } }
            }
        }
    }

    fn ticks(&self, name: &str, chosen: &[String]) -> Markup {
        let is_lost = |it: &&String| self.actions.iter().all(|action| action.name != **it);
        html! {
            @for action in self.actions {
                (Check { name, value: &action.name, label: &action.name, help: Some(&action.label), is_ticked: chosen.contains(&action.name), empties: true }.show())
            }
            // Without its box, a save would remove it, which may allow more requests than before.
            @for lost in chosen.iter().filter(is_lost) {
                (Check { name, value: lost, label: lost, help: Some("The service does not have this action any more: clear it to save."), is_ticked: true, empties: true }.show())
            }
        }
    }
}
