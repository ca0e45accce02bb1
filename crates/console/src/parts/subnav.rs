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

impl Subpage {
    const ALL: [Self; 8] = [
        Self::Health,
        Self::Services,
        Self::Apps,
        Self::Databases,
        Self::Sources,
        Self::Webhooks,
        Self::Hooks,
        Self::Honeytokens,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Health => "Health",
            Self::Databases => "Databases",
            Self::Services => "Services",
            Self::Apps => "Apps",
            Self::Webhooks => "Webhooks",
            Self::Hooks => "Hooks",
            Self::Honeytokens => "Honeytokens",
            Self::Sources => "Sources",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Health => "/settings",
            Self::Databases => "/databases",
            Self::Services => "/services",
            Self::Apps => "/apps",
            Self::Webhooks => "/webhooks",
            Self::Hooks => "/incoming",
            Self::Honeytokens => "/honeytokens",
            Self::Sources => "/sources",
        }
    }

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
            @for page in Subpage::ALL.into_iter().filter(|page| page.is_for(visit)) {
                a href=(page.path()) aria-current=[(page == current).then_some("page")] { (page.label()) }
            }
        }
    }
}
