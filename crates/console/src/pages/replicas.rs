//! The part of `/settings` about replicas: the gateways that use the same store.

use maud::{Markup, html};

use crate::parts::{Tone, ago, state};
use keyward_api::wire::{ReplicaState, ReplicaView};

/// The word beside the title.
pub(super) fn in_short(all: &[ReplicaView]) -> Markup {
    let ready = all.iter().filter(|one| one.state == ReplicaState::Ready).count();
    let is_equal = |one: &ReplicaView| {
        !one.config_differs
            && !one.ca_differs
            && one.clock_differs().is_none()
            && !other_version(all, one)
    };
    let is_well = ready == all.len() && all.iter().all(is_equal);
    let tone = if is_well { Tone::Ok } else { Tone::Warn };
    state(tone, &format!("{ready} of {} ready", all.len()))
}

pub(super) fn show(all: &[ReplicaView]) -> Markup {
    html! {
        ul.rows { @for one in all { li { div.grow {
            p {
                code { (one.host) } " " code { (one.proxy) } " "
                (state(tone(one.state), one.state.name()))
                @if one.own { " " span.chip { "this one" } }
                @if one.config_differs { " " span.chip.bad { "other configuration" } }
                @if one.ca_differs { " " span.chip.bad { "other CA" } }
                @if one.clock_differs().is_some() { " " span.chip.bad { "clock differs" } }
                @if other_version(all, one) { " " span.chip.bad { "other version" } }
            }
            p.small.muted { "Keyward " (one.version) " · seen " (ago(one.seen)) " · " (one.lag_ms) " ms behind the store"
                @if let Some(bound) = one.stale_max_ms { ", not ready from " (bound / 1_000) " s on" }
                @if let Some(ahead) = one.clock_differs() { " · its clock is " (ahead.unsigned_abs() / 1_000) " s " (if ahead > 0 { "ahead of" } else { "behind" }) " the database" } }
        } } } }
        div.body { p.small.muted { "Replicas share one store and need the same configuration file. One that was stopped by force stays here for an hour." } }
    }
}

/// Whether a replica has another version than the one that answers.
fn other_version(all: &[ReplicaView], one: &ReplicaView) -> bool {
    all.iter().any(|own| own.own && own.version != one.version)
}

fn tone(state: ReplicaState) -> Tone {
    match state {
        ReplicaState::Ready => Tone::Ok,
        ReplicaState::Draining | ReplicaState::Stale => Tone::Warn,
        ReplicaState::Gone | ReplicaState::Outdated | ReplicaState::AuditUnavailable => Tone::Bad,
    }
}
