//! The icons: 16 px, lines of 1.5 px, drawn for the console. They are decoration: text beside them says the same.

use maud::{Markup, html};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Icon {
    Agents,
    Audit,
    Brand,
    Check,
    Connections,
    External,
    Lock,
    Overview,
    People,
    Plugins,
    Plus,
    Rules,
    Search,
    Settings,
    Traffic,
    Webhooks,
}

impl Icon {
    /// Its lines, on a grid of 16.
    fn path(self) -> &'static str {
        match self {
            Self::Agents => "M4 6.5h8v6H4zM8 6.5V4M8 2.5v.5M6.3 9.2v.6M9.7 9.2v.6M2.5 9v2M13.5 9v2",
            Self::Audit => "M4 2.5h8v11H4zM6 5.5h4M6 8h4M6 10.5h2.5",
            Self::Brand => "M6 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM9.5 8H15v3M12.5 8v2.5",
            Self::Check => "M3 8.5 6.5 12 13 4.5",
            Self::Connections => {
                "M6.5 9.5 9.5 6.5M7 4.5 9 2.7a3 3 0 0 1 4.3 4.3L11.5 9M9 11.5l-2 1.8A3 3 0 0 1 2.7 9L4.5 7"
            }
            Self::External => "M9.5 2.5h4v4M13.5 2.5 7.5 8.5M12 9.5v4H2.5V4h4",
            Self::Lock => "M4 7.5h8v6H4zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5",
            Self::Overview => "M2.5 7.5 8 2.5l5.5 5V13.5h-4v-4h-3v4h-4z",
            Self::People => {
                "M6 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM1.8 13.5a4.2 4.2 0 0 1 8.4 0M10.8 3.3a2.5 2.5 0 0 1 0 4.5M12 9.8a4 4 0 0 1 2.3 3.7"
            }
            Self::Plugins => "M6 2.5h4v3h3.5V9H12v2h1.5v2.5H9.7V12H7v1.5H2.5V10H4V7.5H2.5v-2H6z",
            Self::Plus => "M8 3v10M3 8h10",
            Self::Rules => "M2.5 4h1M2.5 8h1M2.5 12h1M6 4h7.5M6 8h7.5M6 12h7.5",
            Self::Search => "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3l3.2 3.2",
            Self::Settings => {
                "M2.5 4.5h6M12 4.5h1.5M10.3 3v3M2.5 8h1.5M7.5 8h6M5.7 6.5v3M2.5 11.5h6M12 11.5h1.5M10.3 10v3"
            }
            Self::Traffic => "M1.8 8.5h2.7L6.5 3l3 10 2-4.5h2.7",
            Self::Webhooks => "M4 11.5V7a4 4 0 0 1 8 0v4.5M2.5 11.5h11M6.8 13.8h2.4",
        }
    }

    /// As markup, hidden from screen readers.
    pub(crate) fn show(self) -> Markup {
        html! { svg.icon viewBox="0 0 16 16" aria-hidden="true" { path d=(self.path()); } }
    }
}
