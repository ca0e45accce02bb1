//! The sub-navigation of settings: pages that stand below `Settings` in the rail.

use maud::{Markup, html};

use crate::visit::Visit;

/// A page below settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Subpage {
    Health,
    Databases,
    Services,
    Apps,
    Webhooks,
    Hooks,
    Honeytokens,
    Sources,
}

/// The pages in their order, with label and path.
const PAGES: [(Subpage, &str, &str); 8] = [
    (Subpage::Health, "Health", "/settings"),
    (Subpage::Services, "Services", "/services"),
    (Subpage::Apps, "Apps", "/apps"),
    (Subpage::Databases, "Databases", "/databases"),
    (Subpage::Sources, "Sources", "/sources"),
    (Subpage::Webhooks, "Webhooks", "/webhooks"),
    (Subpage::Hooks, "Hooks", "/incoming"),
    (Subpage::Honeytokens, "Honeytokens", "/honeytokens"),
];

impl Subpage {
    /// Whether the reader may see it: members may not read sources, webhooks, hooks and honeytokens.
    fn is_for(self, visit: &Visit) -> bool {
        let is_hidden =
            matches!(self, Self::Sources | Self::Webhooks | Self::Hooks | Self::Honeytokens);
        visit.reads_all() || !is_hidden
    }
}

/// The sub-navigation of settings, above the content of a page.
pub(crate) fn settings_nav(visit: &Visit, current: Subpage) -> Markup {
    html! {
        nav.tabs.below aria-label="Settings" {
            @for (page, label, path) in PAGES.into_iter().filter(|entry| entry.0.is_for(visit)) {
                a href=(path) aria-current=[(page == current).then_some("page")] { (label) }
            }
        }
    }
}
