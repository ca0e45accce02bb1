//! Personal access tokens on a person's page: the list, and the form of a new one, whose text is shown once.

use maud::{Markup, html};

use crate::parts::{Action, Check, Field, ago, chips, now};
use crate::visit::segment;
use keyward_model::{Area, PersonalTokenShown, Shown, User};

/// How long new tokens live.
const LIVES: [(&str, &str); 5] =
    [("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days"), ("365d", "1 year"), ("", "no end")];
/// What is proposed.
const LIFE: &str = "90d";

/// Tokens that the page shows at first.
const LISTED: usize = 20;

/// The tokens of a user, the newest first.
pub(super) fn list(user: &Shown<User>, may_revoke: bool, is_whole: bool) -> Markup {
    let mut tokens: Vec<_> = user.facts.tokens.iter().collect();
    tokens.sort_by_key(|token| std::cmp::Reverse(token.created));
    let more = tokens.len().saturating_sub(LISTED);
    if !is_whole {
        tokens.truncate(LISTED);
    }
    html! {
        @if user.facts.tokens.is_empty() {
            div.body { p.muted { "None. A token is for scripts and the command line: KEYWARD_TOKEN=kwp_…" } }
        }
        ul.rows { @for token in tokens { (row(token, may_revoke)) } }
        @if more > 0 && !is_whole { div.foot { a href="?all=1" { "Show " (more) " more" } } }
    }
}

fn row(token: &PersonalTokenShown, may_revoke: bool) -> Markup {
    let label = token.spec.label.as_deref().unwrap_or("without label");
    let revoke = Action {
        api: format!("DELETE /tokens/{}", segment(token.id.as_str())),
        label: "Revoke token",
        confirm: Some(format!("Revoke {label}?\nPrograms that use it are refused at once.")),
        done: "Revoked.",
        class: "danger",
        ..Action::default()
    };
    let has_expired = token.expires.is_some_and(|expires| expires <= now());
    html! {
        li {
            div.grow {
                p { b { (label) } " " (chips(token.spec.scopes.iter().map(ToString::to_string))) }
                p.small.muted {
                    @match token.last_used { Some(at) => { "used " (ago(at)) } None => "not used since the start" }
                    @match token.expires {
                        Some(at) if has_expired => { " · " span.status-bad { "expired " (ago(at)) } }
                        Some(at) => { " · expires " (ago(at)) }
                        None => " · no end",
                    }
                }
            }
            @if may_revoke { (revoke.show()) }
        }
    }
}

/// The form of a new token.
pub(super) fn dialog(user: &Shown<User>, is_self: bool) -> Markup {
    let label = Field {
        name: "label",
        label: "Label",
        example: Some("laptop"),
        help: Some("What it is for."),
        is_optional: true,
        ..Field::default()
    };
    html! {
        dialog.broad #add-token aria-labelledby="add-token-title" {
            h2 #add-token-title { "Add token" @if !is_self { " of " (user.spec.name) } }
            form method="post" data-api="POST /tokens" data-show="token" data-done="New token" {
                input type="hidden" name="user" value=(user.spec.name);
                (label.show())
                div.field {
                    label for="field-ttl" { "Expires after" }
                    select #field-ttl name="ttl" {
                        @for (life, text) in LIVES { option value=(life) selected[life == LIFE] { (text) } }
                    }
                }
                (scopes())
                div.actions { button type="button" data-close { "Cancel" } button.first { "Add token" } }
            }
        }
    }
}

fn scopes() -> Markup {
    html! {
        fieldset.field {
            legend { "Scopes" }
            p.help { "Tick none for all that the role allows." }
            (Check { name: "scopes", value: "read", label: "Read everything", ..Check::default() }.show())
            details #scopes-by-area {
                summary { "Choose by area" }
                table.scopes {
                    thead { tr { th { "Area" } th { "Read" } th { "Read and change" } } }
                    tbody { @for area in Area::ALL { tr {
                        td { (area_word(area)) }
                        @for access in ["read", "write"] {
                            @let scope = format!("{}:{access}", area.as_str());
                            td { input type="checkbox" name="scopes" value=(scope) data-each aria-label=(scope); }
                        }
                    } } }
                }
            }
        }
    }
}

/// An area for people.
fn area_word(area: Area) -> &'static str {
    match area {
        Area::Connections => "Connections",
        Area::Agents => "Agents, sessions, plugins",
        Area::Apps => "Apps",
        Area::Providers => "Services",
        Area::Rules => "Rules",
        Area::Audit => "Audit log",
        Area::Webhooks => "Webhooks, honeytokens",
        Area::Hooks => "Hooks",
        Area::HookEvents => "Events of hooks",
        Area::Users => "People, tokens",
        Area::Install => "Settings: keys, CA, configuration",
    }
}
