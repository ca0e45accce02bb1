//! `/rules`: what agents may do, in the order in which it is decided: rules of the file, stored rules, bindings, sets of
//! hosts, the default. A tester on top shows what each of them says about one request.

mod form;
mod list;
mod sentence;
mod tester;

use axum::Router;
use axum::extract::{Path, Query};
use maud::{Markup, html};

use crate::frame::{Page, Section};
use crate::icons::Icon;
use crate::parts::{ago, danger_zone, facts, head, lock};
use crate::visit::{Console, PageError, Tagged, Visit, segment};
use keyward_api::handler::get;
use keyward_api::wire::List;
use keyward_model::{Agent, ManagedBy, RuleShown, Shown};

use self::tester::PageQuery;
pub(super) use list::file_line;
use list::{remove_button, shadow_notice};
use sentence::Sentence;
pub(super) use sentence::decider;

/// Agents that a form offers; the names of others are typed.
const AGENTS: usize = 200;

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/rules", get(show))
        .route("/rules/{name}", get(one))
        .route("/rules/{name}/edit", get(edit))
}

async fn show(visit: Visit, Query(asked): Query<PageQuery>) -> Result<Page, PageError> {
    let agents: List<Shown<Agent>> = visit.get(&format!("/agents?limit={AGENTS}")).await?;
    let has_more = agents.next.is_some();
    let agents: Vec<String> = agents.items.into_iter().map(|agent| agent.spec.name).collect();
    if asked.new.is_some() && visit.is_admin() {
        return form::new(&visit, &asked, &agents).await;
    }
    let path = format!("/rules?limit={}", list::READ);
    let Tagged { body: mut all, tag } = visit.tagged::<List<RuleShown>>(&path).await?;
    let tested = tester::tested(&visit, &asked).await?;
    if all.next.is_some() {
        let now = tested.as_ref().and_then(tester::Tested::explanation);
        let last = last_rules(&visit, now.map(|now| now.agent.as_str())).await?;
        all.items.retain(|it| now.is_none() || it.managed_by.is_some());
        all.items.extend(last);
    }
    let offered = tester::Offered { names: &agents, has_more };
    let view =
        list::View { all: &all, tag: tag.as_deref(), tested: tested.as_ref(), asked: &asked };
    let content = html! {
        (head(
            html! { "Rules" },
            Some(html! { "The first one that fits a request decides." }),
            html! {
                @if visit.is_admin() { a.button.first href="/rules?new=1" { (Icon::Plus.show()) "Add rule" } }
            },
        ))
        (tester::panel(&asked, &offered, tested.as_ref(), visit.is_admin()))
        (list::panel(&visit, &view))
    };
    Ok(Page::new(&visit, Section::Rules, "Rules", content))
}

/// What decides where no rule fits, of more rules than a page of the API has: the default, and what a tested agent has.
async fn last_rules(visit: &Visit, agent: Option<&str>) -> Result<Vec<RuleShown>, PageError> {
    let Some(agent) = agent else { return Ok(vec![visit.get("/rules/default").await?]) };
    let path = format!("/rules?agent={}&limit={}", segment(agent), list::READ);
    let mut own: List<RuleShown> = visit.get(&path).await?;
    own.items.retain(|it| it.managed_by.is_none());
    Ok(own.items)
}

async fn one(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    let path = format!("/rules/{}", segment(&name));
    let Tagged { body: rule, tag } = visit.tagged::<RuleShown>(&path).await?;
    let is_ours = rule.managed_by == Some(ManagedBy::Store) && visit.is_admin();
    let title = rule.spec.name.clone().unwrap_or_else(|| rule.id.clone());
    let content = html! {
        p.crumb { a href="/rules" { "Rules" } }
        (head(html! { (title) }, Some(Sentence::of(&rule.spec).show()), html! {
            @if is_ours { a.button href=(format!("{path}/edit")) { "Edit rule" } }
        }))
        @if let Some(earlier) = &rule.status.shadowed_by { (shadow_notice(earlier)) }
        section.panel { div.body { (about(&rule)) } }
        @if is_ours {
            (danger_zone(&remove_button(&rule, tag.as_deref()).show()))
        }
    };
    Ok(Page::new(&visit, Section::Rules, &title, content))
}

fn about(rule: &RuleShown) -> Markup {
    let listed = |all: &[String]| (!all.is_empty()).then(|| html! { code { (all.join(", ")) } });
    let number = rule.status.number;
    html! {
        @if let Some(lock) = lock(rule.managed_by) {
            p { (lock) @if let Some(place) = &rule.status.place { " at " code { (place) } } }
        }
        (facts(&[
            ("Place in the order", Some(html! { (number) })),
            ("Agents", Some(html! { @match &rule.spec.agents { Some(agents) => (agents.join(", ")), None => "all" } })),
            ("Hosts", listed(&rule.spec.hosts)),
            ("Methods", listed(&rule.spec.methods)),
            ("Actions", listed(&rule.spec.actions)),
            ("Paths", listed(&rule.spec.paths)),
            ("Branches", listed(&rule.spec.branches)),
            ("Deletions", rule.spec.delete_branches.then(|| html! { "these branches may be deleted" })),
            ("Cleartext", rule.spec.allow_plaintext.then(|| html! { "the credential may go over plain HTTP to private addresses" })),
            ("Own authorization", rule.spec.own_authorization.map(|own| html! { (own.as_str()) })),
            ("Created", rule.created.map(ago)),
            ("Changed", rule.updated.map(ago)),
        ]))
    }
}

async fn edit(visit: Visit, Path(name): Path<String>) -> Result<Page, PageError> {
    let path = format!("/rules/{}", segment(&name));
    let rule: Tagged<RuleShown> = visit.tagged(&path).await?;
    if rule.body.managed_by != Some(ManagedBy::Store) || !visit.is_admin() {
        return one(visit, Path(name)).await;
    }
    let agents: List<Shown<Agent>> = visit.get(&format!("/agents?limit={AGENTS}")).await?;
    let agents: Vec<String> = agents.items.into_iter().map(|agent| agent.spec.name).collect();
    form::edit(&visit, &rule, &agents).await
}
