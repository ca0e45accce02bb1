//! `/settings/store`: verifies all rows and indexes of the store, while the gateway serves.

use axum::Router;
use maud::{Markup, html};
use serde_json::json;

use super::settings::runs_install;
use crate::frame::{Page, Section};
use crate::parts::{count, empty, head};
use crate::visit::{Console, PageError, Visit, sentence};
use keyward_api::handler::get;
use keyward_api::wire::{StoreCheckView, StoreFaultKind, StoreFaultView};

/// Faults that the page shows.
const FAULTS: usize = 60;

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/settings/store", get(show))
}

async fn show(visit: Visit) -> Result<Page, PageError> {
    if !runs_install(&visit) {
        return Err(PageError::not_allowed());
    }
    let check: StoreCheckView = visit.ask("/store/check", &json!({})).await?;
    let (faults, leftovers) = (check.fault_count(), check.leftover_count());
    let shown = &check.faults[..check.faults.len().min(FAULTS)];
    let hidden = check.faults.len() - shown.len() + check.more;
    let content = html! {
        p.crumb { a href="/settings" { "Settings" } }
        (head(
            html! { "Check of the store" },
            Some(html! { (count(check.rows, "row")) " · " (count(faults, "fault")) @if leftovers > 0 { " · " (count(leftovers, "leftover")) } }),
            html! { a.button href="/settings/store" { "Check again" } },
        ))
        section.panel {
            @if shown.is_empty() { (empty("No faults", "Each row was read, opened, decoded and compared with the rows that belong to it.", None)) }
            @else {
                ul.rows { @for fault in shown { (row(fault)) } }
                @if hidden > 0 { div.foot { (hidden) " more: " code { "keyward store check" } " lists them." } }
            }
        }
        @if has_index_faults(&check) {
            div.notice.warn { p { "Indexes are rebuilt by " code { "keyward store check --repair" } ", while the gateway is stopped." } }
        }
        p.small.muted { "Nothing is changed by a check. Leftovers of interrupted changes do no harm." }
    };
    Ok(Page::new(&visit, Section::Settings, "Store", content))
}

fn row(fault: &StoreFaultView) -> Markup {
    let class = if fault.kind == StoreFaultKind::Leftover { "chip" } else { "chip bad" };
    html! {
        li {
            span class=(class) { (fault.kind.as_str()) }
            div.grow {
                p { (fault.table) " row " code { (fault.key) } " " (fault.problem) }
                p.small.muted { (sentence(&fault.remedy)) }
            }
        }
    }
}

fn has_index_faults(check: &StoreCheckView) -> bool {
    check.faults.iter().any(|fault| fault.kind == StoreFaultKind::Index)
}
