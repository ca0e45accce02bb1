//! [`Page`]: the frame of all pages. It has a rail for users who are signed in, and none for sign-in and
//! errors.

use axum::response::{Html, IntoResponse, Redirect, Response};
use http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use crate::assets::{ICON, SCRIPT, STYLE};
use crate::icons::Icon;
use crate::parts::with_code;
use crate::visible::visible;
use crate::visit::{PageError, Visit, said, segment, sentence};

/// A page, ready to be sent.
#[derive(Debug)]
pub(crate) struct Page(Markup);

/// The sections of the rail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Section {
    Overview,
    Connections,
    Agents,
    Traffic,
    Rules,
    Plugins,
    Audit,
    People,
    Settings,
}

/// The rail, in its order: the label, path and icon of each section. The last three stand apart.
const RAIL: [(Section, &str, &str, Icon); 9] = [
    (Section::Overview, "Overview", "/", Icon::Overview),
    (Section::Connections, "Connections", "/connections", Icon::Connections),
    (Section::Agents, "Agents", "/agents", Icon::Agents),
    (Section::Traffic, "Traffic", "/traffic", Icon::Traffic),
    (Section::Rules, "Rules", "/rules", Icon::Rules),
    (Section::Plugins, "Plugins", "/plugins", Icon::Plugins),
    (Section::Audit, "Audit", "/audit", Icon::Audit),
    (Section::People, "People", "/people", Icon::People),
    (Section::Settings, "Settings", "/settings", Icon::Settings),
];

impl Section {
    /// Whether the reader may see it: traffic and audit show what all agents of the organisation did.
    fn is_for(self, visit: &Visit) -> bool {
        visit.reads_all() || !matches!(self, Self::Traffic | Self::Audit)
    }
}

impl Page {
    /// A page of a section.
    pub(crate) fn new(visit: &Visit, section: Section, title: &str, content: Markup) -> Self {
        Self(document(
            title,
            visit.csrf(),
            html! {
                a.skip href="#main" { "Skip to content" }
                noscript { div.notice.warn { "Changes need JavaScript: without it, these pages only show what is there." } }
                div.frame {
                    (rail(visit, section))
                    main #main tabindex="-1" { (content) }
                }
                (keys())
                div.toasts role="status" aria-live="polite" {}
            },
        ))
    }

    /// A page without a rail.
    pub(crate) fn alone(title: &str, content: Markup) -> Self {
        Self(document(
            title,
            None,
            html! {
                main.alone #main tabindex="-1" {
                    a.brand href="/" { (Icon::Brand.show()) "Keyward" }
                    section.panel { div.body { (content) } }
                }
                div.toasts role="status" aria-live="polite" {}
            },
        ))
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        Html(visible(self.0)).into_response()
    }
}

fn document(title: &str, csrf: Option<&str>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if let Some(csrf) = csrf { meta name="csrf" content=(csrf); }
                title { (title) " · Keyward" }
                link rel="icon" href=(ICON.path()) type="image/svg+xml";
                link rel="stylesheet" href=(STYLE.path());
                script src=(SCRIPT.path()) defer {}
            }
            body { (body) }
        }
    }
}

fn rail(visit: &Visit, current: Section) -> Markup {
    html! {
        header.rail {
            a.brand href="/" { (Icon::Brand.show()) span { "Keyward" } }
            nav aria-label="Main" {
                @for (section, label, path, icon) in RAIL.into_iter().filter(|entry| entry.0.is_for(visit)) {
                    @if section == Section::Audit || section == Section::People && !Section::Audit.is_for(visit) { hr; }
                    a.to href=(path) aria-current=[(section == current).then_some("page")] title=(label) { (icon.show()) span { (label) } }
                }
            }
            div.who {
                (Icon::People.show())
                div.text {
                    b { (visit.me.user.as_deref().unwrap_or("operator")) }
                    (visit.me.role.as_deref().unwrap_or("operator")) " · " (visit.me.org)
                }
                (sign_out(visit))
            }
        }
    }
}

/// A button, for readers who signed in. The settings show it too, because the rail hides it on narrow
/// screens.
pub(crate) fn sign_out(visit: &Visit) -> Markup {
    html! {
        @if visit.csrf().is_some() {
            button.plain type="button" data-api="DELETE /session" data-leave data-to="/login" title="Sign out" aria-label="Sign out" {
                (Icon::External.show())
            }
        }
    }
}

/// The help about keys.
fn keys() -> Markup {
    const KEYS: [(&str, &str); 9] = [
        ("Ctrl K", "Go to anything"),
        ("/", "Search in the page"),
        ("g c", "Connections"),
        ("g a", "Agents"),
        ("g t", "Traffic"),
        ("g r", "Rules"),
        ("j, k", "Next and previous row"),
        ("p, t", "Pause or test the row"),
        ("?", "This help"),
    ];
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl.facts {
                @for (key, meaning) in KEYS { dt { kbd { (key) } } dd { (meaning) } }
            }
            div.actions { button data-close { "Close" } }
        }
    }
}

/// The part of a hint that names a similar resource. The rest is a command.
fn similar(hint: &str) -> Option<&str> {
    let end = hint.find('?')?;
    Some(&hint[..=end]).filter(|question| question.starts_with("did you mean"))
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(wanted, _) => match wanted.as_str() {
                "/" => Redirect::to("/login").into_response(),
                wanted => Redirect::to(&format!("/login?to={}", segment(wanted))).into_response(),
            },
            Self::Missing(listing, error) => {
                let page = Page::alone(
                    "It does not exist",
                    html! {
                        h1 { (with_code(&said(&error))) }
                        @if let Some(near) = error.hint.as_deref().and_then(similar) { p { (with_code(&sentence(near))) } }
                        p.muted { "It may have been removed or renamed, or it belongs to another user." }
                        div.actions {
                            a.button.first href=(listing.path) { (listing.label) }
                            a.button href="/" { "Overview" }
                        }
                    },
                );
                (StatusCode::NOT_FOUND, page).into_response()
            }
            Self::Refused(status, error) => {
                let page = Page::alone(
                    "It cannot be shown",
                    html! {
                        h1 { (with_code(&said(&error))) }
                        @if let Some(hint) = &error.hint { p.muted { (with_code(&sentence(hint))) } }
                        @if let Some(docs) = &error.docs { p { a href=(docs) { "What this error means" } } }
                        // Under a wrong host name, it would lead here again.
                        @if status != StatusCode::MISDIRECTED_REQUEST { p { a.button href="/" { "Overview" } } }
                    },
                );
                (status, page).into_response()
            }
        }
    }
}
