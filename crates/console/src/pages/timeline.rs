//! Changes of the audit log as a list: when, what, by whom.

use maud::{Markup, html};

use crate::parts::ago;
use keyward_api::wire::{Event, Outcome};

/// Changes, the newest first.
pub(super) fn changes(events: &[Event]) -> Markup {
    html! {
        @if events.is_empty() { div.body { p.muted { "No change is recorded." } } }
        ol.timeline {
            @for event in events {
                @if let Some(change) = &event.change {
                    li {
                        (ago(event.time))
                        div {
                            span { (change.what) " " }
                            @if let Some(name) = &change.name { b { (name) } " " }
                            span { (change.past_tense()) }
                            @if event.outcome == Outcome::Refused { " " span.chip.bad { "refused" } }
                            span.muted { " by " (change.user.as_deref().unwrap_or(&change.by)) }
                            @if let Some(why) = change.why.as_deref().filter(|why| *why != change.past_tense()) { p.why { (why) } }
                        }
                    }
                }
            }
        }
    }
}
