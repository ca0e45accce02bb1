//! The sub-navigation of settings: pages that stand below `Settings` in the rail.

use maud::{Markup, html};

use crate::visit::Visit;

/// A page below settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Subpage {
    Health,
    Services,
    Apps,
    Webhooks,
    Hooks,
    Honeytokens,
}

impl Subpage {
    const ALL: [Self; 6] =
        [Self::Health, Self::Services, Self::Apps, Self::Webhooks, Self::Hooks, Self::Honeytokens];

    fn label(self) -> &'static str {
        match self {
            Self::Health => "Health",
            Self::Services => "Services",
            Self::Apps => "Apps",
            Self::Webhooks => "Webhooks",
            Self::Hooks => "Hooks",
            Self::Honeytokens => "Honeytokens",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Health => "/settings",
            Self::Services => "/services",
            Self::Apps => "/apps",
            Self::Webhooks => "/webhooks",
            Self::Hooks => "/incoming",
            Self::Honeytokens => "/honeytokens",
        }
    }

    /// Whether the reader may see it: members may not read webhooks, hooks and honeytokens.
    fn is_for(self, visit: &Visit) -> bool {
        visit.reads_all() || !matches!(self, Self::Webhooks | Self::Hooks | Self::Honeytokens)
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
