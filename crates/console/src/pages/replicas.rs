//! Parts of pages about replicas: on `/settings` the gateways that use the same store; on `/audit/verify` what each
//! published of its log, compared with the log of this gateway.

use maud::{Markup, html};

use crate::parts::{Tone, ago, count, state};
use crate::visit::sentence;
use keyward_api::wire::{AuditChain, AuditChainState, ReplicaState, ReplicaView};

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

pub(super) fn show_chains(all: &[AuditChain]) -> Markup {
    html! {
        section.panel #chains {
            header { h2 { "Logs of replicas" } (count(all.len(), "log")) }
            ul.rows { @for chain in all { li { div.grow {
                p { code { (chain.host) } " " code { (chain.chain) } " " (word(chain)) @if chain.ended { " " span.chip { "stopped" } } }
                p.small.muted { (last(chain)) " records · published " (ago(chain.published)) }
                @if let Some(reason) = &chain.reason { p.small { (sentence(reason)) } }
            } } } }
            div.body { p.small.muted {
                "Each replica writes its own log and publishes its end each minute. This gateway reads its own log only: to verify the others, copy them to one machine and run "
                code { "keyward audit verify --log FILE" } "."
            } }
        }
    }
}

/// The number of the last published record.
fn last(chain: &AuditChain) -> u64 {
    chain.heads.last().map_or(0, |head| head.seq)
}

/// The words of `keyward audit verify`.
fn word(chain: &AuditChain) -> Markup {
    match chain.state {
        AuditChainState::Whole => state(Tone::Ok, "whole"),
        AuditChainState::Shortened => state(Tone::Bad, "shortened"),
        AuditChainState::Altered => state(Tone::Bad, "altered"),
        AuditChainState::NotHere => state(Tone::Idle, "in another log"),
    }
}
